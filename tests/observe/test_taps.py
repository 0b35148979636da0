"""Taps: what passes at a point, without holding it up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import trio
import trio.testing

from streamer.errors import BadRequest, Refused
from streamer.observe.taps import IDLE_S, TAPS_MAX, TapPoint, Taps

Clock = trio.testing.MockClock


def look(item: Any) -> Iterable[dict[str, Any]]:
    return [{"item": item, "_batch": item if isinstance(item, bytes) else None, "_sample": None}]


class Bench:
    def __init__(self) -> None:
        self.taps = Taps(lambda: 7)
        self.first = self.taps.point(look, "p/ingest.in", "p/session.out")
        self.second = self.taps.point(look, "p/propose.in", "p/ingest.out")

    async def take(self, glob: str, number: str = "a", **options: Any) -> list[Any]:
        settings = {"rate": 100, "values": False, **options}
        tap = self.taps.open(number, glob, settings["rate"], settings["values"])
        return [each["item"] for each in await tap.take(0)]


@pytest.fixture
def bench(autojump_clock: Clock) -> Bench:
    return Bench()


async def test_nothing_is_kept_where_nobody_looks(autojump_clock: Clock, bench: Bench) -> None:
    assert bench.first.taps == ()
    assert await bench.take("p/ingest.in") == []
    assert len(bench.first.taps) == 1
    assert bench.second.taps == ()
    bench.first.saw(1)
    assert await bench.take("p/ingest.in") == [1]
    assert await bench.take("p/ingest.in") == []


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("p/ingest", ["p/ingest.in", "p/ingest.out"]),
        ("p/ingest.out", ["p/ingest.out"]),
        ("*/session*", ["p/session.out"]),
        ("*", ["p/ingest.in", "p/ingest.out", "p/propose.in", "p/session.out"]),
    ],
)
async def test_globs(autojump_clock: Clock, bench: Bench, glob: str, names: list[str]) -> None:
    assert bench.taps.matched(bench.taps.open("a", glob, 10, False)) == names


async def test_a_glob_that_matches_nothing_names_what_there_is(
    autojump_clock: Clock, bench: Bench
) -> None:
    with pytest.raises(BadRequest, match=r"no point matches 'q/\*', known are p/ingest.in, p/in"):
        bench.taps.open("a", "q/*", 10, False)


@pytest.mark.parametrize("rate", [0, 1001])
async def test_rates_that_may_not_be(autojump_clock: Clock, bench: Bench, rate: int) -> None:
    with pytest.raises(BadRequest, match=f"a rate of {rate} items a second, allowed are 1 to 1000"):
        bench.taps.open("a", "*", rate, False)


async def test_an_id_that_may_not_be(autojump_clock: Clock, bench: Bench) -> None:
    with pytest.raises(BadRequest, match="a tap's id has 1 to 100 characters, not 0"):
        bench.taps.open("", "*", 1, False)


async def test_the_rest_is_counted(autojump_clock: Clock, bench: Bench) -> None:
    tap = bench.taps.open("a", "p/ingest.in", 10, False)
    for number in range(1000):
        bench.first.saw(number)
    assert len(await tap.take(0)) == 10
    assert (tap.seen, tap.shown) == (1000, 10)
    await trio.sleep(0.5)
    for number in range(1000):
        bench.first.saw(number)
    assert len(await tap.take(0)) == 5
    assert (tap.seen, tap.shown) == (2000, 15)


async def test_values_are_bounded_by_item_and_by_second(
    autojump_clock: Clock, bench: Bench
) -> None:
    tap = bench.taps.open("a", "p/ingest.in", 1000, True)
    bench.first.saw(bytes(70_000))
    bench.first.saw(b"small")
    large, small = await tap.take(0)
    assert large["batch"] is None
    assert small["batch"] == b"small"
    for _ in range(100):
        bench.first.saw(bytes(60_000))
    items = await tap.take(0)
    assert len(items) == 100
    assert sum(each["batch"] is not None for each in items) == (1024 * 1024 - 5) // 60_000


async def test_values_go_on_where_the_rate_is_never_reached(
    autojump_clock: Clock, bench: Bench
) -> None:
    tap = bench.taps.open("a", "p/ingest.in", 1000, True)
    for _ in range(60):
        bench.first.saw(bytes(60_000))
        await trio.sleep(1)
    assert all(each["batch"] is not None for each in await tap.take(0))


async def test_what_nobody_takes_is_bounded(autojump_clock: Clock, bench: Bench) -> None:
    tap = bench.taps.open("a", "p/ingest.in", 1000, False)
    for step in range(5):
        for number in range(1000):
            bench.first.saw((step, number))
        await trio.sleep(1)
    items = await tap.take(0)
    assert len(items) == 1000
    assert items[-1]["item"][0] == 4


async def test_waiting_for_the_first(autojump_clock: Clock, bench: Bench) -> None:
    tap = bench.taps.open("a", "p/ingest.in", 10, False)
    began = trio.current_time()
    assert await tap.take(3) == []
    assert trio.current_time() - began == pytest.approx(3)
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(1)
            bench.first.saw(5)

        nursery.start_soon(later)
        assert [each["item"] for each in await tap.take(3)] == [5]
    assert trio.current_time() - began == pytest.approx(4)


async def test_one_that_nobody_asks_for_ends(autojump_clock: Clock, bench: Bench) -> None:
    bench.taps.open("a", "*", 10, False)
    await trio.sleep(IDLE_S - 0.1)
    bench.taps.expire()
    assert bench.first.taps
    await trio.sleep(0.2)
    bench.taps.expire()
    assert bench.first.taps == ()


async def test_one_that_is_waited_for_does_not_end(autojump_clock: Clock, bench: Bench) -> None:
    tap = bench.taps.open("a", "*", 10, False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tap.take, 30)
        await trio.sleep(20)
        bench.taps.expire()
        assert bench.first.taps
        bench.first.saw(1)


async def test_there_are_only_so_many(autojump_clock: Clock, bench: Bench) -> None:
    for number in range(TAPS_MAX):
        bench.taps.open(str(number), "*", 10, False)
    with pytest.raises(Refused, match=f"there are {TAPS_MAX} taps"):
        bench.taps.open("one more", "*", 10, False)
    # The same once more, and with another glob, is no further one.
    bench.taps.open("3", "*", 10, False)
    bench.taps.open("3", "p/ingest.in", 10, False)


async def test_points_that_come_and_go(autojump_clock: Clock, bench: Bench) -> None:
    tap = bench.taps.open("a", "*", 10, False)
    point = bench.taps.point(look, "deliver/s/g")
    assert point.taps
    assert "deliver/s/g" in bench.taps.matched(tap)
    assert bench.taps.point(look, "deliver/s/g") is point
    bench.taps.remove("deliver/s/g")
    assert "deliver/s/g" not in bench.taps.names()


async def test_a_groups_point_has_no_direction(autojump_clock: Clock, bench: Bench) -> None:
    bench.taps.point(look, "deliver/orders.eu/g")
    with pytest.raises(BadRequest, match="no point matches"):
        bench.taps.open("a", "deliver/orders", 10, False)
    assert bench.taps.open("a", "deliver/orders.eu/*", 10, False)


async def test_one_that_is_replaced_is_waited_for_no_longer(
    autojump_clock: Clock, bench: Bench
) -> None:
    first = bench.taps.open("a", "p/ingest.in", 10, False)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.take, 10)
        await trio.testing.wait_all_tasks_blocked()
        second = bench.taps.open("a", "p/propose.in", 10, False)
    assert trio.current_time() == began
    assert bench.first.taps == ()
    assert [tap for tap, _ in bench.second.taps] == [second]


async def test_nobody_waits_for_a_daemon_that_goes_down(
    autojump_clock: Clock, bench: Bench
) -> None:
    tap = bench.taps.open("a", "*", 10, False)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tap.take, 10)
        await trio.testing.wait_all_tasks_blocked()
        bench.taps.close()
    assert trio.current_time() == pytest.approx(began, abs=0.01)
    assert bench.first.taps == ()
    # Nor one who comes too late.
    assert await bench.taps.open("b", "*", 10, False).take(10) == []
    assert trio.current_time() == pytest.approx(began, abs=0.01)


def test_a_point_without_taps_costs_an_empty_tuple() -> None:
    assert TapPoint(("a.in",), look).taps == ()
