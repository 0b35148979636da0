"""`streamer describe pipeline`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from streamer_tools import show
from streamer_tools.describe import settings
from streamer_tools.describe.asking import Asker, describe
from streamer_tools.describe.sheet import (
    Fact,
    Part,
    fact,
    latency,
    unknown,
)
from streamer_tools.options import json_option, url_option

_STREAMS_MAX = 20


@click.command("pipeline")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@url_option
@json_option
def command(names: tuple[str, ...], url: str, as_json: bool) -> None:
    """Describe pipelines: stages with their channels, times and decisions, and their settings."""
    describe(url, names, collect, parts, as_json)


async def collect(ask: Asker, name: str) -> list[dict[str, Any]]:
    """The document of a pipeline."""
    from streamer.settings import key_text

    overview, config = await ask("overview"), await ask("config")
    known = {each["name"]: each for each in overview.get("pipelines", ())}
    if name not in known:
        raise unknown("pipeline", name, known)
    served = [each["name"] for each in overview.get("streams", ()) if each.get("pipeline") == name]
    found = settings.under(config, f"pipelines.{key_text(name)}.")
    return [{"kind": "pipeline", **known[name], "served": served, "settings": found}]


def parts(found: dict[str, Any]) -> list[Part]:
    """A pipeline's sheet."""
    rates, served = found.get("rates") or {}, found["served"]
    more = f" and {len(served) - _STREAMS_MAX} more" if len(served) > _STREAMS_MAX else ""
    figures = [
        fact("state", found.get("state")),
        fact("last error", found.get("last_error")),
        fact("streams", found.get("streams"), "names and globs"),
        Fact("serves", ", ".join(served[:_STREAMS_MAX]) + more or "-"),
        Fact("records", f"{show.figure(rates.get('records'))} a second"),
        Fact("bytes", f"{show.size(rates.get('bytes'))} a second"),
        Fact("batches", f"{show.figure(rates.get('batches'))} a second"),
        Fact("oldest", show.age(found.get("oldest_s")), "waits in it"),
        Fact("append", latency(found.get("append")), "from taking in to the ack"),
    ]
    sheet = [Part(f"pipeline {found['name']}", figures)]
    own = [doc for doc in found["settings"] if "." not in doc["name"]]
    sheet.append(Part("settings", settings.facts(own)))
    for stage in found.get("stages", ()):
        prefix = f"{stage.get('place')}."
        mine = [
            {**doc, "name": doc["name"].removeprefix(prefix)}
            for doc in found["settings"]
            if doc["name"].startswith(prefix)
        ]
        facts = [*stage_facts(stage), *settings.facts(mine)]
        sheet.append(Part(f"{stage.get('place')}: stage {stage.get('stage')}", facts))
    return sheet


def stage_facts(stage: Mapping[str, Any]) -> list[Fact]:
    """What a stage does now."""
    channel = stage.get("channel") or {}
    items, nbytes = (
        {what: channel.get(f"{unit}{what}") for what in ("", "_max", "_seen")}
        for unit in ("items", "bytes")
    )
    waits = (
        f"{show.figure(items[''])} of {show.figure(items['_max'])} items,"
        f" {show.size(nbytes[''])} of {show.size(nbytes['_max'])}"
    )
    most = f"{show.figure(items['_seen'])} items, {show.size(nbytes['_seen'])}"
    rate = f"{show.figure(stage.get('items_per_s'))} items a second"
    found = [
        Fact("waits", waits, f"most so far {most}"),
        Fact("rate", f"{rate}, {show.size(stage.get('bytes_per_s'))} a second"),
        Fact("queueing", latency(stage.get("queueing"))),
        Fact("service", latency(stage.get("service"))),
    ]
    detail = stage.get("detail")
    if detail:
        found.append(fact("now", detail.get("summary")))
        for each in (detail.get("decisions") or [])[-3:]:
            change = f"{each.get('decision')}: {each.get('from')} to {each.get('to')}"
            found.append(Fact(show.clock(each.get("at_us", 0)), change, each.get("reason") or ""))
    return found
