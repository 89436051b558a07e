"""What people get wrong: each gets one clear line and a status other than 0, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mount_programs import IN_OWN_NAMESPACE, MYSELF, attempt, environment_of, run

from imagefs.emulator import Fault


@pytest.fixture
def refused(prepare):
    """Mounts with something wrong, and tells the one line that came of it."""

    def refused(*options, **where):
        mounted = prepare(**where)
        mounted.may_log(".")
        entries = sorted(mounted.path.parent.iterdir())
        line = _one_line(mounted.try_mount(*options))
        assert not mounted.is_mounted
        assert not mounted.cache_dir.joinpath("content").exists()
        assert set(mounted.path.parent.iterdir()) <= {*entries, mounted.log_file, mounted.cache_dir}
        return line

    return refused


def _one_line(done):
    assert done.returncode in (1, 2)
    assert done.stdout == b""
    line = done.stderr.decode()
    assert line.startswith("imagefs: ")
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "Traceback" not in line
    return line


@pytest.fixture
def credentials(service, tmp_path):
    """A copy of the credentials to spoil."""
    return shutil.copy(service.credentials_file, tmp_path / "credentials.toml")


def _written(path, api_id, api_key):
    path.write_text(f'api_id = "{api_id}"\napi_key = "{api_key}"\n')
    path.chmod(0o600)
    return path


def test_a_wrong_key(service, refused, credentials):
    """A key of the right form that is not the account's."""
    wrong = "0" * 128
    line = refused(credentials=_written(credentials, service.api_id, wrong))
    assert "credentials" in line or "authentication" in line
    assert wrong not in line


@pytest.mark.parametrize("length", [0, 1, 127, 129])
def test_a_key_of_the_wrong_length(service, refused, credentials, length):
    """A key that cannot be one; it is counted, not shown."""
    key = service.api_key.ljust(200, "f")[:length]
    line = refused(credentials=_written(credentials, service.api_id, key))
    assert "api_key" in line
    assert length < 2 or key[:16] not in line


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o644, 0o620])
def test_credentials_that_others_can_read(refused, credentials, mode):
    """The line says how to put it right."""
    credentials.chmod(mode)
    assert f"chmod 600 {credentials}" in refused(credentials=credentials)


def test_credentials_that_are_no_own_file(refused, credentials, tmp_path):
    """A link, a folder, a device, or nothing at all."""
    link = tmp_path / "link"
    link.symlink_to(credentials)
    assert "symbolic link" in refused(credentials=link)
    assert "not a regular file" in refused(credentials=tmp_path, name="b")
    assert "No such file" in refused(credentials=tmp_path / "missing", name="c")
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refused(credentials=tmp_path / "fifo", name="d")


@pytest.mark.root
def test_credentials_of_somebody_else(refused, credentials):
    """Another owner could change them."""
    os.chown(credentials, 12345, 12345)
    assert "somebody else" in refused(credentials=credentials)


@pytest.mark.parametrize("content", ["", "api_id = ", "api_id = 1\napi_key = 2\n", "\0\xff", "x" * 100_000])
def test_credentials_that_make_no_sense(refused, credentials, content):
    """Not TOML, or not what is needed."""
    credentials.write_bytes(content.encode("latin-1"))
    assert "credentials" in refused(credentials=credentials)


def test_no_credentials_at_all(prepare):
    """The line says the ways to give them."""
    mounted = prepare()
    done = mounted.imagefs("mount", mounted.path)
    assert "LUNANODE_API_KEY" in _one_line(done)


@pytest.mark.parametrize(
    "url",
    [
        "http://dynamic.lunanode.com/api/",
        "http://192.0.2.1/api/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "127.0.0.1:80",
        "",
        "https://",
        "http://127.0.0.1.example.com/",
        "http://127.0.0.1:99999/",
    ],
)
def test_an_api_url_that_cannot_be_trusted(refused, url):
    """Only https, or http to this machine itself."""
    line = refused("--api-url", url)
    assert "https" in line or "URL" in line


def test_an_api_url_with_a_password_in_it(refused):
    """It is refused, or at least never shown."""
    assert "hunter2" not in refused("--api-url", "http://user:hunter2@192.0.2.1/api/")


def test_an_unreachable_api(service, refused):
    """Nobody listens there."""
    service.stop()
    assert "refused" in refused()


def test_an_api_that_is_something_else(service, refused):
    """A web page where the API should be."""
    service.faults.add(Fault("html", action="any", times=None))
    assert "not JSON" in refused()


def test_a_mount_point_that_is_missing(prepare):
    """The line says how to make it."""
    mounted = prepare()
    mounted.path.rmdir()
    assert f"mkdir {mounted.path}" in _one_line(mounted.try_mount())


def test_a_mount_point_that_is_a_file(prepare):
    """Only a directory can be one."""
    mounted = prepare()
    mounted.path.rmdir()
    mounted.path.write_text("mine")
    assert "is not a directory" in _one_line(mounted.try_mount())
    assert mounted.path.read_text() == "mine"


def test_a_mount_point_that_is_not_empty(prepare):
    """What is in it would be hidden."""
    mounted = prepare()
    (mounted / "mine").write_text("mine")
    assert "is not empty" in _one_line(mounted.try_mount())
    assert (mounted / "mine").read_text() == "mine"


def test_a_mount_point_that_is_mounted_already(service, mount):
    """The first mount goes on."""
    mounted = mount()
    line = _one_line(mounted.try_mount("--cache-dir", mounted.path.parent / "other"))
    assert "already mounted" in line
    assert f"imagefs umount {mounted.path}" in line
    run("ls", mounted.path)


def test_a_mount_point_of_another_file_system(prepare):
    """Nothing is ever mounted over it."""
    mounted = prepare()
    command = (*MYSELF.imagefs, "mount", "/proc", *mounted.foreground_command[-11:-1])
    assert "already a mount point, of type proc" in _one_line(attempt(*command))


def test_no_fusermount(prepare):
    """Without fuse3 the line names the package."""
    mounted = prepare()
    done = attempt(*mounted.foreground_command, environment=environment_of(MYSELF, PATH="/nowhere"))
    assert "apt-get install fuse3" in _one_line(done)


@pytest.mark.root
def test_no_fuse_device(prepare):
    """Without /dev/fuse, as in most containers, the line says what is missing."""
    mounted = prepare()
    script = 'mount -t tmpfs tmpfs /dev && exec "$0" "$@"'
    done = attempt(*IN_OWN_NAMESPACE, "sh", "-c", script, *mounted.foreground_command)
    assert "/dev/fuse is missing" in _one_line(done)


@pytest.mark.root
def test_a_fuse_device_that_is_none(prepare):
    """A device that does not answer as FUSE does."""
    mounted = prepare()
    mounted.may_log(".")
    script = 'mount --bind /dev/null /dev/fuse && exec "$0" "$@"'
    done = attempt(*IN_OWN_NAMESPACE, "sh", "-c", script, *mounted.foreground_command[:-1])
    assert done.returncode == 1
    assert "could not be mounted" in done.stderr.decode()


def test_a_cache_directory_that_cannot_be_made(refused, tmp_path):
    """A file stands in the way, or the kernel does not want it."""
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refused(cache_dir=tmp_path / "file")
    assert str(tmp_path / "file") in refused(cache_dir=tmp_path / "file" / "below", name="b")
    assert "/proc/cache" in refused(cache_dir=Path("/proc/cache"), name="c")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_log_file_that_cannot_be_written(refused):
    """The line names it."""
    assert "/proc/log" in refused("--log-file", "/proc/log")


def test_own_files_below_the_mount_point(prepare):
    """A mount that looked for its log on itself would wait for its own answer, and hang."""
    mounted = prepare()
    own = mounted / "own"
    for option in ("--log-file", "--cache-dir"):
        assert f"{own} is below the mount point {mounted.path}" in _one_line(mounted.try_mount(option, own))
    assert not own.exists()


@pytest.mark.parametrize(
    "size", ["0", "-1", "1", "15M", "2000P", "1e9", "lots", "", "20 GG", "NaN", "1" * 400]
)
def test_an_absurd_cache_size(refused, size):
    """Too small, too large, or no size."""
    assert "--cache-size" in refused("--cache-size", size)


@pytest.mark.parametrize(
    "options",
    [
        ("--no-such-option",),
        ("-o", "no_such_option"),
        ("-o", "uid=root"),
        ("--uid", "-1"),
        ("--umask", "999"),
        ("--log-level", "loud"),
        ("one too many",),
    ],
    ids=" ".join,
)
def test_an_unknown_option(refused, options):
    """The line says which, and where to look."""
    line = refused(*options)
    assert options[-1] in line or options[0] in line
    assert "--help" in line


@pytest.mark.parametrize("arguments", [("mount",), ("umount",), ("no-such-command",), ("mount", "")])
def test_a_wrong_command_line(arguments):
    """Missing arguments and unknown commands are told in one line."""
    _one_line(attempt(*MYSELF.imagefs, *arguments))


def test_help_is_there_without_a_service():
    """--help and --version need nothing."""
    for arguments in (("--help",), ("mount", "--help"), ("umount", "-h"), ("--version",)):
        assert run(*MYSELF.imagefs, *arguments)
