"""Figures over time, kept in the daemon, so that who opens a page sees what was before.

Two series of fixed length: one value a second for five minutes, and one each ten seconds for an
hour. That is all there will ever be (a few thousand numbers a name); longer is what Prometheus is
for. Of ten seconds the mean is kept, and of latencies and fill levels the worst.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

FINE_S = 1
FINE_MAX = 300
COARSE_S = 10
COARSE_MAX = 360
#: Names above this are dropped: a pipeline has five.
_NAMES_MAX = 500


class _Series:
    def __init__(self, step_s: int, length: int) -> None:
        self._step_s = step_s
        self._length = length
        self._at_us: deque[int] = deque(maxlen=length)
        self._values: dict[str, deque[float]] = {}

    def add(self, at_us: int, values: Mapping[str, float]) -> None:
        for name in values.keys() - self._values.keys():
            if len(self._values) < _NAMES_MAX:
                # What was not known before was nothing.
                self._values[name] = deque([0.0] * len(self._at_us), maxlen=self._length)
        self._at_us.append(at_us)
        for name, column in self._values.items():
            # Made short here and not in `doc`, which is asked for by every page each second.
            column.append(_short(values.get(name, 0.0)))

    def doc(self) -> dict[str, Any]:
        series = {name: list(column) for name, column in self._values.items()}
        return {"step_s": self._step_s, "at_us": list(self._at_us), "series": series}


class History:
    """See the module."""

    def __init__(self) -> None:
        self._fine = _Series(FINE_S, FINE_MAX)
        self._coarse = _Series(COARSE_S, COARSE_MAX)
        self._gathered: list[Mapping[str, float]] = []

    def add(self, at_us: int, values: Mapping[str, float]) -> None:
        """The values of one second, by name."""
        self._fine.add(at_us, values)
        self._gathered.append(values)
        if len(self._gathered) >= COARSE_S // FINE_S:
            gathered, self._gathered = self._gathered, []
            names = {name: None for each in gathered for name in each}
            self._coarse.add(at_us, {name: _merged(name, gathered) for name in names})

    def doc(self) -> dict[str, Any]:
        """Both series as plain values."""
        return {"fine": self._fine.doc(), "coarse": self._coarse.doc()}


def _merged(name: str, gathered: list[Mapping[str, float]]) -> float:
    values = [each.get(name, 0.0) for each in gathered]
    worst = name.endswith("_s") or name.startswith("fill.")
    return max(values) if worst else sum(values) / len(values)


def _short(value: float) -> float:
    return float(f"{value:.5g}")
