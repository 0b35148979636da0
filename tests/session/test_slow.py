"""Peers that do not read: they cost a bounded amount of memory, then they are dropped."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from functools import partial

import pytest
import trio
import trio.testing

from streamer.limits import KIB, MIB
from streamer.session.outbox import Outbox
from streamer.testing.memory_network import MemoryNetwork
from streamer.wire import frames
from streamer.wire.frames import Start
from tests.site import UNIX, WS, Peer, Site, open_site, until_broken

Clock = trio.testing.MockClock
both = pytest.mark.parametrize("url", [UNIX, WS])
SEND_S = 10.0


@pytest.fixture
async def honest(site: Site) -> AsyncGenerator[Peer, None]:
    """A session whose log has 8 MiB that do not compress, and which others do not disturb."""
    peer = await site.peer()
    await fill(peer)
    yield peer
    await peer.is_served()
    await trio.sleep(3)
    assert site.sessions == 1


async def fill(peer: Peer) -> None:
    rng = random.Random(1)
    for _ in range(16):
        assert isinstance(await peer.produce([rng.randbytes(512 * KIB)], "long"), frames.Acks)


def outbox_of(site: Site) -> Outbox:
    """That of the session that came last."""
    *_, session = site.daemon.sessions._open  # type: ignore[union-attr]
    return session._outbox


async def until_dropped(peer: Peer) -> float:
    """How long it takes the daemon to give up on it."""
    began = trio.current_time()
    while True:
        await trio.sleep(0.5)
        try:
            await peer.stream.send_all(b"")
        except trio.BrokenResourceError:
            return trio.current_time() - began


@both
async def test_deliveries(autojump_clock: Clock, site: Site, honest: Peer, url: str) -> None:
    peer = await site.peer(url)
    requests = [
        frames.Subscribe(number, number, "long", 0, Start.EARLIEST, 0, 1 << 40)
        for number in range(1, 101)
    ]
    await peer.send(*requests)
    for _ in range(50):
        await trio.testing.wait_all_tasks_blocked()
        assert outbox_of(site).bytes <= 4 * MIB + 600 * KIB
    assert await until_dropped(peer) == pytest.approx(SEND_S, abs=3)


@both
async def test_answers_to_fetches(
    autojump_clock: Clock, site: Site, honest: Peer, url: str
) -> None:
    """As many as there may be requests, each of half a megabyte."""
    peer = await site.peer(url)
    await peer.send(
        *[frames.Fetch(number, "long", 0, Start.EARLIEST, 0, MIB) for number in range(1, 1001)]
    )
    for _ in range(50):
        await trio.testing.wait_all_tasks_blocked()
        assert outbox_of(site).bytes <= 4 * MIB + 1200 * KIB
    assert await until_dropped(peer) == pytest.approx(SEND_S, abs=3)


@both
async def test_answers_to_admin_requests(
    autojump_clock: Clock, site: Site, honest: Peer, url: str
) -> None:
    peer = await site.peer(url)
    await peer.send(
        *[
            frames.Admin(number, "peek", {"stream": "long", "offset": 3})
            for number in range(1, 1001)
        ]
    )
    for _ in range(50):
        await trio.testing.wait_all_tasks_blocked()
        queued = outbox_of(site)._frames
        replies = [frame for frame, *_ in queued if isinstance(frame, frames.Reply)]
        assert sum(len(reply.result["batch"]) for reply in replies) <= 5 * MIB
    assert await until_dropped(peer) == pytest.approx(SEND_S, abs=3)


@both
async def test_acks(autojump_clock: Clock, url: str) -> None:
    """A request is under way until its ack is taken: so it runs out of requests, or of credit."""
    async with open_site(network=MemoryNetwork(capacity_bytes=4 * KIB)) as site:
        honest = await site.peer()
        peer = await site.peer(url)

        async def flood() -> None:
            await peer.send(*[peer.records([[b"x"]]) for _ in range(100)])
            assert len(outbox_of(site)._answers) <= 1024
            await trio.sleep(0.01)

        with trio.fail_after(60):
            await until_broken(flood)
        await honest.is_served()


async def test_pongs(autojump_clock: Clock) -> None:
    async with open_site(network=MemoryNetwork(capacity_bytes=256)) as site:
        peer = await site.peer()

        async def flood() -> None:
            await peer.send(*[frames.Ping(1)] * 20)
            assert not outbox_of(site)._frames
            await trio.sleep(0.1)

        with trio.fail_after(60):
            await until_broken(flood)


async def test_one_that_reads_slowly_but_steadily_stays(autojump_clock: Clock) -> None:
    """All that waits for it takes far longer than `send_s`; no single write does."""
    async with open_site({"session": {"idle_s": 600}}) as site:
        peer = await site.peer()
        await fill(peer)
        await peer.subscribe("long", credit=1 << 40)
        received = 0
        began = trio.current_time()
        # Some of it came with the answer.
        while received < 7 * MIB:
            data = await peer.stream.receive_some(64 * KIB)
            assert data, "it was dropped"
            received += len(data)
            await trio.sleep(0.5)
        assert trio.current_time() - began > 5 * SEND_S


async def test_the_client_is_told_nothing_after_half_a_frame(
    autojump_clock: Clock, site: Site, honest: Peer
) -> None:
    """A write that broke off is followed by the end, not by other bytes."""
    peer = await site.peer()
    await peer.subscribe("long", credit=1 << 40)
    await trio.sleep(SEND_S + 2)
    with trio.fail_after(5):
        await until_broken(partial(peer.expect, frames.Deliver))


async def test_a_reader_that_never_reads_holds_up_no_producer(autojump_clock: Clock) -> None:
    async with open_site() as site:
        stuck = await site.peer()
        await stuck.admin("stream", stream="s", create=True)
        await stuck.subscribe("s", credit=1 << 40)
        writer, reader = await site.peer(), await site.peer()
        await reader.subscribe("s", credit=1 << 40)
        got = 0

        async def read() -> None:
            nonlocal got
            while got < 40:
                got += len(await reader.delivered(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for _ in range(40):
                began = trio.current_time()
                assert isinstance(await writer.produce([bytes(100 * KIB)]), frames.Acks)
                assert trio.current_time() == began


# ----------------------------------------------------------------------------------- the outbox


def ready(outbox: Outbox, grant: Callable[[], int | None] = lambda: None) -> list[frames.Frame]:
    """What there is to take now."""

    async def take() -> list[frames.Frame]:
        found = await outbox.take(grant)
        assert found is not None
        return found

    return trio.run(take)


def test_what_is_taken_at_once_is_bounded() -> None:
    taken: list[int] = []
    outbox = Outbox(lambda: 4 * MIB, MIB, taken.append)
    for number in range(10):
        outbox.put(frames.Fetched(number, 0, 0, bytes(100 * KIB)), 100 * KIB, number)
    assert outbox.bytes == 1000 * KIB
    assert len(ready(outbox)) == 3
    assert taken == [0, 1, 2]
    assert outbox.bytes == 700 * KIB


def test_last_words_are_the_last() -> None:
    outbox = Outbox(lambda: MIB, MIB, lambda _: None)
    outbox.put(frames.Ping(1))
    outbox.pong(2)
    outbox.end_with(frames.Goodbye("", "last"))
    outbox.put(frames.Ping(3))
    outbox.pong(4)
    assert ready(outbox) == [frames.Goodbye("", "last")]

    async def take() -> None:
        assert await outbox.take(lambda: None) is None

    trio.run(take)


async def test_room_is_taken_before_it_is_filled(autojump_clock: Clock) -> None:
    outbox = Outbox(lambda: 100, MIB, lambda _: None)
    seen: list[int] = []

    async def fill() -> None:
        async with outbox.room(60):
            await trio.sleep(1)
            seen.append(outbox.bytes)
        outbox.put(frames.Ping(1), 60)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(fill)
        with trio.move_on_after(10):
            while True:
                await outbox.take(lambda: None)
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert len(seen) == 6
    assert max(seen) <= 160
    assert outbox.bytes == 0
