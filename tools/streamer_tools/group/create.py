"""`streamer group create`."""

from __future__ import annotations

from typing import Any

import click

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
    a place in the stream that is kept from now on (--start latest).
    """
    from streamer_tools.asking import ask

    ask(url, "group_create", stream=stream, group=group, settings=named(settings))
    if as_json:
        print_json({"stream": stream, "group": group, "created": True})
    else:
        click.echo(f"{stream}, group {group}: created")
