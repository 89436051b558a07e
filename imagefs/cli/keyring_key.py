"""API keys in the desktop's keyring, by the optional library ``keyring``.

Used by the credentials. The library runs in a process of its own: whatever it starts ends with it, it cannot hang the
command, and only those who keep a key there pay for loading it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from subprocess import CompletedProcess, TimeoutExpired, run
from typing import Final

from imagefs.errors import SetupError

SERVICE: Final = "imagefs"

PATIENCE_S: Final = 120.0
"""The desktop may ask for a password first."""


def store(api_id: str, api_key: str) -> None:
    """Keep *api_key* for *api_id*. Raises SetupError, also where the keyring does not keep it."""
    done = _keyring("set", api_id, given=f"{api_key}\n")
    if done.returncode != 0 or _keyring("get", api_id).stdout.rstrip("\n") != api_key:
        raise SetupError(f"The keyring does not take the API key{_reason(done)}")


def load(api_id: str) -> str:
    """The key that was kept for *api_id*. Raises SetupError."""
    done = _keyring("get", api_id)
    if done.returncode != 0:
        raise SetupError(f"The keyring gives no API key for {api_id}{_reason(done)}")
    return done.stdout.rstrip("\n")


def remove(api_id: str) -> None:
    """Have no key for *api_id* any more. Raises SetupError where one is still there."""
    done = _keyring("del", api_id)
    if done.returncode != 0 and _keyring("get", api_id).returncode == 0:
        raise SetupError(f"The API key of {api_id} cannot be removed from the keyring{_reason(done)}")


def _keyring(action: str, api_id: str, given: str = "") -> CompletedProcess[str]:
    if find_spec("keyring") is None:
        raise SetupError(
            "The Python package keyring is not installed beside imagefs: see the extra imagefs[keyring]."
        )
    command = (sys.executable, "-P", "-m", "keyring", action, SERVICE, api_id)
    try:
        return run(command, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False)  # noqa: S603
    except TimeoutExpired:
        pass  # what the exception holds is not for anybody's eyes
    raise SetupError(f"The keyring did not answer within {PATIENCE_S:.0f} s.")


def _reason(done: CompletedProcess[str]) -> str:
    """The end of a message: the last line of what the library complained about."""
    complaint = done.stderr.strip().rpartition("\n")[2]
    return f": {complaint}" if complaint else "."
