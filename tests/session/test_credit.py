"""Credit: an honest client never exceeds it, and whoever does is sent away."""

from __future__ import annotations

import random
from contextlib import suppress

import trio
import trio.testing

from streamer.config_trace import TraceConfig
from streamer.limits import KIB, BatchLimits, WireLimits
from streamer.session.service import WINDOW_BYTES_MIN, Budget
from streamer.wire import frames
from streamer.wire.credit import SendWindow
from tests.site import Peer, Site, open_site
from tests.stages import Valve

Clock = trio.testing.MockClock


async def test_the_welcome_tells_all_limits(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    expected = {}
    for limits in (WireLimits(), BatchLimits()):
        expected.update({name: getattr(limits, name) for name in limits.__annotations__})
    assert peer.welcome.limits == expected | {"traces": TraceConfig().per_second}
    assert peer.welcome.credit == WireLimits().window_bytes


async def test_an_honest_client_never_exceeds_its_credit(autojump_clock: Clock) -> None:
    """Whatever it sends, in whatever pieces, through windows that fill up all the time."""
    async with open_site({"session": {"window_bytes": 64 * KIB}}) as site:
        peer = await site.peer()
        window = SendWindow(peer.welcome.credit)
        answered, waited = 0, 0
        total = 600
        for number in range(total):
            while not window.open:
                waited += 1
                frame = await peer.expect(frames.Acks)
                window.raise_limit(frame.credit)
                answered += len(frame.acks)
            request = peer.batch([bytes([number % 256]) * 3, bytes(range(256)) * (number % 9)])
            window.spend(len(frames.encode(request)))
            await peer.send(request)
        while answered < total:
            answered += len((await peer.expect(frames.Acks)).acks)
        assert waited
        await peer.is_served()


async def test_exceeding_the_credit_ends_the_session(autojump_clock: Clock) -> None:
    async with open_site({"session": {"window_bytes": 64 * KIB}}) as site:
        honest = await site.peer()
        greedy = await site.peer()
        noise = random.Random(1).randbytes(30 * KIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_without_credit, greedy, noise)
            last = await greedy.fatal()
        assert last.code == "credit_exceeded"
        assert "bytes used, granted were" in last.message
        await honest.is_served()


async def send_without_credit(peer: Peer, noise: bytes) -> None:
    requests = [peer.batch([noise]) for _ in range(20)]
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await peer.send(*requests)


def test_windows_shrink_when_the_budget_is_short() -> None:
    budget = Budget(1024 * KIB)
    budget.sessions = 2
    assert budget.window(512 * KIB) == 512 * KIB
    budget.under_way = 512 * KIB
    assert budget.window(512 * KIB) == 512 * KIB
    budget.under_way = 768 * KIB
    assert budget.window(512 * KIB) == 128 * KIB
    budget.under_way = 2048 * KIB
    assert budget.window(512 * KIB) == WINDOW_BYTES_MIN


def test_many_idle_sessions_are_not_promised_more_than_there_is() -> None:
    budget = Budget(1024 * KIB)
    budget.sessions = 8
    assert budget.window(512 * KIB) == 128 * KIB
    budget.sessions = 1000
    assert budget.window(512 * KIB) == WINDOW_BYTES_MIN


async def test_sessions_share_the_budget(autojump_clock: Clock) -> None:
    """What all sessions have under way stays near the budget, however many send at once."""
    limits = {"window_bytes": 256 * KIB, "budget_bytes": 512 * KIB}
    async with open_site({"session": limits}) as site:
        peers = [await site.peer() for _ in range(12)]
        assert peers[0].welcome.credit == 256 * KIB
        assert peers[-1].welcome.credit == WINDOW_BYTES_MIN
        seen = 0

        async def produce(peer: Peer) -> None:
            nonlocal seen
            window = SendWindow(peer.welcome.credit)
            left = 40
            under_way = 0
            while left or under_way:
                while left and window.open:
                    request = peer.batch([bytes(8 * KIB)])
                    window.spend(len(frames.encode(request)))
                    await peer.send(request)
                    left, under_way = left - 1, under_way + 1
                    seen = max(seen, site.budget.under_way)
                frame = await peer.expect(frames.Acks)
                window.raise_limit(frame.credit)
                under_way -= len(frame.acks)

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(produce, peer)
        assert 0 < seen < 2 * 512 * KIB
        assert site.budget.under_way == 0


async def test_tiny_records_are_charged_with_what_they_take(autojump_clock: Clock) -> None:
    """Two bytes on the wire are some hundreds in memory: credit alone bounds nothing."""
    valve = Valve("persist")
    tree = {
        **valve.tree,
        "session": {"window_bytes": 256 * KIB, "budget_bytes": 256 * KIB, "idle_s": 3600},
    }
    async with open_site(tree, registry=valve.registry) as site:
        honest, peer = await site.peer(), await site.peer()
        await honest.is_served()
        valve.shut()
        # What is alone passes, whatever it takes.
        await peer.send(*[peer.records([[b""]] * 4096) for _ in range(8)])
        for _ in range(7):
            failed = await peer.expect(frames.Failed)
            assert (failed.code, failed.retryable, failed.fatal) == ("overloaded", True, False)
        valve.open()
        await peer.expect(frames.Acks)
        await honest.is_served()
        assert site.budget.under_way == 0


async def test_credit_comes_back_when_a_stalled_pipeline_goes_on(autojump_clock: Clock) -> None:
    """A client that has used up its credit while windows were short is told as soon as its
    requests are answered."""
    limits = {"window_bytes": 128 * KIB, "budget_bytes": 128 * KIB}
    async with open_site({"session": limits}) as site:
        first, second = await site.peer(), await site.peer()
        for peer in (first, second):
            window = SendWindow(peer.welcome.credit)
            under_way = 0
            for _ in range(50):
                while not window.open:
                    frame = await peer.expect(frames.Acks)
                    window.raise_limit(frame.credit)
                    under_way -= len(frame.acks)
                request = peer.batch([bytes(range(256)) * 40])
                window.spend(len(frames.encode(request)))
                await peer.send(request)
                under_way += 1
            while under_way:
                under_way -= len((await peer.expect(frames.Acks)).acks)
