"""A partition as the event loop sees it: the log, what is proposed beyond it, and who waits.

The log (`storage.log.Log`, on the disk or in memory) knows what is written. Propose runs ahead of
it: `next_offset` and `proposed` are what the log will be when all that is under way has been
written. A failed write takes that back at once (`failed`): the generation changes, so whatever
is still under way in the older one is refused instead of written with a hole before it.

All methods that change state are synchronous: no checkpoint between a check and its change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import structlog
import trio

from streamer.batch import Batch
from streamer.errors import PartitionDamaged, StreamerError
from streamer.pipeline.disk import Disk
from streamer.storage.log import Log, Plan, WritePlan
from streamer.storage.read import ReadResult

T = TypeVar("T")
_log = structlog.get_logger("streamer.partition")


@attrs.define
class TailEntry:
    """A batch at the end of a log, still in memory."""

    batch: Batch
    partition: Partition


class TailCache:
    """The newest batches of all partitions, within one budget of bytes.

    A reader that keeps up is served from here, without a read from the disk. The oldest leave
    first, whichever partition they are of.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._entries: deque[TailEntry] = deque()

    def add(self, partition: Partition, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self._entries.append(TailEntry(batch, partition))
            partition.tail.append(batch)
            self.bytes += batch.nbytes
        while self.bytes > self.bytes_max:
            entry = self._entries.popleft()
            self.bytes -= entry.batch.nbytes
            entry.partition.tail.popleft()


class Partition:
    """One partition of one stream, and everything that is not on the disk about it."""

    def __init__(self, stream: str, number: int, log: Log, cache: TailCache, readers: Disk) -> None:
        self.stream = stream
        self.number = number
        self.log = log
        self.in_memory = log.in_memory
        self.next_offset = log.next_offset
        self.proposed = log.producers.copy()
        self.generation = 0
        self.tail: deque[Batch] = deque()
        self._cache = cache
        #: Called at each commit, without a checkpoint: whoever they are only takes note.
        self.watchers: set[Callable[[], None]] = set()
        self._waiting = trio.lowlevel.ParkingLot()
        self._readers = readers

    @property
    def high_water(self) -> int:
        return self.log.high_water

    async def run(self, job: Callable[[], T]) -> T:
        """Carry out a plan of its log that does not write: in a thread, if it may block."""
        if self.in_memory:
            await trio.lowlevel.checkpoint()
            return job()
        return await self._readers.run(job)

    def committed(self, plan: WritePlan, batches: Sequence[Batch]) -> None:
        """The plan was carried out: readers may see it."""
        self.log.committed(plan)
        if not self.in_memory:
            self._cache.add(self, batches)
        self._waiting.unpark_all()
        for watcher in self.watchers:
            watcher()

    def failed(self, plan: WritePlan | Plan[None], error: StreamerError) -> None:
        """The plan was not carried out: take back all that is proposed beyond what is written."""
        self.log.failed(plan, error)
        self.retract()

    def retract(self) -> None:
        """Forget what is proposed beyond what is written."""
        self.generation += 1
        if self.next_offset != self.log.next_offset:
            self.next_offset = self.log.next_offset
            self.proposed = self.log.producers.copy()
        # A failed write may have made readable what a recovery had left, and `settled` waits too.
        self._waiting.unpark_all()

    def abandon(self, reason: str) -> None:
        """Its pipeline failed: forget what is proposed. If a write was never given back, nobody
        knows what is on the disk, and the log stops."""
        self.log.abandoned(reason)
        self.retract()

    async def settled(self) -> None:
        """Wait until all that is proposed by now has been written, or taken back."""
        end, generation = self.next_offset, self.generation
        # Not the high-water mark: a tail that a start had no room for is written all the same.
        while self.log.next_offset < end and generation == self.generation:
            await self._waiting.park()

    async def wait_above(self, offset: int) -> None:
        """Wait until the high-water mark is above `offset`."""
        while self.high_water <= offset:
            await self._waiting.park()

    def read_tail(self, offset: int, bytes_max: int) -> ReadResult | None:
        """Whole batches from the one that holds `offset`, if memory still has it."""
        tail = self.tail
        if not tail or offset < tail[0].header.base_offset:
            return None
        chosen: list[Batch] = []
        room = bytes_max
        # Readers that keep up want the last few: search from the end.
        for batch in reversed(tail):
            if batch.header.next_offset <= offset:
                break
            chosen.append(batch)
        chosen.reverse()
        parts: list[bytes | memoryview] = []
        next_offset = offset
        for batch in chosen:
            if parts and batch.nbytes > room:
                break
            room -= batch.nbytes
            parts += (batch.head, batch.payload)
            next_offset = batch.header.next_offset
        return ReadResult(b"".join(parts), chosen[0].header.base_offset, next_offset)

    async def read(self, offset: int, bytes_max: int) -> ReadResult | None:
        """Whole batches from the one that holds `offset`; None at the high-water mark.

        Raises:
            OffsetOutOfRange: below the first offset kept, or above the high-water mark.
            PartitionDamaged: the bytes there do not pass their checks; `detail` says which
                offsets to skip.
        """
        if offset < self.high_water:
            result = self.read_tail(offset, bytes_max)
            if result is not None:
                await trio.lowlevel.checkpoint()
                return result
        plan = self.log.plan_read(offset, bytes_max)
        if plan is None:
            await trio.lowlevel.checkpoint()
            return None
        try:
            return await self.run(plan.run)
        except PartitionDamaged as error:
            self.note_damage(error)
            raise

    def note_damage(self, error: PartitionDamaged) -> None:
        """A read or a scrub ran into damage: from now on the partition takes no writes."""
        known = len(self.log.damage)
        self.log.note_damage(error)
        if len(self.log.damage) > known:
            _log.error(
                "damage",
                stream=self.stream,
                partition=self.number,
                reason=error.message,
                **error.detail,
            )
