"""Listeners on real sockets, where the kernel has a say: files, resets, what arrives last.

Real clock, short bounds. What needs no kernel is tested in memory beside this.
"""

from __future__ import annotations

import os
import random
import resource
import socket
import stat
import struct
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from streamer.addresses import Address, parse
from streamer.config_load import structure_config
from streamer.daemon.supervisor import Daemon, World
from streamer.pipeline.disk import InlineDisk
from streamer.pipeline.registry import Registry
from streamer.session.listeners import open_listeners
from streamer.testing.memory_files import MemoryFiles
from streamer.transport import RawTransport
from streamer.wire import frames
from tests.site import Peer, framed, inline_disk


@asynccontextmanager
async def real_site(listen: Sequence[str], **session: Any) -> AsyncGenerator[Daemon, None]:
    """A daemon with real sockets; its files are in memory."""
    registry = Registry.installed()
    tree = {
        "daemon": {"data": "/data", "listen": list(listen), "http": "", "drain_s": 2},
        "session": session,
    }
    world = World(
        files=MemoryFiles(),
        open_disk=inline_disk,
        make_readers=lambda _: InlineDisk(),
        make_looker=InlineDisk,
    )
    daemon = Daemon(structure_config(tree, registry), registry, world)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.run)
            yield daemon
            daemon.stop()


async def connected(address: Address) -> trio.SocketStream:
    if address.scheme == "unix":
        return await trio.open_unix_socket(address.path)
    return await trio.open_tcp_stream(address.host, address.port)


@asynccontextmanager
async def open_peer(address: Address) -> AsyncGenerator[Peer, None]:
    async with await connected(address) as stream:
        peer = Peer(RawTransport(stream, 1 << 21), stream)
        await peer.greet()
        yield peer


@pytest.fixture(params=["unix", "tcp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"unix:{tmp_path}/sock" if request.param == "unix" else "tcp://127.0.0.1:0"


async def test_a_unix_socket_is_for_its_owner_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    (listener,) = await open_listeners(parse(f"unix:{path}"))
    mode = os.stat(path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    await listener.aclose()
    assert not path.exists()
    # Also when somebody has removed it.
    (listener,) = await open_listeners(parse(f"unix:{path}"))
    path.unlink()
    await listener.aclose()


async def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (listener,) = await open_listeners(parse(f"unix:{path}"))
    with pytest.raises(OSError, match=f"cannot listen at unix:{path}: Address already in use"):
        await open_listeners(parse(f"unix:{path}"))
    await listener.aclose()


async def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="cannot listen at"):
        await open_listeners(parse(f"unix:{path}"))
    assert path.read_text() == "precious"


async def test_a_port_that_is_taken_is_named() -> None:
    (first,) = await open_listeners(parse("tcp://127.0.0.1:0"))
    assert first.address.port > 0
    with pytest.raises(OSError, match=f"cannot listen at {first.address}: "):
        await open_listeners(first.address)
    await first.aclose()


async def test_sessions_and_the_addresses_that_were_given(url: str) -> None:
    async with real_site([url, "ws://127.0.0.1:0"]) as daemon:
        raw, websocket = daemon.addresses
        assert websocket.port > 0
        async with open_peer(raw) as peer:
            await peer.is_served()


async def test_whoever_talks_on_still_hears_why(url: str) -> None:
    """The daemon closes with bytes unread: what it said must arrive nonetheless."""
    async with real_site([url]) as daemon:
        (address,) = daemon.addresses
        async with open_peer(address) as honest:
            for _ in range(20):
                async with open_peer(address) as peer:
                    await peer.send_bytes(struct.pack("<I", 1 << 30) + bytes(200_000))
                    assert (await peer.fatal()).code == "frame_too_large"
            await honest.is_served()


async def test_resets(url: str) -> None:
    """In the greeting, within a frame, and with answers on their way."""
    async with real_site([url, "ws://127.0.0.1:0"]) as daemon:
        addresses = daemon.addresses
        async with open_peer(addresses[0]) as honest:
            for number in range(60):
                stream = await connected(addresses[number % 2])
                if number % 3 == 1:
                    await stream.send_all(framed(frames.encode(frames.Hello([1], "x"))))
                elif number % 3 == 2:
                    await stream.send_all(b"GET / HTTP/1.1\r\nHo" if number % 2 else b"\x10\x00")
                if addresses[number % 2].scheme != "unix":
                    reset = struct.pack("ii", 1, 0)
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                await stream.aclose()
            await honest.is_served()
            with trio.fail_after(5):
                while daemon.varz()["connections"] > 1:  # noqa: ASYNC110 - the kernel's time
                    await trio.sleep(0.01)


async def test_one_that_never_reads(url: str) -> None:
    """The kernel's buffers fill up, then the queue, then `send_s` is over."""
    async with real_site([url], send_s=0.3) as daemon:
        (address,) = daemon.addresses
        async with open_peer(address) as honest, open_peer(address) as stuck:
            noise = random.Random(1).randbytes(500_000)
            for _ in range(20):
                assert isinstance(await honest.produce([noise], "long"), frames.Acks)
            request = frames.Subscribe(1, 1, "long", 0, 2, 0, 1 << 40)
            await stuck.send(request)
            with trio.fail_after(10):
                while daemon.varz()["connections"] > 1:  # noqa: ASYNC110 - the kernel's time
                    await trio.sleep(0.01)
            await honest.is_served()


async def test_out_of_descriptors(tmp_path: Path) -> None:
    """New connections wait until there are some again; sessions that are there go on."""
    async with real_site([f"unix:{tmp_path}/sock"]) as daemon:
        (address,) = daemon.addresses
        async with open_peer(address) as honest:
            with no_descriptors_left() as spare:
                os.close(spare.pop())
                # It takes the last one; the daemon has none to accept it with.
                late = socket.socket(socket.AF_UNIX)
                late.connect(address.path)
                await honest.is_served()
                await trio.sleep(0.25)
                await honest.is_served()
            late.setblocking(False)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(late)) as stream:
                peer = Peer(RawTransport(stream, 1 << 21), stream)
                with trio.fail_after(5):
                    await peer.greet()
                await peer.is_served()


@contextmanager
def no_descriptors_left() -> Iterator[list[int]]:
    """Take all that this process may have; gives those that were taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
