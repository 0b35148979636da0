"""The journal: makes durable what groups decide, as records of the stream `__groups`.

Rules: one task appends, one batch after the other, so entries stand in the order of what happened;
while one append is under way, what comes next gathers for the one after it. What the log refuses
for now is tried again until it is taken, since memory is ahead of it; what it refuses for good ends
the stage. A snapshot is written when a segment's worth has been appended since the last one, and
from then on retention may take what is before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import trio

from streamer import (
    Batch,
    Codec,
    DeliverContext,
    OutcomeUnknown,
    Partition,
    Record,
    Stream,
    StreamerError,
    batches_of,
)
from streamer.groups.journal import Entry, Known, Replay, encode

STREAM = "__groups"
#: Raw bytes of entries in one batch.
_BATCH_BYTES = 256 * 1024
_READ_BYTES = 512 * 1024
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
#: Who waits for an ack learns by then that nobody knows.
_ANSWER_S = 30.0

Told = Callable[[StreamerError | None], None]


class Journal:
    """`collect` gives the news at each commit; `snapshot` all entries that make the state anew."""

    def __init__(
        self,
        context: DeliverContext,
        stream: Stream,
        *,
        collect: Callable[[], list[Entry]],
        committed: Callable[[], None],
        snapshot: Callable[[], Iterable[Entry]],
    ) -> None:
        self._context = context
        self._partition: Partition = stream.partitions[0]
        self._codec: Codec = stream.codec
        self._collect = collect
        self._committed = committed
        self._snapshot = snapshot
        self._snapshot_bytes = stream.settings.log.segment_bytes
        self._since_snapshot = 0
        #: The first offset that a start needs.
        self.floor = self._partition.log.first_offset
        self._entries: list[Entry] = []
        self._dirty = False
        self._waiting: list[tuple[float, Told]] = []
        #: Those for whom what is being written is all.
        self._served: list[tuple[float, Told]] = []
        self._failure: StreamerError | None = None
        self._busy = False
        self._news = trio.Event()
        self._closing = False
        #: Set once `run` has written all, after `close`.
        self.finished = trio.Event()
        self._commits = context.stats.counter("groups_commits", "appends to the journal of groups")
        self._latency = context.stats.latency(
            "groups_commit_seconds", "an append to the journal of groups"
        )

    async def load(self) -> Known:
        """Read all of it.

        Raises:
            StreamerError: it cannot be read, or holds what is no entry.
        """
        # A stage that failed before this one may have left an append under way.
        await self._partition.settled()
        replay, offset = Replay(), self._partition.log.first_offset
        while offset < self._partition.high_water:
            result = await self._partition.read(offset, _READ_BYTES)
            assert result is not None, "it ends at the high-water mark"
            for batch in batches_of(result.blob, self._codec.limits):
                for value in self._codec.decode(batch).values:
                    replay.take(value)
            self._since_snapshot += len(result.blob)
            offset = result.next_offset
        return replay.finish()

    def add(self, *entries: Entry) -> None:
        """Have entries written, in this order."""
        self._entries += entries
        self._news.set()

    def touch(self) -> None:
        """There are news to `collect`."""
        self._dirty = True
        self._news.set()

    def when_durable(self, told: Told) -> None:
        """Call `told` once all that has happened is durable, or may be lost: with the reason."""
        if self._failure is not None or not (self._entries or self._dirty or self._busy):
            told(self._failure)
            return
        self._waiting.append((trio.current_time() + _ANSWER_S, told))
        self._news.set()

    async def durable(self) -> None:
        """Wait until all that has happened is durable.

        Raises:
            StreamerError: it may be lost.
        """
        done = trio.Event()
        found: list[StreamerError | None] = []

        def told(error: StreamerError | None) -> None:
            found.append(error)
            done.set()

        self.when_durable(told)
        await done.wait()
        if found[0] is not None:
            raise found[0]

    def give_up(self, now: float) -> None:
        """Tell those who have waited too long."""
        late = [each for each in (*self._served, *self._waiting) if each[0] <= now]
        if not late:
            return
        self._served = [each for each in self._served if each[0] > now]
        self._waiting = [each for each in self._waiting if each[0] > now]
        for _, told in late:
            told(OutcomeUnknown(f"not durable within {_ANSWER_S:g} s, it may be so later"))

    def fail(self, error: StreamerError) -> None:
        """Nothing will be written any more."""
        self._failure = error
        waiting, self._served, self._waiting = [*self._served, *self._waiting], [], []
        for _, told in waiting:
            told(error)

    def close(self) -> None:
        """`run` returns once all is written."""
        self._closing = True
        self._news.set()

    async def run(self) -> None:
        """Write what comes until `close`.

        Raises:
            StreamerError: the log takes nothing any more.
        """
        while True:
            await self._news.wait()
            self._news = trio.Event()
            if self._entries or self._dirty or self._waiting:
                await self._commit()
            if self._since_snapshot >= self._snapshot_bytes and not self._closing:
                await self._write_snapshot()
            if self._closing and not (self._entries or self._dirty or self._waiting):
                self.finished.set()
                return
            if self._entries or self._dirty or self._waiting:
                self._news.set()

    async def _commit(self) -> None:
        self._busy, self._dirty = True, False
        entries = self._entries + self._collect()
        self._entries = []
        self._served, self._waiting = self._waiting, []
        began = trio.current_time()
        # Where that fails, nobody knows; who waits is told when the stage ends.
        await self._write(entries)
        self._latency.record(trio.current_time() - began)
        self._busy = False
        self._committed()
        served, self._served = self._served, []
        for _, told in served:
            told(None)

    async def _write(self, entries: Iterable[Entry]) -> int:
        """Append entries; the offset of the first."""
        first = -1
        for values in _batches(entries):
            batch = self._codec.encode_records(
                [Record(value) for value in values], now_us=self._context.now_us()
            )
            offset = await self._append(batch)
            first = offset if first < 0 else first
            self._since_snapshot += batch.nbytes
            self._commits.value += 1
        return first

    async def _append(self, batch: Batch) -> int:
        pauses = iter(_RETRY_S)
        pause = 0.0
        while True:
            try:
                receipt = await self._context.appender.append(STREAM, 0, batch)
            except StreamerError as error:
                # Entries do no harm twice, so what may be written is written again.
                if not error.retryable and not isinstance(error, OutcomeUnknown):
                    raise
                pause = next(pauses, pause)
                self._context.log.warning("journal of groups not written", error=error.message)
                await trio.sleep(pause)
            else:
                return receipt.offset

    async def _write_snapshot(self) -> None:
        entries = [["begin"], *self._snapshot(), ["end"]]
        self.floor = await self._write(entries)
        # Its own bytes do not count: one that is larger than a segment would call for the next.
        self._since_snapshot = 0
        self._context.log.info("snapshot of groups", entries=len(entries), offset=self.floor)


def _batches(entries: Iterable[Entry]) -> Iterator[list[bytes]]:
    """The values of entries, cut into batches."""
    values: list[bytes] = []
    nbytes = 0
    for entry in entries:
        value = encode(entry)
        if values and nbytes + len(value) > _BATCH_BYTES:
            yield values
            values, nbytes = [], 0
        values.append(value)
        nbytes += len(value)
    if values:
        yield values
