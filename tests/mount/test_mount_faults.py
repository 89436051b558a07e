"""Transfers that go wrong: a reader gets the image's bytes or an error, never anything else."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from mount_programs import attempt, eventually, refusal, run

from imagefs.emulator import Fault

MIB = 1 << 20
SIZE = 3 * MIB + 777

ANY_FAILURE = "cannot be fetched|^.* read: |The content of image|sends other bytes|is gone from the account"
"""What the log may say of a transfer that failed."""

PASSING = {
    "reset": Fault("reset", after_bytes=700_000),
    "reset at once": Fault("reset"),
    "closed early": Fault("close", after_bytes=700_000),
    "wrong length": Fault("length_wrong", value=-100),
    "greater length": Fault("length_wrong", value=100),
    "trailing bytes": Fault("trailing_bytes", value=100),
    "encoded": Fault("gzip"),
    "wrong range": Fault("wrong_content_range"),
    "range ignored": Fault("range_ignored"),
    "no length": Fault("no_length"),
    "garbage": Fault("garbage_status_line"),
    "too many headers": Fault("header_flood"),
    "429": Fault("status", status=429, retry_after="1", times=2),
    "503": Fault("status", status=503, retry_after="0", times=2),
    "500": Fault("status", status=500),
    "slow": Fault("delayed", value=0.5),
}
"""Faults that a transfer gets over by trying again."""

LASTING = {
    "JSON in place": Fault("json_content", value="image is being moved", times=None),
    "a refusal": Fault("refused", value="image is being moved", times=None),
    "HTML in place": Fault("html_content", times=None),
    "HTML page": Fault("html", times=None),
    "encoded": Fault("gzip", times=None),
    "wrong length": Fault("length_wrong", value=-1, times=None),
    "redirect": Fault("redirect", value="http://127.0.0.1:1/", times=None),
}
"""Faults that stay, and bring nothing that could be content."""

SERVERS = [pytest.param(True, "length", id="range"), pytest.param(False, "chunked", id="no range, chunked")]
"""Servers that differ most in how a transfer goes on after a fault."""


@pytest.fixture
def image_id(service):
    """An image of some mebibytes."""
    return service.add_synthetic("a", "toronto", SIZE)


@pytest.mark.parametrize(("ranged", "framing"), SERVERS)
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_is_got_over(service, mount, image_id, fault, ranged, framing):
    """A transfer that is struck once is taken up again, and the copy is right."""
    service.switches.turn({"range": ranged, "framing": framing})
    service.faults.add(fault)
    assert run("cat", mount() / "toronto/a") == service.content(image_id).read_bytes()


@pytest.mark.parametrize("fault", LASTING.values(), ids=LASTING)
def test_what_is_no_content_is_never_served(service, mount, image_id, fault):
    """The reader gets EIO and no byte, nothing is cached, and the file says why; later all is well."""
    service.switches.range = fault.kind in ("json_content", "length_wrong", "redirect")
    service.faults.add(fault)
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    file = mounted / "toronto/a"
    done = attempt("cat", file)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Input/output error" in done.stderr or b"Remote I/O error" in done.stderr
    assert mounted.xattr(file, "cached") == "0"
    assert (fault.value if fault.kind in ("json_content", "refused") else "a") in mounted.xattr(file, "error")

    service.faults.clear()
    eventually(lambda: attempt("cat", file).returncode == 0)
    assert run("cat", file) == service.content(image_id).read_bytes()


def test_an_unasked_part_is_refused(service, mount):
    """A 206 to a request without a range is not taken for the whole."""
    image_id = service.add_synthetic("small", "toronto", 1000)
    service.faults.add(Fault("unasked_206", after_bytes=10))
    assert run("cat", mount() / "toronto/small") == service.content(image_id).read_bytes()


@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
def test_a_small_refusal_of_the_right_length_is_no_content(service, mount, ranged):
    """Even an answer that has the image's length is looked at before it is believed."""
    service.switches.range = ranged
    refused = b'{"success": "no", "error": "busy"}'
    service.add_image("a", "toronto", b"x" * len(refused))
    service.faults.add(Fault("json_content", value="busy", times=None))
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    assert "error" in refusal("cat", mounted / "toronto/a")
    assert ("MD5" if ranged else "busy") in mounted.xattr(mounted / "toronto/a", "error")


def test_a_wrong_range_is_refused(service, mount, image_id):
    """A 206 with another range than the one asked for brings nothing."""
    service.faults.add(Fault("wrong_content_range", times=None))
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    assert "Input/output error" in refusal("cat", mounted / "toronto/a")
    assert mounted.xattr(mounted / "toronto/a", "cached") == "0"


def test_a_body_that_just_ends_is_not_the_end(service, mount, image_id):
    """Without a length, an early end looks like the end of the content, and is not taken for it."""
    service.switches.turn({"range": False, "framing": "close"})
    service.faults.add(Fault("close", after_bytes=700_000))
    assert run("cat", mount() / "toronto/a") == service.content(image_id).read_bytes()


@pytest.mark.parametrize("at", [0, MIB - 1])
@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
def test_a_corrupt_transfer_never_becomes_a_wrong_copy(service, mount, image_id, ranged, at):
    """A byte that is wrong once costs a second fetch, and maybe this copy, but no copy is wrong."""
    service.switches.range = ranged
    service.faults.add(Fault("corrupt_byte", after_bytes=at))
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    file, content = mounted / "toronto/a", service.content(image_id).read_bytes()
    done = attempt("cat", file)
    if done.returncode == 0:
        assert done.stdout == content
    assert "MD5" in mounted.log
    assert run("cat", file) == content


def test_a_corrupt_transfer_that_nobody_saw_is_mended_silently(service, mount):
    """Where nothing of the wrong content was delivered yet, the reader gets the right one."""
    image_id = service.add_synthetic("a", "toronto", 4096)
    service.faults.add(Fault("corrupt_byte", after_bytes=4000))
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()


@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
def test_content_that_is_always_wrong_cannot_be_copied(service, mount, image_id, ranged, tmp_path):
    """Wrong twice is EIO, for everybody, and the checksums are told."""
    service.switches.range = ranged
    service.set_details(image_id, checksum="0" * 32)
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    file = mounted / "toronto/a"
    assert "Input/output error" in refusal("cp", file, tmp_path / "copy")
    assert "Input/output error" in refusal("md5sum", file)
    assert "0" * 32 in mounted.xattr(file, "error")


@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
def test_another_images_content_is_not_taken(service, mount, image_id, ranged):
    """Content of the right length, from another image, is found out."""
    service.switches.range = ranged
    other = service.add_synthetic("b", "toronto", SIZE, seed=1)
    service.faults.add(Fault("other_image", image_id=image_id, value=other, times=None))
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    assert "Input/output error" in refusal("md5sum", mounted / "toronto/a")
    assert run("cat", mounted / "toronto/b") == service.content(other).read_bytes()


def test_content_mixed_of_two_images_is_not_taken(service, mount, image_id):
    """One part of another image among right ones is found out, and a new read is right."""
    other = service.add_synthetic("b", "toronto", SIZE, seed=1)
    file = (mounted := mount()) / "toronto/a"
    mounted.may_log(ANY_FAILURE)
    run("head", "-c", "1000", file)
    service.faults.add(Fault("other_image", image_id=image_id, value=other))
    content = service.content(image_id).read_bytes()
    done = attempt("cat", file)
    assert done.returncode != 0 or done.stdout == content
    assert run("cat", file) == content


def test_a_transfer_cut_again_and_again_gets_through(service, mount, image_id):
    """As long as each attempt brings something, the reader gets everything."""
    service.faults.add(Fault("reset", after_bytes=400_000, times=5))
    assert run("cat", mount() / "toronto/a") == service.content(image_id).read_bytes()


def test_the_service_going_away_and_coming_back(service, mount):
    """A short outage in the middle of a transfer is waited for."""
    service.switches.rate_bytes_per_s = 8 * MIB
    image_id = service.add_synthetic("a", "toronto", 16 * MIB)
    file = mount() / "toronto/a"
    copied: list[bytes] = []
    reader = threading.Thread(target=lambda: copied.append(run("cat", file)))
    reader.start()
    eventually(lambda: service.ledger.bytes_retrieved() > 2 * MIB)
    service.stop()
    service.start()
    reader.join(60)
    assert copied == [service.content(image_id).read_bytes()]


def test_an_image_that_vanishes_while_it_is_read(service, mount):
    """What is complete goes on being read; the rest is ESTALE, and never something else."""
    image_id = service.add_synthetic("a", "toronto", 16 * MIB)
    content = service.content(image_id).read_bytes()
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    descriptor = os.open(mounted / "toronto/a", os.O_RDONLY)
    try:
        assert os.pread(descriptor, 4096, 0) == content[:4096]
        service.remove_image(image_id)
        with pytest.raises(OSError) as caught:
            os.pread(descriptor, 4096, 8 * MIB)
        assert caught.value.errno == errno.ESTALE
        assert os.pread(descriptor, 4096, 100_000) == content[100_000:104_096]
    finally:
        os.close(descriptor)


def test_an_image_whose_content_changes_while_it_is_read(service, mount):
    """A reader gets the old bytes or an error, never a mix of old and new."""
    old = os.urandom(SIZE)
    image_id = service.add_image("a", "toronto", old)
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    file = mounted / "toronto/a"
    with file.open("rb", buffering=0) as reader:
        assert reader.read(4096) == old[:4096]
        service.change_content(image_id, os.urandom(SIZE))
        done = attempt("dd", f"if={file}", "bs=64k")
        assert done.returncode != 0 or done.stdout == old


@pytest.mark.parametrize("status", ["queued", "saving", "never heard of"])
def test_a_pending_image_says_try_again(service, mount, status):
    """Its mode is 0000, and opening it is EAGAIN."""
    service.add_image("a", "toronto", b"abc", status=status)
    file = mount() / "toronto/a"
    assert file.stat().st_mode & 0o777 == 0
    assert "Resource temporarily unavailable" in refusal("cat", file)
    assert service.ledger.count("retrieve") == 0


@pytest.mark.parametrize("status", ["killed", "error"])
def test_a_failed_image_says_so(service, mount, status):
    """Opening it is EIO, with the reason on the file."""
    service.add_image("a", "toronto", b"abc", status=status)
    mounted = mount()
    assert "Input/output error" in refusal("cat", mounted / "toronto/a")
    assert status in mounted.xattr(mounted / "toronto/a", "error")
    assert service.ledger.count("retrieve") == 0


def test_listings_survive_an_outage(service, mount):
    """While the service cannot be reached, what is known is shown and what is cached is read."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    mounted.may_log("cannot be reached|refresh|listing|Unreachable|refused")
    assert run("cat", mounted / "toronto/a") == b"abc"
    service.stop()
    assert run("ls", "-l", mounted / "toronto").count(b"a\n") == 1
    assert run("cat", mounted / "toronto/a") == b"abc"
