"""The evidence for people, and as one JSON document for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from streamer_tools.bench.noise import Noise, sentences
from streamer_tools.tune.certainty import spread
from streamer_tools.tune.evidence import Evidence, Round, Row
from streamer_tools.tune.proposal import Proposal
from streamer_tools.tune.score import ERROR_PENALTY, NAMES, Run, Weights
from streamer_tools.tune.space import CLIENT, Candidate, Space
from streamer_tools.tune.workload import Workload


def explain_score(weights: Weights) -> Iterator[str]:
    """What the column `score` means."""
    yield (
        f"score: (present p99 / p99)^{weights.latency:.2g} x (throughput / present "
        f"throughput)^{weights.throughput:.2g} x (present errors / errors)^{weights.errors:.2g}, "
        "against the present configuration in the same pass."
    )
    yield (
        f"  1 is the present one, 1.1 ten percent better. A run with errors or timeouts counts x "
        f"{ERROR_PENALTY:g}; one without figures, 0."
    )


def space_lines(space: Space) -> Iterator[str]:
    """What is searched, and what is not."""
    yield "searched: setting, present value, and what else is tried"
    width = max((len(knob.name) for knob in space.knobs), default=0)
    for knob in space.knobs:
        others = [knob.text(each) for each in knob.choices if each != knob.present]
        shown = ", ".join(others) or "nothing"
        yield f"  {knob.name:<{width}}  {knob.text(knob.present):>8}  {shown}"
    by_reason: dict[str, list[str]] = {}
    for name, reason in space.left_out.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"  not searched, as {reason}: {', '.join(names)}"


def described(space: Space, candidate: Candidate) -> str:
    """A candidate's settings."""
    if candidate.is_present:
        return "the configuration as it is"
    return ", ".join(f"{name}={space.knob(name).text(value)}" for name, value in candidate.changes)


def round_lines(space: Space, found: Round, introduce: bool) -> Iterator[str]:
    """The table of one round; `introduce` says what each candidate is."""
    cut = "" if found.complete else ", cut short"
    rows = [row for row in found.rows if row.runs]
    yield f"{found.name}: runs of {found.seconds:.3g} s{cut}"
    width = max(len(row.candidate.name) for row in rows)
    yield (
        f"  {'candidate':<{width}} runs {'records/s':>11} {'+/-':>4} {'p99 ms':>9} {'+/-':>4} "
        f"{'errors':>6} {'score':>6}  kept"
    )
    for row in rows:
        yield _row_line(row, width)
        fault = next((run.fault for run in row.runs if run.fault), "")
        if fault:
            yield f"  {'':<{width}} {fault}"
    if introduce:
        for row in sorted(rows, key=lambda row: row.candidate.name):
            if not row.candidate.is_present:
                yield f"  {row.candidate.name}: {described(space, row.candidate)}"


def _row_line(row: Row, width: int) -> str:
    middle = row.middle
    good = [run for run in row.runs if not run.failed]
    kept = {None: "", True: "yes", False: "no"}[row.kept]
    return (
        f"  {row.candidate.name:<{width}} {len(row.runs):>4} {middle.records_per_s:>11,.0f} "
        f"{_share([run.records_per_s for run in good])} {_ms(middle.p99_s):>9} "
        f"{_share([run.p99_s for run in good])} {middle.errors:>6} {row.score:>6.2f}  {kept}"
    ).rstrip()


def _share(values: Sequence[float]) -> str:
    return f"{spread(values):>4.0%}" if len(values) > 1 else f"{'':>4}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f}" if math.isfinite(seconds) else "-"


def finding_lines(evidence: Evidence) -> Iterator[str]:
    """What each setting of the leading candidate does by itself."""
    if not evidence.findings or evidence.leader is None:
        return
    yield f"what each setting of {evidence.leader.name} does, put back alone:"
    for each in evidence.findings:
        knob = evidence.space.knob(each.knob)
        what = "matters" if each.matters else "made no measurable difference"
        yield (
            f"  {each.knob} = {knob.text(each.value)} (present {knob.text(knob.present)}): "
            f"{-each.loss:+.1%} without it, noise {each.noise:.1%}: {what}"
        )


def proposal_lines(evidence: Evidence, proposal: Proposal) -> Iterator[str]:
    """The conclusion, how sure it is, and what the score is made of."""
    if proposal.candidate is None:
        yield f"nothing is proposed: {proposal.reason}"
    else:
        yield f"proposed: {proposal.candidate.name}: {proposal.reason}"
    if proposal.before is not None and proposal.after is not None:
        yield from _before_after(proposal, proposal.before, proposal.after)
    if proposal.parts is not None and proposal.parts.value:
        factors = " x ".join(
            f"{getattr(proposal.parts, name):.2f}^{getattr(evidence.weights, name):.2g} ({name})"
            for name in NAMES
        )
        yield f"  score of the medians: {factors} = {proposal.parts.value:.2f}"
    if proposal.dropped:
        yield f"  left out, as it is as good without: {', '.join(proposal.dropped)}"
    if proposal.candidate is not None:
        names = {name for name, _ in proposal.candidate.changes}
        alone = [each.knob for each in evidence.findings if each.knob in names and not each.matters]
        if alone:
            yield f"  kept, though alone they made no measurable difference: {', '.join(alone)}"
    for note in evidence.notes:
        yield f"  note: {note}"


def _before_after(proposal: Proposal, before: Run, after: Run) -> Iterator[str]:
    yield f"  {'':<11} {'before':>11} {'after':>11}"
    yield f"  {'records/s':<11} {before.records_per_s:>11,.0f} {after.records_per_s:>11,.0f}"
    yield f"  {'p50 ms':<11} {_ms(before.p50_s):>11} {_ms(after.p50_s):>11}"
    yield f"  {'p99 ms':<11} {_ms(before.p99_s):>11} {_ms(after.p99_s):>11}"
    yield f"  {'errors':<11} {before.errors:>11} {after.errors:>11}"
    yield (
        f"  records/s of the runs spread +/- {proposal.spread_before:.0%} before, +/- "
        f"{proposal.spread_after:.0%} after"
    )


def noise(found: Noise, proposal: Proposal) -> dict[str, Any]:
    """What else the machine did, and what cannot be known, as `bench` says it."""
    document = found.document([])
    document["spread_share"] = round(2 * max(proposal.spread_before, proposal.spread_after), 4)
    told = sentences(document) if proposal.pairs else []
    return document | {"sentences": told}


def client_lines(workload: Workload, candidate: Candidate) -> Iterator[str]:
    """The client settings of a candidate as Python; nothing where it changes none."""
    shown = ", ".join(
        f"{name.removeprefix(CLIENT)}={value!r}"
        for name, value in candidate.changes
        if name.startswith(CLIENT)
    )
    if not shown:
        return
    if workload.mode == "batch" and not workload.rate:
        yield "# send_batch with so many records at the most, and so many calls of it under way:"
    yield f"async with client.producer({workload.stream!r}, {shown}) as producer:"


# ---------------------------------------------------------------------------------------- JSON


def document(evidence: Evidence, proposal: Proposal, **facts: Any) -> dict[str, Any]:
    """All of it; figures of runs without any are null."""
    space = evidence.space
    return {
        **facts,
        "weights": attrs.asdict(evidence.weights),
        "seed": evidence.seed,
        "space": {
            "searched": [
                {"name": k.name, "present": k.present, "choices": list(k.choices), "unit": k.unit}
                for k in space.knobs
            ],
            "left_out": dict(space.left_out),
        },
        "plan": None if evidence.plan is None else attrs.asdict(evidence.plan),
        "rounds": [_round(each) for each in evidence.rounds],
        "findings": [attrs.asdict(each) for each in evidence.findings],
        "cut_short": evidence.cut_short,
        "notes": evidence.notes,
        "proposal": {
            "settings": None if proposal.candidate is None else dict(proposal.candidate.changes),
            "candidate": None if proposal.candidate is None else proposal.candidate.name,
            "reason": proposal.reason,
            "dropped": list(proposal.dropped),
            "before": _run(proposal.before),
            "after": _run(proposal.after),
            "gain": proposal.gain,
            "chance": proposal.chance,
            "pairs": proposal.pairs,
            "spread_before": proposal.spread_before,
            "spread_after": proposal.spread_after,
            "score": None if proposal.parts is None else attrs.asdict(proposal.parts),
        },
    }


def _round(found: Round) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.name,
        "seconds": found.seconds,
        "complete": found.complete,
        "candidates": [
            {
                "name": row.candidate.name,
                "settings": dict(row.candidate.changes),
                "score": row.score,
                "kept": row.kept,
                "median": _run(row.middle),
                "scores": list(row.scores),
                "runs": [_run(run) for run in row.runs],
            }
            for row in found.rows
        ],
    }


def _run(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    values = attrs.asdict(run)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
