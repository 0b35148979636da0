"""The open streams: made once, changed on the disk first, closed and removed as far as can be."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from streamer.batch import Codec
from streamer.errors import (
    BadRequest,
    DiskFull,
    NotAllowed,
    StorageError,
    StreamerError,
    UnknownPartition,
    UnknownStream,
)
from streamer.limits import BatchLimits
from streamer.observe.events import Events
from streamer.pipeline.disk import InlineDisk
from streamer.pipeline.partition import Partition, TailCache
from streamer.pipeline.streams import Streams, StreamSettings
from streamer.storage.directory import DataDirectory
from streamer.storage.partition import Entry, LogSettings, LogState
from streamer.storage.recovery import DamagedRange
from streamer.testing.memory_files import MemoryFiles


def make_streams(
    files: MemoryFiles, settings: StreamSettings | None = None, **options: Any
) -> Streams:
    chosen = settings or StreamSettings()
    given = {
        "settings": lambda _: chosen,
        "streams_max": 10,
        "limits": BatchLimits(),
        "level": 1,
        "disk": InlineDisk(),
        "cache": TailCache(1 << 20),
        "events": Events(lambda: 0),
        **options,
    }
    return Streams(DataDirectory.open(files, "/data"), **given)


@asynccontextmanager
async def opened(
    files: MemoryFiles, settings: StreamSettings | None = None, **options: Any
) -> AsyncGenerator[Streams, None]:
    streams = make_streams(files, settings, **options)
    await streams.open_all()
    yield streams
    await streams.close()


def append(partition: Partition, values: list[bytes], now_us: int = 5) -> None:
    batch = (
        Codec()
        .encode_values(values, now_us=now_us)
        .placed(base_offset=partition.next_offset, append_time_us=now_us, high_water=0)
    )
    plan = partition.log.plan_append([Entry(batch)])
    plan.run(True)
    partition.committed(plan, [batch])
    partition.next_offset = partition.log.next_offset


# ----------------------------------------------------------------------------------------- made


async def test_a_stream_is_made_on_first_use_and_is_there_after_a_restart() -> None:
    files = MemoryFiles()
    async with opened(files, StreamSettings(partitions=3)) as streams:
        assert streams.all() == []
        assert not streams.has("s")
        with pytest.raises(UnknownStream, match="there is no stream 's'"):
            streams.get("s")
        made = await streams.ensure("s")
        assert await streams.ensure("s") is made is streams.get("s")
        append(made.partition(1), [b"a", b"b"])
        with pytest.raises(UnknownPartition, match="has partitions 0 to 2, not 3"):
            made.partition(3)
    async with opened(files) as streams:
        assert [stream.name for stream in streams.all()] == ["s"]
        assert [p.high_water for p in streams.get("s").partitions] == [0, 2, 0]


async def test_many_first_uses_at_once_make_it_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(MemoryFiles()) as streams:
        found = []

        async def ensure() -> None:
            found.append(await streams.ensure("s"))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ensure)
        assert all(stream is found[0] for stream in found)


async def test_streams_that_may_not_be_made() -> None:
    async with opened(MemoryFiles(), StreamSettings(auto_create=False)) as streams:
        with pytest.raises(UnknownStream, match="none is made on first use"):
            await streams.ensure("s")
    async with opened(MemoryFiles(), streams_max=2) as streams:
        await streams.ensure("a")
        await streams.ensure("b")
        with pytest.raises(NotAllowed, match="there are 2 streams, allowed are no more"):
            await streams.ensure("c")
        await streams.ensure("a")
        for name in ("", "a/b", "..", "x" * 201):
            with pytest.raises(StreamerError):
                await streams.ensure(name)


async def test_a_stream_that_could_not_be_made_is_made_later() -> None:
    """Whichever call to the disk fails."""
    probe = MemoryFiles()
    async with opened(probe) as streams:
        before = probe.calls
        await streams.ensure("s")
        after = probe.calls
    for number in range(after - before):
        files = MemoryFiles()
        async with opened(files) as streams:
            files.fail_call(files.calls + number, errno.ENOSPC)
            with pytest.raises(StreamerError):
                await streams.ensure("s")
            stream = await streams.ensure("s")
            append(stream.partition(0), [b"a"])
        async with opened(files) as streams:
            assert streams.get("s").partition(0).high_water == 1


IN_MEMORY = StreamSettings(partitions=2, storage="memory")


async def test_a_stream_in_memory_is_known_and_empty_after_a_restart() -> None:
    files = MemoryFiles()
    async with opened(files, IN_MEMORY) as streams:
        stream = await streams.ensure("s")
        calls = files.calls
        append(stream.partition(1), [b"a", b"b"])
        assert files.calls == calls
    async with opened(files, IN_MEMORY) as streams:
        stream = streams.get("s")
        assert stream.meta.storage == "memory"
        assert [(p.in_memory, p.log.next_offset) for p in stream.partitions] == [(True, 0)] * 2


async def test_a_stream_stays_where_it_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    files = MemoryFiles()
    async with opened(files) as streams:
        append((await streams.ensure("disk")).partition(0), [b"a"])
    async with opened(files, IN_MEMORY) as streams:
        assert streams.get("disk").partition(0).high_water == 1
        assert not streams.get("disk").partition(0).in_memory
        await streams.ensure("memory")
        assert "config=memory" in capsys.readouterr().out
    async with opened(files) as streams:
        assert not (await streams.ensure("disk")).partition(0).in_memory
        assert (await streams.ensure("memory")).partition(0).in_memory


async def test_cancelled_while_it_is_made(autojump_clock: trio.testing.MockClock) -> None:
    files = MemoryFiles()
    async with opened(files) as streams:
        for steps in range(1, 12):
            with trio.CancelScope() as scope:
                instrument = CancelAfter(steps, scope)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await streams.ensure(f"s{steps % 5}")
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            stream = await streams.ensure(f"s{steps % 5}")
            assert stream.partition(0).log.state is LogState.OPEN


class CancelAfter(trio.abc.Instrument):
    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self._left = steps
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def test_recovery_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    files = MemoryFiles()
    async with opened(files) as streams:
        partition = (await streams.ensure("s")).partition(0)
        append(partition, [b"a"])
        path = partition.log.path
        files.kill()
    name = next(name for name in files.listdir(path) if name.endswith(".log"))
    files.overwrite(f"{path}/{name}", files.size(f"{path}/{name}"), b"torn")
    async with opened(files):
        pass
    said = capsys.readouterr().out
    assert "torn tail cut" in said
    assert "partition=0" in said
    assert "nbytes=4" in said or "bytes=4" in said


async def test_a_stream_whose_metadata_is_gone_is_not_made_anew() -> None:
    files = MemoryFiles()
    async with opened(files) as streams:
        append((await streams.ensure("s")).partition(0), [b"a"])
    files.unlink("/data/streams/s/stream")
    async with opened(files) as streams:
        assert list(streams.unavailable) == ["s"]
        with pytest.raises(StorageError, match="the file is gone, and the log is there"):
            await streams.ensure("s")


def test_damage_is_told_as_a_sentence() -> None:
    cut = DamagedRange("/d/0.log", 10, 5, 7, None, "batch is cut short")
    assert str(cut) == "batch is cut short, offsets 7 to the end (bytes 10 to 15 of /d/0.log)"
    assert "offsets 7 to 8 " in str(attrs.evolve(cut, next_offset=9))


# -------------------------------------------------------------------------------------- changes


async def test_changes_are_on_the_disk_first() -> None:
    files = MemoryFiles()
    async with opened(files, StreamSettings(retention_groups=["g"])) as streams:
        stream = await streams.ensure("s")
        before = stream.meta
        for change in (
            lambda: streams.open_producer(stream, "p", 5),
            lambda: streams.set_floor(stream, "g", 0, 3),
        ):
            files.fail_next("write", errno.ENOSPC)
            with pytest.raises(DiskFull):
                await change()
            assert stream.meta == before
            assert stream.epochs == {}
            await change()
            before = stream.meta
            stream.epochs.clear()
        assert stream.floor(0) == 3
    async with opened(files, StreamSettings(retention_groups=["g"])) as streams:
        stream = streams.get("s")
        assert stream.floor(0) == 3
        assert stream.epochs == {5: 0}
        assert await streams.open_producer(stream, "p", 99) == (5, 1)


async def test_producers_that_come_back_the_least_are_forgotten_first() -> None:
    settings = StreamSettings(log=LogSettings(producers=2))
    async with opened(MemoryFiles(), settings) as streams:
        stream = await streams.ensure("s")
        for number, name in enumerate(("a", "b", "a", "c")):
            await streams.open_producer(stream, name, 100 + number)
        assert await streams.open_producer(stream, "a", 200) == (100, 2)
        assert await streams.open_producer(stream, "b", 201) == (201, 0)
        with pytest.raises(BadRequest):
            await streams.open_producer(stream, "", 1)


async def test_a_group_that_has_said_nothing_needs_everything() -> None:
    async with opened(MemoryFiles(), StreamSettings(retention_groups=["a", "b"])) as streams:
        stream = await streams.ensure("s")
        assert stream.floor(0) == 0
        await streams.set_floor(stream, "a", 0, 10)
        assert stream.floor(0) == 0
        await streams.set_floor(stream, "b", 0, 7)
        assert stream.floor(0) == 7
        with pytest.raises(NotAllowed):
            await streams.set_floor(stream, "c", 0, 7)
        with pytest.raises(UnknownPartition):
            await streams.set_floor(stream, "a", 4, 7)
    async with opened(MemoryFiles()) as streams:
        assert (await streams.ensure("s")).floor(0) is None


# -------------------------------------------------------------------------------- house-keeping

SMALL = LogSettings(segment_bytes=64 * 1024, retention_bytes=64 * 1024)


async def fill(streams: Streams, name: str) -> Partition:
    import random

    partition = (await streams.ensure(name)).partition(0)
    rng = random.Random(1)
    for _ in range(30):
        append(partition, [rng.randbytes(20_000)])
    return partition


async def test_retention_that_fails_is_tried_again_and_fails_nobody_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = MemoryFiles()
    async with opened(files, StreamSettings(log=SMALL)) as streams:
        first, second = await fill(streams, "a"), await fill(streams, "b")
        files.fail_next("unlink", errno.EIO)
        await streams.retain(10)
        assert "removing segments failed" in capsys.readouterr().out
        assert second.log.first_offset > 20
        await streams.retain(10)
        assert first.log.first_offset > 20
        result = await first.read(first.log.first_offset, 100)
        assert result is not None


async def test_a_floor_holds_retention_back() -> None:
    settings = StreamSettings(log=SMALL, retention_groups=["g"])
    async with opened(MemoryFiles(), settings) as streams:
        partition = await fill(streams, "s")
        await streams.retain(10)
        assert partition.log.first_offset == 0
        await streams.set_floor(streams.get("s"), "g", 0, 10)
        await streams.retain(10)
        assert 0 < partition.log.first_offset <= 10


async def test_in_memory_age_is_looked_after_and_scrubbing_has_nothing_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = StreamSettings(log=LogSettings(retention_s=10), storage="memory")
    async with opened(MemoryFiles(), settings) as streams:
        partition = (await streams.ensure("s")).partition(0)
        for second in range(20):
            append(partition, [b"x"], now_us=second * 1_000_000)
        await streams.retain(15_000_000)
        assert (partition.log.first_offset, partition.log.dropped) == (5, 0)
        await streams.scrub()
        assert await streams.offset_at(partition, 12_000_000) == 12
    assert "segments removed" not in capsys.readouterr().out
    assert partition.log.state is LogState.STOPPED


async def test_closing_goes_on_past_a_log_that_cannot_be_closed() -> None:
    files = MemoryFiles()
    streams = make_streams(files)
    for name in ("a", "b", "c"):
        append((await streams.ensure(name)).partition(0), [b"x"])
    files.fail_next("write", errno.EIO)
    with pytest.raises(StorageError, match="1 logs not closed in order"):
        await streams.close()
    # The directory is free again, nothing is lost, and two of them closed with a marker.
    async with opened(files) as streams:
        assert [stream.partition(0).high_water for stream in streams.all()] == [1, 1, 1]


async def test_the_level_of_compression_can_change() -> None:
    async with opened(MemoryFiles()) as streams:
        stream = await streams.ensure("s")
        streams.set_level(5)
        other = await streams.ensure("t")
        for one in (stream, other):
            assert one.codec._level == 5
    assert attrs.has(StreamSettings)
