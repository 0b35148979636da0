"""Dead letters: which are open, redriven and purged."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from streamer.testing.memory_files import MemoryFiles
from streamer.wire.frames import Verb
from tests.plugins.deliver.kit import (
    admin,
    killed,
    member,
    offsets_of,
    opened,
    produce,
    produce_records,
    records_in,
    tree,
    values_in,
)
from tests.site import Site

Clock = trio.testing.MockClock


async def bury(site: Site, count: int, *, stream: str = "s", first: int = 0) -> None:
    """So many records, all of them dead."""
    one = await member(site, stream, "killer", max_in_flight=100_000)
    await produce(site, count, stream=stream, first=first, batch=1000)
    for lease in await one.take(count):
        assert await one.settle([Verb.TERM, lease.token, [], None, "bad"]) == {}
    await one.leave()
    await trio.sleep(0.5)


async def ranges(site: Site, stream: str = "s") -> Any:
    told = await admin(site, "dead", stream=stream)
    assert told["stream"] == f"{stream}.dead"
    return told["partitions"][0]["ranges"] if told["partitions"] else None


async def test_what_is_open(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        assert (await admin(site, "dead", stream="s")).code == "unknown_stream"
        await produce(site, 1)
        assert await ranges(site) is None
        failed = await admin(site, "dead_purge", stream="s", ranges=[0, 1])
        assert (failed.code, "no dead letters" in failed.message) == ("bad_request", True)
        await bury(site, 10, first=1)
        assert await ranges(site) == [0, 11]
        assert await admin(site, "dead_purge", stream="s", ranges=[0, 2, 5, 6]) == {"purged": 3}
        assert await admin(site, "dead_purge", stream="s", ranges=[0, 7]) == {"purged": 4}
        assert await ranges(site) == [7, 11]
    async with killed(files) as site:
        assert await ranges(site) == [7, 11]
        assert await admin(site, "dead_redrive", stream="s", ranges=[5, 9]) == {"redriven": 2}
        assert await ranges(site) == [9, 11]
    async with opened(files) as site:
        assert await ranges(site) == [9, 11]
        assert await admin(site, "dead_redrive", stream="s", ranges=[0, 9]) == {"redriven": 0}


async def test_a_redrive_keeps_key_and_headers_and_counts(autojump_clock: Clock) -> None:
    settings = tree(streams={"override": [{"streams": ["s"], "partitions": 3}]})
    async with opened(tree=settings) as site:
        one = await member(site, backoff_s=[0.0], max_deliveries=2)
        await produce_records(site, [[b"v", b"k", 1234, {"h": b"1"}]], partition=2)
        for times in (1, 2, 3):
            for attempt in (1, 2):
                lease = await one.one()
                assert (lease.partition, lease.attempt) == (2, attempt)
                nack = [Verb.NACK, lease.token, [], None, f"why {times}"]
                assert await one.settle(nack) == {}
            await trio.sleep(0.5)
            letters = await records_in(site, "s.dead")
            assert len(letters) == times
            letter = letters[-1]
            assert letter.headers is not None
            facts = json.loads(letter.headers["streamer-dead"])
            assert facts["reason"] == "max_deliveries"
            assert facts["error"] == f"why {times}"
            assert (facts["group"], facts["stream"], facts["partition"]) == ("g", "s", 2)
            assert (facts["offset"], facts["attempts"]) == (times - 1, 2)
            assert facts["first_us"] <= facts["last_us"]
            open_now = [times - 1, times]
            assert await ranges(site) == open_now
            told = await admin(site, "dead_redrive", stream="s", ranges=open_now)
            assert told == {"redriven": 1}
            record = (await records_in(site, "s"))[-1]
            assert (record.value, record.key, record.timestamp_us) == (b"v", b"k", 1234)
            assert record.headers == {"h": b"1", "streamer-redriven": b"%d" % times}
        await one.ack(await one.one())


async def test_more_than_a_request_may_name(autojump_clock: Clock) -> None:
    async with opened() as site:
        await bury(site, 12_000)
        for verb in ("dead_purge", "dead_redrive"):
            failed = await admin(site, verb, stream="s", ranges=[0, 12_000])
            assert (failed.code, "10000" in failed.message) == ("bad_request", True)
        told = await admin(site, "dead_redrive", stream="s", ranges=[0, 10_000])
        assert told == {"redriven": 10_000}
        assert await ranges(site) == [10_000, 12_000]
        assert len(await values_in(site, "s")) == 22_000


@pytest.mark.parametrize("bounds", [[1], [3, 2], [0, 5, 3, 7], [-1, 2], ["a", "b"], [1.0, 2.0]])
async def test_ranges_that_are_none(autojump_clock: Clock, bounds: list[Any]) -> None:
    async with opened() as site:
        await bury(site, 2)
        failed = await admin(site, "dead_purge", stream="s", ranges=bounds)
        assert failed.code == "bad_request"
        failed = await admin(site, "dead_purge", stream="s", ranges=[0, 1], partition=1)
        assert failed.code == "unknown_partition"
        assert await ranges(site) == [0, 2]


async def test_dead_letters_of_dead_letters(autojump_clock: Clock) -> None:
    async with opened() as site:
        await bury(site, 2)
        one = await member(site, "s.dead", "reader")
        lease = await one.one(2)
        assert await one.settle([Verb.TERM, lease.token, [1, 2], None, "worse"]) == {}
        await one.settle([Verb.ACK, lease.token])
        await trio.sleep(0.5)
        assert await ranges(site) == [0, 2], "being read is not being dealt with"
        assert await ranges(site, "s.dead") == [0, 1]
        told = await admin(site, "dead_redrive", stream="s.dead", ranges=[0, 1])
        assert told == {"redriven": 1}
        assert await values_in(site, "s.dead") == [b"0", b"1", b"1"]
        assert offsets_of(*await one.take()) == [2]


async def test_letters_that_cannot_be_opened_are_not_none(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with opened(files) as site:
        await bury(site, 2)
    files.flip_bit("/data/streams/s%2Edead/stream", 30)
    async with opened(files) as site:
        for verb, more in (("dead", {}), ("dead_purge", {"ranges": [0, 1], "partition": 0})):
            failed = await admin(site, verb, stream="s", **more)
            assert "'s.dead' could not be opened" in failed.message


async def test_two_redrives_at_once(autojump_clock: Clock) -> None:
    async with opened() as site:
        await bury(site, 100)
        told: list[int] = []

        async def redrive(first: int) -> None:
            bounds = [first, first + 60]
            found = await admin(site, "dead_redrive", stream="s", ranges=bounds)
            told.append(found["redriven"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(redrive, 0)
            nursery.start_soon(redrive, 40)
        assert sum(told) == 100
        assert await ranges(site) == []
        assert len(await values_in(site, "s")) == 200


async def test_a_redrive_waits_for_no_other_streams_moves(autojump_clock: Clock) -> None:
    async with opened() as site:
        await bury(site, 1)
        site.daemon.deliver._deliverer.moves.add(  # type: ignore
            ("a/b", 0), "revive", 0, ("s", 0, 0, 1), {}
        )
        with trio.fail_after(1.0):
            await admin(site, "dead_redrive", stream="s", ranges=[0, 1])


async def test_retention_takes_what_is_dealt_with(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.daemon import stream_settings

    monkeypatch.setattr(stream_settings, "_OWN_SEGMENT_BYTES", 1000)
    async with opened() as site:
        for first in range(20):
            await bury(site, 10, first=10 * first)
        await trio.sleep(30.0)
        assert await ranges(site) == [0, 200]
        await admin(site, "dead_purge", stream="s", ranges=[0, 195])
        await trio.sleep(30.0)
        assert site.daemon.streams is not None
        assert site.daemon.streams.get("s.dead").partitions[0].log.first_offset > 100
        assert await ranges(site) == [195, 200]
        assert (await values_in(site, "s.dead"))[-5:] == [b"%d" % n for n in range(195, 200)]
