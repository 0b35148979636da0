"""Idempotence, against a model that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import Fenced, OutOfSequence, ProducerUnknown, StorageDamaged
from streamer.records import ProducerStamp
from streamer.storage.producers import DuplicateOf, ProducerTable


def table_with(*appends: tuple[int, int, int, int, int]) -> ProducerTable:
    """Appends are (producer, epoch, sequence, count, offset)."""
    table = ProducerTable(10)
    for producer, epoch, sequence, count, offset in appends:
        table.record(ProducerStamp(producer, epoch, sequence), count, offset)
    return table


def test_what_comes_next_is_new() -> None:
    table = table_with((1, 0, 0, 5, 100))
    assert table.check(ProducerStamp(1, 0, 5), 3) is None
    assert table.check(ProducerStamp(1, 7, 5), 3) is None, "a new epoch goes on where the old was"
    assert table.check(ProducerStamp(2, 0, 0), 3) is None
    assert table.last(1) == (0, 4, 104)
    assert table.last(2) is None
    assert 1 in table
    assert 2 not in table
    assert len(table) == 1


def test_not_idempotent_is_never_judged() -> None:
    table = table_with((0, 5, 7, 1, 0))
    assert len(table) == 0
    assert table.check(ProducerStamp(0, 0, 99), 1) is None


def test_a_gap_is_refused() -> None:
    with pytest.raises(OutOfSequence) as caught:
        table_with((1, 0, 0, 5, 100)).check(ProducerStamp(1, 0, 6), 1)
    assert caught.value.detail == {"expected": 5, "sequence": 6}


def test_what_is_there_in_part_is_refused() -> None:
    table = table_with((1, 0, 0, 5, 100))
    with pytest.raises(OutOfSequence):
        table.check(ProducerStamp(1, 0, 4), 2)
    with pytest.raises(OutOfSequence):
        table.check(ProducerStamp(1, 0, 0), 6)
    assert table.check(ProducerStamp(1, 0, 4), 1) == DuplicateOf(104)


def test_an_unknown_producer_begins_at_the_beginning() -> None:
    with pytest.raises(ProducerUnknown) as caught:
        table_with().check(ProducerStamp(1, 0, 3), 1)
    assert caught.value.detail == {"sequence": 3}


def test_an_older_epoch_is_fenced_whatever_it_sends() -> None:
    table = table_with((1, 3, 0, 5, 100))
    for sequence in (0, 5, 9):
        with pytest.raises(Fenced) as caught:
            table.check(ProducerStamp(1, 2, sequence), 1)
        assert caught.value.detail == {"epoch": 3}
    assert table.check(ProducerStamp(1, 4, 0), 5) == DuplicateOf(100)


def test_a_duplicate_has_its_original_offset() -> None:
    table = table_with((1, 0, 0, 5, 100), (1, 0, 5, 5, 105), (1, 0, 10, 3, 200), (1, 1, 13, 2, 300))
    check = table.check
    assert check(ProducerStamp(1, 1, 0), 1) == DuplicateOf(100)
    assert check(ProducerStamp(1, 1, 3), 4) == DuplicateOf(103), "runs that touch are one"
    assert check(ProducerStamp(1, 1, 10), 3) == DuplicateOf(200)
    assert check(ProducerStamp(1, 1, 12), 1) == DuplicateOf(202)
    assert check(ProducerStamp(1, 1, 13), 2) == DuplicateOf(300)
    assert check(ProducerStamp(1, 1, 9), 2) == DuplicateOf(-1), "its records are in two places"


def test_the_oldest_runs_are_forgotten() -> None:
    table = ProducerTable(10, ranges=2)
    for number in range(4):
        table.record(ProducerStamp(1, 0, number), 1, 10 * number)
    offsets = [table.check(ProducerStamp(1, 0, number), 1) for number in range(4)]
    assert offsets == [DuplicateOf(-1), DuplicateOf(-1), DuplicateOf(20), DuplicateOf(30)]
    again = ProducerTable(10, ranges=1)
    again.restore(table.snapshot())
    assert again.check(ProducerStamp(1, 0, 2), 1) == DuplicateOf(-1)
    assert again.check(ProducerStamp(1, 0, 3), 1) == DuplicateOf(30)


def test_those_who_appended_last_are_remembered() -> None:
    table = ProducerTable(2)
    for producer in (1, 2, 1, 3):
        known = table.last(producer)
        sequence = 0 if known is None else known[1] + 1
        table.record(ProducerStamp(producer, 0, sequence), 1, 0)
    assert [producer in table for producer in (1, 2, 3)] == [True, False, True]
    table.check(ProducerStamp(1, 0, 0), 1)
    table.record(ProducerStamp(4, 0, 0), 1, 0)
    assert 1 not in table, "being asked about is not appending"
    small = ProducerTable(1)
    small.restore(table.snapshot())
    assert [producer in small for producer in (3, 4)] == [False, True]


def test_a_copy_is_on_its_own() -> None:
    table = table_with((1, 0, 0, 5, 100))
    twin = table.copy()
    twin.record(ProducerStamp(1, 1, 5), 1, 105)
    twin.record(ProducerStamp(2, 0, 0), 1, 106)
    assert table.last(1) == (0, 4, 104)
    assert 2 not in table
    assert twin.last(1) == (1, 5, 105)
    table.record(ProducerStamp(1, 0, 5), 9, 500)
    assert twin.last(1) == (1, 5, 105)


def test_a_bad_snapshot_is_refused_and_changes_nothing() -> None:
    table = table_with((1, 0, 0, 5, 100), (1, 0, 5, 1, 300), (2, 0, 0, 1, 7))
    data = table.snapshot()
    for size in range(len(data)):
        with pytest.raises(StorageDamaged):
            table.restore(data[:size])
    with pytest.raises(StorageDamaged):
        table.restore(data + b"\0")
    with pytest.raises(StorageDamaged, match="version"):
        table.restore(b"\x09" + data[1:])
    # A producer without runs has no last sequence.
    empty = data[:8] + data[8:20] + bytes(4)
    with pytest.raises(StorageDamaged):
        table.restore(empty)
    assert table.snapshot() == data


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 12), st.integers(1, 4)),
        max_size=60,
    ),
    st.integers(0, 3),
)
def test_against_a_model_that_remembers_everything(
    attempts: list[tuple[int, int, int, int]], gap: int
) -> None:
    table = ProducerTable(10)
    offsets: dict[tuple[int, int], int] = {}
    epochs: dict[int, int] = {}
    counts: dict[int, int] = {}
    offset = 0
    for producer, epoch, sequence, count in attempts:
        stamp = ProducerStamp(producer, epoch, sequence)
        known = counts.get(producer, 0)
        try:
            verdict = table.check(stamp, count)
        except ProducerUnknown:
            assert producer not in counts
            assert sequence
        except Fenced:
            assert epoch < epochs[producer]
        except OutOfSequence:
            assert epoch >= epochs[producer]
            assert sequence != known
            assert sequence + count > known
        else:
            if verdict is None:
                assert sequence == known
                table.record(stamp, count, offset)
                for number in range(count):
                    offsets[producer, sequence + number] = offset + number
                counts[producer] = sequence + count
                epochs[producer] = epoch
                offset += count + gap % 2
            else:
                originals = [offsets[producer, sequence + number] for number in range(count)]
                together = originals == list(range(originals[0], originals[0] + count))
                assert verdict.offset == (originals[0] if together else -1)
        again = ProducerTable(10)
        again.restore(table.snapshot())
        assert again.snapshot() == table.snapshot()
