"""One session: reads requests, hands them on, writes answers. Over any transport.

Rules:

- The reader never waits for a stage: what does not fit into a pipeline waits in `_inbox`, which
  the session's own credit bounds, and credit is what runs out. So pings are always answered.
- Every request is answered exactly once, or the session is over.
- A write that is cancelled or breaks ends the session: part of a frame may be out.
- Whatever goes wrong in one session ends that session and no other: `serve` is an edge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import structlog
import trio

from streamer.batch import parse
from streamer.errors import (
    BadRequest,
    CreditExceeded,
    Draining,
    ProtocolError,
    StreamerError,
    TooSlow,
)
from streamer.pipeline.runner import Pipeline
from streamer.pipeline.stage import Ack, Append
from streamer.records import Lane, ProducerStamp
from streamer.session.admin import answer_admin
from streamer.session.delivery import Subscriptions, fetch
from streamer.session.outbox import Outbox, failed
from streamer.session.requests import records_of
from streamer.session.service import Service
from streamer.transport import Transport
from streamer.wire import frames
from streamer.wire.credit import GrantWindow
from streamer.wire.frames import Frame
from streamer.wire.machine import Connection, Role, State

_LANES = (Lane.NORMAL, Lane.HIGH)


class Session:
    """Serves one peer. `serve` returns when the session is over."""

    def __init__(self, transport: Transport, service: Service, peer: str) -> None:
        self.peer = peer
        self.name = ""
        self._transport = transport
        self._service = service
        self._limits = service.limits
        self._connection = Connection(Role.SERVER, service.limits.frame_bytes)
        self._outbox = Outbox(service.send_queue_bytes)
        self._window = GrantWindow(service.budget.window(service.limits.window_bytes))
        self._requests: set[int] = set()
        self._inbox: deque[tuple[Pipeline, Append]] = deque()
        self._inbox_filled = trio.lowlevel.ParkingLot()
        self._settled = trio.lowlevel.ParkingLot()
        self._heard_at = trio.current_time()
        self._log = structlog.get_logger("streamer.session").bind(peer=peer)
        self._records_in = service.stats.counter("session_records_in", "records received")
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
            await self._greet()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._subscriptions = Subscriptions(self._service, self._outbox, nursery)
                nursery.start_soon(self._write)
                nursery.start_soon(self._feed)
                nursery.start_soon(self._watch)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            budget.sessions -= 1
            budget.under_way -= self._window.under_way
            self._connection.closed()

    async def _greet(self) -> None:
        with trio.move_on_after(self._service.handshake_s) as scope:
            try:
                hello = self._connection.receive(await self._transport.receive())
            except ProtocolError as error:
                await self._say_fatal(error)
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
                    self._window.granted,
                )
            )
        if scope.cancelled_caught:
            raise TooSlow(f"no hello within {self._service.handshake_s} s")

    async def drain(self) -> None:
        """Tell the peer to leave, wait until all its requests are answered, then end."""
        if self._connection.state in (State.OPEN, State.LEFT):
            self._outbox.put(frames.Goodbye("draining", "the daemon is going down"))
        while self._requests:
            await self._settled.park()
        self._outbox.finish()

    # -------------------------------------------------------------------------------- reading

    async def _read(self) -> None:
        transport = self._transport
        while True:
            try:
                data = await transport.receive()
            except trio.EndOfChannel:
                return
            self._heard_at = trio.current_time()
            try:
                self._handle(data)
                for more in transport.receive_ready():
                    self._handle(more)
            except ProtocolError as error:
                await self._say_fatal(error)
                raise

    def _handle(self, data: bytes) -> None:
        self._frames_in.value += 1
        self._bytes_in.value += len(data)
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
        if not self._requests:
            self._settled.unpark_all()

    # ------------------------------------------------------------------------------- produce

    def _on_produce(self, frame: frames.Produce, nbytes: int) -> None:
        ack = self._accept(frame.request, 1, nbytes)
        try:
            batch = parse(frame.batch, self._service.batch_limits)
            self._records_in.value += batch.count
            self._offer(
                Append(
                    frame.stream,
                    frame.partition,
                    frame.expected,
                    _lane(frame.lane),
                    ack,
                    len(frame.batch),
                    self._heard_at,
                    batch=batch,
                )
            )
        except StreamerError as error:
            ack.resolve_all(error)

    def _on_produce_records(self, frame: frames.ProduceRecords, nbytes: int) -> None:
        ack = self._accept(frame.request, len(frame.records), nbytes)
        try:
            records = records_of(frame)
            self._records_in.value += len(records)
            stamp = None
            if frame.producer_id:
                stamp = ProducerStamp(frame.producer_id, frame.epoch, frame.sequence)
            self._offer(
                Append(
                    frame.stream,
                    frame.partition,
                    frame.expected,
                    _lane(frame.lane),
                    ack,
                    nbytes,
                    self._heard_at,
                    records=records,
                    stamp=stamp,
                )
            )
        except StreamerError as error:
            ack.resolve_all(error)

    def _accept(self, request: int, outcomes: int, nbytes: int) -> Ack:
        """Count a produce request against the session's credit; the ack that answers it."""
        self._window.received(nbytes)
        self._begin(request)
        self._service.budget.under_way += nbytes
        if not outcomes:
            outcomes = 1
        return Ack(outcomes, partial(self._answered, request, nbytes))

    def _answered(self, request: int, nbytes: int, ack: Ack) -> None:
        if self._connection.state is State.CLOSED:
            return
        self._window.completed(nbytes)
        self._service.budget.under_way -= nbytes
        self._end(request)
        self._outbox.answer(request, ack)

    def _grant(self) -> int | None:
        return self._window.limit(self._service.budget.window(self._limits.window_bytes))

    def _offer(self, append: Append) -> None:
        if self._service.draining:
            raise Draining("the daemon is going down and takes nothing new")
        pipeline = self._service.pipeline(append.stream)
        if not self._inbox:
            try:
                pipeline.offer(append)
            except trio.WouldBlock:
                pass
            else:
                return
        self._inbox.append((pipeline, append))
        self._inbox_filled.unpark()

    async def _feed(self) -> None:
        """Hand on what did not fit at once, in order, for as long as the session lasts."""
        while True:
            while not self._inbox:
                await self._inbox_filled.park()
            pipeline, append = self._inbox[0]
            try:
                await pipeline.send(append)
            except StreamerError as error:
                append.ack.resolve_all(error)
            # Only now, so that what comes meanwhile lines up behind it.
            self._inbox.popleft()

    # ------------------------------------------------------------------------- other requests

    def _on_subscribe(self, frame: frames.Subscribe, _: int) -> None:
        self._begin(frame.request)
        self._subscriptions.begin(frame, self._reply)

    def _on_fetch(self, frame: frames.Fetch, _: int) -> None:
        self._begin(frame.request)
        self._nursery.start_soon(
            self._reply_with, frame.request, partial(fetch, self._service, frame)
        )

    def _on_admin(self, frame: frames.Admin, _: int) -> None:
        self._begin(frame.request)
        self._nursery.start_soon(
            self._reply_with, frame.request, partial(answer_admin, self._service, frame)
        )

    async def _reply_with(
        self,
        request: int,
        work: Callable[[], trio.abc.Awaitable[Frame]],  # type: ignore[name-defined]
    ) -> None:
        try:
            frame = await work()
        except StreamerError as error:
            frame = failed(request, error)
        self._reply(request, frame)

    def _reply(self, request: int, frame: Frame) -> None:
        self._end(request)
        self._outbox.put(frame)

    def _on_grant(self, frame: frames.Grant, _: int) -> None:
        self._subscriptions.grant(frame.subscription, frame.limit)

    def _on_unsubscribe(self, frame: frames.Unsubscribe, _: int) -> None:
        self._subscriptions.end(frame.subscription)

    def _on_ping(self, frame: frames.Ping, _: int) -> None:
        self._outbox.pong(frame.token)

    def _on_pong(self, frame: frames.Pong, _: int) -> None:
        """It was heard, and that is all a pong is for."""

    def _on_goodbye(self, frame: frames.Goodbye, _: int) -> None:
        self._nursery.start_soon(self.drain)

    # -------------------------------------------------------------------------------- writing

    async def _write(self) -> None:
        """Send what there is to say; the end of it is the end of the session."""
        while True:
            ready = await self._outbox.take(self._grant)
            if ready is None:
                break
            data = [self._connection.send(frame) for frame in ready]
            self._count_out(data)
            # Most frames are small and the kernel takes them at once, without a deadline to set.
            if self._transport.send_now(data):
                if not self._transport.unsent:
                    continue
                data = []
            with trio.move_on_after(self._service.send_s) as scope:
                await self._send_all(data)
            if scope.cancelled_caught:
                raise TooSlow(f"took nothing for {self._service.send_s} s")
        self._nursery.cancel_scope.cancel()

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
        self._bytes_out.value += sum(map(len, data))

    async def _say_fatal(self, error: ProtocolError) -> None:
        """Try to tell the peer why the session ends; it may be in no state to hear it."""
        with trio.move_on_after(1) as scope:
            scope.shield = True
            try:
                await self._send(failed(None, error))
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
                raise TooSlow(f"silent for {idle_s} s, and no answer to a ping")


def _lane(number: int) -> Lane:
    if number >= len(_LANES):
        raise BadRequest(f"lane {number}, known are 0 (normal) and 1 (high)")
    return _LANES[number]


def _as_ints(limits: object) -> dict[str, int]:
    return {name: getattr(limits, name) for name in limits.__annotations__}


_HANDLERS: dict[type[Frame], Callable[..., None]] = {
    frames.Produce: Session._on_produce,
    frames.ProduceRecords: Session._on_produce_records,
    frames.Subscribe: Session._on_subscribe,
    frames.Grant: Session._on_grant,
    frames.Unsubscribe: Session._on_unsubscribe,
    frames.Fetch: Session._on_fetch,
    frames.Admin: Session._on_admin,
    frames.Ping: Session._on_ping,
    frames.Pong: Session._on_pong,
    frames.Goodbye: Session._on_goodbye,
}
