"""What the person wants to see, and how each key changes it: pure, no terminal, no daemon.

Rules: `pressed` gives the next state, of the state, the key and what is on the screen. What is
chosen is remembered by its id, for each view, so it stays chosen when rows change places; where it
is gone, what took its place is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from streamer_tools.top.scene import Id

VIEWS = ("pipelines", "groups", "streams", "sessions", "events", "sla")
#: Seconds between two looks, for + and -.
INTERVALS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
#: What can be opened.
OPENS = frozenset(VIEWS) - {"sla"}
_FILTER_MAX = 100


@attrs.frozen
class Place:
    """Where the person is in one view."""

    chosen: Id | None = None
    #: Where `chosen` was seen last.
    index: int = 0
    #: The name of the column that rows are sorted by; empty: as the daemon has them.
    sort: str = ""
    reverse: bool = False


@attrs.frozen
class Shown:
    """What of a list is on the screen: the reducer moves within it."""

    #: All rows of the view in their order.
    rows: tuple[Id, ...] = ()
    #: Rows, or lines of what is opened, that fit.
    page: int = 10
    #: Lines of what is opened, or of the help.
    lines: int = 0
    #: Names of the columns that the view can be sorted by, in their order.
    sorts: tuple[str, ...] = ()
    #: Of those, the ones that are sorted with the largest first.
    largest_first: frozenset[str] = frozenset()


@attrs.frozen
class State:
    view: str = "pipelines"
    places: Mapping[str, Place] = attrs.field(factory=lambda: {view: Place() for view in VIEWS})
    #: What was opened of the view's rows.
    opened: Id | None = None
    #: Lines that were scrolled, of what is opened or of the help.
    scroll: int = 0
    filter: str = ""
    typing: bool = False
    paused: bool = False
    help: bool = False
    interval_s: float = 1.0
    done: bool = False

    @property
    def place(self) -> Place:
        return self.places[self.view]

    @property
    def reading(self) -> bool:
        """Whether lines are on the screen and no rows."""
        return self.help or self.opened is not None


def pressed(state: State, key: str, shown: Shown) -> State:
    """The state after a key. Keys without a meaning change nothing."""
    if state.typing:
        return _typed(state, key)
    if state.help and key in ("esc", "?", "enter", "q"):
        return attrs.evolve(state, help=False, scroll=0)
    if key in _MOVES:
        return _scrolled(state, key, shown) if state.reading else _moved(state, key, shown)
    if key in _DIGITS:
        return _viewed(state, VIEWS[int(key) - 1])
    action = _ACTIONS.get(key)
    return state if action is None else action(state, shown)


def index_of(place: Place, rows: tuple[Id, ...]) -> int:
    """Which row is chosen; 0 where there is none."""
    if place.chosen in rows:
        return rows.index(place.chosen)
    return max(0, min(place.index, len(rows) - 1))


# ------------------------------------------------------------------------------------ typing


def _typed(state: State, key: str) -> State:
    if key == "enter":
        return attrs.evolve(state, typing=False)
    if key == "esc":
        return attrs.evolve(state, typing=False, filter="")
    if key == "ctrl-u":
        return attrs.evolve(state, filter="")
    if key == "backspace":
        # One more than there is to take away ends it, as in `less`.
        return attrs.evolve(state, filter=state.filter[:-1], typing=bool(state.filter))
    text = " " if key == "space" else key
    if len(text) != 1 or len(state.filter) >= _FILTER_MAX:
        return state
    return attrs.evolve(state, filter=state.filter + text)


# ------------------------------------------------------------------------------------ moving

_MOVES: Mapping[str, Callable[[int, int, int], int]] = {
    "up": lambda at, page, last: at - 1,
    "k": lambda at, page, last: at - 1,
    "down": lambda at, page, last: at + 1,
    "j": lambda at, page, last: at + 1,
    "pageup": lambda at, page, last: at - page,
    "pagedown": lambda at, page, last: at + page,
    "home": lambda at, page, last: 0,
    "g": lambda at, page, last: 0,
    "end": lambda at, page, last: last,
    "G": lambda at, page, last: last,
}
_DIGITS = tuple(str(number + 1) for number in range(len(VIEWS)))


def _moved(state: State, key: str, shown: Shown) -> State:
    if not shown.rows:
        return state
    last = len(shown.rows) - 1
    wanted = _MOVES[key](index_of(state.place, shown.rows), shown.page, last)
    index = max(0, min(last, wanted))
    return _placed(state, chosen=shown.rows[index], index=index)


def _scrolled(state: State, key: str, shown: Shown) -> State:
    last = max(0, shown.lines - shown.page)
    scroll = _MOVES[key](min(state.scroll, last), shown.page, last)
    return attrs.evolve(state, scroll=max(0, min(last, scroll)))


def _placed(state: State, **changes: object) -> State:
    place = attrs.evolve(state.place, **changes)  # type: ignore[arg-type]
    return attrs.evolve(state, places={**state.places, state.view: place})


def _viewed(state: State, view: str) -> State:
    return attrs.evolve(state, view=view, opened=None, scroll=0, help=False)


def _next_view(state: State, step: int) -> State:
    return _viewed(state, VIEWS[(VIEWS.index(state.view) + step) % len(VIEWS)])


# ----------------------------------------------------------------------------------- actions


def _enter(state: State, shown: Shown) -> State:
    if state.reading or not shown.rows or state.view not in OPENS:
        return state
    index = index_of(state.place, shown.rows)
    chosen = shown.rows[index]
    return attrs.evolve(_placed(state, chosen=chosen, index=index), opened=chosen, scroll=0)


def _back(state: State, _: Shown) -> State:
    if state.opened is not None:
        return attrs.evolve(state, opened=None, scroll=0)
    return attrs.evolve(state, filter="")


def _sort(state: State, shown: Shown) -> State:
    if not shown.sorts or state.reading:
        return state
    names = ("", *shown.sorts)
    now = state.place.sort if state.place.sort in names else ""
    name = names[(names.index(now) + 1) % len(names)]
    return _placed(state, sort=name, reverse=name in shown.largest_first)


def _reverse(state: State, _: Shown) -> State:
    return state if state.reading else _placed(state, reverse=not state.place.reverse)


def _slower(state: State, _: Shown) -> State:
    longer = [each for each in INTERVALS_S if each > state.interval_s]
    return attrs.evolve(state, interval_s=min(longer, default=state.interval_s))


def _quicker(state: State, _: Shown) -> State:
    shorter = [each for each in INTERVALS_S if each < state.interval_s]
    return attrs.evolve(state, interval_s=max(shorter, default=state.interval_s))


def _pause(state: State, _: Shown) -> State:
    return attrs.evolve(state, paused=not state.paused)


_ACTIONS: Mapping[str, Callable[[State, Shown], State]] = {
    "tab": lambda state, _: _next_view(state, 1),
    "right": lambda state, _: _next_view(state, 1),
    "backtab": lambda state, _: _next_view(state, -1),
    "left": lambda state, _: _next_view(state, -1),
    "enter": _enter,
    "esc": _back,
    "backspace": _back,
    "s": _sort,
    "r": _reverse,
    "/": lambda state, _: attrs.evolve(state, typing=not state.reading),
    "p": _pause,
    "space": _pause,
    "+": _slower,
    "=": _slower,
    "-": _quicker,
    "?": lambda state, _: attrs.evolve(state, help=True, scroll=0),
    "h": lambda state, _: attrs.evolve(state, help=True, scroll=0),
    "q": lambda state, _: attrs.evolve(state, done=True),
}
