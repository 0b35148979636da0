"""Peers that behave badly and break no rule: they take a seat and are silent, or never read.

They speak frames by hand, over a raw socket, since our client would not behave so.
"""

from __future__ import annotations

import array
import fcntl
import random
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio

import streamer
from streamer.limits import MIB, OFFSET_MAX
from streamer.wire import frames
from streamer.wire.frames import Frame, Start
from streamer.wire.framing import LengthPrefixed
from tests.faults.daemon import RealDaemon

#: More than the kernel's buffers and the daemon's own queue for one session take.
_BACKLOG_BYTES = 12 * MIB


async def greet(path: str) -> trio.SocketStream:
    """A session over the Unix socket at `path`, from hello to welcome."""
    stream = await trio.open_unix_socket(path)
    await _send(stream, frames.Hello([frames.PROTOCOL_VERSION], "silent"))
    data = await stream.receive_some(65536)
    assert data, "the daemon hung up"
    return stream


async def _send(stream: trio.SocketStream, frame: Frame) -> None:
    await stream.send_all(LengthPrefixed.prefixed(frames.encode(frame)))


async def sit_idle(
    path: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """A session that asks for nothing, and answers when it is asked for a sign of life."""
    framing = LengthPrefixed(MIB)
    async with await greet(path) as peer:
        task_status.started()
        while data := await peer.receive_some():
            for frame in map(frames.decode, framing.feed(data)):
                if isinstance(frame, frames.Ping):
                    await _send(peer, frames.Pong(frame.token))


async def hung_up(peer: trio.SocketStream) -> None:
    """Wait until the daemon has ended a session, without reading anything of it."""
    with suppress(trio.BrokenResourceError):
        while True:
            await _send(peer, frames.Ping(0))
            await trio.sleep(0.5)


async def subscribe_and_never_read(path: str, stream: str) -> trio.SocketStream:
    """A session that gives all the credit there is, and takes nothing."""
    peer = await greet(path)
    await _send(peer, frames.Subscribe(1, 1, stream, 0, Start.EARLIEST, 0, OFFSET_MAX))
    return peer


@asynccontextmanager
async def never_reading(daemon: RealDaemon, stream: str) -> AsyncGenerator[None, None]:
    """Have the daemon stuck in a write to a peer that takes nothing of a large backlog."""
    async with streamer.connect(daemon.unix) as client, client.producer(stream) as producer:
        rng = random.Random(1)
        for _ in range(_BACKLOG_BYTES // (512 * 1024)):
            await producer.send_batch([rng.randbytes(8192) for _ in range(64)])
    async with await subscribe_and_never_read(str(daemon.socket), stream) as peer:
        # What the kernel holds stops growing once the daemon is stuck.
        before = -1
        while True:
            queued = _readable(peer)
            if queued == before > 0:
                break
            before = queued
            await trio.sleep(0.05)
        yield


def _readable(peer: trio.SocketStream) -> int:
    """Bytes that wait to be read."""
    found = array.array("i", [0])
    fcntl.ioctl(peer.socket.fileno(), termios.FIONREAD, found)
    return found[0]
