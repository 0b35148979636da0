"""`streamer schedule remove`."""

from __future__ import annotations

import click

from streamer_tools.options import json_option, print_json, url_option


@click.command("remove")
@click.argument("name")
@url_option
@json_option
def command(name: str, url: str, as_json: bool) -> None:
    """End the schedule NAME; records that it sent stay."""
    from streamer_tools.asking import ask

    ask(url, "schedule_remove", name=name)
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        click.echo(f"{name}: removed")
