"""``python -m imagefs``: the same as ``imagefs``."""

import sys

from imagefs.cli import main

sys.exit(main())
