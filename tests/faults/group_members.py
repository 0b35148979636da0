"""What happens in a run of groups: its processes, and what is done to them.

Consumers are kept alive: whichever way one ends, another life of it begins, until all is over. The
daemon is killed and started again, at times while it recovers.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.faults import group_consumer, group_producer
from tests.faults.daemon import PATIENCE_S, RealDaemon
from tests.faults.group_consumer import Notes
from tests.faults.group_history import LIFE_SUFFIX, PRODUCED_FILE

MODES = ("shared", "ordered", "key")
PARTITIONS = 3
KEYS = 50
MAX_DELIVERIES = 5
BACKOFF_S = (0.1, 0.2)
#: How often a write is made to look as if it had been under way when the daemon was killed.
_TEAR = 0.3
_LOOK_S, _STALL_S = 0.1, 0.4


@attrs.frozen
class Plan:
    """What a run is like; seconds, and means where things are random."""

    seconds: float
    mode: str
    seed: int
    kill_every_s: float = 1.2
    daemon_every_s: float = 8.0
    poisons: int = 2
    consumers: int = 4
    ack_wait_s: float = 2.0
    #: How often a record comes whose handler costs seconds.
    every_s: dict[str, float] = attrs.Factory(
        lambda: {"hang": 6.0, "slow": 6.0, "fail": 6.0, "term": 2.0}
    )

    @classmethod
    def short(cls, mode: str, seed: int) -> Plan:
        """Some seconds, with one of everything."""
        return cls(
            seconds=2.0,
            mode=mode,
            seed=seed,
            kill_every_s=0.6,
            daemon_every_s=1.2,
            poisons=1,
            consumers=3,
            ack_wait_s=1.0,
            every_s={"hang": 3.0, "slow": 3.0, "fail": 2.0, "term": 0.5},
        )

    @property
    def rate(self) -> float:
        """Records a second: in an ordered group each that waits holds up its whole partition."""
        return 100.0 if self.mode == "ordered" else 200.0

    @property
    def poison_at(self) -> list[float]:
        return [self.seconds * (number + 0.3) / self.poisons for number in range(self.poisons)]


async def _spawn(module: Any, options: Any, errors: Any) -> trio.Process:
    command = [sys.executable, "-m", module.__name__, json.dumps(attrs.asdict(options))]
    return await trio.lowlevel.open_process(command, stdin=-3, stdout=errors, stderr=errors)


@attrs.define(eq=False)
class Slot:
    """A consumer, over all its lives."""

    name: str
    life: int = 0
    process: trio.Process | None = None
    #: Signalled, and not gone yet.
    doomed: bool = False

    @property
    def life_name(self) -> str:
        return f"{self.name}.{self.life}"


@attrs.define(eq=False)
class Run:
    """The processes of a run, and what was done to them."""

    plan: Plan
    daemon: RealDaemon
    notes: Path
    rng: random.Random
    driver: Notes
    slots: list[Slot]
    counts: Counter[str] = attrs.Factory(Counter)
    problems: list[str] = attrs.Factory(list)
    stopping: bool = False
    #: No more faults; what has begun is brought to its end.
    peace: bool = False

    # ------------------------------------------------------------------------------ processes

    async def keep(self, slot: Slot) -> None:
        """Start a consumer again whenever it has ended, until all is over."""
        while not self.stopping:
            slot.life += 1
            name = slot.life_name
            with (self.notes / f"{name}.err").open("wb") as errors:
                slot.process = await _spawn(group_consumer, self._options(name), errors)
            slot.doomed = False
            if self.stopping:
                # Just too late to be told.
                self._signal(slot, leave=False)
            status = await slot.process.wait()
            self.driver.write("exit", name, status)
            if status not in (0, -signal.SIGKILL):
                text = (self.notes / f"{name}.err").read_text(errors="replace")
                self.problems.append(f"{name} ended with status {status}:\n{text[-3000:]}")
                return
            if not self.stopping:
                await trio.sleep(self.rng.uniform(0, 0.5))

    def _options(self, name: str) -> group_consumer.Options:
        rng, plan = self.rng, self.plan
        return group_consumer.Options(
            url=self.daemon.unix,
            notes=str(self.notes / f"{name}{LIFE_SUFFIX}"),
            seed=f"{name} {plan.seed}",
            mode=plan.mode,
            ack_wait_s=plan.ack_wait_s,
            max_deliveries=MAX_DELIVERIES,
            backoff_s=list(BACKOFF_S),
            max_in_flight=rng.choice([1, 8, 50]),
            batch_records=rng.choice([0, 1, 5]),
            deliveries=rng.random() < 0.5,
            tasks=rng.choice([1, 3]),
            finish=rng.random() < 0.5,
            confirm=0.3,
            die=0.0005,
        )

    def stop_consumers(self) -> None:
        """All leave in order."""
        self.stopping = True
        for slot in self.slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.doomed = False
                self._signal(slot, leave=True)

    # --------------------------------------------------------------------------------- faults

    async def trouble_consumers(self) -> None:
        """SIGKILL, and SIGTERM, at random moments."""
        while True:
            await trio.sleep(self.rng.expovariate(1 / self.plan.kill_every_s))
            if self.peace:
                return
            alive = [slot for slot in self.slots if slot.process and slot.process.poll() is None]
            if not alive:
                continue
            self._signal(self.rng.choice(alive), leave=self.rng.random() < 0.4)

    def _signal(self, slot: Slot, *, leave: bool) -> None:
        """SIGTERM, once it takes that; else SIGKILL, as also on the way out."""
        assert slot.process is not None
        path = self.notes / f"{slot.life_name}{LIFE_SUFFIX}"
        if leave and not slot.doomed and path.exists() and path.stat().st_size:
            slot.process.terminate()
            self.counts["leaves"] += 1
        else:
            self.driver.write("kill", slot.life_name)
            slot.process.kill()
            self.counts["kills"] += 1
        slot.doomed = True

    async def trouble_daemon(self) -> None:
        """SIGKILL under load, and sometimes again while it recovers."""
        while True:
            await trio.sleep(self.rng.uniform(0.3, 1.7) * self.plan.daemon_every_s)
            if self.peace:
                return
            await self._kill_daemon()
            if self.rng.random() < _TEAR:
                self._tear()
            if self.rng.random() < 0.3:
                await self.daemon.spawn()
                if await self.daemon.lock_taken():
                    await trio.sleep(self.rng.uniform(0, 0.03))
                await self._kill_daemon()
            await trio.sleep(self.rng.uniform(0, 0.5))
            await self.daemon.start()

    def _tear(self) -> None:
        """Leave part of a write of the journal behind, as a kill in the middle of one does."""
        last = self.daemon.segments("__groups")[-1]
        begun = last.read_bytes()[: self.rng.randint(1, 2000)]
        with last.open("ab") as file:
            file.write(self.rng.choice([begun, begun[::-1]]))
        self.counts["writes_torn"] += 1

    async def _kill_daemon(self) -> None:
        self.driver.write("daemon-kill")
        await self.daemon.kill()
        self.counts["daemon_kills"] += 1

    async def watch(self) -> None:
        """Note when this process stood still: the machine has too much to do."""
        while True:
            began = time.monotonic()
            await trio.sleep(_LOOK_S)
            if time.monotonic() - began > _STALL_S:
                self.driver.write("stall", f"{began:.6f}")
                self.counts["stalls"] += 1


async def _begun(notes: Path) -> None:
    """Wait until something was produced, and something handled."""
    while True:
        if _is_noted(notes, PRODUCED_FILE, b" acked ") and _is_noted(
            notes, f"*{LIFE_SUFFIX}", b" begin "
        ):
            return
        await trio.sleep(_LOOK_S)


def _is_noted(notes: Path, files: str, what: bytes) -> bool:
    return any(what in path.read_bytes() for path in notes.glob(files))


async def trouble(of: Run) -> None:
    """Produce, with faults, for so long; then let everything come to its end.

    Faults begin once there are records and somebody who handles them.
    """
    plan = of.plan
    options = group_producer.Options(
        url=of.daemon.unix,
        notes=str(of.notes / PRODUCED_FILE),
        seed=f"records {plan.seed}",
        keys=KEYS,
        partitions=PARTITIONS,
        rate=plan.rate,
        poison_at=plan.poison_at,
        every_s=plan.every_s,
    )
    with (of.notes / "producer.err").open("wb") as errors:
        producer = await _spawn(group_producer, options, errors)
    try:
        with trio.fail_after(PATIENCE_S):
            await _begun(of.notes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(of.trouble_consumers)
            nursery.start_soon(of.trouble_daemon)
            await trio.sleep(plan.seconds)
            of.peace = True
        producer.terminate()
        with trio.fail_after(PATIENCE_S):
            status = await producer.wait()
    finally:
        producer.kill()
    if status:
        text = (of.notes / "producer.err").read_text(errors="replace")
        of.problems.append(f"the producer ended with status {status}:\n{text[-3000:]}")


async def gone(slots: Sequence[Slot]) -> None:
    for slot in slots:
        if slot.process is not None:
            await slot.process.wait()
