"""`streamer group create`."""

from __future__ import annotations

from typing import Any

import click

from streamer_tools import running
from streamer_tools.group.settings import all_options, named
from streamer_tools.options import json_option, print_json, url_option


@click.command("create")
@click.argument("stream")
@click.argument("group")
@all_options
@url_option
@json_option
def command(stream: str, group: str, url: str, as_json: bool, **settings: Any) -> None:
    """Make a GROUP of STREAM before anybody joins it.

    The first member makes its group as well; this is for settings that no program names, and for
    a place in the stream that is kept from now on (--start latest). A stream that is not there is
    made with it. A group that is there stays as it is; one that has other settings than those that
    are named is refused.
    """

    made, with_stream = running.run(_create, url, stream, group, named(settings))
    if as_json:
        print_json({"stream": stream, "group": group, "created": made})
    elif not made:
        click.echo(f"{stream}, group {group}: is there already, nothing was changed")
    else:
        new = f", and stream {stream} with it" if with_stream else ""
        click.echo(f"{stream}, group {group}: created{new}")


async def _create(url: str, stream: str, group: str, settings: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the group was made, and whether its stream was made for it."""
    from streamer.client import connect
    from streamer.errors import UnknownGroup, UnknownStream

    name = {"stream": stream, "group": group}
    made = with_stream = False
    async with connect(url, name="streamer group create") as client:
        # Making one that is there is answered as if it had been made.
        try:
            await client.admin("group", name)
        except UnknownGroup:
            made = True
        except UnknownStream:
            made = with_stream = True
        await client.admin("group_create", {**name, "settings": settings})
    return made, with_stream
