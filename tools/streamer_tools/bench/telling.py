"""A document as lines for a person: the headline, the spread, tables, what speaks against it.

Rules: nothing is computed here that the document does not say; so the same lines come from a file
that was written long ago.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamer_tools.bench.compare import cases
from streamer_tools.bench.contract import throughput_line
from streamer_tools.show import Column, escaped, figure

CASE_COLUMNS = (
    Column("setting", "name"),
    Column("records/s", "records_per_s"),
    Column("p50 ms", "p50"),
    Column("p99 ms", "p99"),
    Column("p99.9 ms", "p99.9"),
    Column("p99 of repeats", "p99_range"),
    Column("daemon CPU s", "daemon_cpu_s"),
    Column("client CPU s", "client_cpu_s"),
)
_COMPARISON_COLUMNS = (
    Column("case", "case"),
    Column("figure", "figure"),
    Column("before", "before"),
    Column("now", "now"),
    Column("ratio", "ratio"),
    Column("says", "says"),
)


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """All of it, a line after the other."""
    yield document.get("headline") or throughput_line(document)
    spread = spread_line(document)
    if spread:
        yield spread
    if document.get("cases"):
        yield table(CASE_COLUMNS, [case_row(case) for case in cases(document)])
    yield from document.get("conclusion", ())
    yield from comparison_lines(document.get("comparison"))
    noise = document.get("noise")
    if noise:
        yield from (f"noise: {sentence}" for sentence in noise["sentences"])


def table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows in columns, numbers to the right; a column of which no row has anything is left out."""
    used = [c for c in columns if any(row.get(c.key) not in (None, "") for row in rows)]
    numeric = [any(isinstance(row.get(c.key), int | float) for row in rows) for c in used]
    cells = [[c.title for c in used], *([_text(row.get(c.key)) for c in used] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return figure(value) if isinstance(value, int | float) else escaped(str(value))


def case_row(case: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one case for a table of cases."""
    median = case["median"]
    latency = median.get("latency_ms") or {}
    spread = ((case.get("spread") or {}).get("latency_ms") or {}).get("p99")
    return {
        "name": case["name"],
        "records_per_s": median.get("records_per_s"),
        **{name: latency.get(name) for name in ("p50", "p99", "p99.9")},
        "p99_range": f"{spread['min']:.3g} to {spread['max']:.3g}" if spread else None,
        "daemon_cpu_s": median.get("daemon_cpu_s"),
        "client_cpu_s": median.get("client_cpu_s"),
    }


def spread_line(document: Mapping[str, Any]) -> str | None:
    """The spread of the main figures; None for a document without repeats or without spread."""
    spread, count = document.get("spread"), len(document["repeats"])
    if not spread or count < 2:
        return None
    parts = [
        f"{name.removesuffix('_per_s').replace('_', ' ')}/s {_between(each)}"
        for name, each in spread.items()
        if name.endswith("records_per_s") and each
    ]
    latency = spread.get("latency_ms")
    if latency:
        parts += [f"{name} {_between(latency[name])} ms" for name in ("p50", "p99")]
    return f"{count} repeats: " + ", ".join(parts) if parts else None


def _between(each: Mapping[str, float]) -> str:
    return f"{figure(each['min'])} to {figure(each['max'])}"


def comparison_lines(comparison: Mapping[str, Any] | None) -> Iterator[str]:
    """The comparison with an earlier result, if there is one."""
    if comparison is None:
        return
    when = f" of {comparison['began']}" if comparison.get("began") else ""
    yield f"against {comparison['file']}{when}:"
    yield from (f"  {note}" for note in comparison["notes"])
    yield table(_COMPARISON_COLUMNS, comparison["figures"])
