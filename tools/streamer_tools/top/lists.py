"""What each view lists: its columns, and what they are sorted by.

Rules: `least` of a column with numbers is the width of the longest that `figures` makes. What
leaves first in little room is what the eye misses least: at 40 columns a name, how much waits, and
since when are still there. What is wrong with a row stands behind its name and is never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from streamer_tools.top import figures
from streamer_tools.top.figures import styled
from streamer_tools.top.scene import ROWS, Scene, at
from streamer_tools.top.state import State
from streamer_tools.top.table import Column, Row, clean, number_cell, sort_key, text_cell

_SEVERITIES = {"info": ("info", "dim"), "warning": ("warn", "yellow"), "error": ("ERROR", "red")}


def _number(
    title: str,
    key: str,
    show: Callable[[Any], str] = figures.count,
    *,
    least: int = 6,
    drop: int = 0,
    sort: bool = True,
) -> Column:
    """A column with a number of the row; sorted with the largest first."""

    def read(row: Row) -> Any:
        return at(row, *key.split("."))

    return Column(
        title,
        number_cell(read, show),
        least,
        drop=drop,
        sort=read if sort else None,
        sort_name=title if sort else "",
    )


def _name(
    title: str,
    key: str,
    tag: Callable[[Row], str] = lambda _: "",
    *,
    least: int,
    most: int,
    drop: int = 0,
) -> Column:
    """A column with a text of the row; `tag` is what is wrong with it, or nothing."""

    def cell(row: Row, width: int) -> Text:
        return tagged(clean(row.get(key)), tag(row), width)

    return Column(title, cell, least, most, drop, False, lambda row: row.get(key), title)


def tagged(name: Text, tag: str, width: int) -> Text:
    """A name and, in brackets, what is to be known of it: the name is cut and not that."""
    if not tag:
        return name
    shown = clean(f"({tag})", "bold yellow")
    name = name.copy()
    name.truncate(max(1, width - cell_len(shown.plain) - 1), overflow="ellipsis")
    return name + Text(" ") + shown


def _signed_rate(value: Any) -> str:
    shown = figures.rate(value)
    return f"+{shown}" if figures.is_number(value) and value > 0 else shown


def _kind(row: Row, _: int) -> Text:
    return clean("by key" if row.get("order") == "key" else row.get("mode"))


def _session_tag(row: Row) -> str:
    return "leaving" if row.get("leaving") is True else "slow" if row.get("slow") is True else ""


def _stream_tag(row: Row) -> str:
    state = row.get("state", "open")
    return "" if state in ("open", None) else str(state)


def _severity(row: Row, _: int) -> Text:
    known = _SEVERITIES.get(str(row.get("severity")))
    return styled(*known) if known else clean(row.get("severity"))


def _event(row: Row, _: int) -> Text:
    times = row.get("count")
    text = clean(row.get("text"), _SEVERITIES.get(str(row.get("severity")), ("", ""))[1])
    if figures.is_number(times) and times > 1:
        text = text + styled(f" (x{figures.count(times)})", "bold")
    return text


def in_unit(value: Any, unit: Any) -> str:
    """A service level's number in its unit."""
    if not figures.is_number(value):
        return figures.NONE
    if unit in ("s", "seconds"):
        return figures.seconds(value)
    if unit == "share":
        return f"{value * 100:.4g}%"
    return f"{figures.rate(value)}{'/s' if str(unit).endswith('/s') else ''}"


def _level(key: str) -> Callable[[Row, int], Text]:
    return lambda row, _: Text(in_unit(row.get(key), row.get("unit")))


def _share_text(value: Any) -> str:
    return f"{value * 100:.4g}%" if figures.is_number(value) else figures.NONE


def _yes(key: str) -> Callable[[Row, int], Text]:
    def cell(row: Row, _: int) -> Text:
        value = row.get(key)
        if not isinstance(value, bool):
            return styled(figures.NONE, "dim")
        return styled("yes", "green") if value else styled("NO", "bold red")

    return cell


def _budget(row: Row, width: int) -> Text:
    left = row.get("budget_left")
    text = Text(_share_text(left).rjust(6))
    if not figures.is_number(left) or width < 9:
        return text
    style = "red" if left <= 0 else "yellow" if left < 0.5 else "green"
    shown = figures.bar(max(0.0, left), width - 7)
    return styled(shown.plain, style) + Text(" ") + text


GROUPS = (
    _name("stream", "stream", least=12, most=40),
    _name("group", "group", lambda row: "paused" if row.get("paused") is True else "",
          least=12, most=40),
    Column("mode", _kind, 7, drop=5, right=False),
    _number("memb", "members", least=4, drop=3),
    _number("lag", "lag"),
    _number("lag/s", "lag_per_s", _signed_rate, drop=4),
    _number("oldest", "oldest_age_s", figures.seconds),
    _number("out", "in_flight", drop=2),
    _number("retry", "retrying", least=5, drop=6),
    _number("acks/s", "acked_per_s", figures.rate, drop=7),
    _number("dead", "dead", least=5, drop=1),
)  # fmt: skip

STREAMS = (
    _name("stream", "name", _stream_tag, least=14, most=60),
    _name("pipeline", "pipeline", least=8, most=20, drop=5),
    Column("kept", text_cell("storage"), 6, drop=6, right=False),
    _number("part", "partitions", least=4, drop=4),
    _number("records", "records", least=7),
    _number("bytes", "bytes", figures.size),
    _number("rec/s", "records_per_s", figures.rate),
    _number("dropped", "dropped", least=7, drop=7),
)

SESSIONS = (
    _number("id", "session", least=5),
    _name("name", "name", _session_tag, least=12, most=32),
    _name("peer", "peer", least=15, most=30, drop=6),
    Column("over", text_cell("transport"), 4, drop=8, right=False),
    _number("age", "age_s", figures.seconds, least=5, drop=5),
    _number("heard", "heard_s", figures.seconds, drop=9),
    _number("reqs", "requests", least=5, drop=4),
    _number("busy", "under_way_bytes", figures.size),
    _number("outbox", "outbox_bytes", figures.size, drop=3),
    _number("in/s", "in_per_s", figures.size),
    _number("out/s", "out_per_s", figures.size),
    _number("subs", "subscriptions", least=4, drop=10),
    _number("memb", "memberships", least=4, drop=11),
)

EVENTS = (
    Column("time UTC", lambda row, _: Text(figures.clock(row.get("at_us"))), 8, right=False),
    Column("level", _severity, 5, right=False),
    _name("kind", "kind", least=12, most=18, drop=2),
    Column("what", _event, 20, 400, right=False),
)

SLA = (
    _name("objective", "name", least=13, most=20),
    Column("now", _level("now"), 7),
    Column("limit", _level("limit"), 7),
    Column("ok", _yes("ok"), 3, drop=2),
    _number("good", "compliance", _share_text, least=7, drop=3),
    _number("of", "objective", _share_text, least=6, drop=5),
    _number("burn5m", "burn_5m", figures.rate, drop=1),
    _number("burn1h", "burn_1h", figures.rate, drop=4),
    Column("budget left", _budget, 11, 24, drop=6),
    Column("met", _yes("met"), 4),
)

COLUMNS: Mapping[str, Sequence[Column]] = {
    "groups": GROUPS, "streams": STREAMS, "sessions": SESSIONS, "events": EVENTS, "sla": SLA,
}  # fmt: skip

#: What pipelines, which are no plain rows, are sorted by.
_OF_PIPELINES: Mapping[str, Callable[[Row], Any]] = {
    "pipeline": lambda row: row.get("name"),
    "fill": lambda row: row.get("fill"),
    "rec/s": lambda row: at(row, "rates", "records"),
    "p99": lambda row: figures.of_count(row.get("append"), "p99_s"),
    "oldest": lambda row: row.get("oldest_s"),
}

#: What a view says when there is nothing to list.
EMPTY = {
    "pipelines": "the daemon tells of no pipelines",
    "groups": "no consumer groups yet",
    "streams": "no streams yet",
    "sessions": "no sessions",
    "events": "nothing has happened yet",
    "sla": "no service levels are set: [sla] in the configuration does",
}


def sorts(view: str) -> Mapping[str, Callable[[Row], Any]]:
    """What a view can be sorted by: {name: value of a row}."""
    if view == "pipelines":
        return _OF_PIPELINES
    return {column.sort_name: column.sort for column in COLUMNS[view] if column.sort is not None}


def largest_first(view: str) -> frozenset[str]:
    """The names of `sorts` that begin with the largest: those of numbers."""
    texts = {column.sort_name for column in COLUMNS.get(view, ()) if not column.right}
    return frozenset(sorts(view)) - texts - {"pipeline"}


def ordered(scene: Scene, state: State) -> list[dict[str, Any]]:
    """The rows of the state's view that its filter lets through, in its order."""
    place, wanted = state.place, state.filter.casefold()
    rows = [row for row in ROWS[state.view](scene) if wanted in row["find"]]
    value = sorts(state.view).get(place.sort)
    if value is None:
        return rows[::-1] if place.reverse else rows
    there = [row for row in rows if value(row) is not None]
    missing = [row for row in rows if value(row) is None]
    there.sort(key=lambda row: sort_key(value(row)), reverse=place.reverse)
    return there + missing
