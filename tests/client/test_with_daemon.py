"""The client against the real daemon, in memory: connections break, the daemon drains, dies and
comes back, and every acked record is there once, in order, and read once, in order.
"""

from __future__ import annotations

import random

import pytest
import trio

from streamer.client.connect import Client, open_client
from streamer.client.link import LinkSettings
from streamer.errors import ConnectionFailed
from streamer.limits import WireLimits
from streamer.testing.memory_files import MemoryFiles
from streamer.testing.memory_network import MemoryNetwork, MemoryStream
from streamer.transport import RawTransport, Transport, wrap_websocket
from tests.site import NOW_US, UNIX, WS, open_site

FRAME_BYTES = WireLimits().frame_bytes


class World:
    """A daemon that can be taken down and put up again, and the connections to it."""

    def __init__(self, url: str, partitions: int, rng: random.Random) -> None:
        self.url = url
        self.rng = rng
        self.network = MemoryNetwork()
        self.files = MemoryFiles()
        self.tree = {"streams": {"partitions": partitions}} if partitions > 1 else {}
        self.streams: list[MemoryStream] = []
        self.done = trio.Event()

    async def dial(self, nursery: trio.Nursery) -> Transport:
        await trio.lowlevel.checkpoint()
        stream = self.network.connect(self.url)
        self.streams.append(stream)
        if self.url == WS:
            return await wrap_websocket(nursery, stream, FRAME_BYTES, host="daemon")
        return RawTransport(stream, FRAME_BYTES)

    def client(self) -> object:
        return open_client(
            self.dial, LinkSettings(), rng=random.Random(self.rng.random()), now_us=lambda: NOW_US
        )

    async def serve(self) -> None:
        """A daemon for some time, over and over; the last one stays."""
        while True:
            async with open_site(self.tree, files=self.files, network=self.network):
                with trio.move_on_after(self.rng.uniform(0.5, 3)):
                    await self._break_connections()
                if self.done.is_set():
                    await trio.sleep_forever()
            await trio.sleep(self.rng.uniform(0, 2))

    async def _break_connections(self) -> None:
        while not self.done.is_set():
            await trio.sleep(self.rng.uniform(0.01, 0.5))
            if self.streams and self.rng.random() < 0.5 and not self.done.is_set():
                self.rng.choice(self.streams).reset()


@pytest.mark.parametrize("url", [UNIX, WS])
@pytest.mark.parametrize("seed", range(6))
async def test_it_goes_on_through_everything(url: str, seed: int) -> None:
    rng = random.Random(f"{url} {seed}")
    partitions = rng.choice([1, 3])
    world = World(url, partitions, rng)
    acked: dict[bytes, tuple[int, int]] = {}
    order: list[list[list[bytes]]] = []
    read: list[list[bytes]] = [[] for _ in range(partitions)]

    async def produce(client: Client, worker: int) -> None:
        mine: list[list[bytes]] = [[] for _ in range(partitions)]
        order.append(mine)
        async with client.producer("s", batch_records=rng.choice([3, 100])) as producer:
            for turn in range(60):
                values = [b"%d-%d-%d" % (worker, turn, n) for n in range(rng.choice([1, 1, 5]))]
                partition = rng.randrange(partitions)
                mine[partition] += values
                if len(values) > 1:
                    receipt = await producer.send_batch(values, partition=partition)
                elif rng.random() < 0.4:
                    await producer.post(values[0], partition=partition)
                    continue
                else:
                    receipt = await producer.send(values[0], partition=partition)
                for n, value in enumerate(values):
                    acked[value] = (partition, receipt.offset + n)
                await trio.sleep(rng.uniform(0, 0.3))

    async def follow(client: Client, partition: int) -> None:
        async with client.reader("s", partition, credit_bytes=rng.choice([500, 1 << 20])) as reader:
            async for batch in reader:
                read[partition] += batch.values

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve)
        await trio.sleep(0.1)
        async with world.client() as client:  # type: ignore[attr-defined]
            await client.stream("s", create=True)
            for partition in range(partitions):
                nursery.start_soon(follow, client, partition)
            async with trio.open_nursery() as producers:
                for worker in range(4):
                    producers.start_soon(produce, client, worker)
            world.done.set()
            logs = [await whole(client, partition) for partition in range(partitions)]
            # A reader is idle at the end of the log, so nothing happens but that time passes.
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
    for partition in range(partitions):
        assert len(set(logs[partition])) == len(logs[partition])
        assert read[partition] == logs[partition]
        for worker, mine in enumerate(order):
            prefix = mine[partition][0].split(b"-")[0] + b"-" if mine[partition] else b"none"
            assert [v for v in logs[partition] if v.startswith(prefix)] == mine[partition], worker
    for value, (partition, offset) in acked.items():
        assert logs[partition][offset] == value


async def whole(client: Client, partition: int) -> list[bytes]:
    async with client.reader("s", partition, follow=False) as reader:
        return [value async for batch in reader for value in batch.values]


async def test_a_daemon_that_is_gone_for_good() -> None:
    async with (
        open_site() as site,
        site.client(reconnect_s=5.0) as client,
        client.producer("s") as producer,
        client.reader("s") as reader,
    ):
        await producer.send(b"a")
        assert (await anext(reader)).values == [b"a"]
        await site.stop()
        with pytest.raises(ConnectionFailed):
            await producer.send(b"b")
        with pytest.raises(ConnectionFailed):
            await anext(reader)


async def test_named_producers_across_restarts() -> None:
    files, network = MemoryFiles(), MemoryNetwork()
    for run in range(3):
        async with (
            open_site(files=files, network=network) as site,
            site.client() as client,
            client.producer("s", name="loader") as producer,
        ):
            last = producer.committed()
            done = 0 if last is None else last.sequence + 1
            assert done == run * 10
            for n in range(done, done + 10):
                await producer.post(b"%d" % n)
    async with open_site(files=files) as site, site.client() as client:
        assert await whole(client, 0) == [b"%d" % n for n in range(30)]


async def test_dictionaries_of_the_real_daemon() -> None:
    values = [
        b'{"level": "info", "user": %d, "text": "logged in"}' % (n * 7919) for n in range(4000)
    ]
    files = MemoryFiles()
    async with open_site(files=files) as site, site.client() as client:
        await client.stream("s", create=True)
        number = await client.train_dictionary("s", values, dictionary_bytes=2048)
        async with client.producer("s", dictionary=True) as producer:
            for at in range(0, 100, 10):
                await producer.send_batch(values[at : at + 10])
        assert (await client.peek("s", 0)).header.dictionary_id == number
    async with open_site(files=files) as site, site.client() as client:
        assert await whole(client, 0) == values[:100]
        fetched = await client.fetch("s", 0, 50)
        assert (fetched.next_offset, fetched.high_water) == (100, 100)
        state = await client.producer_state("s", producer._lines[0].producer_id)
        assert state == {0: (0, 99, 99)}
        assert [info.name for info in await client.streams()] == ["s"]
        assert (await client.queues())[0]["stages"]
        assert await client.varz()
