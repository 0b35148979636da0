"""Groups of one daemon: joining them, and what operators do to them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from streamer.stats import Gauge
from streamer.wire import frames
from streamer.wire.frames import Start, Verb
from tests.plugins.deliver.kit import (
    MOMENT_S,
    admin,
    group,
    member,
    offsets_of,
    opened,
    produce,
    records_of,
    tree,
    values_in,
)
from tests.site import UNIX, WS

Clock = trio.testing.MockClock

# --------------------------------------------------------------------------------------- joining


@pytest.mark.parametrize("url", [UNIX, WS])
async def test_a_join_makes_the_group(autojump_clock: Clock, url: str) -> None:
    async with opened() as site:
        one = await member(site, url=url, max_deliveries=3, backoff_s=[1.5])
        assert one.told["settings"] == {
            "mode": "shared",
            "order": "none",
            "ack_wait_s": 30.0,
            "lease_max_s": 3600.0,
            "max_deliveries": 3,
            "backoff_s": [1.5],
            "start": "earliest",
        }
        assert one.told["partitions"] == 1
        await produce(site, 3)
        lease = await one.one(3)
        assert (lease.partition, lease.attempt, lease.ranges, lease.whole) == (0, 1, [0, 3], True)
        assert [bytes(record.value) for record in records_of(lease)] == [b"0", b"1", b"2"]
        await one.ack(lease)
        found = await group(site)
        assert (found["members"], found["lag"], found["acked"]) == (1, 0, 3)
        assert [each["group"] for each in await admin(site, "groups")] == ["g"]


async def test_other_settings_are_a_conflict(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_deliveries=3)
        other = await member(site, max_deliveries=3)
        assert other.told["member"] != one.told["member"]
        failed = await other.join(max_deliveries=4)
        assert failed.code == "bad_request", "its number is in use"
        other.subscription = 2
        failed = await other.join(max_deliveries=4)
        assert (failed.code, failed.retryable) == ("group_conflict", False)
        assert "max_deliveries is 3, not 4" in failed.message
        assert await other.join() is None, "it has left nothing behind"
        assert (await group(site))["members"] == 3


async def test_a_group_begins_where_it_is_told_to(autojump_clock: Clock) -> None:
    async with opened() as site:
        await produce(site, 10)
        early = await member(site, group="early")
        late = await member(site, group="late", start="latest")
        await produce(site, 5, first=10)
        assert offsets_of(*await early.look()) == [*range(15)]
        assert offsets_of(*await late.look()) == [*range(10, 15)]
        assert (await group(site, name="late"))["lag"] == 5


@pytest.mark.parametrize(
    ("stream", "name", "code"),
    [
        ("__groups", "g", "not_allowed"),
        ("s", "$dead", "bad_request"),
        ("s", "", "bad_request"),
        ("s" * 198, "g", "not_allowed"),
        ("a/b", "g", "bad_request"),
    ],
)
async def test_what_cannot_be_a_group(
    autojump_clock: Clock, stream: str, name: str, code: str
) -> None:
    async with opened() as site:
        one = await member(site)
        one.stream, one.group, one.subscription = stream, name, 2
        failed = await one.join()
        assert isinstance(failed, frames.Failed), failed
        assert failed.code == code
        made = await admin(site, "group_create", stream=stream, group=name, settings={})
        assert made.code == code


async def test_bounds_of_groups_and_members(autojump_clock: Clock) -> None:
    settings = tree(deliver={"groups_max": 1, "members_max": 2})
    async with opened(tree=settings) as site:
        one = await member(site)
        one.group, one.subscription = "h", 2
        assert (await one.join()).code == "not_allowed"
        two = await member(site)
        three = await site.peer()
        await three.send(frames.Join(1, 1, "s", "g", {}))
        assert (await three.expect(frames.Failed)).code == "not_allowed"
        await two.leave()
        await three.send(frames.Join(2, 1, "s", "g", {}))
        await three.expect(frames.Reply)


async def test_subscriptions_of_a_session_are_bounded(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site)
        for number in range(2, 101):
            one.subscription = number
            assert await one.join() is None
        one.subscription = 101
        assert (await one.join()).code == "not_allowed"
        one.subscription = 50
        await one.leave()
        one.subscription = 101
        assert await one.join() is None


async def test_a_session_that_goes_before_its_join_is_answered(autojump_clock: Clock) -> None:
    async with opened() as site:
        peer = await site.peer()
        await peer.send(frames.Join(1, 1, "s", "g", {}))
        peer.stream.reset()
        await trio.sleep(MOMENT_S)
        assert all(not found["members"] for found in await admin(site, "groups"))


async def test_unsubscribed_before_the_join_is_answered(autojump_clock: Clock) -> None:
    async with opened() as site:
        await produce(site, 10)
        peer = await site.peer()
        await peer.send(frames.Join(1, 1, "s", "g", {}), frames.Unsubscribe(1))
        await peer.expect(frames.Reply)
        await trio.sleep(MOMENT_S)
        found = await group(site)
        assert (found["members"], found["in_flight"]) == (0, 0)
        await peer.send(frames.Join(2, 1, "s", "g", {}))
        await peer.expect(frames.Reply)


# --------------------------------------------------------------------------- operators' verbs


async def test_pause_and_resume(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_in_flight=10)
        await produce(site, 20)
        lease = await one.one(10)
        assert await admin(site, "group_pause", stream="s", group="g") == {}
        assert (await group(site))["paused"]
        # What is out can be settled.
        assert await one.settle([Verb.ACK, lease.token, [0, 5]]) == {}
        assert await one.settle([Verb.NACK, lease.token, [5, 10], 0, ""]) == {}
        assert await one.look(100.0) == []
        assert await admin(site, "group_resume", stream="s", group="g") == {}
        (again, *_) = await one.look()
        assert (again.ranges, again.attempt) == ([5, 10], 2)


async def test_leases_that_run_out_while_paused(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, ack_wait_s=5.0, backoff_s=[0.1])
        await produce(site, 1)
        lease = await one.one()
        await admin(site, "group_pause", stream="s", group="g")
        assert await one.look(20.0) == []
        assert await one.settle([Verb.ACK, lease.token]) == {0: "lease_lost"}
        await admin(site, "group_resume", stream="s", group="g")
        assert (await one.one()).attempt == 2


@pytest.mark.parametrize("mode", ["shared", "ordered"])
async def test_seek(autojump_clock: Clock, mode: str) -> None:
    async with opened() as site:
        one = await member(site, mode=mode)
        await produce(site, 30)
        leases = await one.take(30)
        await one.ack(leases[0], leases[1])
        back = await admin(
            site, "group_seek", stream="s", group="g", start=int(Start.OFFSET), value=5
        )
        assert back == {"partitions": {"0": 5}}
        again = await one.take(25)
        assert offsets_of(*again) == [*range(5, 30)]
        assert await one.settle([Verb.ACK, leases[2].token]) == {0: "lease_lost"}
        if mode == "ordered":
            assert [revoke.lost for revoke in one.revoked] == [True]
            assert leases[2].token == one.revoked[0].token
        await admin(site, "group_seek", stream="s", group="g", start=int(Start.LATEST))
        assert (await group(site))["lag"] == 0
        await produce(site, 1, first=30)
        assert offsets_of(*await one.take()) == [30]


async def test_a_seek_to_where_nothing_is(autojump_clock: Clock) -> None:
    async with opened() as site:
        await member(site)
        await produce(site, 5)
        failed = await admin(site, "group_seek", stream="s", group="g", start=0, value=6)
        assert failed.code == "offset_out_of_range"
        failed = await admin(site, "group_seek", stream="s", group="g", start=9)
        assert failed.code == "bad_request"
        failed = await admin(
            site, "group_seek", stream="s", group="g", start=2, all=False, partition=1
        )
        assert failed.code == "unknown_partition"


async def test_delete_tells_the_members(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site)
        await produce(site, 10)
        await one.one(10)
        assert await admin(site, "group_delete", stream="s", group="g") == {}
        await one.is_there()
        assert one.ended is not None
        assert (one.ended.subscription, one.ended.code) == (1, "unknown_group")
        assert (await group(site)).code == "unknown_group"
        assert await admin(site, "groups") == []
        # The name is free, and stands for another group.
        assert await one.join(mode="ordered") is None
        assert offsets_of(await one.one(10)) == [*range(10)]


async def test_made_and_deleted_at_once(autojump_clock: Clock) -> None:
    async with opened() as site:
        peer, names = await site.peer(), {"stream": "s", "group": "g"}
        for number in range(20):
            await peer.send(
                frames.Admin(3 * number, "group_create", {**names, "settings": {}}),
                frames.Admin(3 * number + 1, "group_delete", names),
                frames.Join(3 * number + 2, number, "s", "g", {}),
            )
        answers = 0
        with trio.fail_after(10):
            while answers < 60:
                answers += not isinstance(await peer.receive(), frames.Ended)
        await peer.send(frames.Ping(1))
        while not isinstance(await peer.receive(), frames.Pong):
            pass


async def test_edit(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, ack_wait_s=100.0)
        settings = {"ack_wait_s": 5.0, "max_deliveries": 1}
        assert await admin(site, "group_edit", stream="s", group="g", settings=settings) == {}
        await produce(site, 1)
        await one.one()
        await trio.sleep(6.0)
        assert await values_in(site, "s.dead") == [b"0"]
        failed = await admin(site, "group_edit", stream="s", group="g", settings={"mode": "x"})
        assert failed.code == "bad_request"
        assert (await group(site))["settings"]["ack_wait_s"] == 5.0


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("group", {}),
        ("group_edit", {"settings": {}}),
        ("group_pause", {}),
        ("group_resume", {}),
        ("group_delete", {}),
        ("group_seek", {"start": 2}),
    ],
)
async def test_verbs_on_no_group(autojump_clock: Clock, verb: str, more: dict[str, Any]) -> None:
    async with opened() as site:
        await member(site)
        failed = await admin(site, verb, stream="s", group="other", **more)
        assert failed.code == "unknown_group"
        assert "its groups are ['g']" in failed.message


async def test_lag_in_records_and_age(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_in_flight=10, ack_wait_s=100.0)
        await produce(site, 10)
        await trio.sleep(50.0)
        await produce(site, 10, first=10)
        (place,) = await admin(site, "lag", stream="s")
        assert (place["lag"], place["in_flight"]) == (20, 10)
        assert 50.0 <= place["oldest_age_s"] <= 51.0
        await one.ack(*await one.take(10))
        (place,) = await admin(site, "lag")
        assert (place["cursor"], place["lag"]) == (10, 10)
        assert place["oldest_age_s"] <= 1.0
        await one.ack(*await one.take(10))
        (place,) = await admin(site, "lag")
        assert (place["lag"], place["oldest_age_s"]) == (0, None)
        assert (await admin(site, "lag", stream="other")).code == "unknown_stream"


async def test_the_age_of_a_lag_is_a_gauge_and_reads_nothing(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, ack_wait_s=100.0)

        def age_s() -> float:
            [gauge] = [m for m in site.daemon.stats.metrics() if m.name == "group_lag_age_seconds"]
            assert isinstance(gauge.value, Gauge)
            return gauge.value.read()

        assert age_s() == 0.0
        await produce(site, 10)
        await trio.sleep(20.0)
        # The daemon looks at its groups about once a second.
        assert 19.0 <= age_s() <= 21.0
        await produce(site, 10, first=10)
        taken = await one.take(20)
        await one.ack(taken[0])
        await trio.sleep(5.0)
        assert 4.0 <= age_s() <= 6.0
        await one.ack(*taken[1:])
        assert age_s() == 0.0
