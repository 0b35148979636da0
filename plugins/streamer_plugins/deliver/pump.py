"""The pump of one group: reads what comes next, and hands it to whoever has room.

One task a group. It decides with the group (synchronous), and between two decisions it reads; what
changed meanwhile is looked at again before anything is handed out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any

import trio

from streamer import (
    BadBatch,
    BatchLimits,
    DeliverContext,
    OffsetOutOfRange,
    Port,
    Stream,
    StreamerError,
)
from streamer.groups.group import Group, Member
from streamer.groups.ledger import NEWS_MAX, Lease, Ledger
from streamer.groups.ranges import size
from streamer_plugins.deliver.source import Piece, Source

#: After a partition could not be read, it is left alone for so long.
_FAULT_S = 2.0
#: Then others have a turn.
_LEASES_AT_ONCE = 200


class Pump:
    """Hands out what `group` has; `number` is the group's in the journal."""

    def __init__(
        self,
        number: int,
        group: Group,
        stream: Stream,
        context: DeliverContext,
        *,
        next_token: Callable[[], int],
        changed: Callable[[Pump, Ledger], None],
        timed: dict[Ledger, Pump],
    ) -> None:
        """`changed(pump, ledger)` is called when a ledger has news for the journal; one that has
        something out is put into `timed`."""
        self.number = number
        self.group = group
        self.stream = stream
        self.ports: dict[int, Port] = {}
        #: Why a partition cannot be handed out, and when it is tried again.
        self.faults: dict[int, tuple[StreamerError, float]] = {}
        #: By partition, the oldest record not done when somebody last looked, and when it was
        #: appended (microseconds since 1970): looking is reading, and the sampler looks anyway.
        self.oldest: dict[int, tuple[int, int]] = {}
        #: Set where the stage can take no more for now (moves pile up).
        self.held = False
        #: More has failed than the journal has taken: it waits until that has.
        self.waits_for_journal = False
        self._context = context
        self._limits: BatchLimits = context.limits
        self._traced = context.tracer.deliveries
        self._next_token = next_token
        self._changed = changed
        self._timed = timed
        self._point_name = f"deliver/{group.stream}/{group.name}"
        self._point = context.taps.point(_look, self._point_name)
        self._sources = [Source(each, self._limits) for each in stream.partitions]
        self._turn = 0
        self._work = trio.Event()
        for partition in stream.partitions:
            partition.watchers.add(self.wake)

    def wake(self) -> None:
        """Something may be handed out."""
        self._work.set()

    def close(self) -> None:
        self._context.taps.remove(self._point_name)
        for partition in self.stream.partitions:
            partition.watchers.discard(self.wake)

    def lags(self) -> list[int]:
        """By partition, how many records are not done."""
        found = []
        for ledger, partition in zip(self.group.ledgers, self.stream.partitions, strict=True):
            first, end = max(ledger.cursor, partition.log.first_offset), partition.high_water
            done = size(ledger.done.overlap(first, end)) if first < end else 0
            found.append(max(0, end - first - done))
        return found

    def lag_age_s(self) -> float:
        """How long the oldest record that is not done is in the log; 0 if all is done.

        Nothing is read for it: of a cursor that moved on since the last look (`oldest`) it is what
        was the oldest then.
        """
        appended_us = [
            self.oldest[number][1]
            for number, lag in enumerate(self.lags())
            if lag and number in self.oldest
        ]
        if not appended_us:
            return 0.0
        return max(0, self._context.now_us() - min(appended_us)) / 1_000_000

    def oldest_lease_s(self) -> float:
        """How long what is out for longest is out; 0 if nothing is."""
        # They stand in the order in which they were handed out.
        first = [next(iter(each.leases.values()), None) for each in self.group.ledgers]
        times = [lease.handed_at for lease in first if lease is not None]
        return trio.current_time() - min(times) if times else 0.0

    async def run(self) -> None:
        """Hand out, until cancelled."""
        while True:
            if self._work.is_set():
                self._work = trio.Event()
            if await self._round():
                continue
            if not self._work.is_set():
                for source in self._sources:
                    source.forget()
                await self._work.wait()

    async def _round(self) -> bool:
        """Each partition once; whether anything was handed out."""
        group = self.group
        self.waits_for_journal = False
        self.tell()
        if group.paused or self.held or not group.members:
            return False
        moved = False
        count = len(group.ledgers)
        self._turn += 1
        # Who is kept for a suspect is decided anew: it may be gone, or out of reach.
        group.unreserve()
        for step in range(count):
            index = (self._turn + step) % count
            if self._faulty(index):
                continue
            try:
                moved |= await self._serve(index)
            except StreamerError as error:
                self.faults[index] = (error, trio.current_time() + _FAULT_S)
                self._context.log.warning(
                    "a group cannot go on",
                    stream=group.stream,
                    group=group.name,
                    partition=index,
                    error=error.message,
                )
        return moved

    def _faulty(self, index: int) -> bool:
        fault = self.faults.get(index)
        if fault is None:
            return False
        if trio.current_time() < fault[1]:
            return True
        del self.faults[index]
        return False

    async def _serve(self, index: int) -> bool:
        ledger = self.group.ledgers[index]
        moved = False
        if ledger.news > NEWS_MAX:
            self.waits_for_journal = True
            return False
        if ledger.has_suspects:
            moved = await self._hand_out(index, ledger, alone=True)
        if ledger is self.group.ledgers[index]:
            moved |= await self._hand_out(index, ledger, alone=False)
        return moved

    def _members(self, ledger: Ledger, *, alone: bool) -> list[Member]:
        """Who may get something, in the order of who gets it first."""
        if not alone:
            return self.group.candidates(ledger, self._is_ready)
        member = self.group.for_suspect(ledger, self._is_ready)
        return [] if member is None else [member]

    def _is_ready(self, member: Member) -> bool:
        return self.ports[member.number].ready

    async def _hand_out(self, index: int, ledger: Ledger, *, alone: bool) -> bool:
        source = self._sources[index]
        offset = ledger.next_read(source.partition.high_water, alone=alone)
        if offset is None:
            return False
        members = self._members(ledger, alone=alone)
        if not members:
            return False
        try:
            piece = await source.piece_at(offset)
            if piece is None:
                return False
            if ledger.needs_keys or alone or _is_shared_out(piece, members):
                # One that cannot be read goes out whole: its members say that they cannot.
                with suppress(BadBatch):
                    await piece.decode(self.stream, self._limits)
        except OffsetOutOfRange:
            return self._skip(source, ledger, offset)
        if self.group.paused or self.group.ledgers[index] is not ledger:
            return True
        if self._hand_out_piece(source, ledger, piece, offset, alone=alone):
            return True
        # Where all of it has to wait for keys that are out, what follows may not.
        return ledger.next_read(source.partition.high_water, alone=alone) not in (None, offset)

    def _skip(self, source: Source, ledger: Ledger, offset: int) -> bool:
        """Retention was quicker."""
        first = source.partition.log.first_offset
        if first <= offset:
            raise OffsetOutOfRange(f"offset {offset} cannot be read, the log begins at {first}")
        lost = ledger.skip_to(first)
        self._changed(self, ledger)
        self._context.log.warning(
            "a group lost records to retention",
            stream=self.group.stream,
            group=self.group.name,
            partition=ledger.number,
            records=lost,
            goes_on_at=first,
        )
        return True

    def _hand_out_piece(
        self, source: Source, ledger: Ledger, piece: Piece, offset: int, *, alone: bool
    ) -> bool:
        """Hand out of one batch what may be, so many leases at once; whether anything was."""
        keys = piece.keys() if ledger.needs_keys else None
        members = self._members(ledger, alone=alone)
        share = None
        if len(members) > 1 and piece.end >= source.partition.high_water:
            # Nothing follows: what there is is shared out evenly.
            share = -(-(piece.end - offset) // len(members))
        # The least loaded is on top.
        turns = [(member.load, number, member) for number, member in enumerate(members)]
        moved = False
        for _ in range(_LEASES_AT_ONCE):
            if not turns:
                break
            _, number, member = heappop(turns)
            room = member.room if share is None else min(member.room, share)
            choice = ledger.choose(piece.first, piece.end, keys, room, alone=alone)
            if choice is None:
                break
            batch, whole = self._render(piece, choice.bounds)
            lease = ledger.lease(
                self._next_token(),
                member,
                choice,
                len(batch),
                trio.current_time(),
                self._context.now_us(),
            )
            self._timed[ledger] = self
            self._count(lease.count, choice.failures)
            if self._point.taps:
                self._point.saw((self.group.stream, lease, batch))
            self.ports[member.number].hand(
                lease.token, ledger.number, choice.failures + 1, choice.bounds, whole, batch
            )
            if self._traced.watched:
                self._trace(lease, choice.bounds, choice.failures)
            moved = True
            if member.room > 0 and self._is_ready(member):
                heappush(turns, (member.load, number, member))
        return moved

    def _count(self, records: int, failures: int) -> None:
        counts = self.group.counts
        counts.delivered += records
        if failures:
            counts.redelivered += records
            self._context.events.emit(
                "redelivered",
                f"{self.group.stream}, group {self.group.name}: records handed out again",
                count=records,
                stream=self.group.stream,
                group=self.group.name,
            )

    def _trace(self, lease: Lease, bounds: list[int], failures: int) -> None:
        member = lease.member
        self._traced.handed(
            self.group.stream,
            lease.ledger.number,
            self.group.name,
            lease.token,
            failures + 1,
            bounds,
            member.name or member.peer,
        )

    def _render(self, piece: Piece, bounds: list[int]) -> tuple[bytes, bool]:
        """The bytes to send, and whether they are the whole batch."""
        if piece.wants_extract(bounds):
            batch = piece.extract(self.stream.codec, bounds)
            if batch is not None:
                return batch, False
        return piece.whole(), True

    def tell(self) -> None:
        """Tell members of what they lost, and of what is asked back."""
        group = self.group
        for member, partition in group.moves:
            port = self.ports.get(member.number)
            if port is not None:
                port.revoke(partition, self._next_token(), False)
        group.moves.clear()
        for ledger in group.ledgers:
            if not ledger.lost:
                continue
            lost, ledger.lost = ledger.lost, []
            if self._traced.holding:
                for lease in lost:
                    self._traced.settled(lease.token, [], "lost")
            if group.ordered:
                # Of a shared group a settle that comes late says it early enough.
                for number in {lease.member.number for lease in lost}:
                    token = min(each.token for each in lost if each.member.number == number)
                    port = self.ports.get(number)
                    if port is not None:
                        port.revoke(ledger.number, token, True)


def _is_shared_out(piece: Piece, members: list[Member]) -> bool:
    """Whether a batch will go out in parts."""
    return len(members) > 1 or 2 * members[0].room < piece.header.count


def _look(handed: tuple[str, Lease, bytes]) -> list[dict[str, Any]]:
    """A lease as a tap shows it, made only where the tap takes it; see `streamer.observe.taps`."""
    stream, lease, batch = handed
    return [
        {
            "kind": "lease",
            "stream": stream,
            "partition": lease.ledger.number,
            "offset": lease.bounds[0],
            "records": lease.count,
            "bytes": len(batch),
            "lane": None,
            "reason": f"attempt {lease.failures + 1}" if lease.failures else None,
            "_batch": batch,
            "_sample": None,
        }
    ]
