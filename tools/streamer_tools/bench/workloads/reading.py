"""Workloads that read what was put into a stream before: by a reader, and as a member of a group.

Rules: filling is set-up. The last record received, or the last acknowledgement on the daemon's
disk, ends the watch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs

from streamer import setting
from streamer.client import Consumer, connect
from streamer_tools.bench.contract import Benchmark, Measurement, Run, Target
from streamer_tools.bench.watch import Watch
from streamer_tools.bench.workloads.records import RecordSettings, Values, fill, stored

#: The most records that a member of a group may hold.
_HELD_MAX = 1_000_000


@attrs.frozen
class ConsumeSettings(RecordSettings):
    """Settings of `consume`."""

    records: int = setting(1_000_000, "records of a run", min=1)
    batch: int = setting(1000, "records in a batch", min=1)


@attrs.frozen
class GroupSettings(RecordSettings):
    """Settings of `group`."""

    records: int = setting(1_000_000, "records of a run", min=1)
    batch: int = setting(1000, "records in a batch", min=1)
    in_flight: int = setting(8, "batches that the member may hold", min=1, max=64)
    single_records: int = setting(
        200_000, "of the records, so many are acked one by one as well", min=1
    )


@asynccontextmanager
async def open_consume(settings: ConsumeSettings, target: Target) -> AsyncGenerator[Run, None]:
    """Read a stream that was filled, from the start, to Python values."""
    values = Values.of(settings, settings.batch)
    await fill(target.url, target.stream, values, settings.batch)
    async with connect(target.url) as client:

        async def run() -> Measurement:
            received = 0
            with Watch(target.pid) as watch:
                async with client.reader(target.stream, start="earliest", follow=False) as reader:
                    async for batch in reader:
                        received += len(batch.values)
            assert received == values.records, f"{received} received, {values.records} sent"
            found = watch.measurement(values.records, values.nbytes)
            return await stored(target.url, target.stream, found)

        yield run


@asynccontextmanager
async def open_group(settings: GroupSettings, target: Target) -> AsyncGenerator[Run, None]:
    """As a member of a group: a stream that was filled, acked by the delivery; then a part of it
    once more, by another group, one ack a record."""
    values = Values.of(settings, settings.batch)
    single = min(settings.single_records, settings.records)
    held = min(settings.in_flight * settings.batch, _HELD_MAX)
    stream = target.stream
    await fill(target.url, stream, values, settings.batch)
    async with connect(target.url) as client:
        # A group's first member makes it, which is not what is timed.
        for name in ("batches", "records"):
            await client.admin("group_create", {"stream": stream, "group": name, "settings": {}})

        async def run() -> Measurement:
            with Watch(target.pid) as watch:
                async with client.consumer(stream, group="batches", max_in_flight=held) as consumer:
                    await _ack_deliveries(consumer, values.records)
            with Watch(target.pid) as one_by_one:
                async with client.consumer(stream, group="records", max_in_flight=held) as consumer:
                    await _ack_records(consumer, single)
            found = watch.measurement(values.records, values.nbytes)
            extra = _extra(one_by_one, single)
            return await stored(target.url, stream, attrs.evolve(found, extra=extra))

        yield run


def _extra(watch: Watch, records: int) -> dict[str, float]:
    extra = {"single_records_per_s": records / watch.seconds}
    for name, cpu_s in (("client", watch.client_cpu_s), ("daemon", watch.daemon_cpu_s)):
        if cpu_s is not None:
            extra[f"single_{name}_cpu_s"] = cpu_s
    return extra


async def _ack_deliveries(consumer: Consumer, records: int) -> None:
    received = 0
    async for delivery in consumer:
        async with delivery:
            received += len(delivery.values)
        if received >= records:
            break
    await consumer.flush()
    assert received == records, f"{received} records received, {records} were sent"


async def _ack_records(consumer: Consumer, records: int) -> None:
    received = 0
    async for message in consumer.messages():
        async with message:
            received += 1
        if received == records:
            break
    await consumer.flush()


CONSUME = Benchmark(
    "consume", "Read everything back, to Python values.", ConsumeSettings, open_consume
)
GROUP = Benchmark(
    "group",
    "As a member of a group: acks by the batch, then one by one.",
    GroupSettings,
    open_group,
)
