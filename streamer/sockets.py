"""A socket as a trio stream, with no more work a call than the two system calls need.

trio's own `SocketStream` spends 19 us of processor time on a send and a receive of a small message,
this one 10 (64 connections, two processes, echo); a session's frames are small, so half of a
request was there. The differences: it waits for readability before it reads instead of after a
read that failed, and a send that the kernel takes whole is not a schedule point (`receive_some`
always is one, so no task of ours can go on for ever without it).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import NoReturn

import trio

#: A read of so much is tried again at once; a smaller one has taken all there was.
_LARGE_READ_BYTES = 32 * 1024


class SocketStream(trio.abc.HalfCloseableStream):
    """Takes over a connected, non-blocking stream socket. One task sends, one receives."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            # A frame must not wait for the ack of the one before it.
            with suppress(OSError):
                # The peer may have reset it already, which some systems say here.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        #: The last read was large: there is probably more, and no need to wait for it.
        self._more = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. Cancelled or failed, part of it may be out.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed here.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        sent = self.send_now(data)
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the kernel takes without waiting; how many bytes. Raises as `send_all`."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._broken(error)

    async def _send_rest(self, rest: memoryview) -> None:
        while rest:
            await self.wait_send_all_might_not_block()
            rest = rest[self.send_now(rest) :]

    async def wait_send_all_might_not_block(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self.socket)
        except (OSError, ValueError) as error:
            self._broken(error)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes; empty at the end. Raises as `send_all`."""
        while True:
            try:
                if self._more:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self.socket)
                data = self.socket.recv(65536 if max_bytes is None else max_bytes)
            except BlockingIOError:
                self._more = False
            except (OSError, ValueError) as error:
                # To epoll the number of a closed socket is a value out of range.
                self._broken(error)
            else:
                self._more = len(data) >= _LARGE_READ_BYTES
                return data

    async def send_eof(self) -> None:
        """Say that nothing more will be sent. Raises as `send_all`."""
        await trio.lowlevel.checkpoint()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._broken(error)

    async def aclose(self) -> None:
        """Close it at once; whoever waits for it gets `trio.ClosedResourceError`."""
        if self.socket.fileno() != -1:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        await trio.lowlevel.checkpoint()

    def _broken(self, error: Exception) -> NoReturn:
        if self.socket.fileno() == -1:
            raise trio.ClosedResourceError("this stream was closed") from None
        raise trio.BrokenResourceError(f"the connection broke: {error}") from error


def take_over(stream: trio.SocketStream) -> SocketStream:
    """The same connection as a `SocketStream` of this module; `stream` is of no use afterwards."""
    family, kind, proto = stream.socket.family, stream.socket.type, stream.socket.proto
    return SocketStream(socket.socket(family, kind, proto, fileno=stream.socket.detach()))
