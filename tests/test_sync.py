"""The facade for programs without trio: a daemon in memory and the client, in one other thread."""

# ruff: noqa: PT012, SIM117  (an error often comes out of the block; which block, matters)

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
import trio

import streamer.sync
from streamer import client as trio_client
from streamer.errors import (
    BadRequest,
    ConnectionFailed,
    LeaseLost,
    OffsetConflict,
    UnknownPartition,
)
from streamer.records import Receipt, Record
from tests.client.conftest import Daemon
from tests.client.group_peer import GroupPeer
from tests.site import Site, open_site


@asynccontextmanager
async def _whole(sites: list[Site]) -> AsyncGenerator[trio_client.Client, None]:
    async with open_site() as site, site.client(reconnect_s=1.0) as client:
        sites.append(site)
        yield client


@pytest.fixture
def sites() -> list[Site]:
    return []


@pytest.fixture
def client(sites: list[Site]) -> Iterator[streamer.sync.Client]:
    with streamer.sync.open_client(_whole(sites)) as client:
        yield client


def test_produce_and_read(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer:
        receipt = producer.send(b"a", key=b"k", timestamp_us=5, headers={"h": b"v"})
        assert isinstance(receipt, Receipt)
        assert receipt.offset == 0
        assert producer.send_batch([b"b", b"c"]).offset == 1
        with pytest.raises(OffsetConflict):
            producer.send(b"x", expected_offset=0)
        producer.post(b"d")
        assert producer.send(b"e").offset == 4
        last = producer.committed()
        assert last is not None
        assert last.offset == 4
        assert producer.committed(0) == last
    with client.reader("s", follow=False) as reader:
        batches = list(reader)
        assert [v for b in batches for v in b.values] == [b"a", b"b", b"c", b"d", b"e"]
        assert batches[0].records == [Record(b"a", b"k", 5, {"h": b"v"})]
        assert reader.position == 5
        reader.seek(3)
        assert next(reader).values[0] == b"d"
    with client.reader("s", start=2) as reader:
        assert next(iter(reader)).values == [b"c"]


def test_asking(client: streamer.sync.Client) -> None:
    assert client.streams() == []
    assert client.stream("s", create=True).name == "s"
    assert [stream.name for stream in client.streams()] == ["s"]
    assert client.queues()[0]["stages"]
    assert client.admin("stream", {"stream": "s"})["name"] == "s"
    with client.producer("s") as producer:
        producer.send(b"a")
    assert client.ask(lambda client: client.peek("s", 0)).values == [b"a"]


@pytest.mark.parametrize("name", ["Client", "Message"])
def test_it_has_all_that_the_other_one_has(name: str) -> None:
    def public(kind: type) -> set[str]:
        return {each for each in dir(kind) if not each.startswith("_")}

    ours = public(getattr(streamer.sync, name))
    plain = {"stream", "partition", "offset", "token", "attempt", "value", "delivery"}
    assert public(getattr(trio_client, name)) - ours <= plain


def test_what_is_known_of_the_daemon(client: streamer.sync.Client) -> None:
    assert client.connected
    assert client.server_name
    batch, wire = client.limits
    assert batch.records
    assert wire.requests


def test_post_collects_in_order(client: streamer.sync.Client) -> None:
    values = [b"%d" % n for n in range(5000)]
    with client.producer("s") as producer:
        for value in values[:-1]:
            producer.post(value)
        producer.flush()
        producer.post(values[-1])
    with client.reader("s", follow=False) as reader:
        assert [v for b in reader for v in b.values] == values


def test_what_is_posted_goes_out_by_itself(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer, client.reader("s") as reader:
        producer.post(b"a")
        assert next(reader).values == [b"a"]
        producer.post(b"b")
        assert next(reader).values == [b"b"]


def test_what_is_wrong_with_a_posted_record_is_told(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer:
        with pytest.raises(UnknownPartition):
            producer.post(b"a", partition=7)
            producer.flush()
        producer.flush()
        for _ in range(1000):
            producer.post(b"b")
        assert producer.send(b"c").offset == 1000


def test_many_threads_share_a_producer(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer:

        def work(number: int) -> list[int]:
            return [producer.send(b"%d-%d" % (number, n)).offset for n in range(20)]

        with ThreadPoolExecutor(16) as pool:
            offsets = [offset for found in pool.map(work, range(16)) for offset in found]
    assert sorted(offsets) == list(range(320))


def test_many_threads_post(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer:

        def work(number: int) -> None:
            for n in range(700):
                producer.post(b"%d %d" % (number, n))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    with client.reader("s", follow=False) as reader:
        found = [v.split() for b in reader for v in b.values]
    assert len(found) == 2800
    for number in range(4):
        assert [int(n) for who, n in found if int(who) == number] == list(range(700))


def test_after_the_block_every_call_says_so(sites: list[Site]) -> None:
    with streamer.sync.open_client(_whole(sites)) as client:
        with client.producer("s") as producer, client.reader("s") as reader:
            producer.send(b"a")
    for call in (
        client.streams,
        lambda: producer.send(b"b"),
        lambda: producer.send_batch([b"b"]),
        lambda: producer.post(b"b"),
        producer.flush,
        lambda: next(reader),
        lambda: reader.seek(0),
    ):
        with pytest.raises(trio.ClosedResourceError, match="this client is closed"):
            call()
    with pytest.raises(trio.ClosedResourceError), client.producer("s"):
        pass


def test_closing_ends_calls_of_other_threads(sites: list[Site]) -> None:
    results: list[type] = []
    waiting = threading.Event()

    def wait_for_ever(client: streamer.sync.Client) -> None:
        try:
            with client.reader("s") as reader:
                waiting.set()
                next(reader)
        except trio.ClosedResourceError as error:
            results.append(type(error))

    with streamer.sync.open_client(_whole(sites)) as client:
        client.stream("s", create=True)
        thread = threading.Thread(target=wait_for_ever, args=[client])
        thread.start()
        waiting.wait()
    thread.join()
    assert results == [trio.ClosedResourceError]


def test_what_the_block_raises_comes_out_as_it_is(sites: list[Site]) -> None:
    with pytest.raises(KeyError) as caught, streamer.sync.open_client(_whole(sites)) as client:
        with client.producer("s") as producer:
            producer.post(b"a")
            raise KeyError("mine")
    assert caught.value.args == ("mine",)


def test_what_was_posted_goes_out_although_the_block_raises(client: streamer.sync.Client) -> None:
    with pytest.raises(KeyError) as caught, client.producer("s") as producer:
        for n in range(100):
            producer.post(b"%d" % n)
        producer.post(b"wrong", partition=7)
        raise KeyError("mine")
    assert "UnknownPartition" in caught.value.__notes__[0]
    with client.reader("s", follow=False) as reader:
        assert sum(batch.count for batch in reader) == 100


def test_a_producer_takes_nothing_after_its_block(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer:
        producer.post(b"a")
    with pytest.raises(trio.ClosedResourceError):
        producer.post(b"b")
    with pytest.raises(trio.ClosedResourceError):
        producer.send(b"b")


def test_posted_bytes_are_bounded(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer:
        for _ in range(20):
            producer.post(bytes(500_000), headers={"h": bytes(100)})
            assert producer._posted_bytes < 2**20
            assert len(producer._posted) <= 2


def test_readers_in_several_threads(client: streamer.sync.Client) -> None:
    values = [b"%d" % n * 50 for n in range(200)]
    with client.producer("s") as producer:
        for _ in range(30):
            producer.send_batch(values)

    def read(_: int) -> int:
        with client.reader("s", follow=False) as reader:
            batches = list(reader)
        # Decoded before they came into this thread.
        assert all(batch._columns is not None for batch in batches)
        return sum(batch.values == values for batch in batches)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [30] * 8
    peeked = client.ask(lambda client: client.peek("s", 0))
    assert peeked._columns is not None


def test_nobody_there(tmp_path) -> None:
    with pytest.raises(ConnectionFailed, match="no daemon answers"):
        with streamer.sync.connect(f"unix:{tmp_path}/none"):
            pass
    with pytest.raises(BadRequest), streamer.sync.connect("nonsense"):
        pass


def test_a_daemon_that_goes_away(client: streamer.sync.Client, sites: list[Site]) -> None:
    with pytest.raises(ConnectionFailed), client.producer("s") as producer:
        producer.send(b"a")

        async def stop(_: trio_client.Client) -> None:
            await sites[0].stop()

        client.ask(stop)
        producer.send(b"b")


# -------------------------------------------------------------------------------------- consuming


@asynccontextmanager
async def _with_group(peers: list[GroupPeer]) -> AsyncGenerator[trio_client.Client, None]:
    async with trio.open_nursery() as nursery:
        daemon = Daemon(nursery)
        peers.append(GroupPeer(daemon))
        async with daemon.connect() as client:
            yield client
        nursery.cancel_scope.cancel()


def test_a_consumer() -> None:
    peers: list[GroupPeer] = []
    with streamer.sync.open_client(_with_group(peers)) as client:
        (peer,) = peers

        async def lease(_: trio_client.Client) -> None:
            for _ in range(8):
                peer.lease(2)

        with client.consumer("s", "g", max_in_flight=10) as consumer:
            client.ask(lease)
            with next(consumer) as delivery:
                assert (delivery.stream, delivery.partition, len(delivery)) == ("s", 0, 2)
                assert (delivery.token, delivery.attempt) == (1, 1)
                assert delivery.values == [b"0", b"1"]
                assert [record.value for record in delivery.records] == [b"0", b"1"]
                assert "offsets 0 to 1" in repr(delivery)
            with pytest.raises(ValueError, match="no"), next(consumer):
                raise ValueError("no")
            with pytest.raises(KeyboardInterrupt), next(consumer):
                raise KeyboardInterrupt
            next(consumer).ack()
            next(consumer).nack(delay_s=1.0, reason="later")
            next(consumer).term("never")
            next(consumer).release()
            last = next(consumer)
            last.extend()
            with pytest.raises(BadRequest, match="not all of this delivery"):
                last.ack([0])
            consumer.flush()
            counts = consumer.statistics()
            assert (counts.acked, counts.nacked, counts.released, counts.held) == (4, 6, 4, 2)
    names = [name for name, _ in peer.verbs()]
    assert names == ["ack", "nack", "release", "ack", "nack", "term", "release"]


def test_a_delivery_after_its_client() -> None:
    peers: list[GroupPeer] = []
    with streamer.sync.open_client(_with_group(peers)) as client:

        async def lease(_: trio_client.Client) -> None:
            peers[0].lease(2)

        with client.consumer("s", "g") as consumer:
            client.ask(lease)
            delivery = next(consumer)
    with pytest.raises(ValueError, match="mine"), delivery:
        raise ValueError("mine")
    with pytest.raises(trio.ClosedResourceError), delivery:
        pass


def test_messages() -> None:
    peers: list[GroupPeer] = []
    with streamer.sync.open_client(_with_group(peers)) as client:
        (peer,) = peers
        records = [Record(b"v", b"k", 5, {"h": b"1"})] + [Record(b"%d" % n) for n in range(1, 8)]

        async def lease(_: trio_client.Client) -> None:
            peer.lease(records=records)

        with client.consumer("s", "g") as consumer:
            client.ask(lease)
            messages = consumer.messages()
            with next(messages) as message:
                assert (message.stream, message.partition, message.offset) == ("s", 0, 0)
                assert (message.token, message.attempt, message.value) == (1, 1, b"v")
                assert (message.key, message.headers) == (b"k", {"h": b"1"})
                assert message.timestamp_us == 5
                assert message.record == records[0]
                assert "offset 0" in repr(message)
            with pytest.raises(ValueError, match="no"), next(messages):
                raise ValueError("no")
            with pytest.raises(KeyboardInterrupt), next(messages):
                raise KeyboardInterrupt
            for message in messages:
                message.extend()
                message.ack()
                with pytest.raises(LeaseLost):
                    message.ack()
                break
            next(messages).nack(delay_s=1.0, reason="later")
            next(messages).term("never")
            next(messages).release()
            with next(messages):
                pass
            consumer.flush()
            counts = consumer.statistics()
            assert (counts.acked, counts.nacked, counts.released, counts.held) == (3, 3, 2, 0)
    with pytest.raises(trio.ClosedResourceError):
        next(messages)
    names = [name for name, _ in peer.verbs()]
    assert names == ["ack", "nack", "release", "ack", "nack", "term", "release", "ack"]


def test_groups_and_what_belongs_to_them(client: streamer.sync.Client) -> None:
    with client.producer("s") as producer:
        producer.send_batch([b"%d" % n for n in range(5)])
        producer.send(b"later", delay_s=60.0)
    client.create_group("s", "g", backoff_s=[0.5])
    client.edit_group("s", "g", max_deliveries=2)
    client.pause_group("s", "g")
    (group,) = client.groups()
    assert (group.group, group.paused, group.lag) == ("g", True, 5)
    client.resume_group("s", "g")
    with client.consumer("s", "g", name="me") as consumer:
        for message in consumer.messages():
            if message.offset in (1, 2, 3):
                message.term("never")
            else:
                message.ack()
            if message.offset == 4:
                break
        assert [member.name for member in client.group("s", "g").member_list] == ["me"]
    assert [entry.lag for entry in client.lag("s")] == [0]
    with client.dead_letters("s") as letters:
        found = list(letters)
    assert [letter.source_offset for letter in found] == [1, 2, 3]
    assert client.redrive("s", found[:1]) == 1
    assert client.purge("s", found[1:2]) == 1
    with client.dead_letters("s") as letters:
        assert [letter.source_offset for letter in letters] == [3]
    assert client.seek_group("s", "g", "earliest") == {0: 0}
    assert client.delayed("s").waiting == 1
    assert client.add_schedule("n", "s", "0 3 * * *", b"v") > 0
    assert [schedule.name for schedule in client.schedules()] == ["n"]
    client.remove_schedule("n")
    client.delete_group("s", "g")
    assert client.groups() == []
    assert client.peek("s", 0).values[0] == b"0"
    assert client.varz()
