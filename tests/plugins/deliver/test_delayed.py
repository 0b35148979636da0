"""Records that wait: never early, in their order, over restarts, and however many there are."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

from streamer.testing.memory_files import MemoryFiles
from streamer_plugins.deliver import delayed
from tests.plugins.deliver.kit import (
    admin,
    killed,
    member,
    opened,
    produce,
    produce_records,
    records_in,
    tree,
    values_in,
)
from tests.site import Site, passing_us

Clock = trio.testing.MockClock


def row(value: bytes, delay_s: float, key: bytes | None = None) -> list[Any]:
    return [value, key, passing_us(), None, passing_us() + round(delay_s * 1_000_000)]


async def put(site: Site, *rows: list[Any]) -> None:
    await produce_records(site, rows, "s.delayed")


async def test_due_and_never_early(autojump_clock: Clock) -> None:
    async with opened() as site:
        one = await member(site)
        began = trio.current_time()
        await put(site, row(b"later", 100.0), row(b"sooner", 10.0), row(b"at once", 0.0))
        assert await admin(site, "delayed", stream="s") == {
            "waiting": 2,
            "next_due_us": passing_us() + 10_000_000,
        }
        came = []
        for _ in range(3):
            await one.ack(*await one.take())
            came.append(trio.current_time() - began)
        assert came[0] <= 0.2
        assert 10.0 <= came[1] <= 10.2
        assert 100.0 <= came[2] <= 100.2
        assert await values_in(site, "s") == [b"at once", b"sooner", b"later"]
        for record in await records_in(site, "s"):
            assert record.deliver_at_us is None
        assert await admin(site, "delayed", stream="s") == {"waiting": 0, "next_due_us": None}


async def test_what_a_record_keeps(autojump_clock: Clock) -> None:
    async with opened() as site:
        sent_us = passing_us()
        await put(site, [b"v", b"k", sent_us, {"h": b"1"}, sent_us + 5_000_000])
        await trio.sleep(6.0)
        (record,) = await records_in(site, "s")
        assert (record.value, record.key, record.timestamp_us) == (b"v", b"k", sent_us)
        assert record.headers == {"h": b"1"}


async def test_the_same_time_keeps_the_order(autojump_clock: Clock) -> None:
    async with opened() as site:
        for number in range(50):
            await put(site, row(b"%d" % number, 5.0))
        await trio.sleep(10.0)
        assert await values_in(site, "s") == [b"%d" % number for number in range(50)]


async def test_over_restarts(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        await put(site, row(b"first", 5.0), row(b"second", 50.0), row(b"third", 100.0))
        await trio.sleep(6.0)
    async with killed(files) as site:
        assert await values_in(site, "s") == [b"first"]
        assert (await admin(site, "delayed", stream="s"))["waiting"] == 2
    await trio.sleep(60.0)
    async with killed(files) as site:
        await trio.sleep(1.0)
        assert await values_in(site, "s") == [b"first", b"second"]
        await trio.sleep(60.0)
    async with opened(files) as site:
        await trio.sleep(5.0)
        assert await values_in(site, "s") == [b"first", b"second", b"third"]


async def test_more_than_the_index_holds(autojump_clock: Clock) -> None:
    files, settings = MemoryFiles(), tree(deliver={"delayed_index": 100})
    rng = random.Random(7)
    due: dict[bytes, int] = {}
    async with killed(files, tree=settings) as site:
        for first in range(0, 1000, 50):
            rows = [row(b"%d" % n, rng.uniform(5.0, 500.0)) for n in range(first, first + 50)]
            due |= {each[0]: each[4] for each in rows}
            await put(site, *rows)
        assert (await admin(site, "delayed", stream="s"))["waiting"] == 1000
        await trio.sleep(150.0)
        (delayed,) = site.daemon.deliver._deliverer.companions.delayed.values()  # type: ignore
        assert delayed.index.indexed <= 100
    async with opened(files, tree=settings) as site:
        await trio.sleep(400.0)
        values = await values_in(site, "s")
        assert len(values) == len(set(values)) == 1000
        assert [due[value] for value in values[600:]] == sorted(due[v] for v in values[600:])
        assert sorted(values[:200], key=lambda value: due[value]) == values[:200]


async def test_partitions_by_key(autojump_clock: Clock) -> None:
    settings = tree(streams={"override": [{"streams": ["s"], "partitions": 3}]})
    async with opened(tree=settings) as site:
        rows = [row(b"%d" % number, 1.0, b"k%d" % (number % 5)) for number in range(50)]
        await put(site, *rows)
        await put(site, *(row(b"x", 1.0) for _ in range(30)))
        assert site.daemon.streams is not None
        await trio.sleep(5.0)
        partitions = site.daemon.streams.get("s").partitions
        assert len(partitions) == 3
        assert all(each.high_water >= 10 for each in partitions)
        records = await records_in(site, "s")
        assert len(records) == 80
        for key in range(5):
            mine = [int(each.value) for each in records if each.key == b"k%d" % key]
            assert mine == [*range(key, 50, 5)]


async def test_a_target_that_cannot_be_made(autojump_clock: Clock) -> None:
    settings = tree(streams={"streams_max": 3})
    async with opened(tree=settings) as site:
        await produce(site, 1, stream="a")
        await put(site, row(b"waits", 1.0))
        await trio.sleep(30.0)
        assert site.logged("delayed records cannot be moved", stream="s.delayed")
        assert (await admin(site, "delayed", stream="s"))["waiting"] == 1
        assert (await admin(site, "delayed", stream="a"))["waiting"] == 0
        assert (await admin(site, "delayed", stream="b")).code == "unknown_stream"
        files = site.files
    async with opened(files) as site:
        await trio.sleep(5.0)
        assert await values_in(site, "s") == [b"waits"]


async def test_a_read_that_fails_loses_nothing(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with opened(files) as site:
        await put(site, row(b"value", 20.0))
    async with opened(files) as site:
        await trio.sleep(10.0)
        # Its record is read when it is moved, and once more when it is appended.
        files.fail_next("read", times=6)
        await trio.sleep(30.0)
        assert await values_in(site, "s") == [b"value"]


async def test_retention_keeps_what_waits(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.daemon import stream_settings

    monkeypatch.setattr(stream_settings, "_OWN_SEGMENT_BYTES", 2000)
    async with opened() as site:
        await put(site, row(b"long", 300.0))
        for number in range(50):
            await put(site, row(b"%d" % number * 100, 1.0))
        await trio.sleep(60.0)
        assert site.daemon.streams is not None
        log = site.daemon.streams.get("s.delayed").partitions[0].log
        assert log.first_offset == 0
        await trio.sleep(260.0)
        assert (await values_in(site, "s"))[-1] == b"long"
        assert log.first_offset > 10


@pytest.mark.parametrize("restart", [False, True])
async def test_the_oldest_that_waits_goes_behind_the_newest(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    """Records for much later in between others would leave a hole each for as long."""
    monkeypatch.setattr(delayed, "_RANGES_MAX", 5)
    files = MemoryFiles()
    async with killed(files) as site:
        rows = [row(b"%d" % n, 1.0 if n % 2 else 10_000.0) for n in range(60)]
        await put(site, *rows)
        await trio.sleep(5.0)
        found = site.daemon.deliver._deliverer.companions.delayed["s.delayed"]  # type: ignore[union-attr]
        assert len(found.progress.done) <= 6
        assert found.progress.cursor > 30
        assert (await admin(site, "delayed", stream="s"))["waiting"] == 30
        if not restart:
            await trio.sleep(10_001.0)
            values = await values_in(site, "s")
    if restart:
        async with killed(files) as site:
            assert (await admin(site, "delayed", stream="s"))["waiting"] == 30
            await trio.sleep(10_001.0)
            values = await values_in(site, "s")
    assert values[:30] == [b"%d" % n for n in range(1, 60, 2)]
    assert sorted(values[30:], key=int) == [b"%d" % n for n in range(0, 60, 2)]
