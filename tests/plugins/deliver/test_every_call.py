"""A daemon that is killed at any call to its disk: what was promised is kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from streamer.limits import KIB
from streamer.testing.memory_files import MemoryFiles, ProcessDied
from streamer.wire import frames
from streamer.wire.frames import Verb
from tests.plugins.deliver.kit import (
    Member,
    drained,
    member,
    offsets_of,
    opened,
    produce,
    records_of,
    small_segments,
    values_in,
)
from tests.site import Site

Clock = trio.testing.MockClock

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
STRIDE = 41


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power"])
@pytest.mark.parametrize("batch_bytes", [256 * KIB, 100])
async def test_a_kill_at_every_call(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, batch_bytes: int, power: bool
) -> None:
    """Or cut off. Also within a snapshot, which is of many batches where those are small."""
    small_segments(monkeypatch, 600)
    monkeypatch.setattr("streamer_plugins.deliver.journal._BATCH_BYTES", batch_bytes)
    files = MemoryFiles()
    life = Life(files)
    await script(life)
    await life.check()
    assert not life.deaths
    for number in range(random.randrange(STRIDE), files.calls, STRIDE):
        files = MemoryFiles()
        files.die_at_call(number, random.Random(number) if power else None)
        life = Life(files)
        try:
            await script(life)
            files.heal()
            await life.check()
        except BaseException as error:
            error.add_note(f"killed at call {number}")
            raise
