"""`streamer group seek`."""

from __future__ import annotations

import click

from streamer_tools.options import (
    Position,
    json_option,
    natural,
    position,
    print_json,
    url_option,
)


@click.command("seek")
@click.argument("stream")
@click.argument("group")
@click.option(
    "--to",
    type=position,
    required=True,
    metavar="POSITION",
    help="earliest, latest, an offset, or an ISO 8601 time (UTC where it names no zone).",
)
@click.option("--partition", type=natural, help="Only this one [default: all]")
@url_option
@json_option
def command(
    stream: str, group: str, to: Position, partition: int | None, url: str, as_json: bool
) -> None:
    """Move a GROUP of STREAM to another position, back or forth.

    What is out at members is theirs no more: their acks are refused, and they join again by
    themselves. Everything from the new position on is handed out, again if need be.
    """
    from streamer.client.reader import start_of
    from streamer_tools.asking import ask

    start, value = start_of(to)
    answer = ask(
        url,
        "group_seek",
        stream=stream,
        group=group,
        start=int(start),
        value=value,
        all=partition is None,
        partition=partition or 0,
    )
    offsets = {int(number): offset for number, offset in answer["partitions"].items()}
    if as_json:
        print_json({"stream": stream, "group": group, **answer})
        return
    for number, offset in sorted(offsets.items()):
        click.echo(f"{stream}, group {group}: partition {number} goes on at offset {offset}")
