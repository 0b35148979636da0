"""`streamer dlq show`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import click

from streamer_tools import running, show
from streamer_tools.asking import RECONNECT_S
from streamer_tools.options import json_option, natural, print_json, url_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.client import DeadLetter


@click.command("show")
@click.argument("stream")
@click.argument("offset", type=natural)
@click.option("--partition", type=natural, default=0, show_default=True, help="Of STREAM.dead.")
@url_option
@json_option
def command(stream: str, offset: int, partition: int, url: str, as_json: bool) -> None:
    """Show the dead letter at OFFSET of STREAM.dead: its value, and why it died.

    One that was redriven or purged is gone from here; `peek STREAM.dead` still has it for as long
    as the log keeps it. Control characters are escaped; --json has everything.
    """

    from streamer_tools.dlq.letters import letter_json

    letter = running.run(_find, url, stream, partition, offset)
    if as_json:
        print_json(letter_json(letter))
        return
    for line in lines(letter):
        click.echo(line)


async def _find(url: str, stream: str, partition: int, offset: int) -> DeadLetter:
    from streamer.client import connect
    from streamer.client.dead_letters import Letters
    from streamer.errors import OffsetOutOfRange
    from streamer.groups.ranges import Ranges

    async with (
        connect(url, name="streamer dlq show", reconnect_s=RECONNECT_S) as client,
        AsyncExitStack() as stack,
    ):
        dead = await client.admin("dead", {"stream": stream})
        waiting = {each["partition"]: Ranges(each["ranges"]) for each in dead["partitions"]}
        if waiting.get(partition, Ranges()).overlap(offset, offset + 1):
            # Of all that may wait, only the batch that this one is in is read.
            only = [(partition, [offset, offset + 1])]
            async for letter in Letters(
                dead["stream"], only, partial(client.reader, follow=False), stack
            ):
                return letter
    raise OffsetOutOfRange(
        f"there is no dead letter of stream {stream!r} at offset {offset} of partition {partition}"
        ", or it was redriven or purged"
    )


def lines(letter: DeadLetter) -> Iterator[str]:
    """What there is to say of a letter, a line each."""
    record = letter.record
    source = f"{letter.source_stream}, partition {letter.source_partition}"
    shown = {
        "letter": f"partition {letter.partition}, offset {letter.offset}",
        "from": f"{source}, offset {letter.source_offset}",
        "group": letter.group,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "error": letter.error or None,
        "first out": show.moment(letter.first_us),
        "died": show.moment(letter.last_us),
        "redriven": f"{letter.redriven} times before" if letter.redriven else None,
        "time": None if record.timestamp_us is None else show.moment(record.timestamp_us),
        "key": None if record.key is None else show.printable(record.key),
        "headers": show.headers_json(record.headers) if record.headers else None,
        "size": f"{len(record.value):,} bytes",
        "value": show.printable(record.value),
    }
    for name, value in shown.items():
        if value is not None:
            yield f"{name:<11}{show.escaped(str(value))}"
