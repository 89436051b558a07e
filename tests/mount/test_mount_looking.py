"""Looking instead of reading: what file managers ask for costs the beginning of an image, or nothing."""

from __future__ import annotations

import pytest
from mount_programs import attempt, run, text

MIB = 1 << 20
SIZE = 32 * MIB
A_LOOK = 2 * MIB
"""The most that may be fetched to tell what an image is."""


@pytest.fixture
def looked_at(service, workspace, mount):
    """A mount with images of 32 MiB in each format, with and without a telling name."""
    sources = {kind: workspace / kind for kind in ("iso", "qcow2")}
    with sources["iso"].open("wb") as iso:
        iso.truncate(SIZE)
        iso.seek(16 * 2048)
        iso.write(b"\1CD001\1")  # ECMA-119, 8.4: the first volume descriptor
    run("qemu-img", "create", "-q", "-f", "qcow2", sources["qcow2"], "1G")
    with sources["qcow2"].open("r+b") as qcow2:
        qcow2.truncate(SIZE)
    for kind, source in sources.items():
        service.add_image(f"named.{kind}", "toronto", source)
        service.add_image(f"plain {kind}", "montreal", source.read_bytes() + b"other")
    return mount()


def type_of(file):
    """The content type that a file manager of GNOME shows."""
    return text("gio", "info", "-a", "standard::content-type", file).splitlines()[-1].split(": ")[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("toronto/named.iso", {"application/x-cd-image", "application/vnd.efi.iso"}),
        ("toronto/named.qcow2", {"application/x-qemu-disk"}),
        ("montreal/plain qcow2", {"application/x-qemu-disk"}),
    ],
)
def test_a_file_manager_knows_the_type(service, looked_at, name, expected):
    """By its name or its first bytes, without fetching the image; releases differ in what they call it."""
    assert type_of(looked_at / name) in expected
    assert service.ledger.bytes_retrieved() <= A_LOOK


def test_a_file_manager_shows_a_folder(service, looked_at):
    """With size, date and icon, which is what it takes to draw it: nothing is fetched for a look by name alone."""
    for region in ("toronto", "montreal"):
        attributes = "standard::fast-content-type,standard::size,time::modified,access::*,owner::*"
        listing = text("gio", "list", "--long", "-a", attributes, looked_at / region)
        assert str(SIZE) in listing or str(SIZE + 5) in listing
    assert service.ledger.bytes_retrieved() == 0


@pytest.mark.parametrize("command", [("qemu-img", "info"), ("blkid", "-p")])
def test_programs_that_tell_what_it_is(service, looked_at, command):
    """They look further than file managers, and still at a small part."""
    run(*command, looked_at / ("toronto/named.iso" if command[0] == "blkid" else "montreal/plain qcow2"))
    assert service.ledger.bytes_retrieved() <= 8 * MIB


def indexed_by_recoll(place, folder):
    """Have recollindex(1) index all that is in *place*; it keeps its own files in *folder*."""
    folder.mkdir()
    (folder / "recoll.conf").write_text(f"topdirs = {place.path}\nskippedPaths =\nnoaspell = 1\n")
    return attempt("recollindex", "-c", folder)


def test_an_indexer_takes_nothing(service, looked_at, workspace):
    """It finds the names, and no content of theirs; the log says who was refused what."""
    indexed_by_recoll(looked_at, workspace / "recoll")
    assert service.ledger.bytes_retrieved() == 0
    assert "is not read by recollindex, unless with --allow-indexers" in looked_at.log
    assert "named.iso" in text("recollq", "-c", workspace / "recoll", "-b", "dir:toronto")


def test_an_indexer_that_may(service, looked_at, workspace):
    """The programs that it starts read mebibytes of an image, and whole ones."""
    looked_at.remount("--allow-indexers")
    indexed_by_recoll(looked_at, workspace / "recoll")
    assert service.ledger.bytes_retrieved() > 4 * MIB


def test_no_thumbnail_is_made(service, looked_at, workspace):
    """A maker of thumbnails would read an image whole, as its name may promise anything."""
    picture = workspace / "thumbnail.png"
    for image in ("toronto/named.iso", "montreal/plain qcow2"):
        assert b"ermission denied" in attempt("gdk-pixbuf-thumbnailer", looked_at / image, picture).stderr
    assert not picture.exists()
    assert service.ledger.bytes_retrieved() == 0
    looked_at.remount("--allow-indexers")
    attempt("gdk-pixbuf-thumbnailer", looked_at / "toronto/named.iso", picture)
    assert service.ledger.bytes_retrieved() > 0


def test_the_search_for_names_takes_names(service, looked_at, workspace):
    """updatedb(8) finds each image, and asks for no content and no details; it passes by what its PRUNEFS names."""
    database = workspace / "names"
    update = ("updatedb", "-l", "no", "-U", workspace / "a", "-o", database, "--prunepaths", "")
    run(*update, "--prunefs", "")
    assert text("plocate", "-d", database, "named.iso") == str(looked_at / "toronto/named.iso")
    run(*update, "--prunefs", "fuse.imagefs")
    assert attempt("plocate", "-d", database, "named.iso").returncode == 1
    assert service.ledger.bytes_retrieved() == 0
