"""How good a run is: latency, throughput and errors, by the user's weights, against the present.

The score of a run is a weighted geometric mean of how many times better than a reference it was:

    (reference p99 / p99) ^ latency x (throughput / reference throughput) ^ throughput x
    ((reference errors + 0.001) / (errors + 0.001)) ^ errors

with weights that add up to 1 and errors as a share of the operations. 1 is as good as the
reference, 1.1 is ten percent better; twice and half as good cancel out, which no sum would give.
The reference is the present configuration in the same pass of the same round, so that a slow
minute of the machine hits both.

A run with errors has half its score besides, and one without figures (the daemon did not start,
nothing was acked) has 0, whatever the weights are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import attrs

NAMES = ("latency", "throughput", "errors")
ERROR_PENALTY = 0.5
#: Errors count from here: the share below which one more or less is luck.
_ERROR_SHARE = 0.001


@attrs.frozen
class Weights:
    """How much each counts; they add up to 1."""

    latency: float = 0.4
    throughput: float = 0.4
    errors: float = 0.2

    def text(self) -> str:
        return ", ".join(f"{name} {getattr(self, name):.2g}" for name in NAMES)


def parse_weights(text: str) -> Weights:
    """Weights from `latency=2,throughput=1`; what is not named is 0.

    Raises:
        ValueError: with what was found and what is allowed.
    """
    allowed = "allowed latency=NUMBER,throughput=NUMBER,errors=NUMBER, each once, 0 to 1000"
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (each.strip() for each in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"found {part.strip()!r}, {allowed}") from None
        if name not in NAMES or name in found or not 0 <= value <= 1000:
            raise ValueError(f"found {part.strip()!r}, {allowed}")
        found[name] = value
    total = sum(found.values())
    if not total:
        raise ValueError(f"found only zeros, {allowed}, and one above 0")
    return Weights(**{name: found.get(name, 0.0) / total for name in NAMES})


@attrs.frozen
class Run:
    """What one run of a candidate gave."""

    records_per_s: float = 0.0
    p50_s: float = math.nan
    p99_s: float = math.nan
    operations: int = 0
    errors: int = 0
    #: The first error, or why there are no figures.
    fault: str = ""

    @property
    def failed(self) -> bool:
        """Whether there are no figures to speak of."""
        rate_is_good = math.isfinite(self.records_per_s) and self.records_per_s > 0
        return not (rate_is_good and math.isfinite(self.p99_s) and self.p99_s > 0)

    @property
    def error_share(self) -> float:
        return self.errors / max(1, self.operations + self.errors)


@attrs.frozen
class Score:
    """A score and what it is made of: each factor before its weight, and the penalty."""

    value: float
    latency: float = 0.0
    throughput: float = 0.0
    errors: float = 0.0
    penalty: float = 1.0


def score(run: Run, reference: Run, weights: Weights) -> Score:
    """How many times better than `reference` (which has figures) a run was, by the weights."""
    assert not reference.failed, "a reference has figures"
    if run.failed:
        return Score(0.0, penalty=0.0)
    factors = (
        reference.p99_s / run.p99_s,
        run.records_per_s / reference.records_per_s,
        (reference.error_share + _ERROR_SHARE) / (run.error_share + _ERROR_SHARE),
    )
    value = math.prod(
        factor ** getattr(weights, name) for name, factor in zip(NAMES, factors, strict=True)
    )
    penalty = ERROR_PENALTY if run.errors else 1.0
    return Score(value * penalty, *factors, penalty)


def middle(runs: Sequence[Run]) -> Run:
    """The median of each figure of the runs that have figures; errors of all are added up."""
    good = [run for run in runs if not run.failed]
    errors = sum(run.errors for run in runs)
    fault = next((run.fault for run in runs if run.fault), "")
    if not good:
        return Run(errors=errors, fault=fault)
    return Run(
        statistics.median(run.records_per_s for run in good),
        statistics.median(run.p50_s for run in good),
        statistics.median(run.p99_s for run in good),
        sum(run.operations for run in good),
        errors,
        fault,
    )
