"""Offsets as the requests have them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamer_tools.dlq.settling import portions


def test_neighbours_are_one_range() -> None:
    assert list(portions([1, 2, 3, 7, 9, 10], 100)) == [[1, 4, 7, 8, 9, 11]]
    assert list(portions([1, 2, 3, 4], 3)) == [[1, 4], [4, 5]]
    assert list(portions([], 3)) == []


@given(st.sets(st.integers(0, 200)), st.integers(1, 20))
def test_all_of_them_are_there_once(offsets: set[int], records_max: int) -> None:
    found = []
    for ranges in portions(sorted(offsets), records_max):
        part = [n for at in range(0, len(ranges), 2) for n in range(ranges[at], ranges[at + 1])]
        assert 1 <= len(part) <= records_max
        assert all(a < b for a, b in pairwise(ranges))
        found += part
    assert found == sorted(offsets)
