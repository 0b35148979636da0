"""The dead letters of a stream: read one by one, with the account of their end.

Rules: they are records of `STREAM.dead`, read like those of any stream; the daemon says which of
them were neither redriven nor purged when it was asked. What lies between those is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Self

import attrs

from streamer.client.reader import Reader
from streamer.groups.letters import DEAD_HEADER, facts_of, redriven_of
from streamer.groups.ranges import Ranges, pairs
from streamer.records import Record

__all__ = ["DeadLetter", "Letters", "portions"]

#: Records that are sooner read over than jumped over.
_GAP_RECORDS = 5_000
#: The daemon takes 10,000 in a request; fewer are carried out sooner.
_RECORDS_A_REQUEST = 5_000

OpenReader = Callable[[str, int, int], AbstractAsyncContextManager[Reader]]


@attrs.frozen
class DeadLetter:
    """A record that could not be handled, and why.

    `partition` and `offset` are where it lies in STREAM.dead; `record` is without the header that
    says the rest: where it came from, the attempts that failed, the last one's error, when it was
    first handed out and when it failed last (microseconds since 1970 UTC). `redriven` counts how
    often it had been given another chance before. One that somebody else put there has the reason
    "unknown", and itself as its source.
    """

    partition: int
    offset: int
    record: Record
    reason: str
    group: str
    source_stream: str
    source_partition: int
    source_offset: int
    attempts: int
    error: str
    first_us: int
    last_us: int
    redriven: int


class Letters:
    """The open dead letters of a stream, in order. Made by `Client.dead_letters`."""

    def __init__(
        self,
        stream: str,
        partitions: Iterable[tuple[int, list[int]]],
        open_reader: OpenReader,
        stack: AsyncExitStack,
    ) -> None:
        self.stream = stream
        self._partitions = deque(each for each in partitions if each[1])
        self._open_reader = open_reader
        self._stack = stack
        self._reader: Reader | None = None
        self._partition = 0
        self._open = Ranges()
        self._ready: deque[DeadLetter] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DeadLetter:
        """The next letter.

        Raises:
            StreamerError: why it cannot be read.
        """
        while not self._ready:
            if self._reader is None and not await self._next_partition():
                raise StopAsyncIteration
            await self._read()
        return self._ready.popleft()

    async def _next_partition(self) -> bool:
        if not self._partitions:
            return False
        self._partition, bounds = self._partitions.popleft()
        self._open = Ranges(bounds)
        opening = self._open_reader(self.stream, self._partition, bounds[0])
        self._reader = await self._stack.enter_async_context(opening)
        return True

    async def _read(self) -> None:
        """Take one batch of the reader, or end it."""
        reader = self._reader
        assert reader is not None, "a partition is open"
        batch = await anext(reader, None) if self._open else None
        if batch is None:
            reader.close()
            self._reader = None
            return
        for first, end in pairs(self._open.overlap(batch.base_offset, batch.next_offset)):
            records = batch.records[first - batch.base_offset : end - batch.base_offset]
            for offset, record in enumerate(records, first):
                self._ready.append(_letter(self.stream, self._partition, offset, record))
        self._open.remove(0, batch.next_offset)
        if self._open and self._open.bounds[0] - batch.next_offset > _GAP_RECORDS:
            reader.seek(self._open.bounds[0])


def _letter(stream: str, partition: int, offset: int, record: Record) -> DeadLetter:
    facts = facts_of(record)
    redriven = redriven_of(record)
    if facts is None:
        time_us = record.timestamp_us or 0
        return DeadLetter(
            partition, offset, record, "unknown", "", stream, partition, offset, 0, "",
            time_us, time_us, redriven,
        )  # fmt: skip
    headers = {name: text for name, text in (record.headers or {}).items() if name != DEAD_HEADER}
    return DeadLetter(
        partition,
        offset,
        attrs.evolve(record, headers=headers or None),
        facts.reason,
        facts.group,
        facts.stream,
        facts.partition,
        facts.offset,
        facts.attempts,
        facts.error,
        facts.first_us,
        facts.last_us,
        redriven,
    )


def portions(letters: Iterable[DeadLetter]) -> Iterator[tuple[int, list[int]]]:
    """Partitions and bounds of letters, so many at a time as a request may have."""
    offsets: dict[int, set[int]] = {}
    for letter in letters:
        offsets.setdefault(letter.partition, set()).add(letter.offset)
    for partition, found in sorted(offsets.items()):
        ordered = sorted(found)
        for at in range(0, len(ordered), _RECORDS_A_REQUEST):
            bounds = Ranges()
            for offset in ordered[at : at + _RECORDS_A_REQUEST]:
                bounds.add(offset, offset + 1)
            yield partition, bounds.bounds
