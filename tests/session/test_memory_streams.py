"""Streams that need no disk, through a whole daemon: same clients, level accepted, bounded."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

from streamer.errors import OffsetOutOfRange
from streamer.limits import KIB
from streamer.records import AckLevel, ProducerStamp
from streamer.testing.memory_files import MemoryFiles
from streamer.testing.memory_network import MemoryNetwork
from streamer.wire import frames
from streamer.wire.frames import Start
from tests.site import NOW_US, UNIX, WS, Peer, Site, open_site, values_of

Clock = trio.testing.MockClock
both = pytest.mark.parametrize("url", [UNIX, WS])

#: `presence` and all that begins so is in memory, all else on the disk.
TREE: dict[str, Any] = {
    "streams": {
        "override": [
            {"streams": ["presence*"], "storage": "memory", "memory_bytes": "64 KiB"},
        ]
    },
}
#: Small deliveries, so that a slow reader's queue does not hold all that memory holds.
SMALL = {
    **TREE,
    "session": {"frame_bytes": "16 KiB", "send_queue_bytes": "64 KiB"},
    "batch": {"batch_bytes": "12 KiB"},
}


def changes(files: MemoryFiles) -> list[str]:
    """The calls so far that change the disk."""
    harmless = ("exists", "read", "open_read", "size", "listdir")
    return [call for call in files.trace if not call.startswith(harmless)]


def log_of(site: Site, name: str = "presence", partition: int = 0) -> Any:
    assert site.daemon.streams is not None
    return site.daemon.streams.get(name).partition(partition).log


async def described(peer: Peer, *names: str) -> list[dict[str, Any]]:
    found = {stream["name"]: stream for stream in await peer.admin("streams")}
    return [found[name] for name in names]


@both
async def test_the_same_clients_at_the_level_accepted(autojump_clock: Clock, url: str) -> None:
    async with open_site(TREE) as site, site.client(url) as client:
        assert (await client.stream("presence", create=True)).storage == "memory"
        before = changes(site.files)
        async with client.producer("presence") as producer:
            receipts = [await producer.send(b"%d" % number) for number in range(10)]
            for number in range(10, 200):
                await producer.post(b"%d" % number)
        assert [receipt.offset for receipt in receipts] == list(range(10))
        assert {receipt.level for receipt in receipts} == {AckLevel.ACCEPTED}
        found: list[bytes] = []
        async with client.reader("presence", start=0) as reader:
            async for batch in reader:
                found += batch.values
                if len(found) == 200:
                    break
        assert found == [b"%d" % number for number in range(200)]
        assert changes(site.files) == before
        async with client.producer("orders") as producer:
            assert (await producer.send(b"x")).level is AckLevel.SYNCED
        assert changes(site.files) != before


async def test_of_both_kinds_in_one_pipeline(autojump_clock: Clock) -> None:
    async with open_site(TREE) as site:
        peer = await site.peer()
        batches = [
            peer.batch([b"%d" % number], ("presence", "orders")[number % 2])
            for number in range(100)
        ]
        await peer.send(*batches)
        levels: dict[int, int] = {}
        while len(levels) < 100:
            acks = await peer.expect(frames.Acks)
            for ack in acks.acks:
                levels[ack[0]] = ack[4]
        wanted = {frame.request: number % 2 for number, frame in enumerate(batches)}
        assert levels == wanted
        for name, first in (("presence", 0), ("orders", 1)):
            fetched = await peer.fetch(name)
            assert isinstance(fetched, frames.Fetched)
            assert values_of(fetched.batches) == [b"%d" % n for n in range(first, 100, 2)]


async def test_the_disk_may_fail_meanwhile(autojump_clock: Clock) -> None:
    async with open_site(TREE) as site:
        peer = await site.peer()
        await peer.produce([b"a"], "presence")
        site.files.capacity_bytes = 0
        refused = await peer.produce([b"a"], "orders")
        assert isinstance(refused, frames.Failed)
        for _ in range(100):
            assert isinstance(await peer.produce([b"b"], "presence"), frames.Acks)
        site.files.capacity_bytes = 1 << 40


async def test_a_duplicate_is_told_its_first_offset(autojump_clock: Clock) -> None:
    async with open_site(TREE) as site:
        peer = await site.peer()
        opened = await peer.admin("producer_open", stream="presence", name="p")
        stamp = ProducerStamp(opened["producer_id"], opened["epoch"], 0)
        await peer.produce([b"before"], "presence")
        first = await peer.produce([b"a", b"b"], "presence", stamp=stamp)
        again = await peer.produce([b"a", b"b"], "presence", stamp=stamp)
        assert isinstance(first, frames.Acks)
        assert isinstance(again, frames.Acks)
        assert [first.acks[0][2:], again.acks[0][2:]] == [[1, 2, 0, 0], [1, 2, 0, 1]]
        assert log_of(site).next_offset == 3
        raised = await peer.admin("producer_open", stream="presence", name="p")
        assert (raised["epoch"], raised["sequences"]) == (1, {"0": [1, 2]})
        fenced = await peer.produce([b"c"], "presence", stamp=stamp)
        assert isinstance(fenced, frames.Failed)
        assert fenced.code == "fenced"


async def test_its_bounds_show_in_what_an_operator_sees(autojump_clock: Clock) -> None:
    rng = random.Random(1)
    async with open_site(TREE) as site:
        peer = await site.peer()
        for _ in range(20):
            await peer.produce([rng.randbytes(10_000)], "presence")
        await peer.produce([b"a"], "orders")
        orders, presence = await described(peer, "orders", "presence")
        assert (orders["storage"], presence["storage"]) == ("disk", "memory")
        assert orders["partitions"][0]["dropped"] == 0
        (partition,) = presence["partitions"]
        assert partition["dropped"] == partition["first_offset"] == 14
        assert (partition["segments"], partition["state"]) == (0, "open")
        assert 50_000 < partition["bytes"] <= 64 * KIB
        varz = await peer.admin("varz")
        assert varz["streams"]["presence"] == {
            "storage": "memory",
            "partitions": 1,
            "records": 6,
            "bytes": partition["bytes"],
            "dropped": 14,
        }
        assert site.count("persist_dropped", pipeline="default") == 14
        assert site.daemon.health().ok


async def test_reading_by_offset_and_by_time(autojump_clock: Clock) -> None:
    rng = random.Random(1)
    async with open_site(TREE) as site:
        peer = await site.peer()
        for _ in range(20):
            await peer.produce([rng.randbytes(10_000)], "presence")
        first = log_of(site).first_offset
        for start, value, offset in (
            (Start.EARLIEST, 0, first),
            (Start.LATEST, 0, 20),
            (Start.OFFSET, first + 1, first + 1),
            (Start.TIME, NOW_US, first),
            (Start.TIME, NOW_US + 1, 20),
        ):
            fetched = await peer.fetch("presence", start, value, bytes_max=1)
            assert isinstance(fetched, frames.Fetched)
            assert fetched.next_offset == min(offset + 1, 20)
        assert await peer.admin("time", stream="presence", timestamp_us=0) == {"offset": first}
        gone = await peer.fetch("presence", Start.OFFSET, 0)
        assert isinstance(gone, frames.Failed)
        assert (gone.code, gone.detail["first_offset"]) == ("offset_out_of_range", first)
        peeked = await peer.admin("peek", stream="presence", offset=first)
        assert peeked["offset"] == first


async def test_a_slow_reader_is_told_where_it_may_go_on(autojump_clock: Clock) -> None:
    rng = random.Random(1)
    async with open_site(SMALL) as site:
        peer, reader = await site.peer(), await site.peer()
        await peer.produce([b"first"], "presence")
        await reader.subscribe("presence", credit=1)
        assert await reader.delivered(1) == [b"first"]
        for _ in range(40):
            await peer.produce([rng.randbytes(10_000)], "presence")
        # What it takes is bounded, and the writer never waited for it.
        assert log_of(site).nbytes <= 64 * KIB
        await reader.send(frames.Grant(1, 1 << 30))
        ended = await reader.expect(frames.Ended)
        first = log_of(site).first_offset
        assert (ended.code, ended.detail["first_offset"]) == ("offset_out_of_range", first)
        assert first == log_of(site).dropped > 30
        told = await reader.subscribe("presence", Start.OFFSET, first, number=2)
        assert told == {"offset": first, "high_water": 41}
        assert len(await reader.delivered(41 - first)) == 41 - first


async def test_a_reader_that_fell_behind_raises(autojump_clock: Clock) -> None:
    rng = random.Random(1)
    async with open_site(TREE) as site, site.client() as client:
        async with client.producer("presence") as producer:
            for _ in range(20):
                await producer.send(rng.randbytes(10_000))
        with pytest.raises(OffsetOutOfRange) as caught:
            async with client.reader("presence", start=0) as reader:
                await reader.__anext__()
        first = caught.value.detail["first_offset"]
        async with client.reader("presence", start=first) as reader:
            assert (await reader.__anext__()).base_offset == first


async def test_after_a_restart_it_is_known_and_empty(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with open_site(TREE, files=files) as site:
        peer = await site.peer()
        await peer.produce([b"gone"], "presence")
        await peer.produce([b"kept"], "orders")
    # Whatever the config says by then.
    everything = {"streams": {"storage": "memory"}}
    for tree in ({}, everything):
        async with open_site(tree, files=files) as site:
            peer = await site.peer()
            orders, presence = await described(peer, "orders", "presence")
            assert (orders["storage"], presence["storage"]) == ("disk", "memory")
            assert orders["partitions"][0]["next_offset"] == 1
            assert presence["partitions"][0]["next_offset"] == 0
            acks = await peer.produce([b"new"], "presence")
            assert isinstance(acks, frames.Acks)
            assert acks.acks[0][2] == 0


async def test_what_the_daemon_keeps_for_itself_and_dead_letters_are_on_the_disk(
    autojump_clock: Clock,
) -> None:
    async with open_site({"streams": {"storage": "memory"}}) as site:
        assert site.daemon.streams is not None
        for name, storage in (("s", "memory"), ("s.dead", "disk"), ("__own", "disk")):
            assert (await site.daemon.streams.ensure(name)).meta.storage == storage


async def test_a_producer_goes_on_after_a_restart(autojump_clock: Clock) -> None:
    files, network = MemoryFiles(), MemoryNetwork()
    async with (
        open_site(TREE, files=files, network=network) as first,
        first.client() as client,
        client.producer("presence") as producer,
    ):
        for _ in range(5):
            await producer.send(b"before")
        await first.stop()
        async with open_site(TREE, files=files, network=network) as second:
            receipt = await producer.send(b"after")
            assert (receipt.offset, receipt.level) == (0, AckLevel.ACCEPTED)
            assert log_of(second).next_offset == 1
