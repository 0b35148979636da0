"""How runs become a report: percentiles, medians of repeats with their spread, one JSON document.

Rules: times are kept as plain seconds while a run is on (an append to an array costs nothing) and
put into an HDR histogram afterwards. Of repeats the median is reported for each figure by itself,
with the smallest, the largest and the median absolute deviation beside it, and the figures of
every repeat. A document only ever gains keys: what an older one has, a newer one has in the same
place.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

from streamer_tools.bench.contract import Measurement, Result

#: Histogram in nanoseconds: 1 us to 10 minutes, three digits.
_LOWEST_NS = 1_000
_HIGHEST_NS = 600 * 10**9
_DIGITS = 3
_PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
#: Points of a distribution: so many for each halving of what lies above.
_POINTS_A_HALVING = 4
#: Parts of a time line: at most so many, and at least so many operations in each.
_TIMELINE_STEPS = 60
_OPERATIONS_A_STEP = 30


def histogram(times_s: Iterable[float]) -> HdrHistogram:
    """Times in seconds as a histogram in nanoseconds; what lies outside is kept at its ends."""
    found = HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _DIGITS)
    for seconds in times_s:
        found.record_value(min(max(int(seconds * 1e9), _LOWEST_NS), _HIGHEST_NS))
    return found


def percentiles_ms(found: HdrHistogram) -> dict[str, float] | None:
    """Percentiles of a histogram in milliseconds; None where nothing was timed."""
    if not found.get_total_count():
        return None
    values = found.get_percentile_to_value_dict(list(_PERCENTILES.values()))
    shown = {name: round_figure(values[point] / 1e6) for name, point in _PERCENTILES.items()}
    return shown | {"max": round_figure(found.get_max_value() / 1e6)}


def latency_ms(times_s: Iterable[float]) -> dict[str, float] | None:
    """Percentiles in milliseconds; None where nothing was timed."""
    return percentiles_ms(histogram(times_s))


def distribution(found: HdrHistogram) -> list[list[float]]:
    """Points (share of operations, milliseconds) up to the slowest: 0, then closer and closer to
    1, so that a plot over 1/(1-p) is even; [] where nothing was timed."""
    count = found.get_total_count()
    points, above, shares = [], 1.0, [0.0]
    while above * count > 1:
        above *= 0.5 ** (1 / _POINTS_A_HALVING)
        shares.append(1 - above)
    for share in shares if count else []:
        value = found.get_value_at_percentile(100 * share)
        points.append([round(share, 7), round_figure(value / 1e6)])
    return points


def timeline(run: Measurement) -> dict[str, Any] | None:
    """Throughput and latency over a run's time, in steps; None where it has none.

    A step in which nothing ended has None for its latencies.
    """
    if not run.at_s or len(run.at_s) != len(run.latencies_s):
        return None
    end = max(run.seconds, *run.at_s) or 1e-9
    count = max(1, min(_TIMELINE_STEPS, len(run.at_s) // _OPERATIONS_A_STEP))
    step_s = end / count
    steps: list[list[float]] = [[] for _ in range(count)]
    for at, latency in zip(run.at_s, run.latencies_s, strict=True):
        steps[min(int(at / step_s), count - 1)].append(latency)
    weight = run.records / len(run.at_s) / step_s
    shown = [latency_ms(each) or {} for each in steps]
    return {
        "step_s": round_figure(step_s),
        "records_per_s": [round_figure(len(each) * weight) for each in steps],
        "p50_ms": [each.get("p50") for each in shown],
        "p99_ms": [each.get("p99") for each in shown],
    }


def summary(run: Result) -> dict[str, Any]:
    """One run's figures."""
    if not isinstance(run, Measurement):
        return rounded(run)
    seconds = max(run.seconds, 1e-9)
    found: dict[str, Any] = {
        "records_per_s": round_figure(run.records / seconds),
        "mb_per_s": round_figure(run.nbytes / seconds / 1e6),
        "seconds": round_figure(run.seconds),
        "latency_ms": latency_ms(run.latencies_s),
        "client_cpu_s": _maybe(run.client_cpu_s),
        "daemon_cpu_s": _maybe(run.daemon_cpu_s),
        "disk_bytes_per_record": None if run.disk_bytes is None or not run.records
        else round_figure(run.disk_bytes / run.records),
        "client_peak_rss_bytes": _maybe(run.client_peak_rss_bytes),
        "daemon_peak_rss_bytes": _maybe(run.daemon_peak_rss_bytes),
    }  # fmt: skip
    return found | {name: round_figure(value) for name, value in run.extra.items()}


def median(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the repeats, maps inside included."""
    return _merged(summaries, lambda column: round_figure(statistics.median(column)))


def spread(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spread of each figure over the repeats, as `median` has them: {min, max, mad}."""
    return _merged(summaries, _spread_of)


def _spread_of(column: Sequence[float]) -> dict[str, float]:
    middle = statistics.median(column)
    deviation = statistics.median([abs(value - middle) for value in column])
    return {"min": min(column), "max": max(column), "mad": round_figure(deviation)}


def _merged(summaries: Sequence[Mapping[str, Any]], merge: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, first in summaries[0].items():
        column = [one.get(name) for one in summaries]
        if any(value is None for value in column):
            merged[name] = None
        elif isinstance(first, Mapping):
            merged[name] = _merged([value for value in column if value is not None], merge)
        else:
            merged[name] = merge(column)
    return merged


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a run of its own kind, with as many digits as mean something."""
    return {
        name: rounded(value) if isinstance(value, Mapping) else round_figure(value)
        for name, value in figures.items()
    }


def figures(runs: Sequence[Result]) -> dict[str, Any]:
    """What is reported of the runs of one case: medians, spread, every repeat, and plots."""
    summaries = [summary(run) for run in runs]
    found: dict[str, Any] = {
        "median": median(summaries),
        "spread": spread(summaries),
        "repeats": summaries,
    }
    timed = [run for run in runs if isinstance(run, Measurement) and len(run.latencies_s)]
    if timed:
        together = histogram(())
        for run in timed:
            together.add(histogram(run.latencies_s))
        found["distribution"] = distribution(together)
        lines = [timeline(run) for run in timed]
        if all(line is not None for line in lines):
            found["timelines"] = lines
    return found


def report(
    workload: str,
    settings: Mapping[str, Any],
    runs: Sequence[Result],
    **facts: Any,
) -> dict[str, Any]:
    """The document that `bench` prints: settings, medians, every repeat, and `facts`."""
    return {"workload": workload, "settings": dict(settings), **figures(runs), **facts}


def _maybe(value: float | None) -> float | None:
    return None if value is None else round_figure(value)


def round_figure(value: float) -> float:
    """Four digits that mean something; the rest is noise."""
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))
