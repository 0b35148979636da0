"""What groups know outlives the daemon: kills at every call, refusals of the journal, snapshots."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from streamer.limits import KIB
from streamer.pipeline.registry import Registry
from streamer.testing.memory_files import MemoryFiles, ProcessDied
from streamer.wire import frames
from streamer.wire.frames import Start, Verb
from streamer_plugins.deliver import groups as stage
from tests.plugins.deliver.kit import (
    Member,
    admin,
    count_of,
    drained,
    group,
    killed,
    member,
    offsets_of,
    opened,
    produce,
    records_in,
    records_of,
    tree,
    values_in,
)
from tests.site import Site

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


# ------------------------------------------------------------------------ the stage itself fails


class Fragile:
    """The stage, that a test lets fail."""

    def __init__(self) -> None:
        self.made: list[Fault] = []
        self.broken_start = False

    @property
    def registry(self) -> Registry:
        plugin = stage.DeliverPlugin("groups", stage.GroupsConfig, self.make)
        return Registry.installed().with_stages(plugin)

    def make(self, config: Any, context: Any) -> Fault:
        self.made.append(Fault(config, context))
        return self.made[-1]

    def fail(self) -> None:
        self.made[-1].fault.set()


class Fault(stage.Deliver):
    def __init__(self, config: Any, context: Any) -> None:
        super().__init__(config, context)
        self.fault = trio.Event()

    async def _take_over(self, known: Any) -> None:
        self._nursery.start_soon(self._fail)
        await super()._take_over(known)

    async def _fail(self) -> None:
        await self.fault.wait()
        raise RuntimeError("it was to fail")


async def test_a_crash_of_the_stage(autojump_clock: Clock) -> None:
    fragile = Fragile()
    async with opened(registry=fragile.registry) as site:
        one = await member(site, backoff_s=[0.0])
        await produce(site, 30)
        leases = await one.take(30)
        await one.ack(leases[0])
        fragile.fail()
        await trio.sleep(0.1)
        await one.is_there()
        assert one.ended is not None
        assert (one.ended.code, one.ended.subscription) == ("pipeline_down", 1)
        assert "it was to fail" in str(site.daemon.health())
        await produce(site, 1, first=30)
        await trio.sleep(2.0)
        assert site.daemon.health().ok
        assert await one.join() is None
        again = await one.take(21)
        assert offsets_of(*again) == [*range(10, 31)]
        assert min(lease.token for lease in again) > max(lease.token for lease in leases)
        assert (await group(site))["members"] == 1
        # And again: it is no matter how often.
        for _ in range(5):
            fragile.fail()
            await trio.sleep(60.0)
        assert await one.join() is None
        assert sum(map(count_of, await one.look())) == 21
    assert len(fragile.made) == 7


async def test_whoever_waits_for_a_stage_that_fails_is_answered(autojump_clock: Clock) -> None:
    files, fragile = MemoryFiles(), Fragile()
    async with opened(files, registry=fragile.registry) as site:
        one = await member(site)
        await produce(site, 10)
        lease = await one.one(10)
        await admin(site, "group_create", stream="s", group="other", settings={})
        files.capacity_bytes = files.used_bytes()
        await one.send([Verb.ACK, lease.token])
        joining = await site.peer()
        await joining.send(frames.Join(1, 1, "s", "one", {}), frames.Join(2, 2, "s", "two", {}))
        asking = await site.peer()
        await asking.send(
            frames.Admin(1, "group_pause", {"stream": "s", "group": "g"}),
            frames.Admin(2, "group_create", {"stream": "s", "group": "three", "settings": {}}),
            frames.Admin(3, "group_delete", {"stream": "s", "group": "other"}),
        )
        await trio.sleep(1.0)
        fragile.fail()
        with trio.fail_after(1.0):
            for _ in range(2):
                assert (await joining.expect(frames.Failed)).code == "pipeline_down"
            for _ in range(3):
                assert (await asking.expect(frames.Failed)).code == "pipeline_down"
            answer = await one.answer()
            assert answer.code == "pipeline_down"
        files.capacity_bytes = 1 << 40
        await trio.sleep(60.0)
        assert len(await drained(site)) == 10


async def test_a_stage_that_cannot_start(autojump_clock: Clock) -> None:
    files, fragile = MemoryFiles(), Fragile()
    async with killed(files) as site:
        await member(site)
        await produce(site, 10)
    made = 0

    def make(config: Any, context: Any) -> Any:
        nonlocal made
        made += 1
        if made < 3:
            raise RuntimeError("not yet")
        return Fault(config, context)

    fragile.make = make  # type: ignore[method-assign]
    async with opened(files, registry=fragile.registry) as site:
        assert "not yet" in str(site.daemon.health())
        await produce(site, 1, first=10)
        await trio.sleep(10.0)
        assert site.daemon.health().ok
        assert len(await drained(site)) == 11


# ----------------------------------------------------------------------------------- snapshots


def state_of(site: Site) -> Any:
    """What a start must know again."""
    deliver: Any = site.daemon.deliver._deliverer  # type: ignore[union-attr]
    found: dict[Any, Any] = {}
    for (stream, name), pump in deliver.pumps.items():
        found[stream, name] = [pump.group.paused, pump.group.settings]
        for ledger in pump.group.ledgers:
            found[stream, name, ledger.number] = (ledger.cursor, ledger.done.bounds)
            for first, end, failures, *_, since_us in ledger.unfinished():
                # Pieces may be cut in other ways, and what was given back is a suspect again.
                rest = (failures, since_us)
                found |= {(stream, name, offset): rest for offset in range(first, end)}
    for name, box in deliver.letterboxes.items():
        found[name] = box.open
    for name, delayed in deliver.delayed.items():
        found[name] = (delayed.progress.cursor, delayed.progress.done.bounds)
    found["schedules"] = [schedule.to_plain() for schedule in deliver.timetable.schedules]
    return found


def difference(now: dict[Any, Any], before: dict[Any, Any]) -> dict[Any, Any]:
    keys = [key for key in {**now, **before} if now.get(key) != before.get(key)]
    return {key: (now.get(key), before.get(key)) for key in keys}


async def test_snapshots(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small segments the journal rolls many times, and holds no more than it needs."""
    files, settings = MemoryFiles(), tree(deliver={"groups_max": 5})
    small_segments(monkeypatch)
    async with killed(files, tree=settings) as site:
        names = ["shared", "keyed"]
        members = [
            await member(site, group="shared", backoff_s=[5000.0], max_in_flight=100_000),
            await member(site, group="keyed", order="key", max_in_flight=100_000),
        ]
        schedule = {"name": "n", "stream": "t", "cron": "0 0 1 1 *", "value": b"v"}
        await admin(site, "schedule_add", **schedule)
        rng = random.Random(3)
        for number in range(300):
            await produce(site, 10, first=10 * number)
            for each in members:
                for lease in await each.look(0.02):
                    offsets = offsets_of(lease)
                    at = rng.choice(offsets)
                    verb = rng.choice([Verb.NACK, Verb.TERM, Verb.ACK, Verb.ACK])
                    rows: list[Any] = [[verb, lease.token, [at, at + 1], 10**10, "why"]]
                    if verb is not Verb.NACK:
                        rows[0][3] = None
                    if at > offsets[0]:
                        rows.append([Verb.ACK, lease.token, [offsets[0], at]])
                    assert await each.settle(*rows) == {}
            if number % 10 == 0:
                await trio.sleep(10.0)
        await trio.sleep(11.0)
        log = site.daemon.streams.get("__groups").partitions[0].log  # type: ignore[union-attr]
        assert len(site.logged("snapshot of groups")) >= 5
        assert site.logged("segments removed", stream="__groups")
        assert log.first_offset > 0
        for each in members:
            await each.leave()
        await trio.sleep(1.0)
        before = state_of(site)
        dead = await values_in(site, "s.dead")
    async with killed(files, tree=settings) as site:
        await trio.sleep(1.0)
        assert not difference(state_of(site), before)
        assert await values_in(site, "s.dead") == dead
    async with opened(files, tree=settings) as site:
        await trio.sleep(1.0)
        assert not difference(state_of(site), before)
        assert sorted(names) == [each["group"] for each in await admin(site, "groups")]


def small_segments(monkeypatch: pytest.MonkeyPatch, nbytes: int = 4000) -> None:
    """The daemon's own streams roll at that size; configs do not go as low."""
    from streamer.daemon import supervisor

    monkeypatch.setattr(supervisor, "_OWN_SEGMENT_BYTES", nbytes)


# ---------------------------------------------------------------------- a kill at every call


class Life:
    """A scripted life of a group, over as many daemons as it takes; what it was promised."""

    def __init__(self, files: MemoryFiles) -> None:
        self.files = files
        self.produced: set[bytes] = set()
        #: Acked, and that was answered as synced.
        self.acked: set[bytes] = set()
        #: Acked or not: the daemon died over it.
        self.maybe: set[bytes] = set()
        self.termed: set[bytes] = set()
        self.seen: Counter[bytes] = Counter()
        self.deaths = 0

    async def run(self, step: Callable[[Site], Any]) -> bool:
        """One step with a daemon; False: it died."""
        try:
            async with opened(self.files.process()) as site:
                with trio.fail_after(100.0):
                    await step(site)
        except BaseException as error:
            if not died(error):
                raise
            self.deaths += 1
            return False
        return True

    async def take(self, site: Site) -> None:
        one = await member(site, max_deliveries=2, backoff_s=[0.0], max_in_flight=4)
        values: dict[bytes, frames.Lease] = {}
        for round_number in range(3):
            for lease in await one.look():
                offsets = offsets_of(lease)
                for offset, record in zip(offsets, records_of(lease), strict=True):
                    value = bytes(record.value)
                    values[value] = lease
                    assert value not in self.acked, "acked for good, and it came again"
                    assert value not in self.termed, "dead for good, and it came again"
                    self.seen[value] += 1
                    verb = [Verb.ACK, Verb.NACK, Verb.TERM][(offset + round_number) % 3]
                    await self.settle(one, verb, lease, offset, value)
        await one.leave()

    async def settle(
        self, one: Member, verb: Verb, lease: frames.Lease, offset: int, value: bytes
    ) -> None:
        if verb is not Verb.NACK or lease.attempt == 2:
            self.maybe.add(value)
        assert await one.settle([verb, lease.token, [offset, offset + 1], None, "why"]) == {}
        if verb is Verb.ACK:
            self.acked.add(value)
        elif verb is Verb.TERM or lease.attempt == 2:
            self.termed.add(value)

    async def check(self) -> None:
        """Whatever happened: each record is acked, or a dead letter once, or still to come."""
        async with opened(self.files.process()) as site:
            await trio.sleep(6.0)
            dead = Counter(await values_in(site, "s.dead"))
            assert set(dead.values()) <= {1}, "a dead letter twice"
            assert self.termed <= set(dead), "a dead letter is nowhere"
            assert not self.acked & set(dead)
            there = set(await values_in(site, "s"))
            assert self.produced <= there
            left = set(await drained(site))
            assert not left & (self.acked | set(dead)), "done, and it came again"
            assert there - left - set(dead) <= self.acked | self.maybe, "never handled"


def died(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(died, error.exceptions))
    return isinstance(error, ProcessDied)


async def script(life: Life) -> None:
    async def fill(site: Site) -> None:
        for first in (0, 4):
            for value in await produce(site, 4, first=first, batch=2):
                life.produced.add(value)

    await life.run(fill)
    await life.run(life.take)
    await life.run(life.take)


#: Of so many calls one is killed at in each run of the tests: all of them take minutes.
STRIDE = 13


@pytest.mark.parametrize("batch_bytes", [256 * KIB, 100])
async def test_a_kill_at_every_call(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, batch_bytes: int
) -> None:
    """Also within a snapshot, which is of many batches where those are small."""
    small_segments(monkeypatch, 600)
    monkeypatch.setattr("streamer_plugins.deliver.journal._BATCH_BYTES", batch_bytes)
    files = MemoryFiles()
    life = Life(files)
    await script(life)
    await life.check()
    assert not life.deaths
    for number in range(random.randrange(STRIDE), files.calls, STRIDE):
        files = MemoryFiles()
        files.die_at_call(number)
        life = Life(files)
        try:
            await script(life)
            files.heal()
            await life.check()
        except BaseException as error:
            error.add_note(f"killed at call {number}")
            raise
