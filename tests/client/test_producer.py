"""The producer against a daemon in memory."""

from __future__ import annotations

import trio

from streamer.records import AckLevel, Receipt
from streamer.wire import frames


async def test_lone_send(daemon, client) -> None:
    async with client.producer("s") as producer:
        receipt = await producer.send(b"one")
        assert receipt == Receipt("s", 0, 0, 1, AckLevel.SYNCED, False)
        receipt = await producer.send(b"two", key=b"k", timestamp_us=5, headers={"a": b"b"})
        assert receipt.offset == 1
    assert daemon.values("s") == [b"one", b"two"]
    one, two = daemon.produced()
    assert isinstance(one, frames.ProduceRecords)
    assert one.records == [[b"one"]]
    assert two.records == [[b"two", b"k", 5, {"a": b"b"}]]


async def test_post_and_flush(daemon, client) -> None:
    values = [b"%d" % n for n in range(5500)]
    async with client.producer("s") as producer:
        for value in values:
            await producer.post(value)
        await producer.flush()
        assert daemon.values("s") == values
        assert producer.buffered_bytes == 0
    assert len(daemon.produced()) == 6


async def test_many_tasks(daemon, client) -> None:
    got = []

    async def one(n):
        for k in range(20):
            receipt = await producer.send(b"%d-%d" % (n, k))
            got.append((receipt.offset, b"%d-%d" % (n, k)))

    async with client.producer("s") as producer, trio.open_nursery() as nursery:
        for n in range(64):
            nursery.start_soon(one, n)
    values = daemon.values("s")
    assert len(values) == 64 * 20
    assert [value for _, value in sorted(got)] == values
    print(len(daemon.produced()))
