"""The channel between two stages: bounded by items and by bytes.

trio's memory channel bounds items only, hands over one at a time and cannot say how old its
oldest item is; persist wants all that waits, and an operator wants to know. Rules, as trio's:

- Ends are cloned and closed; the receiver sees the end once every sender has closed.
- A blocked `send` that is cancelled has not sent. Room is taken before the item is.
- An item above the byte limit may pass alone, else it would wait for ever.

`send` and `receive_all` are cancellation points, but yield to other tasks only when they must
wait: a stage pays for a schedule point per wait, not per item, and cannot starve the others
because both of its channels are bounded.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from itertools import chain
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import attrs
import outcome
import trio
from trio.lowlevel import Abort, Task

from streamer.observe.meter import Meter


class Sized(Protocol):
    """Anything that flows: it knows its size in bytes."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


@attrs.frozen
class ChannelStatistics:
    """A look at a channel: against its limits, at its worst, and now."""

    items: int
    items_max: int
    bytes: int
    bytes_max: int
    #: The most there ever was.
    items_seen: int
    bytes_seen: int
    senders_waiting: int
    #: All that went in since the start.
    items_total: int
    bytes_total: int
    oldest_s: float


class _Shared(Generic[T]):
    """What the two kinds of ends have in common. Every method is synchronous."""

    def __init__(self, items_max: int, bytes_max: int, meter: Meter | None) -> None:
        self.items_max = items_max
        self.bytes_max = bytes_max
        self.meter = meter
        self.queue: deque[tuple[T, int, float]] = deque()
        self.bytes = 0
        self.items_seen = 0
        self.bytes_seen = 0
        self.items_total = 0
        self.bytes_total = 0
        self.senders = 0
        self.receivers = 0
        self.blocked: OrderedDict[Task, tuple[T, int, float]] = OrderedDict()
        self.waiting: OrderedDict[Task, None] = OrderedDict()

    def has_room(self, nbytes: int) -> bool:
        queued = len(self.queue)
        return not queued or (queued < self.items_max and self.bytes + nbytes <= self.bytes_max)

    def put(self, entry: tuple[T, int, float]) -> None:
        self.queue.append(entry)
        self.bytes += entry[1]
        self.items_total += 1
        self.bytes_total += entry[1]
        if len(self.queue) > self.items_seen:
            self.items_seen = len(self.queue)
        if self.bytes > self.bytes_seen:
            self.bytes_seen = self.bytes
        self.wake_receiver()

    def wake_receiver(self) -> None:
        if self.waiting:
            task, _ = self.waiting.popitem(last=False)
            trio.lowlevel.reschedule(task)

    def take(self) -> T:
        entry = self.queue.popleft()
        item, nbytes, _ = entry
        self.bytes -= nbytes
        if self.meter is not None:
            self.meter.taken([entry], trio.current_time())
        return item

    def take_all(self) -> list[T]:
        items = [entry[0] for entry in self.queue]
        if self.meter is not None:
            self.meter.taken(self.queue, trio.current_time())
        self.queue.clear()
        self.bytes = 0
        return items

    def admit_blocked(self) -> None:
        """Let in the senders that there is room for now, first come first served."""
        while self.blocked:
            task = next(iter(self.blocked))
            if not self.has_room(self.blocked[task][1]):
                return
            self.put(self.blocked.pop(task))
            trio.lowlevel.reschedule(task)

    def fail_blocked(self) -> None:
        for task in self.blocked:
            trio.lowlevel.reschedule(task, outcome.Error(_broken()))
        self.blocked.clear()

    def statistics(self) -> ChannelStatistics:
        # The queue is what came first, and those who wait for room came in this order.
        oldest = next((entry[2] for entry in chain(self.queue, self.blocked.values())), None)
        return ChannelStatistics(
            items=len(self.queue),
            items_max=self.items_max,
            bytes=self.bytes,
            bytes_max=self.bytes_max,
            items_seen=self.items_seen,
            bytes_seen=self.bytes_seen,
            senders_waiting=len(self.blocked),
            items_total=self.items_total,
            bytes_total=self.bytes_total,
            oldest_s=0.0 if oldest is None else trio.current_time() - oldest,
        )


def _broken() -> trio.BrokenResourceError:
    return trio.BrokenResourceError("every receiver of this channel has closed")


class Sender(Generic[T]):
    """A sending end. Each task that sends owns a clone, and closes it."""

    def __init__(self, shared: _Shared[T]) -> None:
        self._shared = shared
        self._closed = False
        shared.senders += 1

    def clone(self) -> Sender[T]:
        self._check_open()
        return Sender(self._shared)

    def send_nowait(self, item: T) -> None:
        """Send without waiting.

        Raises:
            trio.WouldBlock: there is no room, or somebody waits for it already.
            trio.BrokenResourceError: nobody will ever receive.
            trio.ClosedResourceError: you closed this end.
        """
        self._check_open()
        shared = self._shared
        nbytes = item.nbytes
        if shared.blocked or not shared.has_room(nbytes):
            raise trio.WouldBlock
        now = trio.current_time()
        if shared.meter is not None:
            shared.meter.sent(item, now)
        shared.put((item, nbytes, now))

    async def send(self, item: T) -> None:
        """Send, waiting for room. Cancelled while it waits, the item was not sent."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.send_nowait(item)
        except trio.WouldBlock:
            await self._send_blocked(item)

    async def _send_blocked(self, item: T) -> None:
        task = trio.lowlevel.current_task()
        shared = self._shared
        blocked, now = shared.blocked, trio.current_time()
        if shared.meter is not None:
            # It has done its part: waiting for room is for the stage behind to answer for.
            shared.meter.sent(item, now)
        blocked[task] = (item, item.nbytes, now)

        def abort(_: object) -> Abort:
            del blocked[task]
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if not self._shared.receivers:
            raise _broken()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        shared = self._shared
        shared.senders -= 1
        while not shared.senders and shared.waiting:
            shared.wake_receiver()

    def statistics(self) -> ChannelStatistics:
        return self._shared.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Receiver(Generic[T]):
    """A receiving end. Closing the last one drops what is queued, and fails blocked senders."""

    def __init__(self, shared: _Shared[T]) -> None:
        self._shared = shared
        self._closed = False
        shared.receivers += 1

    def clone(self) -> Receiver[T]:
        if self._closed:
            raise trio.ClosedResourceError
        return Receiver(self._shared)

    async def receive(self) -> T:
        """The next item. Cancelled, it has taken none.

        Raises:
            trio.EndOfChannel: the channel is empty and every sender has closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        shared = self._shared
        self._asked()
        while not shared.queue:
            await self._wait()
        item = shared.take()
        shared.admit_blocked()
        return item

    async def receive_all(
        self, bytes_max: int | None = None, *, until: float = math.inf
    ) -> list[T]:
        """All that waits, at least one, stopping before `bytes_max` is exceeded.

        The list is empty if `nudge` was called, or the clock came to `until`, while it waited.

        Raises:
            trio.EndOfChannel: the channel is empty and every sender has closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        shared = self._shared
        self._asked()
        if not shared.queue:
            if until == math.inf:
                await self._wait()
            else:
                with trio.move_on_at(until):
                    await self._wait()
            if not shared.queue:
                return []
        if bytes_max is None or shared.bytes <= bytes_max:
            items = shared.take_all()
        else:
            items = [shared.take()]
            room = bytes_max - items[0].nbytes
            while shared.queue and shared.queue[0][1] <= room:
                room -= shared.queue[0][1]
                items.append(shared.take())
        shared.admit_blocked()
        return items

    def _asked(self) -> None:
        meter = self._shared.meter
        if meter is not None and meter.last:
            meter.asked(trio.current_time())

    async def _wait(self) -> None:
        """Wait until there may be something: an item, a nudge, or the end."""
        if self._closed:
            raise trio.ClosedResourceError
        shared = self._shared
        if not shared.senders:
            raise trio.EndOfChannel
        task = trio.lowlevel.current_task()
        shared.waiting[task] = None

        def abort(_: object) -> Abort:
            del shared.waiting[task]
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if not shared.queue and not shared.senders:
            raise trio.EndOfChannel

    @property
    def ended(self) -> bool:
        """Whether nothing is left and nothing can come."""
        return not self._shared.queue and not self._shared.senders

    def nudge(self) -> None:
        """Make a waiting `receive_all` return at once, with nothing."""
        self._shared.wake_receiver()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        shared = self._shared
        shared.receivers -= 1
        if not shared.receivers:
            shared.queue.clear()
            shared.bytes = 0
            shared.fail_blocked()

    def statistics(self) -> ChannelStatistics:
        return self._shared.statistics()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_channel(
    items_max: int, bytes_max: int, meter: Meter | None = None
) -> tuple[Sender[T], Receiver[T]]:
    """A channel for at most `items_max` items of together at most `bytes_max` bytes.

    With a meter its items carry their times; see `streamer.observe.meter`.
    """
    assert items_max > 0, "a channel of no items passes nothing"
    assert bytes_max > 0, "a channel of no bytes passes nothing"
    shared: _Shared[T] = _Shared(items_max, bytes_max, meter)
    return Sender(shared), Receiver(shared)
