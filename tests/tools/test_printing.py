"""Lines for a terminal, progress, and what is none of both."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from streamer_tools import printing, show
from streamer_tools.exits import Exit, Told
from streamer_tools.printing import (
    Progress,
    cut,
    interrupted,
    line_width,
    narrow_lines,
    print_rows,
)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", None, "abc"),
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("äöü", 3, "äöü"),
        ("äöüß", 3, "äö…"),
        # Characters that take two columns, and none.
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("a\u0301b\u0301c", 3, "a\u0301b\u0301c"),
        ("", 3, ""),
    ],
)
def test_a_line_is_cut_to_its_columns(text: str, width: int | None, shown: str) -> None:
    assert cut(text, width) == shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line_width() is None
    monkeypatch.setattr("sys.stdout", Terminal())
    for columns, width in (("40", 40), ("3", 20)):
        monkeypatch.setenv("COLUMNS", columns)
        assert line_width() == width


def test_progress_is_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, now = Terminal(), [0.0]
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(printing.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "20")
    progress = Progress()
    now[0] = 1.0
    progress.update("a" * 30)
    progress.update("too soon")
    assert screen.getvalue() == "\r\x1b[K" + "a" * 18 + "…"
    progress.clear()
    progress.clear()
    assert screen.getvalue().endswith("…\r\x1b[K")
    Progress(wanted=False).update("x")
    assert "x" not in screen.getvalue()


def test_without_a_terminal_there_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    progress = Progress()
    progress.update("x")
    progress.clear()
    assert screen.getvalue() == ""


def test_only_an_interrupt_is_one() -> None:
    assert interrupted(KeyboardInterrupt())
    assert interrupted(BaseExceptionGroup("", [KeyboardInterrupt()]))
    assert not interrupted(Told(Exit.FAILED, "x"))
    assert not interrupted(ValueError())


COLUMNS = [show.Column("part", "n"), show.Column("high water", "h", show.figure)]
ROWS = [{"n": 1, "h": 1200}, {"n": 2}]


def test_a_table_that_is_too_wide_is_a_few_lines_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines()[0].split() == ["part", "high_water"]
    monkeypatch.setattr(printing, "line_width", lambda: 20)
    tables: list[object] = []
    monkeypatch.setattr(show, "print_table", lambda *arguments: tables.append(arguments))
    print_rows(COLUMNS, ROWS)
    assert tables == [(COLUMNS, ROWS, None)]
    print_rows([*COLUMNS, show.Column("a name", "name")], [{**ROWS[0], "name": "\x1bx"}])
    lines = capsys.readouterr().out.splitlines()
    assert " ".join("".join(lines).split()) == "part 1, high water 1,200, a name \\x1bx"
    assert lines[1].startswith("    ")
    assert all(len(line) <= 20 for line in lines)


def test_the_width_of_a_table_is_that_which_rich_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a table that fits is taken apart, or one that does not is cut in every column."""
    columns = [*COLUMNS, show.Column("a name", "name")]
    rows = [{"n": 1, "h": 1200, "name": "日本\x1b"}]
    text = io.StringIO()
    Console(file=text, width=200).print(show.rich_table(columns, rows))
    drawn = max(cell_len(line) for line in text.getvalue().splitlines())
    for width, fits in ((drawn, True), (drawn - 1, False)):
        monkeypatch.setattr(printing, "line_width", lambda width=width: width)
        assert (narrow_lines(columns, rows) is None) is fits
