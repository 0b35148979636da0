"""`streamer describe daemon`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from streamer_tools import show
from streamer_tools.describe import settings
from streamer_tools.describe.asking import Asker, describe
from streamer_tools.describe.sheet import Fact, Part, fact
from streamer_tools.options import json_option, url_option

#: Sections of the configuration that are described with a stream or a pipeline.
_ELSEWHERE = ("pipelines.",)


@click.command("daemon")
@url_option
@json_option
def command(url: str, as_json: bool) -> None:
    """Describe the daemon: health, figures, and every setting with where it came from.

    The settings of pipelines are with `describe pipeline`.
    """
    describe(url, [""], collect, parts, as_json)


async def collect(ask: Asker, _: str) -> list[dict[str, Any]]:
    """The document of the daemon."""
    overview, config = await ask("overview"), await ask("config")
    found = [{**doc, "name": doc["key"]} for doc in config if not doc["key"].startswith(_ELSEWHERE)]
    return [{"kind": "daemon", **overview, "settings": found}]


def parts(found: dict[str, Any]) -> list[Part]:
    """The daemon's sheet."""
    sheet = [Part(f"streamer {found.get('version', '-')}", _figures(found))]
    sheet.append(
        Part("rates, a second", _rates(found.get("rates") or {}, found.get("totals") or {}))
    )
    sections: dict[str, list[dict[str, Any]]] = {}
    for doc in found["settings"]:
        section, _, name = doc["key"].partition(".")
        sections.setdefault(section, []).append({**doc, "name": name})
    for section, docs in sections.items():
        sheet.append(Part(f"settings [{section}]", settings.facts(docs)))
    return sheet


def _figures(found: Mapping[str, Any]) -> list[Fact]:
    health, process = found.get("health") or {}, found.get("process") or {}
    disk, sessions = found.get("disk") or {}, found.get("sessions") or {}
    state = "ok" if health.get("ok") else "; ".join(health.get("reasons") or ["not ok"])
    return [
        Fact("health", state, "ready" if health.get("ready") else "not ready"),
        fact("process", str(found.get("pid", "-")), f"for {show.age(found.get('uptime_s'))}"),
        fact("listens at", found.get("listen")),
        fact("http", found.get("http")),
        Fact("data", f"{show.size(disk.get('free_bytes'))} free", str(disk.get("path", "-"))),
        Fact("cpu", f"{show.figure(process.get('cpu'))} cores", "of the last 10 s"),
        Fact("memory", show.size(process.get("rss_bytes"))),
        fact("files", process.get("fds"), f"of {process.get('fds_max') or '-'}"),
        fact("sessions", sessions.get("count"), f"of {sessions.get('max') or '-'}"),
        fact("streams", len(found.get("streams", ()))),
        fact("groups", len(found.get("groups", ()))),
        fact("pipelines", [each["name"] for each in found.get("pipelines", ())]),
    ]


def _rates(rates: Mapping[str, Any], totals: Mapping[str, Any]) -> list[Fact]:
    facts = []
    for name, value in rates.items():
        if not isinstance(value, int | float):
            continue
        human = show.size if name.startswith("bytes") else show.figure
        total = f"{human(totals[name])} so far" if name in totals else ""
        facts.append(Fact(name.replace("_", " "), human(value), total))
    return facts
