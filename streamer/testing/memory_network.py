"""A network in memory: listeners, connections, and what goes wrong with them.

    network = MemoryNetwork()
    daemon = Daemon(config, registry, World(open_listeners=network.open_listeners, ...))
    stream = network.connect("unix:/daemon")

Rules:

- A connection behaves as one of the kernel's: each direction holds so many bytes and no more, a
  writer whose peer does not read waits, what was written before a close still arrives, and a
  reset loses what is on its way and breaks both ends.
- Nothing happens by itself and nothing takes time: what a test does not do to it goes well.
- Ports that are asked for as 0 are numbered from 1 on, so that two runs are the same.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import attrs
import trio

from streamer.addresses import Address, parse
from streamer.errors import ConnectionFailed
from streamer.limits import KIB
from streamer.session.listeners import Incoming, Listener

#: About what the buffers of a Unix socket hold.
CAPACITY_BYTES = 64 * KIB


class _Pipe:
    """One direction of a connection."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.data = bytearray()
        #: The writer has closed: what is there is the rest.
        self.ended = False
        #: The reader has closed, or the connection was reset: nothing passes any more.
        self.broken = False
        self.changed = trio.lowlevel.ParkingLot()

    def set(self, *, ended: bool = False, broken: bool = False) -> None:
        self.ended = self.ended or ended
        self.broken = self.broken or broken
        self.changed.unpark_all()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection. One task sends, one receives."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._sending = False
        self._receiving = False

    @property
    def unread_bytes(self) -> int:
        """What the other end has sent and this one has not received."""
        return len(self._incoming.data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            await self._send(memoryview(data))
        finally:
            self._sending = False

    async def _send(self, data: memoryview) -> None:
        pipe = self._outgoing
        while True:
            self._check(pipe)
            if pipe.ended:
                raise trio.ClosedResourceError("this end has sent its last")
            room = pipe.capacity_bytes - len(pipe.data)
            if room > 0 and data:
                pipe.data += data[:room]
                data = data[room:]
                pipe.changed.unpark_all()
            if not data:
                return
            await pipe.changed.park()

    async def wait_send_all_might_not_block(self) -> None:
        pipe = self._outgoing
        await trio.lowlevel.checkpoint()
        while not pipe.broken and len(pipe.data) >= pipe.capacity_bytes:
            self._check(pipe)
            await pipe.changed.park()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            return await self._receive(max_bytes or CAPACITY_BYTES)
        finally:
            self._receiving = False

    async def _receive(self, max_bytes: int) -> bytes:
        pipe = self._incoming
        while True:
            self._check(pipe)
            if pipe.data:
                data = bytes(pipe.data[:max_bytes])
                del pipe.data[:max_bytes]
                pipe.changed.unpark_all()
                return data
            if pipe.ended:
                return b""
            await pipe.changed.park()

    def _check(self, pipe: _Pipe) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")
        if pipe.broken:
            raise trio.BrokenResourceError("the connection is broken")

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self._outgoing.set(ended=True)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._closed = True
        self._outgoing.set(ended=True)
        # What was not read is lost, and whoever sends more learns it.
        self._incoming.data.clear()
        self._incoming.set(broken=True)

    def reset(self) -> None:
        """Break the connection, as a RST does: what is on its way is lost."""
        for pipe in (self._incoming, self._outgoing):
            pipe.data.clear()
            pipe.set(broken=True)


def memory_connection(capacity_bytes: int = CAPACITY_BYTES) -> tuple[MemoryStream, MemoryStream]:
    """The two ends of a connection that holds `capacity_bytes` in each direction."""
    there, back = _Pipe(capacity_bytes), _Pipe(capacity_bytes)
    return MemoryStream(back, there), MemoryStream(there, back)


class MemoryListener(Listener):
    """A listener of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, address: Address) -> None:
        self.address = address
        self._network = network
        self._send, self._receive = trio.open_memory_channel[Incoming](10_000)
        self._failures: list[int] = []

    def fail_next(self, error: int = errno.EMFILE, *, times: int = 1) -> None:
        """Let the next calls of `accept` fail. One that waits now fails with them."""
        self._failures += [error] * times

    def come_in(self, incoming: Incoming) -> None:
        self._send.send_nowait(incoming)

    async def accept(self) -> Incoming:
        if not self._failures:
            incoming = await self._receive.receive()
            if not self._failures:
                return incoming
            self._send.send_nowait(incoming)
        await trio.lowlevel.checkpoint()
        error = self._failures.pop(0)
        raise OSError(error, os.strerror(error))

    async def aclose(self) -> None:
        self._network.listeners.pop(self.address, None)
        self._send.close()
        self._receive.close()
        await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class MemoryNetwork:
    """Addresses and who listens at them."""

    capacity_bytes: int = CAPACITY_BYTES
    listeners: dict[Address, MemoryListener] = attrs.field(factory=dict)
    _ports: int = 0
    _connections: int = 0

    async def open_listeners(self, address: Address) -> Sequence[Listener]:
        """Listen at an address.

        Raises:
            OSError: somebody does already.
        """
        await trio.lowlevel.checkpoint()
        if address.scheme != "unix" and not address.port:
            self._ports += 1
            address = address.at_port(self._ports)
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, f"cannot listen at {address}: in use")
        listener = self.listeners[address] = MemoryListener(self, address)
        return [listener]

    def connect(self, url: str, host: str = "") -> MemoryStream:
        """A connection to whoever listens at `url`; its sessions are counted for `host`.

        Raises:
            ConnectionFailed: nobody does.
        """
        listener = self.listeners.get(parse(url))
        if listener is None:
            raise ConnectionFailed(f"nobody listens at {url}")
        ours, theirs = memory_connection(self.capacity_bytes)
        self._connections += 1
        host = host or listener.address.scheme
        listener.come_in(Incoming(theirs, f"{host}:{self._connections}", host))
        return ours
