"""Lines without a screen, in whatever standard output can encode."""

from __future__ import annotations

import io
import sys

import pytest
from rich.text import Text

from streamer_tools.top.once import print_lines


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("encoding", "drawn"), [("ascii", "+- ? -+"), ("utf-8", "┌─ 日 ─┐")])
def test_frames_are_plain_where_a_terminal_knows_no_others(
    monkeypatch: pytest.MonkeyPatch, encoding: str, drawn: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(written, encoding=encoding))
    monkeypatch.setenv("COLUMNS", "80")
    print_lines([Text("┌─ 日 ─┐")])
    sys.stdout.flush()
    assert drawn in written.getvalue().decode(encoding)
