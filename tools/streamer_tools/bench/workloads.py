"""What `bench` times: one coroutine a workload.

Rules: connecting and filling lie outside the watch; the last acknowledgement, or the
last record received, ends it. Values are made before. Every loop does what a program of a user
would do, with the public client and nothing beside it, and keeps a time by one append to an array.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice
from typing import TYPE_CHECKING

import attrs
import trio

from streamer.client import Client, Producer, connect
from streamer_tools.bench.process import cpu_seconds
from streamer_tools.bench.results import Measurement, latency_ms

if TYPE_CHECKING:
    from streamer.client import Consumer

#: The client's own default, of requests under way in a partition.
_IN_FLIGHT = 16
#: The most records that a member of a group may hold.
_HELD_MAX = 1_000_000


@attrs.frozen
class Plan:
    """What a run is asked to do; `pool` holds the values, gone through in a circle."""

    url: str
    pool: Sequence[bytes]
    records: int
    batch: int
    clients: int
    #: Batches under way at once in each client (`produce`).
    in_flight: int
    #: Records a second (`latency`).
    rate: float
    daemon_pid: int | None = None
    #: Records that are acked one by one (`group`); at most `records`.
    single_records: int = 0

    def values(self) -> Iterator[bytes]:
        """All values of a run, one by one."""
        return islice(cycle(self.pool), self.records)

    def batches(self) -> Iterator[list[bytes]]:
        """All values of a run, in lists of `batch`; the last may be shorter."""
        pool = list(self.pool)
        pool += pool[: self.batch]
        at, left = 0, self.records
        while left:
            count = min(self.batch, left)
            yield pool[at : at + count]
            at = (at + count) % len(self.pool)
            left -= count

    def nbytes(self) -> int:
        """Bytes of all values of a run."""
        rounds, rest = divmod(self.records, len(self.pool))
        return rounds * sum(map(len, self.pool)) + sum(map(len, self.pool[:rest]))


class Watch:
    """Times a `with` block: seconds, and CPU seconds of both processes."""

    def __init__(self, daemon_pid: int | None) -> None:
        self._daemon_pid = daemon_pid
        self.seconds = 0.0
        self.client_cpu_s: float | None = None
        self.daemon_cpu_s: float | None = None

    def __enter__(self) -> Watch:
        self._cpu = cpu_seconds(os.getpid()), cpu_seconds(self._daemon_pid)
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._begin
        now = cpu_seconds(os.getpid()), cpu_seconds(self._daemon_pid)
        self.client_cpu_s, self.daemon_cpu_s = map(_difference, now, self._cpu)

    def measurement(self, plan: Plan, latencies_s: Sequence[float] = ()) -> Measurement:
        """What was timed, as a measurement of the plan's records."""
        return Measurement(
            records=plan.records,
            nbytes=plan.nbytes(),
            seconds=self.seconds,
            latencies_s=latencies_s,
            client_cpu_s=self.client_cpu_s,
            daemon_cpu_s=self.daemon_cpu_s,
        )


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


async def produce(plan: Plan, stream: str) -> Measurement:
    """Batches by `send_batch`, several under way at once; a latency is a batch's."""
    times = array("d")
    batches = plan.batches()

    async def sender(producer: Producer) -> None:
        for values in batches:
            begin = time.perf_counter()
            await producer.send_batch(values)
            times.append(time.perf_counter() - begin)

    async with AsyncExitStack() as stack:
        producers = await _producers(stack, plan, stream, plan.clients)
        with Watch(plan.daemon_pid) as watch:
            await _side_by_side(sender, [p for p in producers for _ in range(plan.in_flight)])
    return watch.measurement(plan, times)


async def post(plan: Plan, stream: str) -> Measurement:
    """One record a call by `post`, then a flush: the client groups them."""
    values = plan.values()

    async def sender(producer: Producer) -> None:
        for value in values:
            await producer.post(value)
        await producer.flush()

    async with AsyncExitStack() as stack:
        producers = await _producers(stack, plan, stream, plan.clients)
        with Watch(plan.daemon_pid) as watch:
            await _side_by_side(sender, producers)
    return watch.measurement(plan)


async def single(plan: Plan, stream: str) -> Measurement:
    """One record each: every connection sends one and waits for its acknowledgement."""
    async with AsyncExitStack() as stack:
        producers = await _producers(stack, plan, stream, plan.clients)
        return await _one_by_one(plan, producers)


async def shared(plan: Plan, stream: str) -> Measurement:
    """As `single`, but all tasks share one client."""
    async with AsyncExitStack() as stack:
        [producer] = await _producers(stack, plan, stream, 1)
        return await _one_by_one(plan, [producer] * plan.clients)


async def _one_by_one(plan: Plan, producers: Sequence[Producer]) -> Measurement:
    times = array("d")
    values = plan.values()

    async def sender(producer: Producer) -> None:
        for value in values:
            begin = time.perf_counter()
            await producer.send(value)
            times.append(time.perf_counter() - begin)

    with Watch(plan.daemon_pid) as watch:
        await _side_by_side(sender, producers)
    return watch.measurement(plan, times)


async def fill(plan: Plan, stream: str) -> None:
    """Put the plan's records into the stream, as `produce` does, without timing it."""
    async with connect(plan.url) as client, client.producer(stream) as producer:
        for values in plan.batches():
            await producer.send_batch(values)


async def consume(plan: Plan, stream: str) -> Measurement:
    """Read a stream that `fill` filled, from the start, to Python values."""
    received = 0
    async with connect(plan.url) as client:
        with Watch(plan.daemon_pid) as watch:
            async with client.reader(stream, start="earliest", follow=False) as reader:
                async for batch in reader:
                    received += len(batch.values)
    assert received == plan.records, f"{received} records received, {plan.records} were sent"
    return watch.measurement(plan)


async def group(plan: Plan, stream: str) -> Measurement:
    """As a member of a group: a stream that `fill` filled, to Python values, acked by the delivery.

    Then a part of it once more, by another group, one ack a record. The watch ends when the last
    ack is on the daemon's disk.
    """
    single = min(plan.single_records, plan.records)
    held = min(plan.in_flight * plan.batch, _HELD_MAX)
    async with connect(plan.url) as client:
        # A group's first member makes it, which is not what is timed.
        for name in ("batches", "records"):
            await client.admin("group_create", {"stream": stream, "group": name, "settings": {}})
        with Watch(plan.daemon_pid) as watch:
            async with client.consumer(stream, group="batches", max_in_flight=held) as consumer:
                await _ack_deliveries(consumer, plan.records)
        with Watch(plan.daemon_pid) as one_by_one:
            async with client.consumer(stream, group="records", max_in_flight=held) as consumer:
                await _ack_records(consumer, single)
    extra = {"single_records_per_s": single / one_by_one.seconds}
    for name, cpu_s in (("client", one_by_one.client_cpu_s), ("daemon", one_by_one.daemon_cpu_s)):
        if cpu_s is not None:
            extra[f"single_{name}_cpu_s"] = cpu_s
    return attrs.evolve(watch.measurement(plan), extra=extra)


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


async def latency(plan: Plan, stream: str) -> Measurement:
    """A steady rate by `post`; each record is timed from its call until a reader has it.

    Where the schedule could not be kept, the time since a record was due is longer than the time
    since its call; it is reported beside it, so that waiting is never left out.
    """
    called = array("d", bytes(8 * plan.records))
    received = array("d", bytes(8 * plan.records))
    async with connect(plan.url) as client, connect(plan.url) as other:
        await client.stream(stream, create=True)
        with Watch(plan.daemon_pid) as watch:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_receive_all, other, stream, received)
                begin = time.perf_counter()
                async with client.producer(stream) as producer:
                    await _post_steadily(producer, plan, begin, called)
    due = [begin + number / plan.rate for number in range(plan.records)]
    late = latency_ms(now - then for now, then in zip(received, due, strict=True)) or {}
    extra = {f"since_due_{name}_ms": late[name] for name in ("p50", "p99")}
    times = [now - then for now, then in zip(received, called, strict=True)]
    return attrs.evolve(watch.measurement(plan, times), extra=extra)


async def _post_steadily(
    producer: Producer, plan: Plan, begin: float, called: array[float]
) -> None:
    values = plan.values()
    number = 0
    while number < plan.records:
        due = min(plan.records, int((time.perf_counter() - begin) * plan.rate) + 1)
        while number < due:
            called[number] = time.perf_counter()
            await producer.post(next(values))
            number += 1
        await trio.sleep(max(0.0, begin + number / plan.rate - time.perf_counter()))


async def _receive_all(client: Client, stream: str, received: array[float]) -> None:
    async with client.reader(stream, start="earliest") as reader:
        async for batch in reader:
            now = time.perf_counter()
            first = batch.base_offset
            for offset in range(first, first + len(batch.values)):
                received[offset] = now
            if first + batch.count >= len(received):
                return


async def stored_bytes(url: str, stream: str) -> int:
    """What a stream takes on the daemon's disk."""
    async with connect(url) as client:
        return sum(partition.bytes for partition in (await client.stream(stream)).partitions)


async def _producers(stack: AsyncExitStack, plan: Plan, stream: str, count: int) -> list[Producer]:
    """`count` connections with a producer each."""
    producers = []
    for _ in range(count):
        client = await stack.enter_async_context(connect(plan.url))
        producer = client.producer(
            stream, batch_records=plan.batch, in_flight=max(_IN_FLIGHT, plan.in_flight)
        )
        producers.append(await stack.enter_async_context(producer))
    return producers


async def _side_by_side(
    work: Callable[[Producer], Awaitable[None]], producers: Sequence[Producer]
) -> None:
    async with trio.open_nursery() as nursery:
        for producer in producers:
            nursery.start_soon(work, producer)
