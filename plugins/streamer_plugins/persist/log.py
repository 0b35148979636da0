"""Persist: makes proposals durable in the partitions' logs, as many at once as are waiting.

Rules:

- One commit takes all that waits: a gathered write for each partition, one sync for each file,
  in the pipeline's disk thread. What comes meanwhile waits for the next: the slower the disk, the
  larger the commits.
- Nothing is acked at a level that its write has not reached; a failed write is answered, never
  forgotten, and takes everything proposed on top of it with it.
- A failed sync is never tried again: nobody knows what is on the disk. The partition stops.
- What goes to partitions that are in memory only needs no thread and no sync: it is committed
  first, at the level `accepted`, and does not wait for what it came with.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import attrs
import trio

from streamer import (
    Aborted,
    AckLevel,
    Batch,
    Commit,
    DiskFull,
    OutcomeUnknown,
    Partition,
    PartitionStopped,
    Proposal,
    Receiver,
    Sender,
    Stage,
    StageContext,
    StagePlugin,
    StreamerError,
    WritePlan,
    setting,
)


@attrs.frozen
class LogConfig:
    """Settings of the stage `log`."""

    fsync: Literal["group", "interval", "never"] = setting(
        "group",
        "when to sync: before every ack, at intervals, or when the kernel likes to",
    )
    fsync_interval_s: float = setting(
        1.0, "time between syncs when fsync is interval", unit="s", min=0.01, max=3600.0
    )
    commit_bytes: int = setting(
        4 * 1024 * 1024, "bytes in one commit", unit="bytes", min=64 * 1024, max=64 * 1024 * 1024
    )


@attrs.define(eq=False)
class _Write:
    """What one commit does to one partition."""

    partition: Partition
    proposals: list[Proposal]
    plan: WritePlan
    error: StreamerError | None = None

    @property
    def batches(self) -> list[Batch]:
        return [p.entry.batch for p in self.proposals if p.entry]

    def carry_out(self, sync: bool) -> None:
        """In the disk thread: write, and sync."""
        try:
            self.plan.run(sync)
        except StreamerError as error:
            self.error = error


class _Persist:
    def __init__(self, config: LogConfig, context: StageContext) -> None:
        self._sync = config.fsync == "group"
        self._at_intervals = config.fsync == "interval"
        self._level = AckLevel.SYNCED if self._sync else AckLevel.ACCEPTED
        self._context = context
        self._dirty: dict[Partition, None] = {}
        stats, name = context.stats, context.pipeline
        self._commits = stats.counter("persist_commits", "commits to disk", pipeline=name)
        self._batches = stats.counter("persist_batches", "batches written", pipeline=name)
        self._records = stats.counter("persist_records", "records committed", pipeline=name)
        self._bytes = stats.counter("persist_bytes", "bytes written", pipeline=name)
        self._failed = stats.counter("persist_failures", "writes that failed", pipeline=name)
        self._dropped = stats.counter(
            "persist_dropped", "records dropped from memory for want of room", pipeline=name
        )
        self._latency = stats.latency("commit_seconds", "one commit to disk", pipeline=name)

    def keep(self, proposals: Sequence[Proposal]) -> Commit:
        """Take in proposals to partitions in memory; what they refuse is answered already."""
        writes, done = self._plan(proposals)
        for write in writes:
            write.plan.run(False)
            log = write.partition.log
            dropped = log.dropped
            write.partition.committed(write.plan, write.batches)
            self._records.value += sum(batch.count for batch in write.batches)
            self._dropped.value += log.dropped - dropped
            done += write.proposals
        return self._commit(done, AckLevel.ACCEPTED)

    async def commit(self, proposals: Sequence[Proposal]) -> Commit:
        """Make proposals durable; those that it could not are answered already."""
        writes, done = self._plan(proposals)
        if writes:
            began = trio.current_time()
            try:
                await self._context.disk.run(partial(_carry_out, writes, self._sync))
            except trio.Cancelled:
                # Before its turn, or it would have ended first: nothing was written.
                for write in writes:
                    write.partition.failed(write.plan, Aborted("the pipeline ended before it"))
                raise
            self._latency.record(trio.current_time() - began)
            for write in writes:
                if self._finish(write):
                    done += write.proposals
        return self._commit(done, self._level)

    def _commit(self, done: Sequence[Proposal], level: AckLevel) -> Commit:
        # What waited for an earlier write is good only if no write took it back.
        good = [p for p in done if p.entry is not None or not self._refuse_stale(p)]
        return Commit(good, level, sum(p.nbytes for p in good))

    def _plan(self, proposals: Sequence[Proposal]) -> tuple[list[_Write], list[Proposal]]:
        by_partition: dict[Partition, list[Proposal]] = {}
        done: list[Proposal] = []
        for proposal in proposals:
            if self._refuse_stale(proposal):
                continue
            if proposal.entry is None:
                done.append(proposal)
            else:
                by_partition.setdefault(proposal.partition, []).append(proposal)
        writes = []
        for partition, group in by_partition.items():
            try:
                plan = partition.log.plan_append([p.entry for p in group if p.entry])
            except StreamerError as error:
                partition.retract()
                self._fail(group, error)
            else:
                writes.append(_Write(partition, group, plan))
        return writes, done

    def _refuse_stale(self, proposal: Proposal) -> bool:
        """Refuse a proposal that was made on top of a write that failed; is it one?"""
        if proposal.generation == proposal.partition.generation:
            return False
        self._fail([proposal], Aborted("a write before it failed, so it was not tried"))
        return True

    def _finish(self, write: _Write) -> bool:
        partition = write.partition
        if write.error is not None:
            self._failed.value += 1
            self._tell(partition, write.error)
            partition.failed(write.plan, write.error)
            self._context.log.error(
                "write failed",
                stream=partition.stream,
                partition=partition.number,
                code=write.error.code,
                error=write.error.message,
            )
            self._fail(write.proposals, _answer(write.error))
            return False
        batches = write.batches
        partition.committed(write.plan, batches)
        self._commits.value += 1
        self._batches.value += len(batches)
        self._records.value += sum(batch.count for batch in batches)
        self._bytes.value += sum(batch.nbytes for batch in batches)
        if self._at_intervals:
            self._dirty[partition] = None
        return True

    def _tell(self, partition: Partition, error: StreamerError) -> None:
        stream, number = partition.stream, partition.number
        text = f"{stream}, partition {number}: {error.message[:200]}"
        kind = "disk_full" if isinstance(error, DiskFull) else "write_failed"
        if isinstance(error, PartitionStopped):
            kind = "partition_stopped"
        self._context.events.emit(kind, text, severity="error", stream=stream, partition=number)

    def _fail(self, proposals: Sequence[Proposal], error: StreamerError) -> None:
        for proposal in proposals:
            proposal.fail(error)
            proposal.ticket.release()

    async def sync(self) -> None:
        partitions, self._dirty = list(self._dirty), {}
        for partition in partitions:
            plan = partition.log.plan_sync()
            if plan is None:
                continue
            try:
                await self._context.disk.run(plan.run)
            except trio.Cancelled:
                partition.failed(plan, Aborted("the pipeline ended before it"))
                raise
            except StreamerError as error:
                partition.failed(plan, error)
                self._tell(partition, error)
                self._context.log.error(
                    "sync failed",
                    stream=partition.stream,
                    partition=partition.number,
                    error=error.message,
                )
            else:
                partition.log.synced(plan)


def _answer(error: StreamerError) -> StreamerError:
    """What those are told whose write failed: a refusal only where nothing was written for sure."""
    if isinstance(error, PartitionStopped):
        return OutcomeUnknown(f"it may be in the log or not: {error.message}", **error.detail)
    return error


def _carry_out(writes: Sequence[_Write], sync: bool) -> None:
    for write in writes:
        write.carry_out(sync)


async def _send(send: Sender[Commit], commit: Commit) -> None:
    if commit.proposals:
        await send.send(commit)


def make(config: LogConfig, context: StageContext) -> Stage:
    interval_s = config.fsync_interval_s if config.fsync == "interval" else float("inf")

    async def run(receive: Receiver[Proposal], send: Sender[Commit]) -> None:
        persist = _Persist(config, context)
        sync_at = trio.current_time() + interval_s
        with receive, send:
            while True:
                try:
                    proposals = await receive.receive_all(config.commit_bytes, until=sync_at)
                except trio.EndOfChannel:
                    break
                in_memory = [p for p in proposals if p.partition.in_memory]
                if in_memory:
                    # Before any write is planned: a plan must not wait for room behind us.
                    await _send(send, persist.keep(in_memory))
                    proposals = [p for p in proposals if not p.partition.in_memory]
                if proposals:
                    await _send(send, await persist.commit(proposals))
                if trio.current_time() >= sync_at:
                    await persist.sync()
                    sync_at = trio.current_time() + interval_s
            await persist.sync()

    return run


STAGE = StagePlugin(name="log", place="persist", config=LogConfig, factory=make)
