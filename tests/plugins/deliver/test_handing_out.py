"""Who of a group gets what: shared and ordered, and where somebody is slow or something is lost."""

from __future__ import annotations

from collections import Counter

import trio
import trio.testing

from streamer.limits import KIB
from streamer.wire.frames import Verb
from tests.plugins.deliver.kit import (
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
)

Clock = trio.testing.MockClock

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
        await one.leave()


async def test_a_fault_that_nobody_looks_after_is_no_news(autojump_clock: Clock) -> None:
    async with opened() as site:
        await produce(site, 10)
        files = site.files
        await site.stop()
    async with opened(files) as site:
        await trio.sleep(5.0)
        files.fail_next("read", times=1000)
        one = await member(site)
        await trio.sleep(1.0)
        assert "group 'g' of stream 's' cannot go on in partition 0" in str(site.daemon.health())
        await one.leave()
        files.heal()
        assert not site.daemon.health().reasons
        assert await one.join() is None
        assert (await one.one(10)).ranges == [0, 10]
        assert not site.daemon.health().reasons


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
