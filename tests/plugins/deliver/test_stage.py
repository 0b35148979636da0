"""The stage itself: crashes of it, and the snapshots of its journal."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

from streamer.pipeline.registry import Registry
from streamer.testing.memory_files import MemoryFiles
from streamer.wire import frames
from streamer.wire.frames import Verb
from streamer_plugins.deliver import groups as stage
from tests.plugins.deliver.kit import (
    admin,
    count_of,
    drained,
    group,
    killed,
    member,
    offsets_of,
    opened,
    produce,
    small_segments,
    tree,
    values_in,
)
from tests.site import Site
from tests.stages import Valve

Clock = trio.testing.MockClock

# ------------------------------------------------------------------------ the stage itself fails


class Fragile:
    """The stage, that a test lets fail."""

    def __init__(self) -> None:
        self.made: list[Fault] = []

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


async def test_a_commit_that_outlives_its_stage(autojump_clock: Clock) -> None:
    """What the one before has under way is in the journal when the next one reads it."""
    files, fragile, valve = MemoryFiles(), Fragile(), Valve("persist", "log")
    registry = fragile.registry.with_stages(valve.plugin)
    settings = tree(pipelines=[{"persist": {"stage": "log"}}])
    async with opened(files, registry=registry, tree=settings) as site:
        one = await member(site)
        await produce(site, 3, batch=1)
        leases = await one.take(3)
        valve.shut()
        await one.send([Verb.TERM, leases[0].token, [], None, "bad"])
        await trio.sleep(0.1)
        fragile.fail()
        await trio.sleep(5.0)
        valve.open()
        await trio.sleep(5.0)
        assert site.daemon.health().ok
        two = await member(site)
        again = await two.take(2)
        assert offsets_of(*again) == [1, 2], "what was under way has come to pass"
        assert await two.settle([Verb.TERM, again[0].token, [], None, "bad"]) == {}
        await trio.sleep(1.0)
        assert await values_in(site, "s.dead") == [b"0", b"1"]
        await two.leave()
    async with opened(files) as site:
        await trio.sleep(1.0)
        assert await values_in(site, "s.dead") == [b"0", b"1"]
        assert (await group(site))["lag"] == 1


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
    for name, box in deliver.companions.letterboxes.items():
        found[name] = box.open
    for name, delayed in deliver.companions.delayed.items():
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
