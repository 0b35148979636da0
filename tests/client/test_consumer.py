"""The consumer against a scripted group: membership, hand-out, leases that end, goodbye."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import pytest
import trio
import trio.testing

from streamer.errors import (
    BadRequest,
    ConnectionFailed,
    Draining,
    GroupConflict,
    LeaseLost,
    OutcomeUnknown,
    ProtocolError,
    UnknownGroup,
)
from streamer.records import AckLevel, Record
from streamer.wire import frames
from streamer.wire.frames import Verb

idle = trio.testing.wait_all_tasks_blocked


def extends(peer) -> list[int]:
    return [token for verb, token, *_ in peer.items if verb is Verb.EXTEND]


# -------------------------------------------------------------------------------------- joining


async def test_it_joins_with_what_it_is_told(client, peer) -> None:
    async with client.consumer(
        "s", "g", mode="shared", backoff_s=(1.0, 2.0), max_in_flight=7, name="me", start="latest"
    ) as consumer:
        assert consumer.member == 1
        assert consumer.settings["ack_wait_s"] == 30.0
        assert "'s' in group 'g'" in repr(consumer)
    (join,) = peer.joins
    assert (join.stream, join.group) == ("s", "g")
    assert join.options == {
        "mode": "shared",
        "backoff_s": [1.0, 2.0],
        "start": "latest",
        "max_in_flight": 7,
        "max_in_flight_bytes": 4 << 20,
        "batch_records": 0,
        "name": "me",
    }
    await idle()
    assert peer.left == [join.subscription]


async def test_a_group_that_is_other_is_said(client, peer) -> None:
    peer.refuse_join = GroupConflict("the group has other settings")
    with pytest.raises(GroupConflict, match="other settings"):
        async with client.consumer("s", "g"):
            raise AssertionError("not joined")


async def test_a_refusal_that_may_pass_is_tried_again(client, peer) -> None:
    peer.refuse_join = Draining("not now")
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def heal() -> None:
            await trio.sleep(1.2)
            peer.refuse_join = None

        nursery.start_soon(heal)
        async with client.consumer("s", "g"):
            assert trio.current_time() - began == pytest.approx(1.5)
    assert len(peer.joins) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"max_in_flight": 0},
        {"max_in_flight_bytes": True},
        {"batch_records": -1},
        {"level": AckLevel.QUORUM},
    ],
)
async def test_settings_that_cannot_work(client, peer, settings) -> None:
    with pytest.raises(BadRequest, match="allowed are"):
        async with client.consumer("s", "g", **settings):
            raise AssertionError("not joined")
    assert not peer.joins


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"backoff_s": 5}, "backoff_s is 5, it must be a sequence of pauses in seconds"),
        ({"backoff_s": "1,2"}, "backoff_s is '1,2', it must be a sequence"),
        ({"backoff_s": [1, "2"]}, "backoff_s has '2', it must be pauses in seconds"),
        ({"backoff_s": [True]}, "backoff_s has True"),
        ({"group": 5}, "name of a group is 5, it must be text"),
        ({"group": ""}, "group name '' of 0 characters"),
        ({"group": "a\x1b"}, "that can be printed"),
        ({"stream": None}, "name of a stream is None, it must be text"),
        ({"name": "\x1b[31m"}, "it must be text that can be printed"),
        ({"name": 5}, "name is 5, it must be text"),
        ({"name": "n" * 201}, "name of 201 characters, allowed are 200"),
    ],
)
async def test_what_cannot_be_is_said_before_it_is_asked(client, peer, settings, text) -> None:
    with pytest.raises(BadRequest) as caught:
        async with client.consumer(**{"stream": "s", "group": "g", **settings}):
            raise AssertionError("not joined")
    assert text in str(caught.value)
    assert not peer.joins


@pytest.mark.parametrize("wait_s", ["soon", 0, -1.0, None])
async def test_an_answer_that_says_nothing_ends_the_connection(client, peer, wait_s) -> None:
    peer.settings = {"ack_wait_s": wait_s}
    with trio.move_on_after(1), pytest.raises(ConnectionFailed):
        async with client.consumer("s", "g"):
            raise AssertionError("not joined")


# ------------------------------------------------------------------------------------ handing out


async def test_what_is_leased_is_handed_out_and_acked(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        peer.lease(2)
        found = []
        async for delivery in consumer:
            async with delivery:
                found += delivery.values
            if len(found) == 5:
                break
        assert consumer.statistics().held == 0
        await consumer.flush()
        counts = consumer.statistics()
        assert (counts.delivered, counts.acked, counts.late) == (5, 5, 0)
    assert found == [b"0", b"1", b"2", b"3", b"4"]
    assert peer.verbs() == [("ack", [0, 1, 2]), ("ack", [3, 4])]
    assert {frame.level for frame in peer.frames} == {1}


async def test_tasks_share_a_consumer(client, peer) -> None:
    found: list[bytes] = []

    async def work(consumer) -> None:
        async for delivery in consumer:
            async with delivery:
                await trio.sleep(1)
                found.extend(delivery.values)

    async with client.consumer("s", "g") as consumer, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(work, consumer)
        await idle()
        for _ in range(6):
            peer.lease(1)
        await trio.sleep(2.5)
        assert sorted(found) == [b"%d" % n for n in range(6)]
        nursery.cancel_scope.cancel()


async def test_a_cancelled_wait_takes_nothing(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        with trio.move_on_after(1):
            await anext(consumer)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(consumer)
        peer.lease()
        async with await anext(consumer) as delivery:
            assert delivery.offsets == [0, 1, 2]


async def test_it_lets_others_run(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        for _ in range(100):
            peer.lease(1)
        await idle()
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(100):
                async with await anext(consumer):
                    pass
            nursery.cancel_scope.cancel()
        assert turns >= 5


# ---------------------------------------------------------------------------------------- leases


async def test_leases_are_prolonged_while_they_are_held(client, peer) -> None:
    peer.settings["ack_wait_s"] = 9.0
    async with client.consumer("s", "g") as consumer:
        waiting = peer.lease()
        begun = peer.lease()
        await idle()
        async with await anext(consumer), await anext(consumer) as delivery:
            assert delivery.token == begun
            await trio.sleep(3.5)
            assert sorted(extends(peer)) == [waiting, begun]
            assert len(peer.frames) == 1
            await delivery.ack()
            await trio.sleep(3)
            assert sorted(extends(peer)) == [waiting, waiting, begun]
        await trio.sleep(10)
        assert len(extends(peer)) == 3


async def test_a_lease_that_cannot_be_prolonged_is_lost(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        peer.lease()
        async with await anext(consumer) as delivery:
            peer.judge = lambda *_: LeaseLost("ran out")
            await trio.sleep(11)
            assert delivery.lost
            with pytest.raises(LeaseLost, match="its time ran out"):
                await delivery.extend()
        counts = consumer.statistics()
        assert (counts.late, counts.held) == (3, 0)
        with trio.move_on_after(1) as scope:
            await anext(consumer)
        assert scope.cancelled_caught
    assert peer.verbs() == []


async def test_a_lost_connection_takes_the_leases(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        peer.lease()
        async with await anext(consumer) as delivery:
            daemon.drop()
            await trio.sleep(1)
            assert len(peer.joins) == 2
            with pytest.raises(LeaseLost, match="the connection was lost"):
                await delivery.ack([0])
        assert consumer.statistics().late == 3
        peer.lease(1)
        async with await anext(consumer) as delivery:
            assert delivery.offsets == [6]
    assert peer.verbs() == [("ack", [6])]


async def test_lost_while_it_was_prolonged(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        async with await anext(consumer) as delivery:
            peer.hold = True
            await trio.sleep(11)
            daemon.drop()
            await trio.sleep(1)
            with pytest.raises(LeaseLost, match="the connection was lost"):
                await delivery.extend()


async def test_what_was_under_way_counts_as_late(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        peer.hold = True
        delivery = await anext(consumer)
        async with trio.open_nursery() as nursery:

            async def explicit() -> None:
                with pytest.raises(OutcomeUnknown):
                    await delivery.ack()

            nursery.start_soon(explicit)
            await idle()
            daemon.drop()
        assert consumer.statistics().late == 3


async def test_given_back_what_is_not_begun(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        peer.lease()
        await idle()
        async with await anext(consumer):
            peer.lease(partition=1)
            peer.revoke(peer.tokens + 1, lost=False)
            await idle()
            assert peer.verbs() == [("release", [3, 4, 5])]
        async with await anext(consumer) as other:
            assert other.partition == 1
        await consumer.flush()
        assert consumer.statistics().released == 3


async def test_ended_for_a_while_it_joins_again(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        await idle()
        peer.end(Draining("seek"))
        await trio.sleep(1)
        assert len(peer.joins) == 2
        peer.lease(1)
        async with await anext(consumer) as delivery:
            assert delivery.offsets == [3]


async def test_ended_for_good_it_says_so(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.end(UnknownGroup("deleted"))
        for _ in range(2):
            with pytest.raises(UnknownGroup):
                await anext(consumer)


async def test_a_lease_of_nothing_ends_the_connection(daemon, client, peer) -> None:
    async with client.consumer("s", "g"):
        peer.session.say(frames.Lease(peer.subscription, 1, 0, 1, [], True, b""))
        await trio.sleep(1)
        assert daemon.dialled == 2


# ------------------------------------------------------------------------- what waits for long


async def test_what_is_not_begun_for_long_is_given_back(client, peer) -> None:
    peer.settings.update(ack_wait_s=30.0, lease_max_s=20.0)
    async with client.consumer("s", "g") as consumer:
        peer.lease(1)
        peer.lease(1)
        async with await anext(consumer):
            await trio.sleep(9)
            peer.lease(1)
            assert peer.verbs() == []
            # Soon enough, though leases are prolonged for far longer.
            await trio.sleep(7)
            assert peer.verbs() == [("release", [1])]
            assert extends(peer) == [1, 2, 1, 3, 1, 3]
        # What came later is not old yet.
        assert (await anext(consumer)).offsets == [2]
        assert consumer.statistics().held == 1
    assert peer.verbs()[1] == ("ack", [0])


async def test_the_rest_of_messages_that_waits_for_long_is_given_back(client, peer) -> None:
    peer.settings.update(lease_max_s=20.0)
    async with client.consumer("s", "g") as consumer:
        peer.lease(4)
        messages = consumer.messages()
        async with await anext(messages):
            await trio.sleep(15)
            assert peer.verbs() == [("release", [1, 2, 3])]
            peer.lease(1)
            assert (await anext(messages)).offset == 4
        await consumer.flush()
        assert consumer.statistics().acked == 1


async def test_what_waits_for_long_in_an_ordered_partition(client, peer) -> None:
    peer.settings.update(mode="ordered", lease_max_s=20.0)
    async with client.consumer("s", "g") as consumer:
        for _ in range(3):
            peer.lease(2)
        peer.lease(1, partition=1)
        messages = consumer.messages()
        first = await anext(messages)
        await trio.sleep(9)
        peer.lease(1)
        peer.hold = True
        await trio.sleep(2)
        # What came later goes, too: it is to be handled after that which comes again.
        released = [[1], [2, 3], [4, 5], [6], [7]]
        assert sorted(peer.verbs()) == [("release", offsets) for offsets in released]
        # And what is on its way will be taken back before the answer.
        peer.lease(1)
        async with first:
            pass
        with trio.move_on_after(1) as scope:
            await anext(messages)
        assert scope.cancelled_caught
        peer.revoke(peer.tokens, lost=True)
        peer.hold = False
        peer.release()
        peer.lease(1)
        async with await anext(messages) as message:
            assert message.offset == 9


async def test_what_is_on_its_way_waits_for_what_waited_for_long(client, peer) -> None:
    peer.settings.update(mode="ordered", lease_max_s=20.0)
    async with client.consumer("s", "g") as consumer:
        peer.lease(1)
        peer.lease(1)
        async with await anext(consumer):
            await trio.sleep(9)
            peer.hold = True
            await trio.sleep(2)
            assert peer.verbs() == [("release", [1])]
            peer.lease(1)
        with trio.move_on_after(1) as scope:
            await anext(consumer)
        assert scope.cancelled_caught
        peer.revoke(peer.tokens, lost=True)
        peer.hold = False
        peer.release()
        peer.lease(1)
        async with await anext(consumer) as delivery:
            assert delivery.offsets == [3]


async def test_what_waits_for_long_behind_its_key(client, peer) -> None:
    peer.settings.update(order="key", lease_max_s=20.0)
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=[Record(b"", key) for key in (b"a", b"b", b"a")])
        messages = consumer.messages()
        async with await anext(messages):
            await trio.sleep(15)
            assert peer.verbs() == [("release", [1, 2])]
        await consumer.flush()
        counts = consumer.statistics()
        assert (counts.acked, counts.released, counts.held) == (1, 2, 0)


@pytest.mark.parametrize("max_s", ["soon", 0, None])
async def test_an_answer_without_the_longest_time(client, peer, max_s) -> None:
    peer.settings["lease_max_s"] = max_s
    with trio.move_on_after(1), pytest.raises(ConnectionFailed):
        async with client.consumer("s", "g"):
            raise AssertionError("not joined")


# --------------------------------------------------------------------------------------- ordered


async def test_an_ordered_partition_goes_one_by_one(client, peer) -> None:
    peer.settings["mode"] = "ordered"
    async with client.consumer("s", "g") as consumer:
        peer.lease(1)
        peer.lease(1)
        peer.lease(1, partition=1)
        first = await anext(consumer)
        other = await anext(consumer)
        assert (first.partition, other.partition) == (0, 1)
        with trio.move_on_after(1) as scope:
            await anext(consumer)
        assert scope.cancelled_caught
        async with first:
            pass
        assert (await anext(consumer)).offsets == [1]


async def test_what_waits_behind_a_failure_is_dropped(client, peer) -> None:
    peer.settings["mode"] = "ordered"
    async with client.consumer("s", "g") as consumer:
        peer.lease(1)
        peer.lease(1)
        await idle()
        with pytest.raises(ValueError, match="bad"):
            async with await anext(consumer):
                raise ValueError("bad")
        await idle()
        assert peer.verbs() == [("nack", [0]), ("release", [1])]
        peer.lease(1)
        assert (await anext(consumer)).offsets == [2]


async def test_taken_back_is_lost(client, peer) -> None:
    peer.settings["mode"] = "ordered"
    async with client.consumer("s", "g") as consumer:
        peer.lease(1)
        peer.lease(1)
        async with await anext(consumer) as delivery:
            peer.revoke(delivery.token, lost=True)
            peer.lease(1)
            await idle()
            assert delivery.lost
            # The handler still runs: nobody else gets the partition's next.
            with trio.move_on_after(1) as scope:
                await anext(consumer)
            assert scope.cancelled_caught
        assert (await anext(consumer)).offsets == [2]
        assert consumer.statistics().late == 1
    assert peer.verbs() == []


async def test_a_handler_that_lost_its_lease_is_waited_for(daemon, client, peer) -> None:
    peer.settings["mode"] = "ordered"
    async with client.consumer("s", "g") as consumer:
        peer.lease(1)
        peer.lease(1)
        async with await anext(consumer):
            daemon.drop()
            await trio.sleep(1)
            peer.lease(1)
            with trio.move_on_after(1) as scope:
                await anext(consumer)
            assert scope.cancelled_caught
        async with await anext(consumer) as delivery:
            assert delivery.offsets == [2]


async def test_given_back_in_order(client, peer) -> None:
    peer.settings["mode"] = "ordered"
    async with client.consumer("s", "g") as consumer:
        for _ in range(3):
            peer.lease(1)
        await idle()
        peer.revoke(peer.tokens + 1, lost=False)
        await idle()
        assert sorted(peer.verbs()) == [("release", [n]) for n in range(3)]
        peer.lease(1)
        assert (await anext(consumer)).offsets == [3]


# -------------------------------------------------------------------------------------- messages


async def test_messages_are_the_records(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        records = [Record(b"v", b"k", 5, {"h": b"1"}), Record(b"w", None, 9)]
        peer.lease(records=records, attempt=2)
        peer.lease(records=records)
        found = []
        async for message in consumer.messages():
            async with message:
                found.append(message.record)
                assert (message.stream, message.partition) == ("s", 0)
                if len(found) == 1:
                    assert (message.token, message.attempt, message.offset) == (1, 2, 0)
                    assert (message.key, message.headers) == (b"k", {"h": b"1"})
                    assert message.timestamp_us == 5
                    assert "offset 0" in repr(message)
            if len(found) == 4:
                break
        await consumer.flush()
    assert found == records * 2
    # Put together: one item a lease.
    assert peer.verbs() == [("ack", [0, 1]), ("ack", [2, 3])]


async def test_messages_out_of_order_share_an_item(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(5)
        messages = consumer.messages()
        taken = [await anext(messages) for _ in range(5)]
        for n in (3, 1, 0, 2, 4):
            async with taken[n]:
                pass
    assert peer.verbs() == [("ack", [0, 1, 2, 3, 4])]


async def test_a_message_that_fails_takes_no_other_along(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        messages = consumer.messages()
        for n in range(3):
            try:
                async with await anext(messages):
                    if n == 1:
                        raise ValueError("no")
            except ValueError:
                pass
        await consumer.flush()
        counts = consumer.statistics()
        assert (counts.acked, counts.nacked) == (2, 1)
    assert ("nack", [1]) in peer.verbs()


async def test_messages_of_an_ordered_partition_wait(client, peer) -> None:
    peer.settings["mode"] = "ordered"
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        messages = consumer.messages()
        first = await anext(messages)
        peer.lease(1, partition=1)
        # Of another partition, another task may go on.
        async with await anext(messages) as other:
            assert other.partition == 1
        with trio.move_on_after(1) as scope:
            await anext(messages)
        assert scope.cancelled_caught
        await first.ack()
        second = await anext(messages)
        await second.nack(reason="later")
        await idle()
        assert peer.verbs() == [("ack", [3]), ("ack", [0]), ("nack", [1]), ("release", [2])]


async def test_messages_of_one_key_wait(client, peer) -> None:
    peer.settings["order"] = "key"
    keys = [b"a", b"b", b"a", None, b"a", b"b"]
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=[Record(b"", key) for key in keys])
        messages = consumer.messages()
        first, second = await anext(messages), await anext(messages)
        with trio.move_on_after(1) as scope:
            await anext(messages)
        assert scope.cancelled_caught
        await second.ack()
        await first.nack()
        # The rest of key a comes again; what has no key, or b, goes on.
        assert [(await anext(messages)).offset for _ in range(2)] == [3, 5]
        await idle()
        assert peer.verbs() == [("ack", [1]), ("nack", [0]), ("release", [2, 4])]


async def test_the_rest_of_a_delivery_is_given_back(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(4)
        messages = consumer.messages()
        async with await anext(messages):
            peer.revoke(peer.tokens + 1, lost=False)
            await idle()
            assert peer.verbs() == [("release", [1, 2, 3])]
        with trio.move_on_after(1) as scope:
            await anext(messages)
        assert scope.cancelled_caught
        assert consumer.statistics().held == 0


async def test_messages_of_a_lost_lease_are_dropped(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3)
        messages = consumer.messages()
        async with await anext(messages):
            daemon.drop()
            await trio.sleep(1)
            peer.lease(1)
            assert (await anext(messages)).offset == 3
        assert consumer.statistics().late == 1


async def test_tasks_share_the_messages(client, peer) -> None:
    found: list[int] = []

    async def work(messages) -> None:
        async for message in messages:
            async with message:
                await trio.sleep(1)
                found.append(message.offset)

    async with client.consumer("s", "g") as consumer, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(work, consumer.messages())
        await idle()
        peer.lease(10)
        peer.lease(2)
        await trio.sleep(3.5)
        assert sorted(found) == list(range(12))
        nursery.cancel_scope.cancel()
    assert sorted(n for _, offsets in peer.verbs() for n in offsets) == list(range(12))


async def test_messages_let_others_run(client, peer) -> None:
    async with client.consumer("s", "g", max_in_flight=10_000) as consumer:
        peer.lease(1000)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            messages = consumer.messages()
            for _ in range(1000):
                async with await anext(messages):
                    pass
            nursery.cancel_scope.cancel()
        assert turns >= 5


async def test_a_damaged_batch_fails_as_a_whole(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(3, spoil=True)
        peer.lease(1)
        assert (await anext(consumer.messages())).offset == 3
        await idle()
    verb, _, offsets, _, reason = peer.items[0]
    assert (verb, offsets) == (Verb.NACK, [0, 1, 2])
    assert reason.startswith("BadBatch: batch checksum")


# ---------------------------------------------------------------------------------------- leaving


async def test_leaving_waits_for_the_answers(client, peer) -> None:
    peer.hold = True
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            await trio.sleep(3)
            peer.release()

        began = trio.current_time()
        nursery.start_soon(answer)
        async with client.consumer("s", "g") as consumer:
            peer.lease()
            async with await anext(consumer):
                pass
        assert trio.current_time() - began == pytest.approx(3)
    await idle()
    assert peer.left


async def test_leaving_when_cancelled_is_short(client, peer) -> None:
    peer.hold = True
    with trio.CancelScope() as scope:
        async with client.consumer("s", "g") as consumer:
            peer.lease()
            async with await anext(consumer):
                scope.cancel()
                began = trio.current_time()
                await trio.lowlevel.checkpoint()
    assert trio.current_time() - began == pytest.approx(2)
    assert peer.verbs() == [("release", [0, 1, 2])]


async def test_leaving_in_a_cancelled_scope_tells_what_was_settled(client, peer) -> None:
    with trio.CancelScope() as scope:
        async with client.consumer("s", "g") as consumer:
            peer.lease()
            async with await anext(consumer):
                scope.cancel()
    assert scope.cancelled_caught
    assert peer.verbs() == [("ack", [0, 1, 2])]


async def test_what_failed_is_raised_on_leaving(client, peer) -> None:
    peer.judge = lambda *_: BadRequest("no such range")
    with pytest.raises(BadRequest, match="no such range"):
        async with client.consumer("s", "g") as consumer:
            peer.lease()
            async with await anext(consumer):
                pass
    with pytest.raises(ValueError, match="mine") as caught:
        async with client.consumer("s", "g") as consumer:
            peer.lease()
            async with await anext(consumer):
                pass
            raise ValueError("mine")
    assert "no such range" in caught.value.__notes__[0]


async def test_after_leaving_it_is_closed(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        delivery = await anext(consumer)
    with pytest.raises(trio.ClosedResourceError):
        await anext(consumer)
    with pytest.raises(LeaseLost, match="was left"):
        await delivery.ack()


async def test_on_goodbye_handlers_finish(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        peer.lease()
        await idle()
        async with await anext(consumer):
            daemon.goodbye()
            await trio.sleep(5)
            assert daemon.dialled == 1
            assert peer.verbs() == [("release", [3, 4, 5])]
        await trio.sleep(1)
        assert peer.verbs()[-1] == ("ack", [0, 1, 2])
        assert consumer.statistics().acked == 3
        # Nothing is held: the next connection was made.
        assert daemon.dialled == 2


async def test_a_lease_that_crosses_the_goodbye_is_given_back(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        async with await anext(consumer):
            daemon.goodbye()
            peer.lease()
            await idle()
            assert peer.verbs() == [("release", [3, 4, 5])]


async def test_leaving_after_the_goodbye(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease()
        await anext(consumer)
        daemon.goodbye()
        await idle()
    await idle()
    assert peer.left == [peer.joins[0].subscription]


async def test_leases_are_prolonged_after_the_goodbye(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        token = peer.lease()
        async with await anext(consumer):
            daemon.goodbye()
            await trio.sleep(25)
            assert extends(peer) == [token, token]


async def test_no_connection_any_more(daemon, peer) -> None:
    async with daemon.connect(reconnect_s=3) as client:
        with pytest.raises(ConnectionFailed):
            async with client.consumer("s", "g") as consumer:
                daemon.down = True
                daemon.drop()
                await anext(consumer)


async def test_ended_over_its_join_it_is_told_the_second_time(daemon, client, peer) -> None:
    def accuse(session, frame) -> None:
        session.say(frames.Failed(frame.request, "protocol", "what?", False, True))

    daemon.other = accuse
    with pytest.raises(ProtocolError, match="what"):
        async with client.consumer("s", "g"):
            raise AssertionError("not joined")


# ---------------------------------------------------------------------- keys of what was lost


def keyed(*keys: bytes | None) -> list[Record]:
    return [Record(b"", key) for key in keys]


async def test_keys_of_what_was_lost_wait_for_its_handler(daemon, client, peer) -> None:
    peer.settings["order"] = "key"
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=keyed(b"a", None))
        async with await anext(consumer):
            daemon.drop()
            await trio.sleep(1)
            peer.lease(records=keyed(b"a"))
            peer.lease(records=keyed(b"b", None))
            async with await anext(consumer) as other:
                assert other.offsets == [3, 4]
            with trio.move_on_after(1) as scope:
                await anext(consumer)
            assert scope.cancelled_caught
        async with await anext(consumer) as again:
            assert again.offsets == [2]
    assert peer.verbs() == [("ack", [3, 4]), ("ack", [2])]


async def test_keys_of_lost_messages_wait_one_by_one(daemon, client, peer) -> None:
    peer.settings["order"] = "key"
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=keyed(b"a", b"b", b"c"))
        messages = consumer.messages()
        first, second = await anext(messages), await anext(messages)
        daemon.drop()
        await trio.sleep(1)
        for key in (b"a", b"b", b"c"):
            peer.lease(records=keyed(key))
        # The third was never handed out.
        assert (await anext(messages)).key == b"c"
        async with second:
            pass
        assert (await anext(messages)).key == b"b"
        with trio.move_on_after(1) as scope:
            await anext(messages)
        assert scope.cancelled_caught
        with pytest.raises(LeaseLost):
            await first.ack()
        assert (await anext(messages)).key == b"a"


@pytest.mark.parametrize("how", ["revoked", "old", "lost", "taken"])
async def test_what_waits_for_a_lost_key_can_go(daemon, client, peer, how) -> None:
    peer.settings.update(order="key", lease_max_s=20.0)
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=keyed(b"a"))
        async with await anext(consumer):
            daemon.drop()
            await trio.sleep(1)
            token = peer.lease(records=keyed(b"a"))
            await idle()
            if how == "revoked":
                peer.revoke(token + 1, lost=False)
            elif how == "taken":
                peer.revoke(token, lost=True)
            elif how == "lost":
                daemon.drop()
            await trio.sleep(15)
            assert consumer.statistics().held == 0
        with trio.move_on_after(1) as scope:
            await anext(consumer)
        assert scope.cancelled_caught
    assert peer.verbs() == ([("release", [1])] if how in ("revoked", "old") else [])


async def test_a_lost_key_is_waited_for_no_longer_than_a_lease_may_last(
    daemon, client, peer
) -> None:
    peer.settings.update(order="key", lease_max_s=20.0)
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=keyed(b"a"))
        async with await anext(consumer):
            daemon.drop()
            await trio.sleep(15)
            peer.lease(records=keyed(b"a"))
            began = trio.current_time()
            async with await anext(consumer) as again:
                assert again.offsets == [1]
            assert 4 < trio.current_time() - began < 11
            assert not consumer._holding._running


async def test_what_has_no_key_waits_for_no_lost_one(daemon, client, peer) -> None:
    peer.settings["order"] = "key"
    async with client.consumer("s", "g") as consumer:
        peer.lease(2)
        peer.lease(records=keyed(b"a"), spoil=True)
        async with await anext(consumer), await anext(consumer):
            daemon.drop()
            await trio.sleep(1)
            peer.lease(records=keyed(b"a"))
            async with await anext(consumer) as delivery:
                assert delivery.offsets == [3]


async def test_without_its_dictionary_it_waits_for_what_is_lost(daemon, client, peer) -> None:
    peer.settings["order"] = "key"
    values = [b'{"level": "info", "user": %d, "text": "in"}' % (n * 7919) for n in range(4000)]
    number = await client.train_dictionary("s", values)
    client._codecs.clear()
    async with client.consumer("s", "g") as consumer:
        peer.lease(records=keyed(b"a"))
        async with await anext(consumer):
            daemon.drop()
            await trio.sleep(1)
            records = [Record(value, b"b") for value in values[:3]]
            peer.lease(records=records, dictionary_id=number)
            with trio.move_on_after(1) as scope:
                await anext(consumer)
            assert scope.cancelled_caught
        async with await anext(consumer) as delivery:
            assert delivery.records[0].key == b"b"
