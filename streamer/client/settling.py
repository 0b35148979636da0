"""What a consumer says of its leases: queued, put together, sent, and checked when answered.

Rules:

- Queueing is synchronous and never waits, so a settle is on its way even out of a cancelled scope.
- Items go out in the order in which they came, in few frames under way: what comes meanwhile
  shares the next frame, and the ranges of one lease with the same verb and reason share an item.
- A settle is of the membership under which its lease was handed out: when that ends, what has not
  been answered counts as late, and is never sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamer.client.pending import Flush
from streamer.client.requests import Request
from streamer.errors import (
    LeaseLost,
    OutcomeUnknown,
    RemoteProtocolError,
    StreamerError,
    from_code,
)
from streamer.groups.ranges import Ranges, pairs
from streamer.limits import KIB
from streamer.wire import frames
from streamer.wire.frames import Frame, Verb

if TYPE_CHECKING:
    from streamer.client.delivery import Delivery
    from streamer.client.link import Link

__all__ = ["Counts", "Item", "Settling"]

#: What a Settle frame may hold.
_ITEMS_MAX = 4096
#: And what it is given of bytes, estimated from above.
_FRAME_BYTES = 256 * KIB
#: Bounds in one item: a lease whose every other record is settled has 65,536.
_BOUNDS_MAX = 16 * KIB
#: Enough for one to travel while another is answered, and few enough to be put together.
_UNDER_WAY_MAX = 4
#: Records settled and not answered, above which the exit of a delivery waits.
_UNANSWERED_MAX = 64 * KIB

_FIELDS = {
    Verb.ACK: "acked",
    Verb.NACK: "nacked",
    Verb.TERM: "nacked",
    Verb.RELEASE: "released",
}


@attrs.define
class Counts:
    """Records by what the daemon has answered."""

    acked: int = 0
    nacked: int = 0
    released: int = 0
    late: int = 0


class Item:
    """One line of a Settle frame: a verb for records of one lease, or for all that is left."""

    __slots__ = (
        "count",
        "delay_us",
        "delivery",
        "heard",
        "queued",
        "quiet",
        "ranges",
        "reason",
        "verb",
        "waiters",
    )

    def __init__(
        self,
        delivery: Delivery,
        verb: Verb,
        ranges: list[int],
        count: int,
        delay_us: int | None = None,
        reason: str = "",
        *,
        heard: bool = False,
        quiet: bool = False,
    ) -> None:
        self.delivery = delivery
        self.verb = verb
        #: Bounds; none for all that the lease still has.
        self.ranges = ranges
        self.count = count
        self.delay_us = delay_us
        self.reason = reason
        #: Somebody waits for the answer and is told what is wrong.
        self.heard = heard
        #: It is a courtesy: that the lease is not held any more is no news.
        self.quiet = quiet
        self.queued = True
        self.waiters: list[Flush] = []

    def row(self) -> list[Any]:
        return [int(self.verb), self.delivery.token, self.ranges, self.delay_us, self.reason]

    @property
    def nbytes_max(self) -> int:
        """The most that it takes in a frame."""
        return 32 + 9 * len(self.ranges) + 4 * len(self.reason)


class _Sent(Request):
    """A Settle frame that waits for its answer."""

    __slots__ = ("_settling", "items")

    def __init__(self, settling: Settling, items: list[Item]) -> None:
        self._settling = settling
        self.items = items

    def answered(self, frame: Frame) -> None:
        if not isinstance(frame, frames.Settled):
            raise RemoteProtocolError(f"{type(frame).__name__} frame answers a settle")
        errors: dict[int, StreamerError] = {}
        for index, code, message in frame.failures:
            if index >= len(self.items):
                raise RemoteProtocolError(
                    f"settle {index} failed, {len(self.items)} were in the frame"
                )
            errors[index] = from_code(code, message)
        self._settling.answered(self, errors)

    def refused(self, error: StreamerError) -> None:
        self._settling.answered(self, dict.fromkeys(range(len(self.items)), error))

    def lost(self) -> None:
        self.refused(OutcomeUnknown("the connection was lost before the answer: it may count"))


class _Then(Flush):
    """A function instead of a task that waits."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self._then = then

    def answered(self) -> None:
        self._then()


class Settling:
    """The settles of one consumer."""

    def __init__(self, link: Link, level: int, lost: Callable[[Delivery], None]) -> None:
        self.counts = Counts()
        #: The membership's number on this connection.
        self.subscription = 0
        #: What failed and nobody has been told of.
        self.error: StreamerError | None = None
        #: Records in the queue and under way.
        self.unanswered = 0
        self._link = link
        self._level = level
        self._lost = lost
        self._queue: deque[Item] = deque()
        #: Items in the queue that others like them may be added to.
        self._open: dict[tuple[int, Verb, int | None, str, bool], Item] = {}
        self._sent: dict[_Sent, None] = {}
        self._extending = 0
        self._room = trio.lowlevel.ParkingLot()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be answered."""
        return not self._queue and not self._sent

    # -------------------------------------------------------------------------------- queueing

    def add(self, item: Item, waiter: Flush | None = None) -> None:
        """Have an item sent; `waiter` is told when it is answered."""
        self.unanswered += item.count
        ranges = item.ranges
        if not ranges:
            self._append(item, waiter)
            return
        key = (item.delivery.token, item.verb, item.delay_us, item.reason, item.heard)
        found = self._open.get(key)
        if found is not None and len(found.ranges) + len(ranges) <= _BOUNDS_MAX:
            _join(found.ranges, ranges)
            found.count += item.count
            if waiter is not None:
                waiter.left += 1
                found.waiters.append(waiter)
            return
        self._open[key] = item
        self._append(item, waiter)

    def acked_one(self, delivery: Delivery, offset: int) -> None:
        """As `add`, for the ack of one record that nobody waits for: one after the other, these
        are the many."""
        item = delivery.acking
        if item is not None and item.queued:
            ranges = item.ranges
            if ranges[-1] == offset:
                ranges[-1] = offset + 1
                item.count += 1
                self.unanswered += 1
                return
            if len(ranges) < _BOUNDS_MAX:
                _join(ranges, [offset, offset + 1])
                item.count += 1
                self.unanswered += 1
                return
        delivery.acking = item = Item(delivery, Verb.ACK, [offset, offset + 1], 1)
        self.unanswered += 1
        self._append(item, None)

    def extend_all(self, deliveries: list[Delivery]) -> None:
        """Prolong leases, unless the last time still waits to be sent."""
        if self._extending or not deliveries:
            return
        self._extending = len(deliveries)
        self._queue.extend(Item(each, Verb.EXTEND, [], 0, quiet=True) for each in deliveries)
        self._link.settle(self)

    def _append(self, item: Item, waiter: Flush | None) -> None:
        if waiter is not None:
            waiter.left += 1
            item.waiters.append(waiter)
        self._queue.append(item)
        if len(self._sent) < _UNDER_WAY_MAX:
            self._link.settle(self)

    # --------------------------------------------------------------------------------- sending

    def next_settle(self) -> tuple[Request, frames.Settle] | None:
        """The next frame to send now; None if there is none, or enough is under way."""
        queue = self._queue
        if not queue or len(self._sent) >= _UNDER_WAY_MAX:
            return None
        items: list[Item] = []
        room = _FRAME_BYTES
        while queue and len(items) < _ITEMS_MAX:
            room -= queue[0].nbytes_max
            if room < 0 and items:
                break
            item = queue.popleft()
            item.queued = False
            if item.verb is Verb.EXTEND and item.quiet:
                self._extending -= 1
                if item.delivery.done or item.delivery.lost:
                    # Settled by what is before it in the queue, or taken meanwhile.
                    self._pass_waiters(item, items)
                    continue
            items.append(item)
        self._open.clear()
        if not items:
            return None
        sent = _Sent(self, items)
        self._sent[sent] = None
        rows = [item.row() for item in items]
        number = self._link.next_number()
        return sent, frames.Settle(number, self.subscription, self._level, rows)

    def _pass_waiters(self, item: Item, items: list[Item]) -> None:
        """An item does not go out: whoever waits for it waits for what is before it."""
        if not item.waiters:
            return
        before = items or (next(reversed(self._sent)).items if self._sent else None)
        if before:
            before[-1].waiters += item.waiters
            return
        for waiter in item.waiters:
            waiter.answered()

    # --------------------------------------------------------------------------------- answers

    def answered(self, sent: _Sent, errors: dict[int, StreamerError]) -> None:
        """The items of a frame counted, but for those that have an error."""
        if self._sent.pop(sent, 0) == 0:
            # Given up before.
            return
        for index, item in enumerate(sent.items):
            self._finish(item, errors.get(index))
        if self._queue:
            self._link.settle(self)
        self._make_room()

    def _finish(self, item: Item, error: StreamerError | None) -> None:
        self.unanswered -= item.count
        counts = self.counts
        if error is None:
            name = _FIELDS.get(item.verb)
            if name is not None:
                setattr(counts, name, getattr(counts, name) + item.count)
        elif isinstance(error, LeaseLost | OutcomeUnknown):
            if not item.quiet:
                counts.late += item.count
            if item.verb is Verb.EXTEND and isinstance(error, LeaseLost):
                self._lost(item.delivery)
        elif not item.heard and not item.quiet:
            self.error = self.error or error
        for waiter in item.waiters:
            if item.heard:
                waiter.error = waiter.error or error
            waiter.answered()

    def drop(self, error: StreamerError) -> None:
        """The membership is over: what has not been answered will not be."""
        queue, self._queue = self._queue, deque()
        sent, self._sent = self._sent, {}
        self._open.clear()
        self._extending = 0
        for each in sent:
            for item in each.items:
                self._finish(item, error)
        for item in queue:
            item.queued = False
            self._finish(item, error)
        self._make_room()

    # --------------------------------------------------------------------------------- waiting

    @property
    def crowded(self) -> bool:
        """Whether so much is not answered that whoever settles is to wait."""
        return self.unanswered > _UNANSWERED_MAX

    async def room(self) -> None:
        """Wait until it is not crowded any more. Cancelled, what was queued stays so."""
        while self.crowded:
            await self._room.park()

    def _make_room(self) -> None:
        if self._room and not self.crowded:
            self._room.unpark_all()

    async def flush(self) -> None:
        """Wait until all that is queued now has been answered.

        Raises:
            StreamerError: what failed since the last time, that nobody was told of.
        """
        flush = Flush()
        waiting = list(self._queue)
        for sent in self._sent:
            waiting += sent.items
        for item in waiting:
            item.waiters.append(flush)
        flush.left = len(waiting)
        await flush.wait()
        self.check()

    def when_answered(self, then: Callable[[], None]) -> None:
        """Call `then` once what was queued last has been answered, or never will be."""
        if self._queue:
            self._queue[-1].waiters.append(_Then(then))
        else:
            then()

    def check(self) -> None:
        """Raise, once, what failed and nobody was told of."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error


def _join(bounds: list[int], more: list[int]) -> None:
    """Add ranges that are apart from those in `bounds`, in place."""
    if bounds[-1] == more[0]:
        bounds.pop()
        bounds += more[1:]
    elif bounds[-1] < more[0]:
        bounds += more
    else:
        found = Ranges()
        found.bounds = bounds
        for first, end in pairs(more):
            found.add(first, end)
