"""`swing-load`: single records at a rate that swings, each timed from when it was due to its ack.

Rules: an open loop. The schedule is made before anything is sent, from the seed alone: arrivals at
random (Poisson), at a rate that goes from `rate` to `swing` times as much and back. A record that
cannot be sent in time is late, not left out, so a daemon that stalls is charged for all that came
due meanwhile. Each record is a request of its own, on one of `clients` connections, so that it is
the daemon that groups. How late the generator itself was is reported beside the rest: it sleeps in
milliseconds.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import accumulate, cycle
from typing import Literal

import attrs
import trio

from streamer import setting
from streamer.client import Producer
from streamer_tools.bench.contract import Benchmark, Measurement, Run, Target
from streamer_tools.bench.results import latency_ms
from streamer_tools.bench.values import POOL_RECORDS, log_lines
from streamer_tools.bench.watch import Watch
from streamer_tools.bench.workloads.records import ProducerOptions, open_producers, stored

#: The grid of the schedule's rate.
_GRID_S = 0.001
#: The most requests that a producer may have under way.
_IN_FLIGHT = 64
_WARM_S = 2.0


@attrs.frozen
class SwingLoad:
    """Settings of `swing-load`."""

    seconds: float = setting(12.0, "how long records come due", unit="s", min=0.1)
    rate: float = setting(500.0, "the lowest rate", unit="records/s", min=1.0)
    swing: float = setting(10.0, "how many times as much the highest is", min=1.0, max=1000.0)
    period_s: float = setting(4.0, "from one low to the next", unit="s", min=0.01)
    shape: Literal["sine", "square"] = setting(
        "sine", "how the rate goes: evenly in its logarithm, or by steps"
    )
    clients: int = setting(16, "connections", min=1)
    value_bytes: int = setting(
        100, "bytes of a value, or as near as a JSON line can be", unit="bytes", min=1
    )
    seed: int = setting(0, "of the values and the schedule")


def rate_at(settings: SwingLoad, moment_s: float) -> float:
    """Records a second that come due at that moment."""
    phase = moment_s / settings.period_s
    if settings.shape == "square":
        share = float(phase % 1 >= 0.5)
    else:
        share = (1 - math.cos(2 * math.pi * phase)) / 2
    return settings.rate * float(settings.swing**share)


def schedule(settings: SwingLoad) -> array[float]:
    """When each record is due, in seconds from the begin, rising."""
    steps = math.ceil(settings.seconds / _GRID_S)
    grid = (rate_at(settings, (step + 0.5) * _GRID_S) * _GRID_S for step in range(steps))
    expected = list(accumulate(grid, initial=0.0))
    rng = random.Random(f"swing {settings.seed}")
    due, sum_ = array("d"), 0.0
    while True:
        sum_ += rng.expovariate(1.0)
        at = bisect_left(expected, sum_)
        if at > steps:
            return due
        # Where in its step, as rates change little within one.
        share = (sum_ - expected[at - 1]) / (expected[at] - expected[at - 1])
        due.append((at - 1 + share) * _GRID_S)


def warm(settings: SwingLoad) -> SwingLoad:
    """Both ends of the rate, for two seconds."""
    seconds = min(_WARM_S, settings.seconds)
    return attrs.evolve(settings, seconds=seconds, period_s=seconds)


@asynccontextmanager
async def open_load(settings: SwingLoad, target: Target) -> AsyncGenerator[Run, None]:
    """Single records at a rate that swings, timed from when each was due until its ack came."""
    due = schedule(settings)
    count = max(1, min(len(due), POOL_RECORDS))
    values = log_lines(count, settings.value_bytes, settings.seed)
    options = ProducerOptions(batch=1, in_flight=_IN_FLIGHT)
    async with AsyncExitStack() as stack:
        producers = await open_producers(
            stack, target.url, target.stream, settings.clients, options
        )

        async def run() -> Measurement:
            load = _Load(due, values, producers)
            with Watch(target.pid) as watch:
                await load.send_all()
            return await stored(target.url, target.stream, load.measurement(watch))

        yield run


class _Load:
    """One run: what is due is sent, whatever has become of what was due before."""

    def __init__(
        self, due: array[float], values: Sequence[bytes], producers: Sequence[Producer]
    ) -> None:
        self._due = due
        self._values = values
        self._producers = producers
        self._called = array("d", bytes(8 * len(due)))
        self._acked = array("d", bytes(8 * len(due)))
        self._nbytes = 0

    async def send_all(self) -> None:
        async with trio.open_nursery() as nursery:
            begin = time.perf_counter()
            number, count = 0, len(self._due)
            turns: Iterator[Producer] = cycle(self._producers)
            while number < count:
                now = time.perf_counter() - begin
                while number < count and self._due[number] <= now:
                    nursery.start_soon(self._send, number, next(turns), begin)
                    number += 1
                if number < count:
                    await trio.sleep(max(0.0, begin + self._due[number] - time.perf_counter()))

    async def _send(self, number: int, producer: Producer, begin: float) -> None:
        self._called[number] = time.perf_counter() - begin
        value = self._values[number % len(self._values)]
        self._nbytes += len(value)
        await producer.send(value)
        self._acked[number] = time.perf_counter() - begin

    def measurement(self, watch: Watch) -> Measurement:
        due = self._due
        times = array("d", (acked - then for acked, then in zip(self._acked, due, strict=True)))
        late = latency_ms(now - then for now, then in zip(self._called, due, strict=True)) or {}
        found = watch.measurement(len(due), self._nbytes, times, due)
        extra = {f"generator_late_{name}_ms": late[name] for name in ("p50", "p99") if late}
        return attrs.evolve(found, extra=extra | {"last_due_s": due[-1] if due else 0.0})


LOAD = Benchmark(
    "swing-load",
    "The load of swing by itself, timed from when each record was due.",
    SwingLoad,
    open_load,
    warm=warm,
)
