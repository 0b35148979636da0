"""Where peers come in: listeners of every kind, and a guard round each connection.

Rules: what goes wrong with one connection ends that one, is counted, and is logged once; running
out of descriptors makes the loop wait, not end; the number of sessions is bounded in all and for
each address. This module is one of the edges where everything is caught.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import attrs
import structlog
import trio

from streamer.addresses import Address
from streamer.errors import (
    ConnectionFailed,
    ProtocolError,
    SessionsExhausted,
    StreamerError,
    TooSlow,
)
from streamer.session.outbox import failed
from streamer.session.service import Service
from streamer.session.session import Session
from streamer.sockets import take_over
from streamer.transport import RawTransport, Transport, accept_websocket
from streamer.wire import frames

_BACKLOG = 512
#: How long to wait when there are no descriptors left.
_EXHAUSTED_PAUSE_S = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Connections above the limit that are told so, at a time; further ones are closed at once.
_TURNED_AWAY_MAX = 64
_TURN_AWAY_S = 1.0
_CLOSE_S = 2.0

_log = structlog.get_logger("streamer.listener")


@attrs.frozen
class Incoming:
    """A connection that was taken in."""

    stream: trio.abc.Stream
    #: For logs.
    peer: str
    #: What its sessions are counted by.
    host: str


class Listener(trio.abc.AsyncResource):
    """Where connections come in. A simulation brings its own. Closing it leaves nothing behind at
    its address."""

    #: Where peers connect to, with the port that the system gave.
    address: Address

    @abstractmethod
    async def accept(self) -> Incoming:
        """Wait for a connection.

        Raises:
            OSError: for want of descriptors or memory, or because the listener is at fault.
        """


class SocketListener(Listener):
    """A listening socket."""

    def __init__(self, listener: trio.SocketListener, address: Address) -> None:
        self._listener = listener
        if address.scheme != "unix":
            address = address.at_port(listener.socket.getsockname()[1])
        self.address = address

    async def accept(self) -> Incoming:
        stream = await self._listener.accept()
        peer, host = _peer(stream, self.address)
        return Incoming(take_over(stream), peer, host)

    async def aclose(self) -> None:
        if self.address.scheme == "unix":
            # First, so that nobody connects to what is about to close.
            with suppress(FileNotFoundError):
                os.unlink(self.address.path)
        await self._listener.aclose()


async def open_listeners(address: Address) -> Sequence[Listener]:
    """Bind and listen at an address.

    Raises:
        OSError: it cannot be bound; the text names the address.
    """
    try:
        if address.scheme == "unix":
            return [SocketListener(await _listen_unix(address.path), address)]
        return [
            SocketListener(listener, address)
            for listener in await trio.open_tcp_listeners(
                address.port, host=address.host, backlog=_BACKLOG
            )
        ]
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen at {address}: {reason}") from error


async def _listen_unix(path: str) -> trio.SocketListener:
    await _remove_dead_socket(path)
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        await sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(sock)


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
        #: Connections that were let in, in all and by address, greeted or not.
        self._let_in = 0
        self._addresses: Counter[str] = Counter()
        self._turning_away = 0
        self._open: dict[Session, None] = {}
        self._number = 0
        self._connections = 0
        self._empty = trio.lowlevel.ParkingLot()
        stats = service.stats
        self._accepted = stats.counter("sessions_accepted", "connections taken in")
        self._refused = stats.counter("sessions_refused", "connections refused for a limit")
        self._failed = stats.counter("sessions_failed", "sessions that ended with an error")
        stats.gauge("sessions", "sessions now", lambda: len(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def all(self) -> list[Session]:
        """Those that are open, the oldest first."""
        return list(self._open)

    async def accept(self, listener: Listener) -> None:
        """Take connections in until it is cancelled. Sessions outlive it."""
        exhausted = False
        while True:
            try:
                incoming = await listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                if not exhausted:
                    # Once, until it is over: it is tried ten times a second.
                    _log.error("out of descriptors", error=str(error), listen=str(listener.address))
                exhausted = True
                await trio.sleep(_EXHAUSTED_PAUSE_S)
                continue
            exhausted = False
            self._accepted.value += 1
            self._nursery.start_soon(self._guard, incoming, listener.address)

    async def _guard(self, incoming: Incoming, address: Address) -> None:
        """One connection, from its first byte to its last. Nothing of it gets out."""
        peer = incoming.peer
        self._connections += 1
        try:
            await self._serve(incoming, address)
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

    async def _serve(self, incoming: Incoming, address: Address) -> None:
        async with trio.open_nursery() as nursery, _closing(incoming.stream):
            try:
                self._check_room(incoming.host)
            except SessionsExhausted as error:
                self._refused.value += 1
                await self._turn_away(nursery, incoming, address, error)
                raise
            with self._letting_in(incoming.host):
                await self._serve_session(nursery, incoming, address)
            nursery.cancel_scope.cancel()

    @contextmanager
    def _letting_in(self, host: str) -> Iterator[None]:
        self._let_in += 1
        self._addresses[host] += 1
        try:
            yield
        finally:
            self._let_in -= 1
            self._addresses[host] -= 1
            if not self._addresses[host]:
                del self._addresses[host]

    async def _serve_session(
        self, nursery: trio.Nursery, incoming: Incoming, address: Address
    ) -> None:
        transport = await self._transport(nursery, incoming, address)
        self._number += 1
        session = Session(
            transport, self._service, incoming.peer, number=self._number, scheme=address.scheme
        )
        self._open[session] = None
        if self._service.draining:
            # It came in before, and was too late for `drain`.
            nursery.start_soon(session.drain)
        try:
            await session.serve()
        finally:
            del self._open[session]
            with trio.move_on_after(_CLOSE_S) as scope:
                scope.shield = True
                await transport.aclose()

    async def _transport(
        self, nursery: trio.Nursery, incoming: Incoming, address: Address
    ) -> Transport:
        frame_bytes = self._service.limits.frame_bytes
        if address.scheme != "ws":
            return RawTransport(incoming.stream, frame_bytes)
        handshake_s = self._service.handshake_s
        with trio.move_on_after(handshake_s):
            return await accept_websocket(
                nursery, incoming.stream, frame_bytes, origins=self.origins
            )
        raise TooSlow(f"no websocket handshake within {handshake_s} s")

    async def _turn_away(
        self, nursery: trio.Nursery, incoming: Incoming, address: Address, error: StreamerError
    ) -> None:
        """Say why, within a second."""
        if self._turning_away >= _TURNED_AWAY_MAX:
            return
        self._turning_away += 1
        try:
            with trio.move_on_after(_TURN_AWAY_S), suppress(trio.BrokenResourceError):
                transport = await self._transport(nursery, incoming, address)
                await transport.send(frames.encode(failed(None, error)))
                await transport.hear_out()
                await transport.aclose()
        finally:
            self._turning_away -= 1

    def _check_room(self, host: str) -> None:
        if self._let_in >= self._sessions_max:
            raise SessionsExhausted(f"there are {self._sessions_max} sessions, allowed are no more")
        if self._addresses[host] >= self._per_address_max:
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


@asynccontextmanager
async def _closing(stream: trio.abc.Stream) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await trio.aclose_forcefully(stream)


def _peer(stream: trio.SocketStream, address: Address) -> tuple[str, str]:
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
