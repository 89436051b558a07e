"""What must never get out, and what must never be let in."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest
from mount_programs import attempt, environment_of, eventually, refusal, run, text

from imagefs.emulator import Emulator, Fault

CANARY = "canary" + "0123456789abcdef" * 7 + "feed-me-00"
HEX_DIGEST = re.compile(rb"[0-9a-f]{128}")
"""What a signature looks like."""


@pytest.fixture
def service(workspace):
    """A service whose API key is easy to find where it does not belong."""
    with Emulator(workspace / "service", api_id="id-of-the-canary", api_key=CANARY) as emulator:
        yield emulator


def _tells(content: bytes) -> bool:
    whole = CANARY.encode()
    return whole[:64] in content or whole[64:] in content or b"canary0123" in content or b"feed-me" in content


def _everything_in(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_key_appears_nowhere(service, mount, workspace):
    """Neither in the log, nor in the cache, nor in attributes, nor in what other users can see of the process."""
    service.add_image("a", "toronto", b"abc")
    service.add_image("b", "toronto", b"abc", status="killed")
    for fault in (
        Fault("status", action="list", status=500),
        Fault("reset", action="list"),
        Fault("html", action="details"),
        Fault("garbage_status_line", action="details"),
        Fault("refused", action="retrieve", value="no such thing"),
    ):
        service.faults.add(fault)
    mounted = mount()
    mounted.may_log(".")
    account = ("--api-url", service.api_url, "--credentials", service.credentials_file)
    seen = b""
    for command in (
        ("ls", "-lR", mounted.path),
        ("cat", mounted / "toronto/a"),
        ("cat", mounted / "toronto/a"),
        ("cat", mounted / "toronto/b"),
        ("getfattr", "-R", "-d", "-m", "-", mounted.path),
        ("getfattr", "--only-values", "-n", "user.imagefs.status", mounted.path),
        (*mounted.person.imagefs, "status", mounted.path),
        (*mounted.person.imagefs, "ls", *account),
        (*mounted.person.imagefs, "doctor", *account),
        ("cat", mounted / "toronto/.fetch"),
        ("df", mounted.path),
        ("mount",),
        ("cat", f"/proc/{mounted.pid}/cmdline", f"/proc/{mounted.pid}/comm"),
    ):
        done = attempt(*command)
        seen += done.stdout + done.stderr
    mounted.umount()
    seen += mounted.log_file.read_bytes() + _everything_in(mounted.path.parent)
    assert seen
    assert not _tells(seen)
    assert not HEX_DIGEST.search(seen)


@pytest.mark.parametrize("fault", ["refused", "html", "reset"])
def test_a_mount_that_fails_does_not_tell_the_key(service, prepare, fault):
    """The line and the log of a mount that could not start hold no secret either."""
    service.faults.add(Fault(fault, action="any", value="authentication failure: " + CANARY[:64], times=None))
    mounted = prepare()
    mounted.may_log(".")
    service.switches.clock_offset_s = 10_000
    done = mounted.try_mount("--log-level", "debug")
    assert done.returncode == 1
    assert not _tells(done.stdout + done.stderr + _everything_in(mounted.path.parent))


def test_a_service_that_echoes_the_key_is_not_repeated(service, mount):
    """Even where the service's own texts hold the key, it goes no further."""
    image_id = service.add_image("a", "toronto", b"abc")
    service.faults.add(Fault("refused", action="retrieve", value=f"bad key {CANARY}", times=None))
    mounted = mount()
    mounted.may_log(".")
    attempt("cat", mounted / "toronto/a")
    shown = text("getfattr", "-d", "-m", "-", "--absolute-names", mounted / "toronto/a")
    assert image_id in shown
    assert not _tells(shown.encode() + mounted.log_file.read_bytes())


def test_a_mount_in_the_foreground_does_not_tell_the_key(service, prepare):
    """What it says on standard error is the log, at its most verbose."""
    service.add_image("a", "toronto", b"abc")
    service.faults.add(Fault("refused", action="retrieve", value=f"bad key {CANARY}", times=None))
    mounted = prepare()
    words = mounted.foreground_command
    at = words.index("--log-file")
    with subprocess.Popen(
        [*words[:at], *words[at + 2 :]], stderr=subprocess.PIPE, env=environment_of(mounted.person)
    ) as process:
        eventually(lambda: mounted.is_mounted and (mounted / "toronto/a").exists())
        attempt("cat", mounted / "toronto/a")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert b"bad key" in said
    assert not _tells(said)


@pytest.mark.root
def test_nobody_but_root_looks_into_the_process(service, prepare, ordinary):
    """Not even who mounts, with the key in the environment: neither into its environment nor into its memory."""
    mounted = prepare(person=ordinary)
    words = mounted.foreground_command[len(ordinary.prefix) : -1]
    at = words.index("--credentials")
    environment = environment_of(
        ordinary,
        HOME=str(mounted.path.parent),
        LUNANODE_API_ID=service.api_id,
        LUNANODE_API_KEY=service.api_key,
    )
    done = attempt(*words[:at], *words[at + 2 :], person=ordinary, environment=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    pid = mounted.pid
    for name in ("environ", "mem", "maps"):
        assert "Permission denied" in refusal("head", "-c", "1", f"/proc/{pid}/{name}", person=ordinary)
    assert not _tells(run("cat", f"/proc/{pid}/cmdline", person=ordinary))
    mounted.umount()


def test_no_text_of_the_service_becomes_a_line_of_the_control_file(service, mount):
    """A region's name and a state with newlines: what is read from ``.fetch`` is all comments still."""
    service.add_image("a", "evil\nhttps://example.org/evil.iso", b"abc")
    mounted = mount()
    mounted.may_log(".")
    run("bash", "-c", f"echo https://127.0.0.1:1/b.iso > {mounted / 'toronto/.fetch'}")
    [fetched] = [image for image in service.images() if image.name == "b.iso"]
    service.set_status(fetched.image_id, "odd\nhttps://example.org/odd.iso\x1b[2J")
    mounted.remount()
    for region in (path for path in mounted.path.iterdir() if path.is_dir()):
        shown = (region / ".fetch").read_bytes()
        assert b"\x1b" not in shown
        assert all(line.startswith(b"#") for line in shown.splitlines())
    attempt("cp", "-r", f"{mounted.path}/evil%0Ahttps:%2F%2Fexample.org%2Fevil.iso/.", mounted / "montreal")
    assert service.ledger.count("fetch") == 1
    assert b"\nhttps" not in mounted.log_file.read_bytes()


def test_a_crash_does_not_leave_the_key(service, mount):
    """A process that ends on a signal writes no core with the key."""
    mounted = mount()
    limit = text("sh", "-c", f"grep 'Max core file size' /proc/{mounted.pid}/limits")
    assert limit.split()[4:6] == ["0", "0"]
    mounted.send(signal.SIGABRT)
    assert mounted.ended()
    assert not [path for path in mounted.path.parent.iterdir() if path.name.startswith("core")], limit


def test_texts_of_the_service_are_escaped_in_the_log(service, mount):
    """An error text with escape sequences cannot play with the terminal of who reads the log."""
    service.add_image("a", "toronto", b"abc")
    service.faults.add(Fault("refused", action="retrieve", value="\x1b[2Jgone\r\nforged line", times=None))
    mounted = mount()
    mounted.may_log(".")
    attempt("cat", mounted / "toronto/a")
    log = mounted.log_file.read_bytes()
    assert b"gone" in log
    assert b"\x1b" not in log
    assert b"\nforged" not in log


@pytest.mark.parametrize("planted", ["lock", "index", "index-wal", "content"])
def test_links_in_the_cache_leave_their_victims_alone(service, prepare, tmp_path, planted):
    """A link that somebody planted where the cache keeps its files is not followed."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"precious")
    service.add_image("a", "toronto", b"abc")
    mounted = prepare()
    mounted.may_log("not the cache's own file")
    mounted.cache_dir.mkdir(mode=0o700)
    (mounted.cache_dir / planted).symlink_to(folder if planted == "content" else victim)
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == b"abc"
    mounted.umount()
    assert victim.read_bytes() == b"precious"
    assert {path.name for path in folder.iterdir()} == {"file"}
    assert (folder / "file").read_bytes() == b"precious"


def test_a_cache_directory_that_is_a_link_is_refused(service, prepare, tmp_path):
    """The cache directory itself must be one."""
    target = tmp_path / "target"
    target.mkdir()
    mounted = prepare(cache_dir=tmp_path / "link")
    mounted.may_log("not a directory of its own")
    mounted.cache_dir.symlink_to(target)
    assert mounted.try_mount().returncode == 1
    assert os.listdir(target) == []


@pytest.mark.root
def test_a_cache_directory_of_somebody_else_is_refused(service, prepare, tmp_path):
    """Its owner could change what is served."""
    mounted = prepare(cache_dir=tmp_path / "cache")
    mounted.may_log("cache directory")
    mounted.cache_dir.mkdir()
    os.chown(mounted.cache_dir, 12345, 12345)
    assert mounted.try_mount().returncode == 1
    assert os.listdir(mounted.cache_dir) == []


def test_no_image_name_becomes_a_path(service, mount, workspace):
    """Names full of dots and slashes leave nothing outside of the mount and the cache."""
    service.add_image("../../../escaped", "toronto", b"abc")
    service.add_image("escaped", "../..", b"abc")
    mounted = mount()
    run("find", mounted.path, "-type", "f", "-exec", "cat", "{}", ";")
    mounted.umount()
    assert not [path for path in workspace.rglob("*escaped*") if "service" not in path.parts]
