"""Which appends a session has traced: by the verb, by headers, and by what a `Trace` frame says."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from streamer.wire import frames
from tests.site import Peer, Site, open_site

Clock = trio.testing.MockClock

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
PLACES = ("ingest", "propose", "persist", "ack")


async def traces(peer: Peer, **args: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await peer.admin("traces", **args))["traces"]
    return found


async def test_the_welcome_tells_how_many_are_followed(autojump_clock: Clock) -> None:
    async with open_site({"trace": {"per_second": 3}}) as site:
        assert (await site.peer()).welcome.limits["traces"] == 3
    async with open_site({"trace": {"per_second": 0}}) as site:
        assert (await site.peer()).welcome.limits["traces"] == 0


async def test_an_armed_append_passes_all_places(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    assert await peer.admin("trace_next", stream="s*", count=2) == {"armed": 2}
    await peer.produce([b"a", b"b"])
    await peer.send(peer.records([[b"c"]]))
    await peer.expect(frames.Acks)
    await peer.produce([b"d"])
    first, second = await traces(peer)
    assert (first["offset"], first["records"], first["parent_id"]) == (0, 2, None)
    assert (second["offset"], second["records"]) == (2, 1)
    for trace in (first, second):
        assert (trace["outcome"], trace["session"], trace["partition"]) == ("synced", "peer", 0)
        names = [(span["name"], span["kind"]) for span in trace["spans"]]
        assert set(names) >= {
            (f"default/{place}", kind) for place in PLACES for kind in ("queueing", "service")
        }
        assert len(names) == len(set(names))
        assert all(0 <= span["start_s"] <= span["end_s"] for span in trace["spans"])


async def test_what_is_armed_is_taken_back(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.admin("trace_next", stream="s", count=2)
    assert await peer.admin("trace_next", stream="s", count=0) == {"armed": 0}
    await peer.produce([b"a"])
    assert await traces(peer) == []


async def test_records_say_it_by_their_headers(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    rows = [[b"a"], [b"b", None, None, {"traceparent": PARENT.encode()}], [b"c"]]
    await peer.send(peer.records(rows))
    await peer.receive()
    [trace] = await traces(peer)
    assert (trace["trace_id"], trace["parent_id"]) == (TRACE, "00f067aa0ba902b7")
    assert (trace["offset"], trace["records"]) == (1, 3)


async def test_of_a_batch_a_frame_says_it(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    batch = peer.batch([b"a", b"b", b"c"])
    await peer.send(frames.Trace(batch.request, [[2, PARENT], [0, "nonsense"], [9, PARENT]]), batch)
    await peer.expect(frames.Acks)
    [trace] = await traces(peer)
    assert (trace["trace_id"], trace["offset"], trace["records"]) == (TRACE, 2, 3)
    # It was about that batch, and about no other.
    await peer.produce([b"d"])
    assert len(await traces(peer)) == 1


@pytest.mark.parametrize("number", [0, 77])
async def test_a_frame_about_another_request_has_no_effect(
    autojump_clock: Clock, site: Site, number: int
) -> None:
    peer = await site.peer()
    batch = peer.batch([b"a"])
    await peer.send(frames.Trace(number, [[0, PARENT]]), batch)
    await peer.expect(frames.Acks)
    await peer.send(frames.Trace(batch.request, [[0, PARENT]]))
    await peer.is_served()
    assert await traces(peer) == []


async def test_more_than_are_followed_are_appended_all_the_same(autojump_clock: Clock) -> None:
    async with open_site({"trace": {"per_second": 2}}) as site:
        peer = await site.peer()
        for _ in range(5):
            batch = peer.batch([b"a"])
            await peer.send(frames.Trace(batch.request, [[0, PARENT]]), batch)
            await peer.expect(frames.Acks)
        assert len(await traces(peer)) == 2
        assert site.count("traces_skipped") == 3


async def test_an_append_that_is_refused(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.admin("trace_next", stream="s")
    failed = await peer.produce([b"a"], expected=5)
    assert isinstance(failed, frames.Failed)
    [trace] = await traces(peer)
    assert (trace["outcome"], trace["offset"]) == ("offset_conflict", None)
    assert "expected offset 5" in trace["error"]
    assert site.daemon.tracer.deliveries.watched == {}


async def test_waiting_for_a_trace(autojump_clock: Clock, site: Site) -> None:
    peer, other = await site.peer(), await site.peer()
    newest = (await peer.admin("traces", limit=0))["next"]
    await peer.admin("trace_next", stream="s")
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            [trace] = await traces(peer, after=newest, wait_ms=10_000)
            assert trace["offset"] == 0
            assert trio.current_time() - began == pytest.approx(2, abs=0.5)

        await trio.sleep(2)
        await other.produce([b"a"])


async def test_by_chance(autojump_clock: Clock) -> None:
    async with open_site({"trace": {"sample": 1.0, "per_second": 100}}) as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        await peer.send(peer.records([[b"b"]]))
        await peer.expect(frames.Acks)
        assert len(await traces(peer)) == 2
