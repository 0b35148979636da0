"""`streamer group edit`."""

from __future__ import annotations

from typing import Any

import click

from streamer_tools.group.settings import changeable_options, named
from streamer_tools.options import json_option, print_json, url_option


@click.command("edit")
@click.argument("stream")
@click.argument("group")
@changeable_options
@url_option
@json_option
def command(stream: str, group: str, url: str, as_json: bool, **settings: Any) -> None:
    """Change settings of a GROUP of STREAM; what is not named stays as it is.

    Deliveries that are out keep the time that they were given. How a group hands out (--mode,
    --order) cannot be changed: make another one.
    """
    from streamer_tools.asking import ask

    changes = named(settings)
    if not changes:
        raise click.UsageError(
            "nothing to change: name --ack-wait, --lease-max, --max-deliveries or --backoff"
        )
    ask(url, "group_edit", stream=stream, group=group, settings=changes)
    if as_json:
        print_json({"stream": stream, "group": group, "changed": changes})
    else:
        click.echo(f"{stream}, group {group}: changed {', '.join(changes)}")
