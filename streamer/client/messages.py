"""The records of a consumer one by one: which is next, and whose turn it has to wait for.

Rules:

- Deliveries are opened one after the other and their records handed out in order. Where order is
  promised (of a partition, or of a key), a record waits until the one before it is settled; other
  deliveries are opened meanwhile.
- The usual case costs no checkpoint, and nothing is made but the message.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Self

from streamer.client.delivery import Delivery
from streamer.client.message import Message
from streamer.client.verdicts import bounds_of, reason_of
from streamer.errors import StreamerError
from streamer.groups.ranges import pairs
from streamer.wire.frames import Verb

if TYPE_CHECKING:
    from streamer.client.consumer import Consumer

__all__ = ["Messages", "Opened", "Shelf"]

#: Messages that are handed out without letting other tasks run.
_IN_A_ROW = 128
#: But not for longer than that, as handlers may block: leases must be prolonged, and acks told.
TURN_S = 0.01


class Opened:
    """A delivery of which records are handed out one by one."""

    __slots__ = ("_keys", "_last", "_ordered", "at", "count", "delivery", "offsets", "values")

    def __init__(self, delivery: Delivery, *, ordered: bool, keyed: bool) -> None:
        self.delivery = delivery
        self.values = delivery.values
        self.offsets = delivery.offsets
        self.count = delivery.count
        #: The index of the next.
        self.at = 0
        self._ordered = ordered
        self._keys = delivery.columns().keys if keyed else None
        #: By key, the offset that was handed out last.
        self._last: dict[bytes, int] = {}

    def take(self) -> Message | None:
        """The next message; None while what is before it is not settled, and at the end."""
        at, delivery = self.at, self.delivery
        if self._ordered:
            if at and delivery.holds(self.offsets[at - 1]):
                return None
        elif self._keys is not None and not self._may_follow(self._keys):
            return None
        else:
            at = self.at
        self.at = at + 1
        return Message(delivery, at, self.offsets[at], self.values[at])

    def _may_follow(self, keys: list[bytes | None]) -> bool:
        """Pass over what was given back, and see whether the key's last record is settled."""
        holds = self.delivery.holds
        while self.at < self.count and not holds(self.offsets[self.at]):
            self.at += 1
        if self.at == self.count:
            return False
        key, offset = keys[self.at], self.offsets[self.at]
        if key is not None:
            before = self._last.get(key)
            if before is not None and holds(before):
                return False
            self._last[key] = offset
        return True

    def rest(self) -> list[int]:
        """The bounds of what has not been handed out."""
        first = self.offsets[self.at]
        left = self.delivery.left_bounds()
        bounds: list[int] = []
        for at in range(0, len(left), 2):
            if left[at + 1] > first:
                bounds += (max(first, left[at]), left[at + 1])
        return bounds

    def rest_of_keys(self, offsets: list[int]) -> list[int]:
        """The bounds of what was not handed out and has a key of one of `offsets`."""
        keys = self._keys
        if keys is None:
            return []
        back = {keys[self.offsets.index(offset)] for offset in offsets} - {None}
        ahead = range(self.at, self.count)
        same = [self.offsets[at] for at in ahead if keys[at] in back]
        return bounds_of(list(filter(self.delivery.holds, same)))


class Shelf:
    """The deliveries that are open, of one consumer."""

    def __init__(self) -> None:
        self._opened: dict[Delivery, Opened] = {}
        #: The one that is usually taken from.
        self._first: Opened | None = None
        self._in_a_row = 0
        self._turn_at = 0.0

    def take(self) -> Message | None:
        """The next message that is at hand, and may be handed out without a checkpoint."""
        first = self._first
        if first is None or self.others_turn:
            return None
        return self._take_from(first) or self._take_other()

    def _take_from(self, opened: Opened) -> Message | None:
        message = opened.take()
        self._in_a_row += 1
        if opened.at == opened.count:
            self.close(opened.delivery)
        return message

    def _take_other(self) -> Message | None:
        for opened in list(self._opened.values()):
            message = self._take_from(opened)
            if message is not None:
                return message
        return None

    @property
    def others_turn(self) -> bool:
        """Whether so many were taken in a row that other tasks are to run."""
        return self._in_a_row >= _IN_A_ROW or perf_counter() >= self._turn_at

    def turn(self) -> None:
        """Other tasks have run."""
        self._in_a_row = 0
        self._turn_at = perf_counter() + TURN_S

    def open(self, delivery: Delivery, *, ordered: bool, keyed: bool) -> None:
        """Hand out its records. Of a batch that is damaged none can be: it is nacked."""
        try:
            opened = Opened(delivery, ordered=ordered, keyed=keyed)
        except StreamerError as error:
            # There is no handler that this could be raised in: it is told for one.
            delivery.settle(Verb.NACK, delivery.left_bounds(), reason_of(error))
            return
        self._opened[delivery] = opened
        self._first = self._first or opened

    def close(self, delivery: Delivery) -> list[int]:
        """Hand out nothing more of a delivery; the bounds of what was not."""
        opened = self._opened.pop(delivery, None)
        if opened is None:
            return []
        if opened is self._first:
            self._first = next(iter(self._opened.values()), None)
        return opened.rest() if opened.at < opened.count else []

    def held_back(self, delivery: Delivery, bounds: list[int]) -> list[int]:
        """The bounds of what may not be handed out once these were given back."""
        opened = self._opened.get(delivery)
        if opened is None:
            return []
        return opened.rest_of_keys([n for first, end in pairs(bounds) for n in range(first, end)])

    def __contains__(self, delivery: Delivery) -> bool:
        return delivery in self._opened


class Messages:
    """The records of a consumer, one by one. Made by `Consumer.messages`."""

    def __init__(self, consumer: Consumer, shelf: Shelf) -> None:
        self._consumer = consumer
        self._shelf = shelf

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next record. Cancelled, none was taken. Raises: as `Consumer.__anext__`."""
        return self._shelf.take() or await self._consumer.next_message()
