"""The commands beside a mount: what they tell of it, and what they have it do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_terminal import Terminal
from mount_point import Mounted
from mount_programs import MYSELF, eventually, nobody, refusal, run, started, text

from imagefs.emulator import Emulator
from imagefs.emulator.faults import Fault

MIB = 1 << 20

MakeMount = Callable[..., Mounted]


class Commands:
    """Commands for the account of one mount."""

    def __init__(self, mounted: Mounted, service: Emulator) -> None:
        self._mounted = mounted
        self.account = ("--api-url", service.api_url, "--credentials", str(service.credentials_file))
        self.account += ("--cache-dir", str(mounted.cache_dir))

    def fails(self, *arguments: str | Path, status: int = 1) -> str:
        """What a command says on standard error."""
        done = self._mounted.imagefs(*arguments)
        assert done.returncode == status, done
        return done.stderr.decode()

    def say(self, *arguments: str | Path) -> str:
        """What a command prints; it must succeed."""
        done = self._mounted.imagefs(*arguments)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout.decode()

    def json(self, *arguments: str | Path) -> Any:
        """What a command prints for scripts."""
        return json.loads(self.say(*arguments, "--json"))

    def status(self) -> Any:
        """How the mount is doing."""
        (status,) = self.json("status", self._mounted.path)
        return status

    def cached(self) -> dict[str, int]:
        """The cached bytes of each image."""
        return {
            row["path"].partition("~")[0]: row["cached"] for row in self.json("cache", "ls", *self.account)
        }


def test_what_the_cache_holds_and_what_becomes_of_it(mount: MakeMount, service: Emulator) -> None:
    """A running mount does it all; without it the commands open the cache themselves."""
    ids = [service.add_synthetic(f"disk {i}", "toronto", 2 * MIB, seed=i) for i in range(3)]
    mounted = mount()
    commands = Commands(mounted, service)
    images = [mounted / f"toronto/disk {i}" for i in range(3)]
    assert commands.cached() == {}

    said = commands.say("warm", *images[:2])
    assert sorted(said.splitlines()) == [f"{image}: 2.0 MiB cached and checked" for image in images[:2]]
    assert commands.cached() == {"toronto/disk 0": 2 * MIB, "toronto/disk 1": 2 * MIB}
    status = commands.status()
    assert (status["read"], status["fetched"], status["cache"]["contents"]) == (4 * MIB, 4 * MIB, 2)

    commands.say("pin", images[0])
    assert "pinned" in commands.fails("cache", "evict", images[0], *commands.account)
    commands.say("cache", "evict", images[1])
    assert commands.cached() == {"toronto/disk 0": 2 * MIB}
    assert commands.say("cache", "verify", *commands.account) == "2.0 MiB checked, 0 B damaged.\n"
    assert "Dropped 0 B, kept 2.0 MiB." in commands.say("cache", "clear", *commands.account)

    mounted.umount()
    (row,) = commands.json("cache", "ls", *commands.account)
    assert (row["path"], row["pinned"], row["verified"]) == ("toronto/disk 0", True, True)
    assert "pinned" in commands.fails("cache", "evict", ids[0], *commands.account)
    commands.say("unpin", ids[0], *commands.account)
    assert "Dropped 2.0 MiB, kept 0 B." in commands.say("cache", "clear", *commands.account)
    assert commands.cached() == {}
    assert commands.say("cache", "where", *commands.account) == f"{mounted.cache_dir}\n"
    assert "Nothing is known of an image '7'" in commands.fails("pin", "7", *commands.account)


def test_a_mount_takes_ids_for_paths(mount: MakeMount, service: Emulator) -> None:
    """As a cache without a mount does; what is neither is told."""
    image_id = service.add_synthetic("a/b", "toronto", MIB)
    commands = Commands(mount(), service)
    listing = ("cache", "ls", *commands.account)
    commands.say("pin", image_id, *commands.account)
    assert [row["pinned"] for row in commands.json(*listing)] == [True]
    commands.say("unpin", image_id, *commands.account)
    assert commands.json(*listing) == []
    assert commands.fails("pin", "999", *commands.account) == "imagefs: There is no image 999.\n"
    said = commands.fails("cache", "evict", "/etc/passwd", *commands.account)
    assert said == "imagefs: /etc/passwd is neither on a mount of imagefs nor an image's ID.\n"


def test_a_mount_that_changes_nothing_has_a_cache_to_look_after(mount: MakeMount, service: Emulator) -> None:
    """The kernel refuses every change of a read-only mount; what is cached is none of the account."""
    service.add_synthetic("disk", "toronto", MIB)
    mounted = mount("--read-only")
    commands = Commands(mounted, service)
    image = mounted / "toronto/disk"
    commands.say("warm", image)
    commands.say("pin", image)
    assert "pinned" in commands.fails("cache", "evict", image, *commands.account)
    assert "Dropped 0 B, kept 1.0 MiB." in commands.say("cache", "clear", *commands.account)
    commands.say("unpin", image)
    commands.say("cache", "evict", image)
    assert commands.cached() == {}
    assert service.ledger.count("delete") == 0


def test_warming_what_was_dropped_or_does_not_fit(mount: MakeMount, service: Emulator) -> None:
    """What the kernel remembers of an image does not count; what the cache does not hold is told."""
    service.add_synthetic("small", "toronto", 2 * MIB, seed=1)
    service.add_synthetic("large", "toronto", 20 * MIB, seed=2)
    mounted = mount("--cache-size", "16M")
    mounted.may_log("The cache takes no more of image")
    commands = Commands(mounted, service)
    small, large = mounted / "toronto/small", mounted / "toronto/large"
    commands.say("warm", small)
    commands.say("cache", "evict", small, *commands.account)
    assert commands.cached() == {}
    commands.say("warm", small)
    assert commands.cached() == {"toronto/small": 2 * MIB}
    said = commands.fails("warm", large)
    assert "20.0 MiB are more than the cache of 16.0 MiB holds" in said
    assert "not all of it is cached" in said


def test_damage_is_found_and_mended(mount: MakeMount, service: Emulator) -> None:
    """What is wrong on disk is dropped, and comes again when it is read."""
    service.add_synthetic("disk", "toronto", 2 * MIB, seed=1)
    mounted = mount()
    mounted.may_log("cached blocks of image .* damaged")
    commands = Commands(mounted, service)
    commands.say("warm", mounted / "toronto/disk")
    before = run("md5sum", mounted / "toronto/disk")
    (file,) = (path for path in (mounted.cache_dir / "content").rglob("*") if path.is_file())
    with file.open("r+b") as damaged:
        damaged.seek(MIB)
        damaged.write(b"damage")
    done = mounted.imagefs("cache", "verify", *commands.account)
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[-1] == "2.0 MiB checked, 128 KiB damaged."
    run("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches 2>/dev/null || true")
    assert run("md5sum", mounted / "toronto/disk") == before


def test_what_no_image_has_any_more_is_verified(mount: MakeMount, service: Emulator) -> None:
    """It stays until its space is needed, and is as right or wrong as all else that is cached."""
    service.add_synthetic("disk", "toronto", 2 * MIB, seed=1)
    mounted = mount()
    commands = Commands(mounted, service)
    commands.say("warm", mounted / "toronto/disk")
    run("rm", mounted / "toronto/disk")
    assert commands.say("cache", "verify", *commands.account) == "2.0 MiB checked, 0 B damaged.\n"
    (file,) = (path for path in (mounted.cache_dir / "content").rglob("*") if path.is_file())
    with file.open("r+b") as damaged:
        damaged.write(b"damage")
    done = mounted.imagefs("cache", "verify", *commands.account)
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[-1] == "2.0 MiB checked, 128 KiB damaged."


def test_each_cache_belongs_to_its_own_mount(mount: MakeMount, service: Emulator) -> None:
    """Where an account is mounted twice, the mount that has the cache is asked."""
    service.add_synthetic("disk", "toronto", MIB)
    first, second = mount(), mount("--read-only", name="b")
    commands = Commands(second, service)
    commands.say("warm", second / "toronto/disk")
    assert commands.cached() == {"toronto/disk": MIB}
    assert Commands(first, service).cached() == {}


def test_listing_beside_a_mount(mount: MakeMount, service: Emulator) -> None:
    """The account as a table, with what is cached; names bring nothing of their own to a terminal."""
    service.add_synthetic("disk", "toronto", 2 * MIB, seed=1)
    service.add_image("evil\x1b[31m", "montreal", b"abc", status="saving")
    mounted = mount()
    commands = Commands(mounted, service)
    commands.say("warm", mounted / "toronto/disk")
    rows = commands.json("ls", *commands.account)
    assert [(row["name"], row["status"], row["cached"]) for row in rows] == [
        ("evil\x1b[31m", "saving", 0),
        ("disk", "active", 2 * MIB),
    ]
    people = commands.say("ls", "toronto", *commands.account)
    assert [line.split()[1] for line in people.splitlines()] == ["NAME", "disk"]
    assert "100 %" in people
    assert "\x1b" not in commands.say("ls", *commands.account)
    assert "There is no region 'nowhere'" in commands.fails("ls", "nowhere", *commands.account)
    mounted.umount()
    calls = len(service.ledger.calls)
    assert len(commands.json("ls", "toronto", *commands.account)) == 1
    assert len(service.ledger.calls) - calls == 1  # what is known of active images needs no call


def test_a_mount_tells_how_it_is_doing_while_the_service_is_silent(
    mount: MakeMount, service: Emulator
) -> None:
    """Also from a file below it; and only to its owner."""
    service.add_synthetic("disk", "toronto", 64 * MIB, seed=1)
    mounted = mount("--allow-other")
    commands = Commands(mounted, service)
    mounted.may_log("cannot be fetched", "listing", "no answer")
    before = commands.status()
    assert before["service"]["reachable"] is True
    assert (before["account"], before["transfers"], before["errors"]) == (service.api_id, [], [])
    stranger = nobody(Path("/"))
    asked = ("getfattr", "--absolute-names", "-n", "user.imagefs.status", mounted.path)
    assert "No such attribute" in refusal(*asked, person=stranger)
    assert "status" not in text("getfattr", "--absolute-names", "-d", mounted.path)

    run("stat", mounted / "toronto/disk")
    for action in ("list", "details", "retrieve"):
        service.faults.add(Fault("never_answers", action=action, times=None))
    with subprocess.Popen(["cat", str(mounted / "toronto/disk")], stdout=subprocess.DEVNULL) as reader:
        try:
            eventually(lambda: commands.status()["transfers"] != [])
            (transfer,) = commands.status()["transfers"]
            assert (transfer["name"], transfer["size"], transfer["cached"]) == ("disk", 64 * MIB, 0)
            assert "toronto/disk" in commands.say("status", mounted / "toronto/disk")
        finally:
            reader.kill()
            service.faults.clear()


def test_mounts_that_do_not_answer(mount: MakeMount, service: Emulator) -> None:
    """One that is stopped, and one that has died, hold up nobody."""
    mounted = mount()
    commands = Commands(mounted, service)
    mounted.send(signal.SIGSTOP)
    try:
        with started(*MYSELF.imagefs, "wait", mounted / "toronto/x") as waiting:
            done = mounted.imagefs("status", "--json", mounted.path)
            assert done.returncode == 1
            assert "does not answer" in json.loads(done.stdout)[0]["problem"]
            assert b"does not answer" in waiting.communicate(timeout=60)[1]
            assert waiting.returncode == 1
        assert commands.say("umount", "--lazy", mounted.path) == ""
    finally:
        mounted.send(signal.SIGCONT)
    assert mounted.ended()
    mounted.mount()
    mounted.kill()
    done = mounted.imagefs("status", mounted.path)
    assert done.returncode == 1
    assert "the mount has died" in done.stdout.decode()
    watching = [*MYSELF.imagefs, "status", "--watch", "--json", "--interval", "0.2", str(mounted.path)]
    with subprocess.Popen(watching, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as watch:
        for _ in range(2):
            assert json.loads(watch.stdout.readline())[0]["answers"] is False
        watch.kill()
    for command in ("wait", "warm", "pin"):
        assert "the mount has died" in commands.fails(command, mounted / "toronto/x")


def test_new_images_through_the_mount(mount: MakeMount, service: Emulator) -> None:
    """Fetch, replicate and wait; what is refused says why."""
    service.switches.saving_s = 0.2
    image_id = service.add_image("a.iso", "toronto", b"abc")
    mounted = mount()
    commands = Commands(mounted, service)
    mounted.may_log("could not make image")
    source = mounted / "toronto/a.iso"
    assert "montreal/a.iso" in commands.say("replicate", source, "montreal", "--wait")
    commands.say("replicate", image_id, "roubaix", "--name", "b/c.iso", *commands.account)
    assert commands.say("wait", mounted / "roubaix/b%2Fc.iso") == ""
    assert sorted((image.region, image.name, image.status) for image in service.images()) == [
        ("montreal", "a.iso", "active"),
        ("roubaix", "b/c.iso", "active"),
        ("toronto", "a.iso", "active"),
    ]
    url = f"{service.root_url}plain/toronto/a.iso"
    fetch = ("fetch", url, "--region", "toronto", *commands.account)
    said = commands.say(*fetch, "--wait")  # under a name that is there already
    assert said == f"Fetching {url} as a.iso in toronto.\n"
    assert [image.status for image in service.images() if image.region == "toronto"] == ["active", "active"]
    commands.say(*fetch, "--name", "b.iso")
    assert commands.say("wait", mounted / "toronto/b.iso") == ""
    nothing = f"{service.root_url}plain/nothing.iso"
    said = commands.fails("fetch", nothing, "--wait", "--region", "toronto", *commands.account)
    assert re.fullmatch(
        rf"imagefs: {mounted.path}/toronto/nothing.iso: The service could not make image \d+ \(killed\)\.\n",
        said,
    )
    source = mounted / f"toronto/a~{image_id}.iso"
    nowhere = f"imagefs: There is no region 'nowhere': see ls {mounted.path}.\n"
    assert commands.fails("replicate", source, "nowhere") == nowhere
    for missing in (mounted / "toronto/nope", mounted / "nowhere/a.iso"):
        said = commands.fails("replicate", missing, "montreal")
        assert said == f"imagefs: {missing}: there is no such image or region.\n"
    assert "exists" in commands.fails("replicate", source, "montreal")
    assert commands.fails("fetch", url, "--region", "nowhere", *commands.account) == nowhere
    no_format = f"{service.root_url}plain/disk"
    assert "give --format iso" in commands.fails("fetch", no_format, "--region", "toronto", *commands.account)
    assert "this is no image" in commands.fails("warm", mounted / "toronto/.fetch")
    assert "not on a mount" in commands.fails("wait", "/etc/passwd")
    assert "no such image" in commands.fails("wait", mounted / "toronto/nope")


def test_ctrl_c_leaves_the_work_going(mount: MakeMount, service: Emulator) -> None:
    """Who waits on a terminal sees it, and may go."""
    service.switches.saving_s = 3600
    service.add_image("a.iso", "toronto", b"abc")
    mounted = mount()
    command = [*mounted.person.imagefs, "replicate", mounted / "toronto/a.iso", "montreal", "--wait"]
    with Terminal(*command) as terminal:
        terminal.await_text("waiting")
        terminal.press_ctrl_c()
        assert terminal.ended() == 130
    assert terminal.screen.endswith("imagefs: interrupted. The service goes on with it.\r\n")
    assert [image.region for image in service.images()] == ["toronto", "montreal"]
    (work,) = Commands(mounted, service).status()["pending"]
    assert (work["kind"], work["region"], work["name"]) == ("replica", "montreal", "a.iso")
    with Terminal(
        *mounted.person.imagefs, "status", "--watch", "--interval", "0.2", mounted.path
    ) as terminal:
        terminal.await_text("montreal/a.iso")
        terminal.press_ctrl_c()
        assert terminal.ended() == 130
    assert os.listxattr(mounted.path) == ["user.imagefs.pid"]


@pytest.mark.timeout(300)
def test_every_command_on_a_terminal(mount: MakeMount, service: Emulator) -> None:
    """They end well there, too; what is for people comes before the bars, and these end with what became of it."""
    service.switches.saving_s = 0.2
    service.add_image("a.iso", "toronto", b"abc")
    url = f"{service.root_url}plain/toronto/a.iso"
    mounted = mount()
    account = Commands(mounted, service).account
    image, copy = mounted / "toronto/a.iso", mounted / "montreal/a.iso"

    def screen(*arguments: str | Path) -> str:
        with Terminal(*mounted.person.imagefs, *arguments) as terminal:
            assert terminal.ended() == 0, terminal.screen
        return terminal.screen

    assert "active" in screen("ls", *account)
    assert service.api_id in screen("whoami", *account[:4])
    assert "reachable" in screen("status", mounted.path)
    said = screen("fetch", url, "--region", "roubaix", "--wait", *account)
    assert said.startswith("Fetching ")
    assert "roubaix/a.iso active" in said
    said = screen("replicate", image, "montreal", "--wait")
    assert said.startswith("Replicating ")
    assert f"{copy} active" in said
    assert f"{copy} active" in screen("wait", copy)
    assert "a.iso cached and checked" in screen("warm", image)
    assert screen("pin", image) == ""
    assert "100 %" in screen("cache", "ls", *account)
    assert "3 B checked, 0 B damaged." in screen("cache", "verify", *account)
    assert screen("unpin", image) == screen("cache", "evict", image) == ""
    assert "kept 0 B" in screen("cache", "clear", *account)
    assert screen("cache", "where", *account) == f"{mounted.cache_dir}\r\n"
    assert "umask" in screen("config", "show", *account)
    assert "#compdef" in screen("completion", "zsh")
    assert "bdi" in screen("system-file", "readahead.rules")
    mounted.umount()
    with Terminal(*mounted.command) as terminal:
        assert (terminal.ended(), terminal.screen) == (0, "")
    assert screen("umount", mounted.path) == ""


@pytest.mark.parametrize("kind", ["answer_lost", "refused"])
def test_without_a_mount_the_service_is_asked_once(prepare: MakeMount, service: Emulator, kind: str) -> None:
    """Where the answer does not come, the line says what to look at, and nothing is asked again."""
    image_id = service.add_image("a.iso", "toronto", b"abc")
    commands = Commands(prepare(), service)
    service.faults.add(Fault(kind, action="replicate", times=None))
    said = commands.fails("replicate", image_id, "montreal", *commands.account)
    assert ("imagefs ls montreal" in said) == (kind == "answer_lost")
    service.faults.clear()
    assert len(service.images()) == (2 if kind == "answer_lost" else 1)
    service.switches.saving_s = 0.1
    commands.say("replicate", image_id, "roubaix", "--name", "b.iso", "--wait", *commands.account)
    assert ("roubaix", "b.iso") in [(image.region, image.name) for image in service.images()]
