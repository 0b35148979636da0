"""How a budget is divided: the largest search that fits, and none that does not."""

from __future__ import annotations

import pytest

from streamer_tools.tune.plan import (
    CONFIRMATION,
    BudgetTooShort,
    Plan,
    cost_s,
    make_plan,
    turns,
)


def test_more_time_is_a_larger_search() -> None:
    sizes = [make_plan(budget_s, 1.0).candidates for budget_s in (25, 60, 300, 900, 3600)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 8 < sizes[-1]


@pytest.mark.parametrize("budget_s", [25, 60, 300, 900])
@pytest.mark.parametrize("overhead_s", [0.3, 1.0])
def test_it_fits(budget_s: float, overhead_s: float) -> None:
    assert make_plan(budget_s, overhead_s).total_s(overhead_s) <= budget_s


def test_too_short_says_what_would_do() -> None:
    with pytest.raises(BudgetTooShort) as caught:
        make_plan(3.0, 1.0)
    assert make_plan(caught.value.needed_s, 1.0) == Plan(2, 0.25, ablate=False)


def test_each_round_measures_twice_as_long() -> None:
    plan = Plan(16, 0.5)
    assert plan.rounds == 4
    assert [plan.seconds_of(number) for number in range(4)] == [0.5, 1.0, 2.0, 2.0]
    assert [plan.passes_of(number) for number in range(4)] == [1, 2, 2, 4]
    assert [Plan(8, 2.0).passes_of(number) for number in range(3)] == [1, 4, 8]


def test_time_goes_into_passes_and_then_into_longer_runs() -> None:
    found = [turns(left_s, 2, 1.0, CONFIRMATION) for left_s in (5, 15, 40, 120, 300, 3000)]
    assert found[0] is None
    passes = [each[0] for each in found[1:] if each is not None]
    assert passes == sorted(passes)
    assert (passes[0], passes[-1]) == (6, 30)
    for left_s, each in zip((15, 40, 120, 300, 3000), found[1:], strict=True):
        assert each is not None
        assert 2 * each[0] * cost_s(each[1], 1.0) <= left_s + 1e-6
        assert 0.2 <= each[1] <= 8.0
