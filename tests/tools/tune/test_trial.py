"""Runs on real daemons: each kind of workload has figures, and what goes wrong is said."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from streamer.config_load import load_config
from streamer.pipeline.registry import Registry
from streamer_tools.bench.runner import Bench
from streamer_tools.tune.search import StopSearch
from streamer_tools.tune.space import Candidate, Knob, Space, make_space
from streamer_tools.tune.trial import Trials
from streamer_tools.tune.workload import Workload, make_pool

SECONDS = 0.2
PRESENT = Candidate("present")


def trials(workload: Workload, directory: Path, text: str = "", **more: object) -> Trials:
    space = make_space(load_config(None, Registry.installed()), workload)
    pool, _ = make_pool(workload, 1 << 20)
    return Trials(space, workload, pool, text, Bench(transport="unix", directory=directory))


@pytest.mark.parametrize(
    "workload",
    [
        Workload(producers=2),
        Workload(producers=2, tasks=4, readers=1),
        Workload(producers=2, rate=200.0),
        Workload(mode="batch", producers=1),
        Workload(mode="batch", producers=2, rate=5000.0),
    ],
)
def test_each_kind_of_workload_has_figures(workload: Workload, tmp_path: Path) -> None:
    run = trials(workload, tmp_path)(PRESENT, SECONDS)
    assert not run.failed, run
    assert run.errors == 0, run
    assert 0 < run.p50_s <= run.p99_s < 5
    if workload.rate:
        assert run.records_per_s == pytest.approx(workload.rate, rel=0.5)
    # Nothing is left behind.
    assert list(tmp_path.iterdir()) == []


def test_the_daemon_runs_with_what_is_proposed(tmp_path: Path) -> None:
    made = trials(Workload(producers=1), tmp_path, "# ours\n[batch]\nzstd_level = 2 # so\n")
    run = made(Candidate("c", (("batch.zstd_level", 9), ("ingest.linger_s", 0.0))), SECONDS)
    assert not run.failed
    [text] = made.ran
    assert text.startswith("# ours\n[batch]\nzstd_level = 9 # so\n")
    assert "linger_s = 0.0" in text


def test_a_candidate_that_does_not_start_is_named_not_raised(tmp_path: Path) -> None:
    made = trials(Workload(producers=1), tmp_path)
    bad = Knob("batch.zstd_level", 1, (1, 99), ("batch", "zstd_level"))
    made = Trials(Space((bad,)), made.workload, made.pool, "", made.bench)
    run = made(Candidate("c", (("batch.zstd_level", 99),)), SECONDS)
    assert run.failed
    assert run.fault.startswith("the daemon ended with status 78; ")
    assert "batch.zstd_level: found 99" in run.fault
    assert not made.ran


def test_what_the_daemon_refuses_is_an_error_of_the_run(tmp_path: Path) -> None:
    text = "[batch]\nvalue_bytes = 50\n"
    run = trials(Workload(producers=1), tmp_path, text)(PRESENT, SECONDS)
    assert run.failed
    assert run.errors > 0
    assert "value" in run.fault


def test_more_connections_than_sessions(tmp_path: Path) -> None:
    text = "[session]\nsessions = 1\nsessions_per_address = 1\n"
    run = trials(Workload(producers=2), tmp_path, text)(PRESENT, SECONDS)
    assert run.failed
    assert run.fault


def test_no_room_ends_the_search(tmp_path: Path) -> None:
    made = attrs.evolve(trials(Workload(producers=1), tmp_path), room_bytes=1 << 60)
    with pytest.raises(StopSearch, match=rf"are free on the disk of {tmp_path}, and runs need"):
        made(PRESENT, SECONDS)
    assert list(tmp_path.iterdir()) == []
