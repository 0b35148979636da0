"""Records that go from stream to stream: once, whatever the disk, the pipeline and kills do."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

from streamer.records import ProducerStamp
from streamer.testing.memory_files import MemoryFiles, ProcessDied
from streamer.wire import frames
from streamer.wire.frames import Verb
from tests.plugins.deliver.kit import (
    TREE,
    admin,
    killed,
    member,
    opened,
    produce,
    produce_records,
    records_in,
    tree,
    values_in,
)
from tests.site import Site, passing_us
from tests.stages import Valve

Clock = trio.testing.MockClock


async def bury(site: Site, count: int, *, first: int = 0, size: int = 0, batch: int = 10) -> Any:
    one = await member(site, group="killer", max_in_flight=100_000, max_in_flight_bytes=1 << 26)
    values = await produce(site, count, first=first, size=size, batch=batch)
    for lease in await one.take(count):
        assert await one.settle([Verb.TERM, lease.token, [], None, "bad"]) == {}
    await one.leave()
    return values


async def test_large_records_in_several_batches(autojump_clock: Clock) -> None:
    async with opened() as site:
        values = await bury(site, 12, size=300_000, batch=2)
        # Large batches are decompressed in threads, and this clock jumps meanwhile.
        await trio.sleep(60.0)
        assert await values_in(site, "s.dead") == values
        assert site.count("groups_moved") == 12


async def test_no_room_for_why_it_died(autojump_clock: Clock) -> None:
    """The record is worth more than its letter."""
    async with opened() as site:
        (value,) = await bury(site, 1, size=(1 << 20) - 150, batch=1)
        await trio.sleep(60.0)
        (letter,) = await records_in(site, "s.dead")
        assert bytes(letter.value) == value
        assert letter.headers is None


async def test_a_pipeline_that_fails_in_between(autojump_clock: Clock) -> None:
    valve = Valve("ack")
    settings = {
        "pipelines": [
            {
                "name": "bad",
                "streams": ["s.dead"],
                "ack": {"stage": "valve"},
                "on_crash": "restart",
                "backoff_s": 0.5,
            },
            {"name": "good"},
        ],
        **TREE,
    }
    async with opened(tree=settings, registry=valve.registry) as site:
        valve.failure = RuntimeError("no answer for what was written")
        values = await bury(site, 5)
        await trio.sleep(1.0)
        assert (await admin(site, "dead", stream="s"))["partitions"][0]["ranges"] == [0, 5]
        values += await bury(site, 5, first=5)
        valve.failure = None
        await trio.sleep(10.0)
        assert await values_in(site, "s.dead") == values


async def test_a_full_disk_in_between(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with opened(files) as site:
        values = await bury(site, 8, size=200_000, batch=2)
        await trio.sleep(60.0)
        files.capacity_bytes = files.used_bytes() + 900_000
        one = await member(site, group="killer", max_in_flight_bytes=1 << 26)
        values += await produce(site, 2, first=8, size=100_000)
        (lease,) = await one.take(2)
        assert await one.settle([Verb.TERM, lease.token, [], None, "bad"]) == {}
        await produce(site, 1, first=10, size=400_000)
        (lease,) = await one.take(1)
        values.append((await values_in(site, "s"))[-1])
        await one.send([Verb.TERM, lease.token, [], None, "bad"])
        await trio.sleep(20.0)
        files.capacity_bytes = 1 << 40
        await trio.sleep(60.0)
        assert await values_in(site, "s.dead") == values


async def test_a_target_that_forgets_who_appended(autojump_clock: Clock) -> None:
    """It remembers few producers: the daemon goes on under another number, and loses nothing."""
    files, settings = MemoryFiles(), tree(streams={"producers": 1})
    expected: list[bytes] = []
    for times in range(4):
        async with killed(files, tree=settings) as site:
            expected += await bury(site, 3, first=3 * times)
            await trio.sleep(1.0)
            assert await values_in(site, "s.dead") == expected
            # Somebody else appends there.
            stamp = ProducerStamp(1000 + times, 0, 0)
            peer = await site.peer()
            answer = await peer.produce([b"x"], "s.dead", stamp=stamp, partition=0)
            assert isinstance(answer, frames.Acks), answer
            expected.append(b"x")
            if times % 2:
                expected += await bury(site, 2, first=100 + 2 * times)
                await trio.sleep(1.0)
    async with opened(files, tree=settings) as site:
        await trio.sleep(1.0)
        assert await values_in(site, "s.dead") == expected


async def test_a_record_that_is_gone_leaves_a_letter(autojump_clock: Clock) -> None:
    settings = tree(streams={"segment_bytes": 1 << 20, "retention_bytes": 1 << 20})
    async with opened(tree=settings) as site:
        one = await member(site, group="killer", max_in_flight=1)
        await produce(site, 1, batch=1)
        lease = await one.one()
        await produce(site, 2000, first=1, size=10_000)
        await trio.sleep(15.0)
        assert await one.settle([Verb.TERM, lease.token, [], None, "bad"]) == {}
        await trio.sleep(1.0)
        (letter,) = await records_in(site, "s.dead")
        assert letter.headers is not None
        assert letter.headers["streamer-gone"] == b'["s", 0, 0]'
        assert b'"reason":"term"' in letter.headers["streamer-dead"]


async def test_one_target_that_takes_nothing_holds_up_no_other(autojump_clock: Clock) -> None:
    settings = tree(streams={"streams_max": 4})
    async with opened(tree=settings) as site:
        # The journal, s, s.dead and t: none is left for t.dead.
        await bury(site, 3)
        await trio.sleep(1.0)
        one = await member(site, "t", "killer")
        await produce(site, 3, stream="t")
        lease = await one.one(3)
        assert await one.settle([Verb.TERM, lease.token, [], None, "bad"]) == {}
        await trio.sleep(10.0)
        assert site.logged("records not moved", stream="t.dead")
        values = await bury(site, 3, first=3)
        await trio.sleep(1.0)
        assert (await values_in(site, "s.dead"))[3:] == values
        files = site.files
    async with opened(files) as site:
        await trio.sleep(1.0)
        assert len(await values_in(site, "t.dead")) == 3


# ---------------------------------------------------------------------------- kills at every call

#: Of so many calls one is killed at in each run of the tests.
STRIDE = 11


def died(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(died, error.exceptions))
    return isinstance(error, ProcessDied)


async def life(files: MemoryFiles) -> bool:
    """Delayed records come due, some die, and are redriven; False: the daemon died."""
    try:
        async with opened(files.process()) as site:
            due_us = passing_us() + 2_000_000
            rows = [[b"%d" % number, None, None, None, due_us] for number in range(6)]
            await produce_records(site, rows, "s.delayed")
            await trio.sleep(3.0)
            one = await member(site)
            leases = await one.take(6)
            for lease in leases:
                assert await one.settle([Verb.TERM, lease.token, [], None, "bad"]) == {}
            await one.leave()
            await trio.sleep(1.0)
            await admin(site, "dead_redrive", stream="s", ranges=[1, 4])
    except BaseException as error:
        if not died(error):
            raise
        return False
    return True


async def finish(files: MemoryFiles) -> None:
    """Another daemon: what was decided is carried out, and once."""
    async with opened(files.process()) as site:
        await trio.sleep(15.0)
        waiting = await records_in(site, "s.delayed")
        if not waiting:
            return
        values = await values_in(site, "s")
        first, rest = values[:6], values[6:]
        assert first == [b"%d" % number for number in range(6)]
        dead = await values_in(site, "s.dead")
        assert len(dead) == len(set(dead))
        assert rest in ([], dead[1:4])
        told = await admin(site, "dead", stream="s")
        if dead:
            redriven = [1, 4] if rest else []
            left = [0, len(dead)] if not redriven else [0, 1, 4, 6]
            assert told["partitions"][0]["ranges"] == left
        lag = await admin(site, "lag")
        if lag:
            open_now = len(values) - lag[0]["lag"]
            assert len(dead) == open_now


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power"])
async def test_kills_at_every_call(autojump_clock: Clock, power: bool) -> None:
    files = MemoryFiles()
    assert await life(files)
    await finish(files)
    for number in range(random.randrange(STRIDE), files.calls, STRIDE):
        files = MemoryFiles()
        files.die_at_call(number, random.Random(number) if power else None)
        try:
            await life(files)
            files.heal()
            await finish(files)
        except BaseException as error:
            error.add_note(f"killed at call {number}")
            raise


@pytest.mark.parametrize("backlog", [20_001])
async def test_a_backlog_holds_groups_up(autojump_clock: Clock, backlog: int) -> None:
    async with opened() as site:
        one = await member(site, max_in_flight=10)
        deliver: Any = site.daemon.deliver._deliverer  # type: ignore[union-attr]
        deliver.moves._backlogs["s.dead"] = backlog
        await trio.sleep(0.5)
        await produce(site, 10)
        assert await one.look(10.0) == []
        deliver.moves._backlogs["s.dead"] = 0
        assert len(await one.look(1.0)) == 1
