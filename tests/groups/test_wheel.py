"""Timers: never early, a tick late at most, and cheap to take back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.groups.wheel import SLOTS, TICK_S, Wheel

TURN_S = SLOTS * TICK_S


@given(
    waits=st.lists(st.floats(0, 3 * TURN_S), max_size=20),
    pauses=st.lists(st.sampled_from([0.01, 0.1, 3.0, TURN_S, 2.5 * TURN_S]), max_size=20),
    start=st.floats(0, 1e6),
)
def test_timers_come_out_in_time(waits: list[float], pauses: list[float], start: float) -> None:
    wheel: Wheel[int] = Wheel(start)
    due = {item: start + wait for item, wait in enumerate(waits)}
    for item, when in due.items():
        wheel.add(item, when)
    now = start
    for pause in [*pauses, 4 * TURN_S]:
        now += pause
        found = wheel.expired(now)
        # A tick for what rounds, and one for what was set into a tick that is over.
        assert all(due.pop(item) <= now + 1e-6 for item in found), "early, or twice"
        assert all(when > now - 2 * TICK_S for when in due.values()), "late"
        assert wheel.count == len(due)
    assert not due


def test_what_is_taken_back_does_not_come() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    ticks = {item: wheel.add(item, 1.0) for item in ("one", "two")}
    wheel.discard("one", ticks["one"])
    wheel.discard("one", ticks["one"])
    assert wheel.count == 1
    assert wheel.expired(1.1) == ["two"]
    wheel.discard("two", ticks["two"])
    assert wheel.count == 0


def test_a_slot_that_is_empty_again_keeps_no_memory() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    wheel.discard("one", wheel.add("one", 1.0))
    assert wheel._slots == [None] * SLOTS


def test_what_is_due_already_comes_at_the_next_tick() -> None:
    wheel: Wheel[str] = Wheel(50.0)
    wheel.add("late", 3.0)
    assert wheel.expired(50.0) == []
    assert wheel.expired(50.0 + 1.5 * TICK_S) == ["late"]


def test_what_is_due_a_turn_later_stays() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    wheel.add("now", 1.0)
    wheel.add("a turn later", 1.0 + TURN_S)
    wheel.add("another slot", 2.0 + TURN_S)
    assert wheel.expired(2.5) == ["now"]
    assert wheel.expired(2.0 + TURN_S - TICK_S) == ["a turn later"]
    assert wheel.expired(2.1 + TURN_S) == ["another slot"]


def test_time_that_stands_still_or_goes_back_does_nothing() -> None:
    wheel: Wheel[str] = Wheel(10.0)
    wheel.add("one", 10.5)
    assert wheel.expired(9.0) == []
    assert wheel.expired(10.2) == []
    assert wheel.expired(10.2) == []
    assert wheel.expired(10.6) == ["one"]
