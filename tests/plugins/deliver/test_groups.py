"""Groups of one daemon: who gets what, who is told what, and what operators do to them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from streamer.limits import KIB
from streamer.wire import frames
from streamer.wire.frames import Start, Verb
from tests.plugins.deliver.kit import (
    MOMENT_S,
    TREE,
    admin,
    count_of,
    drained,
    group,
    member,
    offsets_of,
    opened,
    produce,
    produce_records,
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


# ------------------------------------------------------------------------------------ shared


async def test_members_share(autojump_clock: Clock) -> None:
    async with opened() as site:
        members = [await member(site, max_in_flight=20) for _ in range(3)]
        await produce(site, 300)
        counts: Counter[int] = Counter()
        seen: list[int] = []
        while len(seen) < 300:
            for number, each in enumerate(members):
                leases = await each.look(0.01)
                counts[number] += sum(map(count_of, leases))
                seen += offsets_of(*leases)
                if leases:
                    await each.ack(*leases)
        assert sorted(seen) == [*range(300)]
        assert all(80 <= count <= 120 for count in counts.values())


async def test_the_last_batch_is_split(autojump_clock: Clock) -> None:
    async with opened() as site:
        members = [await member(site) for _ in range(4)]
        await produce(site, 100, batch=100)
        found = [await each.look() for each in members]
        assert [sum(map(count_of, leases)) for leases in found] == [25] * 4
        assert sorted(offset for leases in found for offset in offsets_of(*leases)) == [*range(100)]
        values = {bytes(record.value) for (lease,) in found for record in records_of(lease)}
        assert values == {b"%d" % number for number in range(100)}


async def test_a_large_batch_is_cut_for_each(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, batch_records=3, max_in_flight=10)
        await produce(site, 100, batch=100, size=1000)
        leases = await one.look()
        assert [lease.ranges for lease in leases] == [[0, 3], [3, 6], [6, 9], [9, 10]]
        assert not any(lease.whole for lease in leases)
        assert sum(len(lease.batch) for lease in leases) < 20 * KIB
        await one.ack(leases[1])
        (more,) = await one.look()
        assert more.ranges == [10, 13]
        numbers = [bytes(record.value).split(b".")[0] for record in records_of(more)]
        assert numbers == [b"10", b"11", b"12"]


async def test_bytes_in_flight_are_bounded(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_in_flight_bytes=1)
        await produce(site, 20)
        (lease,) = await one.look()
        assert lease.ranges == [0, 10]
        await one.ack(lease)
        assert (await one.one(10)).ranges == [10, 20]


async def test_the_order_of_keys(autojump_clock: Clock) -> None:
    async with opened() as site:
        one, two = [await member(site, order="key", batch_records=1) for _ in range(2)]
        rows = [[b"%d" % number, b"k%d" % (number % 3)] for number in range(12)]
        await produce_records(site, rows)
        first = [*await one.look(), *await two.look()]
        assert len({records_of(lease)[0].key for lease in first}) == len(first) == 3
        # One key after the other, whoever has it.
        seen: dict[bytes | None, list[int]] = {}
        for each in (one, two):
            for lease in first:
                if await each.settle([Verb.ACK, lease.token]) == {}:
                    (record,) = records_of(lease)
                    seen.setdefault(record.key, []).append(int(record.value))
        while sum(map(len, seen.values())) < 12:
            for each in (one, two):
                for lease in await each.look(0.05):
                    (record,) = records_of(lease)
                    seen.setdefault(record.key, []).append(int(record.value))
                    await each.ack(lease)
        assert all(numbers == sorted(numbers) for numbers in seen.values())


async def test_a_key_that_is_out_holds_up_no_other(autojump_clock: Clock) -> None:
    async with opened() as site:
        slow, quick = [await member(site, order="key", batch_records=1) for _ in range(2)]
        for number in range(6):
            await produce_records(site, [[b"%d" % number, b"slow"]])
        await produce_records(site, [[b"6", b"quick"]])
        leases = [*await slow.look(), *await quick.look()]
        assert sorted(offsets_of(*leases)) == [0, 6]


async def test_redeliveries_go_first(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_in_flight=10, backoff_s=[0.0])
        await produce(site, 30)
        lease = await one.one(10)
        assert await one.settle([Verb.NACK, lease.token, [3, 5], None, "no"]) == {}
        (again,) = await one.look()
        assert (again.ranges, again.attempt) == ([3, 5], 2)
        assert await one.settle([Verb.RELEASE, again.token]) == {}
        (back,) = await one.look()
        assert (back.ranges, back.attempt) == ([3, 5], 2), "giving back does not count"


# ------------------------------------------------------------------------- attempts and time


async def test_backoff_and_dead_letters(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_deliveries=3, backoff_s=[2.0, 10.0])
        await produce(site, 1)
        pauses = []
        for attempt in (1, 2, 3):
            lease = await one.one()
            assert lease.attempt == attempt
            failed_at = trio.current_time()
            assert await one.settle([Verb.NACK, lease.token, [], None, "why"]) == {}
            if attempt < 3:
                again = await one.take()
                one.new += again
                pauses.append(trio.current_time() - failed_at)
        assert 1.5 <= pauses[0] <= 2.8
        assert 7.5 <= pauses[1] <= 12.8
        await trio.sleep(MOMENT_S)
        assert await values_in(site, "s.dead") == [b"0"]
        found = await group(site)
        assert (found["lag"], found["dead"], found["retrying"]) == (0, 1, 0)


async def test_a_delay_of_its_own(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site)
        await produce(site, 1)
        lease = await one.one()
        began = trio.current_time()
        assert await one.settle([Verb.NACK, lease.token, [], 60_000_000, ""]) == {}
        assert (await one.one()).attempt == 2
        assert 60.0 <= trio.current_time() - began <= 60.5


async def test_a_lease_runs_out(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, ack_wait_s=5.0, backoff_s=[1.0])
        await produce(site, 2)
        lease = await one.one(2)
        began = trio.current_time()
        # Suspects come one by one, and alone.
        again = await one.one(1)
        assert 5.7 <= trio.current_time() - began <= 6.8
        assert (again.attempt, again.ranges) == (2, [0, 1])
        assert await one.settle([Verb.ACK, lease.token]) == {0: "lease_lost"}
        assert await one.look() == []
        await one.ack(again)
        assert (await one.one(1)).ranges == [1, 2]


async def test_extended_a_lease_lasts_as_long_as_it_may(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, ack_wait_s=5.0, lease_max_s=12.0)
        await produce(site, 1)
        lease = await one.one()
        for _ in range(3):
            await trio.sleep(3.5)
            assert await one.settle([Verb.EXTEND, lease.token]) == {}
        await trio.sleep(2.0)
        assert await one.settle([Verb.EXTEND, lease.token]) == {0: "lease_lost"}


async def test_a_failed_attempt_is_news_at_once(autojump_clock: Clock) -> None:
    """Also where one timer takes the place of another."""
    async with opened() as site:
        one = await member(site, ack_wait_s=1.0, backoff_s=[1000.0])
        await produce(site, 1)
        await one.one()
        before = site.count("groups_commits")
        await trio.sleep(2.0)
        assert site.count("groups_commits") == before + 1


async def test_a_suspect_goes_out_alone(autojump_clock: Clock) -> None:
    async with opened() as site:
        killer = await member(site, max_deliveries=3, backoff_s=[0.1], max_in_flight=10)
        await produce(site, 20)
        await killer.one(10)
        await killer.break_off()
        one = await member(site, max_in_flight=100)
        two = await member(site, max_in_flight=100)
        await trio.sleep(1.0)
        got_one, got_two = await one.look(), await two.look()
        alone = [lease for lease in (*got_one, *got_two) if lease.attempt == 2]
        assert alone
        assert all(count_of(lease) == 1 for lease in alone)
        # Whoever holds one holds nothing else.
        for leases in (got_one, got_two):
            if any(lease.attempt == 2 for lease in leases):
                assert len(leases) == 1
        assert sorted(await drained_by(one, two, got_one, got_two)) == [*range(20)]
        assert await values_in(site, "s.dead") == []


async def drained_by(one: Any, two: Any, got_one: Any, got_two: Any) -> list[int]:
    """Ack all that two members hold and get; which offsets."""
    seen: list[int] = []
    while got_one or got_two:
        for each, leases in ((one, got_one), (two, got_two)):
            seen += offsets_of(*leases)
            if leases:
                await each.ack(*leases)
        got_one, got_two = await one.look(1.0), await two.look(1.0)
    return seen


async def test_a_record_that_kills_takes_no_other_along(autojump_clock: Clock) -> None:
    """Whoever gets record 7 dies; the others are all done, and only 7 is a dead letter."""
    async with opened() as site:
        await produce(site, 20, batch=20)
        seen: set[int] = set()
        for _ in range(40):
            one = await member(site, max_deliveries=3, backoff_s=[0.1])
            await trio.sleep(0.3)
            while leases := await one.look():
                if any(7 in offsets_of(lease) for lease in leases):
                    await one.break_off()
                    break
                seen.update(offsets_of(*leases))
                await one.ack(*leases)
            else:
                break
        assert seen == set(range(20)) - {7}
        assert await values_in(site, "s.dead") == [b"7"]


async def test_a_session_that_is_lost_counts_an_attempt(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, backoff_s=[0.1])
        await produce(site, 2)
        await one.one(2)
        await one.break_off()
        found = await group(site)
        assert (found["in_flight"], found["retrying"]) == (0, 2)
        two = await member(site)
        assert (await two.one()).attempt == 2


async def test_leaving_in_order_counts_nothing(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site)
        await produce(site, 10)
        await one.one(10)
        await one.leave()
        two = await member(site)
        lease = await two.one(10)
        assert lease.attempt == 1
        await two.peer.send(frames.Goodbye("", ""))
        await two.peer.ended()
        await trio.sleep(MOMENT_S)
        three = await member(site)
        assert (await three.one(10)).attempt == 1


# ------------------------------------------------------------------------------------ ordered


async def test_partitions_go_to_members_evenly_and_move_when_given_back(
    autojump_clock: Clock,
) -> None:
    async with opened(tree=tree(streams={"partitions": 4})) as site:
        one = await member(site, mode="ordered")
        for number in range(4):
            await produce(site, 20, partition=number)
        first = await one.take(80)
        assert {lease.partition for lease in first} == {0, 1, 2, 3}
        two = await member(site, mode="ordered")
        await one.is_there()
        asked = {revoke.partition for revoke in one.revoked}
        assert len(asked) == 2
        assert not any(revoke.lost for revoke in one.revoked)
        assert await two.look() == [], "its owner has not given it back"
        # What was asked back moves when all of it is settled or released, each by itself.
        mine, theirs = sorted(asked)
        for lease in first:
            if lease.partition == mine:
                await one.ack(lease)
        assert await two.look() == []
        await produce(site, 10, first=20, partition=mine)
        assert {lease.partition for lease in await two.take(10)} == {mine}
        back = [lease.token for lease in first if lease.partition == theirs]
        assert await one.settle(*([Verb.RELEASE, token] for token in reversed(back))) == {}
        again = await two.take(20)
        assert {lease.partition for lease in again} == {theirs}
        assert offsets_of(*again) == [*range(20)]
        assert {lease.attempt for lease in again} == {1}
        # Who leaves gives all of it back.
        await two.leave()
        again = await one.take(30)
        assert {lease.partition for lease in again} == asked
        owners = [each["owner"] for each in (await group(site))["partition_list"]]
        assert owners == [one.told["member"]] * 4


async def test_a_partition_moves_when_its_lease_has_run_out(autojump_clock: Clock) -> None:
    async with opened(tree=tree(streams={"partitions": 2})) as site:
        one = await member(site, mode="ordered", ack_wait_s=5.0, backoff_s=[0.1])
        await produce(site, 10, partition=0)
        await produce(site, 10, partition=1)
        await one.take(20)
        two = await member(site, mode="ordered")
        began = trio.current_time()
        (lease, *_) = await two.take(1)
        assert 5.0 <= trio.current_time() - began <= 6.0
        assert lease.attempt == 2


async def test_nothing_of_an_ordered_partition_overtakes_a_failure(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, mode="ordered", backoff_s=[1.0])
        await produce(site, 30)
        first, second, third = await one.take(30)
        assert await one.settle([Verb.NACK, second.token, [], None, "no"]) == {}
        await one.is_there()
        (revoke,) = one.revoked
        assert revoke.lost
        assert revoke.token == third.token
        assert await one.settle([Verb.ACK, third.token]) == {0: "lease_lost"}
        await one.ack(first)
        assert await one.look() == [], "not before the pause is over"
        again = await one.take(20)
        assert [(lease.ranges, lease.attempt) for lease in again] == [([10, 20], 2), ([20, 30], 1)]


async def test_more_members_than_partitions(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, mode="ordered")
        two = await member(site, mode="ordered")
        await produce(site, 10)
        leases = await one.look() + await two.look()
        assert offsets_of(*leases) == [*range(10)]
        await one.break_off()
        assert (await two.take(1))[0].attempt == 2


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


# ------------------------------------------------------------------------------ the daemon's end


async def test_a_drain_charges_nobody(autojump_clock: Clock) -> None:
    async with opened() as site:
        files = site.files
        slow = await member(site)
        await produce(site, 10)
        lease = await slow.one(10)
        idle = await member(site)
        site.daemon.stop()
        await trio.sleep(1.0)
        # Its handler is at work, and may still settle; what it has not begun it gives back.
        assert await slow.settle([Verb.ACK, lease.token, [0, 4]], level=1) == {}
        assert slow.goodbye is not None
        assert not site.ended.is_set()
        assert await slow.settle([Verb.RELEASE, lease.token]) == {}
        with trio.fail_after(2.0):
            await site.ended.wait()
        assert idle.new == []
    async with opened(files) as site:
        one = await member(site)
        lease = await one.one(6)
        assert (lease.ranges, lease.attempt) == ([4, 10], 1)


async def test_a_drain_that_is_cut_off_charges_nobody(autojump_clock: Clock) -> None:
    async with opened(tree=tree(daemon={"drain_s": 10.0})) as site:
        files = site.files
        slow = await member(site)
        await produce(site, 10)
        await slow.one(10)
        began = trio.current_time()
        await site.stop()
        assert 4.0 <= trio.current_time() - began <= 10.0
    async with opened(files) as site:
        one = await member(site)
        assert (await one.one(10)).attempt == 1


async def test_a_drain_waits_for_no_lease_that_has_run_out(autojump_clock: Clock) -> None:
    async with opened(tree=tree(daemon={"drain_s": 60.0})) as site:
        slow = await member(site, ack_wait_s=2.0)
        await produce(site, 10)
        await slow.one(10)
        began = trio.current_time()
        await site.stop()
        assert trio.current_time() - began <= 3.0


async def test_nothing_is_handed_out_while_draining(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site, max_in_flight=10)
        await produce(site, 20)
        lease = await one.one(10)
        site.daemon.stop()
        await trio.sleep(0.5)
        await one.ack(lease)
        await site.ended.wait()
        assert one.new == []


# ------------------------------------------------------------------------------- slow and lossy


async def test_a_member_that_does_not_read(autojump_clock: Clock) -> None:
    settings = tree(session={**TREE["session"], "send_queue_bytes": 1088 * KIB, "send_s": 600})
    async with opened(tree=settings) as site:
        await produce(site, 400, batch=4, size=50 * KIB)
        deaf = await member(site, max_in_flight_bytes=256 << 20, max_in_flight=100_000)
        await trio.sleep(5.0)
        found = await group(site)
        (told,) = found["member_list"]
        assert told["in_flight_bytes"] <= 4 << 20
        # The others go on.
        assert len(await drained(site)) >= 300
        await deaf.break_off()


async def test_retention_overtakes_a_group(autojump_clock: Clock) -> None:
    settings = tree(streams={"segment_bytes": 1 << 20, "retention_bytes": 2 << 20})
    async with opened(tree=settings) as site:
        one = await member(site, max_in_flight=10, batch_records=10)
        await produce(site, 10)
        lease = await one.one(10)
        # More than the daemon keeps in memory of the newest.
        await produce(site, 2000, batch=10, first=10, size=10_000)
        await trio.sleep(20.0)
        assert site.daemon.streams is not None
        first = site.daemon.streams.get("s").partitions[0].log.first_offset
        assert first > 10
        assert await one.settle([Verb.RELEASE, lease.token]) == {}
        (next_one, *_) = await one.take(10)
        assert next_one.ranges[0] == first
        (line,) = site.logged("a group lost records to retention")
        assert line["goes_on_at"] == first
        assert line["records"] == first
        await one.ack(next_one)
        assert (await group(site))["partition_list"][0]["cursor"] == next_one.ranges[1]


async def test_a_group_holds_retention_back(autojump_clock: Clock) -> None:
    settings = tree(
        streams={
            "segment_bytes": 1 << 20,
            "retention_bytes": 2 << 20,
            "retention_groups": ["g"],
        }
    )
    async with opened(tree=settings) as site:
        await admin(site, "group_create", stream="s", group="g", settings={})
        await produce(site, 1000, size=10_000)
        await trio.sleep(30.0)
        assert site.daemon.streams is not None
        log = site.daemon.streams.get("s").partitions[0].log
        assert log.first_offset == 0
        assert len(await drained(site)) == 1000
        await trio.sleep(20.0)
        assert log.first_offset > 500


async def test_a_partition_that_cannot_be_read_is_tried_again(autojump_clock: Clock) -> None:
    async with opened() as site:
        await produce(site, 10)
        files = site.files
        await site.stop()
    async with opened(files) as site:
        # The daemon looks through its logs first.
        await trio.sleep(5.0)
        files.fail_next("read", times=2)
        one = await member(site)
        lease = await one.one(10)
        assert lease.ranges == [0, 10]
        assert site.logged("a group cannot go on", stream="s", group="g")
        assert site.daemon.health().ok


async def test_leases_are_bounded(autojump_clock: Clock) -> None:
    async with opened(tree=tree(deliver={"leases_max": 5})) as site:
        one = await member(site, batch_records=1, max_in_flight=5)
        two = await member(site, batch_records=1, max_in_flight=100)
        await produce(site, 100)
        await trio.sleep(1.0)
        many = len(await one.look()) + len(leases := await two.look())
        assert many >= 5
        await produce(site, 100, first=100)
        assert await two.look(10.0) == []
        await two.ack(*leases)
        await trio.sleep(1.0)


# --------------------------------------------------------------------------------- in memory


async def test_a_stream_in_memory(autojump_clock: Clock) -> None:
    settings = tree(streams={"override": [{"streams": ["m"], "storage": "memory"}]})
    async with opened(tree=settings) as site:
        files = site.files
        one = await member(site, "m", max_deliveries=2, backoff_s=[0.1])
        await produce(site, 10, stream="m")
        lease = await one.one(10)
        assert await one.settle([Verb.ACK, lease.token, [0, 5]]) == {}
        assert await one.settle([Verb.TERM, lease.token, [5, 6], None, "bad"]) == {}
        assert await one.settle([Verb.NACK, lease.token]) == {}
        again = await one.one(4)
        assert again.attempt == 2
        assert await one.settle([Verb.NACK, again.token]) == {}
        await trio.sleep(1.0)
        assert await values_in(site, "m.dead") == [b"%d" % number for number in range(5, 10)]
        (ledger,) = site.daemon.deliver._deliverer.pumps["m", "g"].group.ledgers  # type: ignore
        assert not ledger.has_news
        assert ledger.take_retry_news() == []
        assert ledger.take_dead() == []
    async with opened(files, tree=settings) as site:
        assert await values_in(site, "m") == []
        one = await member(site, "m")
        await produce(site, 3, stream="m")
        assert (await one.one(3)).ranges == [0, 3]
        assert len(await values_in(site, "m.dead")) == 5
