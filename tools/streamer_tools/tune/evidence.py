"""What was measured: rounds, rows, and what follows from an ablation. Plain values."""

from __future__ import annotations

import statistics
from typing import Literal

import attrs

from streamer_tools.tune.plan import Plan
from streamer_tools.tune.score import Run, Weights, middle
from streamer_tools.tune.space import Candidate, Space, Value

Kind = Literal["first look", "halving", "ablation", "confirmation"]


class NotMeasured(AssertionError):
    """Something is about to be compared or proposed that did not run: a bug."""


@attrs.frozen
class Row:
    """One candidate in one round: a run and a score for each pass."""

    candidate: Candidate
    runs: tuple[Run, ...]
    scores: tuple[float, ...]
    #: Whether it went on; None where nothing was decided.
    kept: bool | None = None

    @property
    def score(self) -> float:
        """The middle score; 0 if one of the runs had no figures."""
        if not self.scores or any(run.failed for run in self.runs):
            return 0.0
        return statistics.median(self.scores)

    @property
    def middle(self) -> Run:
        return middle(self.runs)


@attrs.frozen
class Round:
    """Candidates that were measured in turns."""

    kind: Kind
    name: str
    #: Of a run.
    seconds: float
    rows: tuple[Row, ...]
    #: Whether all passes were done.
    complete: bool = True

    def row(self, candidate: Candidate) -> Row:
        """The row of that very candidate.

        Raises:
            NotMeasured: it did not run in this round.
        """
        for row in self.rows:
            if row.candidate == candidate:
                return row
        raise NotMeasured(f"{candidate.name} with {dict(candidate.changes)} not in {self.name}")


@attrs.frozen
class Finding:
    """What a setting of the leading candidate did: the loss when it alone was put back."""

    knob: str
    value: Value
    #: A share: 0.1 is ten percent worse without it; below 0, better.
    loss: float
    #: What counts as noise, as a share.
    noise: float
    matters: bool


@attrs.define
class Evidence:
    """All of a search; it grows while the search is on."""

    space: Space
    weights: Weights
    seed: int
    plan: Plan | None = None
    candidates: list[Candidate] = attrs.Factory(list)
    rounds: list[Round] = attrs.Factory(list)
    findings: list[Finding] = attrs.Factory(list)
    #: What the halving left, and smaller changes that may do as well.
    leader: Candidate | None = None
    reduced: list[Candidate] = attrs.Factory(list)
    #: Why it ended before it was through; "" where it did not.
    cut_short: str = ""
    #: What else is to be known of how it went.
    notes: list[str] = attrs.Factory(list)

    def round_of(self, kind: Kind) -> Round | None:
        """The last round of a kind."""
        return next((each for each in reversed(self.rounds) if each.kind == kind), None)

    @property
    def runs(self) -> int:
        return sum(len(row.runs) for each in self.rounds for row in each.rows)
