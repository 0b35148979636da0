"""`latency`: a steady rate of single records, each timed from its call until a reader has it.

Rules: the schedule is fixed beforehand. Where it could not be kept, the time since a record was due
is longer than the time since its call; it is reported beside it, so that waiting is never left out.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from streamer import setting
from streamer.client import Client, Producer, connect
from streamer_tools.bench.contract import Benchmark, Measurement, Run, Target
from streamer_tools.bench.results import latency_ms
from streamer_tools.bench.watch import Watch
from streamer_tools.bench.workloads.records import RecordSettings, Values, stored


@attrs.frozen
class LatencySettings(RecordSettings):
    """Settings of `latency`."""

    records: int = setting(25_000, "records of a run", min=1)
    rate: float = setting(5000.0, "records a second", unit="records/s", min=1.0)


@asynccontextmanager
async def open_latency(settings: LatencySettings, target: Target) -> AsyncGenerator[Run, None]:
    """A producer and a reader, on connections of their own."""
    values = Values.of(settings)
    called = array("d", bytes(8 * settings.records))
    received = array("d", bytes(8 * settings.records))
    stream = target.stream
    async with connect(target.url) as client, connect(target.url) as other:
        await client.stream(stream, create=True)

        async def run() -> Measurement:
            with Watch(target.pid) as watch:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_receive_all, other, stream, received)
                    async with client.producer(stream) as producer:
                        await _post_steadily(producer, values, settings.rate, called)
            found = _measured(watch, settings, values, called, received)
            return await stored(target.url, stream, found)

        yield run


def _measured(
    watch: Watch,
    settings: LatencySettings,
    values: Values,
    called: array[float],
    received: array[float],
) -> Measurement:
    due = [called[0] + number / settings.rate for number in range(settings.records)]
    late = latency_ms(now - then for now, then in zip(received, due, strict=True)) or {}
    times = array("d", (now - then for now, then in zip(received, called, strict=True)))
    at_s = array("d", (then - watch.began for then in called))
    extra = {f"since_due_{name}_ms": late[name] for name in ("p50", "p99")}
    return attrs.evolve(watch.measurement(values.records, values.nbytes, times, at_s), extra=extra)


async def _post_steadily(
    producer: Producer, values: Values, rate: float, called: array[float]
) -> None:
    left = iter(values)
    number = 0
    begin = time.perf_counter()
    while number < values.records:
        due = min(values.records, int((time.perf_counter() - begin) * rate) + 1)
        while number < due:
            called[number] = time.perf_counter()
            await producer.post(next(left))
            number += 1
        await trio.sleep(max(0.0, begin + number / rate - time.perf_counter()))


async def _receive_all(client: Client, stream: str, received: array[float]) -> None:
    async with client.reader(stream, start="earliest") as reader:
        async for batch in reader:
            now = time.perf_counter()
            first = batch.base_offset
            for offset in range(first, first + len(batch.values)):
                received[offset] = now
            if first + batch.count >= len(received):
                return


LATENCY = Benchmark(
    "latency", "A steady --rate, timed from send to receive.", LatencySettings, open_latency
)
