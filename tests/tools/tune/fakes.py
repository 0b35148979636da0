"""Runs without daemons: figures that a test makes up, on a clock that is a number."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

from streamer_tools.tune.plan import COST_SHARE
from streamer_tools.tune.score import Run, Weights
from streamer_tools.tune.search import Search
from streamer_tools.tune.space import Candidate, Knob, Space, Value

#: What a run takes besides its length.
OVERHEAD_S = 1.0

Figures = Callable[[Mapping[str, Value]], Run]


def space() -> Space:
    """Three settings; what they do, a test says."""
    linger = ("pipelines", 0, "ingest", "linger_s")
    window = ("session", "window_bytes")
    return Space(
        (
            Knob("ingest.linger_s", 0.005, (0.0, 0.005, 0.01), linger),
            Knob("batch.zstd_level", 1, (1, 3, 9), ("batch", "zstd_level")),
            Knob("session.window_bytes", 4 << 20, (1 << 20, 4 << 20), window, "bytes"),
            Knob("client.in_flight", 16, (1, 16, 64)),
        )
    )


def good(rate: float = 1000.0, p99_s: float = 0.01, errors: int = 0) -> Run:
    return Run(rate, p99_s / 2, p99_s, 1000, errors, "refused" if errors else "")


class Machine:
    """Measures by a function of the settings, with noise; its clock goes on as runs take time."""

    def __init__(self, figures: Figures, *, noise: float = 0.0, seed: int = 1) -> None:
        self.figures = figures
        self.space = space()
        self.noise = noise
        self.rng = random.Random(seed)
        self.now_s = 0.0
        #: Each run: its candidate and seconds.
        self.runs: list[tuple[Candidate, float]] = []

    def now(self) -> float:
        return self.now_s

    def __call__(self, candidate: Candidate, seconds: float) -> Run:
        self.now_s += OVERHEAD_S + COST_SHARE * seconds
        self.runs.append((candidate, seconds))
        settings = {knob.name: knob.present for knob in self.space.knobs} | dict(candidate.changes)
        run = self.figures(settings)
        factor = math.exp(self.rng.gauss(0, self.noise))
        return Run(
            run.records_per_s * factor, run.p50_s / factor, run.p99_s / factor,
            run.operations, run.errors, run.fault,
        )  # fmt: skip

    def search(
        self, budget_s: float = 600.0, weights: Weights | None = None, seed: int = 3
    ) -> Search:
        """A search on this machine."""
        return Search(
            self.space,
            self,
            weights or Weights(),
            seed=seed,
            now=self.now,
            deadline=self.now_s + budget_s,
        )
