"""ExtentSet against a plain set of integers, and by pictures."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefs.core.extents import ExtentSet

LIMIT = 40
intervals = st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT)).map(lambda pair: (min(pair), max(pair)))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove"]), intervals), max_size=30)


def drawn(picture: str) -> ExtentSet:
    """The set whose members are the columns marked with #."""
    return ExtentSet((column, column + 1) for column, mark in enumerate(picture) if mark == "#")


def replayed(operations: list[tuple[str, tuple[int, int]]]) -> tuple[ExtentSet, set[int]]:
    """The extents and the model after the same operations."""
    extents, model = ExtentSet(), set[int]()
    for operation, (start, end) in operations:
        if operation == "add":
            extents.add(start, end)
            model |= set(range(start, end))
        else:
            extents.remove(start, end)
            model -= set(range(start, end))
    return extents, model


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ("..........", ("add", 3, 5), "...##....."),
        ("..##......", ("add", 4, 6), "..####...."),
        ("....##....", ("add", 2, 4), "..####...."),
        ("..##..##..", ("add", 4, 6), "..######.."),
        ("..#.#.#.#.", ("add", 1, 8), ".########."),
        ("..####....", ("add", 3, 4), "..####...."),
        ("..####....", ("add", 8, 8), "..####...."),
        ("..######..", ("remove", 4, 6), "..##..##.."),
        ("..######..", ("remove", 0, 4), "....####.."),
        ("..######..", ("remove", 6, 9), "..####...."),
        ("..#.#.#.#.", ("remove", 3, 7), "..#.....#."),
        ("..####....", ("remove", 2, 6), ".........."),
        ("..####....", ("remove", 4, 4), "..####...."),
    ],
)
def test_changes_look_as_drawn(before: str, operation: tuple[str, int, int], after: str) -> None:
    """Adding and removing give the drawn result, coalesced."""
    extents = drawn(before)
    name, start, end = operation
    getattr(extents, name)(start, end)
    assert extents == drawn(after)


@given(steps)
def test_members_match_a_plain_set(operations: list[tuple[str, tuple[int, int]]]) -> None:
    """After any operations the extents hold exactly the integers of the model."""
    extents, model = replayed(operations)
    assert {member for start, end in extents for member in range(start, end)} == model
    assert extents.total_bytes == len(model)


@given(steps)
def test_extents_stay_sorted_and_coalesced(operations: list[tuple[str, tuple[int, int]]]) -> None:
    """No interval is empty, and neighbours leave at least one integer between them."""
    listed = list(replayed(operations)[0])
    assert all(start < end for start, end in listed)
    assert all(before[1] < after[0] for before, after in pairwise(listed))


@given(steps, intervals)
def test_questions_match_a_plain_set(
    operations: list[tuple[str, tuple[int, int]]], interval: tuple[int, int]
) -> None:
    """covers, intersection and gaps agree with the model for any interval."""
    extents, model = replayed(operations)
    start, end = interval
    wanted = set(range(start, end))
    assert extents.covers(start, end) == (wanted <= model)
    inside = {member for low, high in extents.intersection(start, end) for member in range(low, high)}
    outside = {member for low, high in extents.gaps(start, end) for member in range(low, high)}
    assert inside == wanted & model
    assert outside == wanted - model


@pytest.mark.parametrize(
    ("interval", "covered"),
    [((3, 9), True), ((2, 9), False), ((3, 10), False), ((9, 9), True), ((9, 10), False)],
)
def test_an_extent_ends_where_it_ends(interval: tuple[int, int], covered: bool) -> None:
    """Not one integer earlier or later, whatever follows."""
    assert ExtentSet([(3, 9), (11, 12)]).covers(*interval) == covered


def test_iteration_allows_changes() -> None:
    """A loop over the extents may remove what it visits."""
    extents = ExtentSet([(1, 4), (6, 8)])
    for start, end in extents:
        extents.remove(start, end)
    assert len(extents) == 0


@pytest.mark.parametrize("method", ["add", "remove", "covers", "gaps", "intersection"])
def test_backward_intervals_are_refused(method: str) -> None:
    """An interval that ends before it starts is a mistake, not an empty one."""
    with pytest.raises(ValueError, match="cannot end before it starts"):
        getattr(ExtentSet(), method)(5, 3)
