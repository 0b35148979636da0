"""What is sent to turn one screen into another."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from rich.color import ColorSystem
from rich.console import Console
from rich.text import Text

from streamer_tools.top.figures import styled
from streamer_tools.top.grid import ASCII, changes, grid_of
from streamer_tools.top.scene import Scene
from streamer_tools.top.screen import draw
from streamer_tools.top.state import VIEWS, State
from tests.tools.top import documents
from tests.tools.top.terminals import Screen

CONSOLE = Console(force_terminal=True, color_system="standard", no_color=False)


def grid(*lines: str | Text, width: int = 20) -> Any:
    texts = [Text(line) if isinstance(line, str) else line for line in lines]
    return grid_of(texts, width, CONSOLE)


def sent(before: Any, after: Any) -> str:
    return changes(before, after, ColorSystem.STANDARD)


def shown(*steps: Any, width: int = 20, height: int = 2) -> list[str]:
    """The screen after all of these grids were sent."""
    screen = Screen(width, height)
    screen.modes["other"] = True
    for before, after in itertools.pairwise((None, *steps)):
        screen.feed(sent(before, after).encode())
    return screen.lines


def test_nothing_is_sent_where_nothing_changed() -> None:
    assert sent(grid("a", "b"), grid("a", "b")) == ""


def test_only_what_changed_is_sent() -> None:
    text = sent(grid("lag    1,234", "x"), grid("lag    1,235", "x"))
    assert text == "\x1b[1;12H5"


def test_what_is_near_goes_in_one_run_and_what_is_far_does_not() -> None:
    assert sent(grid("abcdef"), grid("AbcdeF")) == "\x1b[1;1HAbcdeF"
    far = sent(grid("a" + "-" * 18 + "b"), grid("A" + "-" * 18 + "B"))
    assert far == "\x1b[1;1HA\x1b[1;20HB"


def test_the_first_screen_and_one_of_another_size_are_whole() -> None:
    assert sent(None, grid("a", "")).startswith("\x1b[0m\x1b[2J")
    assert sent(grid("a", ""), grid("a", "", "c")).startswith("\x1b[0m\x1b[2J")


@pytest.mark.parametrize(
    ("before", "after"),
    [("注文 1", "注文 2"), ("a注文", "注a文"), ("注文", "ab"), ("abcd", "注文"), ("a注b", "ab"),
     ("x注文注文注文注文注文!", "注文注文注文注文注文x!"), ("e\u0301a", "ea"),
     ("é注", "e\u0301注x"),
     ("", "注" * 10), ("注" * 10, "")],
)  # fmt: skip
def test_wide_characters_leave_nothing_behind(before: str, after: str) -> None:
    lines = shown(grid(before, "end"), grid(after, "end"))
    assert lines == shown(grid(after, "end"))
    assert lines[1] == "end"


def test_the_cursor_is_placed_anew_behind_what_may_be_of_another_width() -> None:
    assert sent(None, grid("注x"))[len("\x1b[0m\x1b[2J") :] == "\x1b[1;1H注\x1b[3Gx"


def test_a_grid_is_as_wide_as_it_is_told() -> None:
    for text in ("", "a" * 30, "注" * 30, "a" + "注" * 30):
        assert [len(row) for row in grid(text)] == [20]


def test_each_screen_follows_from_each_other() -> None:
    scene = Scene("ws://h:1", documents.overview(groups=[documents.group("注文", "請求")]),
                  documents.EVENTS)  # fmt: skip
    states = [State(view=view) for view in VIEWS]
    states += [State(help=True), State(opened=("default",)), State(view="groups", filter="x")]
    grids = [grid_of(draw(scene, state, 80, 24)[0], 80, CONSOLE) for state in states]
    alone = [shown(each, width=80, height=24) for each in grids]
    for (first, _), (second, expected) in itertools.permutations(
        list(zip(grids, alone, strict=True)), 2
    ):
        assert shown(first, second, width=80, height=24) == expected


def test_a_refresh_is_small() -> None:
    rates = {"records_in": 12_411.0, "bytes_in": 1_991_000.0}
    before, after = (
        grid_of(draw(Scene("u", document), State(), 80, 24)[0], 80, CONSOLE)
        for document in (
            documents.overview(),
            documents.overview(rates=documents.overview()["rates"] | rates, uptime_s=7_990.0),
        )
    )
    assert len(sent(before, after)) < 60


def test_without_colours_there_is_still_what_marks() -> None:
    console = Console(force_terminal=True, color_system="standard", no_color=True)
    lines = [styled("NOT MET", "bold red"), styled("chosen", "reverse")]
    text = changes(None, grid_of(lines, 10, console), ColorSystem.STANDARD)
    assert "\x1b[1m" in text
    assert "\x1b[7m" in text
    assert "31" not in text


def test_all_that_is_drawn_can_be_said_in_ascii() -> None:
    scene = Scene("u", documents.overview(), documents.EVENTS)
    for state in (*(State(view=view) for view in VIEWS), State(help=True), State(opened=("bulk",))):
        for line in draw(scene, state, 80, 50)[0]:
            assert line.plain.translate(ASCII).isascii(), line.plain
