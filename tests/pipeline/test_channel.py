"""The channel between stages: bounds, order, ends, cancellation, and what it says of itself."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from streamer.pipeline.channel import Receiver, Sender, open_channel


@attrs.frozen
class Item:
    name: str
    nbytes: int = 1


def make(items: int = 3, nbytes: int = 100) -> tuple[Sender[Item], Receiver[Item]]:
    return open_channel(items, nbytes)


async def test_items_come_out_in_order_and_end_with_the_last_sender() -> None:
    send, receive = make()
    other = send.clone()
    send.send_nowait(Item("a"))
    other.send_nowait(Item("b"))
    send.close()
    other.close()
    assert [item.name async for item in receive] == ["a", "b"]
    with pytest.raises(trio.EndOfChannel):
        await receive.receive()
    assert receive.ended


async def test_a_full_channel_blocks_by_items(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = make(items=2)
    send.send_nowait(Item("a"))
    send.send_nowait(Item("b"))
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(Item("c"))
    with trio.move_on_after(1) as scope:
        await send.send(Item("c"))
    assert scope.cancelled_caught
    assert [item.name for item in await receive.receive_all()] == ["a", "b"]


async def test_a_full_channel_blocks_by_bytes() -> None:
    send, receive = make(items=10, nbytes=100)
    send.send_nowait(Item("a", 60))
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(Item("b", 41))
    send.send_nowait(Item("c", 40))
    assert receive.statistics().bytes == 100


async def test_an_item_above_the_byte_limit_passes_alone() -> None:
    send, receive = make(nbytes=10)
    send.send_nowait(Item("huge", 1000))
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(Item("b", 1))
    assert (await receive.receive()).name == "huge"
    send.send_nowait(Item("b", 1))


async def test_blocked_senders_come_first_and_in_their_order() -> None:
    send, receive = make(items=1)
    send.send_nowait(Item("a"))
    async with trio.open_nursery() as nursery:
        for name in "bc":
            nursery.start_soon(send.send, Item(name))
            await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            send.send_nowait(Item("late"))
        names = [(await receive.receive()).name for _ in "abc"]
    assert names == ["a", "b", "c"]


async def test_receive_all_takes_what_waits_and_lets_blocked_senders_in() -> None:
    send, receive = make(items=1)
    send.send_nowait(Item("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, Item("b"))
        await wait_all_tasks_blocked()
        assert [item.name for item in await receive.receive_all()] == ["a"]
        assert [item.name for item in await receive.receive_all()] == ["b"]


async def test_receive_all_stops_before_the_bytes_are_exceeded() -> None:
    send, receive = make(items=10, nbytes=1000)
    for name in "abc":
        send.send_nowait(Item(name, 40))
    assert [item.name for item in await receive.receive_all(80)] == ["a", "b"]
    assert [item.name for item in await receive.receive_all(10)] == ["c"]
    assert receive.statistics().bytes == 0


async def test_a_nudge_wakes_a_waiting_receiver_with_nothing() -> None:
    send, receive = make()
    got: list[list[Item]] = []

    async def wait() -> None:
        got.append(await receive.receive_all())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        receive.nudge()
    assert got == [[]]
    receive.nudge()
    send.send_nowait(Item("a"))
    assert len(await receive.receive_all()) == 1


async def test_closing_wakes_every_waiting_receiver() -> None:
    send, receive = make()
    ended = []

    async def wait(end: Receiver[Item]) -> None:
        try:
            await end.receive()
        except trio.EndOfChannel:
            ended.append(end)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, receive)
        nursery.start_soon(wait, receive.clone())
        await wait_all_tasks_blocked()
        send.close()
    assert len(ended) == 2


async def test_without_receivers_sending_is_broken_and_blocked_senders_are_told() -> None:
    send, receive = make(items=1)
    send.send_nowait(Item("a"))
    failed = []

    async def blocked() -> None:
        try:
            await send.send(Item("b"))
        except trio.BrokenResourceError:
            failed.append("b")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(blocked)
        await wait_all_tasks_blocked()
        receive.close()
    assert failed == ["b"]
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait(Item("c"))


async def test_closed_ends_refuse() -> None:
    send, receive = make()
    with send, receive:
        pass
    send.close()
    receive.close()
    with pytest.raises(trio.ClosedResourceError):
        send.send_nowait(Item("a"))
    with pytest.raises(trio.ClosedResourceError):
        send.clone()
    with pytest.raises(trio.ClosedResourceError):
        receive.clone()
    with pytest.raises(trio.ClosedResourceError):
        await receive.receive()


async def test_a_cancelled_receive_has_taken_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    send, receive = make()
    with trio.move_on_after(1):
        await receive.receive()
    send.send_nowait(Item("a"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await receive.receive_all()
    assert (await receive.receive()).name == "a"


async def test_a_cancelled_send_has_sent_nothing() -> None:
    send, receive = make()
    with trio.CancelScope() as scope:
        scope.cancel()
        await send.send(Item("a"))
    assert receive.statistics().items == 0


async def test_statistics_say_how_it_stands(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = make(items=2, nbytes=10)
    assert receive.statistics().oldest_s == 0
    send.send_nowait(Item("a", 4))
    send.send_nowait(Item("b", 4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, Item("c", 3))
        await trio.sleep(5)
        seen = send.statistics()
        assert (seen.items, seen.items_max, seen.bytes, seen.bytes_max) == (2, 2, 8, 10)
        assert (seen.senders_waiting, seen.oldest_s) == (1, 5)
        await receive.receive()
    seen = receive.statistics()
    assert (seen.items, seen.items_seen, seen.bytes_seen) == (2, 2, 8)
    assert (seen.items_total, seen.bytes_total, seen.senders_waiting) == (3, 11, 0)


async def test_receive_all_waits_no_longer_than_until(
    autojump_clock: trio.testing.MockClock,
) -> None:
    send, receive = make()
    began = trio.current_time()
    assert await receive.receive_all(until=began + 3) == []
    assert trio.current_time() == began + 3
    assert await receive.receive_all(until=began) == []
    send.send_nowait(Item("a"))
    assert len(await receive.receive_all(until=began)) == 1
    send.close()
    with pytest.raises(trio.EndOfChannel):
        await receive.receive_all(until=trio.current_time() + 1)
