"""How sessions begin, live on and end: greeting, signs of life, goodbyes, and going down."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from streamer.errors import ConnectionFailed
from streamer.transport import wrap_websocket
from streamer.wire import frames
from streamer.wire.frames import Start
from tests.site import UNIX, WS, Peer, Site, open_site, until_closed
from tests.stages import Valve

Clock = trio.testing.MockClock
both = pytest.mark.parametrize("url", [UNIX, WS])


# ------------------------------------------------------------------------------- signs of life


@both
async def test_pings_are_answered(autojump_clock: Clock, site: Site, url: str) -> None:
    peer = await site.peer(url)
    await peer.send(frames.Ping(5))
    assert await peer.receive() == frames.Pong(5)


async def test_of_many_pings_the_last_is_answered(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.send(*[frames.Ping(number) for number in range(1000)])
    tokens: list[int] = []
    while not tokens or tokens[-1] != 999:
        tokens.append((await peer.expect(frames.Pong)).token)
    assert len(tokens) < 10


@both
async def test_a_silent_peer_is_asked_and_stays_if_it_answers(
    autojump_clock: Clock, site: Site, url: str
) -> None:
    peer = await site.peer(url)
    for _ in range(5):
        began = trio.current_time()
        ping = await peer.expect(frames.Ping)
        assert trio.current_time() - began == pytest.approx(60)
        await peer.send(frames.Pong(ping.token))
    await peer.is_served()


@both
async def test_a_silent_peer_that_does_not_answer_is_dropped(
    autojump_clock: Clock, site: Site, url: str
) -> None:
    peer = await site.peer(url)
    began = trio.current_time()
    last = await peer.fatal()
    assert (last.code, last.message) == (
        "too_slow",
        "silent for 60.0 s, and no answer to a ping",
    )
    assert trio.current_time() - began == pytest.approx(65)
    await trio.sleep(3)
    assert site.sessions == 0


async def test_whoever_says_something_is_not_silent(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    for _ in range(10):
        await trio.sleep(50)
        await peer.is_served()


# -------------------------------------------------------------------------------------- goodbye


@both
async def test_a_client_says_goodbye(autojump_clock: Clock, site: Site, url: str) -> None:
    peer = await site.peer(url)
    await peer.send(peer.batch([b"a"]), frames.Goodbye("done", ""))
    kinds = [type(frame) for frame in await peer.ended()]
    assert sorted(kinds, key=str) == [frames.Acks, frames.Goodbye]
    await trio.sleep(2)
    assert site.sessions == 0
    assert site.count("sessions_failed") == 0


async def test_goodbye_waits_for_what_is_under_way(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        await peer.send(peer.batch([b"a"]), peer.batch([b"b"]), frames.Goodbye("done", ""))
        await peer.expect(frames.Goodbye)
        with trio.move_on_after(20) as scope:
            await peer.receive()
        assert scope.cancelled_caught
        valve.open()
        acks = [frame for frame in await peer.ended() if isinstance(frame, frames.Acks)]
        assert sum(len(frame.acks) for frame in acks) == 2


async def test_goodbye_does_not_wait_for_a_backlog(autojump_clock: Clock) -> None:
    """What a subscription has still to deliver holds nothing up: only what is queued comes."""
    async with open_site({"session": {"send_queue_bytes": 1_200_000}}) as site:
        peer = await site.peer()
        rng = random.Random(1)
        for _ in range(16):
            await peer.produce([rng.randbytes(512 * 1024)])
        await peer.subscribe(credit=1 << 40)
        await peer.expect(frames.Deliver)
        await peer.send(frames.Goodbye("done", ""))
        *delivered, last = await peer.ended()
        assert isinstance(last, frames.Goodbye)
        assert len(delivered) <= 5


# ----------------------------------------------------------------------------------- going down


@both
async def test_an_idle_session_is_told_and_closed(autojump_clock: Clock, url: str) -> None:
    async with open_site() as site:
        peer = await site.peer(url)
        began = trio.current_time()
        await site.stop()
        assert list(await peer.ended()) == [frames.Goodbye("draining", "the daemon is going down")]
        assert trio.current_time() - began < 2
        with pytest.raises(ConnectionFailed):
            site.network.connect(url)


@both
async def test_requests_under_way_are_answered(autojump_clock: Clock, url: str) -> None:
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer(url)
        valve.shut()
        await peer.send(*[peer.batch([b"%d" % n]) for n in range(10)])
        await trio.testing.wait_all_tasks_blocked()
        site.daemon.stop()
        await peer.expect(frames.Goodbye)
        # What crosses the goodbye is refused, and that is said.
        late = frames.encode(peer.batch([b"late"]))
        asked = frames.encode(frames.Admin(77, "streams", {}))
        subscribed = frames.encode(frames.Subscribe(78, 1, "s", 0, Start.EARLIEST, 0, 5))
        fetched = frames.encode(frames.Fetch(79, "s", 0, Start.EARLIEST, 0, 5))
        await peer.transport.send_all([late, asked, subscribed, fetched])
        for _ in range(4):
            refused = await peer.expect(frames.Failed)
            assert (refused.code, refused.retryable, refused.fatal) == ("draining", True, False)
        valve.open()
        acked = [ack for frame in await peer.ended() for ack in frame.acks]  # type: ignore[attr-defined]
        assert [ack[0] for ack in acked] == list(range(1, 11))
        await site.ended.wait()


async def test_a_budget_that_is_used_up_cuts_off(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        await peer.send(peer.batch([b"a"]))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await site.stop()
        # Half for the sessions, four tenths for the pipelines, the rest for the logs.
        assert trio.current_time() - began == pytest.approx(9, abs=0.5)
        assert [type(frame) for frame in await peer.ended()] == [frames.Goodbye]
    assert site.logged("sessions cut off", sessions=1)
    assert site.logged("pipeline cut off", pipeline="default")


async def test_a_peer_that_does_not_read_is_cut_off(autojump_clock: Clock) -> None:
    async with open_site() as site:
        peer = await site.peer()
        for _ in range(10):
            await peer.produce([bytes(range(256)) * 200])
        await peer.subscribe(credit=1 << 40)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await site.stop()
        assert trio.current_time() - began < 10


async def test_peers_that_have_not_greeted_are_told_or_closed(autojump_clock: Clock) -> None:
    async with open_site() as site:
        raw = await site.peer(greet=False)
        silent = site.network.connect(WS)
        halfway = site.network.connect(WS)
        await halfway.send_all(b"GET / HTTP/1.1\r\n")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        site.daemon.stop()
        await raw.send(frames.Hello([1], "late"))
        kinds = [type(frame) for frame in await raw.ended()]
        assert kinds == [frames.Welcome, frames.Goodbye]
        await site.ended.wait()
        assert trio.current_time() - began < 6
        for stream in (silent, halfway):
            await until_closed(stream)


async def test_a_websocket_that_opens_while_it_goes_down(autojump_clock: Clock) -> None:
    async with open_site() as site:
        peer = await site.peer(greet=False)
        stream = site.network.connect(WS)
        await trio.testing.wait_all_tasks_blocked()
        site.daemon.stop()
        await trio.testing.wait_all_tasks_blocked()
        late = Peer(await wrap_websocket(site.nursery, stream, 1 << 21, host="daemon"), stream)
        for one in (late, peer):
            await one.send(frames.Hello([1], "late"))
            assert [type(frame) for frame in await one.ended()] == [frames.Welcome, frames.Goodbye]
        await site.ended.wait()


async def test_a_session_that_breaks_during_the_drain_holds_nothing_up(
    autojump_clock: Clock,
) -> None:
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        await peer.send(peer.batch([b"a"]))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        site.daemon.stop()
        await peer.expect(frames.Goodbye)
        peer.stream.reset()
        await trio.testing.wait_all_tasks_blocked()
        valve.open()
        await site.ended.wait()
        assert trio.current_time() - began < 1


async def test_both_say_goodbye_at_once(autojump_clock: Clock) -> None:
    async with open_site() as site:
        peer: Peer = await site.peer()
        site.daemon.stop()
        await peer.send(frames.Goodbye("done", ""))
        assert {type(frame) for frame in await peer.ended()} == {frames.Goodbye}
        await site.ended.wait()


async def test_the_real_client_comes_back_to_another_daemon(autojump_clock: Clock) -> None:
    """A goodbye is no error for who has nothing under way: it connects again."""
    async with open_site() as site, site.client() as client:
        async with client.producer("s") as producer:
            await producer.send(b"before")
            for session in list(site.daemon.sessions._open):  # type: ignore[union-attr]
                site.nursery.start_soon(session.drain)
            await trio.sleep(5)
            await producer.send(b"after")
        assert (await client.stream("s")).partitions[0].high_water == 2
