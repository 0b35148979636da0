"""A delivery against a scripted group: its records, its verbs, and what leaving its block says."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import pytest
import trio
import trio.testing

from streamer.errors import BadBatch, BadRequest, LeaseLost, UnknownDictionary
from streamer.records import Record
from streamer.wire.frames import Verb

idle = trio.testing.wait_all_tasks_blocked


# ---------------------------------------------------------------------------------------- records


async def test_its_records(client, peer) -> None:
    records = [Record(b"a", b"k", 5, {"h": b"1"}), Record(b"b", None, 6)]
    async with client.consumer("s", "g") as consumer:
        token = peer.lease(records=records, partition=3, attempt=2)
        async with await anext(consumer) as delivery:
            assert (delivery.stream, delivery.partition) == ("s", 3)
            assert (delivery.token, delivery.attempt) == (token, 2)
            assert len(delivery) == 2
            assert delivery.offsets == [0, 1]
            assert delivery.values == [b"a", b"b"]
            assert delivery.records == records
            assert "offsets 0 to 1, 2 records" in repr(delivery)


async def test_some_of_a_whole_batch(client, peer) -> None:
    records = [Record(b"%d" % n, b"k%d" % n, 5 + n) for n in range(10)]
    async with client.consumer("s", "g") as consumer:
        peer.lease(5)
        peer.lease(records=records, ranges=[6, 8, 11, 12, 14, 15])
        async with await anext(consumer):
            pass
        async with await anext(consumer) as delivery:
            assert delivery.offsets == [6, 7, 11, 14]
            assert delivery.records == [records[n] for n in (1, 2, 6, 9)]
            assert delivery.values == [b"1", b"2", b"6", b"9"]
    assert peer.verbs()[-1] == ("ack", [6, 7, 11, 14])


async def test_an_extract(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(ranges=[7, 8, 20, 22], whole=False)
        async with await anext(consumer) as delivery:
            assert delivery.offsets == [7, 20, 21]
            assert delivery.values == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("ranges", "whole", "said"),
    [([0, 9], True, "lease of offsets 0 to 8"), ([0, 5], False, "lease of 5 records")],
)
async def test_a_lease_that_does_not_fit_its_batch(client, peer, ranges, whole, said) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=[Record(b"a")], ranges=ranges, whole=whole)
        with pytest.raises(BadBatch, match=said):
            async with await anext(consumer) as delivery:
                _ = delivery.values
    assert peer.verbs() == [("nack", list(range(*ranges)))]


async def test_a_damaged_batch_fails_its_handler(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(spoil=True)
        with pytest.raises(BadBatch, match="checksum"):
            async with await anext(consumer) as delivery:
                assert delivery.offsets == [0, 1, 2]
                _ = delivery.records
    assert peer.items[0][4].startswith("BadBatch: ")


async def test_dictionaries_are_fetched(daemon, client, peer) -> None:
    values = [b'{"level": "info", "user": %d, "text": "hello"}' % (n * 7919) for n in range(4000)]
    number = await client.train_dictionary("s", values)
    records = [Record(value) for value in values[:3]]
    async with daemon.connect() as other, other.consumer("s", "g") as consumer:
        peer.lease(records=records, dictionary_id=number)
        async with await anext(consumer) as delivery:
            assert delivery.batch.header.dictionary_id == number
            assert delivery.values == values[:3]


async def test_a_dictionary_is_fetched_once_for_all_tasks(daemon, client, peer) -> None:
    values = [b'{"level": "info", "user": %d, "text": "hello"}' % (n * 7919) for n in range(4000)]
    number = await client.train_dictionary("s", values)
    admin, asked = daemon.admin, []

    def count(verb, args):
        asked.append(verb)
        return admin(verb, args)

    daemon.admin = count
    found: list[int] = []

    async def work(consumer) -> None:
        async with await anext(consumer) as delivery:
            found.extend(delivery.offsets)

    async with (
        daemon.connect() as other,
        other.consumer("s", "g") as consumer,
        trio.open_nursery() as nursery,
    ):
        for _ in range(3):
            nursery.start_soon(work, consumer)
        await idle()
        for _ in range(3):
            peer.lease(records=[Record(value) for value in values[:3]], dictionary_id=number)
    assert sorted(found) == list(range(9))
    assert asked.count("dictionary_get") == 1


async def test_a_dictionary_that_is_not_there(daemon, client, peer) -> None:
    values = [b'{"level": "info", "user": %d, "text": "hello"}' % (n * 7919) for n in range(4000)]
    number = await client.train_dictionary("s", values)

    def refuse(verb, args):
        raise UnknownDictionary("gone")

    daemon.admin = refuse
    async with daemon.connect() as other, other.consumer("s", "g") as consumer:
        peer.lease(records=[Record(value) for value in values[:3]], dictionary_id=number)
        with pytest.raises(UnknownDictionary, match="gone"):
            async with await anext(consumer) as delivery:
                _ = delivery.values
    assert peer.verbs() == [("nack", [0, 1, 2])]


# ------------------------------------------------------------------------------------------ verbs


async def test_the_verbs(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(9)
        async with await anext(consumer) as delivery:
            await delivery.ack([0, 1, 8])
            await delivery.nack([2], 1.5, "later")
            await delivery.term("never", [3, 3])
            await delivery.release(range(4, 6))
            await delivery.extend()
            await delivery.ack([])
            counts = consumer.statistics()
            assert (counts.acked, counts.nacked, counts.released, counts.held) == (3, 2, 2, 2)
        await consumer.flush()
        assert consumer.statistics().held == 0
    told = [(verb, offsets, delay, reason) for verb, _, offsets, delay, reason in peer.items]
    assert told == [
        (Verb.ACK, [0, 1, 8], None, ""),
        (Verb.NACK, [2], 1_500_000, "later"),
        (Verb.TERM, [3], None, "never"),
        (Verb.RELEASE, [4, 5], None, ""),
        (Verb.EXTEND, [6, 7], None, ""),
        (Verb.ACK, [6, 7], None, ""),
    ]


async def test_a_verb_for_all_of_it(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        for verb in ("ack", "nack", "release"):
            peer.lease(2)
            async with await anext(consumer) as delivery:
                await getattr(delivery, verb)()
        peer.lease(2)
        async with await anext(consumer) as delivery:
            await delivery.term("never")
    assert [name for name, _ in peer.verbs()] == ["ack", "nack", "release", "term"]
    assert [frame.items[0][2] for frame in peer.frames] == [[]] * 4


async def test_nothing_is_said_twice(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        delivery = await anext(consumer)
        await delivery.ack([1])
        with pytest.raises(LeaseLost, match="settled before"):
            await delivery.nack([0, 1])
        await delivery.ack()
        for call in (delivery.ack, delivery.release, delivery.extend):
            with pytest.raises(LeaseLost, match="were settled before"):
                await call()
        async with delivery:
            pass
    assert peer.verbs() == [("ack", [1]), ("ack", [0, 2])]


async def test_what_cannot_be_said(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        peer.lease(3)
        async with await anext(consumer), await anext(consumer) as delivery:
            for offsets in ([2], [6], [3, 6], [-1]):
                with pytest.raises(BadRequest, match="not all of this delivery of 3 to 5"):
                    await delivery.ack(offsets)
            with pytest.raises(BadRequest, match="whole numbers"):
                await delivery.ack([3.0])  # type: ignore[list-item]
            for delay_s in (-1, float("nan"), 367 * 86_400, True, "1"):
                with pytest.raises(BadRequest, match="delay_s"):
                    await delivery.nack(delay_s=delay_s)
            with pytest.raises(BadRequest, match="reason is int"):
                await delivery.term(5)  # type: ignore[arg-type]
            assert not peer.items


async def test_what_the_daemon_refuses_is_raised(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.judge = lambda *_: LeaseLost("taken")
        peer.lease(3)
        async with await anext(consumer) as delivery:
            with pytest.raises(LeaseLost, match="taken"):
                await delivery.ack([0])
            peer.judge = lambda *_: BadRequest("no")
            with pytest.raises(BadRequest, match="no"):
                await delivery.nack([1])
            peer.judge = lambda *_: LeaseLost("taken")
        await consumer.flush()
        counts = consumer.statistics()
        assert (counts.late, counts.acked, counts.nacked) == (2, 0, 0)


async def test_cancelled_while_it_waits_it_is_said(client, peer) -> None:
    peer.hold = True
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        async with await anext(consumer) as delivery:
            with trio.move_on_after(1) as scope:
                await delivery.ack([0])
            assert scope.cancelled_caught
            with trio.CancelScope() as scope:
                scope.cancel()
                await delivery.ack([1])
            peer.hold = False
            peer.release()
    assert peer.verbs() == [("ack", [0]), ("ack", [1, 2])]


async def test_the_verbs_of_a_message(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(6)
        messages = consumer.messages()
        await (await anext(messages)).ack()
        await (await anext(messages)).nack(2.0, "no")
        await (await anext(messages)).term("never")
        await (await anext(messages)).release()
        message = await anext(messages)
        await message.extend()
        assert message.value == b"4"
        with trio.CancelScope() as scope:
            async with message:
                scope.cancel()
                await trio.lowlevel.checkpoint()
    told = [(verb, offsets, delay, reason) for verb, _, offsets, delay, reason in peer.items]
    assert told == [
        (Verb.ACK, [0], None, ""),
        (Verb.NACK, [1], 2_000_000, "no"),
        (Verb.TERM, [2], None, "never"),
        (Verb.RELEASE, [3], None, ""),
        (Verb.EXTEND, [4, 5], None, ""),
        (Verb.RELEASE, [4], None, ""),
    ]


# -------------------------------------------------------------------------------------- the block


async def test_an_exception_is_told_and_goes_on(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        with pytest.raises(ValueError, match="x"):
            async with await anext(consumer) as delivery:
                await delivery.ack([0])
                raise ValueError("x" * 600)
    assert peer.verbs() == [("ack", [0]), ("nack", [1, 2])]
    reason = peer.items[-1][4]
    assert reason.startswith("ValueError: xxx")
    assert len(reason) == 500


async def test_texts_that_no_frame_carries(client, peer) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyError

    async with client.consumer("s", "g") as consumer:
        for error in (ValueError("a\udfffb"), Mute()):
            peer.lease(1)
            with pytest.raises(type(error)):
                async with await anext(consumer):
                    raise error
    reasons = [reason for *_, reason in peer.items]
    assert reasons == ["ValueError: a?b", "Mute: (its text raises KeyError)"]


async def test_cancelled_it_is_given_back(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        delivery = await anext(consumer)
        with trio.move_on_after(1):
            async with delivery:
                await delivery.ack([1])
                await trio.sleep_forever()
        peer.lease(1)
        with pytest.raises(KeyboardInterrupt):
            async with await anext(consumer):
                raise KeyboardInterrupt
    assert peer.verbs() == [("ack", [1]), ("release", [0, 2]), ("release", [3])]


async def test_a_clean_exit_in_a_cancelled_scope_still_acks(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        delivery = await anext(consumer)
        with trio.CancelScope() as scope:
            async with delivery:
                scope.cancel()
    assert peer.verbs() == [("ack", [0, 1, 2])]


async def test_other_failures_come_later(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.judge = lambda *_: BadRequest("no")
        peer.lease(3)
        async with await anext(consumer):
            pass
        await idle()
        with pytest.raises(BadRequest, match="no"):
            await anext(consumer)
        # Once: the next one is handed out.
        peer.judge = lambda *_: None
        peer.lease(1)
        async with await anext(consumer):
            pass
