"""A daemon in memory, for tests of the client: honest, small, and scripted to misbehave.

It speaks the real frames through the real state machine over `trio.testing` streams, orders,
dedupes and stores batches, and keeps its credit. `script` decides about each request to append:
answer it with an error, drop the connection before or after it, or keep silent.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from streamer.batch import Batch, Codec, parse
from streamer.client.connect import Client, open_client
from streamer.client.link import LinkSettings
from streamer.errors import (
    BadRequest,
    ConnectionFailed,
    Draining,
    Fenced,
    OffsetConflict,
    OffsetOutOfRange,
    OutOfSequence,
    ProducerUnknown,
    StreamerError,
    UnknownStream,
)
from streamer.limits import BatchLimits, WireLimits
from streamer.records import ProducerStamp, Record
from streamer.transport import RawTransport, Transport
from streamer.wire import frames
from streamer.wire.credit import GrantWindow, SendWindow
from streamer.wire.frames import Frame, Start
from streamer.wire.machine import Connection, Role
from tests.client.group_peer import GroupPeer

DROP = "drop"
DROP_AFTER = "drop after"
SILENCE = "silence"
Verdict = StreamerError | str | None

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)


@attrs.define(eq=False)
class Stored:
    """One partition: its batches, and what it knows of producers."""

    batches: list[Batch] = attrs.Factory(list)
    next_offset: int = 0
    first_offset: int = 0
    #: producer id -> [epoch, next sequence, {sequence: (count, offset)}]
    producers: dict[int, tuple[int, int, dict[int, tuple[int, int]]]] = attrs.Factory(dict)
    grown: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    def values(self, codec: Codec) -> list[bytes]:
        return [value for batch in self.batches for value in codec.decode(batch).values]

    def check(self, stamp: ProducerStamp | None, count: int) -> tuple[int, bool] | None:
        """The offset of a duplicate."""
        if stamp is None:
            return None
        known = self.producers.get(stamp.producer_id)
        if known is None:
            if stamp.sequence:
                raise ProducerUnknown(f"producer {stamp.producer_id} is not known")
            return None
        epoch, next_sequence, ranges = known
        if stamp.epoch < epoch:
            raise Fenced(f"epoch {stamp.epoch}, {epoch} is at work")
        if stamp.sequence + count <= next_sequence:
            assert ranges[stamp.sequence][0] == count, "resent in the same pieces"
            return ranges[stamp.sequence][1], True
        if stamp.sequence != next_sequence:
            raise OutOfSequence(f"sequence {stamp.sequence}, expected {next_sequence}")
        return None

    def append(
        self, batch: Batch, stamp: ProducerStamp | None, expected: int | None
    ) -> tuple[int, bool]:
        duplicate = self.check(stamp, batch.count)
        if duplicate is not None:
            return duplicate
        if expected is not None and expected != self.next_offset:
            raise OffsetConflict(f"expected {expected}, goes on at {self.next_offset}")
        offset = self.next_offset
        self.batches.append(batch.placed(base_offset=offset, append_time_us=1, high_water=offset))
        self.next_offset += batch.count
        if stamp is not None:
            ranges = self.producers.get(stamp.producer_id, (0, 0, {}))[2]
            ranges[stamp.sequence] = (batch.count, offset)
            self.producers[stamp.producer_id] = (
                stamp.epoch,
                stamp.sequence + batch.count,
                ranges,
            )
        self.grown.unpark_all()
        return offset, False

    def read(self, offset: int, batches: int) -> tuple[bytes, int]:
        found = [b for b in self.batches if b.header.next_offset > offset][:batches]
        blob = b"".join(b.head + bytes(b.payload) for b in found)
        return blob, found[-1].header.next_offset if found else offset


class Session:
    """One connection, on the daemon's side."""

    def __init__(self, daemon: Daemon, transport: Transport) -> None:
        self.daemon = daemon
        self.transport = transport
        self.machine = Connection(Role.SERVER, daemon.limits.frame_bytes)
        self.window = GrantWindow(daemon.limits.window_bytes)
        self.out, self._out = trio.open_memory_channel[Frame](10_000)
        self.scope = trio.CancelScope()
        self.subscriptions: dict[int, tuple[SendWindow, trio.CancelScope]] = {}
        self.held: list[Callable[[], None]] = []

    def say(self, frame: Frame) -> None:
        self.out.send_nowait(frame)

    async def run(self) -> None:
        with self.scope, suppress(*_BROKEN):
            hello = self.machine.receive(await self.transport.receive())
            assert isinstance(hello, frames.Hello)
            if self.daemon.refuse is not None:
                error = self.daemon.refuse
                await self._send(failed(None, error, fatal=True))
            else:
                limits = {**attrs.asdict(self.daemon.limits), **attrs.asdict(BatchLimits())}
                await self._send(frames.Welcome(1, "fake", limits, self.window.granted))
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    nursery.start_soon(self._write)
                    with suppress(*_BROKEN):
                        while True:
                            data = await self.transport.receive()
                            await self._handle(self.machine.receive(data), len(data))
                    nursery.cancel_scope.cancel()
        self.machine.closed()
        await trio.aclose_forcefully(self.transport)

    async def _send(self, frame: Frame) -> None:
        await self.transport.send(self.machine.send(frame))

    async def _write(self) -> None:
        with suppress(*_BROKEN):
            async for frame in self._out:
                await self._send(frame)
        self.scope.cancel()

    async def _handle(self, frame: Frame, nbytes: int) -> None:
        self.daemon.seen.append(frame)
        if isinstance(frame, frames.Produce | frames.ProduceRecords):
            self.window.received(nbytes)
            await self._produce(frame, nbytes)
        elif isinstance(frame, frames.Subscribe):
            self.nursery.start_soon(self._subscription, frame)
        elif isinstance(frame, frames.Grant):
            if frame.subscription in self.subscriptions:
                self.subscriptions[frame.subscription][0].raise_limit(frame.limit)
                self.daemon.granted.unpark_all()
        elif isinstance(frame, frames.Unsubscribe):
            found = self.subscriptions.pop(frame.subscription, None)
            if found:
                found[1].cancel()
            else:
                self.daemon.other(self, frame)
        elif isinstance(frame, frames.Admin):
            try:
                self.say(frames.Reply(frame.request, self.daemon.admin(frame.verb, frame.args)))
            except StreamerError as error:
                self.say(failed(frame.request, error))
        elif isinstance(frame, frames.Ping):
            if not self.daemon.mute:
                self.say(frames.Pong(frame.token))
        elif isinstance(frame, frames.Goodbye):
            await trio.testing.wait_all_tasks_blocked()
            self.scope.cancel()
        else:
            self.daemon.other(self, frame)

    # ------------------------------------------------------------------------------- produce

    async def _produce(self, frame: frames.Produce | frames.ProduceRecords, nbytes: int) -> None:
        verdict = self.daemon.script(frame)
        if verdict == DROP:
            self.scope.cancel()
            await trio.lowlevel.checkpoint()
        if verdict == SILENCE:
            return
        answer = self.apply(frame) if not isinstance(verdict, StreamerError) else None
        if verdict == DROP_AFTER:
            self.scope.cancel()
            await trio.lowlevel.checkpoint()
        if isinstance(verdict, StreamerError):
            answer = failed(frame.request, verdict)
        assert answer is not None

        def tell() -> None:
            self.window.completed(nbytes)
            limit = self.window.limit(self.daemon.limits.window_bytes)
            if limit is not None:
                self.say(frames.Credit(limit))
            self.say(answer)

        if self.daemon.hold:
            self.held.append(tell)
        else:
            tell()

    def release(self) -> None:
        """Give the answers that were held back."""
        held, self.held = self.held, []
        for tell in held:
            tell()

    def apply(self, frame: frames.Produce | frames.ProduceRecords) -> Frame:
        daemon = self.daemon
        try:
            partition = daemon.partition(frame.stream, frame.partition or 0)
            if isinstance(frame, frames.Produce):
                batch = parse(frame.batch, BatchLimits())
                header = batch.header
                stamp = ProducerStamp(header.producer_id, header.epoch, header.sequence)
            else:
                records = [Record(*row) for row in frame.records]
                batch = daemon.codec.encode_records(records, now_us=7)
                stamp = ProducerStamp(frame.producer_id, frame.epoch, frame.sequence)
            known = stamp if stamp.producer_id else None
            offset, duplicate = partition.append(batch, known, frame.expected)
            row = [
                frame.request,
                frame.partition,
                offset,
                batch.count,
                daemon.level,
                int(duplicate),
            ]
            return frames.Acks(0, [row])
        except StreamerError as error:
            return failed(frame.request, error)

    # -------------------------------------------------------------------------------- deliver

    async def _subscription(self, frame: frames.Subscribe) -> None:
        daemon = self.daemon
        try:
            partition = daemon.partition(frame.stream, frame.partition)
            offset = {
                Start.OFFSET: frame.value,
                Start.TIME: next(
                    (
                        b.header.base_offset
                        for b in partition.batches
                        if b.header.max_timestamp_us >= frame.value
                    ),
                    partition.next_offset,
                ),
                Start.EARLIEST: partition.first_offset,
                Start.LATEST: partition.next_offset,
            }[Start(frame.start)]
            if not partition.first_offset <= offset <= partition.next_offset:
                raise OffsetOutOfRange(f"offset {offset} is not there")
        except StreamerError as error:
            self.say(failed(frame.request, error))
            return
        number, window = frame.subscription, SendWindow(frame.credit)
        with trio.CancelScope() as scope:
            self.subscriptions[number] = (window, scope)
            told = {"offset": offset, "high_water": partition.next_offset}
            self.say(frames.Reply(frame.request, told))
            while True:
                ended = daemon.end_subscription(offset)
                if ended is not None:
                    del self.subscriptions[number]
                    self.say(frames.Ended(number, ended.code, ended.message, ended.detail))
                    return
                if offset == partition.next_offset:
                    await partition.grown.park()
                    continue
                if not window.open:
                    await daemon.granted.park()
                    continue
                blob, offset = partition.read(offset, daemon.batches_per_delivery)
                window.spend(len(blob))
                self.say(frames.Deliver(number, partition.next_offset, blob))


def failed(request: int | None, error: StreamerError, *, fatal: bool = False) -> frames.Failed:
    return frames.Failed(request, error.code, error.message, error.retryable, fatal, error.detail)


class Daemon:
    """Streams that outlive connections. Made by the fixture `daemon`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.limits = WireLimits()
        self.codec = Codec()
        self.partitions = 1
        self.level = 1
        self.streams: dict[str, list[Stored]] = {}
        self.dictionaries: dict[int, bytes] = {}
        self.named: dict[str, tuple[int, int]] = {}
        self.sessions: list[Session] = []
        self.seen: list[Frame] = []
        self.batches_per_delivery = 3
        self.granted = trio.lowlevel.ParkingLot()
        #: What to do with a request to append; None is the usual.
        self.script: Callable[[Frame], Verdict] = lambda _: None
        self.end_subscription: Callable[[int], StreamerError | None] = lambda _: None
        #: Called with whatever else comes.
        self.other: Callable[[Session, Frame], None] = lambda *_: None
        self.refuse: StreamerError | None = None
        self.down = False
        self.mute = False
        self.hold = False
        self.dialled = 0
        #: Makes the two ends of a connection.
        self.pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = (
            trio.testing.memory_stream_pair
        )

    # ---------------------------------------------------------------------------- connections

    async def dial(self, nursery: trio.Nursery) -> Transport:
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        if self.down:
            raise ConnectionFailed("nobody answers")
        ours, theirs = self.pair()
        session = Session(self, RawTransport(theirs, self.limits.frame_bytes))
        self.sessions.append(session)
        self.nursery.start_soon(session.run)
        return RawTransport(ours, self.limits.frame_bytes)

    def drop(self) -> None:
        """End every connection at once."""
        for session in self.sessions:
            session.scope.cancel()
        self.sessions.clear()

    def goodbye(self) -> None:
        for session in self.sessions:
            session.say(frames.Goodbye("draining", "going down"))

    def release(self) -> None:
        for session in self.sessions:
            session.release()

    def connect(self, **settings: Any) -> AbstractAsyncContextManager[Client]:
        return open_client(
            self.dial,
            LinkSettings(**settings),
            rng=random.Random(5),
            now_us=lambda: 1_000_000,
        )

    # -------------------------------------------------------------------------------- streams

    def partition(self, stream: str, number: int = 0) -> Stored:
        if stream.startswith("no-"):
            raise UnknownStream(f"there is no stream {stream!r}")
        stored = self.streams.setdefault(stream, [Stored() for _ in range(self.partitions)])
        if number >= len(stored):
            raise BadRequest(f"no partition {number}")
        return stored[number]

    def values(self, stream: str, number: int = 0) -> list[bytes]:
        """All that is in a partition, in order."""
        return self.partition(stream, number).values(self.codec)

    def produced(self) -> list[Frame]:
        return [f for f in self.seen if isinstance(f, frames.Produce | frames.ProduceRecords)]

    def admin(self, verb: str, args: dict[str, Any]) -> object:
        if verb == "stream":
            self.partition(args["stream"])
            return self._describe(args["stream"])
        if verb == "streams":
            return [self._describe(name) for name in sorted(self.streams)]
        if verb == "producer_open":
            self.partition(args["stream"])
            producer_id, epoch = self.named.get(args["name"], (77, -1))
            self.named[args["name"]] = (producer_id, epoch + 1)
            sequences = {}
            for number, stored in enumerate(self.streams[args["stream"]]):
                known = stored.producers.get(producer_id)
                if known is not None:
                    _, next_sequence, ranges = known
                    last = max(ranges)
                    count, offset = ranges[last]
                    sequences[str(number)] = [next_sequence - 1, offset + count - 1]
                    stored.producers[producer_id] = (epoch + 1, next_sequence, ranges)
            return {"producer_id": producer_id, "epoch": epoch + 1, "sequences": sequences}
        if verb == "dictionary":
            number = max(self.dictionaries, default=0)
            return {"id": number, "data": self.dictionaries.get(number, b"")}
        if verb == "dictionary_get":
            return {"id": args["id"], "data": self.dictionaries[args["id"]]}
        if verb == "dictionary_add":
            number = len(self.dictionaries) + 1
            self.dictionaries[number] = args["data"]
            self.codec.dictionaries[number] = args["data"]  # type: ignore[index]
            return {"id": number}
        if verb == "peek":
            blob, _ = self.partition(args["stream"], args["partition"]).read(args["offset"], 1)
            return {"offset": args["offset"], "batch": blob}
        if verb == "draining":
            raise Draining("going down")
        raise BadRequest(f"unknown verb {verb}")

    def _describe(self, name: str) -> object:
        return {
            "name": name,
            "pipeline": "main",
            "dictionary_id": 0,
            "partitions": [
                {
                    "partition": number,
                    "first_offset": stored.first_offset,
                    "next_offset": stored.next_offset,
                    "high_water": stored.next_offset,
                    "bytes": 0,
                    "segments": 1,
                    "state": "open",
                }
                for number, stored in enumerate(self.streams[name])
            ],
        }


def _run(*args: Any, clock: trio.abc.Clock | None, **options: Any) -> Any:
    return trio.run(*args, clock=clock or trio.testing.MockClock(autojump_threshold=0), **options)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder runs on a clock that jumps to the next deadline."""
    for item in items:
        ours = item.path.parent == Path(__file__).parent
        if ours and iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=_run), append=False)


@pytest.fixture
async def daemon(nursery: trio.Nursery) -> Daemon:
    """A daemon in memory."""
    return Daemon(nursery)


@pytest.fixture
async def client(daemon: Daemon) -> AsyncIterator[Client]:
    """A client that is connected to it."""
    async with daemon.connect() as client:
        yield client


@pytest.fixture
async def peer(daemon: Daemon) -> GroupPeer:
    """The daemon's half of one consumer group."""
    return GroupPeer(daemon)
