"""The report for people: one page with plots, that asks nobody for anything.

Rules: the page is made of the document alone, so an old file gives its report again. No script and
no request: a policy in its head forbids both. It follows the reader's choice of light or dark, and
its columns become one on a phone. What matters comes first: the conclusion, the figures, the plots;
then the tables, and what speaks against the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from streamer_tools.bench import plots
from streamer_tools.bench.compare import cases, leaves
from streamer_tools.bench.contract import throughput_line
from streamer_tools.bench.plots import Curve, Row
from streamer_tools.bench.svg import short
from streamer_tools.show import figure

#: Curves that are drawn in colours; the rest is faint.
_COLOURS = ("main", "second", "third", "fourth")
#: How many figures of a comparison are drawn, and which are not, as they say the same as another;
#: of several cases these alone. All of them are in its table.
_DRAWN = 14
_NOT_DRAWN = ("seconds", "mb_per_s", "latency_ms.p95", "latency_ms.max")
_DRAWN_OF_CASES = ("records_per_s", "latency_ms.p99")


def render(document: Mapping[str, Any]) -> str:
    """The page as HTML."""
    name = f"streamer bench {document['workload']}"
    style = resources.files("streamer_tools.bench").joinpath("page.css").read_text()
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{style}</style></head><body><main>"
        + "".join(_parts(document, name))
        + "</main></body></html>\n"
    )


def _parts(document: Mapping[str, Any], name: str) -> Iterator[str]:
    began = document.get("began", "")
    version = (document.get("versions") or {}).get("streamer", "")
    yield f"<header><h1>{escape(name)}</h1><p>{escape(began)} · streamer {escape(version)}</p>"
    yield f"<p>{escape(document.get('headline') or throughput_line(document))}</p></header>"
    if document.get("conclusion"):
        yield '<section class="conclusion">' + _paragraphs(document["conclusion"]) + "</section>"
    yield _tiles(document)
    plotted = [*_comparison_plots(document), *_case_plots(document), *_run_plots(document)]
    yield '<div class="plots">' + "".join(plotted) + "</div>"
    yield from _tables(document)
    noise = document.get("noise")
    if noise:
        yield "<section><h2>What speaks against these figures</h2>"
        yield _paragraphs(noise["sentences"])
        flat = {key: value for key, value in noise.items() if key != "sentences"}
        yield _map_table(flat) + "</section>"
    yield '<div class="plots">'
    for title, key in (("Settings", "settings"), ("Machine", "machine"), ("Versions", "versions")):
        if document.get(key):
            yield f"<section><h2>{title}</h2>{_map_table(document[key])}</section>"
    yield "</div>"


# ------------------------------------------------------------------------------------- tiles


def _tiles(document: Mapping[str, Any]) -> str:
    median, spread = document["median"], document.get("spread") or {}
    found = []
    for key, title in (("records_per_s", "records/s"), ("mb_per_s", "MB/s")):
        found.append(_tile(title, median.get(key), spread.get(key)))
    latency, latency_spread = median.get("latency_ms") or {}, spread.get("latency_ms") or {}
    for key in ("p50", "p99", "p99.9"):
        found.append(_tile(f"{key}, ms", latency.get(key), latency_spread.get(key)))
    for key, title in (("client_cpu_s", "client CPU s"), ("daemon_cpu_s", "daemon CPU s")):
        found.append(_tile(title, median.get(key), spread.get(key)))
    if not any(found):
        numbers = list(leaves(median))[:8]
        found = [_tile(key.replace("_", " "), value, None) for key, value in numbers]
    for who, peak in (document.get("peak_rss_bytes") or {}).items():
        found.append(_tile(f"{who} MB", None if peak is None else peak / 1e6, None))
    return '<div class="tiles">' + "".join(found) + "</div>"


def _tile(title: str, value: float | None, spread: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    shown = short(value) if value >= 100_000 else figure(value)
    between = ""
    if spread and spread["max"] > spread["min"]:
        between = f"<small>{short(spread['min'])} to {short(spread['max'])}</small>"
    return f"<div><span>{escape(title)}</span><strong>{shown}</strong>{between}</div>"


# ------------------------------------------------------------------------------------- plots


def _plot(title: str, drawn: str, legend: Sequence[tuple[str, str]] = (), note: str = "") -> str:
    keys = "".join(f'<li class="{class_}">{escape(name)}</li>' for class_, name in legend)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        + (f'<ul class="legend">{keys}</ul>' if keys else "")
        + drawn
        + (f"<p>{escape(note)}</p>" if note else "")
        + "</figure>"
    )


def _comparison_plots(document: Mapping[str, Any]) -> Iterator[str]:
    comparison = document.get("comparison")
    rows = [row for row in (comparison or {}).get("figures", ()) if _is_drawn(row)]
    if not rows:
        return
    if len(rows) > _DRAWN:
        # The farthest from 1.
        rows = sorted(rows, key=lambda row: -max(row["ratio"], 1 / row["ratio"]))[:_DRAWN]
    legend = [("good", "better"), ("bad", "worse"), ("neutral", "within the noise, or not known")]
    title = f"Now against {comparison['file']}" if comparison else ""
    yield _plot(title, plots.ratios(rows, title), legend)


def _is_drawn(row: Mapping[str, Any]) -> bool:
    if not row["ratio"]:
        return False
    return row["figure"] in _DRAWN_OF_CASES if row["case"] else row["figure"] not in _NOT_DRAWN


def _case_plots(document: Mapping[str, Any]) -> Iterator[str]:
    several = document.get("cases")
    if not several:
        return
    timed = [case for case in several if case["median"].get("latency_ms")]
    for percentile in ("p99", "p50") if timed else ():
        rows = [_case_row(case, percentile, number) for number, case in enumerate(timed)]
        title = f"{percentile} of each setting"
        yield _plot(title, plots.ranges(rows, "ms", title), note="The line spans the repeats.")
    rates = [
        Row(case["name"], case["median"]["records_per_s"], class_=_first(number))
        for number, case in enumerate(several)
        if case["median"].get("records_per_s")
    ]
    if rates:
        title = "Throughput of each setting"
        yield _plot(title, plots.bars(rates, "records/s", title))


def _case_row(case: Mapping[str, Any], percentile: str, number: int) -> Row:
    value = case["median"]["latency_ms"][percentile]
    spread = ((case.get("spread") or {}).get("latency_ms") or {}).get(percentile) or {}
    return Row(case["name"], value, spread.get("min"), spread.get("max"), _first(number))


def _first(number: int) -> str:
    return "main" if number == 0 else "neutral"


def _run_plots(document: Mapping[str, Any]) -> Iterator[str]:
    rates = [run.get("records_per_s") for run in document["repeats"]]
    if all(rates) and not document.get("cases"):
        rows = [Row(f"repeat {number + 1}", rate) for number, rate in enumerate(rates)]
        title = "Throughput of each repeat"
        yield _plot(title, plots.bars(rows, "records/s", title))
    curves = _distributions(document)
    if curves:
        legend = [(curve.class_, curve.name) for curve in curves if curve.class_ != "faint"]
        if len(legend) < len(curves):
            legend.append(("faint", "the others"))
        title = "Latency by percentile, of all repeats"
        yield _plot(title, plots.percentiles(curves, title), legend if len(curves) > 1 else ())
    yield from _timelines(document)


def _distributions(document: Mapping[str, Any]) -> list[Curve]:
    """The curve of each case: the first and the next best in colours, the rest faint."""
    timed = [case for case in cases(document) if case.get("distribution")]
    first = timed[:1]
    rest = sorted(timed[1:], key=lambda case: case["median"]["latency_ms"]["p99"])
    ordered = first + rest
    classes = [*_COLOURS, *["faint"] * len(ordered)]
    curves = [
        Curve(case["name"] or "all repeats", [tuple(p) for p in case["distribution"]], class_)
        for case, class_ in zip(ordered, classes, strict=False)
    ]
    # The faint ones below the others.
    return sorted(curves, key=lambda curve: curve.class_ != "faint")


def _timelines(document: Mapping[str, Any]) -> Iterator[str]:
    lines = document.get("timelines")
    if not lines:
        return
    # The repeat whose p99 is in the middle stands for all.
    order = sorted(range(len(lines)), key=lambda n: document["repeats"][n]["latency_ms"]["p99"])
    chosen = order[len(order) // 2]
    shown = lines[chosen]
    step = shown["step_s"]
    seconds = step * len(shown["records_per_s"])
    of = f"repeat {chosen + 1}"
    if document.get("cases"):
        of = f"{document['cases'][0]['name']}, {of}"

    def points(key: str) -> list[tuple[float, float] | None]:
        return [
            None if value is None else ((number + 0.5) * step, value)
            for number, value in enumerate(shown[key])
        ]

    title = f"Throughput over time ({of})"
    rate = [Curve("records/s", points("records_per_s"), "main")]
    yield _plot(title, plots.over_time(rate, "records/s", title, log=False, seconds=seconds))
    title = f"Latency over time ({of})"
    curves = [Curve("p50", points("p50_ms"), "main"), Curve("p99", points("p99_ms"), "second")]
    legend = [("main", "p50"), ("second", "p99")]
    yield _plot(title, plots.over_time(curves, "ms", title, log=True, seconds=seconds), legend)


# ------------------------------------------------------------------------------------- tables


def _tables(document: Mapping[str, Any]) -> Iterator[str]:
    several = document.get("cases")
    if several:
        from streamer_tools.bench.telling import CASE_COLUMNS, case_row

        head = [column.title for column in CASE_COLUMNS]
        rows = [[case_row(case).get(c.key) for c in CASE_COLUMNS] for case in several]
        yield f"<section><h2>Settings compared</h2>{_table(head, rows)}</section>"
    comparison = document.get("comparison")
    if comparison:
        yield f"<section><h2>Against {escape(comparison['file'])}</h2>"
        yield _paragraphs(comparison["notes"])
        keys = ("case", "figure", "before", "now", "ratio", "says")
        used = [
            key for key in keys if any(row[key] not in ("", None) for row in comparison["figures"])
        ]
        rows = [[row[key] for key in used] for row in comparison["figures"]]
        yield _table(used, rows) + "</section>"
    name = several[0]["name"] if several else "Figures"
    yield f"<section><h2>{escape(name[:1].upper() + name[1:])}</h2>{_figures(document)}</section>"


def _figures(document: Mapping[str, Any]) -> str:
    spread = dict(leaves(document.get("spread") or {}))
    count = len(document["repeats"])
    head = ["figure", "median", "smallest", "largest", "MAD"]
    head += [f"repeat {number + 1}" for number in range(count)] if count <= 5 else []
    repeats = [dict(leaves(run)) for run in document["repeats"]]
    rows: list[list[Any]] = []
    for name, value in leaves(document["median"]):
        row = [name, value, *(spread.get(f"{name}.{key}") for key in ("min", "max", "mad"))]
        rows.append(row + ([run.get(name) for run in repeats] if count <= 5 else []))
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number">{figure(value)}</td>'
    return f"<td>{escape('-' if value is None else str(value))}</td>"


def _map_table(flat: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(key).replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for key, value in flat.items()
    )
    return f'<div class="scroll"><table class="map"><tbody>{rows}</tbody></table></div>'


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
