"""The screen as cells, and the least that has to be sent to turn one screen into another.

Rules: only cells that differ are sent, in runs, so that a refresh over a slow line is a few hundred
bytes, and nothing when nothing changed. Terminals do not agree on how wide some characters are:
after each that is not plainly one column wide the cursor is placed anew, so a wrong guess moves
nothing but itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

#: What stands for lines, blocks and marks where only ASCII can be written.
ASCII = str.maketrans("█▉▊▋▌▍▎▏·›▸▾▲▼↑↓→►…─│┌┐└┘├┤", "########.>>v^v^v>>~-|++++++")
#: Equal cells between two runs that are sent rather than jumped over.
_JUMP = 6
_PLAIN = Style()


class Cell(NamedTuple):
    """What stands in one column: a character with what combines with it, and its style. The
    column behind a wide character has an empty text."""

    text: str
    style: Style


BLANK = Cell(" ", _PLAIN)
Grid = list[list[Cell]]


def grid_of(lines: Sequence[Text], width: int, console: Console) -> Grid:
    """Cells of the lines, filled up to the width."""
    grid = []
    for line in lines:
        cells: list[Cell] = []
        for segment in line.render(console):
            style = segment.style or _PLAIN
            if console.no_color:
                style = style.without_color
            _add(cells, segment.text, style)
        del cells[width:]
        grid.append(cells + [BLANK] * (width - len(cells)))
    return grid


def _add(cells: list[Cell], text: str, style: Style) -> None:
    if text.isascii():
        cells.extend([Cell(character, style) for character in text])
        return
    for character in text:
        columns = cell_len(character)
        if columns == 0 and cells:
            last = len(cells) - 1
            while last and not cells[last].text:
                last -= 1
            cells[last] = Cell(cells[last].text + character, cells[last].style)
        elif columns:
            cells.append(Cell(character, style))
            cells.extend([Cell("", style)] * (columns - 1))


def changes(before: Grid | None, after: Grid, colors: ColorSystem | None) -> str:
    """What turns the screen `before` into `after`; None for one of which nothing is known."""
    parts = []
    if before is None or len(before) != len(after):
        parts.append("\x1b[0m\x1b[2J")
        before = [[BLANK] * len(row) for row in after]
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        if len(old) != len(new):
            old = [Cell("\0", _PLAIN)] * len(new)
        for begin, end in _runs(old, new):
            parts.append(f"\x1b[{number};{begin + 1}H{_run(new, begin, end, colors)}")
    return "".join(parts)


def _runs(old: list[Cell], new: list[Cell]) -> list[tuple[int, int]]:
    """Where the rows differ; never begins or ends within a wide character."""
    if old == new:
        return []
    runs: list[list[int]] = []
    for column, pair in enumerate(zip(old, new, strict=True)):
        if pair[0] == pair[1]:
            continue
        if runs and column - runs[-1][1] <= _JUMP:
            runs[-1][1] = column + 1
        else:
            runs.append([column, column + 1])
    for run in runs:
        while run[0] and not (new[run[0]].text and old[run[0]].text):
            run[0] -= 1
        while run[1] < len(new) and not (new[run[1]].text and old[run[1]].text):
            run[1] += 1
    return [(begin, end) for begin, end in runs]


def _run(row: list[Cell], begin: int, end: int, colors: ColorSystem | None) -> str:
    parts: list[str] = []
    column = begin
    while column < end:
        style, text = row[column].style, ""
        while column < end and row[column].style == style:
            cell = row[column].text
            text += cell
            column += 1
            if cell and not _sure(cell):
                while column < end and not row[column].text:
                    column += 1
                text += f"\x1b[{column + 1}G"
        parts.append(style.render(text, color_system=colors))
    return "".join(parts)


def _sure(text: str) -> bool:
    """Whether each terminal takes it for one column: ASCII, lines, blocks."""
    return len(text) == 1 and (text.isascii() or "\u2500" <= text <= "\u259f")
