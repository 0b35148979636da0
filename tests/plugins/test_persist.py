"""Persist: what is acked is on the disk, what fails is answered, and nothing is tried again."""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from streamer import (
    Aborted,
    AckLevel,
    Append,
    Commit,
    DiskFull,
    OutcomeUnknown,
    PartitionStopped,
    Proposal,
    StageContext,
)
from streamer.pipeline.channel import open_channel
from streamer.pipeline.streams import StreamSettings
from streamer.storage.partition import LogSettings
from streamer.testing.memory_files import MemoryFiles
from streamer.testing.stage_checks import check_stage, make_append, open_context, run_stage
from streamer_plugins.ingest.group import STAGE as INGEST
from streamer_plugins.persist.log import STAGE, LogConfig
from streamer_plugins.propose.local import STAGE as PROPOSE


async def proposals_of(context: StageContext, appends: Sequence[Append]) -> list[Proposal]:
    groups = await run_stage(INGEST, context, appends)
    return await run_stage(PROPOSE, context, groups)


async def persist(context: StageContext, proposals: Sequence[Proposal], **settings: Any) -> Any:
    return await run_stage(STAGE, context, proposals, LogConfig(**settings))


def records(commits: Sequence[Commit]) -> int:
    return sum(waiter.count for c in commits for p in c.proposals for waiter in p.waiters)


async def test_what_is_committed_survives_a_power_cut() -> None:
    files = MemoryFiles()
    async with open_context(files) as context:
        commits = await persist(
            context, await proposals_of(context, [make_append(n) for n in range(10)])
        )
        assert {commit.level for commit in commits} == {AckLevel.SYNCED}
        assert records(commits) == 16
        (stream,) = context.streams.all()
        assert stream.partitions[0].high_water == 16
    files.power_cut(random.Random(1))
    async with open_context(files) as context:
        await context.streams.open_all()
        (stream,) = context.streams.all()
        assert stream.partitions[0].high_water == 16


async def test_all_that_waits_shares_one_sync() -> None:
    async with open_context() as context:
        proposals = await proposals_of(context, [make_append(n) for n in (2, 5, 8)])
        (commit,) = await persist(context, proposals)
        assert len(commit.proposals) == 3
        counter = context.stats.counter("persist_commits", "", pipeline="checks")
        assert counter.value == 1


async def test_without_fsync_the_level_is_accepted() -> None:
    async with open_context() as context:
        proposals = await proposals_of(context, [make_append(2)])
        (commit,) = await persist(context, proposals, fsync="never")
        assert commit.level is AckLevel.ACCEPTED


async def test_at_intervals_it_syncs_what_was_written(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_context() as context, trio.open_nursery() as nursery:
        proposals = await proposals_of(context, [make_append(2)])
        head, receive = open_channel(10, 1 << 20)
        send, out = open_channel(10, 1 << 20)
        config = LogConfig(fsync="interval", fsync_interval_s=2.0)
        nursery.start_soon(STAGE.factory(config, context), receive, send)
        await head.send(proposals[0])
        (commit,) = await out.receive_all()
        assert commit.level is AckLevel.ACCEPTED
        log = proposals[0].partition.log
        assert (log.high_water, log.durable_offset) == (3, 0)
        await trio.sleep(3)
        assert log.durable_offset == 3
        head.close()


async def test_a_full_disk_refuses_and_later_writes_go_on() -> None:
    files = MemoryFiles()
    async with open_context(files) as context:
        await persist(context, await proposals_of(context, [make_append(2)]))
        appends = [make_append(5), make_append(8)]
        proposals = await proposals_of(context, appends)
        files.capacity_bytes = files.used_bytes() + 10
        assert await persist(context, proposals) == []
        for append in appends:
            assert isinstance(append.ack.outcomes[0], DiskFull)
        files.capacity_bytes = 1 << 40
        again = await proposals_of(context, [make_append(11)])
        commits = await persist(context, again)
        assert records(commits) == 3
        assert again[0].partition.high_water == 6


async def test_a_failed_sync_stops_the_partition_and_everything_behind_it() -> None:
    files = MemoryFiles()
    async with open_context(files) as context:
        await persist(context, await proposals_of(context, [make_append(2)]))
        appends = [make_append(5), make_append(8)]
        proposals = await proposals_of(context, appends)
        files.fail_next("sync", errno.EIO)
        assert await persist(context, proposals) == []
        assert isinstance(appends[0].ack.outcomes[0], OutcomeUnknown)
        late = make_append(11)
        assert await proposals_of(context, [late]) == []
        assert isinstance(late.ack.outcomes[0], PartitionStopped)
        partition = proposals[0].partition
        assert partition.high_water == 3
        result = await partition.read(0, 10_000)
        assert result is not None
        assert result.next_offset == 3


async def test_what_was_proposed_on_top_of_a_failed_write_is_aborted() -> None:
    files = MemoryFiles()
    async with open_context(files) as context:
        await persist(context, await proposals_of(context, [make_append(2)]))
        first, second = make_append(5), make_append(8)
        before = await proposals_of(context, [first])
        behind = await proposals_of(context, [second])
        files.capacity_bytes = files.used_bytes() + 10
        assert await persist(context, before) == []
        files.capacity_bytes = 1 << 40
        assert await persist(context, behind) == []
        assert isinstance(first.ack.outcomes[0], DiskFull)
        assert isinstance(second.ack.outcomes[0], Aborted)
        # Both may be sent again, with the same sequences.
        again = await proposals_of(context, [make_append(5), make_append(8)])
        assert records(await persist(context, again)) == 6


async def test_a_duplicate_is_not_acked_when_its_original_fails() -> None:
    files = MemoryFiles()
    async with open_context(files) as context:
        await persist(context, await proposals_of(context, [make_append(2)]))
        original, again = make_append(5), make_append(5)
        proposals = await proposals_of(context, [original, again])
        assert [p.entry is None for p in proposals] == [False, True]
        files.fail_next("sync", errno.EIO)
        assert await persist(context, proposals) == []
        assert isinstance(again.ack.outcomes[0], Aborted)


async def test_a_full_channel_behind_it_stops_it() -> None:
    async with open_context() as context, trio.open_nursery() as nursery:
        proposals = await proposals_of(context, [make_append(n) for n in range(2, 20, 3)])
        head, receive = open_channel(1, 1 << 20)
        send, out = open_channel(1, 1 << 20)
        nursery.start_soon(STAGE.factory(LogConfig(), context), receive, send)

        async def feed() -> None:
            with head:
                for proposal in proposals:
                    await head.send(proposal)

        nursery.start_soon(feed)
        await wait_all_tasks_blocked()
        assert head.statistics().senders_waiting == 1
        commits = [commit async for commit in out]
        assert records(commits) == 18


async def test_it_passes_the_checks_of_every_stage(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await check_stage(STAGE)


# ------------------------------------------------------------------------------------- in memory


@asynccontextmanager
async def mixed_context(
    files: MemoryFiles | None = None, memory_bytes: int = 1 << 20
) -> AsyncGenerator[StageContext, None]:
    """Streams whose names begin with "memory" are in memory."""
    async with open_context(files) as context:
        log = LogSettings(memory_bytes=memory_bytes)
        memory = StreamSettings(storage="memory", log=log)
        context.streams.settings = lambda name: (
            memory if name.startswith("memory") else StreamSettings()
        )
        yield context


def to_stream(stream: str, *numbers: int) -> list[Append]:
    appends = [make_append(number) for number in numbers]
    for append in appends:
        append.stream = stream
    return appends


def streams_of(commit: Commit) -> set[str]:
    return {proposal.partition.stream for proposal in commit.proposals}


async def test_in_memory_the_level_is_accepted_and_no_call_reaches_the_disk() -> None:
    files = MemoryFiles()
    async with mixed_context(files) as context:
        proposals = await proposals_of(context, to_stream("memory", *range(10)))
        calls = files.calls
        for fsync in ("group", "interval", "never"):
            (commit,) = await persist(context, proposals, fsync=fsync)
            assert commit.level is AckLevel.ACCEPTED
            assert commit.nbytes == sum(p.nbytes for p in commit.proposals)
            # New ones, and then the same again.
            proposals = await proposals_of(context, to_stream("memory", 12, 15))
        assert files.calls == calls
        (stream,) = context.streams.all()
        assert stream.partitions[0].high_water == 18
        for name in ("persist_commits", "persist_bytes"):
            assert context.stats.counter(name, "", pipeline="checks").value == 0


async def test_a_mixed_lot_is_two_commits_and_memory_does_not_wait_for_the_disk() -> None:
    async with mixed_context() as context:
        appends = [*to_stream("disk", 2, 3), *to_stream("memory", 5, 6), *to_stream("disk", 8)]
        proposals = await proposals_of(context, appends)
        first, second = await persist(context, proposals)
        assert (first.level, streams_of(first)) == (AckLevel.ACCEPTED, {"memory"})
        assert (second.level, streams_of(second)) == (AckLevel.SYNCED, {"disk"})
        assert (records([first]), records([second])) == (4, 7)
        counter = context.stats.counter("persist_commits", "", pipeline="checks")
        assert counter.value == 1


async def test_a_disk_that_fails_does_not_take_memory_along() -> None:
    files = MemoryFiles()
    async with mixed_context(files) as context:
        disk, memory = to_stream("disk", 2), to_stream("memory", 5)
        proposals = await proposals_of(context, [*disk, *memory])
        files.fail_next("sync", errno.EIO)
        (commit,) = await persist(context, proposals)
        assert streams_of(commit) == {"memory"}
        assert isinstance(disk[0].ack.outcomes[0], OutcomeUnknown)
        again = await proposals_of(context, to_stream("memory", 8))
        assert records(await persist(context, again)) == 3


async def test_what_leaves_memory_is_counted() -> None:
    async with mixed_context(memory_bytes=500) as context:
        proposals = await proposals_of(context, to_stream("memory", *range(2, 60, 3)))
        await persist(context, proposals)
        log = proposals[0].partition.log
        assert log.next_offset == 60
        assert log.dropped == log.first_offset > 40
        counter = context.stats.counter("persist_dropped", "", pipeline="checks")
        assert counter.value == log.dropped


async def test_in_memory_a_duplicate_is_acked_after_its_original_at_the_same_level() -> None:
    async with mixed_context() as context:
        original, again = to_stream("memory", 5, 5)
        proposals = await proposals_of(context, [original, again])
        assert [p.entry is None for p in proposals] == [False, True]
        (commit,) = await persist(context, proposals)
        assert [p.waiters[0].offset for p in commit.proposals] == [0, 0]
        assert commit.level is AckLevel.ACCEPTED
        # Alone as well, when the original was committed long ago.
        (commit,) = await persist(context, await proposals_of(context, to_stream("memory", 5)))
        assert [waiter.duplicate for p in commit.proposals for waiter in p.waiters] == [True]
        assert proposals[0].partition.high_water == 3


async def test_in_memory_what_a_closed_log_refuses_is_answered() -> None:
    async with mixed_context() as context:
        appends = to_stream("memory", 5, 5)
        proposals = await proposals_of(context, appends)
        proposals[0].partition.log.plan_close().run()
        assert await persist(context, proposals) == []
        assert isinstance(appends[0].ack.outcomes[0], PartitionStopped)
        assert isinstance(appends[1].ack.outcomes[0], Aborted)


async def test_cancelled_while_the_ack_of_memory_waits_no_write_is_left_planned() -> None:
    async with mixed_context() as context:
        lot = [*to_stream("disk", 2), *to_stream("memory", 2)]
        proposals = await proposals_of(context, lot)
        head, receive = open_channel(10, 1 << 20)
        send, out = open_channel(1, 1 << 20)
        async with trio.open_nursery() as nursery:
            await send.send(Commit([], AckLevel.SYNCED, 1))
            for proposal in proposals:
                await head.send(proposal)
            nursery.start_soon(STAGE.factory(LogConfig(), context), receive, send)
            await wait_all_tasks_blocked()
            assert out.statistics().senders_waiting == 1
            disk, memory = (proposal.partition for proposal in proposals)
            assert (disk.high_water, memory.high_water) == (0, 3)
            nursery.cancel_scope.cancel()
        for partition in (disk, memory):
            partition.abandon("it was cancelled")
            partition.log.check_writable()
            assert partition.next_offset == partition.high_water
