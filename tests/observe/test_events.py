"""Events: bounded, gathered by the second, and awaited."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from streamer.observe.events import EVENTS_MAX, Events

Clock = trio.testing.MockClock


@pytest.fixture
def events() -> Events:
    return Events(lambda: 7)


async def test_what_happened_in_order(autojump_clock: Clock, events: Events) -> None:
    events.emit("joined", "a joined", member=1)
    events.emit("left", "a left", severity="warning", member=1)
    found = await events.after(0, 10, 0)
    assert found == {
        "next": 3,
        "missed": 0,
        "events": [
            {
                "seq": 1,
                "at_us": 7,
                "kind": "joined",
                "severity": "info",
                "text": "a joined",
                "count": 1,
                "facts": {"member": 1},
            },
            {
                "seq": 2,
                "at_us": 7,
                "kind": "left",
                "severity": "warning",
                "text": "a left",
                "count": 1,
                "facts": {"member": 1},
            },
        ],
    }
    assert (await events.after(3, 10, 0))["events"] == []


async def test_a_limit_goes_on_where_it_stopped(autojump_clock: Clock, events: Events) -> None:
    for number in range(5):
        events.emit("x", str(number), number=number)
    first = await events.after(0, 2, 0)
    second = await events.after(first["next"], 10, 0)
    assert [each["text"] for each in first["events"] + second["events"]] == list("01234")


async def test_the_same_within_a_second_is_gathered(autojump_clock: Clock, events: Events) -> None:
    for _ in range(1000):
        events.emit("redelivered", "again", count=3, group="g")
    events.emit("redelivered", "again", group="other")
    events.flush()
    found = (await events.after(0, 10, 0))["events"]
    assert [(each["facts"]["group"], each["count"]) for each in found] == [("g", 3), ("other", 1)]
    await trio.sleep(1)
    events.flush()
    found = (await events.after(0, 10, 0))["events"]
    assert [each["count"] for each in found] == [3, 1, 999 * 3]
    # Afterwards the first is told at once again.
    events.emit("redelivered", "again", count=3, group="g")
    assert len((await events.after(0, 10, 0))["events"]) == 4


async def test_what_was_gathered_comes_before_what_follows_its_second(
    autojump_clock: Clock, events: Events
) -> None:
    events.emit("x", "x")
    events.emit("x", "x", count=5)
    await trio.sleep(1.5)
    events.emit("x", "x", count=2)
    assert [each["count"] for each in (await events.after(0, 10, 0))["events"]] == [1, 5, 2]


async def test_those_that_were_missed_are_counted(autojump_clock: Clock, events: Events) -> None:
    for number in range(EVENTS_MAX + 20):
        events.emit("x", str(number), number=number)
    found = await events.after(5, 1, 0)
    assert found["missed"] == 16
    assert found["events"][0]["seq"] == 21
    # Who asks for the oldest missed nothing that it knew of.
    assert (await events.after(0, 1, 0))["missed"] == 0


async def test_what_is_grave_outlives_what_is_not(autojump_clock: Clock, events: Events) -> None:
    for number in range(EVENTS_MAX // 2):
        events.emit("came", "", number=number)
    events.emit("crashed", "", severity="error")
    for number in range(EVENTS_MAX):
        events.emit("came", "", number=-number - 1)
    crashed = EVENTS_MAX // 2 + 1
    first = await events.after(0, 1, 0)
    assert [each["kind"] for each in first["events"]] == ["crashed"]
    assert (first["next"], first["missed"]) == (crashed + 1, 0)
    rest = await events.after(first["next"], EVENTS_MAX, 0)
    assert (len(rest["events"]), rest["missed"]) == (EVENTS_MAX, 0)
    # One that was further back missed those before the crash, and none behind it.
    late = await events.after(2, 10, 0)
    assert late["events"][0]["kind"] == "crashed"
    assert late["missed"] == crashed - 2


async def test_waiting(autojump_clock: Clock, events: Events) -> None:
    began = trio.current_time()
    assert (await events.after(1, 10, 5))["events"] == []
    assert trio.current_time() - began == pytest.approx(5)

    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(2)
            events.emit("x", "x")

        nursery.start_soon(later)
        assert len((await events.after(1, 10, 5))["events"]) == 1
    assert trio.current_time() - began == pytest.approx(7)


async def test_nobody_waits_for_a_daemon_that_goes_down(
    autojump_clock: Clock, events: Events
) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.after, 1, 10, 10)
        await trio.testing.wait_all_tasks_blocked()
        events.close()
    assert trio.current_time() == pytest.approx(began, abs=0.01)


async def test_a_number_of_before_a_restart(autojump_clock: Clock, events: Events) -> None:
    events.emit("x", "x")
    assert len((await events.after(4711, 10, 5))["events"]) == 1


async def test_many_different_things_at_once_are_one_event_each(
    autojump_clock: Clock, events: Events
) -> None:
    for number in range(2):
        for kind in range(300):
            events.emit("x", "x", kind_of=kind, round=0)
        assert number in (0, 1)
    found = (await events.after(0, 1000, 0))["events"]
    assert sum(each["count"] for each in found) == 300 + 44
    await trio.sleep(1)
    events.flush()
    found = (await events.after(0, 1000, 0))["events"]
    assert sum(each["count"] for each in found) == 600
