"""Reading: fetches and subscriptions, from everywhere, under credit, past damage."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from streamer.batch import Codec
from streamer.testing.memory_files import MemoryFiles
from streamer.wire import frames
from streamer.wire.frames import Start
from tests.site import NOW_US, UNIX, WS, Peer, Site, open_site, values_of

Clock = trio.testing.MockClock
HOUR_US = 3_600_000_000


async def append(peer: Peer, *batches: Sequence[bytes], stream: str = "s") -> None:
    for values in batches:
        assert isinstance(await peer.produce(values, stream), frames.Acks)


async def append_at(peer: Peer, timestamp_us: int, values: Sequence[bytes]) -> None:
    data = Codec().encode_values(values, now_us=timestamp_us).to_bytes()
    await peer.send(frames.Produce(next(peer.numbers), "s", None, None, 0, data))
    await peer.expect(frames.Acks)


# ----------------------------------------------------------------------------------------- fetch


async def test_fetch_from_everywhere(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    for hour in range(5):
        await append_at(peer, NOW_US + hour * HOUR_US, [b"%d" % hour, b"and %d" % hour])
    found = {
        "earliest": (Start.EARLIEST, 0),
        "latest": (Start.LATEST, 99),
        "offset in a batch": (Start.OFFSET, 5),
        "the end": (Start.OFFSET, 10),
        "time between": (Start.TIME, NOW_US + 2 * HOUR_US + 1),
        "time of one": (Start.TIME, NOW_US + 2 * HOUR_US),
        "time before all": (Start.TIME, 0),
        "time after all": (Start.TIME, NOW_US + 9 * HOUR_US),
    }
    answers = {}
    for name, (start, value) in found.items():
        answer = await peer.fetch(start=start, value=value)
        assert isinstance(answer, frames.Fetched)
        assert answer.high_water == 10
        answers[name] = (len(values_of(answer.batches)), answer.next_offset)
    assert answers == {
        "earliest": (10, 10),
        "latest": (0, 10),
        # From the batch on that holds it: batches are never cut.
        "offset in a batch": (6, 10),
        "the end": (0, 10),
        "time between": (4, 10),
        "time of one": (6, 10),
        "time before all": (10, 10),
        "time after all": (0, 10),
    }


async def test_a_fetch_gives_at_least_a_batch_and_goes_on(
    autojump_clock: Clock, site: Site
) -> None:
    peer = await site.peer()
    await append(peer, [b"a"] * 3, [b"b"] * 2, [b"c"])
    offset, seen = 0, []
    while offset < 6:
        answer = await peer.fetch(start=Start.OFFSET, value=offset, bytes_max=0)
        assert isinstance(answer, frames.Fetched)
        seen.append(values_of(answer.batches))
        offset = answer.next_offset
    assert seen == [[b"a"] * 3, [b"b"] * 2, [b"c"]]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"stream": "none"}, "unknown_stream"),
        ({"stream": ""}, "unknown_stream"),
        ({"partition": 1}, "unknown_partition"),
        ({"start": Start.OFFSET, "value": 99}, "offset_out_of_range"),
        ({"start": 9}, "bad_request"),
    ],
)
async def test_a_fetch_that_cannot_be(
    autojump_clock: Clock, site: Site, fields: dict[str, Any], code: str
) -> None:
    peer = await site.peer()
    await append(peer, [b"a"])
    failed = await peer.fetch(**fields)
    assert isinstance(failed, frames.Failed)
    assert (failed.code, failed.fatal) == (code, False)
    if code == "offset_out_of_range":
        assert failed.detail == {"first_offset": 0, "high_water": 1}
    await peer.is_served()


# ------------------------------------------------------------------------------------- subscribe


@pytest.mark.parametrize("url", [UNIX, WS])
async def test_a_subscription_catches_up_and_is_live_then(
    autojump_clock: Clock, site: Site, url: str
) -> None:
    writer, reader = await site.peer(), await site.peer(url)
    await append(writer, [b"1", b"2"], [b"3"])
    assert await reader.subscribe() == {"offset": 0, "high_water": 3}
    assert await reader.delivered(3) == [b"1", b"2", b"3"]
    with trio.move_on_after(1) as scope:
        await reader.receive()
    assert scope.cancelled_caught, "nothing comes while there is nothing"
    await append(writer, [b"4"])
    deliver = await reader.expect(frames.Deliver)
    assert (deliver.subscription, deliver.high_water) == (1, 4)
    assert values_of(deliver.batches) == [b"4"]


@pytest.mark.parametrize(
    ("start", "value", "first"),
    [
        (Start.EARLIEST, 0, 0),
        (Start.OFFSET, 3, 2),
        (Start.OFFSET, 4, 4),
        (Start.LATEST, 0, 6),
        (Start.TIME, NOW_US + HOUR_US, 2),
        (Start.TIME, NOW_US + 9 * HOUR_US, 6),
    ],
)
async def test_where_a_subscription_begins(
    autojump_clock: Clock, site: Site, start: Start, value: int, first: int
) -> None:
    peer = await site.peer()
    for hour in range(3):
        await append_at(peer, NOW_US + hour * HOUR_US, [b"%d" % (2 * hour), b"%d" % (2 * hour + 1)])
    reader = await site.peer()
    told = await reader.subscribe(start=start, value=value)
    expected = value if start is Start.OFFSET else first
    assert told == {"offset": expected, "high_water": 6}
    await append(peer, [b"6"])
    assert await reader.delivered(7 - first) == [b"%d" % n for n in range(first, 7)]


async def test_reading_makes_no_stream(autojump_clock: Clock, site: Site) -> None:
    reader, writer = await site.peer(), await site.peer()
    failed = await reader.subscribe("new", Start.LATEST)
    assert failed.code == "unknown_stream"
    await append(writer, [b"a"], stream="new")
    assert await reader.subscribe("new") == {"offset": 0, "high_water": 1}
    assert await reader.delivered(1) == [b"a"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"partition": 3}, "unknown_partition"),
        ({"start": Start.OFFSET, "value": 5}, "offset_out_of_range"),
        ({"start": 7}, "bad_request"),
        ({"stream": "none"}, "unknown_stream"),
        ({"stream": "../s"}, "unknown_stream"),
        ({"stream": "x" * 60_000}, "unknown_stream"),
    ],
)
async def test_a_subscription_that_cannot_be(
    autojump_clock: Clock, site: Site, fields: dict[str, object], code: str
) -> None:
    peer = await site.peer()
    await append(peer, [b"a"])
    failed = await peer.subscribe(**fields)  # type: ignore[arg-type]
    assert (failed.code, failed.fatal) == (code, False)
    # Its number is free again.
    assert await peer.subscribe() == {"offset": 0, "high_water": 1}
    assert await peer.delivered(1) == [b"a"]


async def test_more_subscriptions_than_allowed(autojump_clock: Clock) -> None:
    async with open_site({"session": {"subscriptions": 2}}) as site:
        peer = await site.peer()
        await peer.admin("stream", stream="s", create=True)
        for number in (1, 2):
            await peer.subscribe(number=number)
        again = await peer.subscribe(number=2)
        assert again.code == "bad_request"
        more = await peer.subscribe(number=3)
        assert (more.code, more.message) == ("not_allowed", "3 subscriptions, allowed are 2")
        await peer.send(frames.Unsubscribe(1))
        assert await peer.subscribe(number=3) == {"offset": 0, "high_water": 0}


async def test_the_credit_of_deliveries_is_kept(autojump_clock: Clock, site: Site) -> None:
    """A frame may be begun while less than the limit is used, and none after that."""
    writer, reader = await site.peer(), await site.peer()
    rng = random.Random(3)
    for _ in range(40):
        await append(writer, [rng.randbytes(50_000)])
    limit, used = 100_000, 0
    await reader.subscribe(credit=limit)
    for _ in range(20):
        with trio.move_on_after(1):
            while True:
                deliver = await reader.expect(frames.Deliver)
                assert used < limit
                used += len(deliver.batches)
        assert used >= min(limit, 40 * 50_000)
        limit += 100_000
        await reader.send(frames.Grant(1, limit))
    assert used > 2_000_000


async def test_no_credit_no_delivery(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await append(peer, [b"a"])
    await peer.subscribe(credit=0)
    with trio.move_on_after(5) as scope:
        await peer.receive()
    assert scope.cancelled_caught
    # A limit that is not higher changes nothing, nor does one for a subscription that is not.
    await peer.send(frames.Grant(1, 0), frames.Grant(77, 5), frames.Grant(1, 1))
    assert await peer.delivered(1) == [b"a"]


async def test_unsubscribe(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await append(peer, [b"a"])
    await peer.subscribe()
    assert await peer.delivered(1) == [b"a"]
    await peer.send(frames.Unsubscribe(1), frames.Unsubscribe(1), frames.Unsubscribe(9))
    await append(peer, [b"b"])
    await peer.is_served()
    # The number can stand for another one, which is not confused with the first.
    assert (await peer.subscribe(start=Start.OFFSET, value=1))["offset"] == 1
    assert await peer.delivered(1) == [b"b"]


async def test_unsubscribe_at_once_still_answers_the_request(
    autojump_clock: Clock, site: Site
) -> None:
    peer = await site.peer()
    await peer.admin("stream", stream="new", create=True)
    request = next(peer.numbers)
    subscribe = frames.Subscribe(request, 1, "new", 0, Start.EARLIEST, 0, 1 << 20)
    await peer.send(subscribe, frames.Unsubscribe(1))
    assert (await peer.expect(frames.Reply)).request == request
    await append(peer, [b"a"], stream="new")
    await peer.is_served()
    await peer.send(frames.Goodbye("", ""))
    assert [type(frame) for frame in await peer.ended()] == [frames.Goodbye]


async def test_many_readers_at_their_own_speed(autojump_clock: Clock, site: Site) -> None:
    writer = await site.peer()
    await append(writer, [b"0"])
    got: dict[int, list[bytes]] = {}

    async def read(number: int) -> None:
        reader = await site.peer(WS if number % 2 else UNIX)
        await reader.subscribe(credit=1)
        limit = 1
        values: list[bytes] = []
        while len(values) < 60:
            deliver = await reader.expect(frames.Deliver)
            values += values_of(deliver.batches)
            await trio.sleep(number / 10)
            limit += len(deliver.batches)
            await reader.send(frames.Grant(1, limit))
        got[number] = values

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(read, number)
        for number in range(1, 60):
            await append(writer, [b"%d" % number])
            await trio.sleep(0.01)
    assert all(values == [b"%d" % n for n in range(60)] for values in got.values())


# --------------------------------------------------------------------------- damage and retention


async def damaged_site(files: MemoryFiles) -> None:
    """Leave a log of three batches behind whose middle one is damaged."""
    async with open_site(files=files) as site:
        peer = await site.peer()
        for values in ([b"a"] * 10, [b"b" * 200] * 10, [b"c"] * 10):
            await append(peer, values)
        log = site.daemon.streams.get("s").partition(0).log  # type: ignore[union-attr]
        (name,) = [name for name in files.listdir(log.path) if name.endswith(".log")]
        path = f"{log.path}/{name}"
    data = files.read(path)
    second = int.from_bytes(data[4:8], "little")
    files.flip_bit(path, second + 100)


async def test_a_subscription_that_runs_into_damage_is_told_where_to_go_on(
    autojump_clock: Clock,
) -> None:
    files = MemoryFiles()
    await damaged_site(files)
    async with open_site(files=files) as site:
        peer = await site.peer()
        await peer.subscribe()
        assert await peer.delivered(10) == [b"a"] * 10
        ended = await peer.expect(frames.Ended)
        assert (ended.subscription, ended.code) == (1, "partition_damaged")
        assert ended.detail == {"first": 10, "next": 20}
        told = await peer.subscribe(start=Start.OFFSET, value=ended.detail["next"])
        assert told == {"offset": 20, "high_water": 30}
        assert await peer.delivered(10) == [b"c"] * 10
        failed = await peer.fetch(start=Start.OFFSET, value=15)
        assert isinstance(failed, frames.Failed)
        assert (failed.code, failed.detail) == ("partition_damaged", {"first": 10, "next": 20})
        # No writes any more; health says so, and other streams take them.
        refused = await peer.produce([b"d"])
        assert isinstance(refused, frames.Failed)
        assert (refused.code, refused.retryable) == ("partition_damaged", False)
        health = site.daemon.health()
        assert health.ok
        assert any("damaged" in reason for reason in health.reasons)
        await peer.is_served()


SMALL_SEGMENTS = {
    "streams": {"segment_bytes": "64 KiB", "index_bytes": "4 KiB"},
    "session": {"frame_bytes": "64 KiB"},
    "batch": {"batch_bytes": "32 KiB"},
}


async def long_log(files: MemoryFiles) -> str:
    """Leave a log of many segments behind; its path."""
    async with open_site(SMALL_SEGMENTS, files=files) as site:
        peer = await site.peer()
        rng = random.Random(1)
        for _ in range(20):
            await append(peer, [rng.randbytes(20_000)])
        return site.daemon.streams.get("s").partition(0).log.path  # type: ignore[union-attr]


async def test_damage_that_only_a_read_finds_stops_writes_too(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    path = await long_log(files)
    first = min(name for name in files.listdir(path) if name.endswith(".log"))
    async with open_site(SMALL_SEGMENTS, files=files) as site:
        peer = await site.peer()
        await append(peer, [b"not noticed yet"])
        files.flip_bit(f"{path}/{first}", 30_000)
        failed = await peer.fetch(start=Start.OFFSET, value=1)
        assert isinstance(failed, frames.Failed)
        assert failed.code == "partition_damaged"
        refused = await peer.produce([b"x"])
        assert isinstance(refused, frames.Failed)
        assert refused.code == "partition_damaged"


async def test_a_subscription_that_retention_overtakes(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    await long_log(files)
    streams = {**SMALL_SEGMENTS["streams"], "retention_bytes": "64 KiB"}
    async with open_site({**SMALL_SEGMENTS, "streams": streams}, files=files) as site:
        reader = await site.peer()
        await reader.subscribe(credit=1)
        delivered = await reader.delivered(1)
        await trio.sleep(11)
        await reader.send(frames.Grant(1, 1 << 20))
        ended = await reader.expect(frames.Ended)
        assert ended.code == "offset_out_of_range"
        assert len(delivered) < ended.detail["first_offset"] < 20
        told = await reader.subscribe(number=2)
        assert told["offset"] == ended.detail["first_offset"]


async def test_a_batch_above_the_frame_limit_ends_the_subscription(
    autojump_clock: Clock,
) -> None:
    """It was made under a configuration that allowed more."""
    files = MemoryFiles()
    async with open_site(files=files) as site:
        peer = await site.peer()
        await append(peer, [b"small"], [random.Random(1).randbytes(100_000)], [b"after"])
    small = {"session": {"frame_bytes": "64 KiB"}, "batch": {"batch_bytes": "32 KiB"}}
    async with open_site(small, files=files) as site:
        peer = await site.peer()
        await peer.subscribe()
        found = [await peer.receive(), await peer.receive()]
        deliver, ended = found
        assert isinstance(deliver, frames.Deliver)
        assert values_of(deliver.batches) == [b"small"]
        assert isinstance(ended, frames.Ended)
        assert (ended.code, ended.detail) == ("too_large", {"first": 1, "next": 2})
        failed = await peer.fetch(start=Start.OFFSET, value=1)
        assert isinstance(failed, frames.Failed)
        assert failed.code == "too_large"
        await peer.is_served()
