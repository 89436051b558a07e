"""The index: what is remembered of accounts, damage, versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from store_cases import MIB, block_bytes, key_of, open_cache, present_blocks, write, write_all

from imagefs.core.models import ImageDetails, ListedImage
from imagefs.errors import CacheFull, CacheUnusable
from imagefs.store.block_table import SegmentRow
from imagefs.store.index import ContentRecord, Index, SavedListing
from imagefs.store.saved_json import dump_details, dump_listing, load_details, load_listing
from imagefs.store.schema import INDEX

VERSION_OFFSET = 60
"""Where SQLite keeps ``user_version`` (sqlite.org/fileformat.html), by which a newer version is refused."""

texts = st.text(st.characters(), max_size=12)
listed_images = st.builds(ListedImage, texts, texts, texts, texts)
image_details = st.builds(
    ImageDetails,
    image_id=texts,
    name=texts,
    region=texts,
    status=texts,
    size_bytes=st.none() | st.integers(),
    checksum=st.none() | texts,
    time_created_ns=st.none() | st.integers(),
    fields=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
    problem=st.none() | texts,
)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """A fresh index."""
    opened = Index(tmp_path / "index")
    yield opened
    opened.close()


def corrupt_rows(path: Path, statement: str) -> None:
    """Change the closed index at *path* behind its back."""
    connection = sqlite3.connect(path)
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()


@given(st.lists(listed_images, max_size=5))
def test_listings_survive_json(images: list[ListedImage]) -> None:
    """Any texts come back as they were, lone surrogates included."""
    assert load_listing(dump_listing(images)) == tuple(images)


@given(image_details)
def test_details_survive_json(details: ImageDetails) -> None:
    """Any details come back equal."""
    assert load_details(dump_details(details)) == details


def test_an_account_is_remembered(tmp_path: Path, index: Index) -> None:
    """Listing, details and local times of one account come back after a restart, apart from another's."""
    images = (ListedImage("1", "a\udc80/\x00", "toronto", "active"),)
    details = ImageDetails("\udcff", "n", "r", "active", 10**40, None, -1, (("k", "v"),), "odd")
    index.save_listing("me", images, 77)
    index.save_details("me", [details])
    index.set_mtime("me", "1", 10**30)
    index.set_mtime("me", "2", -5)
    index.set_mtime("me", "2", None)
    index.close()
    again = Index(tmp_path / "index")
    assert again.load_listing("me") == SavedListing(images, 77)
    assert again.load_details("me") == {"\udcff": details}
    assert again.load_mtimes("me") == {"1": 10**30}
    assert again.load_listing("you") is None
    assert again.load_details("you") == {}
    again.forget_details("me", ["\udcff", "unknown"])
    assert again.load_details("me") == {}
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE listing SET fetched_ns = fetched_ns + 1",
        "UPDATE details SET fields = x'7b7d'",
        "UPDATE details SET image_id = x'32'",
        "UPDATE local_time SET mtime_ns = '5'",
    ],
)
def test_a_changed_row_counts_as_absent(tmp_path: Path, statement: str) -> None:
    """A row that does not fit its seal is as if it were not there; the others stay."""
    path = tmp_path / "index"
    index = Index(path)
    index.save_listing("me", [], 1)
    index.save_details("me", [ImageDetails("1", "n", "r", "active", 1, None, None)])
    index.set_mtime("me", "1", 3)
    index.close()
    corrupt_rows(path, statement)
    again = Index(path)
    found = [again.load_listing("me"), again.load_details("me"), again.load_mtimes("me")]
    assert sum(not each for each in found) == 1
    again.close()


def test_a_changed_segment_is_dropped_alone(path: Path) -> None:
    """A segment whose row was changed is absent, and its blocks can be written again; other segments stay."""
    key = key_of(1, 16 * MIB)
    cache = open_cache(path)
    content = cache.content(key)
    write_all(content)
    content.mark_verified()
    cache.close()
    corrupt_rows(path / "index", "UPDATE segment SET sums = zeroblob(512) WHERE number = 1")
    cache = open_cache(path)
    content = cache.content(key)
    assert present_blocks(content) == set(range(64))
    assert content.sum_of(64) is None
    assert not content.verified
    write(content, 64, 128)
    content.mark_verified()
    cache.close()
    cache = open_cache(path)
    assert len(present_blocks(cache.content(key))) == 128
    cache.close()


def test_a_changed_content_is_dropped(path: Path) -> None:
    """A content whose row was changed is gone with its file; another stays."""
    cache = open_cache(path)
    for number in (1, 2):
        content = cache.content(key_of(number, MIB))
        write_all(content)
        content.mark_verified()
        content.close()
    cache.close()
    corrupt_rows(path / "index", "UPDATE content SET verified = 2 WHERE name LIKE '%1-1048576'")
    cache = open_cache(path)
    assert cache.usage().contents == 1
    assert cache.cached_bytes(key_of(2, MIB)) == MIB
    assert len([entry for entry in (path / "content").rglob("*") if entry.is_file()]) == 1
    cache.close()


def test_a_newer_version_is_left_alone(path: Path) -> None:
    """An index of a newer version is refused and kept as it is."""
    open_cache(path).close()
    connection = sqlite3.connect(path / "index")
    connection.execute(f"PRAGMA user_version = {INDEX.version + 1}")
    connection.close()
    before = (path / "index").read_bytes()
    with pytest.raises(CacheUnusable, match="newer version"):
        open_cache(path)
    assert (path / "index").read_bytes() == before


def other_database(path: Path) -> None:
    """Put another program's database at *path*."""
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE content (name)")
    connection.close()


def garbage(path: Path) -> None:
    """Put something that is no database at *path*."""
    path.write_bytes(b"no database at all" * 500)


def flipped_header(path: Path) -> None:
    """Flip bits in the page that holds the tables' definitions."""
    raw = bytearray(path.read_bytes())
    raw[100:140] = bytes(byte ^ 0xFF for byte in raw[100:140])
    path.write_bytes(raw)


def changed_table(path: Path) -> None:
    """Take a column away."""
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE details DROP COLUMN fields")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("damage", [other_database, garbage, flipped_header, changed_table])
def test_a_damaged_index_is_begun_anew(path: Path, damage: object) -> None:
    """Whatever cannot be trusted is kept aside, said, and replaced; all content is gone, and the cache works."""
    cache = open_cache(path)
    content = cache.content(key_of(1, MIB))
    write_all(content)
    cache.close()
    for _ in range(5):
        assert callable(damage)
        damage(path / "index")
        cache = open_cache(path)
        assert "index was damaged" in cache.problems[0]
        assert cache.usage().cached_bytes == 0
        content = cache.content(key_of(1, MIB))
        assert not present_blocks(content)
        write_all(content)
        cache.close()
    assert len(list(path.glob("index.damaged-*"))) == 3


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 1 << 30), bit=st.integers(0, 7))
def test_any_flipped_bit_is_survived(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    """With any one bit of the index flipped, the cache opens and serves only blocks with the right bytes."""
    path = tmp_path_factory.mktemp("flipped")
    cache = open_cache(path)
    key = key_of(1, MIB + 1)
    content = cache.content(key)
    write_all(content)
    content.mark_verified()
    cache.index.save_listing("me", [ListedImage("1", "n", "r", "active")], 1)
    cache.close()
    raw = bytearray((path / "index").read_bytes())
    raw[place % len(raw)] ^= 1 << bit
    (path / "index").write_bytes(raw)
    assume(not VERSION_OFFSET <= place % len(raw) < VERSION_OFFSET + 4)
    cache = open_cache(path)
    try:
        content = cache.content(key)
        for block in present_blocks(content):
            if content.check_block(block):
                assert content.read(block * 131072, 1) == block_bytes(key, block)[:1]
        write_all(content)
        listing = cache.index.load_listing("me")
        assert listing is None or listing.images[0].name == "n"
    finally:
        cache.close()


def test_failures_are_told_in_the_stores_terms(tmp_path: Path, index: Index) -> None:
    """A full database raises CacheFull and undoes the change; a closed one raises CacheUnusable."""
    with index.database.transaction() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    record = ContentRecord("name", key_of(1, 1 << 30), verified=False)
    rows = [SegmentRow(number, 0, 0, bytes(8), bytes(8), bytes(512)) for number in range(100)]
    with pytest.raises(CacheFull):
        index.save_content(record, rows)
    assert index.load_contents() == {}
    index.close()
    with pytest.raises(CacheUnusable):
        index.load_contents()
