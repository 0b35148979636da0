"""The search by runs that are made up: what wins, what is left out, what ends it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from streamer_tools.tune.evidence import Finding
from streamer_tools.tune.plan import BudgetTooShort
from streamer_tools.tune.proposal import conclude
from streamer_tools.tune.score import Run, Weights
from streamer_tools.tune.search import (
    INTERRUPTED,
    OUT_OF_TIME,
    PresentFails,
    StopSearch,
    smaller,
)
from streamer_tools.tune.space import Candidate
from tests.tools.tune.fakes import Machine, good

NO_LINGER = ("ingest.linger_s", 0.0)


def linger_matters(settings: object) -> Run:
    assert isinstance(settings, dict)
    return good(p99_s=0.004 if settings["ingest.linger_s"] == 0 else 0.01)


def test_the_present_configuration_runs_in_every_pass_of_every_round() -> None:
    evidence = Machine(linger_matters).search().run()
    assert evidence.rounds[0].kind == "first look"
    assert {each.kind for each in evidence.rounds} >= {"halving", "ablation", "confirmation"}
    for each in evidence.rounds:
        [present] = [row for row in each.rows if row.candidate.is_present]
        assert len(present.runs) == max(len(row.runs) for row in each.rows)
        assert present.kept in (True, None)


def test_the_better_half_goes_on_for_twice_as_long() -> None:
    evidence = Machine(linger_matters).search(300.0).run()
    rounds = [each for each in evidence.rounds if each.kind == "halving"]
    counts = [len(each.rows) - 1 for each in rounds]
    assert all(after == -(-before // 2) for before, after in pairwise(counts))
    assert counts[-1] == 2
    measured = [each.seconds * len(each.rows[0].runs) for each in rounds]
    assert all(after >= 2 * before for before, after in pairwise(measured))
    for before, after in pairwise(rounds):
        kept = {row.candidate for row in before.rows if row.kept}
        assert kept == {row.candidate for row in after.rows}


def test_it_is_not_the_full_grid() -> None:
    machine = Machine(linger_matters)
    machine.search(150.0).run()
    tried = {candidate.changes for candidate, _ in machine.runs}
    grid = 3 * 3 * 2 * 3
    assert len(tried) < grid / 2


def test_what_makes_no_difference_is_left_out() -> None:
    evidence = Machine(linger_matters, noise=0.01).search().run()
    assert evidence.leader is not None
    assert NO_LINGER in evidence.leader.changes
    matters = {each.knob: each.matters for each in evidence.findings}
    assert matters.pop("ingest.linger_s")
    assert not any(matters.values())
    proposal = conclude(evidence)
    assert proposal.candidate is not None
    assert proposal.candidate.changes == (NO_LINGER,)
    assert proposal.gain == pytest.approx(2.5**0.4 - 1, rel=0.1)
    assert set(proposal.dropped) == set(matters)


def test_of_settings_of_which_either_does_one_stays() -> None:
    """Put back alone, neither is missed; both are."""
    level = "batch.zstd_level"

    def either(settings: object) -> Run:
        assert isinstance(settings, dict)
        one = settings["ingest.linger_s"] == 0 or settings[level] != 1
        return good(p99_s=0.005 if one else 0.01)

    found = [Machine(either).search(seed=seed).run() for seed in range(30)]
    leaders = [(each, dict(each.leader.changes)) for each in found if each.leader is not None]
    [first, *_] = [
        each for each, changes in leaders if level in changes and NO_LINGER in changes.items()
    ]
    assert not any(finding.matters for finding in first.findings)
    proposal = conclude(first)
    assert proposal.candidate is not None
    assert NO_LINGER in proposal.candidate.changes or level in dict(proposal.candidate.changes)
    assert proposal.gain > 0.2


def finding(knob: str, loss: float, matters: bool = False) -> Finding:
    return Finding(knob, 0, loss, 0.3, matters)


LEADER = Candidate("c01", (("a", 1), ("b", 2), ("client.c", 3), ("client.d", 4)))


@pytest.mark.parametrize(
    ("findings", "stay"),
    [
        # What matters; else what was missed a little; else what was missed least of all.
        ([("a", 0.5, True), ("b", 0.2, False), ("client.c", 0.9, True)], ["a", "client.c"]),
        ([("a", 0.1, False), ("b", 0.2, False), ("client.c", -0.1, False)], ["a", "b"]),
        ([("a", -0.1, False), ("b", -0.2, False), ("client.c", -0.3, False)], ["a"]),
    ],
)
def test_smaller_changes_that_may_do_as_well(
    findings: list[tuple[str, float, bool]], stay: list[str]
) -> None:
    reduced, client = smaller(LEADER, [finding(*each) for each in findings])
    assert [name for name, _ in reduced.changes] == stay
    assert (client.name, client.changes) == ("c01 client alone", (("client.c", 3), ("client.d", 4)))


def test_smaller_changes_are_neither_none_nor_all() -> None:
    assert smaller(Candidate("x", (("client.c", 3),)), []) == []
    assert smaller(Candidate("x", (("a", 3), ("b", 1))), []) == []
    [only] = smaller(Candidate("x", (("a", 3), ("client.c", 1))), [])
    assert only.changes == (("client.c", 1),)
    both = smaller(Candidate("x", (("a", 3), ("client.c", 1))), [finding("client.c", 1.0, True)])
    assert [each.name for each in both] == ["x reduced"]


def test_noise_alone_proposes_nothing() -> None:
    proposed = 0
    for seed in range(20):
        machine = Machine(lambda _: good(), noise=0.2, seed=seed)
        proposed += conclude(machine.search(150.0).run()).candidate is not None
    assert proposed <= 2


def test_a_gain_is_found_in_noise() -> None:
    machine = Machine(linger_matters, noise=0.15)
    proposal = conclude(machine.search(400.0).run())
    assert proposal.candidate is not None
    assert dict(proposal.candidate.changes)["ingest.linger_s"] == 0.0
    assert proposal.chance <= 0.05


def test_where_nothing_is_better_it_ends_early() -> None:
    machine = Machine(lambda settings: good(1000.0 if settings["client.in_flight"] == 16 else 10.0))
    machine.space = type(machine.space)(machine.space.knobs[3:])
    evidence = machine.search().run()
    assert evidence.round_of("confirmation") is None
    assert "no candidate came near" in conclude(evidence).reason


def test_the_weights_decide() -> None:
    def trade(settings: object) -> Run:
        assert isinstance(settings, dict)
        many = settings["client.in_flight"] / 16
        return good(1000.0 * many**0.5, 0.01 * many)

    for weights, in_flight in ((Weights(1, 0, 0), 1), (Weights(0, 1, 0), 64)):
        proposal = conclude(Machine(trade).search(weights=weights).run())
        assert proposal.candidate is not None
        assert dict(proposal.candidate.changes) == {"client.in_flight": in_flight}


def test_candidates_that_fail_are_named_and_dropped() -> None:
    def some_fail(settings: object) -> Run:
        assert isinstance(settings, dict)
        if settings["batch.zstd_level"] == 9:
            return Run(errors=1, fault="the daemon ended with status 78")
        return linger_matters(settings)

    evidence = Machine(some_fail).search().run()
    failed = [
        row
        for each in evidence.rounds
        for row in each.rows
        if dict(row.candidate.changes).get("batch.zstd_level") == 9
    ]
    assert failed
    assert all(not row.kept and row.score == 0 for row in failed if row.kept is not None)
    assert failed[0].middle.fault == "the daemon ended with status 78"
    proposal = conclude(evidence)
    assert proposal.candidate is not None
    assert proposal.candidate.changes == (NO_LINGER,)


def test_every_candidate_fails() -> None:
    def only_present(settings: object) -> Run:
        assert isinstance(settings, dict)
        present = {knob.name: knob.present for knob in machine.space.knobs}
        return good() if settings == present else Run(errors=1, fault="dead")

    machine = Machine(only_present)
    assert conclude(machine.search().run()).candidate is None


def test_the_present_configuration_fails() -> None:
    with pytest.raises(PresentFails, match="nothing was acked"):
        Machine(lambda _: Run()).search().run()


def test_it_fails_later_on_for_a_while() -> None:
    """What was known of it before is what candidates are compared with."""
    calls = 0

    def hiccup(settings: object) -> Run:
        nonlocal calls
        calls += 1
        assert isinstance(settings, dict)
        return Run(errors=1, fault="late") if 2 < calls < 12 else linger_matters(settings)

    evidence = Machine(hiccup).search().run()
    assert all(row.score >= 0 for each in evidence.rounds for row in each.rows)
    assert evidence.round_of("confirmation") is not None


@pytest.mark.parametrize("at", [1, 2, 9, 30, 60])
def test_interrupted_it_has_what_was_measured(at: int) -> None:
    machine = Machine(linger_matters)

    def interrupt(settings: object) -> Run:
        if len(machine.runs) == at:
            raise KeyboardInterrupt
        return linger_matters(settings)

    machine.figures = interrupt
    evidence = machine.search().run()
    assert evidence.cut_short == INTERRUPTED
    assert evidence.runs == at - 1
    assert conclude(evidence).candidate is None


def test_a_measurement_can_end_it() -> None:
    machine = Machine(linger_matters)

    def stop(settings: object) -> Run:
        if len(machine.runs) == 9:
            raise StopSearch("no room")
        return linger_matters(settings)

    machine.figures = stop
    evidence = machine.search().run()
    assert (evidence.cut_short, evidence.runs) == ("no room", 8)
    assert conclude(evidence).reason == "no room before anything was confirmed"


@pytest.mark.parametrize("budget_s", [25.0, 40.0, 90.0, 200.0, 600.0])
def test_it_stays_within_the_budget(budget_s: float) -> None:
    machine = Machine(linger_matters)
    evidence = machine.search(budget_s).run()
    assert machine.now_s <= budget_s
    assert not evidence.cut_short
    assert conclude(evidence).candidate is not None


def test_runs_that_take_longer_than_planned_end_at_the_budget() -> None:
    machine = Machine(linger_matters)

    def slower(settings: object) -> Run:
        machine.now_s += 3.0 if len(machine.runs) > 3 else 0.0
        return linger_matters(settings)

    machine.figures = slower
    evidence = machine.search(120.0).run()
    assert machine.now_s <= 120.0 + 10.0
    assert conclude(evidence).reason


def test_a_confirmation_that_is_cut_short_proves_nothing() -> None:
    machine = Machine(linger_matters)
    search = machine.search(90.0)
    # Too little time is left for more than two or three passes of what takes so long.
    kinds = [each.kind for each in machine.search(90.0).run().rounds]
    machine.now_s = 0.0

    def stuck(settings: object) -> Run:
        if len(search.evidence.rounds) == len(kinds) - 1:
            machine.now_s += 4.0
        return linger_matters(settings)

    machine.figures = stuck
    evidence = search.run()
    confirmation = evidence.round_of("confirmation")
    assert confirmation is not None
    assert evidence.cut_short == OUT_OF_TIME
    assert not confirmation.complete
    assert "at least 6 are needed" in conclude(evidence).reason


def test_a_budget_that_is_too_short() -> None:
    with pytest.raises(BudgetTooShort):
        Machine(linger_matters).search(8.0).run()


def test_nothing_to_search() -> None:
    machine = Machine(lambda _: good())
    machine.space = type(machine.space)(())
    evidence = machine.search().run()
    assert evidence.notes == ["there is nothing to search: no setting has another value"]
    assert conclude(evidence).candidate is None
