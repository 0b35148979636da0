"""How runs become a report: percentiles, medians of repeats, one JSON document.

Rules: times are kept as plain seconds while a run is on (an append to an array costs nothing) and
put into an HDR histogram afterwards. Of repeats the median is reported for each figure by itself,
and the figures of every repeat stand beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from hdrh.histogram import HdrHistogram

#: Histogram in nanoseconds: 1 us to 10 minutes, three digits.
_LOWEST_NS = 1_000
_HIGHEST_NS = 600 * 10**9
_DIGITS = 3
_PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}


@attrs.frozen
class Measurement:
    """One run: how much went through, how long it took, what it cost."""

    records: int
    nbytes: int
    seconds: float
    #: Times of single operations, in seconds; empty where the workload has none.
    latencies_s: Sequence[float] = ()
    client_cpu_s: float | None = None
    daemon_cpu_s: float | None = None
    disk_bytes: int | None = None
    #: Further figures of the workload.
    extra: Mapping[str, float] = attrs.Factory(dict)


def latency_ms(times_s: Iterable[float]) -> dict[str, float] | None:
    """Percentiles in milliseconds; None where nothing was timed."""
    histogram = HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _DIGITS)
    count = 0
    for seconds in times_s:
        histogram.record_value(min(max(int(seconds * 1e9), _LOWEST_NS), _HIGHEST_NS))
        count += 1
    if not count:
        return None
    values = histogram.get_percentile_to_value_dict(list(_PERCENTILES.values()))
    shown = {name: _rounded(values[point] / 1e6) for name, point in _PERCENTILES.items()}
    return shown | {"max": _rounded(histogram.get_max_value() / 1e6)}


def summary(run: Measurement) -> dict[str, Any]:
    """One run's figures."""
    seconds = max(run.seconds, 1e-9)
    found: dict[str, Any] = {
        "records_per_s": _rounded(run.records / seconds),
        "mb_per_s": _rounded(run.nbytes / seconds / 1e6),
        "seconds": _rounded(run.seconds),
        "latency_ms": latency_ms(run.latencies_s),
        "client_cpu_s": _maybe(run.client_cpu_s),
        "daemon_cpu_s": _maybe(run.daemon_cpu_s),
        "disk_bytes_per_record": None if run.disk_bytes is None or not run.records
        else _rounded(run.disk_bytes / run.records),
    }  # fmt: skip
    return found | {name: _rounded(value) for name, value in run.extra.items()}


def median(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the repeats, maps inside included."""
    merged: dict[str, Any] = {}
    for name, first in summaries[0].items():
        column = [one[name] for one in summaries]
        if isinstance(first, Mapping):
            merged[name] = median(column)
        elif any(value is None for value in column):
            merged[name] = None
        else:
            merged[name] = _rounded(statistics.median(column))
    return merged


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures of a run of its own kind, with as many digits as mean something."""
    return {name: _rounded(value) for name, value in figures.items()}


def report(
    workload: str,
    settings: Mapping[str, Any],
    runs: Sequence[Measurement],
    **facts: Any,
) -> dict[str, Any]:
    """The document that `bench` prints: settings, medians, every repeat, and `facts`."""
    summaries = [summary(run) for run in runs]
    return {
        "workload": workload,
        "settings": dict(settings),
        "median": median(summaries),
        "repeats": summaries,
        **facts,
    }


def headline(document: Mapping[str, Any]) -> str:
    """The report in one line, for a person."""
    found = document["median"]
    parts = [f"{found['records_per_s']:,.0f} records/s", f"{found['mb_per_s']:,.1f} MB/s"]
    if "single_records_per_s" in found:
        parts.append(f"{found['single_records_per_s']:,.0f} records/s with an ack a record")
    if found["latency_ms"]:
        times = found["latency_ms"]
        parts.append(f"p50 {times['p50']:.3g} ms, p99 {times['p99']:.3g} ms")
    if found["disk_bytes_per_record"]:
        parts.append(f"{found['disk_bytes_per_record']:.1f} bytes on disk a record")
    return f"{document['workload']}: " + ", ".join(parts)


def _maybe(value: float | None) -> float | None:
    return None if value is None else _rounded(value)


def _rounded(value: float) -> float:
    """Four digits that mean something; the rest is noise."""
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))
