"""From a benchmark and its settings to the document: plan, all runs, medians, machine, noise.

Rules: the document of one case has its figures at the top, where they always were; of several, the
first case's stand there, and all of them under `cases`. Keys that mean the same in every benchmark
are made here and nowhere else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from streamer_tools.bench import machine, results
from streamer_tools.bench.contract import Benchmark, Case, Result
from streamer_tools.bench.runner import DEFAULT_TRANSPORT, Bench

_OF_A_CASE = ("name", "settings", "config")
#: The shape of documents; older ones have no such key and fewer keys.
FORMAT = 2


def used_settings(
    benchmark: Benchmark, settings: Any, bench: Bench, repeats: int
) -> dict[str, Any]:
    """What a benchmark is run with, for its document and for comparisons."""
    shown: dict[str, Any] = attrs.asdict(settings) | {"repeats": repeats}
    if not benchmark.daemon:
        return shown
    if bench.url is not None:
        from streamer.addresses import parse

        return shown | {"url": bench.url, "transport": parse(bench.url).scheme}
    return shown | {
        "transport": bench.transport or DEFAULT_TRANSPORT,
        "config": bench.config,
        "directory": None if bench.directory is None else str(bench.directory),
    }


def measure(benchmark: Benchmark, settings: Any, bench: Bench, repeats: int) -> dict[str, Any]:
    """Run a benchmark as often as asked; its document.

    Raises:
        ConnectionFailed: no daemon answers at the URL that was given.
        Told: a daemon of its own did not start.
    """
    began = datetime.now(UTC).isoformat(timespec="seconds")
    facts = machine.facts(bench.directory or Path(tempfile.gettempdir()))
    cases = benchmark.plan(settings, bench)
    assert cases, "a plan has at least one case"
    runs: dict[str, list[Result]] = {case.name: [] for case in cases}
    assert len(runs) == len(cases), "cases have names of their own"
    with closing(bench.measure_all(benchmark, cases, repeats)) as all_runs:
        for case, number, run in all_runs:
            runs[case.name].append(run)
            bench.say(_progress(benchmark, case, number, repeats, run))
    shown = [_case(case, runs[case.name]) for case in cases]
    document = {
        "workload": benchmark.name,
        "format": FORMAT,
        "began": began,
        "settings": used_settings(benchmark, settings, bench, repeats),
        **{key: value for key, value in shown[0].items() if key not in _OF_A_CASE},
        **_peaks(shown),
        "machine": facts,
        "versions": machine.versions(),
        "noise": bench.noise.document(shown, daemon=benchmark.daemon),
    }
    if len(cases) > 1:
        document["cases"] = shown
    document |= benchmark.conclude(document)
    return document | {"headline": benchmark.headline(document)}


def _case(case: Case, runs: list[Result]) -> dict[str, Any]:
    own = {"name": case.name, "settings": attrs.asdict(case.settings), "config": case.config}
    return own | results.figures(runs)


def _peaks(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The most memory of each process in any run; {} where no run says."""
    found = {}
    for name in ("client", "daemon"):
        key = f"{name}_peak_rss_bytes"
        known = [run[key] for case in cases for run in case["repeats"] if run.get(key)]
        measured = any(key in run for case in cases for run in case["repeats"])
        if measured:
            found[name] = max(known, default=None)
    return {"peak_rss_bytes": found} if found else {}


def _progress(benchmark: Benchmark, case: Case, number: int, repeats: int, run: Result) -> str:
    name = f"{benchmark.name} {case.name}".rstrip()
    shown = results.summary(run)
    parts = []
    if "records_per_s" in shown:
        parts.append(f"{shown['records_per_s']:,.0f} records/s")
    latency = shown.get("latency_ms")
    if isinstance(latency, Mapping):
        parts.append(f"p99 {latency['p99']:.3g} ms")
    return f"{name} {number + 1}/{repeats}" + (": " + ", ".join(parts) if parts else "")
