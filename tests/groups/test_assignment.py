"""Who owns which partition: evenly, and moving as few as can be."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamer.groups.assignment import assign

numbers = st.integers(0, 5)


def test_nobody_owns_what_has_no_members() -> None:
    assert assign([1, None], []) == [None, None]


def test_the_first_member_gets_all_and_the_next_takes_half() -> None:
    assert assign([None] * 4, [1]) == [1, 1, 1, 1]
    assert assign([1, 1, 1, 1], [1, 2]) == [1, 1, 2, 2]


def test_the_one_more_stays_with_whom_has_it() -> None:
    assert assign([2, 2, 1], [1, 2]) == [2, 2, 1]


def test_only_what_was_of_who_left_moves() -> None:
    assert assign([1, 2, 3, 1, 2, 3], [1, 3]) == [1, 1, 3, 1, 3, 3]


def test_members_beyond_the_partitions_have_none() -> None:
    assert assign([1, 1], [1, 2, 3]) == [1, 2]


@given(
    owners=st.lists(st.none() | numbers, max_size=12),
    members=st.lists(numbers, min_size=1, unique=True),
)
def test_it_is_even_and_moves_no_more_than_it_must(
    owners: list[int | None], members: list[int]
) -> None:
    found = assign(owners, members)
    counts = Counter(dict.fromkeys(members, 0))
    counts.update(owner for owner in found if owner is not None)
    assert set(counts) == set(members)
    assert max(counts.values()) - min(counts.values()) <= 1
    moved = sum(was != now for was, now in zip(owners, found, strict=True))
    homeless = sum(owner not in members for owner in owners)
    share, extra = divmod(len(owners), len(members))
    held = sorted((owners.count(member) for member in members), reverse=True)
    above = sum(max(0, count - share - (at < extra)) for at, count in enumerate(held))
    assert moved == homeless + above
    assert assign(found, members) == found
