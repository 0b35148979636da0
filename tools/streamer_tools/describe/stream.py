"""`streamer describe stream`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from streamer_tools import show, streams
from streamer_tools.describe import settings
from streamer_tools.describe.asking import Asker, describe
from streamer_tools.describe.sheet import Fact, Part, fact, unknown
from streamer_tools.options import json_option, url_option

_PARTITIONS = tuple(
    column
    for column in streams.BRIEF
    if column.key not in ("name",)
)  # fmt: skip
_GROUPS = (
    show.Column("group", "group"),
    show.Column("members", "members", show.figure),
    show.Column("lag", "lag", show.figure),
    show.Column("oldest", "oldest_age_s", show.age),
    show.Column("in flight", "in_flight", show.figure),
    show.Column("retrying", "retrying", show.figure),
    show.Column("dead", "dead", show.figure),
)


@click.command("stream")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@url_option
@json_option
def command(names: tuple[str, ...], url: str, as_json: bool) -> None:
    """Describe streams: figures, partitions, groups, and how they are kept.

    Each setting stands with where it came from: the default, the file with its table, or the
    override that matches the stream's name.
    """
    describe(url, names, collect, parts, as_json)


async def collect(ask: Asker, name: str) -> list[dict[str, Any]]:
    """The document of a stream."""
    known = {each["name"]: each for each in await ask("streams", own=True)}
    if name not in known:
        await _check_available(ask, name)
        raise unknown("stream", name, (each for each in known if not each.startswith("__")))
    overview, config = await ask("overview"), await ask("config")
    glance = {each["name"]: each for each in overview.get("streams", ())}
    seen = glance.get(name, {})
    groups = [each for each in await ask.maybe("groups") or () if each["stream"] == name]
    dead = await ask.maybe("dead", stream=name)
    delayed = await ask.maybe("delayed", stream=name)
    return [
        {
            "kind": "stream",
            **known[name],
            "records": sum(p["high_water"] - p["first_offset"] for p in known[name]["partitions"]),
            "bytes": sum(p["bytes"] for p in known[name]["partitions"]),
            "records_per_s": seen.get("records_per_s"),
            "state": seen.get("state"),
            "groups": groups,
            "dead_letters": None if dead is None else _count(dead["partitions"]),
            "delayed": None if delayed is None else delayed["waiting"],
            "settings": settings.of_stream(config, name),
        }
    ]


async def _check_available(ask: Asker, name: str) -> None:
    """A stream that could not be opened is in no list: the daemon says why, asked by its name."""
    from streamer.errors import UnknownStream

    with suppress(UnknownStream):
        await ask("stream", stream=name)


def _count(partitions: list[dict[str, Any]]) -> int:
    return sum(sum(each["ranges"][1::2]) - sum(each["ranges"][::2]) for each in partitions)


def parts(found: dict[str, Any]) -> list[Part]:
    """A stream's sheet."""
    rate = found["records_per_s"]
    records = show.figure(found["records"])
    dictionary = found.get("dictionary_id")
    figures = [
        fact("pipeline", found.get("pipeline"), "" if found.get("pipeline") else "none serves it"),
        fact("state", found["state"]),
        fact("storage", found.get("storage"), "as it was made"),
        Fact("records", records if rate is None else f"{records}, {show.figure(rate)} a second"),
        Fact("bytes", show.size(found["bytes"])),
        fact("dictionary", f"{dictionary:08x}" if dictionary else None),
        fact("dead letters", found["dead_letters"]),
        fact("delayed", found["delayed"]),
    ]
    rows = [{**each, "name": found["name"]} for each in found["partitions"]]
    return [
        Part(f"stream {found['name']}", figures),
        Part("partitions", columns=_PARTITIONS, rows=rows),
        Part("groups", columns=_GROUPS, rows=found["groups"]),
        Part("settings", settings.facts(found["settings"])),
    ]
