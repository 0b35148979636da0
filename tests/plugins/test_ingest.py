"""Ingest: what is grouped, what closes a group, what passes through, and in which order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from streamer import Ack, Append, Codec, Group, Lane, Receiver, Record, Sender, StageContext
from streamer.pipeline.channel import open_channel
from streamer.testing.stage_checks import check_stage, open_context
from streamer_plugins.ingest.controller import PACE
from streamer_plugins.ingest.group import STAGE, GroupConfig


@attrs.frozen
class Bench:
    context: StageContext
    head: Sender[Append]
    out: Receiver[Group]

    def put(self, *names: str, stream: str = "s", lane: Lane = Lane.NORMAL) -> None:
        """One append of these records."""
        self._send([Record(name.encode()) for name in names], stream, lane)

    def put_batch(self, *names: str, stream: str = "s", lane: Lane = Lane.NORMAL) -> None:
        batch = Codec().encode_values([name.encode() for name in names], now_us=1)
        self._send([], stream, lane, batch=batch)

    def _send(self, records: list[Record], stream: str, lane: Lane, **more: Any) -> None:
        self.head.send_nowait(
            Append(
                stream,
                None,
                None,
                lane,
                Ack(max(1, len(records)), lambda _: None),
                100 * max(1, len(records)),
                trio.current_time(),
                records=records,
                **more,
            )
        )

    async def groups(self) -> list[tuple[str, list[str]]]:
        """What came out by now: why it was closed, and its values."""
        await wait_all_tasks_blocked()
        if not self.out.statistics().items:
            return []
        found = []
        for group in await self.out.receive_all():
            names = []
            for append in group.appends:
                if append.batch is not None:
                    names += [value.decode() for value in Codec().decode(append.batch).values]
                names += [record.value.decode() for record in append.records]
            found.append((group.reason, names))
        return found


@asynccontextmanager
async def open_bench(**settings: Any) -> AsyncGenerator[Bench, None]:
    # A linger of real milliseconds would close groups on a slow machine.
    settings.setdefault("linger_s", 10.0)
    async with open_context() as context, trio.open_nursery() as nursery:
        head, receive = open_channel(1000, 1 << 20)
        send, out = open_channel(1000, 1 << 20)
        nursery.start_soon(STAGE.factory(GroupConfig(**settings), context), receive, send)
        yield Bench(context, head, out)
        head.close()


async def test_a_lone_record_goes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bench(linger_s=10.0) as bench:
        bench.put("a")
        began = trio.current_time()
        assert await bench.groups() == [("idle", ["a"])]
        assert trio.current_time() == began


async def test_records_are_grouped_while_a_commit_is_under_way() -> None:
    async with open_bench(linger_s=10.0) as bench:
        ticket = bench.context.flow.enter()
        for name in "abc":
            bench.put(name)
            assert await bench.groups() == []
        ticket.release()
        assert await bench.groups() == [("idle", ["a", "b", "c"])]


async def answer(bench: Bench, *names: str, after_s: float) -> None:
    """A group of these records, answered so long after it was closed."""
    for name in names:
        bench.put(name)
    [group] = await bench.out.receive_all()
    assert len(group.appends) == len(names)
    await trio.sleep(after_s)
    group.ticket.release()


async def test_shared_groups_follow_each_other_at_a_pace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bench(linger_s=10.0) as bench:
        for _ in range(100):
            await answer(bench, "a", "b", after_s=2.0)
        answered = trio.current_time()
        bench.put("c")
        await trio.sleep(0.5)
        bench.put("d")
        assert await bench.groups() == []
        [group] = await bench.out.receive_all()
        assert len(group.appends) == 2
        # A group takes 2 s as a rule, and the last was closed 2 s before it was answered.
        assert trio.current_time() - answered == pytest.approx((PACE - 1) * 2.0)


async def test_after_a_lone_record_nobody_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bench(linger_s=10.0) as bench:
        for _ in range(10):
            await answer(bench, "a", after_s=2.0)
        began = trio.current_time()
        bench.put("b")
        assert await bench.groups() == [("idle", ["b"])]
        assert trio.current_time() == began


async def test_linger_bounds_the_pace_as_well(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bench(linger_s=0.25) as bench:
        for _ in range(10):
            await answer(bench, "a", "b", after_s=2.0)
        began = trio.current_time()
        bench.put("c")
        [group] = await bench.out.receive_all()
        assert trio.current_time() - began == pytest.approx(0.25)
        assert group.reason == "linger"


async def test_a_fixed_size_has_no_pace(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bench(linger_s=10.0, records_min=64, records_max=64) as bench:
        await answer(bench, "a", "b", after_s=2.0)
        began = trio.current_time()
        bench.put("c")
        assert await bench.groups() == [("idle", ["c"])]
        assert trio.current_time() == began


async def test_linger_bounds_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bench(linger_s=2.0) as bench:
        bench.context.flow.enter()
        bench.put("a")
        await trio.sleep(1.5)
        bench.put("b")
        assert await bench.groups() == []
        await trio.sleep(0.6)
        assert await bench.groups() == [("linger", ["a", "b"])]


async def test_count_closes_a_group() -> None:
    async with open_bench(records_min=2, records_max=2) as bench:
        bench.context.flow.enter()
        for name in "abcde":
            bench.put(name)
        assert await bench.groups() == [("count", ["a", "b"]), ("count", ["c", "d"])]


async def test_bytes_close_a_group_before_they_are_exceeded() -> None:
    async with open_bench(bytes_max=250) as bench:
        bench.context.flow.enter()
        for name in "abc":
            bench.put(name)
        assert await bench.groups() == [("bytes", ["a", "b"])]


async def test_two_records_in_a_request_take_the_batch_path() -> None:
    async with open_bench() as bench:
        bench.context.flow.enter()
        bench.put("a", "b")
        assert await bench.groups() == [("records", ["a", "b"])]


async def test_batches_pass_through_behind_what_came_before_them() -> None:
    async with open_bench() as bench:
        bench.context.flow.enter()
        bench.put("a")
        bench.put("x", stream="other")
        bench.put_batch("b", "c")
        assert await bench.groups() == [("order", ["a"]), ("batch", ["b", "c"])]


async def test_the_high_lane_goes_at_once_and_first() -> None:
    async with open_bench() as bench:
        bench.context.flow.enter()
        bench.put("a")
        bench.put_batch("b", "c")
        bench.put("d", lane=Lane.HIGH)
        bench.put_batch("e", lane=Lane.HIGH)
        assert await bench.groups() == [
            ("lane", ["d"]),
            ("batch", ["e"]),
            ("order", ["a"]),
            ("batch", ["b", "c"]),
        ]


async def test_streams_do_not_share_groups() -> None:
    async with open_bench() as bench:
        ticket = bench.context.flow.enter()
        bench.put("a", stream="s")
        bench.put("b", stream="t")
        ticket.release()
        assert await bench.groups() == [("idle", ["a"]), ("idle", ["b"])]


async def test_what_is_open_leaves_at_the_end() -> None:
    async with open_context() as context:
        head, receive = open_channel(10, 1000)
        send, out = open_channel(10, 1000)
        context.flow.enter()
        bench = Bench(context, head, out)
        bench.put("a")
        head.close()
        await STAGE.factory(GroupConfig(), context)(receive, send)
        assert await bench.groups() == [("drain", ["a"])]
        assert out.ended


async def test_decisions_and_reasons_are_counted() -> None:
    async with open_bench() as bench:
        bench.put("a")
        (group,) = await bench.out.receive_all()
        group.ticket.release()
        stats = bench.context.stats
        closed = stats.counter("ingest_groups", "", pipeline="checks", reason="idle")
        held = stats.counter("ingest_decisions", "", pipeline="checks", decision="hold")
        assert (closed.value, held.value) == (1, 1)


async def test_it_passes_the_checks_of_every_stage(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await check_stage(STAGE)


@pytest.mark.parametrize("bad", [{"linger": 1}, {"records_min": 0}])
def test_settings_are_checked(bad: dict[str, Any]) -> None:
    from streamer.settings import Faulty, new_converter

    with pytest.raises(Faulty):
        new_converter().structure(bad, GroupConfig)
