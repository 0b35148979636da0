"""`swing`: adaptive groups against fixed ones, at a rate that swings tenfold.

Rules: every setting gets the same schedule, on a daemon of its own that is made for each run, and
they take turns, repeat by repeat. The rate is found first: the top of the swing is `--load` of what
this machine takes with the adaptive setting, so that nobody is judged under overload. Only settings
that kept up are compared, since latency under less throughput is another question; p99 decides. A
setting is ahead where its median is lower, and clearly so where the ranges of the repeats do not
touch; the sentences say which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from streamer import setting
from streamer_tools.bench import search
from streamer_tools.bench.contract import Benchmark, Case, Measurement, Workbench
from streamer_tools.bench.noise import OTHER_CORES
from streamer_tools.bench.workloads.swinging import LOAD, SwingLoad, open_load, warm

ADAPTIVE = "adaptive"
#: A setting kept up if it took at least this share of what came due.
_KEPT_UP = 0.99
#: How long each rate is tried while the top is looked for, and the rate to begin with.
_TRIAL_S = 2.0
_FIRST_RATE = 1000.0
#: What is late by more than this at the end of a trial was not kept up with.
_BEHIND_S = 0.1
#: ... and what is slower than this queues: the machine does not take so much.
_P99_MAX_S = 0.025


@attrs.frozen
class SwingSettings:
    """Settings of `swing`."""

    seconds: float = setting(12.0, "how long records come due in a run", unit="s", min=0.1)
    top: float = setting(
        0.0, "the highest rate; 0: --load of what is found to be possible", unit="records/s", min=0
    )
    load: float = setting(
        0.75, "share of what the machine takes that the highest rate is", min=0.05, max=1.0
    )
    swing: float = setting(10.0, "how many times the lowest rate the highest is", min=1.0)
    period_s: float = setting(4.0, "from one low to the next", unit="s", min=0.01)
    shape: Literal["sine", "square"] = setting(
        "sine", "how the rate goes: evenly in its logarithm, or by steps"
    )
    clients: int = setting(16, "connections", min=1)
    sizes: tuple[int, ...] = setting(
        (1, 8, 64, 512, 4096), "fixed sizes of groups to compare with", min=1, max=65_536
    )
    lingers_s: tuple[float, ...] = setting(
        (0.001, 0.005, 0.02), "waits for company of the fixed ones", unit="s", min=0.0, max=10.0
    )
    value_bytes: int = setting(
        100, "bytes of a value, or as near as a JSON line can be", unit="bytes", min=1
    )
    seed: int = setting(0, "of the values and the schedule")


def config_of(size: int | None, linger_s: float | None) -> str:
    """The daemon's configuration for groups of a fixed size, or for adaptive ones with None."""
    lines = ["[[pipelines]]", "[pipelines.ingest]"]
    if size is not None:
        lines += [f"records_min = {size}", f"records_max = {size}"]
    if linger_s is not None:
        lines.append(f"linger_s = {linger_s!r}")
    return "\n".join(lines) + "\n"


def fixed_cases(settings: SwingSettings, load: SwingLoad) -> Iterator[Case]:
    """A case for each fixed size and wait; a group of one waits for nobody."""
    for size in settings.sizes:
        if size == 1:
            yield Case("fixed 1", load, config_of(1, None))
            continue
        for linger_s in settings.lingers_s:
            name = f"fixed {size}, {linger_s * 1e3:g} ms"
            yield Case(name, load, config_of(size, linger_s))


def plan(settings: SwingSettings, workbench: Workbench) -> Sequence[Case]:
    """The adaptive setting and all fixed ones, under one load; finds its rate if none is given."""
    adaptive = config_of(None, None)
    load = SwingLoad(
        seconds=settings.seconds,
        swing=settings.swing,
        period_s=settings.period_s,
        shape=settings.shape,
        clients=settings.clients,
        value_bytes=settings.value_bytes,
        seed=settings.seed,
    )
    top = settings.top
    if not top:
        most = find_most(load, adaptive, workbench)
        top = most * settings.load
        workbench.say(
            f"swing: this machine takes about {most:,.0f} records/s, so the rate goes from "
            f"{top / settings.swing:,.0f} to {top:,.0f}"
        )
    load = attrs.evolve(load, rate=top / settings.swing)
    return [Case(ADAPTIVE, load, adaptive), *fixed_cases(settings, load)]


def find_most(load: SwingLoad, config: str, workbench: Workbench) -> float:
    """The highest steady rate that the machine keeps up with, within about 6 %."""

    def keeps_up(rate: float) -> bool:
        steady = attrs.evolve(load, rate=rate, swing=1.0, seconds=_TRIAL_S)
        found = workbench.measure(LOAD, Case("trial", steady, config))
        assert isinstance(found, Measurement)
        good = _kept_up(found)
        workbench.say(f"swing: {rate:,.0f} records/s: {'kept up' if good else 'too much'}")
        return good

    return search.highest(keeps_up, _FIRST_RATE)


def _kept_up(found: Measurement) -> bool:
    latencies = sorted(found.latencies_s)
    behind = found.seconds - max(found.at_s, default=0.0)
    return behind < _BEHIND_S and latencies[int(len(latencies) * 0.99)] < _P99_MAX_S


def conclude(document: Mapping[str, Any]) -> dict[str, Any]:
    """Who was ahead on p99 at equal throughput."""
    cases = document.get("cases") or []
    if not cases:
        return {}
    adaptive, *fixed = cases
    offered = adaptive["median"]["records_per_s"]
    equal = [c for c in fixed if c["median"]["records_per_s"] >= _KEPT_UP * offered]
    slower = [c for c in fixed if c not in equal]
    own = _p99(adaptive)
    ahead = sorted((c for c in equal if _p99(c) < own), key=_p99)
    lines = [_verdict(adaptive, equal, ahead), *_busy(document)]
    lines += [_behind(adaptive, case) for case in ahead]
    if slower:
        names = ", ".join(case["name"] for case in slower)
        lines.append(f"Did not reach that throughput, and so are not compared: {names}.")
    return {"conclusion": lines}


def _p99(case: Mapping[str, Any]) -> float:
    value: float = case["median"]["latency_ms"]["p99"]
    return value


def _verdict(
    adaptive: Mapping[str, Any], equal: Sequence[Mapping[str, Any]], ahead: Sequence[Any]
) -> str:
    own = _p99(adaptive)
    rate = adaptive["median"]["records_per_s"]
    if not equal:
        return f"No fixed setting reached the {rate:,.0f} records/s of the adaptive one."
    clear = [case for case in ahead if _apart(adaptive, case)]
    if clear:
        return (
            f"The adaptive setting (p99 {own:.3g} ms) loses to {len(clear)} of {len(equal)} fixed "
            f"ones on p99 at equal throughput ({rate:,.0f} records/s), beyond the noise."
        )
    if ahead:
        return (
            f"The adaptive setting (p99 {own:.3g} ms) is level with the best fixed ones on p99 at "
            f"equal throughput ({rate:,.0f} records/s): {len(ahead)} of {len(equal)} have less, "
            "within the noise."
        )
    best = min(equal, key=_p99)
    return (
        f"The adaptive setting (p99 {own:.3g} ms) beats every fixed one on p99 at equal throughput "
        f"({rate:,.0f} records/s); the nearest is {best['name']} with {_p99(best):.3g} ms, "
        f"{_clearly(adaptive, best)}."
    )


def _behind(adaptive: Mapping[str, Any], case: Mapping[str, Any]) -> str:
    own, other = _p99(adaptive), _p99(case)
    return (
        f"{case['name']} has {other:.3g} ms, {1 - other / own:.1%} less, "
        f"{_clearly(adaptive, case)}."
    )


def _busy(document: Mapping[str, Any]) -> Iterator[str]:
    other = document["noise"]["other_cpu_cores"]
    if other is not None and other >= OTHER_CORES:
        cores = document["noise"]["cpus"]
        yield (
            f"Other programs used {other:.2g} of {cores} cores meanwhile, which is enough to "
            "decide it: run it again on a quiet machine."
        )


def _clearly(adaptive: Mapping[str, Any], case: Mapping[str, Any]) -> str:
    """Whether the repeats of the two lie apart, and in how many the adaptive one was lower."""
    pairs = list(zip(_p99s(adaptive), _p99s(case), strict=True))
    if len(pairs) == 1:
        return "which one repeat cannot tell from noise"
    lower = sum(mine < theirs for mine, theirs in pairs)
    count = f"adaptive lower in {lower} of {len(pairs)} repeats"
    return f"{'beyond' if _apart(adaptive, case) else 'within'} the noise ({count})"


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the ranges of the repeats do not touch; one repeat has no range."""
    mine, theirs = _p99s(one), _p99s(other)
    return len(mine) > 1 and (max(mine) < min(theirs) or max(theirs) < min(mine))


def _p99s(case: Mapping[str, Any]) -> list[float]:
    return [run["latency_ms"]["p99"] for run in case["repeats"]]


BENCHMARK = Benchmark(
    "swing",
    "A rate that swings tenfold: adaptive groups against fixed ones.",
    SwingSettings,
    open_load,
    warm=warm,
    plan=plan,
    conclude=conclude,
    own_configs=True,
)
