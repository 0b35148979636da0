"""`streamer schedule list`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from streamer_tools import show
from streamer_tools.options import json_option, print_json, url_option
from streamer_tools.printing import print_rows


def second(timestamp_us: int) -> str:
    """A time in microseconds since 1970 as ISO 8601 in UTC, to the second."""
    moment = datetime.fromtimestamp(timestamp_us // 1_000_000, UTC)
    return moment.isoformat().replace("+00:00", "Z")


COLUMNS = (
    show.Column("name", "name"),
    show.Column("stream", "stream"),
    show.Column("cron", "cron"),
    show.Column("zone", "zone"),
    show.Column("next", "next"),
    show.Column("last", "last"),
    show.Column("fired", "fired", show.figure),
)


@click.command("list")
@url_option
@json_option
def command(url: str, as_json: bool) -> None:
    """List the schedules: when each fires next and fired last (UTC), and how often it did."""
    from streamer_tools.asking import ask

    found = ask(url, "schedules")
    if as_json:
        print_json([schedule_json(schedule) for schedule in found])
    elif not found:
        click.echo("no schedules yet", err=True)
    else:
        print_rows(COLUMNS, list(rows(found)))


def rows(schedules: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a schedule."""
    for schedule in schedules:
        last_us = schedule["last_us"]
        yield {
            **schedule,
            "next": second(schedule["next_us"]),
            "last": None if last_us is None else second(last_us),
        }


def schedule_json(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """One schedule as a map for JSON; bytes that are no UTF-8 are in base64."""
    shown = {
        name: schedule[name]
        for name in ("name", "stream", "cron", "zone", "next_us", "last_us", "fired")
    }
    if schedule["key"] is not None:
        shown |= show.as_text("key", schedule["key"])
    if schedule["headers"]:
        shown["headers"] = show.headers_json(schedule["headers"])
    return shown | show.as_text("value", schedule["value"])
