"""What carries frames: both kinds, over sockets and in memory, and everything that ends them."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
import trio_websocket

from streamer.addresses import parse
from streamer.errors import (
    ConnectionFailed,
    FrameTooLarge,
    RemoteProtocolError,
    StreamerError,
)
from streamer.sockets import SocketStream
from streamer.transport import (
    RawTransport,
    Transport,
    WebSocketTransport,
    accept_websocket,
    close_now,
    open_transport,
    wrap_websocket,
)

FRAME_BYTES = 100_000
Pair = tuple[Transport, Transport]
Clock = trio.testing.MockClock


def socket_pair() -> tuple[SocketStream, SocketStream]:
    one, two = socket.socketpair()
    return SocketStream(one), SocketStream(two)


@asynccontextmanager
async def raw_memory() -> AsyncGenerator[Pair, None]:
    one, two = trio.testing.memory_stream_pair()
    yield RawTransport(one, FRAME_BYTES), RawTransport(two, FRAME_BYTES)


@asynccontextmanager
async def raw_sockets() -> AsyncGenerator[Pair, None]:
    one, two = socket_pair()
    async with one, two:
        yield RawTransport(one, FRAME_BYTES), RawTransport(two, FRAME_BYTES)


@asynccontextmanager
async def websockets() -> AsyncGenerator[Pair, None]:
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        yield await open_websockets(nursery, one, two)
        nursery.cancel_scope.cancel()


async def open_websockets(
    nursery: trio.Nursery, one: trio.abc.Stream, two: trio.abc.Stream
) -> tuple[WebSocketTransport, WebSocketTransport]:
    found: dict[str, WebSocketTransport] = {}

    async def accept() -> None:
        found["server"] = await accept_websocket(nursery, two, FRAME_BYTES)

    async with trio.open_nursery() as opening:
        opening.start_soon(accept)
        found["client"] = await wrap_websocket(nursery, one, FRAME_BYTES, host="here")
    return found["client"], found["server"]


KINDS = [raw_memory, raw_sockets, websockets]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


# ---------------------------------------------------------------------------------------- carrying


@each_kind
async def test_frames_arrive_whole_and_in_order(kind) -> None:
    sizes = [1, 2, 255, 65_536, 99_999, 100_000, 3]
    async with kind() as (one, two), trio.open_nursery() as nursery:

        async def send(transport: Transport) -> None:
            for size in sizes:
                await transport.send(bytes([size % 251]) * size)
            await transport.send_all([bytes([7]) * size for size in sizes])

        nursery.start_soon(send, one)
        nursery.start_soon(send, two)
        for transport in (one, two):
            found: list[bytes] = []
            while len(found) < 2 * len(sizes):
                found.append(await transport.receive())
                found += transport.receive_ready()
            assert [len(frame) for frame in found] == sizes * 2
            assert {frame[0] for frame in found[7:]} == {7}


async def test_frames_that_came_together_need_one_read() -> None:
    async with raw_memory() as (one, two):
        await one.send_all([b"a", b"b", b"c"])
        assert await two.receive() == b"a"
        assert two.receive_ready() == [b"b", b"c"]
        assert two.receive_ready() == []
        await one.send_all([b"a", b"b", b"c"])
        # Or one by one.
        assert [await two.receive() for _ in range(3)] == [b"a", b"b", b"c"]


async def test_send_now_over_a_socket() -> None:
    async with raw_sockets() as (one, two):
        assert one.send_now([b"a", b"b"])
        assert not one.unsent
        assert await two.receive() == b"a"
        assert two.receive_ready() == [b"b"]
        # More than the kernel takes: the rest goes with the next.
        many = [bytes([n]) * 90_000 for n in range(20)]
        assert one.send_now(many)
        assert one.unsent
        assert not one.send_now([b"refused"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, [])
            assert [(await two.receive())[0] for _ in range(20)] == list(range(20))
        assert not one.unsent
        await one.send(b"after")
        assert await two.receive() == b"after"


async def test_send_now_where_it_cannot_be() -> None:
    for kind in (raw_memory, websockets):
        async with kind() as (one, _):
            assert not one.send_now([b"a"])
            assert not one.unsent


# ------------------------------------------------------------------------------------------ ending


@each_kind
async def test_a_closed_peer_is_the_end(kind) -> None:
    async with kind() as (one, two), trio.open_nursery() as nursery:
        nursery.start_soon(one.send, b"last")
        assert await two.receive() == b"last"
        nursery.start_soon(one.aclose)
        with pytest.raises(trio.EndOfChannel):
            await two.receive()
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            for _ in range(3):
                await two.send(bytes(50_000))


@each_kind
async def test_what_is_closed_here(kind) -> None:
    async with kind() as (one, two), trio.open_nursery() as nursery:
        nursery.start_soon(read_to_the_end, two)
        await one.aclose()
        await one.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await one.receive()
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await one.send(b"late")


@each_kind
async def test_closing_wakes_who_receives(kind) -> None:
    async with kind() as (one, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
                await one.receive()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await close_now(one)


async def test_a_peer_that_goes_within_a_frame() -> None:
    for one, two in (trio.testing.memory_stream_pair(), socket_pair()):
        transport = RawTransport(two, FRAME_BYTES)
        await one.send_all(b"\x0a\x00\x00\x00half")
        await one.aclose()
        with pytest.raises(trio.BrokenResourceError, match="8 bytes into a frame"):
            await transport.receive()
        await close_now(transport)


async def test_a_websocket_whose_connection_breaks() -> None:
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client, server = await open_websockets(nursery, one, two)
        await trio.aclose_forcefully(one)
        with pytest.raises(trio.BrokenResourceError):
            await server.receive()
        with pytest.raises(trio.BrokenResourceError):
            await server.send(b"a")
        with pytest.raises(trio.BrokenResourceError):
            await client.send(b"a")
        await server.aclose()
        await client.aclose()


@each_kind
async def test_a_cancelled_write_is_the_last(kind, autojump_clock: Clock) -> None:
    async with stalling(kind) as (one, _):
        with trio.move_on_after(1) as scope:
            await one.send(bytes(90_000))
            await one.send_all([bytes(90_000)] * 10)
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError, match="broke off"):
            await one.send(b"a")
        if kind is raw_sockets:
            with pytest.raises(trio.BrokenResourceError, match="broke off"):
                one.send_now([b"a"])
        began = trio.current_time()
        await one.aclose()
        assert trio.current_time() == began


@asynccontextmanager
async def stalling(kind: Callable[[], object]) -> AsyncGenerator[Pair, None]:
    """A pair whose first end soon cannot write any more."""
    if kind is raw_sockets:
        async with raw_sockets() as pair:
            yield pair
        return
    one, two = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        if kind is websockets:
            client, server = await open_websockets(nursery, one, two)
            # Its reader takes what its queue holds, and no more.
            yield client, server
        else:
            yield RawTransport(one, FRAME_BYTES), RawTransport(two, FRAME_BYTES)
        nursery.cancel_scope.cancel()


async def test_closing_does_not_wait_for_a_silent_peer(autojump_clock: Clock) -> None:
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client, _ = await open_websockets(nursery, one, Deaf(two))
        began = trio.current_time()
        await client.aclose()
        assert trio.current_time() - began <= 1.0
        nursery.cancel_scope.cancel()


class Deaf(trio.abc.Stream):
    """Reads the handshake and nothing more."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reads = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._reads += 1
        if self._reads > 1:
            await trio.sleep_forever()
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


# ---------------------------------------------------------------------------------------- bad input


async def test_what_is_no_raw_frame() -> None:
    for data, error in (
        (b"\x00\x00\x00\x00", RemoteProtocolError),
        ((FRAME_BYTES + 1).to_bytes(4, "little"), FrameTooLarge),
        (b"\xff\xff\xff\xff", FrameTooLarge),
    ):
        one, two = trio.testing.memory_stream_pair()
        transport = RawTransport(two, FRAME_BYTES)
        await one.send_all(data)
        with pytest.raises(error):
            await transport.receive()


async def test_what_is_no_websocket_frame_of_ours() -> None:
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client, server = await open_websockets(nursery, one, two)
        await client._websocket.send_message("text")
        with pytest.raises(RemoteProtocolError, match="text message"):
            await server.receive()
        await client._websocket.send_message(bytes(FRAME_BYTES + 1))
        with pytest.raises(FrameTooLarge):
            await server.receive()
        nursery.cancel_scope.cancel()


async def test_a_message_in_endless_fragments_is_cut_off() -> None:
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        _, server = await open_websockets(nursery, one, two)
        # An empty fragment that is masked, again and again.
        await one.send_all(b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 200_000)
        with pytest.raises(trio.BrokenResourceError):
            await server.receive()
        nursery.cancel_scope.cancel()


async def test_a_ping_while_closing_harms_nobody() -> None:
    """In trio-websocket it raises out of the reader task, and so out of its nursery."""
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client, server = await open_websockets(nursery, one, two)
        async with trio.open_nursery() as closing:
            closing.start_soon(server.aclose)
            await trio.lowlevel.checkpoint()
            # A masked ping, behind which nothing is heard.
            await one.send_all(b"\x89\x80\0\0\0\0" * 3)
        await client.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\x01\x02\x03\r\n\r\n", b"GET / HT"],
    ids=["nothing", "plain", "garbage", "half"],
)
async def test_what_is_no_websocket_handshake(data: bytes) -> None:
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await one.send_all(data)
            await one.send_stream.aclose()

        nursery.start_soon(send)
        with pytest.raises(ConnectionFailed, match="handshake"):
            await accept_websocket(nursery, two, FRAME_BYTES)


async def test_a_handshake_that_is_not_answered_is_the_callers_to_end(
    autojump_clock: Clock,
) -> None:
    for open_one in (
        lambda nursery, stream: accept_websocket(nursery, stream, FRAME_BYTES),
        lambda nursery, stream: wrap_websocket(nursery, stream, FRAME_BYTES, host="h"),
    ):
        _, two = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(5) as scope:
                await open_one(nursery, two)
            assert scope.cancelled_caught
            with pytest.raises(trio.ClosedResourceError):
                await two.send_all(b"x")


@pytest.mark.parametrize(
    ("status", "error"), [(200, RemoteProtocolError), (403, RemoteProtocolError),
                          (502, ConnectionFailed)],
)  # fmt: skip
async def test_a_server_that_is_no_websocket_server(
    status: int, error: type[StreamerError]
) -> None:
    """A proxy in trouble may have a daemon behind it later; a web server never will be one."""
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await two.send_all(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
        with pytest.raises(error, match=f"HTTP status {status}"):
            await wrap_websocket(nursery, one, FRAME_BYTES, host="h")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [(None, True), (b"https://good.example", True), (b"https://evil.example", False)],
)
async def test_origins(origin: bytes | None, allowed: bool) -> None:
    one, two = trio.testing.memory_stream_pair()
    headers = [] if origin is None else [(b"Origin", origin)]
    accepted: list[WebSocketTransport] = []
    async with trio.open_nursery() as nursery:

        async def accept() -> None:
            accepting: Awaitable[WebSocketTransport] = accept_websocket(
                nursery, two, FRAME_BYTES, origins=["https://good.example"]
            )
            if allowed:
                accepted.append(await accepting)
            else:
                with pytest.raises(ConnectionFailed, match="origin"):
                    await accepting

        statuses: list[int] = []
        async with trio.open_nursery() as inner:
            inner.start_soon(accept)
            try:
                async with trio.open_nursery() as readers:
                    await trio_websocket.wrap_client_stream(
                        readers,
                        one,  # type: ignore[arg-type]
                        "h",
                        "/",
                        extra_headers=headers,
                    )
                    readers.cancel_scope.cancel()
            except* trio_websocket.ConnectionRejected as group:
                statuses += [error.status_code for error in group.exceptions]  # type: ignore[attr-defined]
        nursery.cancel_scope.cancel()
    assert bool(accepted) is allowed
    assert statuses == ([] if allowed else [403])


# ---------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("scheme", ["unix", "tcp", "ws"])
async def test_open_transport(scheme: str, tmp_path: Path) -> None:
    sock = trio.socket.socket(trio.socket.AF_UNIX if scheme == "unix" else trio.socket.AF_INET)
    with sock:
        await sock.bind(str(tmp_path / "s") if scheme == "unix" else ("127.0.0.1", 0))
        sock.listen()
        where = f"unix:{tmp_path}/s" if scheme == "unix" else f"{scheme}://127.0.0.1:"
        if scheme != "unix":
            where += str(sock.getsockname()[1])
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                stream = trio.SocketStream((await sock.accept())[0])
                transport: Transport = RawTransport(stream, FRAME_BYTES)
                if scheme == "ws":
                    transport = await accept_websocket(nursery, stream, FRAME_BYTES)
                await transport.send(await transport.receive())
                await transport.aclose()

            nursery.start_soon(serve)
            transport = await open_transport(nursery, parse(where), FRAME_BYTES)
            await transport.send(b"echo")
            assert await transport.receive() == b"echo"
            await transport.aclose()
            nursery.cancel_scope.cancel()


async def read_to_the_end(transport: Transport) -> None:
    with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
        while True:
            await transport.receive()
