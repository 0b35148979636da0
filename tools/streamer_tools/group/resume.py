"""`streamer group resume`."""

from __future__ import annotations

import click

from streamer_tools.options import json_option, print_json, url_option


@click.command("resume")
@click.argument("stream")
@click.argument("group")
@url_option
@json_option
def command(stream: str, group: str, url: str, as_json: bool) -> None:
    """Hand out STREAM to GROUP again after a pause."""
    from streamer_tools.asking import ask

    ask(url, "group_resume", stream=stream, group=group)
    if as_json:
        print_json({"stream": stream, "group": group, "paused": False})
    else:
        click.echo(f"{stream}, group {group}: resumed")
