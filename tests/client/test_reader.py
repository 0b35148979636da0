"""The reader against a daemon in memory: positions, credit, reconnects, damage."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from streamer.errors import (
    BadBatch,
    BadRequest,
    ConnectionFailed,
    Draining,
    OffsetOutOfRange,
    PartitionDamaged,
    UnknownStream,
)
from streamer.records import Record
from streamer.wire import frames

idle = trio.testing.wait_all_tasks_blocked


async def fill(client, batches: int = 10, records: int = 5, stream: str = "s") -> list[bytes]:
    values = [b"%d" % n for n in range(batches * records)]
    async with client.producer(stream) as producer:
        for at in range(0, len(values), records):
            await producer.send_batch(values[at : at + records])
    return values


async def read(reader, count: int | None = None) -> list[bytes]:
    found: list[bytes] = []
    async for batch in reader:
        found += batch.values
        if count is not None and len(found) >= count:
            break
    return found


# -------------------------------------------------------------------------------------- positions


async def test_from_the_earliest_to_the_end(daemon, client) -> None:
    values = await fill(client)
    async with client.reader("s", follow=False) as reader:
        assert (reader.position, reader.lag) == (0, 50)
        assert await read(reader) == values
        assert (reader.position, reader.lag) == (50, 0)
        # It stays at its end.
        assert await read(reader) == []


async def test_an_empty_stream_ends_at_once_without_follow(client) -> None:
    async with client.reader("s", follow=False) as reader:
        assert await read(reader) == []


async def test_it_ends_at_the_mark_seen_at_the_start(daemon, client) -> None:
    values = await fill(client)
    async with client.reader("s", follow=False) as reader:
        await fill(client)
        assert await read(reader) == values


@pytest.mark.parametrize("offset", [0, 1, 4, 5, 7, 49, 50])
async def test_from_an_offset_what_is_before_is_cut_off(daemon, client, offset) -> None:
    values = await fill(client)
    async with client.reader("s", start=offset, follow=False) as reader:
        batches = [batch async for batch in reader]
    assert [v for b in batches for v in b.values] == values[offset:]
    assert [r.value for b in batches for r in b.records] == values[offset:]
    if batches:
        first = batches[0]
        assert first.base_offset == offset
        assert first.next_offset - first.base_offset == first.count == len(first)
        assert first.header.base_offset == offset // 5 * 5
        assert repr(first) == f"<ReceivedBatch 's'/0 offsets {offset} to {first.next_offset - 1}>"


async def test_from_the_latest_on_and_live(daemon, client) -> None:
    await fill(client)
    async with client.reader("s", start="latest") as reader, client.producer("s") as producer:
        assert reader.position == 50
        for n in range(5):
            await producer.send(b"new %d" % n)
            batch = await anext(reader)
            assert (batch.base_offset, batch.values) == (50 + n, [b"new %d" % n])


async def test_from_a_time_on(daemon, client) -> None:
    async with client.producer("s") as producer:
        for n in range(10):
            records = [Record(b"%d" % k, timestamp_us=k * 10**6) for k in range(n * 4, n * 4 + 4)]
            await producer.send_batch(records)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for seconds, first in ((0, 0), (5.5, 6), (6, 6), (39, 39), (40, 40)):
        start = epoch + timedelta(seconds=seconds)
        async with client.reader("s", start=start, follow=False) as reader:
            assert await read(reader) == [b"%d" % k for k in range(first, 40)]
            assert reader.position == 40


async def test_a_time_in_the_future_skips_what_is_older(daemon, client) -> None:
    start = datetime(1970, 1, 2, tzinfo=UTC)
    async with client.reader("s", start=start) as reader, client.producer("s") as producer:
        await producer.send_batch([Record(b"old", timestamp_us=1), Record(b"old", timestamp_us=2)])
        await producer.send(b"older", timestamp_us=0)
        new = 86_400 * 10**6
        await producer.send_batch([Record(b"o", timestamp_us=5), Record(b"new", timestamp_us=new)])
        batch = await anext(reader)
        assert (batch.base_offset, batch.values) == (4, [b"new"])
        # It is where reading begins, not a filter.
        await producer.send(b"old again", timestamp_us=0)
        assert (await anext(reader)).values == [b"old again"]


async def test_positions_that_are_none(daemon, client) -> None:
    for start in ("first", -1, 1.5, 2**63, datetime(2020, 1, 1), None, True):
        with pytest.raises(BadRequest):
            async with client.reader("s", start=start):
                pass
    with pytest.raises(BadRequest):
        async with client.reader("s", credit_bytes=0):
            pass
    with pytest.raises(OffsetOutOfRange):
        async with client.reader("s", start=1):
            pass
    with pytest.raises(UnknownStream):
        async with client.reader("no-such"):
            pass


# ---------------------------------------------------------------------------------------- records


async def test_records_have_everything(daemon, client) -> None:
    async with client.producer("s.delayed") as producer:
        await producer.send_batch(
            [
                Record(b"a", key=b"k", timestamp_us=5, headers={"h": b"v"}, deliver_at_us=9),
                Record(b"b", timestamp_us=3),
            ]
        )
        await producer.send_batch([b"c", b"d"])
    async with client.reader("s.delayed", follow=False) as reader:
        one, two = [batch async for batch in reader]
    assert one.records == [
        Record(b"a", b"k", 5, {"h": b"v"}, 9),
        Record(b"b", None, 3),
    ]
    assert [r.timestamp_us for r in two.records] == [1_000_000] * 2
    assert two.values is two.values
    assert (one.stream, one.partition, one.high_water) == ("s.delayed", 0, 4)


async def test_dictionaries_are_fetched_once(daemon, client) -> None:
    values = [
        b'{"level": "info", "user": %d, "text": "logged in"}' % (n * 7919) for n in range(4000)
    ]
    await client.train_dictionary("s", values, dictionary_bytes=2048)
    async with client.producer("s", dictionary=True) as producer:
        for at in range(0, 50, 5):
            await producer.send_batch(values[at : at + 5])
    async with daemon.connect() as other:
        async with other.reader("s", follow=False) as reader:
            assert await read(reader) == values[:50]
        async with other.reader("s", follow=False) as reader:
            assert await read(reader) == values[:50]
        assert (await other.peek("s", 12)).values == values[10:15]
    verbs = [f.verb for f in daemon.seen if isinstance(f, frames.Admin)]
    assert verbs.count("dictionary_get") == 1


async def test_peek_fetches_its_dictionary(daemon, client) -> None:
    values = [
        b'{"level": "info", "user": %d, "text": "logged in"}' % (n * 7919) for n in range(4000)
    ]
    await client.train_dictionary("s", values, dictionary_bytes=2048)
    async with client.producer("s", dictionary=True) as producer:
        await producer.send_batch(values[:5])
    async with daemon.connect() as other:
        batch = await other.peek("s", 2)
        assert (batch.base_offset, batch.values) == (0, values[:5])


# ----------------------------------------------------------------------------------------- credit


async def test_what_waits_here_is_bounded_by_the_credit(daemon, client) -> None:
    await fill(client, batches=100)
    daemon.batches_per_delivery = 1
    async with client.reader("s", credit_bytes=1000) as reader:
        await idle()
        waiting = sum(len(frame.batches) for frame in reader._blobs)
        assert 1000 <= waiting < 1300
        # Nobody reads, so nothing more comes.
        await trio.sleep(5)
        assert sum(len(frame.batches) for frame in reader._blobs) == waiting
        assert len(await read(reader, 500)) == 500


async def test_a_batch_above_the_credit_passes(daemon, client) -> None:
    values = await fill(client, batches=5, records=200)
    async with client.reader("s", credit_bytes=1, follow=False) as reader:
        assert await read(reader) == values


async def test_a_daemon_that_overdraws_is_dropped(daemon, client) -> None:
    await fill(client, batches=3)
    async with client.reader("s", credit_bytes=10) as reader:
        await idle()
        blob, _ = daemon.partition("s").read(5, 1)
        daemon.sessions[-1].say(frames.Deliver(reader._number, 50, blob))
        await trio.sleep(1)
        assert daemon.dialled == 2
        assert len(await read(reader, 15)) == 15


async def test_reading_lets_others_run(daemon, client) -> None:
    await fill(client, batches=100)
    daemon.batches_per_delivery = 100
    async with client.reader("s", follow=False) as reader:
        await idle()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await read(reader)
            nursery.cancel_scope.cancel()
        assert turns >= 5


# ------------------------------------------------------------------------------------- reconnects


@pytest.mark.parametrize("seed", range(20))
async def test_reconnects_lose_and_repeat_nothing(daemon, client, seed) -> None:
    rng = random.Random(seed)
    values = await fill(client, batches=40, records=rng.randrange(1, 10))
    daemon.batches_per_delivery = rng.randrange(1, 8)
    start = rng.choice(["earliest", 0, 7, 33])
    credit = rng.choice([1, 500, 1 << 22])
    found: list[bytes] = []
    async with client.reader("s", start=start, follow=False, credit_bytes=credit) as reader:
        async for batch in reader:
            found += batch.values
            if rng.random() < 0.2:
                daemon.drop()
                if rng.random() < 0.5:
                    await trio.sleep(rng.random())
    assert found == values[7 if start == 7 else 33 if start == 33 else 0 :]


async def test_latest_is_what_it_was_when_it_opened(daemon, client) -> None:
    await fill(client)
    async with client.reader("s", start="latest") as reader:
        daemon.down = True
        daemon.drop()
        await idle()
        stored = daemon.partition("s")
        stored.append(daemon.codec.encode_values([b"missed"], now_us=1), None, None)
        daemon.down = False
        assert (await anext(reader)).values == [b"missed"]


async def test_a_connection_that_ends_while_it_opens(daemon, client) -> None:
    await fill(client)
    sessions = list(daemon.sessions)
    async with trio.open_nursery() as nursery:

        async def open_and_read() -> None:
            async with client.reader("s", follow=False) as reader:
                assert len(await read(reader)) == 50

        nursery.start_soon(open_and_read)
        await trio.lowlevel.checkpoint()
        for session in sessions:
            session.scope.cancel()


async def test_a_lost_connection_that_does_not_come_back_is_raised(daemon) -> None:
    async with daemon.connect(reconnect_s=5) as client:
        await fill(client)
        async with client.reader("s") as reader:
            assert len(await read(reader, 50)) == 50
            daemon.down = True
            daemon.drop()
            with pytest.raises(ConnectionFailed):
                await anext(reader)
            with pytest.raises(ConnectionFailed):
                reader.seek(0)


# ----------------------------------------------------------------------------------------- damage


async def test_damage_is_told_and_can_be_passed(daemon, client) -> None:
    values = await fill(client)
    damage = PartitionDamaged("bad bytes", first=20, next=25)
    daemon.end_subscription = lambda offset: damage if offset == 20 else None
    daemon.batches_per_delivery = 2
    async with client.reader("s", follow=False) as reader:
        found = []
        with pytest.raises(PartitionDamaged) as caught:
            async for batch in reader:
                found += batch.values
        assert found == values[:20]
        assert caught.value.detail == {"first": 20, "next": 25}
        # It stays so until the program decides.
        with pytest.raises(PartitionDamaged):
            await anext(reader)
        reader.seek(caught.value.detail["next"])
        assert await read(reader) == values[25:]


async def test_an_end_that_passes_is_passed_over(daemon, client) -> None:
    values = await fill(client)
    ends = iter([None, Draining("going down"), Draining("still"), None])
    daemon.end_subscription = lambda _: next(ends, None)
    async with client.reader("s", follow=False) as reader:
        assert await read(reader) == values
    assert 0 < trio.current_time() < 5


async def test_a_gap_is_an_error(daemon, client) -> None:
    await fill(client)
    del daemon.partition("s").batches[3]
    async with client.reader("s", follow=False) as reader:
        with pytest.raises(OffsetOutOfRange, match="offsets 15 to 19") as caught:
            await read(reader)
        assert caught.value.detail == {"first": 15, "next": 20}
        reader.seek(20)
        assert len(await read(reader)) == 30


async def test_bad_bytes_are_an_error(daemon, client) -> None:
    await fill(client)
    stored = daemon.partition("s")
    batch = stored.batches[2]
    payload = bytearray(batch.payload)
    payload[3] ^= 4
    stored.batches[2] = type(batch)(batch.header, batch.head, bytes(payload))
    async with client.reader("s", follow=False) as reader:
        with pytest.raises(BadBatch):
            await read(reader)
        with pytest.raises(BadBatch):
            await anext(reader)
        reader.seek(15)
        assert len(await read(reader)) == 35


async def test_half_a_batch_is_an_error(daemon, client) -> None:
    await fill(client, batches=1)
    async with client.reader("s", start="latest") as reader:
        blob, _ = daemon.partition("s").read(0, 1)
        daemon.sessions[-1].say(frames.Deliver(reader._number, 5, blob[:-1]))
        with pytest.raises(BadBatch):
            await anext(reader)


# ------------------------------------------------------------------------------------------- rest


async def test_seek(daemon, client) -> None:
    values = await fill(client)
    async with client.reader("s", follow=False) as reader:
        await anext(reader)
        reader.seek(33)
        assert reader.position == 33
        assert await read(reader) == values[33:]
        reader.seek(0)
        daemon.drop()
        reader.seek(12)
        assert await read(reader) == values[12:]
        with pytest.raises(BadRequest):
            reader.seek(-1)
        reader.seek(1000)
        assert await read(reader) == []
    async with client.reader("s") as reader:
        reader.seek(1000)
        with pytest.raises(OffsetOutOfRange):
            await anext(reader)


async def test_cancelled_it_has_taken_nothing(daemon, client) -> None:
    values = await fill(client)
    async with client.reader("s") as reader:
        found: list[bytes] = []
        while len(found) < 50:
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(reader)
            found += (await anext(reader)).values
        assert found == values
        with trio.move_on_after(1) as scope:
            await anext(reader)
        assert scope.cancelled_caught
        async with client.producer("s") as producer:
            await producer.send(b"more")
        assert (await anext(reader)).values == [b"more"]


async def test_a_reader_is_of_no_use_after_its_block(daemon, client) -> None:
    await fill(client)
    async with client.reader("s") as reader:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await anext(reader)
    with pytest.raises(trio.ClosedResourceError):
        reader.seek(0)
    await idle()
    assert isinstance(daemon.seen[-1], frames.Unsubscribe)
    async with daemon.connect() as other:
        pass
    with pytest.raises(trio.ClosedResourceError):
        async with other.reader("s"):
            pass


async def test_several_readers_of_one_client(daemon, client) -> None:
    values = await fill(client)
    found: dict[int, list[bytes]] = {}

    async def work(number: int) -> None:
        async with client.reader("s", start=number, follow=False) as reader:
            found[number] = await read(reader)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(work, number)
    assert found == {n: values[n:] for n in range(20)}
