"""login, logout and whoami: what is asked, tried and stored, on a terminal and off."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import CANARY, KEY, run
from cli_terminal import Terminal

from imagefs.cli.credentials import default_file, from_file
from imagefs.emulator import Emulator
from imagefs.emulator.faults import Fault

IMAGEFS = (sys.executable, "-m", "imagefs")
NOWHERE = "http://127.0.0.1:9/api/"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The service, whose key holds what must never be shown; commands use it by themselves."""
    with Emulator(tmp_path / "service", api_key=KEY) as emulator:
        monkeypatch.setenv("IMAGEFS_API_URL", emulator.api_url)
        yield emulator


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What a program writes to the command."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_on_a_terminal_the_key_is_not_echoed(service: Emulator) -> None:
    """Both are asked for, and only the ID is seen."""
    with Terminal(*IMAGEFS, "login") as terminal:
        terminal.await_text("API ID: ")
        terminal.type(f"{service.api_id}\n")
        terminal.await_text("API key (not shown): ")
        terminal.type(f"{KEY}\n")
        assert terminal.ended() == 0
    assert service.api_id in terminal.screen
    assert CANARY[:12] not in terminal.screen
    assert "The service accepts them: 0 images." in terminal.screen
    assert from_file(default_file()).api_key == KEY


def test_ctrl_c_at_the_question_stores_nothing(service: Emulator) -> None:
    """The status is that of an interrupted command."""
    with Terminal(*IMAGEFS, "login") as terminal:
        terminal.await_text("API ID: ")
        terminal.type(f"{service.api_id}\n")
        terminal.await_text("(not shown): ")
        terminal.press_ctrl_c()
        assert terminal.ended() == 130
    assert not default_file().exists()


def test_off_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: Emulator
) -> None:
    """Two lines; the file is private whatever the umask, and is replaced as a whole."""
    before = os.umask(0)
    try:
        for _ in range(2):
            type_in(monkeypatch, service.api_id, KEY)
            assert run(capsys, "login").status == 0
    finally:
        os.umask(before)
    assert default_file().stat().st_mode & 0o777 == 0o600
    assert default_file().parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in default_file().parent.iterdir()] == ["credentials.toml"]


def test_a_key_that_is_refused_is_not_stored(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: Emulator
) -> None:
    """What was stored before stays."""
    type_in(monkeypatch, service.api_id, KEY)
    assert run(capsys, "login").status == 0
    type_in(monkeypatch, service.api_id, "x" * 128)
    done = run(capsys, "login")
    assert (done.status, done.out) == (1, "")
    assert "x" * 12 not in done.line
    assert from_file(default_file()).api_key == KEY


@pytest.mark.parametrize(
    ("lines", "reason"),
    [((), "no api_id"), (("x" * 16,), "no api_key"), (("x", KEY), "16"), (("", ""), "no api_id")],
)
def test_what_cannot_be_credentials(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], reason: str
) -> None:
    """It is refused before any call."""
    type_in(monkeypatch, *lines)
    done = run(capsys, "login", "--api-url", NOWHERE)
    assert done.status == 1
    assert reason in done.line


def test_what_is_no_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says so, and nothing of it."""
    typed = f"{'x' * 16}\n{KEY[:100]}".encode() + b"\xff\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
    done = run(capsys, "login", "--api-url", NOWHERE)
    assert done.status == 1
    assert "no text" in done.line


def test_no_network(
    capsys: pytest.CaptureFixture[str], credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says who could not be reached."""
    monkeypatch.setattr("imagefs.cli.service.PATIENCE_S", 1.0)
    type_in(monkeypatch, "x" * 16, KEY)
    for command in (("login",), ("whoami", "--credentials", str(credentials))):
        done = run(capsys, *command, "--api-url", NOWHERE)
        assert done.status == 1
        assert "127.0.0.1 cannot be reached" in done.line or "no time is left" in done.line
    assert not default_file().exists()


def test_a_place_where_nothing_can_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: Emulator, tmp_path: Path
) -> None:
    """The reason is told in a line, and what was there stays."""
    (tmp_path / "folder" / "x").mkdir(parents=True)
    for place in (tmp_path / "folder", service.credentials_file / "x"):
        type_in(monkeypatch, service.api_id, KEY)
        done = run(capsys, "login", "--credentials", str(place))
        assert done.status == 1
        assert f"{place} cannot be written" in done.line
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["x"]


def test_profiles_are_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: Emulator
) -> None:
    """Each has its file, which its other commands then use."""
    type_in(monkeypatch, service.api_id, KEY)
    assert run(capsys, "login", "--profile", "work").status == 0
    assert "No credentials" in run(capsys, "whoami").line
    assert "imagefs login --profile other" in run(capsys, "whoami", "--profile", "other").line
    assert service.api_id in run(capsys, "whoami", "--profile", "work").out
    assert run(capsys, "logout", "--profile", "work").out == f"Removed {default_file('work')}.\n"
    again = run(capsys, "logout", "--profile", "work")
    assert (again.status, again.out) == (1, "")
    assert "no stored credentials" in again.line


def test_whoami(
    capsys: pytest.CaptureFixture[str], credentials: Path, monkeypatch: pytest.MonkeyPatch, service: Emulator
) -> None:
    """The account, where its key comes from, and whether it is accepted."""
    monkeypatch.setenv("LUNANODE_API_ID", service.api_id)
    monkeypatch.setenv("LUNANODE_API_KEY", KEY)
    service.add_image("one", "toronto", b"x")
    done = run(capsys, "whoami", "--json")
    assert json.loads(done.out) == {
        "api_id": service.api_id, "api_url": service.api_url, "profile": None,
        "credentials": "LUNANODE_API_ID and LUNANODE_API_KEY", "images": 1,
    }  # fmt: skip
    people = run(capsys, "whoami", "--credentials", str(service.credentials_file)).out
    assert people == f"{service.api_id} at {service.api_url}, by {service.credentials_file}: 1 image.\n"
    refused = run(capsys, "whoami", "--credentials", str(credentials))
    assert (refused.status, refused.out) == (1, "")


def test_what_the_service_says_reaches_no_terminal_as_it_is(
    capsys: pytest.CaptureFixture[str], credentials: Path, service: Emulator
) -> None:
    """A refusal's text may hold anything."""
    service.faults.add(Fault("refused", action="list", value="no\x1b[31m\r\nway", times=None))
    done = run(capsys, "whoami", "--credentials", str(service.credentials_file))
    assert done.status == 1
    assert "\x1b" not in done.line


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desktop's keyring: its folder, with a file for each key."""
    folder = tmp_path / "keyring"
    folder.mkdir()
    monkeypatch.setenv("FOLDER_KEYRING", str(folder))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "folder_keyring.FolderKeyring")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return folder


def test_the_key_in_the_keyring(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: Emulator, keyring: Path
) -> None:
    """The file holds the ID alone, commands find the key, and no copy of it outlives its use."""
    type_in(monkeypatch, service.api_id, KEY)
    done = run(capsys, "login", "--keyring")
    assert (done.status, done.out.endswith("the key in the keyring.\n")) == (0, True)
    assert default_file().read_text() == f'api_id = "{service.api_id}"\nkeyring = true\n'
    assert [path.read_text() for path in keyring.iterdir()] == [KEY]
    assert from_file(default_file()).api_key == KEY
    assert run(capsys, "whoami").status == 0

    type_in(monkeypatch, service.api_id, KEY)
    assert run(capsys, "login").status == 0
    assert list(keyring.iterdir()) == []
    assert "keyring" not in default_file().read_text()

    type_in(monkeypatch, service.api_id, KEY)
    assert run(capsys, "login", "--keyring").status == 0
    assert run(capsys, "logout").status == 0
    assert list(keyring.iterdir()) == []
    assert not default_file().exists()


def test_a_keyring_that_is_of_no_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: Emulator, keyring: Path
) -> None:
    """One line says so: at login nothing is stored, and later it is the key that is missing."""
    type_in(monkeypatch, service.api_id, KEY)
    assert run(capsys, "login", "--keyring").status == 0
    (kept,) = keyring.iterdir()
    kept.unlink()
    done = run(capsys, "whoami")
    assert (done.status, "gives no API key" in done.line) == (1, True)
    assert run(capsys, "logout").status == 0
    for backend in ("keyring.backends.null.Keyring", "keyring.backends.fail.Keyring"):
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", backend)
        type_in(monkeypatch, service.api_id, KEY)
        done = run(capsys, "login", "--keyring")
        assert (done.status, "does not take the API key" in done.line) == (1, True)
        assert CANARY[:12] not in done.line
        assert not default_file().exists()
