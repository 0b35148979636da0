"""`streamer groups`: who works on what, how far behind, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from streamer_tools import running, show
from streamer_tools.asking import RECONNECT_S
from streamer_tools.options import json_option, print_json, url_option
from streamer_tools.printing import print_rows

COLUMNS = (
    show.Column("stream", "stream"),
    show.Column("group", "group"),
    show.Column("mode", "mode"),
    show.Column("order", "order"),
    show.Column("partitions", "partitions", show.figure),
    show.Column("members", "members", show.figure),
    show.Column("lag", "lag", show.figure),
    show.Column("oldest", "oldest_age_s", show.age),
    show.Column("in flight", "in_flight", show.figure),
    show.Column("retrying", "retrying", show.figure),
    show.Column("acked", "acked", show.figure),
    show.Column("redelivered", "redelivered", show.figure),
    show.Column("dead", "dead", show.figure),
    show.Column("paused", "paused"),
)
#: The same for a person, who has 80 columns or a few more.
BRIEF = (
    show.Column("stream", "stream"),
    show.Column("group", "group_state"),
    show.Column("mode", "kind"),
    show.Column("members", "members", show.figure),
    show.Column("lag", "lag", show.figure),
    show.Column("oldest", "oldest_age_s", show.age),
    show.Column("in flight", "in_flight", show.figure),
    show.Column("retrying", "retrying", show.figure),
    show.Column("dead", "dead", show.figure),
)


@click.command("groups")
@click.argument("stream", required=False)
@url_option
@json_option
def command(stream: str | None, url: str, as_json: bool) -> None:
    """List the consumer groups, of all streams or of STREAM.

    `lag` counts the records that are committed and neither acked nor dead, and `oldest` is the
    age of the first of them; `in flight` are out at members, `retrying` wait for their next
    attempt. `acked`, `redelivered` and `dead` count since the daemon began; `streamer dlq list`
    tells what lies in STREAM.dead.
    """

    groups = running.run(_groups, url, stream)
    if as_json:
        print_json(groups)
    elif not groups:
        click.echo("no groups yet", err=True)
    else:
        print_rows(COLUMNS, list(rows(groups)), BRIEF)


async def _groups(url: str, stream: str | None) -> list[dict[str, Any]]:
    from streamer.client import connect

    async with connect(url, name="streamer groups", reconnect_s=RECONNECT_S) as client:
        if stream is not None:
            # One that is not there is refused; it has no groups, but that says less.
            await client.stream(stream)
        groups: list[dict[str, Any]] = await client.admin("groups")
    return [group for group in groups if stream in (None, group["stream"])]


def rows(groups: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a group."""
    for group in groups:
        name, paused = group["group"], group["paused"]
        yield {
            **group,
            "paused": "yes" if paused else "no",
            # Worth its room only where it is so.
            "group_state": f"{name} (paused)" if paused else name,
            "kind": "by key" if group["order"] == "key" else group["mode"],
        }
