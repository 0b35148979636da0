"""`--against FILE`: a result beside an earlier one, and whether the difference means anything.

Rules: results are compared figure by figure, by their medians. A difference counts where the
ranges (smallest to largest) of the two sets of repeats do not touch; else it is within the noise,
and with one repeat on either side nobody can say. Two results of different workloads, or of
settings that change what is measured, are not compared at all: the refusal names what differs.
Where the machine, the versions or the daemon's configuration differ, that is said and not refused:
it is often what is to be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from streamer.settings import describe
from streamer_tools.exits import Exit, Told

#: Settings that may differ: they do not change what a run is.
_HARMLESS = {"repeats", "url", "config", "directory", "seed"}
#: Of those, what a person should be told.
_TOLD = ("url", "config", "directory", "seed")
#: Facts of the machine that make figures incomparable, said beside them.
_MACHINE = ("cpu", "cpus", "filesystem")
_FAILING_LATENCIES = ("latency_ms.p50", "latency_ms.p99")


def load(file: Path) -> dict[str, Any]:
    """The result in a file.

    Raises:
        Told: it cannot be read, or is no result of ours.
    """
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise Told(Exit.IO, f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise Told(
            Exit.IO, f"{file} is no result of `streamer bench`: it is not JSON ({error})"
        ) from error
    lack = "it is no map" if not isinstance(found, dict) else _lacks(found)
    if lack:
        raise Told(Exit.IO, f"{file} is no result of `streamer bench`: {lack}")
    result: dict[str, Any] = found
    # Results of `limits` once had no medians: their figures stood at the top.
    if "median" not in result:
        known = ("workload", "settings", "machine", "versions")
        figures = {key: value for key, value in result.items() if key not in known}
        result |= {"median": figures, "repeats": [figures]}
    return result


def _lacks(found: Mapping[str, Any]) -> str:
    if not isinstance(found.get("workload"), str):
        return "it has no workload"
    if not isinstance(found.get("settings"), dict):
        return "it has no settings"
    if found["workload"] == "limits" and isinstance(found.get("codec"), dict):
        return ""
    if not isinstance(found.get("median"), dict) or not isinstance(found.get("repeats"), list):
        return "it has no medians of repeats"
    return "" if found["repeats"] else "it has no repeats"


def defaults(cls: type) -> dict[str, Any]:
    """What an earlier result had where it does not name a setting, as that was added since."""
    return {each.key: each.default for each in describe(cls)}


def check(
    earlier: Mapping[str, Any],
    workload: str,
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> None:
    """Refuse a comparison that would mean nothing.

    Raises:
        click.UsageError: another workload, or settings that change what is measured.
    """
    if earlier["workload"] != workload:
        raise click.UsageError(
            f"the earlier result is of {earlier['workload']}, this is {workload}: "
            "there is nothing to compare"
        )
    before = {**defaults, **earlier["settings"]}
    differing = [
        f"{name} was {_plain(before.get(name))} and is {_plain(settings.get(name))}"
        for name in dict.fromkeys((*before, *settings))
        if name not in _HARMLESS and _plain(before.get(name)) != _plain(settings.get(name))
    ]
    if differing:
        raise click.UsageError("the earlier result has other settings: " + ", ".join(differing))


def _plain(value: Any) -> str:
    """A value as JSON has it, so that a tuple is a list and 1.0 is 1."""
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return json.dumps(value)


def compare(earlier: Mapping[str, Any], now: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The comparison of two results of one workload: a row a figure, and what else differs."""
    rows = []
    before = {case["name"]: case for case in cases(earlier)}
    for case in cases(now):
        if case["name"] in before:
            rows += list(_rows(case["name"], before[case["name"]], case))
    return {
        "file": name,
        "began": earlier.get("began"),
        "notes": list(_notes(earlier, now)),
        "figures": rows,
    }


def cases(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cases of a document; one without a name where it has none of its own."""
    found: list[Mapping[str, Any]] = document.get("cases") or [{**document, "name": ""}]
    return found


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a map of maps, under names with dots."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def direction(figure: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither."""
    last = figure.rpartition(".")[2]
    if last.endswith("_per_s"):
        return 1
    if "latency_ms" in figure or last == "seconds" or "bytes" in last:
        return -1
    return -1 if last.endswith(("_ms", "_s", "_mb", "_percent")) else 0


def _rows(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    old_ranges, new_ranges = _ranges(before["repeats"]), _ranges(now["repeats"])
    old = dict(leaves(before["median"]))
    repeats = min(len(before["repeats"]), len(now["repeats"]))
    for figure, value in leaves(now["median"]):
        if figure not in old:
            continue
        ratio = value / old[figure] if old[figure] else None
        beyond = None
        if repeats > 1 and figure in old_ranges and figure in new_ranges:
            beyond = _apart(old_ranges[figure], new_ranges[figure])
        yield {
            "case": name,
            "figure": figure,
            "before": old[figure],
            "now": value,
            "ratio": None if ratio is None else round(ratio, 4),
            "beyond_noise": beyond,
            "says": _says(figure, ratio, beyond),
        }


def _ranges(repeats: list[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Smallest and largest of each figure; an older result has no spread, but all repeats."""
    columns: dict[str, list[float]] = {}
    for each in repeats:
        for figure, value in leaves(each):
            columns.setdefault(figure, []).append(value)
    return {figure: (min(column), max(column)) for figure, column in columns.items()}


def _apart(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[1] < other[0] or other[1] < one[0]


def _says(figure: str, ratio: float | None, beyond: bool | None) -> str:
    if ratio == 1:
        return "the same"
    if beyond is None:
        return "not known: one repeat"
    if not beyond:
        return "within the noise"
    which = direction(figure)
    if ratio is None or not which:
        return "differs"
    return "better" if (ratio > 1) == (which > 0) else "worse"


def _notes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in _TOLD:
        old, new = earlier["settings"].get(name), now["settings"].get(name)
        if old != new:
            yield f"{name} was {_plain(old)} and is {_plain(new)}"
    for part, names in (("machine", _MACHINE), ("versions", None)):
        old, new = earlier.get(part) or {}, now.get(part) or {}
        for name in names or dict.fromkeys((*old, *new)):
            if old.get(name) != new.get(name):
                yield f"{part}: {name} was {_plain(old.get(name))} and is {_plain(new.get(name))}"
    missing = {c["name"] for c in cases(earlier)} ^ {c["name"] for c in cases(now)}
    if missing:
        yield "only in one of them: " + ", ".join(sorted(missing))


def below(comparison: Mapping[str, Any], ratio: float) -> list[str]:
    """What fell below that ratio of the earlier result, beyond the noise: a line each.

    Rates count, and of latencies p50 and p99 by their inverse. With one repeat there is no noise
    to be within, so everything counts.
    """
    found = []
    for row in comparison["figures"]:
        figure, change = row["figure"], row["ratio"]
        rate = direction(figure) > 0
        if change is None or row["beyond_noise"] is False:
            continue
        if not rate and figure not in _FAILING_LATENCIES:
            continue
        good = change if rate else (1 / change if change else float("inf"))
        if good < ratio:
            name = f"{row['case']} {figure}".strip()
            found.append(
                f"{name}: {row['now']:,g} against {row['before']:,g} is {good:.3f} of the earlier "
                f"result, allowed is at least {ratio:g}"
            )
    return found
