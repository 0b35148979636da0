"""The table of streams: whole for programs, and what fits for a person."""

from __future__ import annotations

from rich.console import Console

from streamer_tools import show
from streamer_tools.streams import BRIEF, COLUMNS, rows


def test_the_brief_table_of_large_figures_fits_a_terminal() -> None:
    partition = {
        "partition": 4095, "state": "open", "first_offset": 123_456_789,
        "next_offset": 1_234_567_890, "high_water": 1_234_567_890, "bytes": 1023.5 * 2**30,
        "segments": 10_000,
    }  # fmt: skip
    streams = [{"name": "a.stream", "pipeline": "default", "partitions": [partition]}]
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(show.rich_table(BRIEF, list(rows(streams))))
    text = captured.get()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for expected in ("a.stream", "4095", "open", "123,456,789", "1,234,567,890", "1023.5 GiB"):
        assert expected in text


def test_the_brief_columns_are_among_all() -> None:
    assert {column.key for column in BRIEF} <= {column.key for column in COLUMNS}
