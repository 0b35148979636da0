"""What else the machine did while we measured, and what we cannot know about it.

Rules: figures come from `/proc` before and after each run and are sums over all runs, warm-ups
left out; where the system does not tell, a figure is None and its sentence says so. The sentences
are for a person who is about to believe a figure: they name what speaks against it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from streamer_tools.bench.process import cpu_seconds

#: Above these a sentence warns: cores that others used, stolen time, spread of repeats.
OTHER_CORES = 0.2
_STEAL_SHARE = 0.01
_SPREAD_SHARE = 0.05
#: Shorter runs are shaped by chance.
_SHORT_S = 0.5
_ALWAYS = (
    "Not known: the processor's clock frequency, what shares its caches and memory bus, and what "
    "else uses the disk. A host that takes time from this machine shows as steal only if it says "
    "so."
)


@attrs.frozen
class Stat:
    """The first line of /proc/stat, in seconds of CPU since the system started."""

    busy_s: float
    steal_s: float
    total_s: float

    def __sub__(self, other: Stat) -> Stat:
        return Stat(
            self.busy_s - other.busy_s, self.steal_s - other.steal_s, self.total_s - other.total_s
        )


def parse_stat(text: str, ticks_per_s: int) -> Stat | None:
    """Reads /proc/stat; None for what is none."""
    first = text.partition("\n")[0].split()
    if first[:1] != ["cpu"] or len(first) < 9:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, first[1:9])
    busy = user + nice + system + irq + softirq
    total = busy + idle + iowait + steal
    return Stat(busy / ticks_per_s, steal / ticks_per_s, total / ticks_per_s)


def read_stat() -> Stat | None:
    """The machine's CPU time so far; None where the system does not tell."""
    try:
        return parse_stat(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))
    except OSError:
        return None


@attrs.define
class Seen:
    """What the machine did during one run; None where the system does not tell."""

    seconds: float = 0.0
    client_cpu_s: float = 0.0
    daemon_cpu_s: float = 0.0
    steal_s: float | None = None
    other_cpu_s: float | None = None
    total_cpu_s: float = 0.0

    @property
    def other_cores(self) -> float | None:
        """Cores that other programs used on average."""
        return None if self.other_cpu_s is None else self.other_cpu_s / max(self.seconds, 1e-9)


@contextmanager
def watching(daemon_pid: int | None) -> Iterator[Seen]:
    """Looks at the machine for the block; what it yields is filled in at the end."""
    seen = Seen()
    stat, client, daemon = read_stat(), _own_cpu_s(), cpu_seconds(daemon_pid)
    begin = time.perf_counter()
    yield seen
    seen.seconds = time.perf_counter() - begin
    seen.client_cpu_s = _own_cpu_s() - client
    after, then = cpu_seconds(daemon_pid), read_stat()
    if daemon is not None and after is not None:
        seen.daemon_cpu_s = after - daemon
    if stat is not None and then is not None:
        found = then - stat
        seen.steal_s, seen.total_cpu_s = found.steal_s, found.total_s
        seen.other_cpu_s = max(0.0, found.busy_s - seen.client_cpu_s - seen.daemon_cpu_s)


@attrs.define
class Noise:
    """Collects over the runs of a benchmark."""

    seconds: float = 0.0
    client_cpu_s: float = 0.0
    daemon_cpu_s: float = 0.0
    steal_s: float | None = 0.0
    other_cpu_s: float | None = 0.0
    total_cpu_s: float = 0.0
    #: Runs that were made again, since others disturbed them.
    dropped: int = 0
    #: Whether client and daemon may run on the same cores; None before a daemon was seen.
    shared_cores: bool | None = None
    load_before: float = attrs.Factory(lambda: round(os.getloadavg()[0], 2))

    def add(self, seen: Seen, daemon_pid: int | None) -> None:
        """Counts one run; its daemon still runs."""
        self.seconds += seen.seconds
        self.client_cpu_s += seen.client_cpu_s
        self.daemon_cpu_s += seen.daemon_cpu_s
        self.total_cpu_s += seen.total_cpu_s
        self.steal_s = _sum(self.steal_s, seen.steal_s)
        self.other_cpu_s = _sum(self.other_cpu_s, seen.other_cpu_s)
        self._note_cores(daemon_pid)

    def _note_cores(self, daemon_pid: int | None) -> None:
        if daemon_pid is None or not hasattr(os, "sched_getaffinity"):
            return
        try:
            theirs = os.sched_getaffinity(daemon_pid)
        except OSError:
            return
        self.shared_cores = bool(theirs & os.sched_getaffinity(0))

    def document(
        self, cases: Sequence[Mapping[str, Any]], *, daemon: bool = True
    ) -> dict[str, Any]:
        """The section `noise` of a report; `cases` have a `spread` and a `median` each, and
        `daemon` says whether there was one."""
        seconds = max(self.seconds, 1e-9)
        found: dict[str, Any] = {
            "load_average": {"before": self.load_before, "after": round(os.getloadavg()[0], 2)},
            "cpus": cpus(),
            "seconds": round(self.seconds, 3),
            "client_cpu_cores": round(self.client_cpu_s / seconds, 3),
            "daemon_cpu_cores": round(self.daemon_cpu_s / seconds, 3),
            "other_cpu_cores": None if self.other_cpu_s is None
            else round(self.other_cpu_s / seconds, 3),
            "steal_share": None if self.steal_s is None
            else round(self.steal_s / max(self.total_cpu_s, 1e-9), 5),
            "dropped_runs": self.dropped,
            "shared_cores": self.shared_cores,
            "spread_share": _widest(cases),
            "shortest_run_s": _shortest(cases),
        }  # fmt: skip
        return found | {"sentences": sentences(found, daemon=daemon)}


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def cpus() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _widest(cases: Sequence[Mapping[str, Any]]) -> float | None:
    """The largest (max - min) / median of a rate over the cases; None with a single repeat."""
    shares = [
        (each["max"] - each["min"]) / case["median"][name]
        for case in cases
        if len(case["repeats"]) > 1
        for name, each in case["spread"].items()
        if name.endswith("_per_s") and each and case["median"][name]
    ]
    return round(max(shares), 4) if shares else None


def _shortest(cases: Sequence[Mapping[str, Any]]) -> float | None:
    """The shortest timed part of a run; None where none says how long it took."""
    known = [run["seconds"] for case in cases for run in case["repeats"] if "seconds" in run]
    return min(known, default=None)


def sentences(found: Mapping[str, Any], *, daemon: bool = True) -> list[str]:
    """What a person should know before believing the figures."""
    cores = [_about_cores(found)] if daemon else []
    return [*_about_others(found), *_about_repeats(found), *cores, _ALWAYS]


def _about_others(found: Mapping[str, Any]) -> Iterator[str]:
    other, steal = found["other_cpu_cores"], found["steal_share"]
    if other is None:
        yield "Not known: what other programs did; the system has no /proc/stat."
        return
    cores = found["cpus"]
    if other >= OTHER_CORES:
        yield (
            f"Other programs used {other:.2g} of {cores} cores meanwhile (the kernel's own work "
            "for us is part of that): on a quiet machine the figures are better."
        )
    else:
        yield f"Other programs used {other:.2g} of {cores} cores meanwhile, which is little."
    if steal >= _STEAL_SHARE:
        yield f"The host took {steal:.1%} of the CPU time away (steal): compare with care."
    else:
        yield f"The host took {steal:.1%} of the CPU time away (steal)."


def _about_repeats(found: Mapping[str, Any]) -> Iterator[str]:
    if found.get("dropped_runs"):
        yield f"{found['dropped_runs']} runs were made again, since other programs disturbed them."
    share, shortest = found["spread_share"], found.get("shortest_run_s")
    if shortest is not None and shortest < _SHORT_S:
        yield f"A run took only {shortest:.2g} s: with more --records chance has less to say."
    if share is None:
        yield "One repeat says nothing about spread: use --repeats 3 or more."
    elif share > _SPREAD_SHARE:
        yield f"Rates of the repeats lie {share:.0%} apart: smaller differences mean nothing."
    else:
        yield f"Rates of the repeats lie {share:.1%} apart."


def _about_cores(found: Mapping[str, Any]) -> str:
    match found["shared_cores"]:
        case True:
            return (
                f"Client and daemon share {found['cpus']} cores, so the client's work slows the "
                "daemon down, and a client on another machine would measure higher."
            )
        case False:
            return "Client and daemon run on cores of their own."
    return "Not known: whether the daemon shares cores with the client; it is none of ours."
