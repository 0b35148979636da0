"""Columns fitted to a width: which of them are shown, and how wide.

Rules: a line never is wider than it may be. What is of least use leaves first (`drop`, the higher
the sooner); a column that may shrink is cut with an ellipsis; what is left goes to the columns that
can grow. Numbers have fixed widths, so that nothing moves when they change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from rich.cells import cell_len
from rich.text import Text

from streamer_tools.show import escaped
from streamer_tools.top.figures import styled

Row = Mapping[str, Any]
#: Between columns.
_GAP = 1
#: Longer texts are cut before they are measured, or an endless name would cost time.
_TEXT_MAX = 400


@attrs.frozen
class Column:
    """A column: its title, what it shows at a width, and how it gets on in little room."""

    title: str
    #: The cell, for a row and the width that there is.
    cell: Callable[[Row, int], Text]
    #: The least that it is of use in; for numbers, the width that it has.
    least: int
    #: As wide as its content, up to that; 0: always `least`.
    most: int = 0
    #: 0 always stays; of the others the highest leaves first.
    drop: int = 0
    right: bool = True
    #: What to sort by, and how that is called; None where that makes no sense.
    sort: Callable[[Row], Any] | None = None
    sort_name: str = ""


def text_cell(key: str, style: str = "") -> Callable[[Row, int], Text]:
    """A cell with a text of the row, `-` where there is none."""
    return lambda row, _: clean(row.get(key), style)


def number_cell(read: Callable[[Row], Any], show: Callable[[Any], str]) -> Callable[..., Text]:
    """A cell with a number; nothing (0 or `-`) is dim, so that the eye finds what there is."""

    def cell(row: Row, _: int) -> Text:
        shown = show(read(row))
        return styled(shown, "dim" if shown in ("-", "0") else "")

    return cell


def clean(value: Any, style: str = "") -> Text:
    """A text of somebody else's, safe to print; `-` for none."""
    if value is None or value == "":
        return styled("-", "dim")
    return styled(escaped(str(value)[:_TEXT_MAX]), style)


def fit(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[tuple[Column, int]]:
    """Which columns are shown, with their widths; the sum with the gaps is at most `width`."""
    shown = list(columns)
    while len(shown) > 1 and _least(shown) > width:
        out = max(range(len(shown)), key=lambda n: (shown[n].drop, n))
        del shown[out]
    widths = [column.least for column in shown]
    widths[0] = max(1, widths[0] - max(0, _least(shown) - width))
    _grow(shown, widths, rows, width - sum(widths) - _GAP * (len(shown) - 1))
    return list(zip(shown, widths, strict=True))


def _grow(columns: Sequence[Column], widths: list[int], rows: Sequence[Row], left: int) -> None:
    """Give out what is left: to each the same, and no more than it needs."""
    wants = []
    for number, column in enumerate(columns):
        if column.most:
            wanted = min(column.most, max(_needs(column, rows), default=0))
            wants.append((max(0, wanted - widths[number]), number))
    for done, (want, number) in enumerate(sorted(wants)):
        more = min(want, max(0, left) // (len(wants) - done))
        widths[number] += more
        left -= more


def _least(columns: Sequence[Column]) -> int:
    return sum(column.least for column in columns) + _GAP * (len(columns) - 1)


def _needs(column: Column, rows: Sequence[Row]) -> list[int]:
    return [cell_len(column.cell(row, column.most).plain) for row in rows]


def title_line(fitted: Sequence[tuple[Column, int]], sorted_by: str, reverse: bool) -> Text:
    """The titles; that of the sorted column has an arrow."""
    cells = []
    for column, width in fitted:
        title = column.title
        chosen = sorted_by and column.sort_name == sorted_by
        if chosen:
            title = f"{title[: max(0, width - 1)]}{'▼' if reverse else '▲'}"
        cells.append(aligned(styled(title, "bold" if chosen else "dim"), width, column.right))
    return joined(cells)


def row_line(fitted: Sequence[tuple[Column, int]], row: Row) -> Text:
    """A row."""
    return joined(
        [aligned(column.cell(row, width), width, column.right) for column, width in fitted]
    )


def joined(cells: Sequence[Text]) -> Text:
    """Cells side by side."""
    return Text(" " * _GAP).join(cells)


def aligned(text: Text, width: int, right: bool = False) -> Text:
    """The text in exactly `width` columns, cut with an ellipsis where it is longer."""
    cut = text.copy()
    cut.truncate(max(0, width), overflow="ellipsis")
    room = width - cell_len(cut.plain)
    if room > 0:
        cut = Text(" " * room) + cut if right else cut + Text(" " * room)
    return cut


def sort_key(value: Any) -> tuple[bool, bool, Any]:
    """For sorting values of any kind: numbers, then texts, then what is missing."""
    if value is None or (isinstance(value, float) and value != value):
        return (True, False, 0)
    number = isinstance(value, int | float)
    return (False, not number, value if number else str(value).casefold())
