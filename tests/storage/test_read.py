"""Plans that read: whole batches, from the right one on, with one read; and seeking a time."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.errors import Aborted, OffsetOutOfRange, PartitionDamaged, StorageError
from streamer.testing.memory_files import MemoryFiles

P = "/data/p"
FIRST = f"{P}/00000000000000000000.log"


def noise(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def filled(kit: Any, files: MemoryFiles, *, size: int = 50, **more: Any) -> Any:
    """Thirty commits of a batch of two records: offsets 0 to 59."""
    log = kit.open(files, **more)
    for number in range(30):
        kit.append(log, [noise(number, size), b"%02d" % number])
    return log


@pytest.mark.parametrize("segment_bytes", [700, 10**6])
def test_every_offset_leads_to_its_batch(kit: Any, files: MemoryFiles, segment_bytes: int) -> None:
    log = filled(kit, files, segment_bytes=segment_bytes)
    kit.close(log)
    # Before the start batches were recent, after it there is the index alone.
    for each in (log, kit.open(files, segment_bytes=segment_bytes)):
        for offset in range(60):
            result = each.plan_read(offset, 1).run()
            assert result.first_offset == offset // 2 * 2
            assert result.next_offset == result.first_offset + 2
            values = kit.values(result.blob, result.first_offset)
            assert values[offset // 2 * 2] == noise(offset // 2, 50)


def test_as_many_batches_as_fit_and_one_at_least(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, segment_bytes=10**6)
    size = log.nbytes // 30
    for bytes_max, batches in ((0, 1), (1, 1), (2 * size, 2), (3 * size - 1, 2), (10**6, 30)):
        result = log.plan_read(0, bytes_max).run()
        assert (len(result.blob), result.next_offset) == (batches * size, batches * 2)
        # From the middle of a batch it is the same.
        assert log.plan_read(1, bytes_max).run() == result


def test_a_batch_far_larger_than_asked_for(kit: Any, files: MemoryFiles) -> None:
    for size in (10_000, 500_000):
        log = kit.open(files, path=f"/data/{size}", segment_bytes=10**7)
        kit.append(log, [b"a"])
        kit.append(log, [noise(1, size), b"x"])
        kit.append(log, [b"b"])
        kit.close(log)
        log = kit.open(files, path=f"/data/{size}", segment_bytes=10**7)
        for offset in (0, 1, 2, 3):
            result = log.plan_read(offset, 10).run()
            assert result.first_offset == (0, 1, 1, 3)[offset]
        assert log.plan_read(3, 10).run().next_offset == 4


def test_one_read_for_many_batches(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, segment_bytes=3000, index_bytes=500)
    kit.close(log)
    for each in (log, kit.open(files, segment_bytes=3000, index_bytes=500)):
        each.plan_read(0, 1).run()
        assert each.segment_count > 1
        for offset in (0, 13, 30, 59):
            plan = each.plan_read(offset, 2000)
            if offset < each._bases[-1]:
                each._indexes.get(plan.segment)
            files.trace.clear()
            plan.run()
            assert [line.split()[0] for line in files.trace] == ["open", "read"]


def test_a_live_reader_hops_over_nothing(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, segment_bytes=10**6, index_bytes=10**6)
    for offset in range(60):
        assert log.plan_read(offset, 100).entry[0] == offset // 2 * 2


def test_the_recent_batches_are_bounded(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=10**7, index_bytes=500)
    entry = kit.entry(log, [b"a"])
    from streamer.storage.partition import _RECENT_MAX, Entry

    for number in range(_RECENT_MAX + 10):
        placed = entry.batch.placed(base_offset=number, append_time_us=1, high_water=0)
        kit.commit(log, [Entry(placed)], sync=False)
    assert len(log._recent_offsets) == len(log._recent_positions) <= _RECENT_MAX
    for offset in (0, 1, _RECENT_MAX // 2, _RECENT_MAX - 600, _RECENT_MAX + 9):
        assert log.plan_read(offset, 1).run().first_offset == offset


def test_nothing_is_read_above_the_high_water_mark_and_below_what_is_kept(
    kit: Any, files: MemoryFiles
) -> None:
    log = filled(kit, files, retention_bytes=0)
    assert log.plan_read(60, 100) is None
    for offset in (61, -1, 10**9):
        with pytest.raises(OffsetOutOfRange) as caught:
            log.plan_read(offset, 100)
        assert caught.value.detail == {"offset": offset, "first_offset": 0, "high_water": 60}
    plan = log.plan_retention(0, None)
    plan.run()
    log.retained(plan)
    first = log.first_offset
    with pytest.raises(OffsetOutOfRange, match=f"kept are {first} to 59"):
        log.plan_read(first - 1, 100)


def test_what_is_written_and_not_committed_is_not_read(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    append = log.plan_append([kit.entry(log, [b"b"])])
    append.run(True)
    read = log.plan_read(0, 10**6)
    log.committed(append)
    result = read.run()
    assert result.next_offset == 1, "it was decided before the commit"
    assert log.plan_read(0, 10**6).run().next_offset == 2


def test_a_read_ends_with_its_segment(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, segment_bytes=700)
    base = log._bases[1]
    assert log.plan_read(0, 10**6).run().next_offset == base


def test_a_read_beside_retention(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, segment_bytes=700, retention_bytes=0)
    read, seek = log.plan_read(0, 100), log.plan_seek_time(0)
    plan = log.plan_retention(0, None)
    plan.run()
    with pytest.raises(OffsetOutOfRange, match="has been removed"):
        read.run()
    log.retained(plan)
    assert seek.run() == log.first_offset


def test_a_read_beside_a_roll(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=220)
    kit.append(log, [b"a"])
    read = log.plan_read(0, 100)
    for _ in range(5):
        kit.append(log, [b"b"])
    kit.close(log)
    assert kit.values(read.run().blob, 0) == {0: b"a"}


def test_a_read_that_fails(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    for operation in ("open", "read"):
        files.fail_next(operation)
        with pytest.raises(StorageError, match="Input/output"):
            log.plan_read(0, 100).run()
        files.fail_next(operation)
        with pytest.raises(StorageError, match="Input/output"):
            log.plan_seek_time(0).run()
    assert log.plan_read(0, 100).run().first_offset == 0


def test_without_a_file_handle_a_read_can_be_tried_again(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    files.fail_next("open", errno.EMFILE)
    with pytest.raises(Aborted, match="no file handle") as caught:
        log.plan_read(0, 100).run()
    assert caught.value.retryable
    assert log.plan_read(0, 100).run().first_offset == 0


def test_whole_batches_before_damage_are_served(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, segment_bytes=10**6)
    size = log.nbytes // 30
    files.flip_bit(FIRST, 5 * size + 120)
    assert log.plan_read(2, 10**6).run().next_offset == 10
    with pytest.raises(PartitionDamaged) as caught:
        log.plan_read(10, 10**6).run()
    assert caught.value.detail == {"first": 10, "next": 12}
    assert log.plan_read(12, 10**6).run().next_offset == 60


def test_damage_at_the_end_of_what_is_committed(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, segment_bytes=10**6)
    size = log.nbytes // 30
    for position in (0, 50, 120):
        files.flip_bit(FIRST, 29 * size + position)
        for offset in (58, 59):
            with pytest.raises(PartitionDamaged) as caught:
                log.plan_read(offset, 100).run()
            assert caught.value.detail == {"first": 58, "next": 60}
        files.flip_bit(FIRST, 29 * size + position)


@pytest.mark.parametrize("kept", [0, 40, 96, 130, 1000, 4000])
def test_a_file_that_became_shorter(kit: Any, files: MemoryFiles, kept: int) -> None:
    log = filled(kit, files, segment_bytes=10**6, index_bytes=10**6)
    size = log.nbytes // 30
    kit.close(log)
    # One hops there over the headers, and the other knows where its batch should be.
    hopping, exact = kit.open(files, segment_bytes=10**6, index_bytes=10**6), log
    files.open(FIRST).truncate(kept)
    whole = kept // size * 2
    for offset in range(60):
        for bytes_max in (1, 400, 10**5):
            for each in (hopping, exact):
                if offset < whole:
                    assert each.plan_read(offset, bytes_max).run().next_offset <= whole
                else:
                    with pytest.raises(PartitionDamaged) as caught:
                        each.plan_read(offset, bytes_max).run()
                    detail = caught.value.detail
                    assert whole <= detail["first"] <= offset
                    assert detail["next"] == 60


# ---------------------------------------------------------------------------------------- time


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    times=st.lists(st.integers(0, 40), max_size=25),
    segment_bytes=st.sampled_from([1, 500, 10**6]),
    index_bytes=st.sampled_from([1, 300, 10**6]),
    cached=st.booleans(),
)
def test_a_time_leads_to_the_first_batch_of_that_time_or_later(
    kit: Any, times: list[int], segment_bytes: int, index_bytes: int, cached: bool
) -> None:
    """Producers' clocks disagree, so times are in no order."""
    files = MemoryFiles()
    log = kit.open(files, segment_bytes=segment_bytes, index_bytes=index_bytes)
    for number, time in enumerate(times):
        kit.commit(log, [kit.entry(log, [b"%d" % number, b"x"], timestamp_us=time)])
    if not cached:
        kit.close(log)
        log = kit.open(files, segment_bytes=segment_bytes, index_bytes=index_bytes)
    for wanted in range(42):
        first = next((2 * n for n, time in enumerate(times) if time >= wanted), 2 * len(times))
        assert log.plan_seek_time(wanted).run() == first


def test_a_time_behind_damage_leads_to_the_damage(kit: Any, files: MemoryFiles) -> None:
    """So that the reader hears of what it would otherwise miss without knowing."""
    log = kit.open(files, segment_bytes=10**6, index_bytes=10**6)
    for number in range(6):
        kit.commit(log, [kit.entry(log, [b"%d" % number], timestamp_us=number)])
    size = log.nbytes // 6
    files.flip_bit(FIRST, 2 * size)
    assert [log.plan_seek_time(time).run() for time in range(7)] == [0, 1, 2, 2, 2, 2, 6]


def test_segments_that_are_too_early_are_not_opened(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=1)
    for number in range(6):
        kit.commit(log, [kit.entry(log, [b"%d" % number], timestamp_us=number)])
    files.trace.clear()
    assert log.plan_seek_time(4).run() == 4
    assert {line.split()[1] for line in files.trace} == {f"{P}/00000000000000000004.log"}
    files.trace.clear()
    assert log.plan_seek_time(9).run() == 6
    assert files.trace == []
