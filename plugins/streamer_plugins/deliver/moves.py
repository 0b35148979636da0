"""Moves: records that go from one stream to another exactly once, whatever happens on the way.

A move is decided, and written into the journal with the sequence that its records will have there;
that entry alone also says that they are done where they come from. Only then they are appended,
under a producer id of the journal's own, so what was appended before a crash is known by its
sequence and not appended again. So a dead letter is never in both places and never in neither:
between the two appends it is the journal that has it, and a start finishes that first.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs
import trio

from streamer import (
    Batch,
    Codec,
    DeliverContext,
    OutcomeUnknown,
    OutOfSequence,
    PipelineDown,
    ProducerStamp,
    ProducerUnknown,
    Record,
    StreamerError,
    TooLarge,
)
from streamer.groups.journal import Entry, KnownTarget, Move
from streamer.groups.letters import (
    DEAD_HEADER,
    GONE_HEADER,
    REDRIVEN_HEADER,
    DeadFacts,
    dead_letter,
    moved,
    revive,
)
from streamer.groups.ranges import Ranges
from streamer.observe.trace import Marks, marks_of
from streamer_plugins.deliver.source import Pieces, records_at

#: Records of one append, and of moves that may be under way before others have to wait.
_RECORDS_MAX = 500
BACKLOG_MAX = 20_000
#: Records so near to each other are read together.
_NEAR = 1000
_RETRY_S = (0.05, 0.2, 1.0, 5.0)
Where = tuple[str, int]


@attrs.define
class _Target:
    producer: int
    next_sequence: int
    #: In the journal, to be appended.
    ready: deque[Move] = attrs.Factory(deque)
    #: All below is appended; the journal was told of all below the other.
    appended: int = 0
    told: int = 0
    running: bool = False
    #: Why the last append failed.
    error: str = ""


class Moves:
    """All moves under way. `touch` tells the journal that there are news."""

    def __init__(
        self, context: DeliverContext, nursery: trio.Nursery, touch: Callable[[], None]
    ) -> None:
        self._context = context
        self._nursery = nursery
        self._touch = touch
        self._targets: dict[Where, _Target] = {}
        #: Decided since the journal last took the news.
        self._new: list[tuple[Where, Move]] = []
        #: Taken by the journal, not durable yet.
        self._writing: list[tuple[Where, Move]] = []
        self._entries: list[Entry] = []
        #: Records under way, by the stream that they go to.
        self._backlogs: dict[str, int] = {}
        self._closed = False
        self._idle = trio.lowlevel.ParkingLot()
        self._moved = context.stats.counter("groups_moved", "records moved between streams")
        self._codec = Codec(limits=context.limits)
        self._pieces = Pieces()

    # ---------------------------------------------------------------------------------- deciding

    def add(
        self,
        where: Where,
        kind: str,
        group: int,
        source: tuple[str, int, int, int],
        facts: dict[str, Any],
    ) -> None:
        """Decide on a move; `source` is stream, partition, first and end."""
        target = self._targets.get(where)
        if target is None:
            target = self._targets[where] = self._new_target(where)
        move = Move(target.next_sequence, kind, group, *source, facts)
        target.next_sequence += move.count
        self._new.append((where, move))
        self._count(where, move.count)
        self._touch()

    def _count(self, where: Where, records: int) -> None:
        self._backlogs[where[0]] = self._backlogs.get(where[0], 0) + records

    def backlog(self, stream: str) -> int:
        """How many records are on their way to a stream."""
        return self._backlogs.get(stream, 0)

    def health(self) -> list[str]:
        """Which targets take nothing."""
        return [
            f"records cannot be moved to partition {partition} of {stream!r}: {target.error}"
            for (stream, partition), target in self._targets.items()
            if target.error
        ]

    def _new_target(self, where: Where) -> _Target:
        producer = self._context.rng.getrandbits(63) or 1
        self._entries.append(["target", *where, producer])
        return _Target(producer, 0)

    def take_news(self) -> list[Entry]:
        """What the journal is to write."""
        entries, self._entries = self._entries, []
        entries += (["move", *where, move.to_plain()] for where, move in self._new)
        self._writing += self._new
        self._new = []
        for where, target in self._targets.items():
            if target.appended > target.told:
                target.told = target.appended
                entries.append(["moved", *where, target.told])
        return entries

    def durable(self) -> None:
        """The journal has written what it took."""
        writing, self._writing = self._writing, []
        for where, move in writing:
            self._targets[where].ready.append(move)
            self._start(where)

    def snapshot(self) -> Iterable[Entry]:
        """Entries for all that is under way, and all that was still to be written of it."""
        self._entries = []
        for where, target in self._targets.items():
            yield ["target", *where, target.producer]
            left = [*target.ready, *(m for w, m in (*self._writing, *self._new) if w == where)]
            first = left[0].sequence if left else target.next_sequence
            yield ["moved", *where, first]
            for move in left:
                # What they are done in stands in the snapshot itself.
                yield ["move", *where, attrs.evolve(move, group=0).to_plain()]

    def forget(self, group: int, partition: int) -> None:
        """A group begins a partition anew: what died there before is not done in what follows."""
        for index, (where, move) in enumerate(self._new):
            if (move.group, move.partition) == (group, partition):
                self._new[index] = (where, attrs.evolve(move, group=0))

    # ---------------------------------------------------------------------------------- at start

    async def load(self, known: dict[Where, KnownTarget]) -> None:
        """Take over what the journal has; what was appended already is left out."""
        for where, told in known.items():
            target = _Target(told.producer, told.next_sequence)
            self._targets[where] = target
            appended = 0
            if told.moves:
                try:
                    appended = await self._appended(where, told.producer)
                except StreamerError as error:
                    # One that is not served holds up nobody else; appending finds out.
                    self._context.log.warning(
                        "target of moves not there", stream=where[0], error=error.message
                    )
            for move in told.moves:
                if move.sequence + move.count > appended:
                    target.ready.append(move.rest(max(0, appended - move.sequence)))
                    self._count(where, target.ready[-1].count)
            target.appended = min(
                (move.sequence for move in target.ready), default=told.next_sequence
            )
            target.told = min((move.sequence for move in told.moves), default=target.appended)
            self._start(where)

    async def _appended(self, where: Where, producer: int) -> int:
        """The first sequence that the target's log does not have."""
        stream = await self._context.streams.ensure(where[0])
        last = stream.partition(where[1]).log.producers.last(producer)
        return 0 if last is None else last[1] + 1

    def _under_way(self) -> Iterator[Move]:
        for target in self._targets.values():
            yield from target.ready
        yield from (move for _, move in (*self._writing, *self._new))

    def lowest(self, stream: str, partition: int, default: int) -> int:
        """The lowest offset of a partition that a move under way still reads."""
        source = (stream, partition)
        return min(
            (each.first for each in self._under_way() if (each.stream, each.partition) == source),
            default=default,
        )

    async def settled(self, stream: str | None = None) -> None:
        """Wait until nothing is under way, or nothing that comes from a stream.

        Raises:
            PipelineDown: the stage has ended.
        """
        while any(stream in (None, move.stream) for move in self._under_way()):
            if self._closed:
                raise PipelineDown("consumer groups are down")
            await self._idle.park()

    def close(self) -> None:
        """Nothing will be appended any more."""
        self._closed = True
        self._idle.unpark_all()

    # --------------------------------------------------------------------------------- appending

    def _start(self, where: Where) -> None:
        target = self._targets[where]
        if target.ready and not target.running:
            target.running = True
            self._nursery.start_soon(self._carry, where, target)

    async def _carry(self, where: Where, target: _Target) -> None:
        """Append all that is ready for one target."""
        pauses, pause = iter(_RETRY_S), 0.0
        while target.ready:
            try:
                if not await self._append_next(where, target):
                    self._rename(where, target)
            except StreamerError as error:
                target.error = error.message
                pause = next(pauses, pause)
                self._context.log.warning(
                    "records not moved", stream=where[0], partition=where[1], error=error.message
                )
                await trio.sleep(pause)
            else:
                pauses, target.error = iter(_RETRY_S), ""
        target.running = False

    def _rename(self, where: Where, target: _Target) -> None:
        """The target has forgotten our producer: go on under a new one, whose sequences begin
        anew. As with any move, nothing is appended before the journal has that."""
        self._entries.append(["moved", *where, target.appended])
        target.producer = self._new_target(where).producer
        target.next_sequence = target.appended = target.told = 0
        # That these are done where they come from, the journal has by their first entries: a
        # second one must not say it of a group that has begun anew since.
        again = [attrs.evolve(move, group=0) for move in target.ready]
        again += [attrs.evolve(move, group=0) for its, move in self._writing if its == where]
        again += [move for its, move in self._new if its == where]
        target.ready.clear()
        for waiting in (self._writing, self._new):
            waiting[:] = [each for each in waiting if each[0] != where]
        for move in again:
            self._new.append((where, attrs.evolve(move, sequence=target.next_sequence)))
            target.next_sequence += move.count
        self._touch()

    async def _append_next(self, where: Where, target: _Target) -> bool:
        """Append the next batch; False: the target does not know our producer any more."""
        moves: list[Move] = []
        room = _RECORDS_MAX
        for move in target.ready:
            part = attrs.evolve(move, end=min(move.end, move.first + room))
            moves.append(part)
            room -= part.count
            if not room:
                break
        records = await self._records(moves)
        sequence = target.ready[0].sequence
        batch, taken = self._encode(records, ProducerStamp(target.producer, 0, sequence))
        try:
            await self._append(where, batch, marks_of(records[:taken]))
        except ProducerUnknown:
            return False
        except OutOfSequence as error:
            # Some of it was appended, by a try of which nobody heard: the log says how much.
            taken = await self._appended(where, target.producer) - sequence
            if taken <= 0 and error.detail["expected"] < sequence:
                return False
            if taken <= 0:
                raise
        self._reached(where, target, sequence + taken)
        return True

    def _reached(self, where: Where, target: _Target, sequence: int) -> None:
        """All below `sequence` is appended."""
        ready, target.appended = target.ready, sequence
        while ready and ready[0].sequence < sequence:
            move = ready.popleft()
            taken = min(move.count, sequence - move.sequence)
            if taken < move.count:
                ready.appendleft(move.rest(taken))
            self._count(where, -taken)
            self._moved.value += taken
        if not ready:
            # The journal is to know it some time soon, for whoever starts after a long while.
            self._touch()
        self._idle.unpark_all()

    async def _append(self, where: Where, batch: Batch, marks: Marks) -> None:
        while True:
            try:
                await self._context.appender.append(*where, batch, marks)
            except OutcomeUnknown:
                # The same batch again: if it is there, it is known by its sequence.
                await trio.sleep(_RETRY_S[1])
            else:
                return

    def _encode(self, records: list[Record], stamp: ProducerStamp) -> tuple[Batch, int]:
        """As many of the records as fit into a batch, from the first on."""
        count = len(records)
        while True:
            try:
                return self._codec.encode_records(
                    records[:count], now_us=self._context.now_us(), stamp=stamp
                ), count
            except TooLarge:
                if count > 1:
                    count //= 2
                    continue
                # No room for why it died: the record is worth more than that.
                records[0] = _bare(records[0])
                return self._encode_last(records[0], stamp), 1

    def _encode_last(self, record: Record, stamp: ProducerStamp) -> Batch:
        """One record, whatever becomes of it: a move must come to an end."""
        now_us = self._context.now_us()
        try:
            return self._codec.encode_records([record], now_us=now_us, stamp=stamp)
        except TooLarge as error:
            # It was made under limits, or by an encoder, that allowed more.
            self._context.log.error("a record is lost on its way", error=error.message)
            gone = Record(b"", headers={GONE_HEADER: error.message.encode()})
            return self._codec.encode_records([gone], now_us=now_us, stamp=stamp)

    async def _records(self, moves: Sequence[Move]) -> list[Record]:
        """What is to be appended; one that is gone leaves a letter that says so."""
        places: dict[tuple[str, int], Ranges] = {}
        for move in moves:
            if move.kind != "fire":
                ranges = places.setdefault((move.stream, move.partition), Ranges())
                ranges.add(move.first, move.end)
        found = {place: await self.read(*place, ranges) for place, ranges in places.items()}
        records: list[Record] = []
        for move in moves:
            if move.kind == "fire":
                records.append(_fired(move.facts))
                continue
            there = found[move.stream, move.partition]
            records += [self._made(move, at, there.get(at)) for at in range(move.first, move.end)]
        return records

    async def read(self, name: str, partition: int, offsets: Ranges) -> dict[int, Record]:
        """Those records of a partition that are there; near ones in one go.

        Raises:
            StreamerError: they cannot be read now.
        """
        stream = self._context.streams.get(name)
        found: dict[int, Record] = {}
        left = offsets.copy()
        while left:
            first = left.bounds[0]
            near = left.overlap(first, first + _NEAR)
            records = await records_at(
                stream, partition, first, near[-1], self._context.limits, self._pieces
            )
            found |= {at: each for at, each in records.items() if at in left}
            left.remove(first, near[-1])
        return found

    def _made(self, move: Move, offset: int, record: Record | None) -> Record:
        if record is None:
            record = Record(b"", headers={GONE_HEADER: _origin(move, offset)})
        if move.kind == "dead":
            facts = DeadFacts(
                stream=move.stream, partition=move.partition, offset=offset, **move.facts
            )
            return dead_letter(record, facts)
        if move.kind == "again":
            return record
        return revive(record) if move.kind == "revive" else moved(record)


def _origin(move: Move, offset: int) -> bytes:
    """Where a record was that is not there any more."""
    return json.dumps([move.stream, move.partition, offset]).encode()


def _bare(record: Record) -> Record:
    headers = dict(record.headers or {})
    headers.pop(DEAD_HEADER, None)
    headers.pop(REDRIVEN_HEADER, None)
    return attrs.evolve(record, headers=headers or None)


def _fired(facts: dict[str, Any]) -> Record:
    return Record(**facts["record"])
