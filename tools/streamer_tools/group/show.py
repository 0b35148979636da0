"""`streamer group show`: one group, whole: settings, members, partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from streamer_tools import show
from streamer_tools.options import json_option, print_json, url_option
from streamer_tools.printing import print_rows

MEMBERS = (
    show.Column("member", "member"),
    show.Column("name", "name"),
    show.Column("peer", "peer"),
    show.Column("in flight", "in_flight", show.figure),
    show.Column("of", "max_in_flight", show.figure),
    show.Column("bytes", "in_flight_bytes", show.size),
    show.Column("oldest", "oldest_s", show.age),
    show.Column("partitions", "owns"),
)
PARTITIONS = (
    show.Column("partition", "partition"),
    show.Column("cursor", "cursor", show.figure),
    show.Column("high water", "high_water", show.figure),
    show.Column("lag", "lag", show.figure),
    show.Column("oldest", "oldest_age_s", show.age),
    show.Column("in flight", "in_flight", show.figure),
    show.Column("retrying", "retrying", show.figure),
    show.Column("done ranges", "done_ranges", show.figure),
    show.Column("owner", "owner"),
)


@click.command("show")
@click.argument("stream")
@click.argument("group")
@url_option
@json_option
def command(stream: str, group: str, url: str, as_json: bool) -> None:
    """Show a GROUP of STREAM: its settings, its members with what they hold, its partitions.

    `oldest` of a member is how long it has held its oldest delivery; of a partition it is the age
    of the first record that is not done. `done ranges` are acked pieces above the cursor.
    What was acked, delivered again and dead `so far` counts since the daemon began.
    """
    from streamer_tools.asking import ask

    found = ask(url, "group", stream=stream, group=group)
    if as_json:
        print_json(found)
        return
    for line in summary(found):
        click.echo(line)
    click.echo()
    members = list(member_rows(found["member_list"]))
    if members:
        print_rows(MEMBERS, members)
    else:
        click.echo("no members")
    click.echo()
    print_rows(PARTITIONS, found["partition_list"])
    for line in faults(found["partition_list"]):
        click.echo(f"streamer: {show.escaped(line)}", err=True)


def summary(group: Mapping[str, Any]) -> Iterator[str]:
    """What there is to say of a group as a whole, a line each."""
    settings = group["settings"]
    pauses = ", ".join(f"{pause:g}" for pause in settings["backoff_s"])
    attempts = settings["max_deliveries"] or "no limit"
    lag = f"{group['lag']:,} records"
    if group["oldest_age_s"] is not None:
        lag += f", the oldest {show.age(group['oldest_age_s'])} old"
    lines = {
        "stream": group["stream"],
        "group": f"{group['group']} (paused)" if group["paused"] else group["group"],
        "mode": f"{settings['mode']}, order {settings['order']}",
        "ack wait": f"{settings['ack_wait_s']:g} s, prolonged to {settings['lease_max_s']:g} s",
        "attempts": f"{attempts}, pauses between them {pauses} s",
        "lag": lag,
        "in flight": f"{group['in_flight']:,}, retrying {group['retrying']:,}",
        "so far": f"{group['acked']:,} acked, {group['redelivered']:,} delivered again,"
        f" {group['dead']:,} dead, since the daemon began",
    }
    for name, value in lines.items():
        yield f"{name:<11}{show.escaped(value)}"


def faults(partitions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Why partitions do not go on, a sentence each."""
    for partition in partitions:
        if partition.get("fault"):
            yield f"partition {partition['partition']} does not go on: {partition['fault']}"


def member_rows(members: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a member."""
    for member in members:
        owned = member["partitions"]
        yield {**member, "owns": ",".join(map(str, owned)) if owned else None}
