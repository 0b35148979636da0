"""What keys do to what is seen."""

from __future__ import annotations

import pytest

from streamer_tools.top.command import VIEWS as OFFERED
from streamer_tools.top.state import VIEWS, Place, Shown, State, index_of, pressed

ROWS = (("a",), ("b",), ("c",), ("d",))
SHOWN = Shown(ROWS, page=2, lines=20, sorts=("name", "lag"), largest_first=frozenset({"lag"}))


def after(keys: str, state: State | None = None, shown: Shown = SHOWN) -> State:
    """The state after keys, parted by blanks."""
    state = state or State()
    for key in keys.split():
        state = pressed(state, key, shown)
    return state


def test_the_command_offers_these_views() -> None:
    assert OFFERED == VIEWS


@pytest.mark.parametrize(
    ("keys", "view"),
    [("tab", "groups"), ("backtab", "sla"), ("3", "streams"), ("6 tab", "pipelines"),
     ("right right left", "groups"), ("7", "pipelines"), ("x", "pipelines")],
)  # fmt: skip
def test_views_are_switched(keys: str, view: str) -> None:
    assert after(keys).view == view


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [("j", "b"), ("down down", "c"), ("j k", "a"), ("k", "a"), ("G", "d"), ("end j", "d"),
     ("pagedown", "c"), ("G pageup", "b"), ("G g", "a")],
)  # fmt: skip
def test_moving_stays_within_the_rows(keys: str, chosen: str) -> None:
    assert after(keys).place.chosen == (chosen,)


def test_what_is_chosen_stays_chosen_when_rows_change_places() -> None:
    place = after("j").place
    assert index_of(place, (("d",), ("c",), ("b",))) == 2
    # It is gone: what took its place is chosen.
    assert index_of(place, (("d",), ("c",))) == 1
    assert index_of(Place(("x",), 9), ROWS) == 3
    assert index_of(place, ()) == 0


def test_each_view_has_its_own_place() -> None:
    state = after("j j tab j tab backtab backtab")
    assert state.place.chosen == ("c",)


def test_enter_opens_what_is_chosen_and_esc_goes_back() -> None:
    state = after("j enter")
    assert state.opened == ("b",)
    assert after("esc", state).opened is None
    assert after("tab", state).opened is None
    assert after("esc", state).place.chosen == ("b",)


def test_there_is_nothing_to_open_of_nothing() -> None:
    assert after("enter", shown=Shown()).opened is None
    assert after("6 enter").opened is None
    assert after("j", shown=Shown()) == State()


def test_lines_are_scrolled_as_far_as_there_are_any() -> None:
    opened = after("enter")
    assert after("j j", opened).scroll == 2
    assert after("G j", opened).scroll == 18
    assert after("k", opened).scroll == 0
    assert after("j", opened, Shown(page=10, lines=3)).scroll == 0
    assert after("j esc enter", opened).scroll == 0


def test_sorting_goes_round_and_begins_with_the_largest_numbers() -> None:
    assert (after("s").place.sort, after("s").place.reverse) == ("name", False)
    assert (after("s s").place.sort, after("s s").place.reverse) == ("lag", True)
    assert after("s s s").place.sort == ""
    assert after("s s r").place.reverse is False
    assert after("s", shown=Shown()).place.sort == ""


def test_a_filter_is_typed() -> None:
    typing = after("/ o r d q")
    assert (typing.filter, typing.typing, typing.done) == ("ordq", True, False)
    assert after("backspace", typing).filter == "ord"
    assert after("space x", typing).filter == "ordq x"
    assert after("ctrl-u", typing).filter == ""
    kept = after("enter", typing)
    assert (kept.filter, kept.typing) == ("ordq", False)
    assert after("esc", kept).filter == ""
    assert after("esc", typing) == State()
    assert after("up tab", typing) == typing
    assert len(after("/ " + "x " * 200).filter) == 100


def test_backspace_in_an_empty_filter_ends_it() -> None:
    assert after("/ backspace").typing is False


def test_pausing_and_the_interval() -> None:
    assert after("p").paused
    assert not after("p space").paused
    assert after("+").interval_s == 2.0
    assert after("-").interval_s == 0.5
    assert after("- " * 20).interval_s == 0.25
    assert after("+ " * 20).interval_s == 60.0


@pytest.mark.parametrize("key", ["esc", "?", "q", "enter"])
def test_help_is_closed_by_what_opens_and_by_what_leaves(key: str) -> None:
    state = after("?")
    assert state.help
    closed = after(key, state)
    assert (closed.help, closed.done) == (False, False)


def test_q_ends_it() -> None:
    assert after("q").done
    assert after("enter q").done
