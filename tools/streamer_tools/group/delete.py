"""`streamer group delete`."""

from __future__ import annotations

from typing import Any

import click

from streamer_tools.asking import yes_option
from streamer_tools.options import json_option, print_json, url_option


@click.command("delete")
@click.argument("stream")
@click.argument("group")
@yes_option
@url_option
@json_option
def command(stream: str, group: str, yes: bool, url: str, as_json: bool) -> None:
    """Forget a GROUP of STREAM: where it is, its counts of attempts, its members.

    The records stay, and so do its dead letters. Asks before, unless --yes.
    """
    from streamer_tools.asking import ask, confirm

    if not yes:
        found = ask(url, "group", stream=stream, group=group)
        confirm(question(found))
    ask(url, "group_delete", stream=stream, group=group)
    if as_json:
        print_json({"stream": stream, "group": group, "deleted": True})
    else:
        click.echo(f"{stream}, group {group}: deleted")


def question(group: dict[str, Any]) -> str:
    """What to ask before: who would notice, and what would be lost sight of."""
    return (
        f"{group['stream']}, group {group['group']}: {group['members']:,} members, "
        f"{group['lag']:,} records not done, {group['in_flight']:,} in flight. Delete it?"
    )
