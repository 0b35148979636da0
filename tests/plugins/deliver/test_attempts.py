"""Attempts that fail, leases that run out, sessions that end, and daemons."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from streamer.wire import frames
from streamer.wire.frames import Verb
from tests.plugins.deliver.kit import (
    MOMENT_S,
    count_of,
    group,
    member,
    offsets_of,
    opened,
    produce,
    tree,
    values_in,
)

Clock = trio.testing.MockClock

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
        assert ledger.take_news() == []
        assert ledger.take_retry_news() == []
        assert ledger.take_dead() == []
    async with opened(files, tree=settings) as site:
        assert await values_in(site, "m") == []
        one = await member(site, "m")
        await produce(site, 3, stream="m")
        assert (await one.one(3)).ranges == [0, 3]
        assert len(await values_in(site, "m.dead")) == 5
