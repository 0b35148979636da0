"""A set of offsets as ranges, against a plain set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.groups.ranges import Ranges, pairs, size

spans = st.tuples(st.integers(0, 20), st.integers(1, 6)).map(lambda each: (each[0], sum(each)))
steps = st.lists(st.tuples(st.booleans(), spans), max_size=30)


def made_of(offsets: set[int]) -> list[int]:
    return [bound for bound in range(-1, 40) if (bound in offsets) != (bound - 1 in offsets)]


@given(steps=steps, span=spans)
def test_ranges_are_a_set(steps: list[tuple[bool, tuple[int, int]]], span: tuple[int, int]) -> None:
    ranges, plain = Ranges(), set[int]()
    for adds, (first, end) in steps:
        offsets = set(range(first, end))
        if adds:
            assert ranges.add(first, end) == len(offsets - plain)
            plain |= offsets
        else:
            assert ranges.remove(first, end) == len(offsets & plain)
            plain -= offsets
        assert ranges.bounds == made_of(plain)
    offsets = set(range(*span))
    assert ranges.overlap(*span) == made_of(plain & offsets)
    assert ranges.missing(*span) == made_of(offsets - plain)
    assert [offset for offset in range(40) if offset in ranges] == sorted(plain)
    assert ranges.past(span[0]) == min(set(range(span[0], 40)) - plain)
    assert ranges.count == size(ranges.bounds) == len(plain)
    assert bool(ranges) == bool(plain)


def test_ranges_that_touch_are_one() -> None:
    ranges = Ranges([0, 5])
    assert ranges.add(5, 10) == 5
    assert ranges.bounds == [0, 10]
    assert len(ranges) == 1


def test_nothing_overlaps_what_is_empty() -> None:
    assert Ranges([0, 5]).overlap(2, 2) == []
    assert Ranges([0, 5]).overlap(4, 1) == []


def test_each_range_comes_as_its_bounds() -> None:
    ranges = Ranges([0, 5, 7, 9])
    assert list(ranges) == list(pairs([0, 5, 7, 9])) == [(0, 5), (7, 9)]
    with pytest.raises(ValueError, match="shorter"):
        list(pairs([0, 5, 7]))


def test_a_copy_is_another_and_equal() -> None:
    ranges = Ranges([0, 5])
    copied = ranges.copy()
    copied.clear()
    assert not copied
    assert ranges == Ranges([0, 5]) != copied
    assert ranges != [0, 5]
    assert repr(ranges) == "Ranges([0, 5])"
    with pytest.raises(TypeError):
        hash(ranges)
