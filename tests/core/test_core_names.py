"""File names and image names: one to one, stable, and never two meanings for one path."""

import random
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagefs.core import names
from imagefs.errors import NameNotUtf8, NameTooLong

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
TRICKY_TEXT = st.lists(
    st.sampled_from(
        [
            "%",
            "4",
            "1",
            "2F",
            "~",
            "~12",
            "~=",
            "a",
            "é",
            "/",
            "\0",
            "\x85",
            "\ud800",
            "\udc00",
            ".",
            ".iso",
            "𝄞",
            "\n",
        ]
    ),
    max_size=12,
).map("".join)
SPECIAL = st.sampled_from(
    ["", ".", "..", "...", ".fetch", "%", "%%", "~", "~1", "~1.iso", ".iso", "%2Efetch", "%25"]
)
LONG_TEXT = st.builds(lambda piece, count: piece * count, TRICKY_TEXT, st.integers(1, 120))
NAMES = st.one_of(ANY_TEXT, TRICKY_TEXT, SPECIAL, LONG_TEXT)
IDS = st.one_of(
    st.integers(0, 10**9).map(str),
    st.text("abcXYZ019_-", min_size=1, max_size=64),
    st.sampled_from(["12", "1"]),
)
REGIONS_OF_IMAGES = st.dictionaries(
    IDS, st.one_of(NAMES, st.sampled_from(["b", "b~12", "b~1", "b~=a"])), max_size=8
)


def assert_valid_file_name(filename: str) -> None:
    """Fail unless the kernel would take *filename* and a terminal would survive it."""
    assert filename not in ("", ".", "..", ".fetch")
    assert not any(char == "/" or unicodedata.category(char) in ("Cc", "Cs") for char in filename)
    assert names.to_os(filename).decode() == filename


@given(NAMES)
@example("100%41")
@example("a%4/")
@example("%4\u0661")
def test_every_name_survives_the_round_trip(name: str) -> None:
    """What was encoded decodes to itself, and is a valid file name but for its length."""
    encoded = names.encode(name)
    assert names.decode(encoded) == name
    assert_valid_file_name(encoded)


@given(NAMES, NAMES)
@example("%", "")
@example("a%2Fb", "a/b")
def test_two_names_never_share_a_file_name(one: str, other: str) -> None:
    """Encoding is injective."""
    assert (names.encode(one) == names.encode(other)) == (one == other)


@given(NAMES)
def test_a_plain_name_never_reads_as_one_with_an_id(name: str) -> None:
    """``NAME~ID`` is reserved: no image's plain name has that form."""
    assert names.split_id(names.encode(name)) is None


@given(NAMES, IDS)
def test_a_name_with_id_fits_and_gives_the_id_back(name: str, image_id: str) -> None:
    """``NAME~ID`` is valid, at most 255 bytes, carries its id, and starts like the name."""
    filename = names.with_id(name, image_id)
    assert_valid_file_name(filename)
    assert len(names.to_os(filename)) <= names.MAX_NAME_BYTES
    parts = names.split_id(filename)
    assert parts is not None
    assert parts[1] == image_id


@given(
    st.sampled_from(["é", "𝄞", "/", "\x85", "\ud800", "%41", "a"]),
    st.integers(0, 3),
    st.sampled_from(["", ".iso"]),
)
def test_a_long_name_is_cut_between_characters_and_keeps_its_extension(
    piece: str, offset: int, extension: str
) -> None:
    """Shortening never splits a character or its escape, and leaves little room unused."""
    name = "x" * offset + piece * 300
    filename = names.with_id(name + extension, "141119")
    assert filename.endswith("~141119" + extension)
    assert name.startswith(names.decode(filename.removesuffix("~141119" + extension)))
    assert names.MAX_NAME_BYTES - len(names.to_os(filename)) < 9


@pytest.mark.parametrize("repeated", ["a", "\x01", "%41", "~1", "\u20ac", "\udc80", "a/"])
def test_a_name_of_any_length_is_shown_by_its_ends(repeated: str) -> None:
    """The service may send tens of millions of characters, and nothing else is done while a table is made."""
    shown = names.file_name(repeated * 2_000_000 + ".iso", "7", ambiguous=False)
    assert shown == names.file_name(repeated * 400 + ".iso", "7", ambiguous=False)
    assert names.encode(repeated * 400).startswith(shown.removesuffix("~7.iso"))


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("debian-12.iso", "debian-12.iso"),
        ("Arch Linux 2017-02-23 64-bit (ISO)", "Arch Linux 2017-02-23 64-bit (ISO)"),
        ("a/b", "a%2Fb"),
        ("nul\0del\x7fc1\x85", "nul%00del%7Fc1%C2%85"),
        ("\ud800", "%ED%A0%80"),
        ("100% sure", "100% sure"),
        ("100%41", "100%2541"),
        ("%", "%25"),
        ("", "%"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "..."),
        (".fetch", "%2Efetch"),
        (".fetch2", ".fetch2"),
        ("b~12", "b%7E12"),
        ("b~12.iso", "b%7E12.iso"),
        ("b~12.ISO", "b%7E12.ISO"),
        ("b~12.tar", "b~12.tar"),
        ("b~12.i\u017fo", "b~12.i\u017fo"),
        ("1.0~rc1.iso", "1.0~rc1.iso"),
        ("b~=x", "b%7E=x"),
        ("~", "~"),
    ],
)
def test_documented_encodings(name: str, encoded: str) -> None:
    """Each rule of the mapping, spelled out."""
    assert names.encode(name) == encoded


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("b~12", "b~12"),
        ("a%2fb", "a/b"),
        ("%FF", "%FF"),
        ("%41%FF%42", "A%FFB"),
        ("%C3", "%C3"),
        ("%C3%A9", "é"),
        ("100%", "100%"),
        ("%4", "%4"),
        ("line\nbreak", "line\nbreak"),
    ],
)
def test_names_that_were_never_encoded_decode_sensibly(filename: str, name: str) -> None:
    """A file name made up by a person means what it says; malformed escapes stay."""
    assert names.decode(filename) == name


def test_the_id_stands_before_a_known_extension() -> None:
    """Programs still recognise the file by its extension."""
    assert names.with_id("Arch Linux.iso", "84473") == "Arch Linux~84473.iso"
    assert names.with_id("disk.QCOW2", "7") == "disk~7.QCOW2"
    assert names.with_id("Arch Linux", "84473") == "Arch Linux~84473"
    assert names.with_id("archive.tar", "84473") == "archive.tar~84473"
    assert names.split_id("Arch Linux~84473.iso") == ("Arch Linux.iso", "84473")
    assert names.split_id("Arch Linux.iso") is None


def test_names_from_the_kernel_are_checked() -> None:
    """A name that is not UTF-8 and one that is too long are told apart."""
    assert names.from_os("é".encode()) == "é"
    assert names.from_os(b"x" * 255) == "x" * 255
    with pytest.raises(NameTooLong):
        names.from_os(b"x" * 256)
    with pytest.raises(NameNotUtf8):
        names.from_os(b"\xff")
    with pytest.raises(NameNotUtf8):
        names.from_os(b"\xed\xa0\x80")


@given(REGIONS_OF_IMAGES, st.randoms(use_true_random=False))
def test_a_directory_does_not_depend_on_the_listing_order(
    images: dict[str, str], shuffler: random.Random
) -> None:
    """Every image has one name of its own, whatever order the service lists in."""
    rows = list(images.items())
    listed = names.directory(rows)
    shuffler.shuffle(rows)
    assert names.directory(rows) == listed
    assert sorted(listed.values()) == sorted(images)
    for filename in listed:
        assert_valid_file_name(filename)
        assert len(names.to_os(filename)) <= names.MAX_NAME_BYTES


@given(REGIONS_OF_IMAGES)
def test_listed_names_and_names_with_id_resolve_to_their_image(images: dict[str, str]) -> None:
    """Each image is found under the name shown and under its ``NAME~ID``."""
    table = names.NameTable(images.items())
    assert sorted(table.listed.values()) == sorted(images)
    for filename, image_id in table.listed.items():
        assert table.resolve(filename) == image_id
        assert table.resolve(names.with_id(images[image_id], image_id)) == image_id


@given(REGIONS_OF_IMAGES, NAMES)
def test_a_name_that_resolves_is_that_of_the_image(images: dict[str, str], asked: str) -> None:
    """No file name means an image that is called something else."""
    found = names.NameTable(images.items()).resolve(asked)
    if found is not None:
        name = images[found]
        assert asked == names.with_id(name, found) or names.decode(asked) == name


def test_an_id_means_its_image_under_its_own_name_only() -> None:
    """What an image was called before, or is called elsewhere, with its id is no name of it."""
    table = names.NameTable([("12", "a.iso"), ("13", "b")])
    assert table.resolve("a~12.iso") == "12"
    assert table.resolve("b~12.iso") is None
    assert table.resolve("b~12") is None
    assert table.resolve("a~12") is None


@given(REGIONS_OF_IMAGES, st.dictionaries(IDS, NAMES, max_size=4))
def test_a_path_never_silently_means_another_image(images: dict[str, str], more: dict[str, str]) -> None:
    """Images that come and go may hide a path, but never turn it to another image that was there already."""
    before = names.NameTable(images.items())
    after = names.NameTable((images | {key: name for key, name in more.items() if key not in images}).items())
    for filename, image_id in before.listed.items():
        assert after.resolve(filename) in (image_id, None) or after.resolve(filename) not in images


def test_shared_names_all_carry_their_id() -> None:
    """None of the images that share a name keeps the plain one, which then means no image."""
    table = names.NameTable([("1", "a.iso"), ("2", "b.iso"), ("3", "a.iso")])
    assert table.listed == {"a~1.iso": "1", "b.iso": "2", "a~3.iso": "3"}
    assert table.resolve("a.iso") is None
    assert table.resolve("b~2.iso") == "2"
    assert table.resolve("b~1.iso") is None
    assert table.resolve("b~9.iso") is None


def test_an_image_named_like_the_name_with_id_of_another_is_told_apart() -> None:
    """A hostile name cannot take the path of another image."""
    table = names.NameTable([("12", "b"), ("5", "b~12")])
    assert table.listed == {"b": "12", "b%7E12": "5"}
    assert table.resolve("b~12") == "12"
    assert table.resolve("b%7E12") == "5"


def test_a_created_name_finds_the_image_that_it_became() -> None:
    """The name that a tool asked for goes on working where the listed one is written differently."""
    table = names.NameTable([("5", "b~12"), ("6", "line\nbreak"), ("7", ".fetch")])
    assert table.resolve("b~12") == "5"
    assert table.resolve("line\nbreak") == "6"
    assert table.resolve("%2Efetch") == "7"
    assert table.resolve(".fetch") is None


@given(st.lists(NAMES, max_size=6))
def test_regions_from_outside_become_valid_directories(regions: list[str]) -> None:
    """Any region name has a directory of its own that resolves to it."""
    table = names.region_directory(["toronto", *regions])
    assert table.resolve("toronto") == "toronto"
    assert set(table.listed.values()) == {"toronto", *regions}
    for filename, region in table.listed.items():
        assert_valid_file_name(filename)
        assert len(names.to_os(filename)) <= names.MAX_NAME_BYTES
        assert table.resolve(filename) == region
        assert names.lasting_path(region, "a", "1") == f"{filename}/a~1"


@given(REGIONS_OF_IMAGES, REGIONS_OF_IMAGES)
def test_a_table_made_from_an_earlier_one_is_as_if_made_anew(
    before: dict[str, str], after: dict[str, str]
) -> None:
    """Names are taken over where nothing about them changed, those shared with another image included."""
    for images in (after, {**before, **after}, {**after, **before}):
        table = names.NameTable(before.items()).successor(images.items())
        anew = names.NameTable(images.items())
        assert list(table.listed.items()) == list(anew.listed.items())
        for image_id, name in {**before, **after}.items():
            for filename in (name, names.encode(name), names.with_id(name, image_id)):
                assert table.resolve(filename) == anew.resolve(filename)


def test_rsync_s_copy_of_the_control_file_is_known() -> None:
    """By the name that it has until it is renamed."""
    assert names.is_copy_of_control(".fetch.V0XsS5")
    assert not any(map(names.is_copy_of_control, (".fetch", ".fetch.swp", ".fetch.V0XsS5.iso", "a.V0XsS5")))
