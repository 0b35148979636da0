"""Lines for people: cut to the terminal, written without stopping the session, with progress.

Rules: on a terminal a line is cut to its width, so that one thing is one line; anywhere else it is
whole. Progress is for a person who watches: on standard error, and only where that is a terminal.
"""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from streamer_tools import show
from streamer_tools.exits import Exit, told
from streamer_tools.files import Output
from streamer_tools.options import is_terminal

#: Narrower than this is no terminal that anybody reads.
_WIDTH_MIN = 20
#: Between two states of a progress line.
_PROGRESS_S = 0.1


def line_width() -> int | None:
    """Columns of the terminal on standard output; None where it is none."""
    if not is_terminal("stdout"):
        return None
    return max(_WIDTH_MIN, shutil.get_terminal_size().columns)


def cut(text: str, width: int | None) -> str:
    """`text` in at most `width` columns, with a sign where it was cut; None: all of it."""
    if width is None or (len(text) <= width and text.isascii()):
        return text
    columns, fitting = 0, 0
    for at, character in enumerate(text):
        columns += _columns(character)
        if columns > width:
            return text[:fitting] + "\u2026"
        if columns < width:
            fitting = at + 1
    return text


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def print_rows(
    columns: Sequence[show.Column],
    rows: Sequence[Mapping[str, Any]],
    brief: Sequence[show.Column] | None = None,
) -> None:
    """As `show.print_table`; on a terminal that is too narrow for the table, a few lines a row."""
    lines = narrow_lines(brief or columns, rows)
    if lines is None:
        show.print_table(columns, rows, brief)
        return
    for line in lines:
        click.echo(line)


def narrow_lines(
    columns: Sequence[show.Column], rows: Sequence[Mapping[str, Any]]
) -> list[str] | None:
    """A few lines a row, for a terminal that is too narrow for the table; None where it fits."""
    width = line_width()
    if width is None or _table_width(columns, rows) <= width:
        return None
    return [line for row in rows for line in _row_lines(columns, row, width)]


def _row_lines(columns: Sequence[show.Column], row: Mapping[str, Any], width: int) -> Iterator[str]:
    """A row as `title value, title value, ...`, wrapped; what has no value is left out."""
    known = [column for column in columns if row.get(column.key) not in (None, "")]
    text = ", ".join(
        f"{column.title} {show.escaped(column.human(row[column.key]))}".strip() for column in known
    )
    yield from textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ")


def _table_width(columns: Sequence[show.Column], rows: Sequence[Mapping[str, Any]]) -> int:
    """As `rich` draws it: a blank before, between and behind the columns."""
    cells = [
        [column.title]
        + [
            show.escaped(column.human(row[column.key]))
            for row in rows
            if row.get(column.key) is not None
        ]
        for column in columns
    ]
    return sum(max(map(_text_columns, texts)) for texts in cells) + len(columns) + 1


def _text_columns(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_columns, text))


class Printer:
    """Standard output, a line each. Raises `BrokenPipeError` once its reader went away."""

    def __init__(self) -> None:
        try:
            self._output: Output | None = Output()
        except io.UnsupportedOperation:
            # Somebody who runs us has put something without a descriptor in its place.
            self._output = None
        self.width = line_width()

    async def lines(self, lines: Iterable[str]) -> None:
        """Write them, cut to the terminal. Cancelled, part of them may be out."""
        self.width = line_width()
        text = "".join(f"{cut(line, self.width)}\n" for line in lines)
        await self.whole(text.encode("utf-8", "backslashreplace"))

    async def whole(self, data: bytes) -> None:
        """Write bytes as they are. Cancelled, part of them may be out."""
        if self._output is None:
            sys.stdout.buffer.write(data)
        elif data:
            await self._output.write(data)


class Progress:
    """One line on standard error that is written over; nothing where that is no terminal."""

    def __init__(self, wanted: bool = True) -> None:
        self._shown = wanted and is_terminal("stderr")
        self._at = 0.0
        self._there = False

    def update(self, text: str) -> None:
        """Show another state, unless the last one is only just there."""
        now = time.monotonic()
        if self._shown and now - self._at >= _PROGRESS_S:
            self._at = now
            width = max(_WIDTH_MIN, shutil.get_terminal_size().columns)
            sys.stderr.write(f"\r\x1b[K{cut(text, width - 1)}")
            sys.stderr.flush()
            self._there = True

    def clear(self) -> None:
        """Take it away, before anything else is written."""
        if self._there:
            self._there = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def interrupted(error: BaseException) -> bool:
    """Whether that is Ctrl-C, and nothing else of which more is to be said."""
    story = told(error)
    return story is not None and story.status is Exit.INTERRUPTED
