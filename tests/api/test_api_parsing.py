"""Answers to models: what is wrong costs itself, never its neighbours."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefs.api import parsing
from imagefs.core.models import LARGEST_IMAGE_BYTES, ListedImage, Phase
from imagefs.errors import MalformedAnswer

GOOD = {"image_id": "1", "name": "a", "region": "toronto", "status": "active"}

DOCUMENTED_DETAILS = {
    "cache_mode": "writeback",
    "checksum": "0a5352e3568bc893a9f7b65192caf1e1",
    "disk_format": "iso",
    "is_read_only": "no",
    "metadata": [],
    "name": "myimage",
    "region": "toronto",
    "size": "305135616",
    "status": "active",
    "time_created": "2018-12-17T00:23:09.000000",
}


def details(**fields):
    """The model of the documented details with some fields changed."""
    return details_of({**DOCUMENTED_DETAILS, **fields})


def details_of(fields):
    """The model of these details, by way of JSON."""
    return parsing.image_details("141119", parsing.answer_object(json.dumps({"details": fields}).encode()))


def listing(*rows):
    """The listing of these rows, by way of JSON."""
    return parsing.listing(parsing.answer_object(json.dumps({"images": rows}).encode()))


def test_the_documented_details():
    """The example of the page."""
    image = details()
    assert (image.image_id, image.name, image.region, image.phase) == (
        "141119",
        "myimage",
        "toronto",
        Phase.ACTIVE,
    )
    assert (image.size_bytes, image.checksum) == (305135616, "0a5352e3568bc893a9f7b65192caf1e1")
    assert image.time_created_ns == 1545006189 * 10**9
    assert image.problem is None
    assert image.fields[:2] == (("cache_mode", "writeback"), ("checksum", "0a5352e3568bc893a9f7b65192caf1e1"))
    assert dict(image.fields)["metadata"] == "[]"


def test_details_may_lack_everything():
    """Older answers lack fields; what is missing is empty."""
    image = details_of({})
    assert (image.name, image.region, image.status, image.fields) == ("", "", "", ())
    assert (image.size_bytes, image.checksum, image.time_created_ns) == (None, None, None)
    assert "no size" in image.problem


def test_unknown_fields_are_kept_as_text():
    """Whatever their type."""
    fields = dict(details(metadata="", answer=42, ratio=0.5, deep={"a": [1]}, no=None, yes=True).fields)
    assert fields["metadata"] == ""
    assert (fields["answer"], fields["ratio"], fields["no"], fields["yes"]) == ("42", "0.5", "", "true")
    assert json.loads(fields["deep"]) == {"a": ["1"]}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("0", 0),
        (0, 0),
        (305135616, 305135616),
        (305135616.0, 305135616),
        ("305135616.00", 305135616),
        (str(LARGEST_IMAGE_BYTES), LARGEST_IMAGE_BYTES),
    ],
)
def test_sizes_come_as_texts_or_numbers(size, expected):
    """Both are read alike."""
    assert details(size=size).size_bytes == expected


@pytest.mark.parametrize(
    "size",
    [
        "-1",
        -1,
        LARGEST_IMAGE_BYTES + 1,
        2**60,
        "9" * 5000,
        "1e9",
        1e30,
        "5.5",
        "5.",
        1e13,
        "0x10",
        "1_000",
        " 5",
        "٣",
        "",
        None,
        [],
        {},
        True,
        float("nan"),
    ],
)
def test_a_size_that_makes_no_sense_is_a_problem_of_that_image(size):
    """Nothing is guessed."""
    image = details(size=size)
    assert image.size_bytes is None
    assert "size" in image.problem
    assert image.name == "myimage"


def test_a_size_that_is_a_number_but_too_large_is_told_apart():
    """It may be true: an image of that size is just not served."""
    assert "more than 4 TiB" in details(size=LARGEST_IMAGE_BYTES + 1).problem


@pytest.mark.parametrize("checksum", ["x" * 32, "0" * 31, "0" * 40, 5, [], "0" * 32 + "\n"])
def test_a_checksum_that_is_no_md5_is_a_problem(checksum):
    """Content could not be checked against it."""
    image = details(checksum=checksum)
    assert image.checksum is None
    assert "checksum" in image.problem


def test_a_checksum_is_lower_case():
    """So that equal contents have equal keys."""
    assert details(checksum="AB" * 16).checksum == "ab" * 16
    assert details(checksum="").problem is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00", 0),
        ("2018-12-17T00:23:09", 1545006189 * 10**9),
        ("2018-12-17T00:23:09.000001", 1545006189 * 10**9 + 1000),
        ("2018-12-17 00:23:09", 1545006189 * 10**9),
        ("2018-12-17T00:23:09Z", 1545006189 * 10**9),
        ("2018-12-17T02:23:09+02:00", 1545006189 * 10**9),
        ("1960-01-01T00:00:00", None),
        ("9999-12-31T23:59:59-23:59", 253402387139 * 10**9),
        ("1545006189", 1545006189 * 10**9),
        (1545006189, 1545006189 * 10**9),
        ("1545006189.5", 1545006189 * 10**9 + 500_000_000),
        ("Mon, 17 Dec 2018 00:23:09 GMT", 1545006189 * 10**9),
        ("Mon, 17 Dec 2018 02:23:09 +0200", 1545006189 * 10**9),
        ("9" * 5000, None),
        ("yesterday", None),
        ("", None),
        (5, None),
        (None, None),
    ],
)
def test_times_are_utc(text, expected):
    """In whatever form the service gives them; anything else is no time."""
    assert details(time_created=text).time_created_ns == expected


@pytest.mark.parametrize("image_id", ["", "../x", "a/b", "1 ", "x" * 65, None, [], {}, "é", "1\n"])
def test_a_row_without_usable_id_is_left_out(image_id):
    """It could not be asked for, nor kept apart."""
    found = listing({**GOOD, "image_id": image_id}, {**GOOD, "image_id": "2"})
    assert [image.image_id for image in found.images] == ["2"]
    assert len(found.problems) == 1


@pytest.mark.parametrize("row", [None, 5, "x", [], {}, {**GOOD, "region": ""}, {**GOOD, "region": None}])
def test_a_row_that_is_none_is_left_out(row):
    """The others stay."""
    found = listing(GOOD, row)
    assert [image.image_id for image in found.images] == ["1"]
    assert len(found.problems) == 1


def test_a_row_may_lack_name_and_status():
    """It is then pending and nameless, but there."""
    assert listing({"image_id": 7, "region": "toronto"}).images == (ListedImage("7", "", "toronto", ""),)
    assert listing({**GOOD, "status": 5.5}).images[0].phase is Phase.PENDING


def test_a_name_of_wrong_type_is_reported():
    """The image is shown all the same."""
    found = listing({**GOOD, "name": {"a": 1}})
    assert found.images[0].name == ""
    assert len(found.problems) == 1


def test_of_one_id_twice_the_first_counts():
    """And the second is reported."""
    found = listing(GOOD, {**GOOD, "name": "b"})
    assert [image.name for image in found.images] == ["a"]
    assert "repeats image 1" in found.problems[0]


def test_two_images_may_share_a_name():
    """The page's own example does."""
    assert len(listing(GOOD, {**GOOD, "image_id": "2"}).images) == 2


@pytest.mark.parametrize(
    "name", ["\ud800", "a\udcffb", "\x00\x1b[31m", "../..", "名前", "", "x" * 5000, "👍"]
)
def test_every_name_survives(name):
    """Lone surrogates and control characters too: the naming rules deal with them."""
    assert listing({**GOOD, "name": name}).images[0].name == name


def test_bytes_that_are_not_utf8_cost_no_listing():
    """They become lone surrogates."""
    answer = parsing.answer_object(b'{"images": [{"image_id": 1, "region": "r", "name": "caf\xe9"}]}')
    assert parsing.listing(answer).images[0].name == "caf\udce9"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b"true",
        b"<html>",
        b'{"images": [',
        b'{"a": ' + b"[" * 200_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_json_object_is_malformed(body):
    """Cut, nested too deep, or of another kind."""
    with pytest.raises(MalformedAnswer):
        parsing.answer_object(body)


@pytest.mark.parametrize(
    "images", [" ", 5, "x", True, {"1": "x"}, {"image_id": "1"}, [5], [{}], [GOOD["name"]]]
)
def test_a_listing_that_is_no_list_is_never_empty(images):
    """An emptied account would be a catastrophe to believe in."""
    with pytest.raises(MalformedAnswer):
        parsing.listing({"images": images})
    with pytest.raises(MalformedAnswer):
        parsing.listing({"success": "yes"})


@pytest.mark.parametrize("nothing", [None, {}, [], ""])
def test_nothing_in_place_of_the_images_is_an_empty_list(nothing):
    """Beside an error it is a refusal."""
    assert parsing.listing({"images": nothing}) == parsing.Listing(())
    assert parsing.refusal_text({"images": nothing, "error": "busy"}) == "busy"


def test_rows_may_stand_by_their_ids():
    """With the id in the row as well, or in its place."""
    without_id = {name: value for name, value in GOOD.items() if name != "image_id"}
    found = parsing.listing({"images": {"1": GOOD, "2": without_id}})
    assert [image.image_id for image in found.images] == ["1", "2"]


@pytest.mark.parametrize("value", [None, [], "x", "5"])
def test_details_that_are_no_object_are_malformed(value):
    """There is nothing to show."""
    with pytest.raises(MalformedAnswer):
        parsing.image_details("1", {"details": value})


def test_nan_and_infinity_count_as_missing():
    """JSON does not know them."""
    body = b'{"details": {"size": NaN, "name": -Infinity, "region": "r"}}'
    image = parsing.image_details("1", parsing.answer_object(body))
    assert (image.size_bytes, image.name, image.region) == (None, "", "r")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"success": "yes"}, None),
        ({"success": "YES"}, None),
        ({"success": True}, None),
        ({"images": []}, None),
        ({}, None),
        ({"success": "no", "error": "invalid image"}, "invalid image"),
        ({"success": "no", "images": [], "error": "x"}, "x"),
        ({"success": False}, "no reason given"),
        ({"success": "no"}, "no reason given"),
        ({"success": "perhaps", "message": "later"}, "later"),
        ({"error": "invalid region"}, "invalid region"),
        ({"error": {"code": "5"}}, '{"code": "5"}'),
    ],
)
def test_refusals_are_recognised(answer, text):
    """By success, or by an error without payload."""
    assert parsing.refusal_text(answer) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*GOOD, "size", "checksum", "time_created", "metadata"]), inner, max_size=6
        )
    ),
    max_leaves=20,
)


@given(
    rows=st.lists(JSON, max_size=5), fields=st.dictionaries(st.sampled_from([*DOCUMENTED_DETAILS, "x"]), JSON)
)
def test_no_answer_breaks_the_parser(rows, fields):
    """Whatever JSON comes: good rows are found, and every value has its type."""
    found = listing({**GOOD, "image_id": "good"}, *rows)
    assert found.images[0].image_id == "good"
    assert all(
        isinstance(text, str) for image in found.images for text in (image.image_id, image.name, image.status)
    )
    image = details_of(fields)
    assert image.size_bytes is None or 0 <= image.size_bytes <= LARGEST_IMAGE_BYTES
    assert all(isinstance(text, str) for _, text in image.fields)


def test_an_answer_of_millions_of_values_takes_little_memory():
    """Parsed, each would take a hundred bytes."""
    body = b'{"images":[' + b"[]," * 8_000_000 + b"[]]}"
    tracemalloc.start()
    try:
        with pytest.raises(MalformedAnswer, match="values"):
            parsing.answer_object(body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_problems_of_a_listing_are_told_up_to_a_point():
    """However many rows make no sense, and the good ones are found among them."""
    found = listing(*[5] * 500, GOOD, *[GOOD] * 500, {**GOOD, "image_id": "2"})
    assert [image.image_id for image in found.images] == ["1", "2"]
    assert len(found.problems) == parsing.MOST_PROBLEMS + 1
    assert "more rows" in found.problems[-1]


def test_huge_fields_of_details_are_not_kept():
    """Those that mean something are, wherever they stand."""
    found = details_of(
        {"aaa": "x" * 20_000, **{f"f{n}": "y" * 1000 for n in range(500)}, **DOCUMENTED_DETAILS}
    )
    assert sum(len(text) for field in found.fields for text in field) <= parsing.FIELDS_CHARACTERS
    assert (found.name, found.size_bytes) == ("myimage", 305135616)


def test_a_refusal_nested_as_deep_as_can_be_is_a_refusal():
    """Its text is of no use then."""
    for depth in range(100, 2000, 50):
        text = '{"success": "no", "error": ' + "[" * depth + "]" * depth + "}"
        try:
            answer = parsing.answer_object(text.encode())
        except MalformedAnswer:
            continue
        assert parsing.refusal_text(answer)
