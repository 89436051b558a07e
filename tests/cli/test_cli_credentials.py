"""Where credentials may come from, and that no message ever shows them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from cli_runs import API_ID, CANARY, KEY, run

from imagefs.cli.credentials import default_file, from_file, load, store
from imagefs.core.models import Credentials
from imagefs.errors import SetupError

ENVIRONMENT = {"LUNANODE_API_ID": API_ID, "LUNANODE_API_KEY": KEY}


def refusal(path: Path | None, environment: dict[str, str] | None = None) -> str:
    """The message that *path* is refused with; it holds no part of the key, nor does what it was raised from."""
    with pytest.raises(SetupError) as caught:
        load(path, environment or {}, default_file())
    chain: BaseException | None = caught.value
    while chain is not None:
        assert CANARY[:12] not in f"{chain!s}{chain!r}"
        chain = chain.__cause__ or chain.__context__
    return str(caught.value)


def test_a_file_is_used_before_the_environment_before_the_default(credentials: Path, home: Path) -> None:
    """The most explicit wins, and the account is the one that was meant."""
    other = {"LUNANODE_API_ID": "environmentsown1", "LUNANODE_API_KEY": "e" * 128}
    assert load(credentials, other, default_file()).api_id == API_ID
    assert load(None, other, default_file()).api_id == "environmentsown1"
    default_file().parent.mkdir(parents=True)
    default_file().write_bytes(credentials.read_bytes())
    default_file().chmod(0o600)
    assert default_file().is_relative_to(home)
    found = load(None, {}, default_file())
    assert (found.api_id, found.api_key) == (API_ID, KEY)
    assert KEY not in repr(found)


def test_none_at_all() -> None:
    """The message says all three ways."""
    message = refusal(None)
    assert all(part in message for part in (str(default_file()), "--credentials", "LUNANODE_API_ID"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_file_that_others_may_touch(credentials: Path, mode: int) -> None:
    """The message says how to mend it."""
    credentials.chmod(mode)
    assert f"chmod 600 {credentials}" in refusal(credentials)


def test_what_is_not_a_file_of_one_s_own(credentials: Path, tmp_path: Path) -> None:
    """Links, pipes, directories and what is not there are refused, and none of them blocks."""
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(credentials)
    os.mkfifo(pipe, 0o600)
    assert "symbolic link" in refusal(link)
    assert "not a regular file" in refusal(pipe)
    assert "not a regular file" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "missing")
    assert "too long" in refusal(tmp_path / ("x" * 300))
    assert "not a regular file" in refusal(Path(os.devnull))


@pytest.mark.root
def test_a_file_of_somebody_else(credentials: Path) -> None:
    """Even root uses no one else's."""
    os.chown(credentials, 12345, -1)
    assert "belongs to somebody else" in refusal(credentials)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no api_id"),
        (f'api_key = "{KEY}"', "no api_id"),
        (f'api_id = "{API_ID}"', "no api_key"),
        (f'api_id = 5\napi_key = "{KEY}"', "no api_id"),
        (f'api_id = ""\napi_key = "{KEY}"', "no api_id"),
        (f'api_id = "{API_ID}"\napi_key = "{KEY}x"', "129 characters; it should have 128"),
        (f'api_id = "{API_ID}"\napi_key = "{KEY[:64]}"', "64 characters; it should have 128"),
        (f'api_id = "{API_ID}"\napi_key = "{KEY[:127]}\\n"', "characters that no api_key has"),
        (f'api_id = "{API_ID}"\napi_key = "{KEY[:127]}ä"', "characters that no api_key has"),
        (f'api_id = "{API_ID}"\napi_key = {KEY}', "not valid TOML"),
        (f'api_key = "{KEY}', "not valid TOML"),
        (f"[{KEY}", "not valid TOML"),
        (f'api_key = "{KEY}"\napi_key = "{KEY}"', "not valid TOML"),
        (f"{KEY} = 1\n{KEY} = 2", "not valid TOML"),
        ("\0", "not valid TOML"),
        ("\ufeffapi_id = 1", "not valid TOML"),
    ],
)
def test_files_that_make_no_sense(credentials: Path, text: str, reason: str) -> None:
    """Each mistake is named; nothing of the file is quoted."""
    credentials.write_text(text)
    assert reason in refusal(credentials)


def test_files_that_are_not_text_or_endless(credentials: Path) -> None:
    """Bytes that are no UTF-8, and gigabytes, are refused without being read whole."""
    credentials.write_bytes(b"\xff\xfe" + KEY.encode())
    assert "not valid TOML" in refusal(credentials)
    os.truncate(credentials, 1 << 40)
    assert "not valid TOML" in refusal(credentials)


@pytest.mark.parametrize("given", ["LUNANODE_API_ID", "LUNANODE_API_KEY"])
def test_half_an_environment(given: str, credentials: Path) -> None:
    """One variable alone is a mistake, not a reason to look elsewhere."""
    assert "environment" in refusal(None, {given: ENVIRONMENT[given]})


def test_the_command_says_it_in_one_line(
    credentials: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad file ends the command with status 1 and one line."""
    credentials.chmod(0o644)
    done = run(capsys, "mount", "--credentials", str(credentials), str(tmp_path))
    assert done.status == 1
    assert done.line.startswith("imagefs: Others can read")


def test_storing_where_names_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems answer EINVAL for a directory (fsync(2)); the file is there all the same."""
    sync = os.fsync

    def sync_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files)
    store(tmp_path / "credentials.toml", Credentials(API_ID, KEY))
    assert from_file(tmp_path / "credentials.toml").api_id == API_ID
