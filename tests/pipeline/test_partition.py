"""A partition on the event loop: what is proposed, taken back, read from memory, and waited for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from streamer.batch import Batch, Codec
from streamer.errors import DiskFull, OffsetOutOfRange, PartitionStopped
from streamer.pipeline.disk import InlineDisk
from streamer.pipeline.partition import Partition, TailCache
from streamer.records import ProducerStamp
from streamer.storage.memory import MemoryLog
from streamer.storage.partition import Entry, LogSettings, LogState, PartitionLog
from streamer.testing.memory_files import MemoryFiles

STAMP = ProducerStamp(7, 0, 0)


def open_log(files: MemoryFiles, number: int = 0, **settings: Any) -> PartitionLog:
    return PartitionLog.open(files, f"/data/{number}", LogSettings(**settings), Codec())


def open_partition(
    files: MemoryFiles | None = None, cache: TailCache | None = None, number: int = 0
) -> Partition:
    log = open_log(files or MemoryFiles(), number)
    return Partition("s", number, log, cache or TailCache(1 << 20), InlineDisk())


def placed(
    partition: Partition, values: Sequence[bytes], stamp: ProducerStamp | None = None
) -> Entry:
    """A batch at the partition's next offset, proposed."""
    batch = Codec().encode_values(values, now_us=5, stamp=stamp)
    first = partition.next_offset
    batch = batch.placed(
        base_offset=first, append_time_us=5, high_water=partition.log.durable_offset
    )
    partition.next_offset += batch.count
    stamps = [(stamp, batch.count, first)] if stamp else []
    for one, count, offset in stamps:
        partition.proposed.record(one, count, offset)
    return Entry(batch, stamps)


def append(partition: Partition, *several: Sequence[bytes]) -> list[Batch]:
    """Propose and commit batches, in one write."""
    entries = [placed(partition, values) for values in several]
    plan = partition.log.plan_append(entries)
    plan.run(True)
    batches = [entry.batch for entry in entries]
    partition.committed(plan, batches)
    return batches


def values_of(blob: bytes) -> list[bytes]:
    from tests.site import values_of

    return values_of(blob)


# ------------------------------------------------------------------------------- proposed ahead


def test_what_is_proposed_is_ahead_of_what_is_written() -> None:
    partition = open_partition()
    entries = [placed(partition, [b"a", b"b"], STAMP)]
    assert (partition.next_offset, partition.high_water) == (2, 0)
    assert partition.proposed.last(7) == (0, 1, 1)
    assert partition.log.producers.last(7) is None
    plan = partition.log.plan_append(entries)
    plan.run(True)
    partition.committed(plan, [entries[0].batch])
    assert (partition.next_offset, partition.high_water) == (2, 2)
    assert partition.log.producers.last(7) == (0, 1, 1)


def test_a_failed_write_takes_back_all_on_top_of_it() -> None:
    files = MemoryFiles()
    partition = open_partition(files)
    append(partition, [b"first"])
    generation = partition.generation
    under = [placed(partition, [b"a", b"b"], STAMP)]
    placed(partition, [b"on top"], ProducerStamp(7, 0, 2))
    assert partition.next_offset == 4
    files.capacity_bytes = files.used_bytes()
    plan = partition.log.plan_append(under)
    with pytest.raises(DiskFull) as caught:
        plan.run(True)
    partition.failed(plan, caught.value)
    assert partition.next_offset == 1
    assert partition.proposed.last(7) is None
    assert partition.generation > generation
    assert partition.log.state is LogState.OPEN
    files.capacity_bytes = 1 << 40
    append(partition, [b"again"])
    assert partition.high_water == 2


def test_a_crash_with_no_write_under_way_stops_nothing() -> None:
    partition = open_partition()
    append(partition, [b"a"])
    placed(partition, [b"proposed"])
    partition.abandon("a stage failed")
    assert partition.next_offset == 1
    assert partition.log.state is LogState.OPEN
    append(partition, [b"b"])
    assert partition.high_water == 2


def test_a_write_that_was_never_given_back_stops_the_partition() -> None:
    partition = open_partition()
    append(partition, [b"a"])
    partition.log.plan_append([placed(partition, [b"nobody knows"])]).run(True)
    partition.abandon("a stage failed while it wrote")
    assert partition.log.state is LogState.STOPPED
    with pytest.raises(PartitionStopped, match="a stage failed while it wrote"):
        partition.log.plan_append([placed(partition, [b"b"])])
    assert partition.high_water == 1


# --------------------------------------------------------------------------------------- reading


async def test_the_tail_is_read_from_memory() -> None:
    files = MemoryFiles()
    partition = open_partition(files)
    append(partition, [b"0", b"1"], [b"2"], [b"3", b"4", b"5"])
    calls = files.calls
    for offset, expected in ((0, 0), (1, 0), (2, 2), (3, 3), (5, 3)):
        result = await partition.read(offset, 1 << 20)
        assert result is not None
        assert result.first_offset == expected
        assert result.next_offset == 6
        assert values_of(result.blob) == [b"%d" % n for n in range(expected, 6)]
    assert files.calls == calls


async def test_reads_keep_to_their_size_but_give_a_batch() -> None:
    partition = open_partition()
    batches = append(partition, [b"a" * 50], [b"b" * 50], [b"c" * 50])
    result = await partition.read(0, 1)
    assert result is not None
    assert (result.next_offset, len(result.blob)) == (1, batches[0].nbytes)
    result = await partition.read(0, batches[0].nbytes + batches[1].nbytes)
    assert result is not None
    assert result.next_offset == 2


async def test_what_has_left_memory_is_read_from_the_disk() -> None:
    files = MemoryFiles()
    partition = open_partition(files, TailCache(200))
    for number in range(20):
        append(partition, [b"%d" % number])
    assert 0 < len(partition.tail) < 20
    found: list[bytes] = []
    offset = 0
    while offset < 20:
        result = await partition.read(offset, 300)
        assert result is not None
        assert result.first_offset == offset
        found += values_of(result.blob)
        offset = result.next_offset
    assert found == [b"%d" % number for number in range(20)]
    assert any(call.startswith("read") for call in files.trace)


def test_one_budget_for_all_partitions_and_the_oldest_leave_first() -> None:
    cache = TailCache(1000)
    files = MemoryFiles()
    partitions = [open_partition(files, cache, number) for number in range(3)]
    for number in range(60):
        append(partitions[number % 3], [b"%d" % number])
        assert cache.bytes == sum(batch.nbytes for p in partitions for batch in p.tail)
        assert cache.bytes <= 1000
    assert {len(partition.tail) for partition in partitions} <= {2, 3}
    for _ in range(20):
        append(partitions[0], [b"busy"])
    assert [len(partition.tail) for partition in partitions[1:]] == [0, 0]


async def test_a_batch_larger_than_the_cache() -> None:
    partition = open_partition(cache=TailCache(100))
    append(partition, [bytes(range(256)) * 4])
    assert not partition.tail
    result = await partition.read(0, 10)
    assert result is not None
    assert result.next_offset == 1


async def test_the_end_and_what_is_out_of_range() -> None:
    partition = open_partition()
    append(partition, [b"a"])
    assert await partition.read(1, 100) is None
    with pytest.raises(OffsetOutOfRange):
        await partition.read(2, 100)


# ------------------------------------------------------------------------------------- in memory


class NoDisk:
    """What is in memory must not come here."""

    async def run(self, job: Any) -> Any:
        raise AssertionError(f"{job} was sent to a thread")


def open_in_memory(cache: TailCache | None = None, **settings: Any) -> Partition:
    log = MemoryLog("m", LogSettings(**settings))
    return Partition("s", 0, log, cache or TailCache(1 << 20), NoDisk())


async def test_in_memory_nothing_goes_to_a_thread_or_to_the_tail_cache() -> None:
    cache = TailCache(1 << 20)
    partition = open_in_memory(cache)
    append(partition, [b"0", b"1"], [b"2"])
    assert (cache.bytes, len(partition.tail)) == (0, 0)
    with trio.testing.assert_checkpoints():
        result = await partition.read(1, 1 << 20)
    assert result is not None
    assert (result.first_offset, values_of(result.blob)) == (0, [b"0", b"1", b"2"])
    with trio.testing.assert_checkpoints():
        assert await partition.read(3, 100) is None
    with pytest.raises(OffsetOutOfRange):
        await partition.read(4, 100)
    assert await partition.run(lambda: 5) == 5


async def test_in_memory_a_reader_that_falls_behind_is_told_where_it_begins() -> None:
    partition = open_in_memory(memory_bytes=1_000)
    for number in range(50):
        append(partition, [b"%d" % number])
    with pytest.raises(OffsetOutOfRange) as caught:
        await partition.read(0, 100)
    first = caught.value.detail["first_offset"]
    assert first == partition.log.first_offset == partition.log.dropped > 30
    result = await partition.read(first, 1 << 20)
    assert result is not None
    assert values_of(result.blob) == [b"%d" % number for number in range(first, 50)]


async def test_in_memory_a_pipeline_that_ends_stops_nothing() -> None:
    partition = open_in_memory()
    partition.log.plan_append([placed(partition, [b"not given back"], STAMP)])
    assert partition.proposed.last(7) == (0, 0, 0)
    partition.abandon("a stage failed")
    assert (partition.next_offset, partition.proposed.last(7)) == (0, None)
    append(partition, [b"a"])
    assert partition.high_water == 1
    await partition.settled()


# --------------------------------------------------------------------------------------- waiting


async def test_waiting_for_the_high_water_mark(autojump_clock: trio.testing.MockClock) -> None:
    partition = open_partition()
    woken: list[int] = []

    async def wait(offset: int) -> None:
        await partition.wait_above(offset)
        woken.append(offset)

    async with trio.open_nursery() as nursery:
        for offset in (0, 1, 2, 3):
            nursery.start_soon(wait, offset)
        await trio.testing.wait_all_tasks_blocked()
        placed(partition, [b"only proposed"])
        partition.retract()
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        append(partition, [b"a", b"b"])
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == [0, 1]
        nursery.cancel_scope.cancel()
    await partition.wait_above(1)
