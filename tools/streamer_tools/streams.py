"""`streamer streams`: what there is, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from streamer_tools import show
from streamer_tools.options import json_option, print_json, url_option
from streamer_tools.printing import print_rows

COLUMNS = (
    show.Column("stream", "name"),
    show.Column("partition", "partition"),
    show.Column("state", "state"),
    show.Column("first", "first_offset", show.figure),
    show.Column("next", "next_offset", show.figure),
    show.Column("high water", "high_water", show.figure),
    show.Column("records", "records", show.figure),
    show.Column("bytes", "bytes", show.size),
    show.Column("segments", "segments", show.figure),
    show.Column("storage", "storage"),
    show.Column("dropped", "dropped", show.figure),
    show.Column("pipeline", "pipeline"),
    show.Column("dictionary", "dictionary"),
)
#: The same for a person, who has 80 columns or a few more.
BRIEF = (
    show.Column("stream", "name"),
    show.Column("part", "partition"),
    show.Column("state", "state"),
    show.Column("first", "first_offset", show.figure),
    show.Column("next", "next_offset", show.figure),
    show.Column("high water", "high_water", show.figure),
    show.Column("bytes", "bytes", show.size),
)


@click.command("streams")
@url_option
@json_option
def command(url: str, as_json: bool) -> None:
    """List the streams and their partitions.

    `first` and `next` bound the offsets that are there; readers see what is below `high water`.
    `dropped` are records that a stream in memory let go for want of room.
    A terminal shows the columns that fit; --json, or output to a pipe, has all of them.
    """
    from streamer_tools.asking import ask

    streams = ask(url, "streams")
    if as_json:
        print_json(streams)
    elif not streams:
        click.echo("no streams yet", err=True)
    else:
        print_rows(COLUMNS, list(rows(streams)), BRIEF)


def rows(streams: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a partition."""
    for stream in streams:
        dictionary = stream.get("dictionary_id")
        for partition in stream["partitions"]:
            yield {
                **partition,
                "name": stream["name"],
                "storage": stream.get("storage"),
                "pipeline": stream.get("pipeline"),
                "dictionary": f"{dictionary:08x}" if dictionary else None,
                "records": partition["high_water"] - partition["first_offset"],
            }
