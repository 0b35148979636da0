"""What workloads share: the records of a run, connections with producers, tasks side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice

import attrs
import trio

from streamer import setting
from streamer.client import Client, Producer, connect
from streamer_tools.bench.contract import Measurement
from streamer_tools.bench.values import POOL_RECORDS, log_lines

#: The client's own default, of requests under way in a partition.
_IN_FLIGHT = 16


@attrs.frozen
class RecordSettings:
    """The settings that every workload has."""

    records: int = setting(100_000, "records of a run", min=1)
    value_bytes: int = setting(
        100, "bytes of a value, or as near as a JSON line can be", unit="bytes", min=1
    )
    seed: int = setting(0, "of the values")


class Values:
    """The values of a run: a pool of lines, gone through in a circle."""

    def __init__(self, pool: Sequence[bytes], records: int) -> None:
        self._pool = list(pool)
        self.records = records

    @classmethod
    def of(cls, settings: RecordSettings, batch: int = 1) -> Values:
        """Those that the settings ask for; the pool is larger than a batch."""
        count = max(batch, min(settings.records, POOL_RECORDS))
        return cls(log_lines(count, settings.value_bytes, settings.seed), settings.records)

    def __iter__(self) -> Iterator[bytes]:
        return islice(cycle(self._pool), self.records)

    def batches(self, batch: int) -> Iterator[list[bytes]]:
        """All of them in lists of `batch`; the last may be shorter."""
        pool = self._pool + self._pool[:batch]
        at, left = 0, self.records
        while left:
            count = min(batch, left)
            yield pool[at : at + count]
            at = (at + count) % len(self._pool)
            left -= count

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        rounds, rest = divmod(self.records, len(self._pool))
        return rounds * sum(map(len, self._pool)) + sum(map(len, self._pool[:rest]))


@attrs.frozen
class ProducerOptions:
    """How the producers of a run group and how much they have under way."""

    batch: int = 1000
    batch_bytes: int = 512 * 1024
    linger_s: float = 0.0
    in_flight: int = _IN_FLIGHT


async def open_producers(
    stack: AsyncExitStack, url: str, stream: str, count: int, options: ProducerOptions
) -> list[Producer]:
    """`count` connections with a producer each, closed with the stack."""
    producers = []
    for _ in range(count):
        client = await stack.enter_async_context(connect(url))
        producer = client.producer(
            stream,
            batch_records=options.batch,
            batch_bytes=options.batch_bytes,
            linger_s=options.linger_s,
            in_flight=max(_IN_FLIGHT, options.in_flight),
        )
        producers.append(await stack.enter_async_context(producer))
    return producers


async def side_by_side(
    work: Callable[[Producer], Awaitable[None]], producers: Sequence[Producer]
) -> None:
    """A task a producer, until all are done."""
    async with trio.open_nursery() as nursery:
        for producer in producers:
            nursery.start_soon(work, producer)


async def fill(url: str, stream: str, values: Values, batch: int = 1000) -> None:
    """Put the values into a stream, in batches, without timing it."""
    async with connect(url) as client, client.producer(stream) as producer:
        for each in values.batches(batch):
            await producer.send_batch(each)


async def stored(url: str, stream: str, found: Measurement) -> Measurement:
    """The measurement with what the stream takes on the daemon's disk."""
    async with connect(url) as client:
        return attrs.evolve(found, disk_bytes=await _stored_bytes(client, stream))


async def _stored_bytes(client: Client, stream: str) -> int:
    return sum(partition.bytes for partition in (await client.stream(stream)).partitions)
