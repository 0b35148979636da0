"""A sparse index leads to the right batch, and its file is believed only when it is sound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import StorageDamaged
from streamer.storage import sidecar
from streamer.storage.index import SparseIndex

batches = st.lists(
    st.tuples(st.integers(96, 400), st.integers(1, 5), st.integers(-50, 50)), max_size=40
)


def build(entries: list[tuple[int, int, int]], every_bytes: int) -> SparseIndex:
    index = SparseIndex(1000, every_bytes)
    for number, (length, count, time) in enumerate(entries):
        index.add(length, count, time, number)
    return index


@given(entries=batches, every_bytes=st.sampled_from([1, 500, 2000, 10**6]))
def test_an_entry_is_at_or_before_what_is_looked_for_and_not_far(
    entries: list[tuple[int, int, int]], every_bytes: int
) -> None:
    index = build(entries, every_bytes)
    index = SparseIndex.from_bytes(index.to_bytes(), every_bytes)
    starts, offset, position = {}, 1000, 0
    for length, count, _ in entries:
        starts[offset] = position
        offset, position = offset + count, position + length
    assert (index.end_offset, index.nbytes) == (offset, position)
    assert index.append_time_us == (len(entries) - 1 if entries else None)
    for base, where in starts.items():
        found, at = index.by_offset(base)
        assert starts[found] == at <= where
        assert found <= base
        assert where - at < every_bytes + 400
    for time in range(-51, 52):
        found, at = index.by_time(time)
        assert starts.get(found, 0) == at
        offset = 1000
        for _, count, this in entries:
            if offset < found:
                assert this < time, "no batch of that time is left out"
            offset += count


def test_the_index_is_sparse() -> None:
    index = build([(100, 1, 0)] * 1000, 1000)
    assert 90 <= len(index) <= 101


def test_times_skip_what_is_earlier() -> None:
    index = build([(100, 1, time) for time in (5, 9, 7, 7, 20)], 1)
    assert [index.by_time(time)[0] for time in (0, 5, 6, 9, 10, 20, 21)] == [
        1000, 1000, 1001, 1001, 1004, 1004, 1004,
    ]  # fmt: skip
    assert index.max_timestamp_us == 20


def test_the_earliest_time_that_there_is() -> None:
    index = build([(100, 1, -(2**63))], 1)
    assert index.by_time(-(2**63)) == (1000, 0)


def test_behind_damage_there_is_an_entry() -> None:
    index = build([(100, 1, 0)], 10**6)
    index.skip(1005, 700)
    index.add(100, 1, 3, 3)
    assert index.by_offset(1004) == (1000, 0)
    assert index.by_offset(1005) == (1005, 700)
    assert (index.end_offset, index.nbytes) == (1006, 800)


@pytest.mark.parametrize(
    "change",
    [
        {"base": -1},
        {"base": "0"},
        {"base": True},
        {"end": None},
        {"max": "x"},
        {"offsets": b""},
        {"offsets": b"1234567"},
        {"offsets": 5},
        {"positions": bytes(16)},
        {"times": bytes(16)},
        {"offsets": (7).to_bytes(8, "little")},
        {"positions": (7).to_bytes(8, "little")},
    ],
)
def test_a_file_with_a_bad_field_is_refused(change: dict[str, Any]) -> None:
    content = sidecar.unpack("index", build([(100, 1, 0)], 1000).to_bytes())
    assert SparseIndex.from_bytes(sidecar.pack("index", content), 1000).end_offset == 1001
    content.update(change)
    with pytest.raises(StorageDamaged):
        SparseIndex.from_bytes(sidecar.pack("index", content), 1000)
    for key in change:
        del content[key]
    with pytest.raises(StorageDamaged):
        SparseIndex.from_bytes(sidecar.pack("index", content), 1000)


def test_an_index_that_was_read_goes_on() -> None:
    index = build([(100, 1, 0)] * 30, 1000)
    again = SparseIndex.from_bytes(index.to_bytes(), 1000)
    for _ in range(30):
        index.add(100, 1, 5, 6)
        again.add(100, 1, 5, 6)
    assert again.to_bytes() == index.to_bytes()
