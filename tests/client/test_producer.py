"""The producer against a daemon in memory, while all goes well."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from streamer.client.producer import Committed
from streamer.errors import BadRequest, OffsetConflict, TooLarge, UnknownPartition, UnknownStream
from streamer.records import AckLevel, Lane, Receipt, Record
from streamer.wire import frames
from streamer.wire.partitioner import partition_for

idle = trio.testing.wait_all_tasks_blocked


# ------------------------------------------------------------------------------------------- send


async def test_a_lone_send_goes_out_at_once_as_a_single_record(daemon, client) -> None:
    async with client.producer("s") as producer:
        receipt = await producer.send(b"one")
        assert receipt == Receipt("s", 0, 0, 1, AckLevel.SYNCED, False)
        receipt = await producer.send(b"two", key=b"k", timestamp_us=5, headers={"a": b"b"})
        assert receipt.offset == 1
    one, two = daemon.produced()
    assert one.records == [[b"one"]]
    assert two.records == [[b"two", b"k", 5, {"a": b"b"}]]
    assert (one.sequence, two.sequence, one.lane) == (0, 1, 0)
    assert one.producer_id == two.producer_id != 0
    assert daemon.values("s") == [b"one", b"two"]


async def test_sends_group_while_one_is_under_way(daemon, client) -> None:
    daemon.hold = True
    receipts: dict[int, Receipt] = {}

    async def send(number: int) -> None:
        receipts[number] = await producer.send(b"%d" % number)

    async with client.producer("s") as producer, trio.open_nursery() as nursery:
        nursery.start_soon(send, 0)
        await idle()
        for number in range(1, 11):
            nursery.start_soon(send, number)
        await idle()
        # What is at least as much as what is under way goes; all came in one turn.
        assert [count(f) for f in daemon.produced()] == [1, 10]
        for number in range(11, 16):
            nursery.start_soon(send, number)
        await idle()
        # Five are less than the eleven under way: they wait for company, or for an ack.
        assert [count(f) for f in daemon.produced()] == [1, 10]
        daemon.release()
        await idle()
        assert [count(f) for f in daemon.produced()] == [1, 10, 5]
        assert len(receipts) == 11
        daemon.release()
    values = daemon.values("s")
    assert {r.offset: b"%d" % n for n, r in receipts.items()} == dict(enumerate(values))
    assert all(r.count == 1 for r in receipts.values())


async def test_many_tasks_share_requests(daemon, client) -> None:
    got: list[tuple[int, bytes]] = []

    async def work(number: int) -> None:
        for turn in range(20):
            value = b"%d-%d" % (number, turn)
            got.append(((await producer.send(value)).offset, value))

    async with client.producer("s") as producer, trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(work, number)
    assert [value for _, value in sorted(got)] == daemon.values("s")
    assert len(got) == 64 * 20
    assert len(daemon.produced()) < 64


async def test_expected_offset_is_never_grouped(daemon, client) -> None:
    async with client.producer("s") as producer:
        await producer.post(b"a")
        receipt = await producer.send(b"b", expected_offset=1)
        assert receipt.offset == 1
        with pytest.raises(OffsetConflict):
            await producer.send(b"c", expected_offset=7)
        assert (await producer.send(b"d")).offset == 2
    assert daemon.values("s") == [b"a", b"b", b"d"]
    assert [f.expected for f in daemon.produced()] == [None, 1, 7, None]


async def test_high_lane_does_not_wait_for_company(daemon, client) -> None:
    daemon.hold = True
    async with client.producer("s", lane=Lane.HIGH) as producer, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(producer.send, b"%d" % number)
            await idle()
        assert [(count(f), f.lane) for f in daemon.produced()] == [(1, 1)] * 3
        daemon.release()


async def test_what_cannot_be_a_record_is_refused_before_it_is_taken(daemon, client) -> None:
    async with client.producer("s") as producer:
        with pytest.raises(BadRequest, match="str"):
            await producer.send("text")  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match="str"):
            await producer.post("text")  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match="key"):
            await producer.post(b"", key="text")  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match="timestamp"):
            await producer.post(b"", timestamp_us=-1)
        with pytest.raises(BadRequest, match="headers"):
            await producer.post(b"", headers={"a": "b"})  # type: ignore[dict-item]
        with pytest.raises(TooLarge, match="key"):
            await producer.post(b"", key=bytes(65 * 1024))
        with pytest.raises(TooLarge, match="headers"):
            await producer.post(b"", headers={"a": bytes(65 * 1024)})
        with pytest.raises(TooLarge, match="65 headers"):
            await producer.post(b"", headers={str(n): b"" for n in range(65)})
        with pytest.raises(TooLarge, match="value"):
            await producer.send(bytes(2**20 + 1))
        with pytest.raises(UnknownPartition):
            await producer.send(b"", partition=1)
        with pytest.raises(UnknownPartition):
            await producer.post(b"", partition=-1)
        assert producer.buffered_bytes == 0
        with pytest.raises(BadRequest, match="bytearray"):
            await producer.post(bytearray(b"mutable"))  # type: ignore[arg-type]
    assert daemon.values("s") == []


# ------------------------------------------------------------------------------------- send_batch


async def test_send_batch_is_one_request(daemon, client) -> None:
    async with client.producer("s") as producer:
        receipt = await producer.send_batch([b"a", b"b", b"c"])
        assert receipt == Receipt("s", 0, 0, 3, AckLevel.SYNCED, False)
        records = [Record(b"d", key=b"k", headers={"h": b"v"}), Record(b"e", timestamp_us=9)]
        assert (await producer.send_batch(records)).offset == 3
        assert (await producer.send_batch([b"f"])).offset == 5
        assert (await producer.send_batch((b"g", b"h"), expected_offset=6)).offset == 6
        with pytest.raises(OffsetConflict):
            await producer.send_batch([b"i", b"j"], expected_offset=0)
    assert daemon.values("s") == [bytes([97 + n]) for n in range(8)]
    kinds = [type(f) for f in daemon.produced()]
    assert kinds == [frames.Produce] * 2 + [frames.ProduceRecords] + [frames.Produce] * 2
    stored = daemon.codec.records(daemon.partition("s").batches[1])
    assert [(r.key, r.headers) for r in stored] == [(b"k", {"h": b"v"}), (None, None)]
    assert stored[1].timestamp_us == 9


async def test_send_batch_follows_what_was_posted(daemon, client) -> None:
    async with client.producer("s") as producer:
        await producer.post(b"a")
        await producer.send_batch([b"b", b"c"])
        await producer.post(b"d")
    assert daemon.values("s") == [b"a", b"b", b"c", b"d"]


async def test_what_cannot_be_a_batch_is_refused(daemon, client) -> None:
    async with client.producer("s") as producer:
        with pytest.raises(BadRequest, match="no records"):
            await producer.send_batch([])
        with pytest.raises(BadRequest, match="all bytes or all Record"):
            await producer.send_batch([b"a", Record(b"b")])  # type: ignore[list-item]
        with pytest.raises(TooLarge, match="65537 records"):
            await producer.send_batch([b""] * 65_537)
        with pytest.raises(TooLarge, match="value"):
            await producer.send_batch([b"", bytes(2**20 + 1)])
        # Only encoding shows that this is too large, and it takes no sequence.
        noise = [random.Random(n).randbytes(20_000) for n in range(60)]
        with pytest.raises(TooLarge):
            await producer.send_batch(noise)
        assert (await producer.send(b"fine")).offset == 0
        assert producer.buffered_bytes == 0


# ------------------------------------------------------------------------------------------- post


async def test_post_fills_batches(daemon, client) -> None:
    values = [b"%d" % n for n in range(5500)]
    async with client.producer("s") as producer:
        for value in values:
            await producer.post(value)
        await producer.flush()
        assert daemon.values("s") == values
        assert producer.buffered_bytes == 0
        await producer.flush()
    assert [count(f) for f in daemon.produced()] == [1000] * 5 + [500]


async def test_post_with_everything_keeps_order(daemon, client) -> None:
    async with client.producer("s", batch_records=7) as producer:
        for n in range(40):
            match n % 4:
                case 0:
                    await producer.post(b"%d" % n)
                case 1:
                    await producer.post(b"%d" % n, key=b"k%d" % n)
                case 2:
                    await producer.post(b"%d" % n, timestamp_us=n, headers={"n": b"%d" % n})
                case 3:
                    await producer.post(b"%d" % n, partition=0)
    found = [r for b in daemon.partition("s").batches for r in daemon.codec.records(b)]
    assert [r.value for r in found] == [b"%d" % n for n in range(40)]
    assert [r.key for r in found if r.key] == [b"k%d" % n for n in range(1, 40, 4)]
    assert [r.headers for r in found if r.headers] == [{"n": b"%d" % n} for n in range(2, 40, 4)]
    assert found[2].timestamp_us == 2


async def test_post_does_not_yield_while_its_batch_has_room(daemon, client) -> None:
    async with client.producer("s", batch_records=10) as producer:
        await producer.post(b"first")
        with trio.testing.assert_no_checkpoints():
            for _ in range(8):
                await producer.post(b"more")
        with trio.testing.assert_checkpoints():
            await producer.post(b"last")


async def test_batches_are_bounded_by_bytes(daemon, client) -> None:
    async with client.producer("s", batch_bytes=10_000) as producer:
        for n in range(25):
            await producer.post(bytes([n]) * 2000)
        await producer.post(bytes(50_000))
        await producer.post(b"after")
    assert [count(f) for f in daemon.produced()] == [4] * 6 + [1, 1, 1]
    assert len(daemon.values("s")) == 27


async def test_memory_is_bounded_and_nothing_is_dropped(daemon, client) -> None:
    daemon.hold = True
    posted = 0

    async def post() -> None:
        nonlocal posted
        for n in range(1000):
            await producer.post(b"%06d" % n + bytes(94))
            posted += 1

    async with (
        client.producer("s", batch_records=10, buffer_bytes=116 * 100, in_flight=4) as producer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(post)
        await idle()
        assert posted == 100
        assert producer.buffered_bytes == 116 * 100
        assert [count(f) for f in daemon.produced()] == [10] * 4
        # Cancelled while it waits for room: not taken.
        with trio.move_on_after(1) as scope:
            await producer.post(b"never")
        assert scope.cancelled_caught
        with trio.move_on_after(1) as scope:
            await producer.send(b"never")
        assert scope.cancelled_caught
        with trio.move_on_after(1) as scope:
            await producer.send_batch([b"never"])
        assert scope.cancelled_caught
        daemon.hold = False
        daemon.release()
    assert [int(v[:6]) for v in daemon.values("s")] == list(range(1000))


async def test_room_is_given_first_come_first_served(daemon, client) -> None:
    daemon.hold = True

    async def send(number: int, size: int) -> None:
        await producer.send(bytes([number]) * size)

    async with client.producer("s", buffer_bytes=1000) as producer, trio.open_nursery() as nursery:
        nursery.start_soon(send, 0, 900)
        await idle()
        for number, size in enumerate([800, 10, 10], start=1):
            nursery.start_soon(send, number, size)
            await idle()
        # The small ones would fit, but the large one came first.
        assert len(daemon.produced()) == 1
        daemon.hold = False
        daemon.release()
    assert sorted(value[0] for value in daemon.values("s")) == [0, 1, 2, 3]


async def test_who_gives_up_waiting_lets_those_behind_pass(daemon, client) -> None:
    daemon.hold = True
    async with client.producer("s", buffer_bytes=1000) as producer, trio.open_nursery() as nursery:
        nursery.start_soon(producer.send, bytes(500))
        await idle()
        with trio.move_on_after(1):
            nursery.start_soon(producer.send, bytes(10))
            await producer.send(bytes(900))
        await idle()
        assert len(daemon.produced()) == 2
        daemon.release()


async def test_a_record_above_the_buffer_goes_alone(daemon, client) -> None:
    async with client.producer("s", buffer_bytes=100) as producer:
        await producer.post(b"a")
        await producer.post(bytes(5000))
        await producer.post(b"b")
    assert [len(v) for v in daemon.values("s")] == [1, 5000, 1]


async def test_requests_under_way_are_bounded(daemon, client) -> None:
    daemon.hold = True
    async with client.producer("s", in_flight=3) as producer, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(producer.send_batch, [b"a", b"b"])
        await idle()
        assert len(daemon.produced()) == 3
        daemon.release()
        await idle()
        assert len(daemon.produced()) == 6
        daemon.hold = False
        daemon.release()


async def test_the_daemons_credit_is_respected(daemon) -> None:
    # The daemon in memory fails the test if its credit is overdrawn.
    daemon.limits = type(daemon.limits)(window_bytes=2000, requests=150)
    async with daemon.connect() as client, client.producer("s", batch_records=5) as producer:
        for n in range(500):
            await producer.post(b"%d" % n + bytes(100))
        await producer.flush()
    assert [int(v[:-100]) for v in daemon.values("s")] == list(range(500))


async def test_the_daemons_number_of_requests_is_respected(daemon) -> None:
    daemon.limits = type(daemon.limits)(requests=10)
    daemon.hold = True
    async with (
        daemon.connect() as client,
        client.producer("s", in_flight=64) as producer,
        trio.open_nursery() as nursery,
    ):
        for _ in range(30):
            nursery.start_soon(producer.send_batch, [b"a", b"b"])
        await idle()
        assert len(daemon.produced()) == 10
        daemon.hold = False
        daemon.release()
    assert len(daemon.values("s")) == 60


async def test_linger_collects_while_nothing_is_under_way(daemon, client) -> None:
    async with client.producer("s", linger_s=2.0) as producer:
        began = trio.current_time()
        for n in range(5):
            await producer.post(b"%d" % n)
            await trio.sleep(0.1)
        await trio.sleep(1.4)
        assert not daemon.produced()
        await trio.sleep(0.2)
        assert [count(f) for f in daemon.produced()] == [5]
        receipt = await producer.send(b"send")
        assert receipt.offset == 5
        assert trio.current_time() - began >= 4.0
        await producer.post(b"flushed")
        before = trio.current_time()
        await producer.flush()
        assert trio.current_time() == before
    assert len(daemon.values("s")) == 7


async def test_lingering_ends_when_there_is_no_room(daemon, client) -> None:
    async with client.producer("s", linger_s=1000.0, buffer_bytes=1000) as producer:
        for _ in range(100):
            await producer.post(bytes(84))
        assert trio.current_time() < 1000
        await producer.flush()
    assert len(daemon.values("s")) == 100


# ------------------------------------------------------------------------------------- partitions


async def test_partitions_by_number_key_and_turn(daemon) -> None:
    daemon.partitions = 4
    async with daemon.connect() as client, client.producer("s", batch_records=10) as producer:
        assert producer.partitions == 4
        assert (await producer.send(b"x", partition=3)).partition == 3
        for n in range(20):
            key = b"key-%d" % n
            receipt = await producer.send(key, key=key)
            assert receipt.partition == partition_for(key, 4)
        before = [len(daemon.values("s", p)) for p in range(4)]
        for n in range(80):
            await producer.post(b"%d" % n)
        await producer.flush()
        # In turns by batches.
        after = [len(daemon.values("s", p)) for p in range(4)]
        assert [b - a for a, b in zip(before, after, strict=True)] == [20] * 4
        keys = [Record(b"", key=b"key-%d" % n) for n in range(20)]
        with pytest.raises(BadRequest, match=r"partitions \[0, 1, 2, 3\]"):
            await producer.send_batch(keys)
        assert (await producer.send_batch(keys, partition=2)).partition == 2
        same = [Record(b"", key=b"same"), Record(b""), Record(b"", key=b"same")]
        assert (await producer.send_batch(same)).partition == partition_for(b"same", 4)


async def test_a_producer_for_one_partition(daemon) -> None:
    daemon.partitions = 3
    async with daemon.connect() as client:
        async with client.producer("s", partition=1, batch_records=2) as producer:
            for n in range(6):
                await producer.post(b"%d" % n, key=b"ignored" if n % 2 else None)
        assert len(daemon.values("s", 1)) == 6
        with pytest.raises(UnknownPartition):
            async with client.producer("s", partition=3):
                pass


async def test_sequences_are_by_partition(daemon) -> None:
    daemon.partitions = 2
    async with daemon.connect() as client, client.producer("s") as producer:
        for n in range(6):
            await producer.send(b"%d" % n, partition=n % 2)
        assert producer.committed(0) == producer.committed(1) == Committed(2, 2)
    assert [f.sequence for f in daemon.produced()] == [0, 0, 1, 1, 2, 2]


# ---------------------------------------------------------------------------------- names and rest


async def test_a_named_producer_goes_on_where_it_was(daemon, client) -> None:
    async with client.producer("s", name="loader") as producer:
        assert producer.committed() is None
        await producer.send_batch([b"a", b"b"])
        assert producer.committed() == Committed(1, 1)
    async with client.producer("other") as noise:
        await noise.send(b"x")
    async with client.producer("s", name="loader") as producer:
        assert producer.committed() == Committed(1, 1)
        await producer.send(b"c")
        assert producer.committed() == Committed(2, 2)
    last = daemon.produced()[-1]
    assert (last.epoch, last.sequence) == (1, 2)
    with pytest.raises(BadRequest):
        async with client.producer("s", name="x", idempotent=False):
            pass


async def test_without_idempotence_there_is_no_stamp(daemon, client) -> None:
    async with client.producer("s", idempotent=False) as producer:
        await producer.send(b"a")
        await producer.send_batch([b"b", b"c"])
    one, two = daemon.produced()
    assert (one.producer_id, one.epoch, one.sequence) == (0, 0, 0)
    assert daemon.partition("s").producers == {}
    assert daemon.values("s") == [b"a", b"b", b"c"]
    assert isinstance(two, frames.Produce)


async def test_settings_that_cannot_work(client) -> None:
    for settings in (
        {"batch_records": 0},
        {"buffer_bytes": 0},
        {"in_flight": 65},
        {"linger_s": -1},
        {"delivery_timeout_s": 0},
    ):
        with pytest.raises(BadRequest):
            async with client.producer("s", **settings):
                pass
    with pytest.raises(UnknownStream):
        async with client.producer("no-such"):
            pass


async def test_dictionary(daemon, client) -> None:
    values = [
        b'{"level": "info", "user": %d, "text": "logged in"}' % (n * 7919) for n in range(4000)
    ]
    await client.train_dictionary("s", values, dictionary_bytes=2048)
    async with client.producer("s", dictionary=True) as producer:
        await producer.send_batch(values[:5])
    async with client.producer("s") as producer:
        await producer.send_batch(values[:5])
    small, large = daemon.partition("s").batches
    assert small.header.dictionary_id == 1
    assert small.nbytes < large.nbytes
    assert daemon.values("s") == values[:5] * 2
    async with client.producer("other", dictionary=False) as producer:
        await producer.send_batch(values[:2])
    with pytest.raises(BadRequest, match="at least"):
        await client.train_dictionary("s", values[:10])


async def test_what_the_block_raises_comes_out_as_it_is_and_after_a_flush(daemon) -> None:
    with pytest.raises(KeyError) as caught:
        async with daemon.connect() as client, client.producer("s", linger_s=60) as producer:
            await producer.post(b"posted")
            raise KeyError("mine")
    assert daemon.values("s") == [b"posted"]
    assert not hasattr(caught.value, "__notes__")


async def test_a_cancelled_block_does_not_wait(daemon, client) -> None:
    daemon.hold = True
    with trio.move_on_after(1) as scope:
        async with client.producer("s") as producer:
            await producer.post(b"posted")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1.0, abs=0.1)


async def test_a_producer_is_of_no_use_after_its_block(daemon, client) -> None:
    async with client.producer("s") as producer:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await producer.send(b"late")
    with pytest.raises(trio.ClosedResourceError):
        await producer.post(b"late")
    with pytest.raises(trio.ClosedResourceError):
        await producer.send_batch([b"late"])


def count(frame: frames.Frame) -> int:
    """How many records a request to append carries."""
    if isinstance(frame, frames.ProduceRecords):
        return len(frame.records)
    assert isinstance(frame, frames.Produce)
    return int.from_bytes(frame.batch[16:20], "little")
