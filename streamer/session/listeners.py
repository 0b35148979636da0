"""Where peers come in: listeners of every kind, and a guard round each connection.

Rules: what goes wrong with one connection ends that one, is counted, and is logged once; running
out of descriptors makes the loop wait, not end; the number of sessions is bounded in all and for
each address. This module is one of the edges where everything is caught.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, suppress

import structlog
import trio

from streamer.addresses import Address
from streamer.errors import ConnectionFailed, ProtocolError, SessionsExhausted, StreamerError
from streamer.session.outbox import failed
from streamer.session.service import Service
from streamer.session.session import Session
from streamer.transport import RawTransport, Transport, accept_websocket
from streamer.wire import frames

_BACKLOG = 512
#: How long to wait when there are no descriptors left.
_EXHAUSTED_PAUSE_S = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = structlog.get_logger("streamer.listener")

Listener = trio.SocketListener


async def open_listeners(address: Address) -> list[Listener]:
    """Bind and listen at an address.

    Raises:
        OSError: it cannot be bound.
    """
    if address.scheme != "unix":
        return list(
            await trio.open_tcp_listeners(address.port, host=address.host, backlog=_BACKLOG)
        )
    await _remove_dead_socket(address.path)
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        await sock.bind(address.path)
        os.chmod(address.path, 0o600)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return [trio.SocketListener(sock)]


async def _remove_dead_socket(path: str) -> None:
    """Remove a socket file that nobody listens at; one that is alive stays, and binding fails."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        stream = await trio.open_unix_socket(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        with suppress(FileNotFoundError):
            os.unlink(path)
    else:
        await stream.aclose()


class Sessions:
    """All sessions of a daemon: accepts, counts, guards and drains them."""

    def __init__(
        self,
        service: Service,
        nursery: trio.Nursery,
        *,
        sessions_max: int,
        sessions_per_address: int,
        origins: Collection[str],
    ) -> None:
        self._service = service
        self._nursery = nursery
        self._sessions_max = sessions_max
        self._per_address_max = sessions_per_address
        self.origins = origins
        self._addresses: Counter[str] = Counter()
        self._open: dict[Session, None] = {}
        self._connections = 0
        self._empty = trio.lowlevel.ParkingLot()
        stats = service.stats
        self._accepted = stats.counter("sessions_accepted", "connections taken in")
        self._refused = stats.counter("sessions_refused", "connections refused for a limit")
        self._failed = stats.counter("sessions_failed", "sessions that ended with an error")
        stats.gauge("sessions", "sessions now", lambda: len(self._open))

    def __len__(self) -> int:
        return len(self._open)

    async def accept(self, listener: Listener, address: Address) -> None:
        """Take connections in until it is cancelled. Sessions outlive it."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.warning("out of descriptors", error=str(error))
                await trio.sleep(_EXHAUSTED_PAUSE_S)
                continue
            self._accepted.value += 1
            self._nursery.start_soon(self._guard, stream, address)

    async def _guard(self, stream: trio.SocketStream, address: Address) -> None:
        """One connection, from its first byte to its last. Nothing of it gets out."""
        peer, host = _peer(stream, address)
        self._addresses[host] += 1
        self._connections += 1
        try:
            await self._serve(stream, address, peer, host)
        except* (ProtocolError, ConnectionFailed) as group:
            self._failed.value += 1
            _log.info("session ended", peer=peer, error="; ".join(_messages(group)))
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as group:
            self._failed.value += 1
            _log.info("connection broke", peer=peer, error="; ".join(_messages(group)))
        except* Exception as group:
            self._failed.value += 1
            _log.error("session failed", peer=peer, exc_info=group)
        finally:
            self._connections -= 1
            if not self._connections:
                self._empty.unpark_all()
            self._addresses[host] -= 1
            if not self._addresses[host]:
                del self._addresses[host]

    async def _serve(
        self, stream: trio.SocketStream, address: Address, peer: str, host: str
    ) -> None:
        service = self._service
        frame_bytes = service.limits.frame_bytes
        async with trio.open_nursery() as nursery, _closing(stream):
            transport: Transport
            if address.scheme == "ws":
                with trio.fail_after(service.handshake_s):
                    transport = await accept_websocket(
                        nursery, stream, frame_bytes, origins=self.origins
                    )
            else:
                transport = RawTransport(stream, frame_bytes)
            try:
                self._check_room(host)
            except SessionsExhausted as error:
                self._refused.value += 1
                await _turn_away(transport, error)
                raise
            session = Session(transport, service, peer)
            self._open[session] = None
            try:
                await session.serve()
            finally:
                del self._open[session]
                with trio.move_on_after(2) as scope:
                    scope.shield = True
                    await transport.aclose()
            nursery.cancel_scope.cancel()

    def _check_room(self, host: str) -> None:
        if self._connections > self._sessions_max:
            raise SessionsExhausted(f"there are {self._sessions_max} sessions, allowed are no more")
        if self._addresses[host] > self._per_address_max:
            raise SessionsExhausted(
                f"there are {self._per_address_max} sessions of {host}, allowed are no more"
            )

    async def ended(self) -> None:
        """Wait until no connection is left."""
        while self._connections:
            await self._empty.park()

    async def drain(self) -> None:
        """Have every session answer what is under way, and end."""
        self._service.draining = True
        async with trio.open_nursery() as nursery:
            for session in list(self._open):
                nursery.start_soon(session.drain)


async def _turn_away(transport: Transport, error: StreamerError) -> None:
    """Say why, within a second."""
    with trio.move_on_after(1), suppress(trio.BrokenResourceError):
        await transport.send(frames.encode(failed(None, error)))
        await transport.aclose()


@asynccontextmanager
async def _closing(stream: trio.SocketStream) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await trio.aclose_forcefully(stream)


def _peer(stream: trio.SocketStream, address: Address) -> tuple[str, str]:
    """The peer for logs, and what its sessions are counted by."""
    if address.scheme == "unix":
        return "unix", "unix"
    with suppress(OSError):
        host, port = stream.socket.getpeername()[:2]
        return f"{host}:{port}", host
    return "gone", "gone"


def _messages(group: BaseExceptionGroup[BaseException]) -> list[str]:
    found = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += _messages(error)
        else:
            found.append(str(error) or type(error).__name__)
    return found
