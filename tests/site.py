"""A whole daemon in one process, over memory: network, files, disk; and peers that talk to it.

`Peer` speaks frames by hand, through the client's state machine where it keeps the rules and past
it where it does not. `Site.client` is the real client.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, TypeVar

import trio
from structlog.testing import capture_logs

from streamer.addresses import parse
from streamer.batch import Codec
from streamer.batch import parse as parse_batch
from streamer.client.connect import Client, open_client
from streamer.client.link import LinkSettings
from streamer.config_load import structure_config
from streamer.daemon.supervisor import Daemon, World
from streamer.limits import BatchLimits, WireLimits
from streamer.pipeline.disk import Disk, InlineDisk
from streamer.pipeline.registry import Registry
from streamer.records import ProducerStamp
from streamer.session.service import Budget
from streamer.testing.memory_files import MemoryFiles
from streamer.testing.memory_network import MemoryNetwork
from streamer.transport import RawTransport, Transport, wrap_websocket
from streamer.wire import frames
from streamer.wire.frames import Frame
from streamer.wire.framing import LengthPrefixed
from streamer.wire.machine import Connection, Role

F = TypeVar("F", bound=Frame)

UNIX = "unix:/daemon"
WS = "ws://127.0.0.1:4440"
NOW_US = 1_700_000_000_000_000


def passing_us() -> int:
    """A wall clock that goes with trio's."""
    return NOW_US + round(trio.current_time() * 1_000_000)


@asynccontextmanager
async def inline_disk(_name: str) -> AsyncGenerator[InlineDisk, None]:
    yield InlineDisk()


def values_of(blob: bytes) -> list[bytes]:
    """The values of whole batches, one behind the other."""
    codec, found = Codec(), []
    while blob:
        length = int.from_bytes(blob[4:8], "little")
        batch = parse_batch(blob[:length], BatchLimits())
        found += codec.decode(batch).values
        blob = blob[length:]
    return found


def batch_of(values: Sequence[bytes], stamp: ProducerStamp | None = None) -> bytes:
    return Codec().encode_values(values, now_us=NOW_US, stamp=stamp).to_bytes()


async def until_closed(stream: trio.abc.ReceiveStream) -> None:
    """Read until the other end has closed, or broken off."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def until_broken(step: Callable[[], Awaitable[object]]) -> None:
    """Do it again and again, until the connection breaks or ends."""
    with suppress(trio.BrokenResourceError, trio.EndOfChannel):
        while True:
            await step()


class Peer:
    """One connection to the daemon, by hand."""

    def __init__(self, transport: Transport, stream: Any) -> None:
        self.transport = transport
        #: What is below it: a `MemoryStream`, or a socket.
        self.stream = stream
        self.machine = Connection(Role.CLIENT, WireLimits().frame_bytes)
        self.welcome = frames.Welcome(0, "", {}, 0)
        self.numbers = itertools.count(1)

    async def greet(self) -> None:
        await self.send(frames.Hello([1], "peer"))
        self.welcome = await self.expect(frames.Welcome)

    async def send(self, *several: Frame) -> None:
        await self.transport.send_all([self.machine.send(frame) for frame in several])

    async def send_wrong(self, frame: Frame) -> None:
        """Send a frame whether it may be sent or not."""
        await self.transport.send(frames.encode(frame))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes that need not be a frame, without a length in front."""
        await self.stream.send_all(data)

    async def receive(self) -> Frame:
        return self.machine.receive(await self.transport.receive())

    async def expect(self, kind: type[F]) -> F:
        frame = await self.receive()
        assert isinstance(frame, kind), repr(frame)[:500]
        return frame

    async def ended(self) -> list[Frame]:
        """All that comes until the daemon closes."""
        found = []
        while True:
            try:
                found.append(await self.receive())
            except (trio.EndOfChannel, trio.BrokenResourceError):
                await trio.aclose_forcefully(self.stream)
                return found

    async def fatal(self) -> frames.Failed:
        """The last words of the daemon, and nothing after them."""
        *_, last = await self.ended()
        assert isinstance(last, frames.Failed), repr(last)[:500]
        assert last.fatal
        return last

    async def produce(
        self, values: Sequence[bytes], stream: str = "s", **fields: Any
    ) -> frames.Acks | frames.Failed:
        frame = self.batch(values, stream, **fields)
        await self.send(frame)
        answer = await self.receive()
        assert isinstance(answer, frames.Acks | frames.Failed), repr(answer)[:500]
        return answer

    def batch(self, values: Sequence[bytes], stream: str = "s", **fields: Any) -> frames.Produce:
        given = {"partition": None, "expected": None, "lane": 0, **fields}
        data = batch_of(values, given.pop("stamp", None))
        return frames.Produce(next(self.numbers), stream, batch=data, **given)

    def records(
        self, records: Sequence[Sequence[Any]], stream: str = "s", **fields: Any
    ) -> frames.ProduceRecords:
        given = {
            "partition": None,
            "expected": None,
            "lane": 0,
            "producer_id": 0,
            "epoch": 0,
            "sequence": 0,
            **fields,
        }
        rows = [list(record) for record in records]
        return frames.ProduceRecords(next(self.numbers), stream, records=rows, **given)

    async def admin(self, verb: str, **args: Any) -> Any:
        """The result, or the `Failed` frame."""
        await self.send(frames.Admin(next(self.numbers), verb, args))
        answer = await self.receive()
        return answer.result if isinstance(answer, frames.Reply) else answer

    async def subscribe(
        self,
        stream: str = "s",
        start: frames.Start = frames.Start.EARLIEST,
        value: int = 0,
        *,
        number: int = 1,
        partition: int = 0,
        credit: int = 1 << 20,
    ) -> Any:
        """What the reply says, or the `Failed` frame."""
        request = next(self.numbers)
        frame = frames.Subscribe(request, number, stream, partition, start, value, credit)
        await self.send(frame)
        answer = await self.receive()
        return answer.result if isinstance(answer, frames.Reply) else answer

    async def delivered(self, count: int) -> list[bytes]:
        """The values of the next deliveries, until there are `count`."""
        found: list[bytes] = []
        while len(found) < count:
            found += values_of((await self.expect(frames.Deliver)).batches)
        return found

    async def fetch(self, stream: str = "s", start: int = 2, value: int = 0, **more: int) -> Frame:
        given = {"partition": 0, "bytes_max": 1 << 20, **more}
        await self.send(frames.Fetch(next(self.numbers), stream, start=start, value=value, **given))
        return await self.receive()

    async def is_served(self) -> None:
        """Check that the daemon answers it: appends, and pings."""
        acks = await self.produce([b"honest"], "honest")
        assert isinstance(acks, frames.Acks), acks
        await self.send(frames.Ping(7))
        assert await self.receive() == frames.Pong(7)


class Site:
    """A running daemon, and what it stands on."""

    def __init__(
        self,
        daemon: Daemon,
        network: MemoryNetwork,
        files: MemoryFiles,
        nursery: trio.Nursery,
        logs: list[MutableMapping[str, Any]],
    ) -> None:
        self.daemon = daemon
        self.network = network
        self.files = files
        self.nursery = nursery
        self.logs = logs
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def peer(self, url: str = UNIX, *, host: str = "", greet: bool = True) -> Peer:
        """A new connection, greeted."""
        stream = self.network.connect(url, host)
        transport: Transport
        if url.startswith("ws"):
            transport = await wrap_websocket(
                self.nursery, stream, WireLimits().frame_bytes, host="daemon"
            )
        else:
            transport = RawTransport(stream, WireLimits().frame_bytes)
        peer = Peer(transport, stream)
        if greet:
            await peer.greet()
        return peer

    def client(self, url: str = UNIX, **settings: Any) -> AbstractAsyncContextManager[Client]:
        async def dial(nursery: trio.Nursery) -> Transport:
            stream = self.network.connect(url)
            if url.startswith("ws"):
                return await wrap_websocket(
                    nursery, stream, WireLimits().frame_bytes, host="daemon"
                )
            return RawTransport(stream, WireLimits().frame_bytes)

        return open_client(
            dial, LinkSettings(**settings), rng=random.Random(5), now_us=lambda: NOW_US
        )

    def count(self, name: str, **labels: str) -> int:
        """A counter's value."""
        return self.daemon.stats.counter(name, "", **labels).value

    def logged(self, event: str, **fields: Any) -> list[MutableMapping[str, Any]]:
        """The log's lines of that event with those fields."""
        return [
            line for line in self.logs if line["event"] == event and fields.items() <= line.items()
        ]

    @property
    def budget(self) -> Budget:
        assert self.daemon.sessions is not None
        return self.daemon.sessions._service.budget

    @property
    def sessions(self) -> int:
        return 0 if self.daemon.sessions is None else len(self.daemon.sessions)

    async def stop(self) -> None:
        """Have it go down in order, and wait for it."""
        self.daemon.stop()
        await self.ended.wait()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            await self.daemon.run(task_status=task_status)
        self.ended.set()


@asynccontextmanager
async def open_site(
    tree: Mapping[str, Any] | None = None,
    *,
    files: MemoryFiles | None = None,
    registry: Registry | None = None,
    network: MemoryNetwork | None = None,
    now_us: Callable[[], int] = lambda: NOW_US,
    make_looker: Callable[[], Disk] = InlineDisk,
) -> AsyncGenerator[Site, None]:
    """Run a daemon for the block; `tree` is its configuration as TOML gives it, and `now_us` its
    wall clock."""
    registry = registry or Registry.installed()
    files = files or MemoryFiles()
    network = network or MemoryNetwork()
    tree = dict(tree or {})
    tree["daemon"] = {"data": "/data", "listen": [UNIX, WS], "http": "", **tree.get("daemon", {})}
    world = World(
        files=files,
        open_disk=inline_disk,
        make_readers=lambda _: InlineDisk(),
        make_looker=make_looker,
        now_us=now_us,
        open_listeners=network.open_listeners,
    )
    daemon = Daemon(structure_config(tree, registry), registry, world)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            site = Site(daemon, network, files, nursery, logs)
            await nursery.start(site.run)
            yield site
            daemon.stop()
            await site.ended.wait()
            nursery.cancel_scope.cancel()


def framed(data: bytes) -> bytes:
    return LengthPrefixed.prefixed(data)


def listener_of(site: Site, url: str = UNIX) -> Any:
    return site.network.listeners[parse(url)]
