"""`streamer describe group`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from streamer_tools import show
from streamer_tools.describe.asking import Asker, describe
from streamer_tools.describe.sheet import Fact, Part, fact, unknown
from streamer_tools.group.show import MEMBERS, PARTITIONS, member_rows
from streamer_tools.options import json_option, url_option

#: Holes of a partition that are told; `gaps --group` tells all.
_HOLES_MAX = 20
_HOLES = (
    show.Column("partition", "partition"),
    show.Column("first", "first", show.figure),
    show.Column("last", "last", show.figure),
    show.Column("out", "out", show.figure),
    show.Column("retrying", "retrying", show.figure),
)
_SECONDS = ("ack_wait_s", "lease_max_s")


@click.command("group")
@click.argument("names", nargs=-1, required=True, metavar="[STREAM/]GROUP...")
@url_option
@json_option
def command(names: tuple[str, ...], url: str, as_json: bool) -> None:
    """Describe consumer groups: members, lag by partition, what was left out, settings.

    A GROUP without its stream is described for each stream that has one of the name. A group's
    settings are kept with it: they were given when it was made, or by `streamer group edit`.
    """
    describe(url, names, collect, parts, as_json)


async def collect(ask: Asker, name: str) -> list[dict[str, Any]]:
    """The documents of the groups of that name."""
    stream, slash, group = name.rpartition("/")
    rows = await ask("groups")
    chosen = [
        row for row in rows if row["group"] == group and (not slash or row["stream"] == stream)
    ]
    if not chosen:
        known = [f"{row['stream']}/{row['group']}" for row in rows]
        raise unknown("group", name, known if slash else [row["group"] for row in rows])
    return [await _one(ask, row) for row in chosen]


async def _one(ask: Asker, row: Mapping[str, Any]) -> dict[str, Any]:
    which = {"stream": row["stream"], "group": row["group"]}
    found = await ask("group", **which)
    holes: list[dict[str, Any]] = []
    for partition in found["partition_list"]:
        number = partition["partition"]
        if partition.get("done_ranges"):
            answer = await ask("group_holes", **which, partition=number)
            holes += [{"partition": number, **hole} for hole in answer["holes"][:_HOLES_MAX]]
    return {"kind": "group", **found, "holes": holes, "origins": origins(found["settings"])}


def origins(settings: Mapping[str, Any]) -> dict[str, str]:
    """Where each of a group's settings came from."""
    from streamer.groups.settings import GroupSettings

    defaults = GroupSettings().to_plain()
    return {
        name: "default" if value == defaults.get(name) else "the group's own"
        for name, value in settings.items()
    }


def parts(found: dict[str, Any]) -> list[Part]:
    """A group's sheet."""
    lag = f"{show.figure(found.get('lag'))} records"
    if found.get("oldest_age_s") is not None:
        lag += f", the oldest {show.age(found['oldest_age_s'])} old"
    figures = [
        Fact("state", "paused" if found.get("paused") else "running"),
        Fact("lag", lag),
        fact("in flight", found.get("in_flight")),
        fact("retrying", found.get("retrying")),
        fact("acked", found.get("acked"), "since the daemon began"),
        fact("redelivered", found.get("redelivered"), "since the daemon began"),
        fact("dead", found.get("dead"), "since the daemon began"),
    ]
    for partition in found["partition_list"]:
        if partition.get("fault"):
            figures.append(
                Fact("fault", f"partition {partition['partition']}: {partition['fault']}")
            )
    holes = [{**hole, "last": hole["next"] - 1} for hole in found["holes"]]
    return [
        Part(f"group {found['group']} of stream {found['stream']}", figures),
        Part("members", columns=MEMBERS, rows=list(member_rows(found["member_list"]))),
        Part("partitions", columns=PARTITIONS, rows=found["partition_list"]),
        Part("not done while later records are", columns=_HOLES, rows=holes),
        Part("settings", _settings(found["settings"], found["origins"])),
    ]


def _settings(settings: Mapping[str, Any], where: Mapping[str, str]) -> list[Fact]:
    facts = []
    for name, value in settings.items():
        note = where.get(name, "-")
        if name in _SECONDS:
            facts.append(Fact(name, f"{value:g} s", note))
        elif name == "backoff_s":
            facts.append(Fact(name, f"{', '.join(f'{each:g}' for each in value)} s", note))
        else:
            facts.append(Fact(name, str(value), note))
    return facts
