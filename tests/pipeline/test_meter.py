"""What a channel measures: queueing and service of each stage, taps and traces on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from streamer.observe.meter import Meter
from streamer.observe.taps import Taps
from streamer.pipeline.channel import Receiver, Sender, open_channel
from streamer.stats import Stats

Clock = trio.testing.MockClock


@attrs.define(eq=False)
class Trace:
    spans: list[tuple[str, str, float, float]] = attrs.Factory(list)

    def span(self, name: str, kind: str, start: float, end: float) -> None:
        self.spans.append((name, kind, start, end))


@attrs.define(eq=False)
class Item:
    began_at: float = -1.0
    nbytes: int = 1
    taken_at: float = -1.0
    traces: Sequence[Any] = ()


class Line:
    """Two channels with a stage between them, and one behind."""

    def __init__(self, items: int = 10) -> None:
        self.stats = Stats()
        taps = Taps(lambda: 0)
        first = Meter(
            self.stats, "p", "one", taps.point(lambda _: [], "p/one.in"), None, last=False
        )
        second = Meter(
            self.stats, "p", "two", taps.point(lambda _: [], "p/two.in"), first, last=True
        )
        self.meters = first, second
        self.head: Sender[Item]
        self.middle: tuple[Receiver[Item], Sender[Item]]
        self.tail: Receiver[Item]
        self.head, receive = open_channel(items, 1000, first)
        send, self.tail = open_channel(items, 1000, second)
        self.middle = receive, send

    def summaries(self) -> list[tuple[int, float]]:
        """Queueing and service of the first, then of the second: count and longest."""
        found = []
        for meter in self.meters:
            for latency in (meter.queueing, meter.service):
                seen = latency.summary()
                found.append((seen.count, pytest.approx(seen.max_s, abs=1e-3)))
        return found


async def test_queueing_and_service(autojump_clock: Clock) -> None:
    line = Line()
    receive, send = line.middle
    await trio.sleep(1)
    trace = Trace()
    line.head.send_nowait(Item(traces=[trace]))
    await trio.sleep(2)
    item = await receive.receive()
    assert item.taken_at == trio.current_time()
    await trio.sleep(3)
    send.send_nowait(Item(began_at=item.taken_at, traces=[trace]))
    await trio.sleep(4)
    await line.tail.receive()
    await trio.sleep(5)
    line.head.close()
    send.close()
    with pytest.raises(trio.EndOfChannel):
        await line.tail.receive()
    assert line.summaries() == [(1, 2), (1, 3), (1, 4), (1, 5)]
    kinds = [(name, kind, round(end - start)) for name, kind, start, end in trace.spans]
    assert kinds[:3] == [
        ("p/one", "queueing", 2),
        ("p/one", "service", 3),
        ("p/two", "queueing", 4),
    ]


async def test_waiting_for_room_is_for_the_stage_behind_to_answer_for(
    autojump_clock: Clock,
) -> None:
    line = Line(items=1)
    receive, send = line.middle
    line.head.send_nowait(Item())
    taken = await receive.receive()
    await trio.sleep(1)
    send.send_nowait(Item(began_at=taken.taken_at))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, Item(began_at=taken.taken_at))
        await trio.sleep(10)
        assert len(await line.tail.receive_all()) == 1
        assert len(await line.tail.receive_all()) == 1
    # Both were done after a second, and both waited for ten.
    (_, _), service, queueing, _ = line.summaries()
    assert service == (2, 1)
    assert queueing == (2, 10)


async def test_many_at_once(autojump_clock: Clock) -> None:
    line = Line()
    for _ in range(3):
        line.head.send_nowait(Item())
        await trio.sleep(1)
    receive, _ = line.middle
    items = await receive.receive_all()
    assert {item.taken_at for item in items} == {trio.current_time()}
    assert line.summaries()[0] == (3, 3)
    line.head.send_nowait(Item())
    line.head.send_nowait(Item())
    assert len(await receive.receive_all(1)) == 1
    assert line.summaries()[0] == (4, 3)


async def test_what_came_by_another_way_is_not_measured(autojump_clock: Clock) -> None:
    line = Line()
    await trio.sleep(5)
    line.middle[1].send_nowait(Item())
    assert line.summaries()[1] == (0, 0)


async def test_a_channel_without_a_meter_takes_anything(autojump_clock: Clock) -> None:
    @attrs.frozen
    class Bare:
        nbytes: int = 1

    send, receive = open_channel(10, 10)
    send.send_nowait(Bare())
    await receive.receive()
