"""How the budget is divided: how many candidates, and how long the first runs are.

Rules: what is left after the first look at the present configuration, which tells what a run
costs besides its length, must do for all of it: halving, ablation, confirmation. The largest
search that fits is taken; what comes after the halving takes its lengths from the time that is
really left. A budget that is not enough for the smallest search is refused, with the one that is.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import attrs

from streamer_tools.tune.certainty import PAIRS_MIN

Steps: TypeAlias = tuple[tuple[int, float], ...]

#: What is measured for a second costs so many: a warm-up goes before it.
COST_SHARE = 1.1
#: Candidates and seconds of the first round, the most thorough first.
_SIZES = (
    (32, 2.0), (32, 1.0), (24, 1.0), (16, 1.0), (16, 0.5), (12, 0.5), (8, 1.0), (8, 0.5),
    (8, 0.25), (4, 0.5), (4, 0.25),
)  # fmt: skip
#: Settings that a winner is expected to change, for the ablation's time.
_CHANGES = 6
#: No run is shorter: the warm-up must not be most of it.
SECONDS_MIN = 0.25
#: Without time for an ablation.
_SMALLEST = (2, SECONDS_MIN)
#: Passes, and how long their runs must be at the least: what is done where there is time for it.
CONFIRMATION: Steps = ((16, 1.0), (9, 0.5), (PAIRS_MIN + 1, SECONDS_MIN), (PAIRS_MIN, 0.2))
ABLATION: Steps = ((6, 1.0), (4, 0.5), (3, SECONDS_MIN), (2, SECONDS_MIN))
#: Beyond it time goes into more passes: many short pairs tell more than a few long ones where the
#: machine has other work. Beyond those it goes into longer runs.
_SECONDS_WANTED = 2.0
_PASSES_MAX = 30
_SECONDS_MAX = 8.0


class BudgetTooShort(Exception):
    """The budget does not do for the smallest search; `needed_s` would."""

    def __init__(self, needed_s: float, overhead_s: float) -> None:
        super().__init__(f"at least {needed_s:.0f} s are needed")
        self.needed_s = needed_s
        self.overhead_s = overhead_s


@attrs.frozen
class Plan:
    """The size of a search."""

    candidates: int
    #: Of a run in the first round.
    seconds: float
    #: Whether time is set aside for an ablation; there may be some left in any case.
    ablate: bool = True

    @property
    def rounds(self) -> int:
        """Until one is left."""
        return max(1, math.ceil(math.log2(self.candidates)))

    def seconds_of(self, number: int) -> float:
        """Of a run in round `number`, from 0: twice as long each time, up to what is enough."""
        return float(min(self.seconds * 2**number, max(_SECONDS_WANTED, self.seconds)))

    def passes_of(self, number: int) -> int:
        """How often each candidate runs in round `number`: once where there are very many, and
        twice as often each time once runs are long enough."""
        if number == 0:
            return 1
        return int(2 * self.seconds * 2**number / self.seconds_of(number))

    def total_s(self, overhead_s: float) -> float:
        """What all of it takes if a run takes so much besides its length."""
        total, left = 0.0, self.candidates
        for number in range(self.rounds):
            run_s = cost_s(self.seconds_of(number), overhead_s)
            total += (left + 1) * self.passes_of(number) * run_s
            left = math.ceil(left / 2)
        last_s = self.seconds_of(self.rounds - 1)
        if not self.ablate:
            return total + 2 * PAIRS_MIN * cost_s(last_s, overhead_s)
        runs = 3 * (_CHANGES + 2) + 4 * 9
        return total + runs * cost_s(min(last_s, 1.0), overhead_s)


def cost_s(seconds: float, overhead_s: float) -> float:
    """What a run of so many seconds takes in all."""
    return overhead_s + COST_SHARE * seconds


def turns(left_s: float, count: int, overhead_s: float, steps: Steps) -> tuple[int, float] | None:
    """How many passes over `count` candidates, and how long their runs; None: there is no time."""
    for passes, least_s in steps:
        seconds = _fit(left_s, passes * count, overhead_s)
        if seconds >= least_s:
            break
    else:
        return None
    seconds = min(seconds, _SECONDS_WANTED)
    passes = int(left_s / (count * cost_s(seconds, overhead_s)) + 1e-9)
    if passes < _PASSES_MAX:
        return passes, seconds
    return _PASSES_MAX, min(_SECONDS_MAX, _fit(left_s, _PASSES_MAX * count, overhead_s))


def _fit(left_s: float, runs: int, overhead_s: float) -> float:
    """How long each of `runs` runs may be; 0 or less where there is no time."""
    return (left_s / runs - overhead_s) / COST_SHARE


def make_plan(left_s: float, overhead_s: float) -> Plan:
    """The largest search for so many seconds.

    Raises:
        BudgetTooShort: not even the smallest fits.
    """
    for candidates, seconds in _SIZES:
        plan = Plan(candidates, seconds)
        if plan.total_s(overhead_s) <= left_s:
            return plan
    smallest = Plan(*_SMALLEST, ablate=False)
    for candidates in (8, 4):
        plan = Plan(candidates, SECONDS_MIN, ablate=False)
        if plan.total_s(overhead_s) <= left_s:
            return plan
    needed_s = smallest.total_s(overhead_s)
    if needed_s > left_s:
        raise BudgetTooShort(needed_s, overhead_s)
    return smallest
