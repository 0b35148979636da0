"""The client's one connection: made, kept, made again, and shared by everything of the client.

Rules:

- What was under way when a connection ends is told (`lost`), and decides itself whether it goes
  again. What waits to go out stays with the `Writer`.
- Ctrl-C is the program's: the tasks here let it pass on to the main one, which still needs them to
  say what it holds.
- What goes wrong with the connection ends the connection and no more; when it cannot be made
  again within `reconnect_s`, everybody who waits is told, and so is everybody who comes later.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from streamer.client.requests import Call, Request, Timers, fresh
from streamer.client.session import Member, Session, Settler, Subscriber
from streamer.client.writer import Source, Writer
from streamer.errors import (
    ConnectionFailed,
    Draining,
    ProtocolError,
    StreamerError,
    from_code,
)
from streamer.limits import BatchLimits, WireLimits
from streamer.transport import Transport, close_now
from streamer.wire import frames
from streamer.wire.credit import SendWindow
from streamer.wire.frames import Frame
from streamer.wire.machine import Connection, Role, State

__all__ = ["Dial", "Link", "LinkSettings", "Member", "Source", "Subscriber"]

#: Connects, with the nursery that what it makes may run in.
Dial = Callable[[trio.Nursery], Awaitable[Transport]]

#: A session that lasted so long has been of use, even if nothing was asked in it.
_LASTED_S = 1.0
#: Time for the daemon to answer what is under way after our goodbye.
_GOODBYE_S = 2.0
_BROKEN = (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.frozen
class LinkSettings:
    """How a connection is kept; times in seconds."""

    #: What the daemon's logs call this client.
    name: str = ""
    #: What errors call the place where the daemon should be.
    address: str = "the address"
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
        self._session: Session | None = None
        self._ever_open = False
        self._closing = False
        self._changed = trio.lowlevel.ParkingLot()
        self._writer = Writer()
        self._sources: dict[Source, None] = {}
        self._subscribers: dict[Subscriber | Member, None] = {}

    # --------------------------------------------------------------------- for the client's parts

    def check(self) -> None:
        """Raise what ended the link, if something did."""
        if self.failure is not None:
            raise fresh(self.failure)

    def next_number(self) -> int:
        """A number for a request or subscription, never used before."""
        return next(self._writer.numbers)

    def new_producer_id(self) -> int:
        """A producer's id: 63 random bits, never 0."""
        return self.rng.getrandbits(63) or 1

    def activate(self, source: Source) -> None:
        """Have a source asked for what it has to send."""
        self._writer.activate(source)

    def hurry(self, source: Source) -> None:
        """As `activate`, for somebody who has one request and nobody to share it with."""
        self._writer.hurry(source, self._session)

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
        self._writer.call(call)

    def subscribe(self, subscriber: Subscriber | Member) -> None:
        """Deliver to `subscriber`, over this connection and every later one."""
        self._subscribers[subscriber] = None
        if self._session is not None:
            subscriber.connected()

    def unsubscribe(self, subscriber: Subscriber | Member, number: int) -> None:
        self._subscribers.pop(subscriber, None)
        self.drop_subscription(number)

    def open_subscription(
        self, subscriber: Subscriber, request: Request, frame: frames.Subscribe
    ) -> None:
        """Send the frame in its turn; only while connected, from `connected` or later."""
        session = self._session
        assert session is not None, "subscriptions are opened while connected"
        session.opening[frame.subscription] = (request, frame)
        session.subscribers[frame.subscription] = subscriber
        self._writer.wake()

    def open_membership(self, member: Member, request: Request, frame: frames.Join) -> None:
        """As `open_subscription`."""
        session = self._session
        assert session is not None, "groups are joined while connected"
        session.opening[frame.subscription] = (request, frame)
        session.members[frame.subscription] = member
        self._writer.wake()

    def drop_subscription(self, number: int) -> None:
        """Have no more delivered under that number; what is on its way is dropped."""
        session = self._session
        if session is None or not (
            session.subscribers.pop(number, None) or session.members.pop(number, None)
        ):
            return
        if session.opening.pop(number, None) is None:
            session.control.append(frames.Unsubscribe(number))
            self._writer.wake()

    def settle(self, settler: Settler) -> None:
        """Have somebody asked for the settles that they have to send."""
        session = self._session
        if session is not None and settler not in session.settling:
            session.settling[settler] = None
            self._writer.wake()

    def grant(self, number: int, limit: int) -> None:
        session = self._session
        if session is not None and number in session.subscribers:
            session.control.append(frames.Grant(number, limit))
            self._writer.wake()

    @property
    def connected(self) -> bool:
        return self._session is not None

    # --------------------------------------------------------------------------- the connection

    @trio.lowlevel.enable_ki_protection
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
        session: Session | None = None
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

    async def _open(self, nursery: trio.Nursery) -> Session:
        """Dial and greet.

        Raises:
            ProtocolError: what answers is no daemon.
            StreamerError: nobody answers, or they do not want us.
        """
        nobody = f"no daemon answers at {self.settings.address}"
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
            raise ConnectionFailed(
                f"{nobody}: the connection ended during the greeting: {error}"
            ) from error
        except ProtocolError as error:
            raise type(error)(
                f"what answers at {self.settings.address} does not speak our protocol:"
                f" {error.message}"
            ) from error
        finally:
            if transport is not None and not isinstance(welcome, frames.Welcome):
                await close_now(transport)
        if welcome is None or transport is None:
            raise ConnectionFailed(f"{nobody}: no welcome within {self.settings.handshake_s:g} s")
        if isinstance(welcome, frames.Failed):
            raise from_code(welcome.code, welcome.message, welcome.detail)
        assert isinstance(welcome, frames.Welcome), "the machine lets nothing else through here"
        self._take_limits(welcome)
        now = trio.current_time()
        return Session(
            transport,
            machine,
            nursery.cancel_scope,
            SendWindow(welcome.credit),
            max(1, self.limits.requests),
            now,
            now,
            self._attend,
            traces=self.limits.traces > 0,
        )

    def _attend(self) -> None:
        if self._session is not None:
            self._writer.attend(self._session)

    def _take_limits(self, welcome: frames.Welcome) -> None:
        self.server_name = welcome.name
        self.limits = _limits(WireLimits, welcome.limits)
        self.batch_limits = _limits(BatchLimits, welcome.limits)

    async def _serve(self, session: Session, nursery: trio.Nursery) -> None:
        self._session = session
        self._ever_open = True
        self._changed.unpark_all()
        for subscriber in list(self._subscribers):
            subscriber.connected()
        nursery.start_soon(self._guard, session, self._writer.run, session)
        nursery.start_soon(self._guard, session, session.watch, self.settings.idle_s)
        await self._guard(session, session.read)

    @trio.lowlevel.enable_ki_protection
    async def _guard(
        self, session: Session, loop: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Run one of the session's loops; what it raises on purpose ends the session."""
        try:
            await loop(*args)
        except (*_BROKEN, ProtocolError) as error:
            session.end(error)

    def _detach(self, session: Session) -> None:
        self._session = None
        session.machine.closed()
        for request in list(session.requests.values()):
            if session.accusation is not None:
                request.accused(session.accusation)
            request.lost()
        session.requests.clear()
        for member in list(session.members.values()):
            member.lost()
        for source in list(self._sources):
            source.lost()
        self._changed.unpark_all()

    def _fail(self, error: Exception) -> None:
        """There will be no connection: tell everybody."""
        self.failure = error
        for call in self._writer.refuse_calls():
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
            self._writer.wake()
            with trio.move_on_after(_GOODBYE_S):
                while self._session is session:
                    await self._changed.park()
        self.end()

    def end(self) -> None:
        """Whatever became of the connection: nobody may wait for it any more."""
        self._closing = True
        if self.failure is None:
            self._fail(trio.ClosedResourceError("the client is closed"))


def _limits(kind: type[Any], told: dict[str, int]) -> Any:
    """The limits that the daemon told; our own where it told none."""
    fields = {field.name for field in attrs.fields(kind)}
    return kind(**{name: value for name, value in told.items() if name in fields})
