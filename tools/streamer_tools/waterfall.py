"""A trace as text: a row a place, its waits and its work as bars on one scale of time.

Rules: the pipeline has a scale of its own, from taking the append in to its answer, and what
readers and groups did with the record another one, from the answer on: seconds of handling would
hide microseconds of stages. Whatever took any time has a bar, of at least one column. A key that
another daemon does not tell is shown as `-`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from streamer_tools import show
from streamer_tools.printing import cut

#: Queueing (or waiting for a group), and service (or handling).
BLOCKS = "\u2591\u2588"
ASCII = ".#"

#: Narrower than that, names go without their pipeline.
_NARROW = 60
_NAME_MAX = 30
_FIGURE = 9
_BAR_MIN = 4
_WAITS = frozenset({"queueing", "delivery", "read"})
_LATER = frozenset({"delivery", "handling", "read"})

Doc = Mapping[str, Any]
Span = Mapping[str, Any]


@attrs.define
class Row:
    """What one place did: times are seconds since the trace began."""

    name: str
    waits: tuple[float, float] | None = None
    works: tuple[float, float] | None = None
    #: What became of it, for groups.
    outcome: str = ""

    def length(self, part: tuple[float, float] | None) -> str:
        """How long a part took, or `-`."""
        return "-" if part is None else length(part[1] - part[0])


def length(seconds: float) -> str:
    """`34 us`, `12.5 ms`, `3.41 s`, `5 min`: three digits where that says more."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{show.figure(round(seconds * 1e3, 3))} ms"
    return f"{seconds:.2f} s" if seconds < 10 else show.age(seconds)


def waterfall(doc: Doc, width: int, signs: str = BLOCKS) -> list[str]:
    """The lines for one trace (a TraceDoc), none longer than `width`: all that is known of it."""
    later = _readers(doc, width, signs)
    lines = _pipeline(doc, width, signs) + ([""] if later else []) + later
    return _fitted(lines, width)


def pipeline(doc: Doc, width: int, signs: str = BLOCKS) -> list[str]:
    """The same up to the answer."""
    return _fitted(_pipeline(doc, width, signs), width)


def readers(doc: Doc, width: int, signs: str = BLOCKS) -> list[str]:
    """The same from the answer on; nothing where nobody has read the record."""
    lines = _readers(doc, width, signs)
    return _fitted([place(doc), *lines], width) if lines else []


def _fitted(lines: Iterable[str], width: int) -> list[str]:
    return [cut(show.escaped(line).rstrip(), width) for line in lines]


def _pipeline(doc: Doc, width: int, signs: str) -> list[str]:
    rows, total_s = _pipeline_rows(doc, width), doc.get("total_s") or 0.0
    titles = f"{signs[0]}queueing", f"{signs[1]}service"
    table = _table(rows, titles, (0.0, _end(rows, total_s)), width, signs)
    return [*_head(doc), "", *table, _longest(rows, total_s)]


def _readers(doc: Doc, width: int, signs: str) -> list[str]:
    rows, total_s = _later_rows(doc, width), doc.get("total_s") or 0.0
    if not rows:
        return []
    begin = min([total_s, *(part[0] for row in rows for part in _parts(row))])
    titles = f"{signs[0]}waiting", f"{signs[1]}handling"
    table = _table(rows, titles, (begin, _end(rows, begin)), width, signs)
    lines = [f"after {length(begin)}, by its readers:", *table]
    if doc.get("spans_dropped"):
        lines.append(f"{doc['spans_dropped']} spans more than a trace holds")
    return lines


def place(doc: Doc) -> str:
    """Stream, partition and offset, as far as they are known."""
    text = str(doc.get("stream") or "-")
    if doc.get("partition") is not None:
        text += f"/{doc['partition']}"
    if doc.get("offset") is not None:
        text += f"@{doc['offset']}"
    return text


def longest(doc: Doc) -> str:
    """Which part of the pipeline took longest, in few words."""
    best = _best(_pipeline_rows(doc, _NARROW))
    return "-" if best is None else f"{best[0]} {best[1]}"


def _head(doc: Doc) -> Iterable[str]:
    records, total_s = doc.get("records") or 0, doc.get("total_s")
    took = "-" if total_s is None else length(total_s)
    yield f"{place(doc)}  {doc.get('outcome') or '-'} in {took}"
    if doc.get("error"):
        yield str(doc["error"])
    what = f"{records:,} record{'' if records == 1 else 's'}, {show.size(doc.get('bytes') or 0)}"
    at = f", {show.clock(doc['began_us'])} UTC" if doc.get("began_us") is not None else ""
    yield f"{what}{at}"
    if doc.get("session"):
        yield f"from {doc['session']}"
    yield f"trace {doc.get('trace_id') or '-'}"
    if doc.get("parent_id"):
        yield f"under {doc['parent_id']}"


def _pipeline_rows(doc: Doc, width: int) -> list[Row]:
    rows: dict[str, Row] = {}
    for span in doc.get("spans") or ():
        if span["kind"] not in _LATER:
            name = span["name"]
            short = name.rpartition("/")[2] if width < _NARROW else name
            _take(rows.setdefault(name, Row(short)), span)
    return sorted(rows.values(), key=lambda row: min(part[0] for part in _parts(row)))


def _later_rows(doc: Doc, width: int) -> list[Row]:
    """One for each reader, and for each attempt of each group."""
    rows: dict[tuple[str, Any], Row] = {}
    for span in doc.get("spans") or ():
        if span["kind"] not in _LATER:
            continue
        facts = span.get("facts") or {}
        name, attempt = span["name"], facts.get("attempt")
        if span["kind"] == "read":
            attempt = facts.get("reader")
            short = f"read {attempt or ''}".rstrip()
        else:
            short = name.rpartition("/")[2] if width < _NARROW else name
            short += f" #{attempt}" if attempt is not None and attempt > 1 else ""
        row = rows.setdefault((name, attempt), Row(short))
        _take(row, span)
        if span["kind"] != "read":
            row.outcome = facts.get("outcome") or row.outcome or "out"
    return sorted(rows.values(), key=lambda row: min(part[0] for part in _parts(row)))


def _take(row: Row, span: Span) -> None:
    part = float(span["start_s"]), float(span["end_s"])
    if span["kind"] in _WAITS:
        row.waits = part
    else:
        row.works = part


def _parts(row: Row) -> list[tuple[float, float]]:
    return [part for part in (row.waits, row.works) if part is not None]


def _end(rows: Sequence[Row], at_least: float) -> float:
    return max([at_least, *(part[1] for row in rows for part in _parts(row))])


def _table(
    rows: Sequence[Row],
    titles: tuple[str, str],
    scale: tuple[float, float],
    width: int,
    signs: str,
) -> list[str]:
    outcomes = max((len(row.outcome) for row in rows), default=0)
    outcomes += 1 if outcomes else 0
    figures = 2 * (2 + _FIGURE) + 2 + outcomes
    room = max(_BAR_MIN, width - figures - _BAR_MIN)
    names = min(max((len(row.name) for row in rows), default=0), _NAME_MAX, room)
    bar = max(_BAR_MIN, width - figures - names)
    head = f"{'':<{names}}  {titles[0]:>{_FIGURE}}  {titles[1]:>{_FIGURE}}"
    begin, end = length(scale[0]) if scale[0] else "0", length(scale[1])
    if len(begin) + len(end) >= bar:
        begin = ""
    lines = [f"{head}  {begin}{end:>{bar - len(begin)}}"] if rows else []
    for row in rows:
        drawn = _bar(row, scale, bar, signs)
        lines.append(
            f"{cut(row.name, names):<{names}}  {row.length(row.waits):>{_FIGURE}}  "
            f"{row.length(row.works):>{_FIGURE}}  {drawn:<{bar}}"
            + (f" {row.outcome}" if outcomes else "")
        )
    return lines


def _bar(row: Row, scale: tuple[float, float], columns: int, signs: str) -> str:
    begin, end = scale
    cells = [" "] * columns
    for part, sign in ((row.waits, signs[0]), (row.works, signs[1])):
        if part is None:
            continue
        span = max(end - begin, 1e-9)
        first = min(columns - 1, max(0, int((part[0] - begin) / span * columns)))
        last = min(columns, max(first + 1, round((part[1] - begin) / span * columns)))
        cells[first:last] = sign * (last - first)
    return "".join(cells)


def _best(rows: Sequence[Row]) -> tuple[str, str, float] | None:
    found = [
        (row.name, word, part[1] - part[0])
        for row in rows
        for word, part in (("queueing", row.waits), ("service", row.works))
        if part is not None
    ]
    return max(found, key=lambda each: each[2], default=None)


def _longest(rows: Sequence[Row], total_s: float) -> str:
    best = _best(rows)
    if best is None:
        return "it came to no stage"
    share = f" ({best[2] / total_s:.0%})" if total_s else ""
    return f"longest: {best[0]}, {best[1]}, {length(best[2])}{share}"
