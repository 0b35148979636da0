"""One connection of a client, from its welcome to its end: what is under way, and what comes.

Rules: whatever comes is handed to whoever waits for it, synchronously; an answer to nothing, or of
the wrong kind, ends the connection. What is to be sent besides requests is kept here, in small
bounded places: a pong is for the latest ping only, grants follow deliveries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import trio

from streamer.client.requests import LEVELS, Request, TryLater
from streamer.errors import (
    BadRequest,
    Draining,
    FrameTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
    StreamerError,
    TooLarge,
    TooSlow,
    from_code,
)
from streamer.transport import Transport
from streamer.wire import frames
from streamer.wire.credit import SendWindow
from streamer.wire.frames import Frame
from streamer.wire.machine import Connection, State

__all__ = ["Member", "Session", "Settler", "Subscriber"]

#: Codes of an end of the session that the same frames would bring about again.
_OUR_FAULT = frozenset({"protocol", "frame_too_large"})
_MAY_SETTLE = frozenset({State.OPEN, State.LEAVING, State.LEFT})


class Subscriber(Protocol):
    """Somebody to whom batches are delivered."""

    def connected(self) -> None:
        """There is a new connection: subscribe (again)."""

    def delivered(self, frame: frames.Deliver) -> None: ...

    def ended(self, error: StreamerError) -> None: ...

    def failed(self, error: Exception) -> None:
        """The link is at its end."""


class Member(Protocol):
    """Somebody to whom records are leased."""

    @property
    def holding(self) -> bool:
        """Whether the connection is still of use after the daemon's goodbye."""

    def connected(self) -> None:
        """There is a new connection: join (again)."""

    def lost(self) -> None:
        """The connection ended."""

    def leased(self, frame: frames.Lease) -> None: ...

    def revoked(self, frame: frames.Revoke) -> None: ...

    def leaving(self) -> None:
        """The daemon said goodbye: give back what was not begun."""

    def ended(self, error: StreamerError) -> None: ...

    def failed(self, error: Exception) -> None:
        """The link is at its end."""


class Settler(Protocol):
    """Somebody who settles leases."""

    def next_settle(self) -> tuple[Request, frames.Settle] | None:
        """The next frame to send now; None if there is none now."""


@attrs.define(eq=False)
class Session:
    """One connection, from its welcome to its end."""

    transport: Transport
    machine: Connection
    scope: trio.CancelScope
    window: SendWindow
    #: Of all kinds together, subscriptions too.
    requests_max: int
    began_at: float
    heard_at: float
    #: Called when there may be something to send.
    attend: Callable[[], None]
    requests: dict[int, Request] = attrs.Factory(dict)
    subscribers: dict[int, Subscriber] = attrs.Factory(dict)
    members: dict[int, Member] = attrs.Factory(dict)
    #: Subscriptions that wait for their turn, by number.
    opening: dict[int, tuple[Request, frames.Subscribe | frames.Join]] = attrs.Factory(dict)
    #: Those who have settles to send.
    settling: dict[Settler, None] = attrs.Factory(dict)
    #: Frames that are no requests: grants, unsubscribes, goodbye.
    control: deque[Frame] = attrs.Factory(deque)
    #: Ready to be written before anything else.
    encoded: list[bytes] = attrs.Factory(list)
    pong: int | None = None
    ping: int | None = None
    #: What the daemon ended it with, if it was our breaking a rule.
    accusation: StreamerError | None = None
    #: Something came besides the welcome.
    useful: bool = False
    error: Exception | None = None
    #: The daemon takes `Trace` frames.
    traces: bool = False

    def end(self, error: Exception) -> None:
        """End it, for the first reason that is given."""
        if self.error is None:
            self.error = error
            self.scope.cancel()

    # ------------------------------------------------------------------------------- reading

    async def read(self) -> None:
        """Hand out all that comes, until the connection ends.

        Raises:
            trio.EndOfChannel, trio.BrokenResourceError: it ended.
            ProtocolError: the daemon broke the rules.
        """
        transport = self.transport
        while True:
            data = await transport.receive()
            self.heard_at = trio.current_time()
            self.useful = True
            self._handle(self.machine.receive(data))
            for more in transport.receive_ready():
                self._handle(self.machine.receive(more))
            self.end_if_left()
            self.attend()

    def end_if_left(self) -> None:
        """After the daemon's goodbye, end it once nothing is under way and nothing is held."""
        if (
            self.machine.state is State.LEAVING
            and not self.requests
            and not any(member.holding for member in self.members.values())
        ):
            self.end(Draining("the daemon said goodbye"))

    def _handle(self, frame: Frame) -> None:
        handler = _HANDLERS.get(type(frame))
        assert handler is not None, f"the machine let a {type(frame).__name__} through"
        handler(self, frame)

    def _take(self, request: int) -> Request:
        found = self.requests.pop(request, None)
        if found is None:
            raise RemoteProtocolError(f"an answer to request {request}, which is not under way")
        return found

    def _on_acks(self, frame: frames.Acks) -> None:
        self.window.raise_limit(frame.credit)
        take = self.requests.pop
        for request, partition, offset, count, level, duplicate in frame.acks:
            found = take(request, None)
            if found is None:
                raise RemoteProtocolError(f"an ack of request {request}, which is not under way")
            found.acked(partition, offset, count, LEVELS[level], bool(duplicate))

    def _on_results(self, frame: frames.Results) -> None:
        self.window.raise_limit(frame.credit)
        request = self._take(frame.request)
        if len(frame.results) != 1:
            raise RemoteProtocolError(f"{len(frame.results)} results for a request of one record")
        first, *rest = frame.results[0]
        if type(first) is int:
            offset, level, duplicate = rest
            request.acked(first, offset, 1, LEVELS[level], bool(duplicate))
        else:
            message, retryable, detail = rest
            request.refused(_told(first, message, detail, retryable))

    def _on_failed(self, frame: frames.Failed) -> None:
        error = _told(frame.code, frame.message, frame.detail, frame.retryable)
        ends = frame.request is None or frame.fatal
        if ends and frame.code in _OUR_FAULT:
            self.accusation = error
        if frame.request is not None:
            request = self._take(frame.request)
            if self.accusation is not None:
                request.accused(error)
            request.refused(error)
        if ends:
            self.end(error)

    def _on_answer(self, frame: frames.Reply | frames.Fetched | frames.Settled) -> None:
        self._take(frame.request).answered(frame)

    def _on_credit(self, frame: frames.Credit) -> None:
        self.window.raise_limit(frame.limit)

    def _on_deliver(self, frame: frames.Deliver) -> None:
        subscriber = self.subscribers.get(frame.subscription)
        if subscriber is not None:
            subscriber.delivered(frame)

    def _on_ended(self, frame: frames.Ended) -> None:
        number = frame.subscription
        subscriber = self.subscribers.pop(number, None) or self.members.pop(number, None)
        if subscriber is not None:
            subscriber.ended(from_code(frame.code, frame.message, frame.detail))

    def _on_lease(self, frame: frames.Lease) -> None:
        member = self.members.get(frame.subscription)
        if member is not None:
            member.leased(frame)

    def _on_revoke(self, frame: frames.Revoke) -> None:
        member = self.members.get(frame.subscription)
        if member is not None:
            member.revoked(frame)

    def _on_goodbye(self, frame: frames.Goodbye) -> None:
        for member in list(self.members.values()):
            member.leaving()

    def _on_ping(self, frame: frames.Ping) -> None:
        # Only the latest is answered, so that a peer's pings cannot pile up here.
        self.pong = frame.token

    def _on_nothing(self, frame: Frame) -> None:
        """A pong was heard, and that is all it is for."""

    async def watch(self, idle_s: float) -> None:
        """Ask a daemon that is silent, and owes us something, for a sign of life.

        Raises:
            TooSlow: it gave none.
        """
        while True:
            await trio.sleep_until(self.heard_at + idle_s)
            if trio.current_time() < self.heard_at + idle_s:
                continue
            if self.requests or self.subscribers or self.members:
                self.ping = 1
                self.attend()
                asked_at = trio.current_time()
                await trio.sleep(idle_s)
                if self.heard_at < asked_at:
                    raise TooSlow(f"the daemon was silent for {2 * idle_s} s")
            else:
                self.heard_at = trio.current_time()

    # ------------------------------------------------------------------------------- writing

    @property
    def has_work(self) -> bool:
        """Whether there is something to send besides requests to append and to ask."""
        return bool(
            self.control
            or self.opening
            or self.settling
            or self.encoded
            or self.pong is not None
            or self.ping is not None
        )

    @property
    def may_ask(self) -> bool:
        """Whether one more request may be sent now."""
        return len(self.requests) < self.requests_max and self.machine.state is State.OPEN

    @property
    def may_settle(self) -> bool:
        """Whether one more Settle frame may be sent now: also after the daemon's goodbye."""
        return len(self.requests) < self.requests_max and self.machine.state in _MAY_SETTLE

    @property
    def may_append(self) -> bool:
        """As `may_ask`, for requests that need credit."""
        return self.window.open and self.may_ask

    def take_control(self) -> list[bytes]:
        """What goes before all requests that are not subscriptions."""
        data, self.encoded = self.encoded, []
        send = self.machine.send
        if self.pong is not None:
            data.append(send(frames.Pong(self.pong)))
            self.pong = None
        if self.ping is not None:
            data.append(send(frames.Ping(self.ping)))
            self.ping = None
        while self.control:
            data.append(send(self.control.popleft()))
        while self.opening and self.may_ask:
            number = next(iter(self.opening))
            request, frame = self.opening.pop(number)
            if not self.ask(frame.request, request, frame, data):
                self.subscribers.pop(number, None)
                self.members.pop(number, None)
        self._take_settles(data)
        return data

    def _take_settles(self, data: list[bytes]) -> None:
        while self.settling and self.may_settle:
            settler = next(iter(self.settling))
            found = settler.next_settle()
            if found is None:
                del self.settling[settler]
            else:
                request, frame = found
                self.ask(frame.request, request, frame, data)

    def ask(self, number: int, request: Request, frame: Frame, data: list[bytes]) -> int:
        """Encode a request into `data` and wait for its answer; the bytes that it takes.

        One that cannot be sent is refused here, and takes none.
        """
        try:
            encoded = self.machine.send(frame)
        except LocalProtocolError as error:
            request.refused(_unsendable(frame, error))
            return 0
        self.requests[number] = request
        data.append(encoded)
        return len(encoded)

    def append(self, number: int, request: Request, frame: Frame, data: list[bytes]) -> int:
        """As `ask`, and spend credit. Which records belong to traces is said before it."""
        if request.parents and self.traces:
            data.append(self.machine.send(frames.Trace(number, [*map(list, request.parents)])))
        nbytes = self.ask(number, request, frame, data)
        if nbytes:
            self.window.spend(nbytes)
        return nbytes


def _unsendable(frame: Frame, error: LocalProtocolError) -> StreamerError:
    """Why a request cannot be sent, in the words of who made it."""
    try:
        frames.encode(frame)
    except LocalProtocolError as found:
        if not isinstance(found.__cause__, FrameTooLarge):
            return BadRequest(found.message)
    return TooLarge(error.message)


def _told(code: str, message: str, detail: dict[str, Any], retryable: bool) -> StreamerError:
    """What the daemon says; of a code that is not known here, the flag tells what to do."""
    error = from_code(code, message, detail)
    if type(error) is StreamerError and retryable:
        later = TryLater(message)
        later.detail = error.detail
        return later
    return error


_HANDLERS: dict[type[Frame], Callable[[Session, Any], None]] = {
    frames.Acks: Session._on_acks,
    frames.Results: Session._on_results,
    frames.Failed: Session._on_failed,
    frames.Reply: Session._on_answer,
    frames.Fetched: Session._on_answer,
    frames.Credit: Session._on_credit,
    frames.Deliver: Session._on_deliver,
    frames.Ended: Session._on_ended,
    frames.Lease: Session._on_lease,
    frames.Settled: Session._on_answer,
    frames.Revoke: Session._on_revoke,
    frames.Ping: Session._on_ping,
    frames.Pong: Session._on_nothing,
    frames.Goodbye: Session._on_goodbye,
}
