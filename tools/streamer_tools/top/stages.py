"""Pipelines with the channels of their stages, as bars against their limits.

Rules: all pipelines show their stages while there is room for that; else the chosen one does. A
channel has two limits, so two bars; where there is room for one, it is the fuller of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from streamer_tools.top import figures
from streamer_tools.top.figures import styled
from streamer_tools.top.lists import tagged
from streamer_tools.top.scene import at
from streamer_tools.top.table import Column, Row, aligned, clean, fit, number_cell, row_line

#: Columns from which on there is room for both bars.
WIDE = 72
#: A bar cell from that width on has its figures beside it.
_FIGURES_WIDTH = 20


def _stage(row: Row, width: int) -> Text:
    place = clean(row.get("place"))
    stage = clean(row.get("stage"), "dim")
    return Text("  ") + (place + Text(" ") + stage if width >= 14 else place)


def _limit(used: str, limit: str, show: Any) -> Any:
    """A cell with a bar, the percentage, and the figures where there is room."""

    def cell(row: Row, width: int) -> Text:
        now, most = at(row, "channel", used), at(row, "channel", limit)
        share = figures.share(now, most)
        shown = styled(figures.percent(share).rjust(4), figures.level(share) if share else "dim")
        if width >= _FIGURES_WIDTH:
            shown = shown + Text(f"{show(now)}/{show(most)}".rjust(12))
        return figures.bar(share, max(0, width - len(shown.plain))) + shown

    return cell


def _fullest(row: Row, width: int) -> Text:
    share = row.get("fill")
    shown = styled(figures.percent(share).rjust(5), figures.level(share) if share else "dim")
    return figures.bar(share, max(0, width - 5)) + shown


def _pair(key: str) -> Any:
    return lambda row, _: _dim_nothing(figures.pair(row.get(key)))


def _dim_nothing(text: str) -> Text:
    return styled(text, "dim" if text in ("-", "0") else "")


def _waiting(row: Row, _: int) -> Text:
    senders = at(row, "channel", "senders_waiting")
    shown = figures.count(senders)
    # Senders that wait are what back-pressure looks like.
    return styled(shown, "bold yellow" if figures.is_number(senders) and senders else "dim")


def _oldest(row: Row) -> Any:
    """The age of the oldest that waits; what is empty has none."""
    channel = row.get("channel")
    waits = at(channel, "items") or at(channel, "senders_waiting")
    return at(channel, "oldest_s") if waits else None


_OLDEST = Column("oldest", number_cell(_oldest, figures.seconds), 6)
_WAIT = Column("wait", _waiting, 4)
STAGES = (
    Column("pipeline, stage", _stage, 16, 30, right=False),
    Column("items", _limit("items", "items_max", figures.count), 9, 34, right=False),
    Column("bytes", _limit("bytes", "bytes_max", figures.size), 9, 34, right=False),
    Column("per s", number_cell(lambda row: row.get("items_per_s"), figures.rate), 6, drop=1),
    Column("queue 50/99", _pair("queueing"), 11),
    Column("serve 50/99", _pair("service"), 11, drop=2),
    _OLDEST,
    _WAIT,
)
NARROW = (
    Column("stage", _stage, 9, 20, right=False),
    Column("fill", _fullest, 9, 30, right=False),
    Column(
        "q p99",
        number_cell(lambda row: figures.of_count(row.get("queueing"), "p99_s"), figures.seconds),
        6,
    ),
    _OLDEST,
    _WAIT,
)


def columns(width: int) -> Sequence[Column]:
    """Those for stages in a width."""
    return STAGES if width >= WIDE else NARROW


def height(pipeline: Row) -> int:
    """How many lines `stage_lines` has."""
    return len(pipeline["rows"]) + _is_told(pipeline)


def _is_told(pipeline: Row) -> bool:
    return bool(pipeline.get("last_error")) and pipeline.get("state") != "running"


def stage_lines(pipeline: Row, width: int) -> list[Text]:
    """A line a stage; before them why the pipeline does not run, where it does not."""
    rows = pipeline["rows"]
    fitted = fit(columns(width), rows, width)
    lines = [row_line(fitted, row) for row in rows]
    if _is_told(pipeline):
        lines.insert(0, styled("  ! ", "bold") + clean(pipeline["last_error"], "yellow"))
    return lines


def pipeline_line(row: Row, width: int, open_: bool) -> Text:
    """A pipeline as a whole: its name, what is wrong, and its rates."""
    state = row.get("state", "running")
    mark = "▾ " if open_ else "▸ "
    tag = "" if state in ("running", None) else str(state)
    facts = _facts(row, width, open_)
    room = width - len(facts.plain) - 1
    name = Text(mark) + tagged(clean(row.get("name"), "bold"), tag, max(4, room - 2))
    return aligned(aligned(name, max(0, room)) + Text(" ") + facts, width)


def _facts(row: Row, width: int, open_: bool) -> Text:
    rates: Mapping[str, Any] = row.get("rates") or {}
    append = row.get("append")
    records = f"{figures.rate(at(rates, 'records')):>6} rec/s"
    if width < WIDE:
        p99 = figures.seconds(figures.of_count(append, "p99_s"))
        return Text(f"{records} {p99:>6}")
    shown = Text(f"{records} {figures.full_size(at(rates, 'bytes')):>8}/s")
    shown = shown + styled("  append ", "dim") + Text(f"{figures.pair(append):>11}")
    if open_:
        return shown + styled("  oldest ", "dim") + Text(f"{figures.seconds(_age(row)):>6}")
    share = row.get("fill")
    return shown + styled("  fill ", "dim") + Text(f"{figures.percent(share):>4}    ")


def _age(row: Row) -> Any:
    age = row.get("oldest_s")
    return age if age else None
