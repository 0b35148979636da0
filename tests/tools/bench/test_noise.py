"""What speaks against figures: other load, stolen time, spread, shared cores."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from streamer_tools.bench.noise import Noise, Seen, Stat, parse_stat, sentences, watching
from streamer_tools.bench.quiet import Quiet

#: As the kernel writes it: user nice system idle iowait irq softirq steal guest guest_nice.
STAT = "cpu  1000 100 500 8000 200 10 20 170 5 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n"

QUIET: dict[str, Any] = {
    "load_average": {"before": 0.1, "after": 0.1}, "cpus": 2, "seconds": 3.0,
    "client_cpu_cores": 0.9, "daemon_cpu_cores": 0.5, "other_cpu_cores": 0.02,
    "steal_share": 0.0, "shared_cores": True, "spread_share": 0.02, "shortest_run_s": 1.0,
}  # fmt: skip


def test_stat_is_read_in_seconds() -> None:
    assert parse_stat(STAT, 100) == Stat(busy_s=16.3, steal_s=1.7, total_s=100.0)
    assert parse_stat("", 100) is None
    assert parse_stat("cpu 1 2 3", 100) is None
    assert Stat(5, 2, 9) - Stat(1, 1, 1) == Stat(4, 1, 8)


def test_a_quiet_machine() -> None:
    text = " ".join(sentences(QUIET))
    assert "Other programs used 0.02 of 2 cores meanwhile, which is little." in text
    assert "(steal)." in text
    assert "share 2 cores" in text
    assert "Not known: the processor's clock frequency" in text


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"other_cpu_cores": 1.2}, "Other programs used 1.2 of 2 cores meanwhile (the kernel's"),
        ({"other_cpu_cores": None}, "Not known: what other programs did"),
        ({"steal_share": 0.05}, "took 5.0% of the CPU time away (steal): compare with care"),
        ({"spread_share": 0.31}, "lie 31% apart: smaller differences mean nothing"),
        ({"spread_share": None}, "One repeat says nothing about spread"),
        ({"shared_cores": False}, "run on cores of their own"),
        ({"shared_cores": None}, "Not known: whether the daemon shares cores"),
        ({"dropped_runs": 3}, "3 runs were made again, since other programs disturbed them."),
        ({"shortest_run_s": 0.08}, "A run took only 0.08 s"),
    ],
)
def test_what_is_not_quiet_is_said(changed: dict[str, Any], says: str) -> None:
    assert says in " ".join(sentences(QUIET | changed))


def test_without_a_daemon_nothing_is_said_of_cores() -> None:
    assert not any("cores of" in each or "shares cores" in each
                   for each in sentences(QUIET | {"shared_cores": None}, daemon=False))  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_run_is_counted() -> None:
    noise = Noise()
    with watching(os.getppid()) as seen:
        sum(range(2_000_000))
    noise.add(seen, os.getppid())
    assert seen.other_cores is not None
    assert noise.seconds > 0
    assert noise.client_cpu_s > 0
    assert noise.shared_cores is not None
    case = {
        "median": {"records_per_s": 100.0},
        "spread": {"records_per_s": {"min": 90, "max": 110}},
        "repeats": [{"seconds": 1.0}, {"seconds": 2.0}],
    }
    found = noise.document([case])
    assert found["spread_share"] == 0.2
    assert found["shortest_run_s"] == 1.0
    assert found["other_cpu_cores"] >= 0
    assert found["sentences"]


def used(cores: float | None) -> Seen:
    return Seen(seconds=2.0, other_cpu_s=None if cores is None else 2.0 * cores)


def quiet(budget_s: float, *looks: float | None) -> tuple[Quiet, list[str], list[Seen]]:
    said: list[str] = []
    left = [used(cores) for cores in looks]
    return Quiet(budget_s, said.append, lambda: left.pop(0)), said, left


def test_it_waits_until_others_are_quiet() -> None:
    found, said, left = quiet(60.0, 1.5, 0.9, 0.05, 1.0)
    found.wait()
    assert len(left) == 1
    assert found.left_s == 56.0
    assert said == ["waiting: other programs use 1.5 cores"]


def test_it_waits_no_longer_than_it_may() -> None:
    found, _, left = quiet(3.0, 1.0, 1.0, 1.0)
    found.wait()
    assert len(left) == 1
    found.wait()
    assert len(left) == 1, "the budget is used up"
    assert not found.again(used(1.0))


def test_a_disturbed_run_is_made_again_while_there_is_time() -> None:
    found, said, _ = quiet(3.0)
    assert not found.again(used(0.1))
    assert found.again(used(0.5))
    assert said == ["again: other programs used 0.5 cores meanwhile"]
    assert found.again(used(0.5))
    assert not found.again(used(0.5))


def test_where_the_system_does_not_tell_nothing_waits() -> None:
    found, _, left = quiet(3.0, None)
    found.wait()
    assert left == []
    assert not found.again(used(None))
