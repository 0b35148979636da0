"""`streamer group pause`."""

from __future__ import annotations

import click

from streamer_tools.options import json_option, print_json, url_option


@click.command("pause")
@click.argument("stream")
@click.argument("group")
@url_option
@json_option
def command(stream: str, group: str, url: str, as_json: bool) -> None:
    """Hand out nothing more of STREAM to GROUP until it is resumed.

    What members have, they finish and settle; they stay members. It lasts over a restart.
    """
    from streamer_tools.asking import ask

    ask(url, "group_pause", stream=stream, group=group)
    if as_json:
        print_json({"stream": stream, "group": group, "paused": True})
    else:
        click.echo(f"{stream}, group {group}: paused")
