"""What becomes of a traced record in groups, as its trace tells it."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from streamer.wire.frames import Verb
from tests.plugins.deliver.kit import (
    MOMENT_S,
    admin,
    member,
    opened,
    produce,
    produce_records,
    tree,
)
from tests.site import Site, passing_us

Clock = trio.testing.MockClock

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def arm(site: Site, stream: str = "s") -> None:
    await admin(site, "trace_next", stream=stream)


async def spans(site: Site, *kinds: str) -> list[tuple[Any, ...]]:
    """(name, kind, seconds it took, attempt, outcome) of those after the answer."""
    found = await admin(site, "traces")
    [trace] = found["traces"]
    return [
        (
            each["name"].removeprefix("deliver/s/"),
            each["kind"],
            round(each["end_s"] - each["start_s"]),
            each["facts"].get("attempt"),
            each["facts"].get("outcome"),
        )
        for each in trace["spans"]
        if each["kind"] in (kinds or ("delivery", "handling"))
    ]


async def test_attempts_until_it_is_done(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, backoff_s=[10.0])
        await arm(site)
        await produce(site, 1)
        lease = await one.one()
        await trio.sleep(3)
        await one.settle([Verb.EXTEND, lease.token])
        await one.settle([Verb.NACK, lease.token])
        lease = await one.one()
        await trio.sleep(2)
        await one.ack(lease)
        [first, handled, again, done] = await spans(site)
        assert first == ("g", "delivery", 0, 1, None)
        assert handled == ("g", "handling", 3, 1, "nack")
        assert again[:2] == ("g", "delivery")
        assert 7 <= again[2] <= 13
        assert done == ("g", "handling", 2, 2, "ack")


async def test_each_group_and_only_the_record_that_is_followed(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, batch_records=1, max_in_flight=1)
        await produce(site, 3)
        await arm(site)
        await produce(site, 3, first=3)
        for number in range(6):
            lease = await one.one()
            assert lease.ranges[0] == number
            await trio.sleep(1)
            await one.ack(lease)
        other = await member(site, group="h")
        before, lease = await other.take(6)
        # Part by part: it is the one at offset 3.
        await other.settle([Verb.ACK, before.token], [Verb.ACK, lease.token, [4, 6]])
        await trio.sleep(1)
        await other.settle([Verb.TERM, lease.token, [3, 4]])
        assert await spans(site) == [
            ("g", "delivery", 3, 1, None),
            ("h", "delivery", 6, 1, None),
            ("g", "handling", 1, 1, "ack"),
            ("h", "handling", 1, 1, "term"),
        ]


async def test_a_lease_that_runs_out_and_members_that_go(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, ack_wait_s=5.0, backoff_s=[1.0])
        await arm(site)
        await produce(site, 1)
        await one.one()
        await one.one()
        await one.leave()
        two = await member(site)
        await two.one()
        await two.break_off()
        outcomes = [each[3:] for each in await spans(site, "handling")]
        assert outcomes == [(1, "lost"), (2, "release"), (2, "lost")]


async def test_an_ordered_group_takes_back_what_is_behind(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, mode="ordered", backoff_s=[1.0])
        await produce(site, 1)
        await arm(site)
        await produce(site, 1, first=1)
        first, second = await one.take(2)
        assert second.ranges == [1, 2]
        await one.settle([Verb.NACK, first.token])
        leases = await one.take(2)
        await one.ack(*leases)
        outcomes = [each[4] for each in await spans(site, "handling")]
        assert outcomes == ["lost", "ack"]
        assert not site.daemon.tracer.deliveries.holding


async def test_it_goes_on_where_the_daemon_moves_the_record(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_deliveries=1)
        headers = {"traceparent": PARENT.encode()}
        due_us = passing_us() + 5_000_000
        await produce_records(site, [[b"x", None, None, headers, due_us]], "s.delayed")
        lease = await one.one()
        await one.settle([Verb.NACK, lease.token])
        await trio.sleep(MOMENT_S)
        traces = (await admin(site, "traces", id=PARENT[3:35]))["traces"]
        assert [(each["stream"], each["session"]) for each in traces] == [
            ("s.delayed", "peer"),
            ("s", "streamer"),
            ("s.dead", "streamer"),
        ]
        kinds = [each["kind"] for each in traces[1]["spans"]]
        assert kinds[-2:] == ["delivery", "handling"]
        assert {each["parent_id"] for each in traces} == {PARENT[36:52]}


async def test_without_a_trace_nothing_is_kept(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site)
        await produce(site, 5)
        await one.ack(await one.one(5))
        deliveries = site.daemon.tracer.deliveries
        assert (deliveries.watched, deliveries.holding) == ({}, False)


async def test_a_reader(autojump_clock: Clock) -> None:
    async with opened() as site:
        peer = await site.peer()
        await produce(site, 1)
        await peer.subscribe()
        await peer.delivered(1)
        await arm(site)
        await trio.sleep(MOMENT_S)
        await produce(site, 1, first=1)
        await peer.delivered(1)
        found = await admin(site, "traces")
        [span] = [each for each in found["traces"][0]["spans"] if each["kind"] == "read"]
        assert (span["name"], span["facts"]) == ("read/s", {"reader": "peer"})


async def test_not_for_longer_than_it_is_watched_for(autojump_clock: Clock) -> None:
    async with opened(tree=tree(trace={"keep_s": 5.0})) as site:
        await arm(site)
        await produce(site, 1)
        await trio.sleep(6)
        one = await member(site)
        await one.ack(await one.one())
        assert await spans(site) == []
