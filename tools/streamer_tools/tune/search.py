"""The search: successive halving, ablation, confirmation. Synchronous; a run is a callable.

    first look    the present configuration alone: does it work, and what does a run cost?
    halving       many random candidates with short runs; the better half goes on, for twice as
                  long
    ablation      the one that is left, and it with each of its changes put back
    confirmation  the present one, the one that is left, and smaller changes that may do as well

Rules:

- The present configuration runs in every round, in turns with the candidates, in an order that is
  drawn anew for each pass: a drift of the machine is nobody's gain.
- Whatever is to be proposed is measured in the confirmation, whose runs choose nothing: the best
  of many candidates looks better than it is in the runs that chose it.
- No pass is begun that would not end within the budget. What was measured until the budget, or
  Ctrl-C, ends it is kept as evidence.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence

from streamer_tools.tune import certainty
from streamer_tools.tune.evidence import Evidence, Finding, Kind, Round, Row
from streamer_tools.tune.plan import (
    ABLATION,
    CONFIRMATION,
    COST_SHARE,
    SECONDS_MIN,
    Plan,
    cost_s,
    make_plan,
    turns,
)
from streamer_tools.tune.score import Run, Weights, middle, score
from streamer_tools.tune.space import CLIENT, PRESENT, Candidate, Space, Value

#: One run of a candidate for so many seconds. It tells failure as a run without figures.
Measure = Callable[[Candidate, float], Run]

INTERRUPTED = "interrupted"
OUT_OF_TIME = "the budget was used up"

_FIRST_LOOK_S = 0.5
#: Of the time that is left after the halving; the rest is the confirmation's.
_ABLATION_SHARE = 0.45
#: A leader below it is not confirmed: noise does not hide so much.
_HOPELESS = 0.5
#: Time is kept back for runs that take longer than those before.
_SLACK = 0.95


class PresentFails(Exception):
    """The present configuration does not run the workload, so nothing can be compared with it."""


class StopSearch(Exception):
    """Raised by a measurement: no further run makes sense. Its text says why."""


class _TimeUp(Exception):
    """The next pass would not end within the budget."""


class Search:
    """One search. `run` gives the evidence, also where it was interrupted."""

    def __init__(
        self,
        space: Space,
        measure: Measure,
        weights: Weights,
        *,
        seed: int,
        now: Callable[[], float],
        deadline: float,
        tell: Callable[[Round], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.evidence = Evidence(space, weights, seed)
        self._measure = measure
        self._rng = random.Random(f"tune {seed}")
        self._now = now
        self._deadline = deadline
        self._tell = tell
        self._say = say
        self._present = Candidate(PRESENT)
        #: What a run took besides its length, of all runs so far.
        self._overheads: list[float] = []
        #: Figures of the present configuration, for a round in which it fails.
        self._last_good = Run()

    def run(self) -> Evidence:
        """Search until it is done, the budget is used up, or Ctrl-C.

        Raises:
            PresentFails: there is nothing to compare with.
            BudgetTooShort: there is no time for the smallest search.
        """
        evidence = self.evidence
        try:
            self._first_look()
            evidence.plan = make_plan(self._left_s * _SLACK, self._overhead_s)
            evidence.leader = self._halve(evidence.plan)
            if evidence.leader is not None:
                evidence.findings += self._ablate(evidence.leader)
                evidence.reduced += smaller(evidence.leader, evidence.findings)
                self._confirm(evidence.leader, evidence.reduced)
        except KeyboardInterrupt:
            evidence.cut_short = INTERRUPTED
        except _TimeUp:
            evidence.cut_short = OUT_OF_TIME
        except StopSearch as error:
            evidence.cut_short = str(error)
        return evidence

    # ------------------------------------------------------------------------------ the phases

    def _first_look(self) -> None:
        found = self._round("first look", "first look", [self._present], _FIRST_LOOK_S, 1)
        [run] = found.rows[0].runs
        if run.failed:
            raise PresentFails(run.fault or "nothing was acked")

    def _halve(self, plan: Plan) -> Candidate | None:
        """The candidate that is left; None if it is far behind the present configuration."""
        left = self.evidence.space.sample(plan.candidates, self._rng)
        self.evidence.candidates += left
        if not left:
            self.evidence.notes.append("there is nothing to search: no setting has another value")
            return None
        leader_row: Row | None = None
        for number in range(plan.rounds):
            seconds, passes = plan.seconds_of(number), plan.passes_of(number)
            if number and not self._has_time(len(left) + 1, seconds, passes, plan):
                self.evidence.notes.append(f"round {number + 1} was left out: no time")
                break
            keep = math.ceil(len(left) / 2)
            name = f"round {number + 1} of {plan.rounds}"
            found = self._round("halving", name, [self._present, *left], seconds, passes, keep)
            rows = [row for row in found.rows if row.kept and not row.candidate.is_present]
            left = [row.candidate for row in rows]
            leader_row = rows[0] if rows else None
            if len(left) <= 1:
                break
        if leader_row is None or leader_row.score < _HOPELESS:
            return None
        return leader_row.candidate

    def _has_time(self, count: int, seconds: float, passes: int, plan: Plan) -> bool:
        """Whether a round leaves enough for the shortest confirmation."""
        round_s = count * passes * cost_s(seconds, self._overhead_s)
        least_s = 4 * certainty.PAIRS_MIN * cost_s(plan.seconds, self._overhead_s)
        return self._left_s >= round_s + least_s

    def _ablate(self, leader: Candidate) -> list[Finding]:
        """What each change of the leader does; nothing where there is one, or no time."""
        if len(leader.changes) < 2:
            return []
        variants = {
            name: leader.without([name], f"{leader.name} without {name}")
            for name, _ in leader.changes
        }
        found = self._ablation_round([self._present, leader, *variants.values()])
        return [] if found is None else _findings(found, leader, variants)

    def _ablation_round(self, candidates: Sequence[Candidate]) -> Round | None:
        least_s = 4 * (certainty.PAIRS_MIN + 1) * cost_s(2 * SECONDS_MIN, self._overhead_s)
        left_s = min(self._left_s * _ABLATION_SHARE, self._left_s * _SLACK - least_s)
        found = turns(left_s, len(candidates), self._overhead_s, ABLATION)
        if found is not None:
            passes, seconds = found
            return self._round("ablation", "ablation", candidates, seconds, passes)
        self.evidence.notes.append(
            "no time to put settings back one by one: those that make no difference are not left "
            "out; a longer --budget does that"
        )
        return None

    def _confirm(self, leader: Candidate, reduced: Sequence[Candidate]) -> None:
        candidates = [self._present, leader, *reduced]
        found = turns(self._left_s * _SLACK, len(candidates), self._overhead_s, CONFIRMATION)
        passes, seconds = found or CONFIRMATION[-1]
        self._round("confirmation", "confirmation", candidates, seconds, passes)

    # ------------------------------------------------------------------------------- one round

    def _round(
        self,
        kind: Kind,
        name: str,
        candidates: Sequence[Candidate],
        seconds: float,
        passes: int,
        keep: int | None = None,
    ) -> Round:
        """Measure candidates in turns; the evidence has it whatever ends it."""
        runs: dict[Candidate, list[Run]] = {candidate: [] for candidate in candidates}
        complete = False
        self._say(
            f"{name}: {len(candidates)} configurations, {passes} x {seconds:.2g} s each, about "
            f"{passes * len(candidates) * cost_s(seconds, self._overhead_s):.0f} s"
        )
        try:
            for _ in range(passes):
                if self._overheads and self._pass_s(len(candidates), seconds) > self._left_s:
                    raise _TimeUp
                for candidate in self._rng.sample(candidates, len(candidates)):
                    runs[candidate].append(self._one_run(candidate, seconds))
            complete = True
        finally:
            found = self._scored(kind, name, seconds, runs, keep if complete else None, complete)
            if any(row.runs for row in found.rows):
                self.evidence.rounds.append(found)
                self._tell(found)
        return found

    def _one_run(self, candidate: Candidate, seconds: float) -> Run:
        began = self._now()
        run = self._measure(candidate, seconds)
        self._overheads.append(max(0.0, self._now() - began - COST_SHARE * seconds))
        return run

    def _scored(
        self,
        kind: Kind,
        name: str,
        seconds: float,
        runs: dict[Candidate, list[Run]],
        keep: int | None,
        complete: bool,
    ) -> Round:
        """The round with scores, the best first; `keep` candidates besides the present go on."""
        present = runs[self._present]
        together = middle(present)
        if not together.failed:
            self._last_good = together
        rows = []
        for candidate, found in runs.items():
            scores = [
                score(run, self._reference(present, together, number), self.evidence.weights).value
                if not self._last_good.failed
                else 0.0
                for number, run in enumerate(found)
            ]
            rows.append(Row(candidate, tuple(found), tuple(scores)))
        rows.sort(key=lambda row: -row.score)
        if keep is not None:
            others = [row.candidate for row in rows if not row.candidate.is_present]
            # What does not work goes, however few are left.
            going_on = {self._present, *others[:keep]} - {
                row.candidate for row in rows if not row.score and not row.candidate.is_present
            }
            rows = [
                Row(row.candidate, row.runs, row.scores, row.candidate in going_on) for row in rows
            ]
        return Round(kind, name, seconds, tuple(rows), complete)

    def _reference(self, present: Sequence[Run], together: Run, number: int) -> Run:
        """What the runs of pass `number` are compared with."""
        if number < len(present) and not present[number].failed:
            return present[number]
        return self._last_good if together.failed else together

    # ------------------------------------------------------------------------------------ time

    @property
    def _left_s(self) -> float:
        return self._deadline - self._now()

    @property
    def _overhead_s(self) -> float:
        return statistics.mean(self._overheads) if self._overheads else 1.0

    def _pass_s(self, count: int, seconds: float) -> float:
        return count * cost_s(seconds, self._overhead_s)


def _findings(found: Round, leader: Candidate, variants: dict[str, Candidate]) -> list[Finding]:
    """What each change of the leader did. A repeat's noise is taken from all rows together, as
    each has few."""
    leading = found.row(leader)
    sigma = certainty.pooled_noise([row.scores for row in found.rows if row.score])
    findings = []
    for name, value in leader.changes:
        row = found.row(variants[name])
        differences = certainty.differences(leading.scores, row.scores)
        count = max(1, len(differences))
        noise = math.exp(2 * sigma * math.sqrt(2 / count)) - 1
        mean = math.exp(statistics.mean(differences)) - 1 if differences else 0.0
        matters = mean > max(noise, certainty.GAIN_MIN)
        findings.append(Finding(name, value, mean, noise, matters))
    return findings


def smaller(leader: Candidate, findings: Sequence[Finding]) -> list[Candidate]:
    """What might do as well with fewer changes: the leader less what made no difference, and its
    client settings alone, which spare a restart of the daemon."""
    stay = [each.knob for each in findings if each.matters]
    if not stay:
        # None stands out by itself: those without which it was worse may do it together.
        stay = [each.knob for each in findings if each.loss >= certainty.GAIN_MIN]
    if not stay:
        by_loss = sorted(findings, key=lambda each: -each.loss)
        stay = [each.knob for each in by_loss[: len(findings) // 2]]
    clients = [name for name, _ in leader.changes if name.startswith(CLIENT)]
    found: dict[tuple[tuple[str, Value], ...], Candidate] = {}
    for names, what in ((stay, "reduced"), (clients, "client alone")):
        others = [name for name, _ in leader.changes if name not in names]
        candidate = leader.without(others, f"{leader.name} {what}")
        if candidate.changes not in ((), leader.changes):
            found.setdefault(candidate.changes, candidate)
    return list(found.values())
