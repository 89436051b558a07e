"""The configuration file: what is in it, what comes before it, and what is refused."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from cli_runs import API_ID, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagefs.cli import config_file
from imagefs.cli.mount_options import MOUNT_OPTIONS
from imagefs.errors import SetupError

EVERYTHING = """
api_url = "https://api.example/"
credentials = "~/key.toml"
cache_dir = "/var/cache/images"
cache_size = 1073741824
read_only = true
no_delete = true
allow_other = true
allow_indexers = true
publish = "https://me.example:8443/"
publish_listen = "0.0.0.0:8443"
publish_cert = "~/cert.pem"
publish_key = "~/key.pem"
uid = 1
gid = 2
umask = "027"
log_file = "~/log"
log_level = "debug"

[profiles.work]
read_only = false
cache_size = "50G"

[profiles.empty]
"""


@pytest.fixture
def file(home: Path) -> Path:
    """Where the configuration file is, not there yet."""
    path = home / ".config" / "imagefs" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[object, str, str]]:
    """What ``config show --json`` says: value, origin and source by key."""
    done = run(capsys, "config", "show", "--json", *arguments)
    assert (done.status, done.err) == (0, "")
    rows = json.loads(done.out)["options"]
    return {key: (row["value"], row["origin"], row["source"]) for key, row in rows.items()}


def test_without_a_file_all_are_defaults(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """Every option of a mount has its row, and none a secret."""
    rows = shown(capsys)
    assert list(rows) == [option.key for option in MOUNT_OPTIONS]
    assert {origin for _, origin, _ in rows.values()} == {"default"}
    assert rows["cache_size"][0] == "20G"
    assert rows["credentials"][0] == str(home / ".config/imagefs/credentials.toml")


def test_what_is_shown_is_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """However long the options are."""
    lines = run(capsys, "config", "show").out.splitlines()[1:]
    assert len(lines) == len(MOUNT_OPTIONS)
    assert len({line.index(" = ") for line in lines}) == 1


def test_every_option_can_be_in_the_file(capsys: pytest.CaptureFixture[str], file: Path, home: Path) -> None:
    """Each as the file says, with ~ for the home directory."""
    file.write_text(EVERYTHING)
    rows = shown(capsys)
    assert {(origin, source) for _, origin, source in rows.values()} == {("file", str(file))}
    assert {key: value for key, (value, _, _) in rows.items()} == {
        "api_url": "https://api.example/", "credentials": str(home / "key.toml"), "cache_dir": "/var/cache/images",
        "cache_size": "1G", "read_only": True, "no_delete": True, "allow_other": True, "allow_indexers": True,
        "uid": 1, "gid": 2,
        "publish": "https://me.example:8443/", "publish_listen": "0.0.0.0:8443",
        "publish_cert": str(home / "cert.pem"), "publish_key": str(home / "key.pem"),
        "umask": "027", "log_file": str(home / "log"), "log_level": "debug",
    }  # fmt: skip


def test_a_profile_comes_before_what_is_for_all(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """What it does not say is as for all; one that is not in the file says nothing."""
    file.write_text(EVERYTHING)
    rows = shown(capsys, "--profile", "work")
    assert [rows[key][0] for key in ("read_only", "cache_size", "no_delete")] == [False, "50G", True]
    for other in ("empty", "unheard-of"):
        assert shown(capsys, "--profile", other) == shown(capsys)


def test_option_before_environment_before_file(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each origin is named, and a flag can be taken back."""
    file.write_text('cache_size = "1G"\nread_only = true\nno_delete = true\nuid = 1\numask = "022"\n')
    monkeypatch.setenv("IMAGEFS_CACHE_SIZE", "2G")
    monkeypatch.setenv("IMAGEFS_READ_ONLY", "no")
    monkeypatch.setenv("IMAGEFS_UID", "2")
    rows = shown(capsys, "--cache-size", "3G", "--delete", "-o", "cache_size=4G,gid=5")
    assert rows["cache_size"] == ("3G", "option", "--cache-size")
    assert rows["no_delete"] == (False, "option", "--no-delete")
    assert rows["gid"] == (5, "option", "-o")
    assert rows["read_only"] == (False, "environment", "IMAGEFS_READ_ONLY")
    assert rows["uid"] == (2, "environment", "IMAGEFS_UID")
    assert rows["umask"] == ("022", "file", str(file))
    assert rows["log_level"] == ("info", "default", "")


def test_a_wrong_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who did not type the value has to be told where it comes from."""
    monkeypatch.setenv("IMAGEFS_UMASK", "9")
    done = run(capsys, "config", "show")
    assert done.status == 2
    assert "IMAGEFS_UMASK" in done.line


def test_the_profile_itself(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from the option, else from -o, else from the environment."""
    file.write_text("".join(f"[profiles.{name}]\nuid = {uid}\n" for uid, name in enumerate("abc")))
    monkeypatch.setenv("IMAGEFS_PROFILE", "c")
    assert shown(capsys)["uid"][0] == 2
    assert shown(capsys, "-o", "profile=b")["uid"][0] == 1
    assert shown(capsys, "-o", "profile=b", "--profile", "a")["uid"][0] == 0


def test_a_profile_has_its_own_account(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's account is not taken for that of a profile."""
    monkeypatch.setenv("LUNANODE_API_ID", API_ID)
    assert shown(capsys)["credentials"][1:] == ("environment", "LUNANODE_API_ID and LUNANODE_API_KEY")
    assert shown(capsys, "--profile", "work")["credentials"][0] == str(
        file.with_name("credentials-work.toml")
    )


def test_for_people(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """A line an option, and nothing that a terminal could take for a command of its own."""
    file.write_text('log_file = "/tmp/\\u001b[31m"\n')
    done = run(capsys, "config", "show", "--profile", "work")
    assert (done.status, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1 + len(MOUNT_OPTIONS)
    assert "\x1b" not in done.out
    assert done.out.startswith(f"# {file}, profile work\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("cache = 1", "cache is not known"),
        ("foreground = true", "foreground is not known"),
        ("[profiles.work]\nsize = 1", "profiles.work.size is not known"),
        ("profiles = 1", "profiles must be tables"),
        ("[profiles]\nwork = 1", "'work' is not a profile"),
        ('[profiles."../x"]', "'../x' is not a profile"),
        ('read_only = "yes"', "read_only: it is true or false"),
        ("read_only = 1", "read_only: it is true or false"),
        ('uid = "root"', "uid: it is a number"),
        ("uid = true", "uid: it is a number"),
        ("uid = -1", "uid"),
        ("umask = 22", "umask: it is a text in quotes"),
        ('umask = "9"', "octal"),
        ("api_url = []", "api_url: it is a text"),
        ('cache_size = "many"', "cache_size: 'many' is not a size"),
        ("cache_size = 5", "out of bounds"),
        ("cache_size = 1.5", "cache_size: it is a text"),
        ("cache_size = true", "cache_size: it is a text"),
        ('log_file = "log"', "log_file: it is a path that begins with /"),
        ('log_level = "loud"', "log_level"),
        ("cache_size = ", "not valid TOML"),
        ("x" * 100, "not valid TOML"),
        (b"\xff", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], file: Path, content: str | bytes, reason: str
) -> None:
    """The line names the file and the key."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run(capsys, "config", "show")
    assert (done.status, done.out) == (1, "")
    assert str(file) in done.line
    assert reason in done.line


def test_files_that_are_not_read(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """A directory, a pipe, and what others may write; none of them blocks."""
    file.write_text("")
    file.chmod(0o620)
    assert f"chmod go-w {file}" in run(capsys, "config", "show").line
    file.unlink()
    file.mkdir()
    assert "not a regular file" in run(capsys, "config", "show").line
    file.rmdir()
    os.mkfifo(file)
    assert "not a regular file" in run(capsys, "config", "show").line
    file.unlink()
    file.symlink_to(file)
    assert "cannot be read" in run(capsys, "config", "show").line


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "x" * 65])
def test_names_that_no_profile_has(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """They would be part of a file's name."""
    done = run(capsys, "config", "show", "--profile", name)
    assert done.status == 1
    assert "cannot be a profile's name" in done.line


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_file_breaks_the_reading(tmp_path: Path, content: bytes) -> None:
    """Whatever is in it is understood or refused."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with suppress(SetupError):
        assert isinstance(config_file.load(path, None), dict)


def test_the_readme_names_every_option() -> None:
    """Each has its row."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for option in MOUNT_OPTIONS:
        assert f"`{option.option}" in readme
        assert not option.off or f"`{option.off}`" in readme
