"""Hostile peers: each gets a clear error or a bounded wait, and no other session notices.

Every test has an honest session beside the hostile one, from before it until after it.
"""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import AsyncGenerator

import pytest
import trio
import trio.testing
import trio_websocket
import zstandard
from wsproto.events import BytesMessage, Ping

from streamer import cbor
from streamer.errors import ConnectionFailed
from streamer.limits import MIB
from streamer.wire import frames
from tests.site import UNIX, WS, Peer, Site, batch_of, framed, open_site, until_broken, until_closed

Clock = trio.testing.MockClock
both = pytest.mark.parametrize("url", [UNIX, WS])
#: `handshake_s` and `idle_s` of the defaults, and a little.
HANDSHAKE_S, IDLE_S = 5.0, 60.0
LONG_HELLO = b"\x84\x01\x81\x01\x7a" + (70_000).to_bytes(4, "big") + b"x" * 70_000 + b"\xa0"


@pytest.fixture
async def honest(site: Site) -> AsyncGenerator[Peer, None]:
    """A session that does no harm; what happens beside it must not matter to it."""
    peer = await site.peer()
    await peer.is_served()
    began = trio.current_time()
    yield peer
    await trio.testing.wait_all_tasks_blocked()
    if trio.current_time() - began < IDLE_S:
        await peer.is_served()
        assert site.sessions == 1, "the hostile one is gone"


# ------------------------------------------------------------------------------ instead of hello


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "frame_too_large", "frame of"),
        (b"\x00" * 50, "protocol", "frame of 0 bytes"),
        (b"\xff\xff\xff\xff", "frame_too_large", "frame of 4294967295 bytes"),
        (struct.pack("<I", 2 * MIB), "frame_too_large", "allowed are 1114112"),
        (framed(b"\xff" * 20), "protocol", "no array that begins with its type"),
        (framed(b"\x80"), "protocol", "no array"),
        (framed(b"\x84\x01\x81\x01\x61\x61\x5f\xff"), "protocol", "no CBOR of ours"),
        (framed(frames.encode(frames.Ping(1))), "protocol", "Ping frame from the client"),
        (framed(frames.encode(frames.Hello([2, 9], "x"))), "unsupported_version", "[2, 9] offered"),
        (framed(LONG_HELLO), "frame_too_large", "Hello frame of"),
        (framed(frames.encode(frames.Hello([1], "x")) + b"\x00"), "protocol", "bytes"),
    ],
)  # fmt: skip
async def test_no_hello_but_something_else(
    autojump_clock: Clock, site: Site, honest: Peer, data: bytes, code: str, says: str
) -> None:
    peer = await site.peer(greet=False)
    await peer.send_bytes(data)
    last = frames.decode(await peer.transport.receive())
    assert isinstance(last, frames.Failed)
    assert (last.request, last.code, last.fatal) == (None, code, True)
    assert says in last.message
    with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
        await peer.transport.receive()
    await peer.stream.aclose()


async def test_random_garbage(autojump_clock: Clock, site: Site, honest: Peer) -> None:
    rng = random.Random(4)
    for _ in range(100):
        peer = await site.peer(greet=rng.random() < 0.5)
        try:
            await peer.send_bytes(rng.randbytes(rng.randint(1, 2000)))
            await peer.stream.send_eof()
        except trio.BrokenResourceError:
            pass
        await peer.ended()


async def test_mutated_frames(autojump_clock: Clock, site: Site, honest: Peer) -> None:
    """Frames with a few bytes changed: an answer, or the end of that session."""
    rng = random.Random(5)
    maker = await site.peer()
    good = [
        maker.batch([b"value"] * 20),
        maker.records([[b"a", b"k", 1, {"h": b"v"}]]),
        frames.Subscribe(3, 1, "honest", 0, 2, 0, 1 << 20),
        frames.Fetch(4, "honest", 0, 2, 0, 1 << 20),
        frames.Admin(5, "peek", {"stream": "honest", "offset": 0}),
        frames.Admin(6, "stream", {"stream": "x", "create": True}),
        frames.Grant(1, 5),
        frames.Goodbye("", ""),
    ]
    encoded = [frames.encode(frame) for frame in good]
    await maker.stream.aclose()
    for _ in range(300):
        data = bytearray(rng.choice(encoded))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        peer = await site.peer()
        await peer.send_bytes(framed(bytes(data)))
        await trio.testing.wait_all_tasks_blocked()
        await peer.stream.aclose()


# --------------------------------------------------------------------------- in an open session


@both
@pytest.mark.parametrize(
    ("frame", "code", "says"),
    [
        (b"\xff" * 20, "protocol", "no array"),
        (b"\x82\x00\x01", "protocol", "unknown frame type 0"),
        (b"\x83\x12\x01\x01", "protocol", "Ping frame has 2 fields, it takes 1"),
        (b"\x82\x12\x20", "protocol", "field token is not int"),
        (frames.encode(frames.Hello([1], "again")), "protocol", "Hello frame from the client"),
        (frames.encode(frames.Welcome(1, "x", {}, 1)), "protocol", "Welcome frame"),
        (frames.encode(frames.Deliver(1, 1, b"")), "protocol", "Deliver frame from the client"),
        (frames.encode(frames.Failed(None, "x", "", False, True)), "protocol", "Fatal frame"),
        (frames.encode(frames.Goodbye("", ""))[:-1], "protocol", "no CBOR of ours"),
    ],
)
async def test_a_frame_that_is_none_or_may_not_come(
    autojump_clock: Clock, site: Site, honest: Peer, url: str, frame: bytes, code: str, says: str
) -> None:
    peer = await site.peer(url)
    await peer.transport.send(frame)
    last = await peer.fatal()
    assert (last.request, last.code) == (None, code)
    assert says in last.message


@both
async def test_deep_cbor(autojump_clock: Clock, site: Site, honest: Peer, url: str) -> None:
    peer = await site.peer(url)
    deep = b"\x84\x10\x01\x61x\xa1\x61a" + b"\x81" * 5000 + b"\x00"
    await peer.transport.send(deep)
    assert (await peer.fatal()).code == "protocol"


@both
async def test_many_empty_maps_are_counted_before_they_are_made(
    autojump_clock: Clock, site: Site, honest: Peer, url: str
) -> None:
    peer = await site.peer(url)
    count = 1_000_000
    bomb = b"\x84\x10\x01\x61x\xa1\x61a\x9a" + count.to_bytes(4, "big") + b"\xa0" * count
    await peer.transport.send(bomb)
    last = await peer.fatal()
    assert last.code == "frame_too_large"
    assert "more than 131072 items" in last.message


@pytest.mark.parametrize("tag", [0, 2, 28, 29, 35, 258])
async def test_tags(autojump_clock: Clock, site: Site, honest: Peer, tag: int) -> None:
    peer = await site.peer()
    head = bytes([0xC0 | tag]) if tag < 24 else b"\xd9" + tag.to_bytes(2, "big")
    await peer.transport.send(b"\x84\x10\x01\x61x\xa1\x61a" + head + b"\x61a")
    assert (await peer.fatal()).code == "protocol"


async def test_a_message_above_the_limit_raw(
    autojump_clock: Clock, site: Site, honest: Peer
) -> None:
    peer = await site.peer()
    await peer.send_bytes(struct.pack("<I", 1_114_113) + b"x" * 1000)
    last = await peer.fatal()
    assert last.code == "frame_too_large"
    assert last.message == "frame of 1114113 bytes, allowed are 1114112"


async def test_a_message_above_the_limit_websocket(
    autojump_clock: Clock, site: Site, honest: Peer
) -> None:
    peer = await site.peer(WS)
    websocket = peer.transport._websocket  # type: ignore[attr-defined]

    async def send() -> None:
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await websocket.send_message(b"x" * 1_200_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await websocket.get_message()
    reason = caught.value.reason
    assert reason is not None
    assert reason.code == 1009
    assert "maximum message size: 1114112 bytes" in str(reason.reason)


async def test_a_text_message(autojump_clock: Clock, site: Site, honest: Peer) -> None:
    peer = await site.peer(WS)
    await peer.transport._websocket.send_message("text")  # type: ignore[attr-defined]
    last = await peer.fatal()
    assert (last.code, last.message) == ("protocol", "text message where frames are binary")


async def test_frames_after_a_fault_are_not_heeded(
    autojump_clock: Clock, site: Site, honest: Peer
) -> None:
    peer = await site.peer()
    ours = peer.batch([b"never"], "never")
    await peer.transport.send_all([b"\xff", frames.encode(ours)])
    assert (await peer.fatal()).code == "protocol"
    assert "never" not in [stream["name"] for stream in await honest.admin("streams")]


async def test_requests_after_goodbye(autojump_clock: Clock, site: Site, honest: Peer) -> None:
    peer = await site.peer()
    await peer.transport.send_all(
        [frames.encode(frames.Goodbye("", "")), frames.encode(peer.batch([b"late"]))]
    )
    last = await peer.fatal()
    assert "Produce frame from the client in state left" in last.message


# -------------------------------------------------------------------------------------- bombs


def bomb(*, told: int, count: int = 1) -> bytes:
    """A batch whose payload decompresses to far more than it should."""
    payload = zstandard.ZstdCompressor(level=1).compress(bytes(100 * MIB))
    good = bytearray(batch_of([b"x" * 1000]))
    del good[96:]
    good += payload
    struct.pack_into("<I", good, 4, len(good))
    struct.pack_into("<II", good, 20, count, told)
    return bytes(good)


@pytest.mark.parametrize("told", [100 * MIB, 1000, 16 * MIB])
async def test_a_decompression_bomb(
    autojump_clock: Clock, site: Site, honest: Peer, told: int
) -> None:
    """Producer batches are not decompressed at all, so it must fail by its header or its CRC; and
    one whose CRC is right hurts no daemon and no reader (see the tests of batches)."""
    peer = await site.peer()
    await peer.send(frames.Produce(1, "s", None, None, 0, bomb(told=told)))
    failed = await peer.expect(frames.Failed)
    assert failed.code in ("bad_batch", "too_large")
    assert not failed.fatal
    await peer.stream.aclose()


# ------------------------------------------------------------------------- silent, slow, or gone


@both
async def test_one_that_never_says_hello(
    autojump_clock: Clock, site: Site, honest: Peer, url: str
) -> None:
    began = trio.current_time()
    peer = await site.peer(url, greet=False)
    last = await peer.fatal()
    assert last.code == "too_slow"
    assert "no hello within 5.0 s" in last.message
    assert trio.current_time() - began < HANDSHAKE_S + 1


async def test_one_that_never_begins_the_websocket_handshake(
    autojump_clock: Clock, site: Site, honest: Peer
) -> None:
    began = trio.current_time()
    stream = site.network.connect(WS)
    await until_closed(stream)
    assert trio.current_time() - began < HANDSHAKE_S + 1


@both
async def test_a_slow_loris(autojump_clock: Clock, site: Site, honest: Peer, url: str) -> None:
    """A byte a second, in the greeting (or in the handshake below it)."""
    began = trio.current_time()
    stream = site.network.connect(url)
    request = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100
    data = request if url == WS else framed(frames.encode(frames.Hello([1], "slow" * 20)))
    bytes_left = iter(data)

    async def next_byte() -> None:
        await stream.send_all(bytes([next(bytes_left)]))
        await trio.sleep(1)

    await until_broken(next_byte)
    assert trio.current_time() - began < HANDSHAKE_S + 3


async def test_a_slow_loris_in_a_frame(autojump_clock: Clock) -> None:
    """A frame that never ends, a byte a second: it says nothing, so it is silent."""
    async with open_site() as site:
        peer = await site.peer()
        began = trio.current_time()
        await peer.send_bytes(struct.pack("<I", 100_000))

        async def next_byte() -> None:
            await peer.send_bytes(b"x")
            await trio.sleep(1)

        await until_broken(next_byte)
        assert trio.current_time() - began < IDLE_S + HANDSHAKE_S + 3
        honest = await site.peer()
        await honest.is_served()


@both
async def test_one_that_vanishes_in_a_frame(
    autojump_clock: Clock, site: Site, honest: Peer, url: str
) -> None:
    peer = await site.peer(url)
    data = frames.encode(peer.batch([b"half"], "half"))
    if url == UNIX:
        await peer.send_bytes(framed(data)[:-10])
    else:
        # A frame of the WebSocket that tells more than comes.
        await peer.send_bytes(b"\x82\xfe\x01\x00" + b"mask" + data[:20])
    await trio.testing.wait_all_tasks_blocked()
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert site.sessions == 1
    assert "half" not in [stream["name"] for stream in await honest.admin("streams")]


@both
async def test_one_that_resets(autojump_clock: Clock, site: Site, honest: Peer, url: str) -> None:
    for greet in (False, True):
        peer = await site.peer(url, greet=greet)
        if greet:
            await peer.send(*[peer.batch([b"x"]) for _ in range(20)])
        peer.stream.reset()
        await trio.testing.wait_all_tasks_blocked()
        assert site.sessions == 1


@both
async def test_one_that_connects_and_goes(
    autojump_clock: Clock, site: Site, honest: Peer, url: str
) -> None:
    """As a port scanner or a load balancer's check does: no error of ours."""
    failed = site.count("sessions_failed")
    for _ in range(5):
        stream = site.network.connect(url)
        await stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert site.sessions == 1
    if url == UNIX:
        assert site.count("sessions_failed") == failed


# ---------------------------------------------------------------------------------- websockets


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
#: Masked with zeros, so they can be read: a text message, an empty ping.
TEXT, PING = b"\x81\x84\0\0\0\0text", b"\x89\x80\0\0\0\0"


@pytest.mark.parametrize("pings", [1, 50])
async def test_a_ping_while_closing(
    autojump_clock: Clock, site: Site, honest: Peer, pings: int
) -> None:
    """This ended a whole `serve_websocket` server (RELIABILITY.md, section 5)."""
    stream = site.network.connect(WS)
    await stream.send_all(HANDSHAKE + b"\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
    await stream.send_all(TEXT)
    heard = b""
    while b"\x88\x02\x03" not in heard:
        heard += await stream.receive_some()
    assert b"text message where frames are binary" in heard
    # It has said that it closes, and waits for our answer.
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(PING * pings)
    await until_closed(stream)
    await stream.aclose()


async def test_a_flood_of_websocket_pings(autojump_clock: Clock, site: Site, honest: Peer) -> None:
    peer = await site.peer(WS)
    wire = peer.transport._websocket._wsproto  # type: ignore[attr-defined]
    pings = b"".join(wire.send(Ping(b"%d" % number)) for number in range(2000))
    await peer.send_bytes(pings)
    await peer.is_served()
    await peer.stream.aclose()


async def test_a_message_of_endless_empty_fragments(autojump_clock: Clock) -> None:
    """Each takes six bytes on the wire, and ten times that in memory until the message ends."""
    small = {"session": {"frame_bytes": "64 KiB"}, "batch": {"batch_bytes": "32 KiB"}}
    async with open_site(small) as site:
        honest = await site.peer()
        peer = await site.peer(WS)
        wire = peer.transport._websocket._wsproto  # type: ignore[attr-defined]
        first = wire.send(BytesMessage(b"x", message_finished=False))
        empty = wire.send(BytesMessage(b"", message_finished=False)) * 1000
        sent = 0

        async def flood() -> None:
            nonlocal sent
            await peer.send_bytes(first)
            while sent < 20 * MIB:
                await peer.send_bytes(empty)
                sent += len(empty)

        with pytest.raises(trio.BrokenResourceError):
            await flood()
        assert sent < MIB
        await honest.is_served()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\xff" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000,
        framed(frames.encode(frames.Hello([1], "raw on a websocket"))),
    ],
)
async def test_no_websocket_handshake(
    autojump_clock: Clock, site: Site, honest: Peer, request_bytes: bytes
) -> None:
    began = trio.current_time()
    stream = site.network.connect(WS)
    try:
        await stream.send_all(request_bytes)
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    assert trio.current_time() - began <= HANDSHAKE_S + 1


@pytest.mark.parametrize("listed", [False, True])
async def test_a_foreign_origin(autojump_clock: Clock, listed: bool) -> None:
    origins = ["https://example.org"] if listed else []
    async with open_site({"daemon": {"origins": origins}}) as site:
        honest = await site.peer()
        stream = site.network.connect(WS)
        await stream.send_all(HANDSHAKE + b"Origin: https://example.org\r\n\r\n")
        answer = await stream.receive_some()
        expected = b"HTTP/1.1 101" if listed else b"HTTP/1.1 403"
        assert answer.startswith(expected)
        await stream.aclose()
        await honest.is_served()


# ------------------------------------------------------------------------------------- too many


@both
async def test_more_sessions_than_allowed(autojump_clock: Clock, url: str) -> None:
    limits = {"sessions": 3, "sessions_per_address": 3}
    async with open_site({"session": limits}) as site:
        honest = await site.peer(host="a")
        others = [await site.peer(url, host="b"), await site.peer(url, host="c")]
        refused = await site.peer(url, host="d", greet=False)
        last = await refused.fatal()
        assert (last.code, last.retryable) == ("sessions_exhausted", True)
        assert "there are 3 sessions, allowed are no more" in last.message
        await honest.is_served()
        await others[0].transport.aclose()
        await trio.testing.wait_all_tasks_blocked()
        again = await site.peer(url, host="d")
        await again.is_served()
        assert site.count("sessions_refused") == 1


@both
async def test_more_sessions_of_an_address_than_allowed(autojump_clock: Clock, url: str) -> None:
    limits = {"sessions": 10, "sessions_per_address": 2}
    async with open_site({"session": limits}) as site:
        honest = await site.peer(host="a")
        for _ in range(2):
            await site.peer(url, host="b")
        refused = await site.peer(url, host="b", greet=False)
        last = await refused.fatal()
        assert last.code == "sessions_exhausted"
        assert "2 sessions of b" in last.message
        elsewhere = await site.peer(url, host="c")
        await elsewhere.is_served()
        await honest.is_served()


async def test_silent_clients_of_one_address_do_not_lock_others_out(
    autojump_clock: Clock,
) -> None:
    limits = {"sessions": 10, "sessions_per_address": 4}
    async with open_site({"session": limits}) as site:
        silent = [site.network.connect(WS, "silent") for _ in range(200)]
        await trio.testing.wait_all_tasks_blocked()
        honest = await site.peer(host="honest")
        await honest.is_served()
        await trio.sleep(HANDSHAKE_S + 2)
        assert site.sessions == 1
        for stream in silent:
            with contextlib.suppress(trio.BrokenResourceError):
                assert not await stream.receive_some()


async def test_running_out_of_descriptors(autojump_clock: Clock, site: Site, honest: Peer) -> None:
    listener = site.network.listeners[next(a for a in site.network.listeners if a.scheme == "unix")]
    listener.fail_next(times=30)
    peer = await site.peer()
    await peer.is_served()
    assert trio.current_time() >= 3.0
    await peer.stream.aclose()


async def test_a_bug_of_ours_ends_one_session_and_is_logged(
    autojump_clock: Clock, site: Site, honest: Peer
) -> None:
    def broken() -> dict[str, object]:
        raise ZeroDivisionError("a bug")

    assert site.daemon.sessions is not None
    site.daemon.sessions._service.varz = broken
    peer = await site.peer()
    await peer.send(frames.Admin(1, "varz", {}))
    assert await peer.ended() == []
    await trio.testing.wait_all_tasks_blocked()
    (line,) = site.logged("session failed")
    assert "ZeroDivisionError" in repr(line["exc_info"].exceptions)


async def test_a_client_sees_why(autojump_clock: Clock) -> None:
    async with open_site({"session": {"sessions": 1, "sessions_per_address": 1}}) as site:
        await site.peer()
        with pytest.raises(Exception, match="allowed are no more"):
            async with site.client():
                pass
        assert issubclass(ConnectionFailed, Exception)


def test_cbor_is_decoded_in_one_place_only() -> None:
    """What the frames use refuses what this page sends."""
    with pytest.raises(cbor.CBORError):
        cbor.loads(b"\x81" * 100 + b"\x00")
