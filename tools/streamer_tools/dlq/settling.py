"""What `dlq redrive` and `dlq purge` have in common: find, say how many, ask, do.

Rules: what is done is done to exactly the letters that were counted: ones that come meanwhile are
not among them. A request carries so many letters that it is carried out at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Literal

import click

from streamer_tools import running
from streamer_tools.dlq.filters import Filters
from streamer_tools.options import print_json

#: The daemon takes 10,000 in a request; fewer are carried out sooner.
_RECORDS = 5_000

#: verb: (its request, what its answer calls the number and we what was done).
_VERBS = {
    "redrive": ("dead_redrive", "redriven"),
    "purge": ("dead_purge", "purged"),
}


def settle(
    verb: Literal["redrive", "purge"],
    url: str,
    stream: str,
    filters: Filters,
    *,
    ask: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Do `verb` to the letters that `filters` lets through, and say how many they were.

    Raises:
        Told: asked, the answer was no.
        StreamerError: it was refused; what was done before that stays done.
    """

    from streamer_tools.asking import confirm

    past = _VERBS[verb][1]
    found = running.run(_find, url, stream, filters)
    count = sum(map(len, found.values()))
    done = 0
    if count and not dry_run:
        if ask:
            confirm(f"{count:,} dead letters of {stream} would be {past}. Go on?")
        done = running.run(_do, verb, url, stream, found)
    if as_json:
        print_json({"stream": stream, "found": count, past: done})
    elif dry_run:
        click.echo(f"{stream}: {count:,} dead letters would be {past}")
    else:
        click.echo(f"{stream}: {done:,} dead letters {past}")


async def _find(url: str, stream: str, filters: Filters) -> dict[int, array[int]]:
    """By partition, the offsets of the letters that are meant, ascending."""
    from streamer.client import connect
    from streamer_tools.dlq.reading import matching

    found: dict[int, array[int]] = {}
    async with (
        connect(url, name="streamer dlq") as client,
        matching(client, stream, filters) as letters,
    ):
        async for letter in letters:
            found.setdefault(letter.partition, array("q")).append(letter.offset)
    return found


async def _do(verb: str, url: str, stream: str, found: dict[int, array[int]]) -> int:
    from streamer.client import connect

    request, past = _VERBS[verb]
    done = 0
    async with connect(url, name="streamer dlq") as client:
        for partition, offsets in found.items():
            for ranges in portions(offsets, _RECORDS):
                arguments = {"stream": stream, "partition": partition, "ranges": ranges}
                done += (await client.admin(request, arguments))[past]
    return done


def portions(offsets: Sequence[int], records_max: int) -> Iterator[list[int]]:
    """Ascending offsets as flat ranges (first, end, first, end, ...), so many records a list."""
    for at in range(0, len(offsets), records_max):
        ranges: list[int] = []
        for offset in offsets[at : at + records_max]:
            if ranges and ranges[-1] == offset:
                ranges[-1] = offset + 1
            else:
                ranges += (offset, offset + 1)
        yield ranges
