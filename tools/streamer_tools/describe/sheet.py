"""How a description looks: lines of a name and what is to say, under titles, and tables.

Rules: a document is collected first, whole, and is what `--json` gives; the sheet is made of it. A
figure that an older daemon does not tell is `-`. On a narrow terminal what does not fit on a line
goes to the next one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import click

from streamer_tools import show
from streamer_tools.exits import Exit, Told
from streamer_tools.printing import line_width, print_rows

_NEAR_MAX = 3
_SHOWN_MAX = 10
#: A longer value stands out into the notes, rather than moving all of them.
_VALUE_MAX = 32


@attrs.frozen
class Fact:
    """One line: `note` says where the value is from, or what it means."""

    name: str
    value: str
    note: str = ""


@attrs.define
class Part:
    """A title, and facts or a table under it."""

    title: str
    facts: Sequence[Fact] = ()
    columns: Sequence[show.Column] = ()
    rows: Sequence[Mapping[str, Any]] = ()


def print_parts(parts: Iterable[Part]) -> None:
    """Put a sheet on standard output; parts with nothing in them are left out."""
    first = True
    for part in parts:
        if not part.facts and not part.rows:
            continue
        if not first:
            click.echo()
        first = False
        click.echo(show.escaped(part.title))
        for line in fact_lines(part.facts, line_width()):
            click.echo(line)
        if part.rows:
            print_rows(part.columns, part.rows)


def fact_lines(facts: Sequence[Fact], width: int | None) -> Iterator[str]:
    """The facts in columns; where a note does not fit into `width`, it is on a line of its own."""
    names = max((len(fact.name) for fact in facts), default=0)
    lengths = [len(fact.value) for fact in facts if fact.note]
    values = max((length for length in lengths if length <= _VALUE_MAX), default=0)
    for fact in facts:
        name, value, note = map(show.escaped, (fact.name, fact.value, fact.note))
        line = f"  {name:<{names}}  {value}"
        if note:
            whole = f"  {name:<{names}}  {value:<{values}}  {note}"
            if width is not None and len(whole) > width:
                yield line
                line = f"      {note}"
            else:
                line = whole
        yield line.rstrip()


def fact(name: str, value: Any, note: str = "") -> Fact:
    """A fact of a value as it is; `-` for none."""
    if value is None or value == "" or value == []:
        return Fact(name, "-", note)
    if isinstance(value, bool):
        return Fact(name, "yes" if value else "no", note)
    if isinstance(value, list | tuple):
        return Fact(name, ", ".join(map(str, value)), note)
    if isinstance(value, int | float):
        return Fact(name, show.figure(value), note)
    return Fact(name, str(value), note)


def latency(found: Mapping[str, Any] | None) -> str:
    """A LatencyDoc in a few words."""
    if not found or not found.get("count"):
        return "-"
    parts = [
        f"{name} {show.took(found.get(key))}"
        for name, key in (("p50", "p50_s"), ("p95", "p95_s"), ("p99", "p99_s"), ("p99.9", "p999_s"))
    ]
    return f"{', '.join(parts)}, max {show.took(found.get('max_s'))} (of {found['count']:,})"


def unknown(kind: str, name: str, known: Iterable[str]) -> Told:
    """The error for a name that is none: the near ones are named, or a few if none is near."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=_NEAR_MAX, cutoff=0.5)
    near = near or [each for each in names if name.lower() in each.lower()][:_NEAR_MAX]
    if near:
        hint = f"near are: {', '.join(near)}"
    elif names:
        more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
        hint = f"there are: {', '.join(names[:_SHOWN_MAX])}{more}"
    else:
        hint = "there are none"
    return Told(Exit.FAILED, f"there is no {kind} {name!r}; {hint}")
