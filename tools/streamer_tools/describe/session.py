"""`streamer describe session`."""

from __future__ import annotations

from typing import Any

import click

from streamer_tools import show
from streamer_tools.describe import settings
from streamer_tools.describe.asking import Asker, describe
from streamer_tools.describe.sheet import Fact, Part, fact, unknown
from streamer_tools.options import json_option, url_option

#: Keys that are shown in a way of their own.
_SHOWN = frozenset(
    {
        "session", "name", "peer", "transport", "age_s", "heard_s", "under_way_bytes",
        "window_bytes", "outbox_bytes", "bytes_in", "bytes_out", "slow", "leaving", "kind",
        "settings", "subscribed", "member_of",
    }
)  # fmt: skip


@click.command("session")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@url_option
@json_option
def command(names: tuple[str, ...], url: str, as_json: bool) -> None:
    """Describe sessions: what is under way, what is read, and the limits they are held to.

    NAME is a session's number, or the name that the client gave itself (all of that name).
    """
    describe(url, names, collect, parts, as_json)


async def collect(ask: Asker, name: str) -> list[dict[str, Any]]:
    """The documents of the sessions of that number or name."""
    rows, config = await ask("sessions"), await ask("config")
    chosen = [row for row in rows if str(row["session"]) == name or row.get("name") == name]
    if not chosen:
        known = [each for row in rows for each in (str(row["session"]), row.get("name")) if each]
        raise unknown("session", name, known)
    limits = settings.under(config, "session.")
    return [{"kind": "session", **row, "settings": limits} for row in chosen]


def parts(found: dict[str, Any]) -> list[Part]:
    """A session's sheet."""
    marks = [mark for mark in ("slow", "leaving") if found.get(mark)]
    figures = [
        fact("client", found.get("name")),
        fact("peer", found.get("peer"), f"over {found.get('transport') or '-'}"),
        Fact("open for", show.age(found.get("age_s"))),
        Fact("last heard", f"{show.age(found.get('heard_s'))} ago"),
        fact("state", ", ".join(marks) or "in order"),
        Fact("under way", _of(found, "under_way_bytes", "window_bytes"), "of its window"),
        Fact("waits to be sent", show.size(found.get("outbox_bytes"))),
        Fact("came in", show.size(found.get("bytes_in"))),
        Fact("went out", show.size(found.get("bytes_out"))),
    ]
    figures += [
        fact(name.replace("_", " "), value)
        for name, value in found.items()
        if name not in _SHOWN and isinstance(value, str | int | float | None)
    ]
    return [
        Part(f"session {found['session']}", figures),
        Part("reads", [Fact("", _text(each)) for each in found.get("subscribed") or ()]),
        Part("member of", [Fact("", _text(each)) for each in found.get("member_of") or ()]),
        Part("limits", settings.facts(found["settings"])),
    ]


def _of(found: dict[str, Any], used: str, most: str) -> str:
    return f"{show.size(found.get(used))} of {show.size(found.get(most))}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return str(value)
