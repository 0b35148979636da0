"""A delivery: records of one batch that a consumer holds until it says what became of them.

Rules:

- Its verbs `ack`, `nack`, `term`, `release`, `extend` wait for the daemon's answer and raise what
  is wrong. Leaving `async with` says it for what is left, and does not wait: an answer that the
  lease was lost is counted, anything else is raised later by the consumer.
- What is settled is settled here at once, before the daemon has answered: nothing is said twice.
- The batch is checked when it is handed out and decoded when its records are asked for. A batch
  that is damaged is handed out too, and raises then: so its handler fails as with any other bad
  record, and the group's rules decide what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol, Self

import attrs
import trio

from streamer.batch import Batch, Codec, parse, parse_placed, records_of
from streamer.client.delays import delay_us
from streamer.client.pending import Flush
from streamer.client.requests import fresh
from streamer.client.settling import Item, Settling
from streamer.client.verdicts import bounds_of, printable, verdict
from streamer.columns import Columns
from streamer.errors import BadBatch, BadRequest, LeaseLost, StreamerError
from streamer.groups.ranges import Ranges, pairs, size
from streamer.records import Record
from streamer.wire import frames
from streamer.wire.frames import Verb

__all__ = ["Delivery"]


class Owner(Protocol):
    """The consumer, as its deliveries know it."""

    settling: Settling

    @property
    def in_turns(self) -> bool:
        """Whether a record may wait for the one before it."""

    def settled(self, delivery: Delivery, verb: Verb, bounds: list[int]) -> None:
        """Some of a delivery was settled; perhaps all (`delivery.done`, and no bounds)."""


class Delivery:
    """Records of one batch of one partition, held by this consumer. Made by `Consumer`.

        async for delivery in consumer:
            async with delivery:
                handle(delivery.values)

    Leaving the block acks what is not settled yet; after an exception it is nacked, with the
    exception's text, and the exception goes on; when cancelled it is given back (`release`).
    """

    __slots__ = (
        "_codec",
        "_columns",
        "_fault",
        "_offsets",
        "_owner",
        "acking",
        "attempt",
        "batch",
        "begun",
        "blob",
        "bounds",
        "count",
        "done",
        "left",
        "lost",
        "partition",
        "since",
        "stream",
        "token",
        "whole",
    )

    def __init__(self, owner: Owner, stream: str, frame: frames.Lease, codec: Codec) -> None:
        self.stream = stream
        self.partition = frame.partition
        #: The number of this hand-out: a fencing token, that grows with each.
        self.token = frame.token
        #: 1 for the first delivery of these records.
        self.attempt = frame.attempt
        #: Half-open ranges of the offsets: first, end, first, end, ...
        self.bounds = frame.ranges
        self.count = size(frame.ranges)
        self.whole = frame.whole
        self.blob = frame.batch
        self.batch: Batch | None = None
        #: What is not settled yet; None while that is all of it.
        self.left: Ranges | None = None
        #: All of it is settled.
        self.done = False
        #: It was handed out to the program.
        self.begun = False
        #: It is not held any more: what is said of it does not count.
        self.lost: str = ""
        self.acking: Item | None = None
        #: When it came, by trio's clock.
        self.since = trio.current_time()
        self._owner = owner
        self._codec = codec
        self._columns: Columns | None = None
        self._fault: StreamerError | None = None
        self._offsets: list[int] | None = None

    def __repr__(self) -> str:
        return (
            f"<Delivery {self.token} of {self.stream!r}/{self.partition} "
            f"offsets {self.bounds[0]} to {self.bounds[-1] - 1}, {self.count} records>"
        )

    def __len__(self) -> int:
        return self.count

    # --------------------------------------------------------------------------------- records

    @property
    def offsets(self) -> list[int]:
        """The offset of each record, ascending."""
        if self._offsets is None:
            self._offsets = [n for first, end in pairs(self.bounds) for n in range(first, end)]
        return self._offsets

    @property
    def values(self) -> list[bytes]:
        """The values alone: the quickest way to the data. Decoded when first asked for.

        Raises:
            BadBatch: the batch is damaged.
        """
        return self.columns().values

    @property
    def records(self) -> list[Record]:
        """The records with everything that belongs to them, made anew at each call."""
        columns = self.columns()
        assert self.batch is not None, "decoded, so it was opened"
        return records_of(columns, self.batch.header.base_timestamp_us)

    def columns(self) -> Columns:
        """The records as columns, one entry for each offset."""
        if self._columns is None:
            self.open()
            if self._fault is not None:
                raise fresh(self._fault)
            assert self.batch is not None, "opened without a fault"
            self._columns = self._picked(self._codec.decode(self.batch))
        return self._columns

    def decode(self) -> None:
        """Decode now, in this thread; what is wrong is raised when the records are asked for."""
        try:
            self.columns()
        except StreamerError as error:
            self._fault = error

    def open(self) -> int:
        """Check the batch; the id of the dictionary that it needs, or 0."""
        if self.batch is None and self._fault is None:
            try:
                parsed = parse_placed if self.whole else parse
                batch = parsed(memoryview(self.blob), self._codec.limits)
                self._check_ranges(batch)
                self.batch = batch
            except StreamerError as error:
                self._fault = error
        return 0 if self.batch is None else self.batch.header.dictionary_id

    @property
    def readable(self) -> bool:
        """Whether there is no dictionary missing to decode it."""
        dictionary_id = self.open()
        return not dictionary_id or dictionary_id in self._codec.dictionaries

    def spoil(self, error: StreamerError) -> None:
        """Its records cannot be had: raise `error` for them."""
        self._fault, self.batch = error, None

    def _check_ranges(self, batch: Batch) -> None:
        header = batch.header
        if not self.whole:
            if header.count != self.count:
                raise BadBatch(f"lease of {self.count} records with a batch of {header.count}")
        elif self.bounds[0] < header.base_offset or self.bounds[-1] > header.next_offset:
            raise BadBatch(
                f"lease of offsets {self.bounds[0]} to {self.bounds[-1] - 1} with the batch of "
                f"{header.base_offset} to {header.next_offset - 1}"
            )

    def _picked(self, columns: Columns) -> Columns:
        """Of a whole batch, what is handed out."""
        if not self.whole or self.count == len(columns.values):
            return columns
        assert self.batch is not None, "decoded, so it was opened"
        base = self.batch.header.base_offset
        slices = [slice(first - base, end - base) for first, end in pairs(self.bounds)]

        def pick(column: list[Any] | None) -> Any:
            if column is None:
                return None
            return [each for part in slices for each in column[part]]

        return Columns(*[pick(column) for column in attrs.astuple(columns, recurse=False)])

    # ----------------------------------------------------------------------------------- verbs

    async def ack(self, offsets: Iterable[int] | None = None) -> None:
        """These records, by default all that are left, are done with.

        Cancelled while it waits for the answer, it has been said all the same; this holds for
        the other verbs, too.

        Raises:
            LeaseLost: the delivery is not held any more, or they were settled before.
            BadRequest: offsets that are not of this delivery.
            StreamerError: why it does not count.
        """
        await self._say(Verb.ACK, offsets)

    async def nack(
        self, offsets: Iterable[int] | None = None, delay_s: float | None = None, reason: str = ""
    ) -> None:
        """Handling them failed: deliver them again, after `delay_s` or the group's backoff.

        Raises: as `ack`; BadRequest also for a delay that is not 0 to 366 days.
        """
        await self._say(Verb.NACK, offsets, delay_s, reason)

    async def term(self, reason: str, offsets: Iterable[int] | None = None) -> None:
        """They can never be handled: put them to the dead letters. Raises: as `ack`."""
        await self._say(Verb.TERM, offsets, None, reason)

    async def release(self, offsets: Iterable[int] | None = None) -> None:
        """Give them back, without counting an attempt. Raises: as `ack`."""
        await self._say(Verb.RELEASE, offsets)

    async def extend(self) -> None:
        """Prolong the lease by the group's `ack_wait_s`; the consumer does so by itself.

        Raises:
            LeaseLost: the delivery is not held any more, or nothing of it is left.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.lost or self.done:
            await trio.lowlevel.checkpoint()
            raise self._late()
        await self._answer(Item(self, Verb.EXTEND, [], 0, heard=True))

    async def _say(
        self,
        verb: Verb,
        offsets: Iterable[int] | None,
        delay_s: float | None = None,
        reason: str = "",
    ) -> None:
        """Settle, and wait for the answer."""
        await trio.lowlevel.checkpoint_if_cancelled()
        delay = None if delay_s is None else delay_us(delay_s)
        if type(reason) is not str:
            raise BadRequest(f"reason is {type(reason).__name__}, it must be text")
        bounds = self.left_bounds() if offsets is None else self._bounds_of(offsets)
        if not bounds:
            await trio.lowlevel.checkpoint()
            if offsets is not None:
                return
            raise self._late()
        item = self._settle(verb, bounds, delay, printable(reason), heard=True)
        if item is None:
            await trio.lowlevel.checkpoint()
            raise self._late()
        await self._answer(item)

    async def _answer(self, item: Item) -> None:
        waiter = Flush()
        self._owner.settling.add(item, waiter)
        if item.verb is not Verb.EXTEND:
            self._owner.settled(self, item.verb, item.ranges)
        await waiter.wait()
        if waiter.error is not None:
            raise fresh(waiter.error)

    def _late(self) -> LeaseLost:
        if self.lost:
            return LeaseLost(f"delivery {self.token} is not held any more: {self.lost}")
        return LeaseLost(f"all {self.count} records of delivery {self.token} were settled before")

    # ------------------------------------------------------------------------------- settling

    def left_bounds(self) -> list[int]:
        """The bounds of what is not settled yet."""
        if self.done:
            return []
        return list(self.bounds if self.left is None else self.left.bounds)

    @property
    def left_count(self) -> int:
        """How many records are not settled yet."""
        if self.done:
            return 0
        return self.count if self.left is None else self.left.count

    def holds(self, offset: int) -> bool:
        """Whether a record of this delivery is not settled yet."""
        return not self.done and (self.left is None or offset in self.left)

    def _bounds_of(self, offsets: Iterable[int]) -> list[int]:
        """The bounds of some offsets, once they are looked at.

        Raises:
            BadRequest: one that is none, or not of this delivery; LeaseLost: one was settled.
        """
        found = list(offsets)
        if set(map(type, found)) - {int}:
            raise BadRequest("offsets are whole numbers")
        bounds = bounds_of(found)
        mine = Ranges(self.bounds)
        for first, end in pairs(bounds):
            if mine.overlap(first, end) != [first, end]:
                raise BadRequest(
                    f"offsets {first} to {end - 1} are not all of this delivery of "
                    f"{self.bounds[0]} to {self.bounds[-1] - 1}"
                )
            if self.done or (self.left and self.left.overlap(first, end) != [first, end]):
                raise LeaseLost(f"offsets {first} to {end - 1} were settled before, or some were")
        return bounds

    def settle(
        self, verb: Verb, bounds: list[int], reason: str = "", *, quiet: bool = False
    ) -> None:
        """Settle some of what is left, and have it told; nobody waits for the answer."""
        item = self._settle(verb, bounds, None, reason, quiet=quiet)
        if item is not None:
            self._owner.settling.add(item)
            self._owner.settled(self, verb, bounds)

    def settle_one(self, offset: int) -> None:
        """Ack one record, if it is left: the quick way for the many."""
        if self.done:
            return
        left = self.left
        if left is None:
            left = self.left = Ranges(self.bounds)
        bounds = left.bounds
        if bounds[0] == offset:
            bounds[0] = offset + 1
            if bounds[1] == offset + 1:
                del bounds[:2]
        elif not left.remove(offset, offset + 1):
            return
        self.done = not bounds
        if self.lost:
            self._owner.settling.counts.late += 1
        else:
            self._owner.settling.acked_one(self, offset)
        if self.done or self._owner.in_turns:
            self._owner.settled(self, Verb.ACK, [])

    def _settle(
        self,
        verb: Verb,
        bounds: list[int],
        delay: int | None,
        reason: str,
        *,
        heard: bool = False,
        quiet: bool = False,
    ) -> Item | None:
        """Take note that they are settled; the item that says so, None if it does not count."""
        count = size(bounds)
        if self.left is None and count == self.count:
            self.done = True
            bounds = []
        else:
            self.cut(bounds)
        if self.lost:
            if not quiet:
                self._owner.settling.counts.late += count
            self._owner.settled(self, verb, bounds)
            return None
        return Item(self, verb, bounds, count, delay, reason, heard=heard, quiet=quiet)

    def cut(self, bounds: list[int]) -> None:
        """Have these no more left."""
        left = self.left
        if left is None:
            left = self.left = Ranges(self.bounds)
        for first, end in pairs(bounds):
            left.remove(first, end)
        self.done = not left.bounds

    # -------------------------------------------------------------------------------- the block

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.done:
            self.settle(*verdict(error, self.left_bounds()))
        if error is None and self._owner.settling.crowded:
            await self._owner.settling.room()
