"""Nothing is proposed that did not run: by hand, and against machines that do their worst."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer_tools.tune.certainty import PAIRS_MIN
from streamer_tools.tune.config_file import changed
from streamer_tools.tune.evidence import Evidence, NotMeasured, Round, Row
from streamer_tools.tune.plan import BudgetTooShort
from streamer_tools.tune.proposal import check_measured, conclude
from streamer_tools.tune.score import Run, Weights
from streamer_tools.tune.search import PresentFails, StopSearch
from streamer_tools.tune.space import PRESENT, Candidate
from tests.tools.tune.fakes import Machine, good, space

LEADER = Candidate("c01", (("ingest.linger_s", 0.0), ("batch.zstd_level", 3)))


def row(candidate: Candidate, score: float, runs: int = PAIRS_MIN) -> Row:
    return Row(candidate, (good(1000.0 * score),) * runs, (score,) * runs)


def evidence(*rows: Row, **more: object) -> Evidence:
    found = Evidence(space(), Weights(), 0, leader=LEADER)
    found.rounds = [Round("confirmation", "confirmation", 1.0, rows)]
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_the_one_that_proves_better() -> None:
    proposal = conclude(evidence(row(Candidate(PRESENT), 1.0), row(LEADER, 1.5)))
    assert proposal.candidate == LEADER
    assert proposal.gain == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(Candidate(PRESENT), 1.0), row(LEADER, 1.001)], "below 2%"),
        ([row(Candidate(PRESENT), 1.0), row(LEADER, 0.9)], "beyond the noise"),
        ([row(Candidate(PRESENT), 1.0, 5), row(LEADER, 3.0, 5)], "confirmation: 5, and at least 6"),
        (
            [
                row(Candidate(PRESENT), 1.0),
                attrs.evolve(row(LEADER, 3.0), runs=(*[good()] * 5, Run(fault="it died"))),
            ],
            "failed in the confirmation: it died",
        ),
    ],
)
def test_or_none_and_why(rows: list[Row], reason: str) -> None:
    proposal = conclude(evidence(*rows))
    assert proposal.candidate is None
    assert reason in proposal.reason


def test_the_smaller_change_unless_it_is_worse() -> None:
    reduced = LEADER.without(["batch.zstd_level"], "c01 reduced")
    present = row(Candidate(PRESENT), 1.0)
    alike = evidence(present, row(LEADER, 1.5), row(reduced, 1.49), reduced=[reduced])
    assert conclude(alike).candidate == reduced
    assert conclude(alike).dropped == ("batch.zstd_level",)
    worse = evidence(present, row(LEADER, 1.5), row(reduced, 1.2), reduced=[reduced])
    assert conclude(worse).candidate == LEADER


def test_smaller_ones_are_looked_at_only_while_each_proves_better() -> None:
    three = Candidate("c01", (*LEADER.changes, ("client.in_flight", 64)))
    two = three.without(["batch.zstd_level"], "c01 reduced")
    one = three.without(["ingest.linger_s", "batch.zstd_level"], "c01 client alone")
    present = row(Candidate(PRESENT), 1.0)

    def found(*scores: float) -> Candidate | None:
        rows = [row(each, score) for each, score in zip((three, two, one), scores, strict=True)]
        return conclude(evidence(present, *rows, leader=three, reduced=[one, two])).candidate

    assert found(1.5, 1.5, 1.5) == one
    assert found(1.5, 1.5, 1.0) == two
    # By itself it proves better; after one that does not, that may be luck.
    assert found(1.5, 1.0, 1.5) == three
    assert found(1.0, 1.5, 1.5) is None


def test_a_candidate_that_was_not_confirmed_is_a_bug() -> None:
    other = Candidate("c02", (("batch.zstd_level", 9),))
    with pytest.raises(NotMeasured, match="c02"):
        conclude(evidence(row(Candidate(PRESENT), 1.0), row(LEADER, 1.5), leader=other))
    # The same name with another value is another candidate.
    forged = Candidate("c01", (("ingest.linger_s", 0.0), ("batch.zstd_level", 9)))
    with pytest.raises(NotMeasured, match="c01"):
        conclude(evidence(row(Candidate(PRESENT), 1.0), row(LEADER, 1.5), leader=forged))
    with pytest.raises(NotMeasured, match="reduced"):
        conclude(
            evidence(
                row(Candidate(PRESENT), 1.0),
                row(LEADER, 1.5),
                reduced=[attrs.evolve(other, name="reduced")],
            )
        )


def test_values_that_ran_apart_have_not_run_together() -> None:
    apart = [
        Candidate("c01", (("ingest.linger_s", 0.0),)),
        Candidate("c02", (("batch.zstd_level", 3),)),
    ]
    found = evidence(*(row(each, 1.5) for each in apart))
    for each in apart:
        check_measured(found, each.changes)
    with pytest.raises(NotMeasured):
        check_measured(found, LEADER.changes)
    with pytest.raises(NotMeasured):
        check_measured(Evidence(space(), Weights(), 0), LEADER.changes)


def test_too_few_runs_with_figures_are_no_measurement() -> None:
    runs = (*[good()] * (PAIRS_MIN - 1), Run(fault="dead"))
    with pytest.raises(NotMeasured):
        check_measured(evidence(Row(LEADER, runs, (1.0,) * PAIRS_MIN)), LEADER.changes)


figure = st.one_of(
    st.floats(min_value=1e-6, max_value=1e6),
    st.sampled_from([0.0, -1.0, math.nan, math.inf]),
)
runs = st.builds(
    Run, figure, figure, figure, st.integers(0, 1000), st.integers(0, 3), st.sampled_from(["", "x"])
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_the_runs_give_only_what_ran_is_proposed(data: st.DataObject) -> None:
    machine = Machine(lambda _: good())
    ends_at = data.draw(st.integers(2, 250), "ends at")
    ending = data.draw(st.sampled_from([KeyboardInterrupt(), StopSearch("full")]), "ending")
    luck = data.draw(st.randoms(use_true_random=False), "luck")
    pool = data.draw(st.lists(runs, min_size=1, max_size=6), "runs")
    favoured = data.draw(st.sampled_from(["batch.zstd_level", "client.in_flight", ""]), "favoured")

    def figures(settings: object) -> Run:
        assert isinstance(settings, dict)
        if len(machine.runs) == ends_at:
            raise ending
        machine.now_s += luck.choice([0.0, 0.0, 0.0, 2.0])
        if len(machine.runs) == 1 or luck.random() < 0.9:
            better = favoured and settings[favoured] != machine.space.knob(favoured).present
            return good(3000.0 if better else 1000.0)
        return luck.choice(pool)

    machine.figures = figures
    search = machine.search(data.draw(st.floats(10.0, 500.0), "budget"))
    try:
        found = search.run()
    except (PresentFails, BudgetTooShort):
        return
    proposal = conclude(found)
    if proposal.candidate is None:
        return
    ran = [candidate for candidate, _ in machine.runs if candidate == proposal.candidate]
    assert len(ran) >= PAIRS_MIN
    texts = {changed("", machine.space.config_changes(candidate)) for candidate in ran}
    assert texts == {changed("", machine.space.config_changes(proposal.candidate))}
    assert proposal.gain > 0
