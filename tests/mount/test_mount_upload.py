"""Content that no image has: written into the mount by ordinary programs, and fetched from there by the service."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from certificates import self_signed
from mount_programs import attempt, eventually, refusal, run, text
from test_mount_interrupts import started

from imagefs.emulator import Fault

DISK_BYTES = 24 << 20


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def _quick(service):
    """Images are ready a moment after their download."""
    service.switches.saving_s = 0.2


@pytest.fixture
def address():
    """Where the mount publishes."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def mounted(service, mount, address):
    """A mount that uploads; plain http is worth a warning."""
    made = mount("--publish", address, "--publish-listen", address.removeprefix("http://"))
    made.may_log("unencrypted")
    return made


@pytest.fixture
def disk(workspace) -> Path:
    """A qcow2 image with something in it."""
    raw, made = workspace / "disk.raw", workspace / "disk.qcow2"
    raw.write_bytes(os.urandom(DISK_BYTES // 2) + bytes(DISK_BYTES // 2))
    run("qemu-img", "convert", "-O", "qcow2", raw, made)
    return made


def fetched(service):
    """The calls of image/fetch, by their outcome."""
    return [call.outcome for call in service.ledger.calls if call.action == "fetch"]


@pytest.mark.parametrize(
    "command",
    [
        ["cp"],
        ["cp", "-a"],
        ["rsync", "-a"],
        ["rsync", "--inplace"],
        ["bash", "-c", 'cat "$1" > "$2"', "cat"],
        ["python3", "-c", "import shutil, sys; shutil.copy2(*sys.argv[1:])"],
        ["bash", "-c", 'dd if="$1" of="$2" bs=1M conv=fsync status=none', "dd"],
    ],
    ids=lambda command: "-".join(word.split()[0] for word in command[:2]),
)
def test_a_written_disk_becomes_an_image(service, mounted, disk, command):
    """It is one image of just these bytes, active when the program is done."""
    target = mounted / "toronto/server.qcow2"
    run(*command, disk, target)
    (image,) = service.images()
    assert (image.name, image.region, image.status) == ("server.qcow2", "toronto", "active")
    assert mounted.xattr(target, "format") == "qcow2"
    run("cmp", disk, target)
    assert fetched(service) == ["ok"]
    assert sorted(os.listdir(mounted / "toronto")) == [".fetch", "server.qcow2"]


def test_mv_removes_its_source_only_after_the_upload(service, mounted, disk):
    """The service has all of it by then."""
    service.switches.saving_s = 1.0
    content = disk.read_bytes()
    run("mv", disk, mounted / "montreal/")
    (image,) = service.images()
    assert (image.status, service.content(image.image_id).read_bytes()) == ("active", content)
    assert not disk.exists()


def test_qemu_img_converts_into_the_mount(service, mounted, workspace, disk):
    """It makes an empty disk first, syncs and reopens it; the image is that with the content."""
    target = mounted / "roubaix/new.qcow2"
    run("qemu-img", "convert", "-O", "qcow2", disk, target)
    (image,) = service.images()
    assert (image.name, image.status) == ("new.qcow2", "active")
    run("qemu-img", "compare", disk, target)
    assert fetched(service) == ["ok"]


def test_an_empty_disk_is_uploaded_once_nobody_fills_it(service, mounted):
    """``qemu-img create`` in the mount."""
    run("qemu-img", "create", "-q", "-f", "qcow2", mounted / "toronto/empty.qcow2", "64M")
    eventually(lambda: [image.status for image in service.images()] == ["active"])
    run("sync", mounted / "toronto/empty.qcow2")
    assert text("qemu-img", "info", "--output=json", mounted / "toronto/empty.qcow2").count('"qcow2"')


def test_content_that_the_service_cannot_use_is_refused(service, mounted, workspace):
    """A raw disk or a text: the program fails, and nothing is asked of the service."""
    (workspace / "notes.txt").write_text("not an image")
    assert "Operation not supported" in refusal("cp", workspace / "notes.txt", mounted / "toronto/notes.iso")
    assert fetched(service) == []
    assert os.listdir(mounted / "toronto") == [".fetch"]
    assert "qemu-img convert -O qcow2" in mounted.log


def test_the_bytes_of_an_image_elsewhere_are_still_replicated(service, mounted, disk):
    """What the service has needs no upload."""
    service.add_image("server", "montreal", disk.read_bytes())
    run("cp", disk, mounted / "toronto/copy.qcow2")
    assert fetched(service) == []
    assert {image.region for image in service.images()} == {"toronto", "montreal"}


def test_a_refusal_reaches_the_program(service, mounted, disk):
    """With its errno; the file stays with the person."""
    service.faults.add(Fault("refused", action="fetch", value="quota exceeded"))
    mounted.may_log("quota")
    assert "Disk quota exceeded" in refusal("mv", disk, mounted / "toronto/")
    assert disk.exists()
    assert os.listdir(mounted / "toronto") == [".fetch"]


def test_an_address_that_the_service_cannot_reach_ends_clearly(service, mount, disk):
    """The program fails, the file stays, and the image says why."""
    elsewhere = free_port()
    mounted = mount(
        "--publish", f"http://127.0.0.1:{free_port()}", "--publish-listen", f"127.0.0.1:{elsewhere}"
    )
    mounted.may_log("unencrypted", "could not be uploaded", "could not make")
    assert "Input/output error" in refusal("mv", disk, mounted / "toronto/")
    assert disk.exists()
    assert "never asked for it" in mounted.xattr(mounted / "toronto/disk.qcow2", "error")


def test_ctrl_c_ends_the_wait_and_the_upload_goes_on(service, mounted, disk):
    """The image turns active all the same."""
    service.switches.saving_s = 3.0
    with started("cp", disk, mounted / "toronto/") as copying:
        eventually(lambda: fetched(service) == ["ok"])
        copying.send_signal(signal.SIGINT)
        assert copying.wait(timeout=60) != 0
    run("sync", mounted / "toronto/disk.qcow2")
    run("cmp", disk, mounted / "toronto/disk.qcow2")


def test_over_tls(service, mount, workspace, disk, monkeypatch):
    """By a certificate of the mount's own, which the service has to trust."""
    certificate, key = self_signed(workspace)
    address = f"127.0.0.1:{free_port()}"
    tls = ("--publish-cert", certificate, "--publish-key", key)
    mounted = mount("--publish", f"https://{address}", "--publish-listen", address, *tls)

    mounted.may_log("could not be uploaded", "could not make")
    assert "Input/output error" in refusal("cp", disk, mounted / "toronto/distrusted.qcow2")
    assert [image.status for image in service.images()] == ["killed"]

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    run("cp", disk, mounted / "toronto/server.qcow2")
    image = service.images()[-1]
    assert (image.name, image.status) == ("server.qcow2", "active")
    assert service.content(image.image_id).read_bytes() == disk.read_bytes()
    run("cmp", disk, mounted / "toronto/server.qcow2")
    location = [call.params["location"] for call in service.ledger.calls if call.action == "fetch"][-1]
    assert location.startswith(f"https://{address}/")


def test_status_shows_an_upload_while_it_lasts(service, mounted, disk):
    """How much of it the service has."""
    service.switches.saving_s = 3600.0
    size = disk.stat().st_size

    def uploads():
        return json.loads(mounted.xattr(mounted.path, "status"))["uploads"]

    assert uploads() == []
    with started("cp", disk, mounted / "toronto/") as copying:
        eventually(lambda: [upload["sent"] for upload in uploads()] == [size])
        (upload,) = uploads()
        (image,) = service.images()
        told = {"name": "disk.qcow2", "region": "toronto", "size": size, "sent": size, "requests": 1}
        assert upload == {"image_id": image.image_id, **told}
        shown = mounted.imagefs("status", mounted.path).stdout.decode()
        assert "toronto/disk.qcow2" in shown
        assert "the service has all of it" in shown
        eventually(lambda: service.image(image.image_id).content is not None)
        service.set_status(image.image_id, "active")
        assert copying.wait(timeout=60) == 0
    eventually(lambda: uploads() == [])


def test_the_address_is_a_secret(service, mounted, disk):
    """Neither the log nor an attribute holds it, and it is gone afterwards."""
    run("cp", disk, mounted / "toronto/")
    (call,) = [call for call in service.ledger.calls if call.action == "fetch"]
    location = call.params["location"]
    token = location.split("/")[-2]
    attributes = text("getfattr", "-d", "--absolute-names", mounted / "toronto/disk.qcow2")
    assert token not in attributes + mounted.log
    assert attempt("curl", "-sf", location).returncode != 0


def test_options_that_make_no_sense(prepare, workspace):
    """One line each, and no mount."""
    mounted = prepare()
    for options, reason in (
        (["--publish", "nonsense"], b"takes an address like"),
        (["--publish-listen", ":1"], b"go with --publish URL"),
        (
            ["--publish", "https://a.example", "--publish-cert", "/none", "--publish-key", "/none"],
            b"cannot be used",
        ),
    ):
        done = mounted.try_mount(*options)
        assert done.returncode != 0
        assert reason in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert not mounted.is_mounted


def test_a_port_that_is_taken(prepare):
    """The mount says so, and does not begin."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        mounted = prepare()
        mounted.may_log("in use")
        done = mounted.try_mount(
            "--publish", f"http://127.0.0.1:{port}", "--publish-listen", f"127.0.0.1:{port}"
        )
    assert done.returncode != 0
    assert b"in use" in done.stderr
    assert not mounted.is_mounted
