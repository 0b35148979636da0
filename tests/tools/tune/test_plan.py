"""How a budget is divided: the largest search that fits, and none that does not."""

from __future__ import annotations

import pytest

from streamer_tools.tune.plan import BudgetTooShort, Plan, make_plan, seconds_that_fit


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


def test_each_round_is_twice_as_long_for_half_as_many() -> None:
    plan = Plan(16, 0.5)
    assert plan.rounds == 4
    assert [plan.seconds_of(number) for number in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert Plan(32, 2.0).seconds_of(4) == 8.0


def test_what_fits() -> None:
    assert seconds_that_fit(21.0, 10, 1.0) == pytest.approx(1.0)
    assert seconds_that_fit(5.0, 10, 1.0) < 0
    assert seconds_that_fit(1e6, 10, 1.0) == 8.0
