"""`streamer sla`: whether the daemon keeps what `[sla]` of its config promises; a check by status.

Rules: the daemon judges, here it is shown. Shares that are short of what was promised are rounded
down, or 98.9996 % would look like the 99 % that were promised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import click

from streamer_tools import show
from streamer_tools.exits import Exit
from streamer_tools.options import json_option, print_json, url_option
from streamer_tools.printing import print_rows

COLUMNS = (
    show.Column("objective", "name"),
    show.Column("limit", "limit"),
    show.Column("unit", "unit"),
    show.Column("now", "now"),
    show.Column("promised", "objective"),
    show.Column("compliance", "compliance"),
    show.Column("burn 5m", "burn_5m"),
    show.Column("burn 1h", "burn_1h"),
    show.Column("budget left", "budget_left"),
    show.Column("met", "met"),
)
#: The same for a person, with units in the cells, in 80 columns.
BRIEF = (
    show.Column("objective", "name"),
    show.Column("limit", "limit_text"),
    show.Column("now", "now_text"),
    show.Column("good", "compliance_text"),
    show.Column("promised", "promised_text"),
    show.Column("burn 5m, 1h", "burn_text"),
    show.Column("budget left", "budget_text"),
    show.Column("", "met_text"),
)


@click.command("sla")
@url_option
@json_option
def command(url: str, as_json: bool) -> int:
    """Show the service levels, and say by the status whether they are met.

    `compliance` is the share that was good over the window: of seconds, and for error_rate of
    answers; `promised` is what it should be. `burn` is how many times faster than allowed the rest
    is being used up: at 1 it is gone with the window. What is idle counts for nothing, and a
    restart of the daemon forgets what was before.

    Exit status 1, and a line on standard error for each objective that is not met; 0 where all
    are, or where the config of the daemon has none.
    """
    from streamer_tools.asking import ask

    doc = ask(url, "overview").get("sla")
    if as_json:
        print_json(doc)
    if doc is None:
        click.echo("no objectives: [sla] in the daemon's config says what it promises", err=True)
        return Exit.OK
    if not as_json:
        print_rows(COLUMNS, list(rows(doc)), BRIEF)
    missed = list(faults(doc))
    for fault in missed:
        click.echo(f"streamer: {show.escaped(fault)}", err=True)
    return Exit.FAILED if missed or doc.get("met") is False else Exit.OK


def rows(doc: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row an objective; what did not count yet has no compliance."""
    for each in doc.get("objectives", ()):
        counted = each.get("counted") != 0
        known = {**each, "compliance": each.get("compliance") if counted else None}
        unit = each.get("unit", "")
        yield {
            **known,
            "met": _yes_no(each.get("met")),
            "limit_text": f"{'≥' if _is_floor(each) else '≤'} {_short(each.get('limit'), unit)}",
            "now_text": _short(each.get("now"), unit),
            "promised_text": share(each.get("objective")),
            "compliance_text": share(known["compliance"]),
            "burn_text": f"{_times(each.get('burn_5m'))} {_times(each.get('burn_1h'))}",
            "budget_text": share(each.get("budget_left")),
            "met_text": {True: "met", False: "MISSED"}.get(each.get("met"), "-"),
        }


def faults(doc: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each objective that is not met."""
    for each in doc.get("objectives", ()):
        if each.get("met") is not False:
            continue
        of_time = f"over {show.age(each.get('window_s'))}"
        known_s = each.get("since_s", doc.get("since_s"))
        if known_s is not None and known_s < each.get("window_s", 0):
            of_time += f", of which {show.age(known_s)} are known"
        yield (
            f"{each.get('name')} ({_limit(each)}) is missed: {share(each.get('compliance'))} was "
            f"good, promised is {share(each.get('objective'))} ({of_time})"
        )


def share(value: float | None) -> str:
    """A share in percent, rounded down to three digits: `99.9 %`."""
    if value is None:
        return "-"
    # What binary fractions lack must not take a digit away.
    percent = math.floor(value * 100_000 + 1e-6) / 1000
    return f"{percent:.3f}".rstrip("0").rstrip(".") + " %"


def _is_floor(each: Mapping[str, Any]) -> bool:
    return each.get("name") in ("throughput", "availability")


def _limit(each: Mapping[str, Any]) -> str:
    bound = "at least" if _is_floor(each) else "at most"
    return f"{bound} {_value(each.get('limit'), each.get('unit', ''))}"


def _short(value: float | None, unit: str) -> str:
    return _value(value, unit).replace(" records/s", "/s")


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "s":
        return show.age(value)
    return share(value) if unit == "share" else f"{show.figure(value)} {unit}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}×"


def _yes_no(value: bool | None) -> str | None:
    return None if value is None else ("yes" if value else "no")
