"""`streamer top --once`, and `--json`: the same numbers without a screen.

Rules: one look is plain text: no colours but on a terminal, and no cursor; it is as wide as the
terminal, or as COLUMNS says, or 120 columns where it goes into a pipe. JSON is the document as the
daemon gave it, a line each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import trio
from rich.text import Text

from streamer_tools.asking import RECONNECT_S, asked
from streamer_tools.options import is_terminal, print_json
from streamer_tools.top.grid import ASCII
from streamer_tools.top.live import Looking
from streamer_tools.top.scene import Scene
from streamer_tools.top.screen import plain_sections
from streamer_tools.top.state import State

_PIPE_WIDTH = 120


async def look_once(url: str, state: State, views: Sequence[str]) -> None:
    """Print one look at these views.

    Raises:
        ConnectionFailed, Told: there is nothing to look at.
    """
    from streamer.client import connect

    async with connect(url, name="streamer top", reconnect_s=RECONNECT_S) as client:
        scene = await Looking(client, url).look(Scene(url), state)
    print_lines(plain_sections(scene, state, width(), views))


async def documents(url: str, interval_s: float, once: bool) -> None:
    """Print overviews as JSON, a line each: one, or one each interval until interrupted.

    Raises:
        ConnectionFailed, Told: there is nothing to look at.
    """
    from streamer.client import connect

    async with connect(url, name="streamer top", reconnect_s=RECONNECT_S) as client:
        due = trio.current_time()
        while True:
            document: Any = await asked(client, url, "overview", {})
            print_json(document)
            if once:
                return
            # Whoever reads this line by line is to have it now.
            sys.stdout.flush()
            due = max(due + interval_s, trio.current_time())
            await trio.sleep_until(due)


def width() -> int:
    """Columns to print in."""
    if is_terminal("stdout"):
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    columns = os.environ.get("COLUMNS", "")
    return max(20, min(1000, int(columns))) if columns.isdecimal() else _PIPE_WIDTH


def print_lines(lines: Iterable[Text]) -> None:
    """Lines on standard output: on a terminal with their styles, cropped; else bare and whole."""
    console = None
    if is_terminal("stdout"):
        from rich.console import Console

        console = Console()
    for line in lines:
        # A character for a character, so that styles stay in their places.
        line.plain = sayable(line.plain)
        if console is None:
            click.echo(line.plain)
        else:
            console.print(line, no_wrap=True, crop=True, overflow="crop", soft_wrap=False)


def sayable(text: str) -> str:
    """The text in what standard output can encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "replace").decode(encoding)
    return text
