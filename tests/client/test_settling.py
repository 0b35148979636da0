"""How settles are put together into frames, and what becomes of them without an answer."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import pytest
import trio
import trio.testing

from streamer.client.settling import _join
from streamer.errors import BadRequest, LeaseLost, TimedOut
from streamer.records import AckLevel
from streamer.wire import frames
from streamer.wire.frames import Verb

idle = trio.testing.wait_all_tasks_blocked


@pytest.mark.parametrize(
    ("bounds", "more", "expected"),
    [
        ([0, 5], [5, 6], [0, 6]),
        ([0, 5], [7, 8], [0, 5, 7, 8]),
        ([5, 6], [0, 1], [0, 1, 5, 6]),
        ([0, 1, 2, 3], [1, 2], [0, 3]),
        ([0, 5], [5, 6, 8, 9], [0, 6, 8, 9]),
        ([4, 5], [0, 1, 8, 9], [0, 1, 4, 5, 8, 9]),
    ],
)
def test_joining_ranges(bounds, more, expected) -> None:
    _join(bounds, more)
    assert bounds == expected


async def test_what_comes_meanwhile_shares_a_frame(client, peer) -> None:
    peer.hold = True
    async with client.consumer("s", "g") as consumer:
        for _ in range(10):
            peer.lease(1)
        for _ in range(10):
            async with await anext(consumer):
                pass
            if len(peer.frames) < 4:
                await idle()
        await idle()
        assert [len(frame.items) for frame in peer.frames] == [1, 1, 1, 1]
        peer.hold = False
        peer.release()
        await consumer.flush()
        assert [len(frame.items) for frame in peer.frames] == [1, 1, 1, 1, 6]
        assert consumer.statistics().acked == 10


async def test_the_same_verb_and_reason_share_an_item(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(12)
        delivery = await anext(consumer)
        async with trio.open_nursery() as nursery:
            for offset in (3, 1, 2):
                nursery.start_soon(delivery.ack, [offset])
            for offset in (5, 4):
                nursery.start_soon(delivery.nack, [offset], None, "a")
            nursery.start_soon(delivery.nack, [6], None, "b")
            nursery.start_soon(delivery.nack, [7], 1, "b")
        await delivery.ack([0, 8])
        async with delivery:
            pass
    first = peer.frames[0]
    assert sorted(first.items) == [
        [0, 1, [1, 4], None, ""],
        [1, 1, [4, 6], None, "a"],
        [1, 1, [6, 7], None, "b"],
        [1, 1, [7, 8], 1_000_000, "b"],
    ]


async def test_order_is_kept(client, peer) -> None:
    async with client.consumer("s", "g") as consumer:
        peer.lease(4)
        delivery = await anext(consumer)
        delivery.settle(Verb.ACK, [0, 1])
        delivery.settle(Verb.RELEASE, [1, 2])
        async with delivery:
            pass
    (frame,) = peer.frames
    # What is left is named, as it joins what was before the release.
    assert frame.items == [[0, 1, [0, 1, 2, 4], None, ""], [3, 1, [1, 2], None, ""]]


async def test_frames_are_bounded(client, peer) -> None:
    async with client.consumer("s", "g", max_in_flight=10_000) as consumer:
        for _ in range(5000):
            peer.lease(1)
        held = [await anext(consumer) for _ in range(5000)]
        for delivery in held:
            delivery.settle(Verb.ACK, delivery.left_bounds())
        await consumer.flush()
        assert [len(frame.items) for frame in peer.frames] == [4096, 904]


async def test_reasons_count(client, peer) -> None:
    async with client.consumer("s", "g", max_in_flight=10_000) as consumer:
        for _ in range(400):
            peer.lease(1)
        for _ in range(400):
            delivery = await anext(consumer)
            delivery.settle(Verb.NACK, delivery.left_bounds(), "\U0001f600" * 500)
        await consumer.flush()
    assert sum(len(frame.items) for frame in peer.frames) == 400
    assert max(len(frames.encode(frame)) for frame in peer.frames) < 300_000


async def test_the_level_is_told(client, peer) -> None:
    async with client.consumer("s", "g", level=AckLevel.ACCEPTED) as consumer:
        peer.lease(1)
        async with await anext(consumer):
            pass
    assert [frame.level for frame in peer.frames] == [0]


async def test_so_much_unanswered_makes_the_exit_wait(client, peer) -> None:
    peer.hold = True
    async with client.consumer("s", "g", max_in_flight=100_000) as consumer:
        peer.lease(40_000)
        peer.lease(40_000)
        async with await anext(consumer):
            pass
        with trio.move_on_after(5) as scope:
            async with await anext(consumer):
                pass
        # It was queued all the same.
        assert scope.cancelled_caught
        await idle()
        assert len(peer.items) == 2
        peer.lease(1)
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                async with await anext(consumer):
                    pass

            nursery.start_soon(work)
            await idle()
            assert len(nursery.child_tasks) == 1
            peer.hold = False
            peer.release()


async def test_flush_waits_for_what_is_before_it(client, peer) -> None:
    peer.hold = True
    async with client.consumer("s", "g") as consumer:
        await consumer.flush()
        peer.lease(1)
        async with await anext(consumer):
            pass
        with trio.move_on_after(1) as scope:
            await consumer.flush()
        assert scope.cancelled_caught
        peer.judge = lambda *_: LeaseLost("late")
        peer.release()
        await consumer.flush()
        peer.hold = False
        peer.lease(1)
        async with await anext(consumer):
            pass
        # That it was late is counted, and no failure.
        await consumer.flush()
        assert consumer.statistics().late == 1
        peer.refuse_settle = BadRequest("all of it")
        peer.lease(1)
        async with await anext(consumer):
            pass
        with pytest.raises(BadRequest, match="all of it"):
            await consumer.flush()


async def test_leaving_without_an_answer(client, peer) -> None:
    peer.hold = True
    began = trio.current_time()
    with pytest.raises(TimedOut, match="1 settled records were not answered within 10 s"):
        async with client.consumer("s", "g") as consumer:
            peer.lease(1)
            async with await anext(consumer):
                pass
    assert trio.current_time() - began == pytest.approx(10)
    # An answer that comes later is for nobody.
    peer.release()
    await idle()


async def test_an_answer_to_more_than_was_asked(daemon, client, peer) -> None:
    async with client.consumer("s", "g") as consumer:

        def settle(session, frame) -> None:
            session.say(frames.Settled(frame.request, [[1, "lease_lost", ""]]))

        peer.settle = settle
        peer.lease(1)
        async with await anext(consumer):
            pass
        await trio.sleep(1)
        assert daemon.dialled == 2
        assert consumer.statistics().late == 1


async def test_settles_wait_for_room_among_the_requests(daemon, peer) -> None:
    daemon.limits = type(daemon.limits)(requests=1)
    async with daemon.connect() as client, client.consumer("s", "g") as consumer:
        peer.hold = True
        for _ in range(3):
            peer.lease(1)
        for _ in range(3):
            async with await anext(consumer):
                await idle()
        await idle()
        assert len(peer.frames) == 1
        peer.hold = False
        peer.release()
        await consumer.flush()
        assert [len(frame.items) for frame in peer.frames] == [1, 2]


async def test_who_waits_for_a_renewal_that_is_not_sent_waits_for_what_is_before(
    client, peer
) -> None:
    peer.hold = True
    async with client.consumer("s", "g") as consumer:
        for _ in range(6):
            peer.lease(1)
        taken = [await anext(consumer) for _ in range(6)]
        # Four are under way, so all else waits in the queue.
        for delivery in taken[:4]:
            async with delivery:
                pass
            await idle()
        assert len(peer.frames) == 4
        async with taken[4]:
            pass
        consumer._settling.extend_all([taken[5]])
        async with taken[5]:
            pass
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(consumer.flush)
                await idle()
                peer.hold = False
                peer.release()
        assert consumer.statistics().acked == 6


@pytest.mark.parametrize("under_way", [0, 1])
async def test_a_renewal_that_is_not_sent_alone(client, peer, under_way) -> None:
    async with client.consumer("s", "g") as consumer:
        settling = consumer._settling
        peer.lease(1)
        peer.lease(1)
        taken = [await anext(consumer), await anext(consumer)]
        peer.hold = True
        for delivery in taken[:under_way]:
            async with delivery:
                pass
            await idle()
        told: list[int] = []
        settling.extend_all([taken[1]])
        settling.when_answered(lambda: told.append(len(peer.frames)))
        taken[1].lost = "taken"
        await idle()
        assert len(told) == 1 - under_way
        peer.hold = False
        peer.release()
        with trio.fail_after(5):
            await consumer.flush()
        assert told == [under_way]
        async with taken[1]:
            pass
