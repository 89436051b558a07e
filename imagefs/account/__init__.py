"""What the account holds, over time: listing and details with their caches.

:class:`Account` is the room's face; everything here runs on trio's thread, and blocking calls of the client
and of the index run in worker threads.
"""

from imagefs.account.account import Account
from imagefs.account.protocols import AccountIndex, ListingClient
from imagefs.account.settings import AccountSettings
from imagefs.account.snapshot import Snapshot

__all__ = ["Account", "AccountIndex", "AccountSettings", "ListingClient", "Snapshot"]
