"""The consumer: a member of a group, what it holds, and the handing out of it.

Rules:

- Leases come as the daemon gives them, within `max_in_flight`; they are prolonged by the client's
  timers for as long as they are held, waiting or begun, whatever their handlers do.
- What was not begun goes as soon as it is not ours any more; what was begun goes on, and what is
  then said of it counts as late.
- What is not begun in half of the time that a lease may last is given back, and comes anew: only
  what a handler began and did not end fails by its time.
- In an ordered group a partition's next delivery is handed out once the one before is settled;
  after one that failed or was given back, what waits behind it is dropped: it comes again.
- A connection that is lost takes all leases with it. The consumer joins again over the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, Self

import trio

from streamer.batch import Codec
from streamer.client.consumer_settings import ConsumerSettings, ConsumerStatistics, times_of
from streamer.client.delivery import Delivery
from streamer.client.holding import Holding
from streamer.client.joining import Joining
from streamer.client.link import Link
from streamer.client.message import Message
from streamer.client.messages import TURN_S, Messages
from streamer.client.requests import fresh
from streamer.errors import ConnectionFailed, RemoteProtocolError, StreamerError, TimedOut
from streamer.wire import frames
from streamer.wire.frames import Frame

__all__ = ["Consumer", "ConsumerSettings", "ConsumerStatistics"]

#: Deliveries that are handed out without letting other tasks run.
_DELIVERIES_IN_A_ROW = 16
#: Before the group is joined again, after the daemon ended the membership.
_RETRY_S = 0.5
#: Leases are prolonged so often in the time that they last.
_RENEWALS = 3
#: But not so often that there is time for nothing else.
_RENEW_S_MIN = 0.01
#: For the answers to what was settled, on leaving: as usual, and after an error.
_FLUSH_S = 10.0
_FLUSH_AFTER_ERROR_S = 2.0


class Consumer:
    """Made by `Client.consumer`. An async iterator of `Delivery`; tasks may share it."""

    def __init__(
        self,
        link: Link,
        codec: Codec,
        fetch_dictionary: Callable[[int], Awaitable[None]],
        stream: str,
        group: str,
        settings: ConsumerSettings,
    ) -> None:
        self.stream = stream
        self.group = group
        #: The group's settings, as the daemon told them.
        self.settings: dict[str, Any] = {}
        #: The number of this member; 0 before it is one.
        self.member = 0
        self._holding = Holding(link, settings.level_number)
        self._settling = self._holding.settling
        self._link = link
        self._codec = codec
        self._fetch_dictionary = fetch_dictionary
        self._fetching = trio.Lock()
        self._options = settings.options()
        self._number = 0
        self._joined = False
        self._leaving = False
        self._departing = False
        self._closed = False
        self._error: Exception | None = None
        self._accusations = 0
        self._delivered = 0
        self._in_a_row = 0
        self._turn_at = 0.0
        self._waiting = self._holding.waiting
        self._renew_s = self._renew_at = self._old_s = 0.0

    def __repr__(self) -> str:
        return (
            f"<Consumer of {self.stream!r} in group {self.group!r}, {len(self._holding.held)} held>"
        )

    # -------------------------------------------------------------------------------- public

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        """The next delivery; waits until there is one. Cancelled, none was taken.

        Raises:
            StreamerError: what failed of earlier settles; why there is nothing more;
                `ConnectionFailed` among others.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._in_a_row >= _DELIVERIES_IN_A_ROW or perf_counter() >= self._turn_at:
            await _others_turn()
            self._in_a_row, self._turn_at = 0, perf_counter() + TURN_S
        return await self._next()

    def messages(self) -> Messages:
        """The same, record by record: an async iterator of `Message`, for any number of tasks.

        It yields to other tasks once in a while only. In an ordered group, and for the records of
        one key where the group keeps that order, the next is handed out once the one before is
        settled.
        """
        return Messages(self, self._holding.shelf)

    def statistics(self) -> ConsumerStatistics:
        """What became of its records until now."""
        counts = self._settling.counts
        return ConsumerStatistics(
            self._delivered,
            counts.acked,
            counts.nacked,
            counts.released,
            counts.late,
            self._holding.count,
        )

    async def flush(self) -> None:
        """Wait until all that was settled so far has been answered.

        Raises:
            StreamerError: what failed of it, other than that a lease was lost.
        """
        await self._settling.flush()

    # --------------------------------------------------------------------------- handing out

    async def _next(self) -> Delivery:
        while True:
            self.check()
            if not self._holding.ready:
                self._in_a_row = 0
                await self._waiting.park()
                continue
            delivery = self._holding.ready[0]
            if not delivery.readable:
                await self._fetch(delivery, delivery.open())
                continue
            self._holding.ready.popleft()
            self._in_a_row += 1
            delivery.begun = True
            self._delivered += delivery.count
            self._holding.pass_on()
            return delivery

    async def _fetch(self, delivery: Delivery, dictionary_id: int) -> None:
        async with self._fetching:
            if dictionary_id in self._codec.dictionaries:
                return
            try:
                await self._fetch_dictionary(dictionary_id)
            except StreamerError as error:
                if error.retryable or isinstance(error, ConnectionFailed):
                    raise
                delivery.spoil(error)

    def check(self) -> None:
        """Raise what is wrong, if something is."""
        self._settling.check()
        if self._closed:
            raise trio.ClosedResourceError("this consumer is closed")
        if self._error is not None:
            raise fresh(self._error)
        self._link.check()

    async def next_message(self) -> Message:
        """The next record, when none is at hand. Cancelled, none was taken."""
        await trio.lowlevel.checkpoint_if_cancelled()
        holding, shelf = self._holding, self._holding.shelf
        while True:
            if shelf.others_turn:
                await _others_turn()
                shelf.turn()
            self.check()
            message = shelf.take()
            if message is not None:
                holding.pass_on()
                return message
            if shelf.others_turn:
                continue
            if not holding.ready:
                await self._waiting.park()
                continue
            delivery = await self._next()
            shelf.open(delivery, ordered=holding.ordered, keyed=holding.keyed)
            # Others may take from it, too.
            self._waiting.unpark_all()

    # ----------------------------------------------------------------------------- membership

    async def opened(self) -> None:
        """Wait until it is a member. Raises StreamerError: why it cannot be."""
        while not self._joined:
            self.check()
            await self._waiting.park()

    def _join(self) -> None:
        self._number = self._settling.subscription = self._link.next_number()
        self._leaving = False
        frame = frames.Join(
            self._link.next_number(), self._number, self.stream, self.group, self._options
        )
        self._link.open_membership(self, Joining(self, self._number), frame)

    def _renew(self) -> None:
        """Prolong all that is held, and come again; a timer calls this."""
        if self._closed:
            return
        now = trio.current_time()
        if now < self._renew_at:
            return
        self._renew_at = now + self._renew_s
        self._link.timers.at(self._renew_at, self._renew)
        self._holding.forget_lost(now - 2 * self._old_s)
        if self._number:
            self._holding.give_back_old(now - self._old_s)
            self._settling.extend_all(list(self._holding.held.values()))

    def _retry(self) -> None:
        """Join again, unless that has happened meanwhile; a timer calls this."""
        if not self._number and not self._closed and self._error is None and self._link.connected:
            self._join()

    async def flush_and_leave(self, error: BaseException | None) -> None:
        """Have what was settled answered, for a bounded time, and leave the group.

        Raises:
            StreamerError: what failed, if `error` is None; else it is a note to that.
        """
        try:
            if error is None:
                await self._flush_all()
            else:
                await self._flush_shielded()
        except Exception as also:
            if error is None:
                raise
            error.add_note(f"and of what was settled: {also!r}")
        finally:
            self.close()

    async def _flush_all(self) -> None:
        try:
            with trio.move_on_after(_FLUSH_S) as scope:
                await self._settling.flush()
            if not scope.cancelled_caught:
                await self._part()
        except trio.Cancelled:
            await self._flush_shielded()
            raise
        if scope.cancelled_caught:
            raise TimedOut(
                f"{self._settling.unanswered} settled records were not answered within "
                f"{_FLUSH_S:g} s: they may come again"
            )

    async def _flush_shielded(self) -> None:
        """And leave: what was not begun goes back to the group, as the connection may end right
        after this, and what was held by then would count as failed."""
        self._departing = True
        with trio.move_on_after(_FLUSH_AFTER_ERROR_S, shield=True):
            try:
                await self._settling.flush()
            finally:
                self.close()
            await self._be_heard()

    async def _part(self) -> None:
        """Leave, and see that the daemon knows, as the program may end the connection at once."""
        known = bool(self._number) and not self._leaving and self._link.connected
        self.close()
        if known:
            with trio.move_on_after(_FLUSH_AFTER_ERROR_S):
                await self._be_heard()

    async def _be_heard(self) -> None:
        """Whatever the answer, who gives it has heard what was said before."""
        with suppress(StreamerError):
            await self._link.call(self._ask)

    def _ask(self, request: int) -> Frame:
        return frames.Admin(request, "stream", {"stream": self.stream})

    def close(self) -> None:
        """Leave the group: what is held goes back to it."""
        self._closed = True
        self._holding.lose_all("the consumer was left")
        self._link.unsubscribe(self, self._number)
        self._number = 0
        self._waiting.unpark_all()

    # --------------------------------------------------------------------- called by the link

    @property
    def holding(self) -> bool:
        """Whether it still has something to settle, or waits for an answer to that."""
        return bool(self._holding)

    def connected(self) -> None:
        """There is a connection: join."""
        if self._error is None:
            self._join()

    def lost(self) -> None:
        """The connection is lost, and all leases with it."""
        self._number = 0
        self._holding.lose_all("the connection was lost")

    def joined(self, number: int, frame: Frame) -> None:
        """The daemon says what the group is."""
        if number != self._number:
            return
        told = frame.result if isinstance(frame, frames.Reply) else None
        if not isinstance(told, dict) or not {"settings", "member"} <= told.keys():
            raise RemoteProtocolError("the answer to a join does not say what was joined")
        settings = told["settings"]
        wait_s, max_s = times_of(settings)
        self._accusations = 0
        self._joined = True
        self.settings, self.member = settings, told["member"]
        self._holding.promise(settings.get("mode"), settings.get("order"))
        self._old_s = max_s / 2
        self._renew_s = max(_RENEW_S_MIN, min(wait_s / _RENEWALS, self._old_s / 2))
        self._renew_at = trio.current_time() + self._renew_s
        self._link.timers.at(self._renew_at, self._renew)
        self._waiting.unpark_all()

    def not_joined(self, number: int, error: StreamerError) -> None:
        if number == self._number:
            self._link.drop_subscription(number)
            self.ended(error)

    def accused(self, number: int, error: StreamerError) -> None:
        """The daemon ended the session while it was asked to join: once is let pass."""
        self._accusations += 1
        if self._accusations > 1:
            self.not_joined(number, error)

    def leased(self, frame: frames.Lease) -> None:
        """The daemon hands out records."""
        if not self._joined or not frame.ranges:
            raise RemoteProtocolError("a lease of nothing, or before the answer to the join")
        if self._departing:
            # It goes back with all the others.
            return
        delivery = Delivery(self._holding, self.stream, frame, self._codec)
        self._holding.add(delivery, hand_out=not self._leaving)

    def revoked(self, frame: frames.Revoke) -> None:
        """The daemon asks for a partition's leases, or has taken them already."""
        if frame.lost:
            self._holding.lose_newer(frame.partition, frame.token, "the daemon took it back")
        else:
            self._holding.give_back(frame.partition, frame.token)

    def leaving(self) -> None:
        """The daemon said goodbye: give back what was not begun."""
        self._leaving = True
        self._holding.give_back(None, 1 << 63)

    def ended(self, error: StreamerError) -> None:
        """The daemon ended the membership."""
        self._number = 0
        self._holding.lose_all(f"the membership ended: {error}")
        if error.retryable:
            self._link.timers.at(trio.current_time() + _RETRY_S, self._retry)
        else:
            self._error = error
        self._waiting.unpark_all()

    def failed(self, error: Exception) -> None:
        """There will be no connection any more."""
        self._waiting.unpark_all()


async def _others_turn() -> None:
    """Let the timers run, then the writer, then everybody else."""
    for _ in range(3):
        await trio.lowlevel.checkpoint()
