"""Programs that produce and read while the daemon comes and goes, and note all that they are told.

Rules: they use the public client and nothing else, and have no code of their own for a daemon that
is away: riding through is the client's work, so whatever it raises fails the run. Each producer
has one task, or its order would mean nothing. `Load.stop` lets each finish the call that it is in.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
import crc32c
import trio

import streamer
from tests.faults.ledger import Ledger, Seen, value_of

#: Far longer than any series of kills.
RECONNECT_S = 120.0
DELIVERY_S = 240.0

_POOL_BYTES = 1 << 16


@attrs.define(eq=False)
class Load:
    """What the programs of a run share."""

    stream: str
    partitions: int
    rng: random.Random
    ledger: Ledger = attrs.Factory(Ledger)
    #: Mean pause between calls, so that a run does not drown in records; 0 for none.
    pause_s: float = 0.002
    value_bytes_max: int = 200
    stopping: bool = False
    #: Goes up with every answer.
    answers: int = 0
    _pool: bytes = b""
    _answered: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    _following: dict[int, Seen] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        self._pool = self.rng.randbytes(_POOL_BYTES)

    def stop(self) -> None:
        self.stopping = True

    def value(self, producer: str, number: int) -> bytes:
        """Always the same for the same record: a program that starts again hands it over again."""
        mark = crc32c.crc32c(b"%s %d" % (producer.encode(), number))
        length = mark % self.value_bytes_max
        start = (mark >> 8) % (_POOL_BYTES - length)
        return value_of(producer, number, self._pool[start : start + length])

    def values(self, producer: str, first: int, count: int) -> list[bytes]:
        return [self.value(producer, number) for number in range(first, first + count)]

    def note(self, producer: str, first: int, receipt: streamer.Receipt) -> None:
        """Take note of a receipt for records from `first` on."""
        self.ledger.acked_at(producer, first, receipt.partition, receipt.offset, receipt.count)
        self.ledger.duplicates += receipt.duplicate
        self.answered()

    def answered(self) -> None:
        self.answers += 1
        self._answered.unpark_all()

    async def next_answer(self) -> None:
        """Wait until a producer is told something."""
        await self._answered.park()

    async def pause(self) -> None:
        if self.pause_s:
            await trio.sleep(self.rng.expovariate(1 / self.pause_s))
        else:
            await trio.lowlevel.checkpoint()

    # ------------------------------------------------------------------------------- producers

    async def send(self, client: streamer.Client, name: str) -> None:
        """One record a call."""
        async with client.producer(self.stream, delivery_timeout_s=DELIVERY_S) as producer:
            await self._send(producer, name)

    async def _send(self, producer: streamer.Producer, name: str) -> None:
        number = 0
        while not self.stopping:
            self.ledger.sent(name, 1)
            self.note(name, number, await producer.send(self.value(name, number)))
            number += 1
            await self.pause()

    async def send_together(
        self, client: streamer.Client, name: str, tasks: int, *, dictionary: bool = False
    ) -> None:
        """Several tasks that share a producer, each with records of its own."""
        async with (
            client.producer(
                self.stream, delivery_timeout_s=DELIVERY_S, dictionary=dictionary
            ) as producer,
            trio.open_nursery() as nursery,
        ):
            for task in range(tasks):
                nursery.start_soon(self._send, producer, f"{name}-{task}")

    async def send_batches(self, client: streamer.Client, name: str, count_max: int = 100) -> None:
        """Atomic batches, which must stay in one piece."""
        number = 0
        async with client.producer(self.stream, delivery_timeout_s=DELIVERY_S) as producer:
            while not self.stopping:
                count = self.rng.randint(1, count_max)
                self.ledger.sent(name, count)
                receipt = await producer.send_batch(self.values(name, number, count))
                self.note(name, number, receipt)
                number += count
                await self.pause()

    async def post(
        self, client: streamer.Client, name: str, partition: int, count_max: int = 200
    ) -> None:
        """One record a call without waiting, and a flush now and then."""
        number = 0
        async with client.producer(
            self.stream, partition=partition, delivery_timeout_s=DELIVERY_S
        ) as producer:
            while not self.stopping:
                count = self.rng.randint(1, count_max)
                self.ledger.sent(name, count)
                for value in self.values(name, number, count):
                    await producer.post(value)
                await producer.flush()
                number += count
                self._flushed(producer, name, number, partition)
                await self.pause()

    def _flushed(self, producer: streamer.Producer, name: str, number: int, partition: int) -> None:
        """All before `number` is acked, and the producer says where the last record is."""
        last = producer.committed(partition)
        if last is None or last.sequence != number - 1:
            self.ledger.problems.append(f"G3: {name} flushed {number} records, committed is {last}")
            return
        self.ledger.acked_at(name, 0, partition, -1, number)
        self.ledger.acked_at(name, number - 1, partition, last.offset, 1)
        self.answered()

    async def compare_and_set(self, client: streamer.Client, name: str, partition: int) -> None:
        """One record a call, only if it gets the offset that was told; again where it did not."""
        number = expected = 0
        async with client.producer(
            self.stream, partition=partition, delivery_timeout_s=DELIVERY_S
        ) as producer:
            while not self.stopping:
                self.ledger.sent(name, 1)
                while True:
                    value = self.value(name, number)
                    try:
                        receipt = await producer.send(value, expected_offset=expected)
                        break
                    except streamer.OffsetConflict as error:
                        expected = error.detail["next_offset"]
                if receipt.offset != expected:
                    self.ledger.problems.append(f"{name} {number}: {receipt} for {expected}")
                self.note(name, number, receipt)
                number, expected = number + 1, receipt.offset + 1
                await self.pause()

    async def resume(self, client: streamer.Client, name: str, partition: int) -> None:
        """A program that ends at any moment, and goes on where its last run had got to."""
        while not self.stopping:
            # Long enough for some progress, and for a daemon to be away in the middle of it.
            with trio.move_on_after(self.rng.uniform(0.2, 3.0)):
                await self._one_run(client, name, partition)
        await self._one_run(client, name, partition)

    async def _one_run(self, client: streamer.Client, name: str, partition: int) -> None:
        async with client.producer(
            self.stream, partition=partition, name=name, delivery_timeout_s=DELIVERY_S
        ) as producer:
            handed = self.ledger.handed(name)
            last = producer.committed(partition)
            number = 0 if last is None else last.sequence + 1
            if number < handed.acked:
                self.ledger.problems.append(
                    f"G1: {name} had {handed.acked} records acked, committed are {number}"
                )
            if last is not None:
                self.ledger.acked_at(name, 0, partition, -1, number)
                self.ledger.acked_at(name, number - 1, partition, last.offset, 1)
            # What an earlier run had handed over is handed over again, also at the end.
            while not self.stopping or number < handed.sent:
                count = self.rng.choice([1, 1, 2, 30])
                handed.sent = max(handed.sent, number + count)
                values = self.values(name, number, count)
                if count == 1:
                    receipt = await producer.send(values[0])
                else:
                    receipt = await producer.send_batch(values)
                self.note(name, number, receipt)
                number += count
                await self.pause()

    # --------------------------------------------------------------------------------- readers

    async def follow(self, client: streamer.Client, name: str, partition: int) -> None:
        """Read from the beginning, and go on for ever."""
        await client.stream(self.stream, create=True)
        seen = self._following[partition] = self.ledger.reader(name, partition)
        async with client.reader(self.stream, partition, "earliest") as reader:
            async for batch in reader:
                seen.add(batch.base_offset, batch.values)

    async def caught_up(self, ends: Sequence[int]) -> None:
        """Wait until those who follow have seen everything before `ends`, by partition."""
        for partition, seen in self._following.items():
            while True:
                if seen.next >= ends[partition]:
                    break
                await trio.sleep(0.01)


@asynccontextmanager
async def clients(urls: Sequence[str]) -> AsyncGenerator[list[streamer.Client], None]:
    """A client at each address, patient enough for a daemon that is killed again and again."""
    async with streamer.connect(urls[0], reconnect_s=RECONNECT_S) as client:
        if len(urls) == 1:
            yield [client]
            return
        async with clients(urls[1:]) as others:
            yield [client, *others]


async def read_log(client: streamer.Client, stream: str, partitions: int) -> list[list[bytes]]:
    """All values of a stream, by partition; the first offset must be 0."""
    log: list[list[bytes]] = []
    for partition in range(partitions):
        values: list[bytes] = []
        async with client.reader(stream, partition, "earliest", follow=False) as reader:
            async for batch in reader:
                assert batch.base_offset == len(values), "offsets have no gaps"
                values += batch.values
        log.append(values)
    return log
