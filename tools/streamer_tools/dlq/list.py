"""`streamer dlq list`."""

from __future__ import annotations

import time
from typing import Any

import click

from streamer_tools import running
from streamer_tools.asking import RECONNECT_S
from streamer_tools.dlq.filters import Filters, filter_options
from streamer_tools.dlq.letters import BRIEF, COLUMNS, letter_json, row
from streamer_tools.options import json_option, print_json, url_option
from streamer_tools.printing import print_rows

#: A table is laid out as a whole, and nobody reads more of it.
_ROWS_MAX = 1000


@click.command("list")
@click.argument("stream")
@filter_options
@url_option
@json_option
def command(stream: str, url: str, as_json: bool, **given: Any) -> None:
    """List the dead letters of STREAM that were neither redriven nor purged.

    `offset` is where a letter lies in STREAM.dead (for `dlq show`), `from` its partition and
    offset in STREAM. A table ends after 1000 unless --count asks for more; --json writes an object
    a letter, all of them, with value, key and headers.
    """

    running.run(_list, url, stream, Filters(**given), as_json)


async def _list(url: str, stream: str, filters: Filters, as_json: bool) -> None:
    from streamer.client import connect
    from streamer_tools.dlq.reading import matching

    now_us = time.time_ns() // 1000
    rows_max = _ROWS_MAX if filters.count is None else filters.count
    rows: list[dict[str, Any]] = []
    more = False
    async with (
        connect(url, name="streamer dlq list", reconnect_s=RECONNECT_S) as client,
        matching(client, stream, filters) as letters,
    ):
        async for letter in letters:
            if as_json:
                print_json(letter_json(letter))
            elif len(rows) < rows_max:
                rows.append(row(letter, now_us))
            else:
                more = True
                break
    if as_json:
        return
    if not rows:
        click.echo(f"no such dead letters of {stream}", err=True)
        return
    print_rows(COLUMNS, rows, BRIEF)
    if more:
        click.echo(f"there are more than these {rows_max:,}: --count shows more", err=True)
