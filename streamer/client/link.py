"""The client's one connection: made, kept, made again, and shared by everything of the client.

Rules:

- One task writes. It asks everybody who has something to say (`_gather`, synchronous), hands all
  of it to the transport at once, and parks when there is nothing. So a write is cancelled only
  when its connection ends.
- Whoever has work puts itself into a queue here and wakes the writer; nothing is encoded before
  it can go out, and nothing goes out beyond the daemon's credit and number of requests.
- Between connections all queues stay as they are. What was under way is told (`lost`), and
  decides itself whether it goes again.
- What goes wrong with the connection ends the connection and no more; when it cannot be made
  again within `reconnect_s`, everybody who waits is told, and so is everybody who comes later.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from streamer.client.requests import LEVELS, Call, Request, Timers, TryLater, fresh
from streamer.errors import (
    BadRequest,
    ConnectionFailed,
    Draining,
    FrameTooLarge,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    StreamerError,
    TooLarge,
    TooSlow,
    from_code,
)
from streamer.limits import KIB, BatchLimits, WireLimits
from streamer.transport import Transport, close_now
from streamer.wire import frames
from streamer.wire.credit import SendWindow
from streamer.wire.frames import Frame
from streamer.wire.machine import Connection, Role, State

__all__ = ["Dial", "Link", "LinkSettings", "Source", "Subscriber"]

#: Connects, with the nursery that what it makes may run in.
Dial = Callable[[trio.Nursery], Awaitable[Transport]]

#: What one write takes: enough to make system calls cheap, too little for the daemon to starve
#: while the next is encoded.
_WRITE_BYTES = 64 * KIB
#: What is written without letting others run.
_YIELD_BYTES = 16 * KIB
#: A session that lasted so long has been of use, even if nothing was asked in it.
_LASTED_S = 1.0
#: Time for the daemon to answer what is under way after our goodbye.
_GOODBYE_S = 2.0
#: Codes of an end of the session that the same frames would bring about again.
_OUR_FAULT = frozenset({"protocol", "frame_too_large"})
_BROKEN = (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.frozen
class LinkSettings:
    """How a connection is kept; times in seconds."""

    #: What the daemon's logs call this client.
    name: str = ""
    #: Longest time without a connection before giving up.
    reconnect_s: float = 60.0
    #: Silence after which a daemon that owes us something is asked for a sign of life, and the
    #: time that it has to give one.
    idle_s: float = 15.0
    #: For connecting and greeting.
    handshake_s: float = 5.0
    #: The wait before the second attempt to connect again; doubles up to the other.
    backoff_s: float = 0.05
    backoff_max_s: float = 2.0
    #: The longest frame that is taken from the daemon.
    frame_bytes: int = WireLimits().frame_bytes


class Source(Protocol):
    """Somebody who has requests to append."""

    #: Whether it stands in the link's queue.
    listed: bool

    def next_frame(self, request: int) -> tuple[Request, Frame] | None:
        """The next request to send now, under that number; None if there is none now."""

    def lost(self) -> None:
        """The connection ended: what has not been answered will not be."""

    def failed(self, error: Exception) -> None:
        """The link is at its end."""


class Subscriber(Protocol):
    """Somebody to whom batches are delivered."""

    def connected(self) -> None:
        """There is a new connection: subscribe (again)."""

    def delivered(self, frame: frames.Deliver) -> None: ...

    def ended(self, error: StreamerError) -> None: ...

    def failed(self, error: Exception) -> None:
        """The link is at its end."""


@attrs.define(eq=False)
class _Session:
    """One connection, from its welcome to its end."""

    transport: Transport
    machine: Connection
    scope: trio.CancelScope
    window: SendWindow
    #: Of all kinds together, subscriptions too.
    requests_max: int
    began_at: float
    heard_at: float
    requests: dict[int, Request] = attrs.Factory(dict)
    subscribers: dict[int, Subscriber] = attrs.Factory(dict)
    #: Subscriptions that wait for their turn, by number.
    opening: dict[int, tuple[Request, frames.Subscribe]] = attrs.Factory(dict)
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

    def end(self, error: Exception) -> None:
        """End it, for the first reason that is given."""
        if self.error is None:
            self.error = error
            self.scope.cancel()


class Link:
    """Made by `connect`; `run` and `timers.run` go into the client's nursery."""

    def __init__(
        self,
        dial: Dial,
        settings: LinkSettings,
        rng: random.Random,
        now_us: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.rng = rng
        self.now_us = now_us
        self.timers = Timers()
        self.limits = WireLimits()
        self.batch_limits = BatchLimits()
        self.server_name = ""
        #: Why there will be no connection any more.
        self.failure: Exception | None = None
        self._dial = dial
        self._session: _Session | None = None
        self._ever_open = False
        self._closing = False
        self._changed = trio.lowlevel.ParkingLot()
        self._numbers = 0
        self._calls: deque[Call] = deque()
        self._active: deque[Source] = deque()
        self._sources: dict[Source, None] = {}
        self._subscribers: dict[Subscriber, None] = {}
        self._writer: Task | None = None

    # --------------------------------------------------------------------- for the client's parts

    def check(self) -> None:
        """Raise what ended the link, if something did."""
        if self.failure is not None:
            raise fresh(self.failure)

    def next_number(self) -> int:
        """A number for a request or subscription, never used before."""
        self._numbers += 1
        return self._numbers

    def new_producer_id(self) -> int:
        """A producer's id: 63 random bits, never 0."""
        return self.rng.getrandbits(63) or 1

    def activate(self, source: Source) -> None:
        """Put a source with something to send into the queue, and wake the writer."""
        if not source.listed:
            source.listed = True
            self._active.append(source)
            if self._writer is not None:
                self.wake()

    def hurry(self, source: Source) -> None:
        """As `activate`, for somebody who has one request and nobody to share it with: it goes
        out here and now if nothing is in the way, which saves waking the writer."""
        session = self._session
        if (
            session is None
            or self._writer is None
            or self._active
            or self._has_work(session)
            or not self._may_append(session)
        ):
            self.activate(source)
            return
        number = self.next_number()
        found = source.next_frame(number)
        if found is None:
            return
        data: list[bytes] = []
        self._append(session, number, found, data)
        try:
            taken = session.transport.send_now(data)
        except trio.BrokenResourceError as error:
            session.machine.send_failed()
            session.end(error)
            return
        if not taken:
            session.encoded += data
        if not taken or session.transport.unsent:
            self.wake()

    def add(self, source: Source) -> None:
        self._sources[source] = None

    def remove(self, source: Source) -> None:
        self._sources.pop(source, None)

    async def call(self, make: Callable[[int], Frame], *, again: bool = True) -> Frame:
        """Send the request that `make(number)` gives, and wait for its answer.

        Cancelled, it may still be carried out.

        Raises:
            StreamerError: the daemon refused; `OutcomeUnknown` if the connection was lost and
                the request may not be sent again; `ConnectionFailed` if there is no other.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check()
        call = Call(make, again, self._enqueue)
        self._enqueue(call)
        return await call.wait()

    def _enqueue(self, call: Call) -> None:
        if self.failure is not None:
            call.refused(fresh(self.failure))
            return
        self._calls.append(call)
        self.wake()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Deliver to `subscriber`, over this connection and every later one."""
        self._subscribers[subscriber] = None
        if self._session is not None:
            subscriber.connected()

    def unsubscribe(self, subscriber: Subscriber, number: int) -> None:
        self._subscribers.pop(subscriber, None)
        self.drop_subscription(number)

    def open_subscription(self, subscriber: Subscriber, request: Request, frame: Frame) -> None:
        """Send a Subscribe frame in its turn; only while connected, from `connected` or later."""
        session = self._session
        assert session is not None, "subscriptions are opened while connected"
        assert isinstance(frame, frames.Subscribe)
        session.opening[frame.subscription] = (request, frame)
        session.subscribers[frame.subscription] = subscriber
        self.wake()

    def drop_subscription(self, number: int) -> None:
        """Have no more delivered under that number; what is on its way is dropped."""
        session = self._session
        if session is None or session.subscribers.pop(number, None) is None:
            return
        if session.opening.pop(number, None) is None:
            session.control.append(frames.Unsubscribe(number))
            self.wake()

    def grant(self, number: int, limit: int) -> None:
        session = self._session
        if session is not None and number in session.subscribers:
            session.control.append(frames.Grant(number, limit))
            self.wake()

    @property
    def connected(self) -> bool:
        return self._session is not None

    # --------------------------------------------------------------------------- the connection

    async def run(self) -> None:
        """Keep a connection until `close`, or until none can be made any more."""
        down_since, attempt = trio.current_time(), 0
        while True:
            useful, error = await self._connect_once()
            if self._closing:
                return
            if not self._ever_open:
                self._fail(error)
                return
            if useful:
                down_since, attempt = trio.current_time(), 0
            left = down_since + self.settings.reconnect_s - trio.current_time()
            if left <= 0:
                lost = ConnectionFailed(
                    f"no connection for {self.settings.reconnect_s} s, last: {error}"
                )
                lost.__cause__ = error
                self._fail(lost)
                return
            delay = min(self.settings.backoff_max_s, self.settings.backoff_s * 2**attempt)
            # Between half and all of it, so that many clients do not come back as one.
            await trio.sleep(min(left, delay * (0.5 + self.rng.random() / 2)))
            attempt = min(attempt + 1, 30)

    async def _connect_once(self) -> tuple[bool, Exception]:
        """One connection from dialling to its end: whether it was of use, and why it ended."""
        session: _Session | None = None
        ended: Exception = Draining("the connection was closed")
        try:
            async with trio.open_nursery() as nursery:
                try:
                    session = await self._open(nursery)
                except StreamerError as error:
                    ended = error
                if session is not None:
                    await self._serve(session, nursery)
                nursery.cancel_scope.cancel()
        finally:
            if session is not None:
                self._detach(session)
                await close_now(session.transport)
        if session is None:
            return False, ended
        lasted = trio.current_time() - session.began_at >= _LASTED_S
        # One that breaks the rules at once will do so again: that is not to go on for ever.
        useful = session.useful and not isinstance(session.error, ProtocolError)
        return useful or lasted, session.error or ended

    async def _open(self, nursery: trio.Nursery) -> _Session:
        """Dial and greet.

        Raises:
            StreamerError: nobody answers, or they do not want us.
        """
        machine = Connection(Role.CLIENT, self.settings.frame_bytes)
        transport: Transport | None = None
        welcome: Frame | None = None
        try:
            with trio.move_on_after(self.settings.handshake_s):
                transport = await self._dial(nursery)
                name = self.settings.name or "streamer-python"
                hello = frames.Hello([frames.PROTOCOL_VERSION], name)
                await transport.send(machine.send(hello))
                welcome = machine.receive(await transport.receive())
        except _BROKEN as error:
            raise ConnectionFailed(f"the connection ended during the greeting: {error}") from error
        finally:
            if transport is not None and not isinstance(welcome, frames.Welcome):
                await close_now(transport)
        if welcome is None or transport is None:
            raise ConnectionFailed(f"no welcome within {self.settings.handshake_s} s")
        if isinstance(welcome, frames.Failed):
            raise from_code(welcome.code, welcome.message, welcome.detail)
        assert isinstance(welcome, frames.Welcome), "the machine lets nothing else through here"
        self._take_limits(welcome)
        now = trio.current_time()
        return _Session(
            transport,
            machine,
            nursery.cancel_scope,
            SendWindow(welcome.credit),
            max(1, self.limits.requests),
            now,
            now,
        )

    def _take_limits(self, welcome: frames.Welcome) -> None:
        self.server_name = welcome.name
        self.limits = _limits(WireLimits, welcome.limits)
        self.batch_limits = _limits(BatchLimits, welcome.limits)

    async def _serve(self, session: _Session, nursery: trio.Nursery) -> None:
        self._session = session
        self._ever_open = True
        self._changed.unpark_all()
        for subscriber in list(self._subscribers):
            subscriber.connected()
        nursery.start_soon(self._guard, session, self._write)
        nursery.start_soon(self._guard, session, self._watch)
        await self._guard(session, self._read)

    async def _guard(self, session: _Session, loop: Callable[[_Session], Awaitable[None]]) -> None:
        """Run one of the session's loops; what it raises on purpose ends the session."""
        try:
            await loop(session)
        except (*_BROKEN, ProtocolError) as error:
            session.end(error)

    def _detach(self, session: _Session) -> None:
        self._session = None
        session.machine.closed()
        for request in list(session.requests.values()):
            if session.accusation is not None:
                request.accused(session.accusation)
            request.lost()
        session.requests.clear()
        for source in list(self._sources):
            source.lost()
        self._changed.unpark_all()

    def _fail(self, error: Exception) -> None:
        """There will be no connection: tell everybody."""
        self.failure = error
        while self._calls:
            call = self._calls.popleft()
            call.refused(fresh(error))
        for source in list(self._sources):
            source.failed(error)
        for subscriber in list(self._subscribers):
            subscriber.failed(error)
        self._changed.unpark_all()

    async def opened(self) -> None:
        """Wait for the first connection.

        Raises:
            StreamerError: it could not be made.
        """
        while not self._ever_open and self.failure is None:
            await self._changed.park()
        if not self._ever_open:
            self.check()

    async def close(self) -> None:
        """Say goodbye, and wait a little for what is under way to be answered."""
        self._closing = True
        session = self._session
        if session is not None and session.machine.state in (State.OPEN, State.LEAVING):
            session.control.append(frames.Goodbye("closed", "the client is done"))
            self.wake()
            with trio.move_on_after(_GOODBYE_S):
                while self._session is session:
                    await self._changed.park()
        self.end()

    def end(self) -> None:
        """Whatever became of the connection: nobody may wait for it any more."""
        self._closing = True
        if self.failure is None:
            self._fail(trio.ClosedResourceError("the client is closed"))

    # ------------------------------------------------------------------------------- reading

    async def _read(self, session: _Session) -> None:
        transport = session.transport
        while True:
            data = await transport.receive()
            session.heard_at = trio.current_time()
            session.useful = True
            self._handle(session, session.machine.receive(data))
            for more in transport.receive_ready():
                self._handle(session, session.machine.receive(more))
            if session.machine.state is State.LEAVING and not session.requests:
                session.end(Draining("the daemon said goodbye"))
            if self._has_work(session):
                self.wake()

    def _handle(self, session: _Session, frame: Frame) -> None:
        handler = _HANDLERS.get(type(frame))
        assert handler is not None, f"the machine let a {type(frame).__name__} through"
        handler(self, session, frame)

    def _take(self, session: _Session, request: int) -> Request:
        found = session.requests.pop(request, None)
        if found is None:
            raise RemoteProtocolError(f"an answer to request {request}, which is not under way")
        return found

    def _on_acks(self, session: _Session, frame: frames.Acks) -> None:
        session.window.raise_limit(frame.credit)
        take = session.requests.pop
        for request, partition, offset, count, level, duplicate in frame.acks:
            found = take(request, None)
            if found is None:
                raise RemoteProtocolError(f"an ack of request {request}, which is not under way")
            found.acked(partition, offset, count, LEVELS[level], bool(duplicate))

    def _on_results(self, session: _Session, frame: frames.Results) -> None:
        session.window.raise_limit(frame.credit)
        request = self._take(session, frame.request)
        if len(frame.results) != 1:
            raise RemoteProtocolError(f"{len(frame.results)} results for a request of one record")
        first, *rest = frame.results[0]
        if type(first) is int:
            offset, level, duplicate = rest
            request.acked(first, offset, 1, LEVELS[level], bool(duplicate))
        else:
            message, retryable, detail = rest
            request.refused(_told(first, message, detail, retryable))

    def _on_failed(self, session: _Session, frame: frames.Failed) -> None:
        error = _told(frame.code, frame.message, frame.detail, frame.retryable)
        ends = frame.request is None or frame.fatal
        if ends and frame.code in _OUR_FAULT:
            session.accusation = error
        if frame.request is not None:
            request = self._take(session, frame.request)
            if session.accusation is not None:
                request.accused(error)
            request.refused(error)
        if ends:
            session.end(error)

    def _on_answer(self, session: _Session, frame: frames.Reply | frames.Fetched) -> None:
        self._take(session, frame.request).answered(frame)

    def _on_credit(self, session: _Session, frame: frames.Credit) -> None:
        session.window.raise_limit(frame.limit)

    def _on_deliver(self, session: _Session, frame: frames.Deliver) -> None:
        subscriber = session.subscribers.get(frame.subscription)
        if subscriber is not None:
            subscriber.delivered(frame)

    def _on_ended(self, session: _Session, frame: frames.Ended) -> None:
        subscriber = session.subscribers.pop(frame.subscription, None)
        if subscriber is not None:
            subscriber.ended(from_code(frame.code, frame.message, frame.detail))

    def _on_ping(self, session: _Session, frame: frames.Ping) -> None:
        # Only the latest is answered, so that a peer's pings cannot pile up here.
        session.pong = frame.token

    def _on_nothing(self, session: _Session, frame: Frame) -> None:
        """A pong was heard, and that is all it is for; of a goodbye the machine takes note."""

    async def _watch(self, session: _Session) -> None:
        """Ask a daemon that is silent, and owes us something, for a sign of life."""
        idle_s = self.settings.idle_s
        while True:
            await trio.sleep_until(session.heard_at + idle_s)
            if trio.current_time() < session.heard_at + idle_s:
                continue
            if session.requests or session.subscribers:
                session.ping = 1
                self.wake()
                asked_at = trio.current_time()
                await trio.sleep(idle_s)
                if session.heard_at < asked_at:
                    raise TooSlow(f"the daemon was silent for {2 * idle_s} s")
            else:
                session.heard_at = trio.current_time()

    # ------------------------------------------------------------------------------- writing

    def wake(self) -> None:
        """Have the writer look for work; it does so by itself unless it is parked."""
        task, self._writer = self._writer, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _has_work(self, session: _Session) -> bool:
        return bool(
            self._active
            or session.control
            or self._calls
            or session.opening
            or session.pong is not None
        )

    async def _write(self, session: _Session) -> None:
        while True:
            data = self._gather(session)
            if not data and not session.transport.unsent:
                await self._park()
                continue
            try:
                await session.transport.send_all(data)
            except BaseException:
                session.machine.send_failed()
                raise
            # A write that the kernel takes whole does not yield, and acks are to be read, too.
            if sum(map(len, data)) >= _YIELD_BYTES:
                await trio.lowlevel.checkpoint()

    async def _park(self) -> None:
        self._writer = trio.lowlevel.current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._writer = None
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _gather(self, session: _Session) -> list[bytes]:
        """All that may go out now, up to a write's worth."""
        data, session.encoded = session.encoded, []
        send = session.machine.send
        if session.pong is not None:
            data.append(send(frames.Pong(session.pong)))
            session.pong = None
        if session.ping is not None:
            data.append(send(frames.Ping(session.ping)))
            session.ping = None
        while session.control:
            data.append(send(session.control.popleft()))
        if session.machine.state is State.OPEN:
            self._gather_subscriptions(session, data)
            self._gather_calls(session, data)
            self._gather_appends(session, data)
        return data

    def _gather_subscriptions(self, session: _Session, data: list[bytes]) -> None:
        while session.opening and len(session.requests) < session.requests_max:
            number = next(iter(session.opening))
            request, frame = session.opening.pop(number)
            try:
                data.append(session.machine.send(frame))
            except LocalProtocolError as error:
                session.subscribers.pop(number, None)
                request.refused(_unsendable(frame, error))
            else:
                session.requests[frame.request] = request

    def _gather_calls(self, session: _Session, data: list[bytes]) -> None:
        while self._calls and len(session.requests) < session.requests_max:
            call = self._calls.popleft()
            if call.abandoned:
                continue
            number = self.next_number()
            frame = call.make(number)
            try:
                data.append(session.machine.send(frame))
            except LocalProtocolError as error:
                call.refused(_unsendable(frame, error))
            else:
                session.requests[number] = call

    def _gather_appends(self, session: _Session, data: list[bytes]) -> None:
        """In turns, one request of each source."""
        active = self._active
        room = _WRITE_BYTES
        while active and room > 0 and self._may_append(session):
            source = active.popleft()
            number = self.next_number()
            found = source.next_frame(number)
            if found is None:
                source.listed = False
                continue
            active.append(source)
            room -= self._append(session, number, found, data)

    def _may_append(self, session: _Session) -> bool:
        return (
            session.window.open
            and len(session.requests) < session.requests_max
            and session.machine.state is State.OPEN
        )

    def _append(
        self, session: _Session, number: int, found: tuple[Request, Frame], data: list[bytes]
    ) -> int:
        """Encode a request to append; the bytes that it takes."""
        request, frame = found
        try:
            encoded = session.machine.send(frame)
        except LocalProtocolError as error:
            request.refused(_unsendable(frame, error))
            return 0
        session.requests[number] = request
        session.window.spend(len(encoded))
        data.append(encoded)
        return len(encoded)


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


def _limits(kind: type[Any], told: dict[str, int]) -> Any:
    """The limits that the daemon told; our own where it told none."""
    fields = {field.name for field in attrs.fields(kind)}
    return kind(**{name: value for name, value in told.items() if name in fields})


_HANDLERS: dict[type[Frame], Callable[[Link, _Session, Any], None]] = {
    frames.Acks: Link._on_acks,
    frames.Results: Link._on_results,
    frames.Failed: Link._on_failed,
    frames.Reply: Link._on_answer,
    frames.Fetched: Link._on_answer,
    frames.Credit: Link._on_credit,
    frames.Deliver: Link._on_deliver,
    frames.Ended: Link._on_ended,
    frames.Ping: Link._on_ping,
    frames.Pong: Link._on_nothing,
    frames.Goodbye: Link._on_nothing,
}
