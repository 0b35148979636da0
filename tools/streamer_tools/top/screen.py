"""The whole screen: exactly as many lines as the terminal has, none wider than it is.

Rules: `draw` is pure, of what is known, what is wanted and the size; it tells as well what keys can
move over. The part of a list that is shown follows from what is chosen, so nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from streamer_tools.top import stages
from streamer_tools.top.details import detail_lines
from streamer_tools.top.figures import styled
from streamer_tools.top.header import footer, header, tabs
from streamer_tools.top.lists import COLUMNS, EMPTY, largest_first, ordered, sorts
from streamer_tools.top.scene import Scene
from streamer_tools.top.state import VIEWS, Shown, State, index_of
from streamer_tools.top.table import aligned, fit, row_line, title_line

#: Below it, there is a sentence and nothing else.
WIDTH_MIN, HEIGHT_MIN = 40, 10
#: What is chosen is marked by it, for those who see no colours.
_MARK = "›"
#: Of the newest, in a look at everything.
_EVENTS = 10

HELP = (
    ("tab, 1 to 6, arrows", "another view"),
    ("up, down, j, k", "move; also page up, page down, g, G"),
    ("enter", "open what is chosen"),
    ("esc", "back; in a list, no filter"),
    ("s, r", "sort by the next column; the other way round"),
    ("/", "filter by a part of a name"),
    ("p, space", "stop looking, and go on"),
    ("+, -", "look less often, more often"),
    ("ctrl-l", "draw everything again"),
    ("q", "quit"),
)
WORDS = (
    ("items, bytes", "what waits in the channel in front of a stage, of its limits"),
    ("queue 50/99", "median and 99th percentile of the wait in that channel"),
    ("serve 50/99", "the same of the time that the stage itself took"),
    ("append", "from taking in to the ack, over the last minute or two"),
    ("oldest", "since when the first that is not done has waited"),
    ("wait", "senders that wait for room in the channel"),
    ("lag", "records that are committed and neither acked nor dead"),
    ("out, retry", "records that members hold; that wait for another attempt"),
    ("busy, outbox", "bytes under way from a session; that wait to be sent to it"),
    ("burn", "1: the error budget is used up exactly at the end of the window"),
)


def draw(scene: Scene, state: State, width: int, height: int) -> tuple[list[Text], Shown]:
    """The lines of the screen from the top, and what of the view keys can move over."""
    if width < WIDTH_MIN or height < HEIGHT_MIN:
        return _too_small(width, height), Shown()
    head = [*header(scene, state, width, height), tabs(scene, state, width)]
    page = height - len(head) - 1
    if state.reading:
        body, shown, more = _reading(scene, state, width, page)
        foot = footer(state, width, 0, 0, more)
    else:
        body, shown = _listing(scene, state, width, page)
        foot = footer(state, width, index_of(state.place, shown.rows), len(shown.rows), 0)
    if scene.link != "fresh":
        body = [dimmed(line) for line in body]
    body = [*body, *[Text()] * (page - len(body))]
    return [aligned(line, width) for line in [*head, *body[:page], foot]], shown


def dimmed(line: Text) -> Text:
    """The line as one of old numbers; the header says so in words."""
    line = line.copy()
    line.stylize("dim")
    return line


def _too_small(width: int, height: int) -> list[Text]:
    said = f"the terminal has {width} x {height}, streamer top needs {WIDTH_MIN} x {HEIGHT_MIN}"
    lines = [Text()]
    for word in said.split():
        room = width - len(lines[-1].plain) - 1
        if lines[-1].plain and len(word) > room:
            lines.append(Text())
        lines[-1] = Text(f"{lines[-1].plain} {word}".strip())
    lines += [Text()] * (height - len(lines))
    return [aligned(line, width) for line in lines[:height]]


def _reading(scene: Scene, state: State, width: int, page: int) -> tuple[list[Text], Shown, int]:
    if state.help or state.opened is None:
        lines = help_lines(width)
    else:
        lines = detail_lines(scene, state.view, state.opened, width)
    top = min(state.scroll, max(0, len(lines) - page))
    more = max(0, len(lines) - page - top)
    return lines[top : top + page], Shown(page=page, lines=len(lines)), more


def help_lines(width: int) -> list[Text]:
    """What the keys do and what the words mean."""
    lines = []
    for title, entries in (("keys", HELP), ("words", WORDS)):
        lines.append(styled(title, "bold underline"))
        label_width = max(len(label) for label, _ in entries) + 2
        for label, means in entries:
            line = styled(f"  {label:<{label_width}}", "bold")
            if len(line.plain) + len(means) <= width:
                lines.append(line + Text(means))
            else:
                lines += [line, *_folded(means, width)]
        lines.append(Text())
    return lines


def _folded(text: str, width: int) -> list[Text]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 5 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}"
    return [Text(f"   {line}") for line in lines]


# --------------------------------------------------------------------------------- listing


def _listing(scene: Scene, state: State, width: int, page: int) -> tuple[list[Text], Shown]:
    rows = ordered(scene, state)
    ids = tuple(row["id"] for row in rows)
    first = largest_first(state.view)
    shown = Shown(ids, max(1, page - 1), 0, tuple(sorts(state.view)), first)
    if not rows:
        said = EMPTY[state.view]
        if state.filter:
            said = f"nothing here has '{state.filter}' in its name (esc clears the filter)"
        return [Text(), aligned(styled(f" {said}", "dim"), width)], shown
    index = index_of(state.place, ids)
    if state.view == "pipelines":
        return _tree(rows, index, width, page), shown
    if state.view != "events" or not scene.missed:
        return _rows(rows, index, state, width, page), shown
    lines = _rows(rows, index, state, width, page - 1)
    return [*lines, styled(f" {scene.missed:,} more came and went unseen", "dim")], shown


def _rows(
    rows: Sequence[dict[str, Any]], index: int, state: State, width: int, page: int
) -> list[Text]:
    room = page - 1
    top = max(0, min(index - room // 2, len(rows) - room))
    seen = rows[top : top + room]
    fitted = fit(COLUMNS[state.view], seen, width - 1)
    place = state.place
    lines = [Text(" ") + title_line(fitted, place.sort, place.reverse)]
    for number, row in enumerate(seen, top):
        lines.append(marked(row_line(fitted, row), number == index))
    return lines


def marked(line: Text, chosen: bool) -> Text:
    """A row with its mark."""
    if not chosen:
        return Text(" ") + line
    # One style: colours on top of colours are hard to read.
    return styled(f"{_MARK}{line.plain}", "bold reverse")


def _tree(rows: Sequence[dict[str, Any]], index: int, width: int, page: int) -> list[Text]:
    room = page - 1
    open_all = len(rows) + sum(map(stages.height, rows)) <= room
    lines: list[Text] = []
    begin = 0
    for number, row in enumerate(rows):
        chosen = number == index
        if chosen:
            begin = len(lines)
        open_ = open_all or chosen
        lines.append(marked(stages.pipeline_line(row, width - 1, open_), chosen))
        if open_:
            lines += [Text(" ") + line for line in stages.stage_lines(row, width - 1)]
    end = begin + 1 + stages.height(rows[index])
    # The chosen one in the middle, and its first line in any case.
    top = min((begin + end - room) // 2, begin)
    top = max(0, min(top, len(lines) - room))
    fitted = fit(stages.columns(width - 1), rows[index]["rows"], width - 1)
    title = Text(" ") + title_line(fitted, "", False)
    return [title, *lines[top : top + room]]


def plain_sections(
    scene: Scene, state: State, width: int, views: Sequence[str] = VIEWS
) -> list[Text]:
    """All views below one another, without a screen's limits: for one look."""
    lines = header(scene, state, width, 100)
    for view in views:
        place = state.places[view]
        here = State(view=view, places=state.places, filter=state.filter)
        rows = ordered(scene, here)
        if view == "events" and len(views) > 1:
            rows = rows[:_EVENTS]
        lines += [Text(), styled(view.upper() if view == "sla" else view, "bold")]
        if not rows:
            lines.append(Text(f"  {EMPTY[view]}"))
        elif view == "pipelines":
            fitted = fit(stages.columns(width), rows[0]["rows"], width)
            lines.append(title_line(fitted, "", False))
            for row in rows:
                lines.append(stages.pipeline_line(row, width, True))
                lines += stages.stage_lines(row, width)
        else:
            fitted = fit(COLUMNS[view], rows, width)
            lines.append(title_line(fitted, place.sort, place.reverse))
            lines += [row_line(fitted, row) for row in rows]
    return [_cut(line, width) for line in lines]


def _cut(line: Text, width: int) -> Text:
    cut = aligned(line, width)
    cut.rstrip()
    return cut
