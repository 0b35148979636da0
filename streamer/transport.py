"""What carries whole frames: the one thing that a session or a client knows of its connection.

Two kinds: `RawTransport` (each frame behind its length, over any trio stream: a Unix socket, TCP,
a stream in memory) and `WebSocketTransport` (each frame a binary message). Rules:

- One task sends and one receives. A send that is cancelled or fails may have written part of a
  frame, so every later send is refused: the owner closes the transport, and its session with it.
- Nothing is buffered without a bound: raw holds one read and one frame, a WebSocket its queue of
  messages. Whoever receives must not wait on anything else for long, or pings go unanswered.
- Closing is bounded: a peer that does not answer the closing handshake is not waited for.
- The reader task of trio-websocket runs under a guard of our own. One ping at the wrong moment
  makes it raise, which in an unguarded nursery would end every other connection too.

Errors, the same for both kinds: `trio.EndOfChannel` (the peer closed between two frames),
`trio.BrokenResourceError` (the connection broke, perhaps within a frame),
`trio.ClosedResourceError` (you closed it), and `ProtocolError` for what is no frame of ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NoReturn, Protocol, cast

import trio
import trio_websocket

from streamer.addresses import Address, host_port
from streamer.errors import ConnectionFailed, FrameTooLarge, RemoteProtocolError
from streamer.limits import KIB
from streamer.sockets import SocketStream, take_over
from streamer.wire.framing import LengthPrefixed

__all__ = [
    "RawTransport",
    "Transport",
    "WebSocketTransport",
    "accept_websocket",
    "close_now",
    "open_transport",
    "wrap_websocket",
]

#: A read as large as a big batch: one system call for many small frames, few for a large one.
_RAW_READ_BYTES = 256 * KIB
#: trio-websocket's own default of 4 KiB makes 250 reads of one large batch.
_WEBSOCKET_READ_BYTES = 128 * KIB
#: Messages that its reader may be ahead of us. It stops answering pings while this is full.
_WEBSOCKET_QUEUE = 16
#: What a closing handshake may take before the connection is cut.
_CLOSE_S = 1.0
_CLEAN_CODES = (1000, 1001)
_TOO_BIG_CODE = 1009


class Transport(Protocol):
    """A thing that carries whole frames, in order, in both directions."""

    async def send(self, frame: bytes) -> None:
        """Hand over one frame. Cancelled, part of it may be out: close the transport."""

    async def send_all(self, frames: Sequence[bytes]) -> None:
        """As `send`, for several frames: one system call where the kind allows it."""

    def send_now(self, frames: Sequence[bytes]) -> bool:
        """Hand over frames without waiting, while no task is in `send`.

        False: none was taken, `send_all` must do it. True: all were taken; if `unsent` is true
        now, the end of them is still here, and the next `send_all` (also of nothing) sends it.

        Raises:
            trio.BrokenResourceError: the connection is broken.
        """

    @property
    def unsent(self) -> bool:
        """Whether a part of what `send_now` took is not out yet."""

    async def receive(self) -> bytes:
        """The next frame. Cancelled, it has taken none."""

    def receive_ready(self) -> list[bytes]:
        """The frames that came with the last one and need no waiting for; perhaps none."""

    async def hear_out(self) -> None:
        """After the last `send`: wait until the peer has closed too, and drop what still comes.

        Closing with bytes unread makes the kernel reset the connection, and a peer that is still
        sending would not learn why. No `receive` may follow. Deadlines are the caller's.
        """

    async def aclose(self) -> None:
        """Close it, within a bounded time; at once when cancelled."""


class RawTransport:
    """Frames behind a length each, over any trio stream.

    A `SocketStream` of ours can send without waiting; other streams cannot, and are asked to wait.
    """

    def __init__(self, stream: trio.abc.Stream, frame_bytes: int) -> None:
        self._stream = stream
        self._socket = stream if isinstance(stream, SocketStream) else None
        self._framing = LengthPrefixed(frame_bytes)
        self._ready: list[bytes] = []
        self._unsent = b""
        self._broken = False

    async def send(self, frame: bytes) -> None:
        await self._write(LengthPrefixed.prefixed(frame))

    async def send_all(self, frames: Sequence[bytes]) -> None:
        await self._write(b"".join([LengthPrefixed.prefixed(frame) for frame in frames]))

    async def _write(self, data: bytes) -> None:
        self._check_writable()
        if self._unsent:
            data, self._unsent = self._unsent + data, b""
        # Unset again once all of it is out: whatever else happens, part of a frame may be.
        self._broken = True
        await self._stream.send_all(data)
        self._broken = False

    def send_now(self, frames: Sequence[bytes]) -> bool:
        if self._socket is None or self._unsent:
            return False
        self._check_writable()
        data = b"".join([LengthPrefixed.prefixed(frame) for frame in frames])
        self._broken = True
        sent = self._socket.send_now(data)
        self._broken = False
        if sent < len(data):
            self._unsent = data[sent:]
        return True

    @property
    def unsent(self) -> bool:
        return bool(self._unsent)

    def _check_writable(self) -> None:
        if self._broken:
            raise trio.BrokenResourceError("an earlier write broke off")

    async def receive(self) -> bytes:
        if self._ready:
            await trio.lowlevel.checkpoint()
            return self._ready.pop(0)
        while True:
            data = await self._stream.receive_some(_RAW_READ_BYTES)
            if not data:
                self._ended()
            ready = self._framing.feed(data)
            if ready:
                frame = ready[0]
                if len(ready) > 1:
                    self._ready = ready
                    del ready[0]
                return frame

    def _ended(self) -> NoReturn:
        torn = self._framing.pending_bytes
        if torn:
            raise trio.BrokenResourceError(f"the connection ended {torn} bytes into a frame")
        raise trio.EndOfChannel("the peer closed the connection")

    def receive_ready(self) -> list[bytes]:
        ready, self._ready = self._ready, []
        return ready

    async def hear_out(self) -> None:
        try:
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while await self._stream.receive_some(_RAW_READ_BYTES):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # It has closed without hearing us out.
            return

    async def aclose(self) -> None:
        self._broken = True
        await self._stream.aclose()


class WebSocketTransport:
    """Frames as binary messages of a WebSocket. Made by `wrap_websocket` or `accept_websocket`."""

    def __init__(
        self,
        websocket: trio_websocket.WebSocketConnection,
        stream: trio.abc.Stream,
        meter: _Meter | None = None,
    ) -> None:
        self._websocket = websocket
        self._stream = stream
        self._meter = meter
        self._broken = False
        self._closed = False

    async def send(self, frame: bytes) -> None:
        if self._broken:
            raise trio.BrokenResourceError("an earlier write broke off")
        self._broken = True
        try:
            await self._websocket.send_message(frame)
        except trio_websocket.ConnectionClosed as closed:
            raise trio.BrokenResourceError(f"websocket closed: {closed.reason}") from closed
        self._broken = False

    async def send_all(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            await self.send(frame)

    def send_now(self, frames: Sequence[bytes]) -> bool:
        return False

    @property
    def unsent(self) -> bool:
        return False

    async def receive(self) -> bytes:
        try:
            message = await self._websocket.get_message()
        except trio_websocket.ConnectionClosed as closed:
            self._ended(closed)
        if self._meter is not None:
            self._meter.unheard_bytes = 0
        if not isinstance(message, bytes):
            raise RemoteProtocolError("text message where frames are binary")
        return message

    def _ended(self, closed: trio_websocket.ConnectionClosed) -> NoReturn:
        if self._closed:
            raise trio.ClosedResourceError("this transport is closed") from None
        reason = closed.reason
        if reason is not None and reason.code in _CLEAN_CODES:
            raise trio.EndOfChannel("the peer closed the connection") from None
        if reason is not None and reason.code == _TOO_BIG_CODE:
            raise FrameTooLarge(f"websocket message too large: {reason.reason}") from None
        raise trio.BrokenResourceError(f"websocket closed: {reason}") from closed

    def receive_ready(self) -> list[bytes]:
        return []

    async def hear_out(self) -> None:
        """The closing handshake does it."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._closed = True
        if self._broken:
            # A closing handshake cannot follow half a frame.
            await trio.aclose_forcefully(self._stream)
            return
        self._broken = True
        with trio.move_on_after(_CLOSE_S):
            await self._websocket.aclose()
        await trio.aclose_forcefully(self._stream)


class _Meter(trio.abc.Stream):
    """Bounds what comes without making a whole message.

    trio-websocket keeps the fragments of a message until it ends and bounds their bytes, not their
    number: an empty one takes 6 bytes on the wire and ten times that in memory.
    """

    def __init__(self, stream: trio.abc.Stream, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max
        self.unheard_bytes = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        self.unheard_bytes += len(data)
        if self.unheard_bytes > self._bytes_max:
            raise trio.BrokenResourceError(f"{self.unheard_bytes} bytes without a whole message")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Guard:
    """Stands in for the nursery that trio-websocket starts its reader task in.

    What that task raises is kept in `failure` and not passed on, and `handshake` is cancelled when
    it ends: it does not tell a waiting handshake by itself.
    """

    def __init__(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
        self._nursery = nursery
        self._stream = stream
        self.handshake = trio.CancelScope()
        self.failure: Exception | None = None

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, reader)

    # Ctrl-C is for the program's main task: raised in here, it would be lost with the connection.
    @trio.lowlevel.enable_ki_protection
    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            await reader()
        except Exception as failure:
            self.failure = failure
            await trio.aclose_forcefully(self._stream)
        finally:
            self.handshake.cancel()

    def failed(self) -> ConnectionFailed | RemoteProtocolError:
        """What a handshake that failed is to its caller.

        A web server that wants no WebSocket is no daemon. One that has trouble (5xx) may be a
        proxy whose daemon is being restarted: that is worth another attempt.
        """
        if isinstance(self.failure, trio_websocket.ConnectionRejected):
            status = self.failure.status_code
            if status < 500:
                return RemoteProtocolError(
                    f"a web server that accepts no websocket (HTTP status {status})"
                )
            return ConnectionFailed(f"websocket handshake failed: HTTP status {status}")
        why = repr(self.failure) if self.failure is not None else "the connection ended"
        return ConnectionFailed(f"websocket handshake failed: {why}")


async def close_now(transport: Transport) -> None:
    """Close without a word to the peer, and without waiting."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.aclose()


async def wrap_websocket(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    frame_bytes: int,
    *,
    host: str,
) -> WebSocketTransport:
    """Make a WebSocket out of `stream`, as its client. `nursery` runs its reader.

    It closes the stream if it fails or is cancelled; deadlines are the caller's.

    Raises:
        ConnectionFailed: the peer ended the connection during the handshake, or is in trouble.
        RemoteProtocolError: it is a web server, and wants no WebSocket.
    """
    guard = _Guard(nursery, stream)
    websocket: trio_websocket.WebSocketConnection | None = None
    try:
        with guard.handshake:
            websocket = await trio_websocket.wrap_client_stream(
                cast("trio.Nursery", guard),
                cast("trio.SocketStream", stream),
                host,
                "/",
                message_queue_size=_WEBSOCKET_QUEUE,
                max_message_size=frame_bytes,
                receive_buffer_size=_WEBSOCKET_READ_BYTES,
            )
    finally:
        if websocket is None:
            await trio.aclose_forcefully(stream)
    if websocket is None:
        raise guard.failed() from guard.failure
    return WebSocketTransport(websocket, stream)


async def accept_websocket(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    frame_bytes: int,
    *,
    origins: Collection[str] = (),
) -> WebSocketTransport:
    """Make a WebSocket out of `stream`, as its server. `nursery` runs its reader.

    A request that names an `Origin` not in `origins` is refused with 403: any web page may open
    a socket to loopback, but a browser cannot hide where the page came from. The stream is closed
    if this fails or is cancelled; deadlines are the caller's.

    Raises:
        ConnectionFailed: no WebSocket handshake, one that is not allowed, or the peer went away.
    """
    guard = _Guard(nursery, stream)
    # A message in small fragments, and the reads that may be ahead of us.
    meter = _Meter(stream, 2 * frame_bytes + 4 * _WEBSOCKET_READ_BYTES)
    websocket: trio_websocket.WebSocketConnection | None = None
    refused: bytes | None = None
    try:
        with guard.handshake:
            request = await trio_websocket.wrap_server_stream(
                cast("trio.Nursery", guard),
                meter,
                message_queue_size=_WEBSOCKET_QUEUE,
                max_message_size=frame_bytes,
                receive_buffer_size=_WEBSOCKET_READ_BYTES,
            )
            refused = _foreign_origin(request.headers, origins)
            if refused is None:
                websocket = await request.accept()
            else:
                await request.reject(403, body=b"this origin is not allowed\n")
    except trio_websocket.ConnectionClosed as closed:
        raise ConnectionFailed(f"websocket handshake failed: {closed.reason}") from closed
    finally:
        if websocket is None:
            await trio.aclose_forcefully(stream)
    if refused is not None:
        raise ConnectionFailed(f"websocket origin {refused!r} is not allowed")
    if websocket is None:
        raise guard.failed() from guard.failure
    return WebSocketTransport(websocket, stream, meter)


def _foreign_origin(
    headers: Sequence[tuple[bytes, bytes]], origins: Collection[str]
) -> bytes | None:
    """The `Origin` header's value, if there is one and it is not among `origins`."""
    for name, value in headers:
        if name.lower() == b"origin" and value.decode("latin-1") not in origins:
            return value
    return None


async def open_transport(
    nursery: trio.Nursery, address: Address, frame_bytes: int
) -> WebSocketTransport | RawTransport:
    """Connect to `address`; `nursery` runs what the connection needs. Deadlines are the caller's.

    Raises:
        ConnectionFailed: nobody answers there, or the handshake broke off.
        RemoteProtocolError: a web server answers that wants no WebSocket.
    """
    try:
        if address.scheme == "unix":
            unix = await trio.open_unix_socket(address.path)
            return RawTransport(take_over(unix), frame_bytes)
        tcp = take_over(await trio.open_tcp_stream(address.host, address.port))
    except (OSError, ValueError) as error:
        raise ConnectionFailed(f"no daemon answers at {address}: {error}") from error
    if address.scheme == "tcp":
        return RawTransport(tcp, frame_bytes)
    host = host_port(address.host, address.port)
    try:
        return await wrap_websocket(nursery, tcp, frame_bytes, host=host)
    except ConnectionFailed as error:
        raise ConnectionFailed(f"no daemon answers at {address}: {error}") from error
