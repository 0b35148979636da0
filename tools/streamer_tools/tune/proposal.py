"""What follows from the evidence: settings to propose, or none, and why.

Rules: only the confirmation decides, and only what ran in it, as a whole, may be proposed: not a
mixture of values that did well apart. What cannot be told from noise is not proposed. A finding
that settings made no difference one by one is checked as well: the candidate without them all must
be as good, or they stay.
"""

from __future__ import annotations

from typing import Any

import attrs

from streamer_tools.tune import certainty
from streamer_tools.tune.evidence import Evidence, NotMeasured, Round, Row
from streamer_tools.tune.score import Run, Score, score
from streamer_tools.tune.space import Candidate, Value


@attrs.frozen
class Proposal:
    """Settings that are better beyond the noise, or None, and the reason."""

    candidate: Candidate | None
    reason: str
    #: Settings of the winner that are left out of it.
    dropped: tuple[str, ...] = ()
    #: The present configuration, and the best candidate, in the confirmation.
    before: Run | None = None
    after: Run | None = None
    gain: float = 0.0
    chance: float = 1.0
    pairs: int = 0
    #: Of the scores and throughputs of both over the passes, as shares.
    spread_before: float = 0.0
    spread_after: float = 0.0
    #: What the score of `after` against `before` is made of.
    parts: Score | None = None


def conclude(evidence: Evidence) -> Proposal:
    """The proposal that the evidence allows."""
    confirmation = evidence.round_of("confirmation")
    if evidence.leader is None or confirmation is None:
        return Proposal(None, _why_not_confirmed(evidence))
    present = next(row for row in confirmation.rows if row.candidate.is_present)
    pick = _pick(evidence, confirmation, present)
    found = certainty.differences(pick.scores, present.scores)
    facts = _facts(evidence, present, pick, found)
    if not _proves(pick, found):
        return Proposal(None, _why_not(evidence, pick, found), **facts)
    check_measured(evidence, pick.candidate.changes)
    kept = {name for name, _ in pick.candidate.changes}
    dropped = tuple(name for name, _ in evidence.leader.changes if name not in kept)
    reason = (
        f"its score is {facts['gain']:.0%} above the present configuration's (the median of "
        f"{len(found)} pairs of runs); chance alone gives as much in {facts['chance']:.1%} of cases"
    )
    return Proposal(pick.candidate, reason, dropped, **facts)


def _pick(evidence: Evidence, confirmation: Round, present: Row) -> Row:
    """The row to propose if it proves better: the leader, or as few of its changes as do as well.

    They are looked at in an order that was fixed before they ran, and only as long as each proves
    better: so the chance that any does so by luck is that of the first.
    """
    assert evidence.leader is not None
    whole = pick = confirmation.row(evidence.leader)
    fewer = sorted(evidence.reduced, key=lambda each: -len(each.changes))
    for row in (whole, *map(confirmation.row, fewer)):
        beaten = certainty.is_better(certainty.differences(whole.scores, row.scores))
        if beaten or not _proves(row, certainty.differences(row.scores, present.scores)):
            break
        pick = row
    return pick


def _has_failed(row: Row) -> bool:
    return not row.runs or any(run.failed for run in row.runs)


def _proves(row: Row, found: list[float]) -> bool:
    return not _has_failed(row) and certainty.is_better(found)


def _facts(evidence: Evidence, present: Row, pick: Row, found: list[float]) -> dict[str, Any]:
    before, after = present.middle, pick.middle
    return {
        "before": before,
        "after": after,
        "gain": certainty.gain(found),
        "chance": certainty.chance(found),
        "pairs": len(found),
        "spread_before": certainty.spread([r.records_per_s for r in present.runs]),
        "spread_after": certainty.spread([r.records_per_s for r in pick.runs]),
        "parts": None if before.failed else score(after, before, evidence.weights),
    }


def _why_not_confirmed(evidence: Evidence) -> str:
    if evidence.cut_short:
        return f"{evidence.cut_short} before anything was confirmed"
    return "no candidate came near the present configuration in the last round"


def _why_not(evidence: Evidence, pick: Row, found: list[float]) -> str:
    if _has_failed(pick):
        fault = next((run.fault for run in pick.runs if run.fault), "nothing was acked")
        return f"the best candidate failed in the confirmation: {fault}"
    if len(found) < certainty.PAIRS_MIN:
        cut = f" ({evidence.cut_short})" if evidence.cut_short else ""
        return (
            f"runs in pairs in the confirmation: {len(found)}{cut}, and at least "
            f"{certainty.PAIRS_MIN} are needed to tell a gain from noise"
        )
    gain = certainty.gain(found)
    chance = certainty.chance(found)
    if chance <= certainty.CHANCE_MAX:
        return f"the gain of {gain:.1%} is below {certainty.GAIN_MIN:.0%}, not worth a change"
    return (
        f"the best candidate does not beat the present configuration beyond the noise: "
        f"{gain:+.1%} in the middle of {len(found)} pairs, and chance alone gives as much in "
        f"{chance:.0%} of cases; a longer --budget tells smaller differences"
    )


def check_measured(evidence: Evidence, changes: tuple[tuple[str, Value], ...]) -> None:
    """That these very settings ran, together, in the confirmation, often enough.

    Raises:
        NotMeasured: they did not.
    """
    confirmation = evidence.round_of("confirmation")
    rows = confirmation.rows if confirmation is not None else ()
    for row in rows:
        good = [run for run in row.runs if not run.failed]
        if row.candidate.changes == changes and len(good) >= certainty.PAIRS_MIN:
            return
    raise NotMeasured(f"{dict(changes)} did not run in the confirmation")
