"""What groups know outlives the daemon, and settles mean what they say."""

from __future__ import annotations

import trio
import trio.testing

from streamer.testing.memory_files import MemoryFiles
from streamer.wire import frames
from streamer.wire.frames import Start, Verb
from tests.plugins.deliver.kit import (
    admin,
    drained,
    group,
    killed,
    member,
    offsets_of,
    opened,
    produce,
    records_in,
    values_in,
)

Clock = trio.testing.MockClock

# ----------------------------------------------------------------------------------- kills


async def test_a_group_goes_on_where_its_last_synced_ack_was(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        one = await member(site, max_deliveries=5, backoff_s=[0.0])
        await produce(site, 30)
        leases = await one.take(30)
        part = [Verb.ACK, leases[1].token, [12, 15]]
        assert await one.settle([Verb.ACK, leases[0].token], part) == {}
        assert await one.settle([Verb.ACK, leases[0].token]) == {0: "lease_lost"}
        tokens = [lease.token for lease in leases]
    async with killed(files) as site:
        found = await group(site)
        assert (found["lag"], found["partition_list"][0]["cursor"]) == (17, 10)
        assert found["settings"]["max_deliveries"] == 5
        two = await member(site)
        leases = await two.take(17)
        assert offsets_of(*leases) == [10, 11, *range(15, 30)]
        assert {lease.attempt for lease in leases} == {1}, "a daemon that dies charges nobody"
        assert min(lease.token for lease in leases) > max(tokens)
        assert await two.settle([Verb.ACK, tokens[2]]) == {0: "lease_lost"}
        await two.ack(*leases)
    async with opened(files) as site:
        assert (await group(site))["lag"] == 0


async def test_attempts_and_delays_are_remembered(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        one = await member(site, max_deliveries=3, backoff_s=[0.0])
        await produce(site, 3, batch=1)
        leases = await one.take(3)
        later = [Verb.NACK, leases[1].token, [], 50_000_000, "later"]
        assert await one.settle([Verb.NACK, leases[0].token, [], 0, "now"], later) == {}
        (again,) = await one.look()
        assert again.attempt == 2
        assert await one.settle([Verb.NACK, again.token, [], 0, "again"]) == {}
        failed_at = trio.current_time()
    async with killed(files) as site:
        two = await member(site)
        leases = await two.look()
        assert sorted((lease.ranges[0], lease.attempt) for lease in leases) == [(0, 3), (2, 1)]
        third, new = sorted(leases, key=lambda lease: lease.ranges)
        await two.ack(new)
        assert await two.settle([Verb.NACK, third.token, [], None, "the end"]) == {}
        last = await two.one()
        assert (last.ranges, last.attempt) == ([1, 2], 2)
        assert 49.0 <= trio.current_time() - failed_at <= 51.0
    async with opened(files) as site:
        assert await values_in(site, "s.dead") == [b"0"]
        (record,) = await records_in(site, "s.dead")
        assert record.headers is not None
        assert b'"attempts":3,"error":"the end"' in record.headers["streamer-dead"]


async def test_a_lost_session_is_charged_durably(autojump_clock: Clock) -> None:
    """A record that kills daemon and consumer alike still ends in the dead letters."""
    files = MemoryFiles()
    for attempt in (1, 2, 3):
        async with killed(files) as site:
            if attempt == 1:
                await produce(site, 1)
            one = await member(site, max_deliveries=3, backoff_s=[0.0])
            assert (await one.one()).attempt == attempt
            await one.break_off()
    async with opened(files) as site:
        await trio.sleep(1.0)
        assert await values_in(site, "s.dead") == [b"0"]
        assert (await group(site))["lag"] == 0


async def test_what_operators_said_is_remembered(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        one = await member(site)
        await produce(site, 20)
        await one.ack(*await one.take(20))
        await admin(site, "group_seek", stream="s", group="g", start=int(Start.OFFSET), value=7)
        settings = {"ack_wait_s": 77.0}
        await admin(site, "group_edit", stream="s", group="g", settings=settings)
        await admin(site, "group_pause", stream="s", group="g")
        await admin(site, "group_create", stream="s", group="gone", settings={})
        await admin(site, "group_delete", stream="s", group="gone")
    async with killed(files) as site:
        found = await group(site)
        assert found["paused"]
        assert found["settings"]["ack_wait_s"] == 77.0
        assert found["lag"] == 13
        assert [each["group"] for each in await admin(site, "groups")] == ["g"]
        await admin(site, "group_resume", stream="s", group="g")
    async with opened(files) as site:
        two = await member(site)
        assert offsets_of(*await two.take(13)) == [*range(7, 20)]


async def test_what_died_before_a_seek_comes_again(autojump_clock: Clock) -> None:
    """Whether the daemon was killed in between or not."""
    files = MemoryFiles()
    async with killed(files) as site:
        one = await member(site)
        await produce(site, 3, batch=1)
        leases = await one.take(3)
        bad = [Verb.TERM, leases[1].token, [], None, "bad"]
        assert await one.settle(bad, level=0) == {}
        await admin(site, "group_seek", stream="s", group="g", start=int(Start.EARLIEST))
        again = await one.take(3)
        assert offsets_of(*again) == [0, 1, 2]
    async with opened(files) as site:
        two = await member(site)
        assert offsets_of(*await two.take(3)) == [0, 1, 2]
        assert await values_in(site, "s.dead") == [b"1"]


async def test_an_ordered_group_and_a_keyed_one(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        one = await member(site, group="o", mode="ordered", backoff_s=[0.0])
        two = await member(site, group="k", order="key")
        await produce(site, 30)
        leases = await one.take(30)
        # Out of turn, and then back to what failed.
        nack = [Verb.NACK, leases[0].token, [3, 10], None, "no"]
        assert await one.settle([Verb.ACK, leases[1].token], nack) == {}
        assert await one.settle([Verb.ACK, leases[0].token]) == {}
        (again, *_) = await one.look()
        assert (again.ranges, again.attempt) == ([3, 10], 2)
        await two.ack((await two.take(30))[1])
    async with opened(files) as site:
        one = await member(site, group="o")
        found = await one.take(17)
        assert offsets_of(*found) == [*range(3, 10), *range(20, 30)]
        assert [lease.attempt for lease in found] == [2, 1]
        two = await member(site, group="k")
        assert offsets_of(*await two.take(20)) == [*range(10), *range(20, 30)]


# ------------------------------------------------------------------------ what a settle means


async def test_a_synced_settle_is_answered_after_the_sync(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with opened(files) as site:
        one = await member(site)
        await produce(site, 2, batch=1)
        first, second = await one.take(2)
        trace = files.trace
        before = len(trace)
        await one.ack(first)
        seen = [call for call in trace[before:] if "groups" in call]
        assert [call.split()[0] for call in seen] == ["write", "sync"]
        before = len(trace)
        assert await one.settle([Verb.ACK, second.token], level=0) == {}
        assert not [call for call in trace[before:] if call.startswith("sync")]


# ---------------------------------------------------------------------------- the disk refuses


async def test_a_full_disk_holds_settles_up(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with opened(files) as site:
        one = await member(site, ack_wait_s=1000.0)
        await produce(site, 3, batch=1)
        first, second, third = await one.take(3)
        files.capacity_bytes = files.used_bytes()
        await one.send([Verb.ACK, first.token])
        with trio.move_on_after(10.0) as scope:
            await one.answer()
        assert scope.cancelled_caught
        # Accepted is not affected, and neither is what comes next.
        await one.send([Verb.ACK, second.token], level=0)
        with trio.fail_after(0.2):
            assert isinstance(await one.answer(), frames.Settled)
        files.capacity_bytes = 1 << 40
        with trio.fail_after(3.0):
            answer = await one.answer()
        assert (type(answer), answer.failures) == (frames.Settled, [])
        await one.ack(third)
    async with opened(files) as site:
        assert (await group(site))["lag"] == 0


async def test_a_disk_that_stays_full(autojump_clock: Clock) -> None:
    """Who waits is told after a while; what was settled is written when there is room."""
    files = MemoryFiles()
    async with opened(files) as site:
        one = await member(site, ack_wait_s=1000.0)
        await produce(site, 2, batch=1)
        first, second = await one.take(2)
        files.capacity_bytes = files.used_bytes()
        began = trio.current_time()
        await one.send([Verb.ACK, first.token])
        await trio.sleep(5.0)
        await one.send([Verb.ACK, second.token])
        answer = await one.answer()
        assert (answer.code, answer.fatal) == ("outcome_unknown", False)
        assert 30.0 <= trio.current_time() - began <= 31.0
        assert (await one.answer()).code == "outcome_unknown"
        assert 35.0 <= trio.current_time() - began <= 36.0
        other = await site.peer()
        await other.send(frames.Join(1, 1, "s", "new", {}))
        with trio.fail_after(60.0):
            assert (await other.expect(frames.Failed)).code == "outcome_unknown"
        files.capacity_bytes = 1 << 40
        await trio.sleep(5.0)
    async with opened(files) as site:
        assert (await group(site))["lag"] == 0


async def test_a_start_on_a_full_disk(autojump_clock: Clock) -> None:
    """The daemon serves what it can, and groups come when there is room."""
    files = MemoryFiles()
    async with opened(files) as site:
        await member(site)
        await produce(site, 10)
    files.capacity_bytes = files.used_bytes() // 2
    with trio.fail_after(60.0):
        async with opened(files) as site:
            assert len(await values_in(site, "s")) == 10
            peer = await site.peer()
            await peer.send(frames.Join(1, 1, "s", "g", {}))
            failed = await peer.expect(frames.Failed)
            assert (failed.code, failed.retryable) == ("pipeline_down", True)
            health = site.daemon.health()
            assert not health.ok
            assert "the journal of groups took nothing within 5 s" in str(health)
            files.capacity_bytes = 1 << 40
            await trio.sleep(20.0)
            assert site.daemon.health().ok
            assert len(await drained(site)) == 10


async def test_a_failed_sync(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with opened(files) as site:
        one = await member(site)
        await produce(site, 10)
        lease = await one.one(10)
        files.fail_next("sync")
        await one.send([Verb.ACK, lease.token])
        answer = await one.answer()
        assert isinstance(answer, frames.Failed)
        assert answer.code in ("pipeline_down", "outcome_unknown")
        await one.is_there()
        assert one.ended is not None
        assert one.ended.code == "pipeline_down"
        health = site.daemon.health()
        assert not health.ok
        assert "consumer groups are down" in str(health)
        failed = await one.join()
        assert failed.code == "pipeline_down"
        assert (await group(site)).code == "pipeline_down"
        # Nobody else notices.
        await produce(site, 1, stream="other")
    async with opened(files) as site:
        assert len(await drained(site)) in (0, 10)
