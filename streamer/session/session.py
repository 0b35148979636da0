"""One session: reads requests, hands them on, writes answers. Over any transport.

Rules:

- The reader never waits for a stage (see `appends`), so pings are always answered.
- Every request is answered exactly once, or the session is over. It is under way until the writer
  takes its answer: a peer that does not read runs out of requests, not the daemon out of memory.
- A write that is cancelled or breaks ends the session: part of a frame may be out.
- A session that ends for a fault says so in a last frame, by its one writer, within a second.
- Whatever goes wrong in one session ends that session and no other: `serve` is an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
import trio

from streamer.errors import (
    BadRequest,
    CreditExceeded,
    Draining,
    LocalProtocolError,
    NotAllowed,
    Overloaded,
    ProtocolError,
    StreamerError,
    TooLarge,
    TooSlow,
)
from streamer.session.admin import LARGE_REPLIES, answer_admin
from streamer.session.appends import Appends
from streamer.session.delivery import Subscriptions, fetch
from streamer.session.memberships import Memberships
from streamer.session.outbox import Outbox, failed
from streamer.session.service import Service
from streamer.transport import Transport
from streamer.wire import frames
from streamer.wire.frames import Frame
from streamer.wire.machine import Connection, Role, State

#: How long a peer may take to hear why its session ends.
_LAST_WORDS_S = 1.0


class Session:
    """Serves one peer. `serve` returns when the session is over."""

    def __init__(
        self,
        transport: Transport,
        service: Service,
        peer: str,
        *,
        number: int = 0,
        scheme: str = "",
    ) -> None:
        """`number` is the session's in what people are shown, `scheme` how it came in."""
        self.peer = peer
        self.name = ""
        self.number = number
        self._scheme = scheme
        self._transport = transport
        self._service = service
        self._limits = service.limits
        self._connection = Connection(Role.SERVER, service.limits.frame_bytes)
        frame_bytes = service.limits.frame_bytes
        queue_bytes = partial(service.budget.queue, service.send_queue_bytes, frame_bytes)
        self._outbox = Outbox(queue_bytes, frame_bytes, self._end)
        self._appends = Appends(service, self._outbox)
        self._requests: set[int] = set()
        #: What requests to settle have charged the budget with.
        self._charged = 0
        self._costs: dict[int, int] = {}
        self._subscriptions = Subscriptions(service, self._outbox, lambda: self.name or self.peer)
        self._memberships = Memberships(service, self._outbox)
        self._leaving = False
        #: Why the session ends, if for a fault.
        self._fault: ProtocolError | None = None
        self._settled = trio.lowlevel.ParkingLot()
        self._began_at = self._heard_at = trio.current_time()
        #: Its own bytes, beside the counters of all.
        self.bytes_in = self._out_bytes = 0
        self._log = structlog.get_logger("streamer.session").bind(peer=peer)
        self._bytes_in = service.stats.counter("session_bytes_in", "bytes of frames received")
        self._bytes_out = service.stats.counter("session_bytes_out", "bytes of frames sent")
        self._frames_in = service.stats.counter("session_frames_in", "frames received")
        self._frames_out = service.stats.counter("session_frames_out", "frames sent")

    # ------------------------------------------------------------------------------- lifetime

    async def serve(self) -> None:
        """Greet, then read and write until one side is done.

        Raises:
            ProtocolError: the peer broke the rules (it has been told).
            trio.BrokenResourceError: the connection broke.
        """
        budget = self._service.budget
        budget.sessions += 1
        try:
            if not await self._greet():
                return
            self._tell("session_opened", "came in")
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._appends.begin(nursery, self.name)
                nursery.start_soon(self._write)
                nursery.start_soon(self._watch)
                await self._read()
                nursery.cancel_scope.cancel()
            if self._fault is not None:
                if self._connection.state is State.CLOSED:
                    # It was told why, and is to hear it.
                    with trio.move_on_after(_LAST_WORDS_S):
                        await self._transport.hear_out()
                raise self._fault
        finally:
            budget.sessions -= 1
            budget.release(self._charged)
            left = self._leaving
            if self._connection.state not in (State.GREETING, State.GREETED):
                how = "left" if left else "broke off" if self._fault is None else "was ended"
                self._tell("session_closed", how)
            self._connection.closed()
            # What it holds has failed, unless it or the daemon went in order.
            self._memberships.end_all("" if left else "the session of its consumer ended")
            # Nobody answers any more, and nobody needs to wait for it.
            self._requests.clear()
            self._settled.unpark_all()
            self._appends.close()

    def _tell(self, kind: str, what: str) -> None:
        why = f": {self._fault.message[:200]}" if self._fault is not None else ""
        self._service.inspected.events.emit(
            kind,
            f"session {self.number} ({self.name or 'no name'}, {self.peer}) {what}{why}",
            severity="warning" if self._fault is not None else "info",
            session=self.number,
            name=self.name,
            peer=self.peer,
        )

    @property
    def under_way_bytes(self) -> int:
        """What its requests that are not answered have charged the budget with."""
        return self._charged + self._appends.charged

    @property
    def slow(self) -> bool:
        """Whether its peer takes less than there is for it."""
        return not self._outbox.has_room

    def view(self) -> dict[str, Any]:
        """What people see of it: plain values, sizes in bytes, times in seconds."""
        now = trio.current_time()
        return {
            "session": self.number,
            "name": self.name,
            "peer": self.peer,
            "transport": self._scheme,
            "age_s": round(now - self._began_at, 3),
            "heard_s": round(now - self._heard_at, 3),
            "requests": len(self._requests),
            "under_way_bytes": self.under_way_bytes,
            "window_bytes": self._appends.window.granted - self._appends.window.done,
            "outbox_bytes": self._outbox.bytes - self._outbox.reserved,
            "bytes_in": self.bytes_in,
            "bytes_out": self._out_bytes,
            "records_in": self._appends.records,
            "subscriptions": len(self._subscriptions),
            "memberships": len(self._memberships),
            "slow": self.slow,
            "leaving": self._leaving,
            "subscribed": self._subscriptions.views(),
            "member_of": self._memberships.views(),
        }

    async def _greet(self) -> bool:
        """Exchange the first two frames; False if the peer went away instead."""
        with trio.move_on_after(self._service.handshake_s) as scope:
            try:
                hello = self._connection.receive(await self._transport.receive())
            except trio.EndOfChannel:
                return False
            except ProtocolError as error:
                await self._say_why(error)
                raise
            assert isinstance(hello, frames.Hello)
            self.name = hello.name[:200]
            limits = {
                **_as_ints(self._limits),
                **_as_ints(self._service.batch_limits),
            }
            await self._send(
                frames.Welcome(
                    frames.PROTOCOL_VERSION,
                    self._service.server_name,
                    limits,
                    self._appends.window.granted,
                )
            )
        if scope.cancelled_caught:
            late = TooSlow(f"no hello within {self._service.handshake_s} s")
            await self._say_why(late)
            raise late
        return True

    async def drain(self) -> None:
        """Tell the peer to leave, wait until all its requests are answered, then end.

        One that has not greeted yet is told right after its welcome.
        """
        await self._leave(frames.Goodbye("draining", "the daemon is going down"))

    async def _leave(self, goodbye: frames.Goodbye) -> None:
        if not self._leaving:
            self._leaving = True
            self._outbox.put(goodbye)
            # Their backlog would hold it up; whoever reads goes on over another connection.
            self._subscriptions.end_all()
        await self._memberships.settled()
        while self._requests:
            await self._settled.park()
        self._outbox.finish()

    # -------------------------------------------------------------------------------- reading

    async def _read(self) -> None:
        transport = self._transport
        try:
            while True:
                data = await transport.receive()
                self._heard_at = trio.current_time()
                self._handle(data)
                for more in transport.receive_ready():
                    self._handle(more)
        except trio.EndOfChannel:
            return
        except ProtocolError as error:
            self._fail(error)
        # Nothing that comes now is heeded.
        await trio.sleep_forever()

    def _fail(self, error: ProtocolError) -> None:
        """End the session once the peer has been told, or has not listened for a second."""
        if self._fault is None:
            self._fault = error
            self._outbox.end_with(failed(None, error))
            self._nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_S

    def _handle(self, data: bytes) -> None:
        self._frames_in.value += 1
        self._bytes_in.value += len(data)
        self.bytes_in += len(data)
        frame = self._connection.receive(data)
        handler = _HANDLERS.get(type(frame))
        assert handler is not None, f"the machine let a {type(frame).__name__} through"
        handler(self, frame, len(data))

    def _begin(self, request: int) -> None:
        """Note a request as under way."""
        if request in self._requests:
            raise ProtocolError(f"request {request} is under way already")
        if len(self._requests) >= self._limits.requests:
            raise CreditExceeded(
                f"{len(self._requests) + 1} requests under way, allowed are {self._limits.requests}"
            )
        self._requests.add(request)

    def _end(self, request: int) -> None:
        self._requests.discard(request)
        cost = self._costs.pop(request, 0)
        if cost:
            self._charged -= cost
            self._service.budget.release(cost)
        if not self._requests:
            self._settled.unpark_all()

    # ------------------------------------------------------------------------------- requests

    def _on_produce(self, frame: frames.Produce, nbytes: int) -> None:
        self._begin(frame.request)
        self._appends.produce(frame, nbytes, self._heard_at)

    def _on_produce_records(self, frame: frames.ProduceRecords, nbytes: int) -> None:
        self._begin(frame.request)
        self._appends.produce_records(frame, nbytes, self._heard_at)

    def _on_trace(self, frame: frames.Trace, _: int) -> None:
        self._appends.trace(frame)

    def _check_taking(self) -> None:
        if self._service.draining:
            raise Draining("the daemon is going down and takes nothing new")

    def _on_subscribe(self, frame: frames.Subscribe, _: int) -> None:
        self._begin(frame.request)
        try:
            self._check_taking()
            self._check_subscription(frame.subscription)
        except StreamerError as error:
            self._reply(frame.request, failed(frame.request, error))
        else:
            self._subscriptions.begin(self._nursery, frame, self._reply)

    def _check_subscription(self, number: int) -> None:
        """Whether one more subscription or membership, with that number, may be opened.

        Raises:
            BadRequest: the number is taken. NotAllowed: there are as many as there may be.
        """
        if number in self._subscriptions or number in self._memberships:
            raise BadRequest(f"subscription {number} is open already")
        count = len(self._subscriptions) + len(self._memberships) + 1
        if count > self._limits.subscriptions:
            raise NotAllowed(f"{count} subscriptions, allowed are {self._limits.subscriptions}")

    def _on_fetch(self, frame: frames.Fetch, _: int) -> None:
        self._begin(frame.request)
        self._nursery.start_soon(
            self._reply_with, frame.request, partial(fetch, self._service, self._outbox, frame)
        )

    def _on_admin(self, frame: frames.Admin, _: int) -> None:
        self._begin(frame.request)
        self._nursery.start_soon(
            self._reply_with, frame.request, partial(self._answer_admin, frame)
        )

    async def _answer_admin(self, frame: frames.Admin) -> Frame:
        if frame.verb not in LARGE_REPLIES:
            # Some of these wait for a pipeline, and must not hold up deliveries meanwhile.
            return await answer_admin(self._service, frame)
        # A reply may be as large as a frame: so few are made before the peer takes them.
        async with self._outbox.room(self._limits.frame_bytes):
            return await answer_admin(self._service, frame)

    async def _reply_with(
        self,
        request: int,
        work: Callable[[], trio.abc.Awaitable[Frame]],  # type: ignore[name-defined]
    ) -> None:
        try:
            self._check_taking()
            frame = await work()
        except StreamerError as error:
            self._service.count_failed(error.code)
            frame = failed(request, error)
        nbytes = 0
        if isinstance(frame, frames.Fetched):
            nbytes = len(frame.batches)
        elif isinstance(frame, frames.Reply):
            # At the most; weighing it would cost as much as encoding it.
            nbytes = self._limits.frame_bytes
        self._reply(request, frame, nbytes)

    def _reply(self, request: int, frame: Frame, nbytes: int = 0) -> None:
        self._outbox.put(frame, nbytes, request)

    def _on_join(self, frame: frames.Join, _: int) -> None:
        self._begin(frame.request)
        try:
            self._check_taking()
            self._check_subscription(frame.subscription)
        except StreamerError as error:
            self._reply(frame.request, failed(frame.request, error))
        else:
            self._memberships.join(frame, self.name, self.peer, self._reply)

    def _on_settle(self, frame: frames.Settle, nbytes: int) -> None:
        self._begin(frame.request)
        try:
            # Its answer may be as long, and waits until the peer takes it.
            cost = self._service.budget.charge(nbytes, len(frame.items))
        except Overloaded as error:
            self._reply(frame.request, failed(frame.request, error))
            return
        self._charged += cost
        self._costs[frame.request] = cost
        self._memberships.settle(frame, self._reply)

    def _on_grant(self, frame: frames.Grant, _: int) -> None:
        self._subscriptions.grant(frame.subscription, frame.limit)

    def _on_unsubscribe(self, frame: frames.Unsubscribe, _: int) -> None:
        if frame.subscription in self._memberships:
            self._memberships.leave(frame.subscription)
        else:
            self._subscriptions.end(frame.subscription)

    def _on_ping(self, frame: frames.Ping, _: int) -> None:
        self._outbox.pong(frame.token)

    def _on_pong(self, frame: frames.Pong, _: int) -> None:
        """It was heard, and that is all a pong is for."""

    def _on_goodbye(self, frame: frames.Goodbye, _: int) -> None:
        self._memberships.end_all()
        self._nursery.start_soon(self._leave, frames.Goodbye("left", "all is answered"))

    # -------------------------------------------------------------------------------- writing

    async def _write(self) -> None:
        """Send what there is to say; the end of it is the end of the session."""
        while True:
            ready = await self._outbox.take(self._appends.grant)
            if ready is None:
                break
            data = [self._encode(frame) for frame in ready]
            self._count_out(data)
            # Most frames are small and the kernel takes them at once, without a deadline to set.
            if self._transport.send_now(data):
                if not self._transport.unsent:
                    continue
                data = []
            with trio.move_on_after(self._service.send_s) as scope:
                await self._send_all(data)
            if scope.cancelled_caught:
                self._fault = TooSlow(f"took nothing for {self._service.send_s} s")
                break
        self._nursery.cancel_scope.cancel()

    def _encode(self, frame: Frame) -> bytes:
        try:
            return self._connection.send(frame)
        except LocalProtocolError as error:
            if not isinstance(frame, frames.Reply | frames.Fetched):
                raise
            too_large = TooLarge(f"the answer cannot be sent: {error.message}")
            return self._connection.send(failed(frame.request, too_large))

    async def _send(self, frame: Frame) -> None:
        data = self._connection.send(frame)
        self._count_out([data])
        await self._send_all([data])

    async def _send_all(self, data: Sequence[bytes]) -> None:
        try:
            await self._transport.send_all(data)
        except BaseException:
            self._connection.send_failed()
            raise

    def _count_out(self, data: Sequence[bytes]) -> None:
        self._frames_out.value += len(data)
        nbytes = sum(map(len, data))
        self._bytes_out.value += nbytes
        self._out_bytes += nbytes

    async def _say_why(self, error: ProtocolError) -> None:
        """Try to tell a peer whose greeting failed; it may be in no state to hear it."""
        with trio.move_on_after(_LAST_WORDS_S) as scope:
            scope.shield = True
            try:
                await self._send(failed(None, error))
                await self._transport.hear_out()
            except (StreamerError, trio.BrokenResourceError, trio.ClosedResourceError):
                self._log.debug("could not tell the peer", error=error.message)

    async def _watch(self) -> None:
        """Ask a silent peer for a sign of life, and end the session if none comes."""
        idle_s = self._service.idle_s
        while True:
            await trio.sleep_until(self._heard_at + idle_s)
            if trio.current_time() < self._heard_at + idle_s:
                continue
            asked_at = trio.current_time()
            self._outbox.put(frames.Ping(0))
            await trio.sleep(self._service.handshake_s)
            if self._heard_at < asked_at:
                self._fail(TooSlow(f"silent for {idle_s} s, and no answer to a ping"))
                return


def _as_ints(limits: object) -> dict[str, int]:
    return {name: getattr(limits, name) for name in limits.__annotations__}


_HANDLERS: dict[type[Frame], Callable[..., None]] = {
    frames.Produce: Session._on_produce,
    frames.ProduceRecords: Session._on_produce_records,
    frames.Trace: Session._on_trace,
    frames.Subscribe: Session._on_subscribe,
    frames.Join: Session._on_join,
    frames.Settle: Session._on_settle,
    frames.Grant: Session._on_grant,
    frames.Unsubscribe: Session._on_unsubscribe,
    frames.Fetch: Session._on_fetch,
    frames.Admin: Session._on_admin,
    frames.Ping: Session._on_ping,
    frames.Pong: Session._on_pong,
    frames.Goodbye: Session._on_goodbye,
}
