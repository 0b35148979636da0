"""Workloads that send: whole batches, one record a call, one record and its ack.

Rules: connecting lies outside the watch; the last acknowledgement ends it. Values are made before.
A latency is that of one call: of a batch for `produce`, of a record for `single` and `shared`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs

from streamer import setting
from streamer.client import Producer
from streamer_tools.bench.contract import Benchmark, Measurement, Run, Target
from streamer_tools.bench.watch import Times, Watch
from streamer_tools.bench.workloads.records import (
    ProducerOptions,
    RecordSettings,
    Values,
    open_producers,
    side_by_side,
    stored,
)

_KIB = 1024
_MIB = 1024 * 1024


@attrs.frozen
class ProduceSettings(RecordSettings):
    """Settings of `produce`."""

    records: int = setting(1_000_000, "records of a run", min=1)
    batch: int = setting(1000, "records in a batch", min=1)
    clients: int = setting(1, "connections", min=1)
    in_flight: int = setting(8, "batches under way in a client", min=1, max=64)


@attrs.frozen
class PostSettings(RecordSettings):
    """Settings of `post`."""

    records: int = setting(500_000, "records of a run", min=1)
    batch: int = setting(1000, "the most records that the client groups", min=1)
    clients: int = setting(1, "connections", min=1)
    batch_bytes: int = setting(
        512 * _KIB, "the most bytes that the client groups", unit="bytes", min=1, max=64 * _MIB
    )
    linger_s: float = setting(
        0.0, "how long records wait for company in the client", unit="s", min=0.0
    )
    in_flight: int = setting(16, "batches under way in a client", min=16, max=64)


@attrs.frozen
class SingleSettings(RecordSettings):
    """Settings of `single`."""

    records: int = setting(20_000, "records of a run", min=1)
    clients: int = setting(64, "connections", min=1)


@attrs.frozen
class SharedSettings(RecordSettings):
    """Settings of `shared`."""

    records: int = setting(100_000, "records of a run", min=1)
    batch: int = setting(1000, "the most records that the client groups", min=1)
    clients: int = setting(64, "tasks of one client", min=1)
    batch_bytes: int = setting(
        512 * _KIB, "the most bytes that the client groups", unit="bytes", min=1, max=64 * _MIB
    )
    linger_s: float = setting(
        0.0, "how long records wait for company in the client", unit="s", min=0.0
    )
    in_flight: int = setting(16, "requests under way in the client", min=16, max=64)


@asynccontextmanager
async def open_produce(settings: ProduceSettings, target: Target) -> AsyncGenerator[Run, None]:
    """Batches by `send_batch`, several under way at once in each client."""
    values = Values.of(settings, settings.batch)
    options = ProducerOptions(batch=settings.batch, in_flight=settings.in_flight)
    async with AsyncExitStack() as stack:
        producers = await open_producers(
            stack, target.url, target.stream, settings.clients, options
        )

        async def run() -> Measurement:
            watch = Watch(target.pid)
            times = Times(watch)
            batches = values.batches(settings.batch)

            async def sender(producer: Producer) -> None:
                for each in batches:
                    begin = time.perf_counter()
                    await producer.send_batch(each)
                    times.add(begin)

            with watch:
                several = [p for p in producers for _ in range(settings.in_flight)]
                await side_by_side(sender, several)
            found = watch.measurement(values.records, values.nbytes, times.latencies_s, times.at_s)
            return await stored(target.url, target.stream, found)

        yield run


@asynccontextmanager
async def open_post(settings: PostSettings, target: Target) -> AsyncGenerator[Run, None]:
    """One record a call by `post`, then a flush: the client groups them."""
    values = Values.of(settings, settings.batch)
    async with AsyncExitStack() as stack:
        producers = await open_producers(
            stack, target.url, target.stream, settings.clients, _options(settings)
        )

        async def run() -> Measurement:
            left = iter(values)

            async def sender(producer: Producer) -> None:
                for value in left:
                    await producer.post(value)
                await producer.flush()

            with Watch(target.pid) as watch:
                await side_by_side(sender, producers)
            found = watch.measurement(values.records, values.nbytes)
            return await stored(target.url, target.stream, found)

        yield run


@asynccontextmanager
async def open_single(settings: SingleSettings, target: Target) -> AsyncGenerator[Run, None]:
    """One record each: every connection sends one and waits for its acknowledgement."""
    values = Values.of(settings)
    async with AsyncExitStack() as stack:
        producers = await open_producers(
            stack, target.url, target.stream, settings.clients, ProducerOptions()
        )

        async def run() -> Measurement:
            return await _one_by_one(target, values, producers)

        yield run


@asynccontextmanager
async def open_shared(settings: SharedSettings, target: Target) -> AsyncGenerator[Run, None]:
    """As `single`, but all tasks share one client."""
    values = Values.of(settings, settings.batch)
    async with AsyncExitStack() as stack:
        [producer] = await open_producers(stack, target.url, target.stream, 1, _options(settings))

        async def run() -> Measurement:
            return await _one_by_one(target, values, [producer] * settings.clients)

        yield run


def _options(settings: PostSettings | SharedSettings) -> ProducerOptions:
    return ProducerOptions(
        settings.batch, settings.batch_bytes, settings.linger_s, settings.in_flight
    )


async def _one_by_one(target: Target, values: Values, producers: Sequence[Producer]) -> Measurement:
    watch = Watch(target.pid)
    times = Times(watch)
    left = iter(values)

    async def sender(producer: Producer) -> None:
        for value in left:
            begin = time.perf_counter()
            await producer.send(value)
            times.add(begin)

    with watch:
        await side_by_side(sender, producers)
    found = watch.measurement(values.records, values.nbytes, times.latencies_s, times.at_s)
    return await stored(target.url, target.stream, found)


PRODUCE = Benchmark(
    "produce", "Whole batches by send_batch, several under way.", ProduceSettings, open_produce
)
POST = Benchmark(
    "post", "One record a call by post; the client groups them.", PostSettings, open_post
)
SINGLE = Benchmark(
    "single",
    "One record each and its ack awaited, on --clients connections.",
    SingleSettings,
    open_single,
)
SHARED = Benchmark(
    "shared",
    "One record each, in --clients tasks that share one client.",
    SharedSettings,
    open_shared,
)
