"""Records that wait in a companion STREAM.delayed, and are moved to STREAM when they are due.

What waits stays on the disk: in memory is a bounded index of the near future, made anew by reading
the log when it runs short (`groups.delays`). What has been moved is known by a progress of its own
in the journal, so a start goes on where it was.
"""

from __future__ import annotations

import trio

from streamer import (
    BadBatch,
    DeliverContext,
    OffsetOutOfRange,
    PartitionDamaged,
    Record,
    Stream,
    StreamerError,
    partition_for,
)
from streamer.groups.delays import DelayIndex
from streamer.groups.progress import Progress
from streamer.groups.ranges import Ranges, pairs
from streamer.names import DELAYED
from streamer_plugins.deliver.moves import BACKLOG_MAX, Moves
from streamer_plugins.deliver.source import Piece, pieces_of

_READ_BYTES = 512 * 1024
_MOVED_AT_ONCE = 500
_TOGETHER_S = 0.05
#: The wall clock may be set: nothing sleeps longer than that.
_SLEEP_S = 1.0
_RETRY_S = 1.0
#: Holes in what has been moved, above which the oldest that waits is put behind the newest.
_RANGES_MAX = 10_000


class Delayed:
    """One companion stream; `number` is that of its progress in the journal."""

    def __init__(
        self,
        number: int,
        stream: Stream,
        progress: Progress,
        context: DeliverContext,
        moves: Moves,
        entries_max: int,
    ) -> None:
        self.number = number
        self.stream = stream
        self.progress = progress
        self.context = context
        self._moves = moves
        self._partition = stream.partitions[0]
        self._target = stream.name.removesuffix(DELAYED)
        #: All below it has been looked at.
        self._position = self._partition.high_water
        waiting = self._position - progress.cursor - progress.done.count
        self.index = DelayIndex(entries_max, waiting=waiting, next_offset=self._position)
        #: What could not be read: it stays where it is.
        self.unreadable = Ranges()
        self._turn = 0
        self._news = trio.Event()
        self._partition.watchers.add(self._wake)

    def _wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._partition.watchers.discard(self._wake)

    async def run(self) -> None:
        """Move what is due, until cancelled."""
        while True:
            self._news = trio.Event()
            try:
                await self._look_at_new()
                if self.index.needs_scan(self.context.now_us()):
                    await self._scan()
                moved = await self._move()
            except StreamerError as error:
                self.context.log.warning(
                    "delayed records cannot be moved", stream=self.stream.name, error=error.message
                )
                await trio.sleep(_RETRY_S)
                continue
            if moved:
                # What comes due meanwhile goes together: it is read and decompressed by the batch.
                await trio.sleep(_TOGETHER_S)
            else:
                with trio.move_on_after(self._pause_s()):
                    await self._news.wait()

    def _pause_s(self) -> float:
        wake_us = self.index.wake_us
        if wake_us is None:
            return float("inf")
        return min(_SLEEP_S, max(0.0, (wake_us - self.context.now_us()) / 1_000_000))

    async def _look_at_new(self) -> None:
        async for offset, due_us in _Times(self, self._position, None):
            self._position = offset + 1
            self.index.add(offset, due_us)

    async def _scan(self) -> None:
        scan = self.index.begin_scan()
        try:
            async for offset, due_us in _Times(self, self.progress.cursor, scan.end):
                if not self.progress.is_done(offset):
                    scan.offer(offset, due_us)
            scan.finish()
        finally:
            scan.abandon()

    async def _move(self) -> bool:
        """Decide on moves of what is due; whether there was anything."""
        if self._moves.backlog(self._target) > BACKLOG_MAX:
            await trio.sleep(_SLEEP_S / 10)
            return True
        if len(self.progress.done) > _RANGES_MAX:
            self._put_behind()
        offsets = self.index.due(self.context.now_us(), _MOVED_AT_ONCE)
        if not offsets:
            return False
        try:
            target = await self.context.streams.ensure(self._target)
            # Only a key says where among several it goes.
            found = await self._read(offsets) if len(target.partitions) > 1 else {}
        except BaseException:
            self.index.put_back(offsets)
            raise
        for offset in offsets:
            record = found.get(offset)
            where = (self._target, self._place(target, record))
            source = (self.stream.name, 0, offset, offset + 1)
            self.progress.finish(offset, offset + 1, told=True)
            self._moves.add(where, "delayed", self.number, source, {})
        self.index.done(offsets)
        return True

    def _put_behind(self) -> None:
        """Records that wait for long leave holes in what is done, and hold the log's oldest
        segments: the oldest of them are appended to this stream once more, to wait there."""
        progress, known = self.progress, self.progress.done.copy()
        for first, end in self.unreadable:
            known.add(first, end)
        left = known.missing(progress.cursor, self._position)[: 2 * _MOVED_AT_ONCE]
        offsets = [at for first, end in pairs(left) for at in range(first, end)][:_MOVED_AT_ONCE]
        self.index.remove(offsets)
        for offset in offsets:
            progress.finish(offset, offset + 1, told=True)
            source = (self.stream.name, 0, offset, offset + 1)
            self._moves.add((self.stream.name, 0), "again", self.number, source, {})

    async def _read(self, offsets: list[int]) -> dict[int, Record]:
        wanted = Ranges()
        for offset in offsets:
            wanted.add(offset, offset + 1)
        return await self._moves.read(self.stream.name, 0, wanted)

    def _place(self, target: Stream, record: Record | None) -> int:
        """The partition of the target: by the key, else each in its turn."""
        count = len(target.partitions)
        if count > 1 and record is not None and record.key is not None:
            return partition_for(record.key, count)
        self._turn += 1
        return self._turn % count


class _Times:
    """(offset, due time) of the records from an offset on, up to `end` or the end of the log."""

    def __init__(self, delayed: Delayed, offset: int, end: int | None) -> None:
        self._stream = delayed.stream
        self._partition = delayed.stream.partitions[0]
        self._limits = delayed.context.limits
        self._log = delayed.context.log
        self._unreadable = delayed.unreadable
        self._offset = offset
        self._end = end
        self._ready: list[tuple[int, int]] = []

    def __aiter__(self) -> _Times:
        return self

    async def __anext__(self) -> tuple[int, int]:
        while not self._ready:
            await self._read()
        return self._ready.pop()

    async def _read(self) -> None:
        partition, start = self._partition, self._offset
        end = partition.high_water if self._end is None else self._end
        if start >= end:
            raise StopAsyncIteration
        try:
            result = await partition.read(start, _READ_BYTES)
        except OffsetOutOfRange:
            if partition.log.first_offset <= start:
                raise
            self._offset = partition.log.first_offset
            return
        except PartitionDamaged as error:
            self._offset = max(start + 1, int(error.detail.get("next") or end))
            self._skipped(start, self._offset, error)
            return
        assert result is not None, "there is more below the high-water mark"
        found: list[tuple[int, int]] = []
        for piece in pieces_of(result.blob, self._limits):
            for index, record in enumerate(await self._records(piece)):
                if start <= piece.first + index < end:
                    # One without a time has no reason to wait.
                    found.append((piece.first + index, record.deliver_at_us or 0))
        self._offset = result.next_offset
        self._ready = found[::-1]

    def _skipped(self, first: int, end: int, error: StreamerError) -> None:
        if not self._unreadable.add(first, end):
            return
        self._log.error(
            "delayed records cannot be read, and stay",
            stream=self._stream.name,
            first=first,
            end=end,
            error=error.message,
        )

    async def _records(self, piece: Piece) -> list[Record]:
        """Those of a batch; none of one that cannot be read: it stays, and holds nothing up."""
        try:
            return await piece.decode(self._stream, self._limits)
        except BadBatch as error:
            self._skipped(piece.first, piece.end, error)
            return []
