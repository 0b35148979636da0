"""`streamer bench leases`: what very many deliveries that are out cost the daemon.

Rules: this runs the daemon's own `Group`, `Ledger` and timing wheel, without a daemon round them:
no network, no disk, and a clock that is a number, so half an hour of waiting takes a moment. Each
repeat is a process of its own, because memory that was used once is not given back. A lease is of
one record, which is the worst case; the calls are those of the deliver stage, in its order.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from streamer import setting
from streamer.groups.group import Group, Member
from streamer.groups.settings import GroupSettings
from streamer.groups.wheel import TICK_S
from streamer_tools.bench import contract as bench
from streamer_tools.bench.contract import Benchmark, Target

#: Leases that are handed out in a second of the clock: they run out as they were handed out.
_HAND_OUT_PER_S = 50_000
#: Records in a batch of the log, and bytes of a record.
_BATCH_RECORDS = 1000
_RECORD_BYTES = 100
_US = 1_000_000
#: After it all that ran out may be handed out again: the backoff, its jitter, a tick.
_PAUSE_S = 2.0


@attrs.frozen
class Plan:
    """What a run is asked to do; times in seconds of the run's own clock."""

    leases: int = setting(1_000_000, "deliveries that are out at once", min=1)
    partitions: int = setting(4, "partitions that they are spread over", min=1)
    ack_wait_s: float = setting(
        1800.0, "how long a lease lasts, by the run's own clock", unit="s", min=0.001
    )
    waiting_s: float = setting(
        600.0, "how long they all wait, by the run's own clock; below --ack-wait", unit="s", min=0.0
    )


def fault(plan: Plan) -> str | None:
    """Why a plan would not measure what it says: leases would run out while they are to wait."""
    # The first ones wait while the last are handed out.
    shortest = plan.waiting_s + plan.leases / _HAND_OUT_PER_S + 2 * TICK_S
    if plan.ack_wait_s >= shortest:
        return None
    return (
        f"--ack-wait is {plan.ack_wait_s:g} s: {plan.leases:,} leases that wait for "
        f"{plan.waiting_s:g} s need at least {shortest:g} s"
    )


class Pauses:
    """Times Python's garbage collections in a `with` block: they stop everything meanwhile."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._begin = 0.0

    def __enter__(self) -> None:
        gc.callbacks.append(self._note)

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._begin = now
        else:
            self.longest_s = max(self.longest_s, now - self._begin)


class Run:
    """A group with one member, and a clock; each step returns figures by name."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._now = 0.0
        settings = GroupSettings(ack_wait_s=plan.ack_wait_s, max_deliveries=0, backoff_s=(1.0,))
        cursors = [0] * plan.partitions
        self._group = Group("bench", "leases", settings, cursors, self._now, random.Random(0))
        self._member = self._new_member(1)
        self._high_water = -(-plan.leases // plan.partitions)
        self._token = 0
        self._longest_s = 0.0

    def figures(self) -> dict[str, float]:
        """All steps, in the order of a lease's life."""
        pauses = Pauses()
        with pauses:
            found = self._steps()
        return found | {"longest_gc_ms": pauses.longest_s * 1e3}

    def _steps(self) -> dict[str, float]:
        before = _rss_bytes()
        found = self._hand_out()
        after = _rss_bytes()
        if before is not None and after is not None:
            found["bytes_per_lease"] = (after - before) / self._plan.leases
            found["memory_mb"] = (after - before) / 1e6
        return found | self._wait() | self._extend() | self._run_out() | self._redeliver()

    def _new_member(self, number: int) -> Member:
        many = 1 << 40
        member = Member(number, "bench", "", many, many, batch_records=1)
        self._group.join(member)
        return member

    def _lease(self, partition: int, *, alone: bool) -> bool:
        """Hand out the next record of a partition, as the deliver stage does; False if none."""
        ledger = self._group.ledgers[partition]
        offset = ledger.next_read(self._high_water, alone=alone)
        if offset is None:
            return False
        first = offset - offset % _BATCH_RECORDS
        end = min(first + _BATCH_RECORDS, self._high_water)
        room = 1 if alone else self._member.room
        choice = ledger.choose(first, end, None, room, alone=alone)
        assert choice is not None, "there is no batch without the offset that was asked for"
        self._token += 1
        now_us = int(self._now * _US)
        ledger.lease(self._token, self._member, choice, _RECORD_BYTES, self._now, now_us)
        return True

    def _hand_out(self) -> dict[str, float]:
        begin = time.perf_counter()
        for number in range(self._plan.leases):
            self._now = number / _HAND_OUT_PER_S
            handed = self._lease(number % self._plan.partitions, alone=False)
            assert handed, "there are as many records as leases"
        return {"handed_out_per_s": self._plan.leases / (time.perf_counter() - begin)}

    def _ticks(self, until: float) -> Iterator[float]:
        while self._now < until:
            self._now += TICK_S
            yield self._now

    def _expire(self) -> int:
        """Look after all timers that are due; how many leases ran out. The daemon, too, makes
        several calls of it, and others have a turn between them."""
        now_us = int(self._now * _US)
        ended = 0
        for ledger in self._group.ledgers:
            while True:
                timers = ledger.timers
                begin = time.perf_counter()
                count = self._group.expire(ledger, self._now, now_us)
                self._longest_s = max(self._longest_s, time.perf_counter() - begin)
                if not count and ledger.timers == timers:
                    break
                ended += count
        return ended

    def _wait(self) -> dict[str, float]:
        """Nothing happens but ticks."""
        cpu = time.process_time()
        until = self._now + self._plan.waiting_s
        ended = sum(self._expire() for _ in self._ticks(until))
        assert not ended, f"{ended} leases ran out before their time"
        cpu = time.process_time() - cpu
        return {"waiting_cpu_percent": 100 * cpu / self._plan.waiting_s}

    def _extend(self) -> dict[str, float]:
        tokens = list(self._member.leases)
        start = self._now
        begin = time.perf_counter()
        for number, token in enumerate(tokens):
            self._now = start + number / _HAND_OUT_PER_S
            self._group.extend(self._member, token, self._now)
        return {"extended_per_s": len(tokens) / (time.perf_counter() - begin)}

    def _run_out(self) -> dict[str, float]:
        """All leases run out; the journal takes its news at each tick."""
        seconds, ended, self._longest_s = 0.0, 0, 0.0
        for _ in self._ticks(self._now + self._plan.ack_wait_s + 1.0):
            begin = time.perf_counter()
            count = self._expire()
            for ledger in self._group.ledgers:
                ledger.take_retry_news()
                ledger.lost.clear()
            if count:
                seconds, ended = seconds + time.perf_counter() - begin, ended + count
        assert ended == self._plan.leases, f"{ended} leases ran out"
        return {"expired_per_s": ended / seconds, "longest_call_ms": self._longest_s * 1e3}

    def _redeliver(self) -> dict[str, float]:
        """All of them once more, each alone, and acked: its last attempt ended with no word."""
        for _ in self._ticks(self._now + _PAUSE_S):
            self._expire()
        begin = time.perf_counter()
        done = 0
        while done < self._plan.leases:
            partition = done % self._plan.partitions
            ledger = self._group.ledgers[partition]
            if self._group.for_suspect(ledger, _is_ready) is None or not self._lease(
                partition, alone=True
            ):
                break
            self._group.ack(self._member, self._token, [])
            done += 1
            if done % _BATCH_RECORDS == 0:
                for each in self._group.ledgers:
                    each.take_news()
        assert done == self._plan.leases, f"{done} records came again"
        return {"redelivered_per_s": done / (time.perf_counter() - begin)}


@asynccontextmanager
async def open_leases(plan: Plan, _: Target) -> AsyncGenerator[bench.Run, None]:
    """Runs the daemon's own structures without a daemon. Leases of one record each are handed out,
    wait, are prolonged, run out, and are handed out again one by one and acked."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:

        async def run() -> dict[str, float]:
            # Nothing else is in this loop, so nothing waits for it.
            return pool.apply(_in_process, (attrs.astuple(plan),))

        yield run


def headline(document: Mapping[str, Any]) -> str:
    """The report in one line, for a person."""
    found = document["median"]
    parts = [f"{found['redelivered_per_s']:,.0f} redelivered/s"]
    if "memory_mb" in found:
        parts.append(f"{found['memory_mb']:,.0f} MB, {found['bytes_per_lease']:,.0f} bytes a lease")
    parts.append(f"{found['waiting_cpu_percent']:.2g} % of a CPU while they wait")
    return f"leases: {document['settings']['leases']:,} out, " + ", ".join(parts)


def _in_process(fields: tuple[Any, ...]) -> dict[str, float]:
    return Run(Plan(*fields)).figures()


def _rss_bytes() -> int | None:
    """Resident memory of this process; None where /proc is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _is_ready(_: Member) -> bool:
    """Whether a member's session takes more: there is none here."""
    return True


BENCHMARK = Benchmark(
    "leases",
    "Very many deliveries out at once: memory, CPU while they wait, redelivery.",
    Plan,
    open_leases,
    warm=None,
    fault=fault,
    headline=headline,
    daemon=False,
)
