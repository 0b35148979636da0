"""Records that are to come later go to the companion stream, with the time when they are due."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
import trio

from streamer.errors import BadRequest, Overloaded, UnknownStream
from streamer.records import Record

#: The fake clock of the client: one second after the epoch.
NOW = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def due(daemon, stream: str = "s.delayed") -> list[tuple[bytes, bytes | None, int | None]]:
    return [
        (record.value, record.key, record.deliver_at_us)
        for stored in daemon.streams.get(stream, [])
        for batch in stored.batches
        for record in daemon.codec.records(batch)
    ]


async def test_sent_for_later(daemon, client) -> None:
    async with client.producer("s") as producer:
        receipt = await producer.send(b"a", b"k", delay_s=2)
        assert (receipt.stream, receipt.offset) == ("s.delayed", 0)
        receipt = await producer.send(b"b", deliver_at=NOW + timedelta(seconds=3))
        assert receipt.stream == "s.delayed"
        receipt = await producer.send(b"c")
        assert receipt.stream == "s"
    assert due(daemon) == [(b"a", b"k", 3_000_000), (b"b", None, 4_000_000)]
    assert daemon.values("s") == [b"c"]


async def test_posted_for_later(daemon, client) -> None:
    async with client.producer("s", batch_records=10) as producer:
        for n in range(25):
            await producer.post(b"%d" % n, delay_s=0.5)
            await producer.post(b"now")
        await producer.flush()
        assert [value for value, *_ in due(daemon)] == [b"%d" % n for n in range(25)]
    assert {at for *_, at in due(daemon)} == {1_500_000}
    assert len(daemon.values("s")) == 25


async def test_leaving_flushes_what_is_for_later(daemon, client) -> None:
    async with client.producer("s") as producer:
        await producer.post(b"a", delay_s=1, headers={"h": b"1"}, timestamp_us=7)
    (batch,) = daemon.partition("s.delayed").batches
    assert daemon.codec.records(batch) == [Record(b"a", None, 7, {"h": b"1"}, 2_000_000)]


async def test_what_fails_of_it_is_told(daemon, client) -> None:
    async with client.producer("s") as producer:
        daemon.script = lambda frame: BadRequest("no") if "delayed" in frame.stream else None
        await producer.post(b"a", delay_s=1)
        await producer.post(b"b")
        with pytest.raises(BadRequest, match="no"):
            await producer.flush()
        assert daemon.values("s") == [b"b"]


async def test_a_time_that_has_passed_is_due_at_once(daemon, client) -> None:
    async with client.producer("s") as producer:
        await producer.send(b"a", deliver_at=NOW - timedelta(days=1))
        await producer.send(b"b", delay_s=0)
    assert {at for *_, at in due(daemon)} == {1_000_000}


@pytest.mark.parametrize("delay_s", [-1, -0.1, math.nan, math.inf, 367 * 86_400, True, "1"])
async def test_delays_that_cannot_be(daemon, client, delay_s) -> None:
    async with client.producer("s") as producer:
        for call in (producer.send, producer.post):
            with pytest.raises(BadRequest, match="allowed are 0 to 31622400"):
                await call(b"a", delay_s=delay_s)
    assert not due(daemon)


async def test_times_that_cannot_be(client) -> None:
    async with client.producer("s") as producer:
        for at, said in (
            (datetime(2030, 1, 1), "no time zone"),
            (NOW + timedelta(days=367), "more than"),
            (5, "must be a datetime"),
        ):
            with pytest.raises(BadRequest, match=said):
                await producer.send(b"a", deliver_at=at)
        with pytest.raises(BadRequest, match="give one"):
            await producer.send(b"a", delay_s=1, deliver_at=NOW)


async def test_what_is_delayed_has_no_place_yet(daemon, client) -> None:
    async with client.producer("s") as producer:
        with pytest.raises(BadRequest, match="no partition"):
            await producer.send(b"a", delay_s=1, partition=0)
        with pytest.raises(BadRequest, match="no offset"):
            await producer.send(b"a", delay_s=1, expected_offset=0)
    async with client.producer("s", partition=0) as producer:
        with pytest.raises(BadRequest, match="no partition"):
            await producer.post(b"a", delay_s=1)
    async with client.producer("s.delayed") as producer:
        with pytest.raises(BadRequest, match="waits already"):
            await producer.send(b"a", delay_s=1)


async def test_a_batch_has_no_delays(daemon, client) -> None:
    async with client.producer("s") as producer:
        with pytest.raises(BadRequest, match="deliver_at_us in a batch"):
            await producer.send_batch([Record(b"a"), Record(b"b", deliver_at_us=5)])
        await producer.send_batch([Record(b"a")])
    async with client.producer("s.delayed") as producer:
        await producer.send_batch([Record(b"b", deliver_at_us=5)])
    assert due(daemon) == [(b"b", None, 5)]


async def test_one_producer_is_opened_for_many_tasks(daemon, client) -> None:
    asked: list[str] = []
    admin = daemon.admin

    def count(verb, args):
        asked.append(args.get("stream", ""))
        return admin(verb, args)

    daemon.admin = count
    async with client.producer("s") as producer, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(lambda: producer.send(b"a", delay_s=1))
    assert asked.count("s.delayed") == 1
    assert len(due(daemon)) == 20


async def test_a_stream_that_takes_none(daemon, client) -> None:
    async with client.producer("s") as producer:
        admin = daemon.admin

        def refuse(verb, args):
            if args.get("stream") == "s.delayed":
                raise UnknownStream("no delays here")
            return admin(verb, args)

        daemon.admin = refuse
        with pytest.raises(UnknownStream, match="no delays"):
            await producer.send(b"a", delay_s=1)
        daemon.admin = admin
        await producer.send(b"a", delay_s=1)


async def test_what_passes_is_tried_again(daemon, client) -> None:
    verdicts = [Overloaded("busy")]
    daemon.script = lambda _: verdicts.pop() if verdicts else None
    async with client.producer("s") as producer:
        await producer.send(b"a", delay_s=1)
    assert len(due(daemon)) == 1


async def test_after_leaving_it_is_closed(client) -> None:
    async with client.producer("s") as producer:
        await producer.send(b"a", delay_s=1)
    with pytest.raises(trio.ClosedResourceError):
        await producer.send(b"b", delay_s=1)
