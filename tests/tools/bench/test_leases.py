"""The structures of consumer groups under many leases: every step does what it is to measure."""

from __future__ import annotations

import gc
import json

import pytest
from click.testing import CliRunner

from streamer_tools.bench.leases import Pauses, Plan, Run
from streamer_tools.main import main


def test_a_run_has_all_figures() -> None:
    found = Run(Plan(leases=1003, partitions=4, ack_wait_s=60.0, waiting_s=30.0)).figures()
    for name in ("handed_out_per_s", "extended_per_s", "expired_per_s", "redelivered_per_s"):
        assert found[name] > 0
    assert found["longest_call_ms"] > 0
    assert found["waiting_cpu_percent"] >= 0


def test_pauses_are_timed_and_given_back() -> None:
    before = list(gc.callbacks)
    pauses = Pauses()
    with pauses:
        gc.collect()
    assert pauses.longest_s > 0
    assert gc.callbacks == before


def test_the_command_reports_medians_and_repeats() -> None:
    arguments = ["bench", "leases", "--leases", "2000", "--repeats", "2", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["settings"] == {
        "leases": 2000, "partitions": 4, "ack_wait_s": 1800, "waiting_s": 600, "repeats": 2,
    }  # fmt: skip
    assert len(document["repeats"]) == 2
    assert document["median"].keys() == document["repeats"][0].keys()
    assert document["machine"]["cpus"]
    assert any(line.startswith("leases: 2,000 out, ") for line in result.stderr.splitlines())


@pytest.mark.parametrize("waiting", ["30m", "2h"])
def test_leases_that_would_run_out_while_they_wait_are_refused(waiting: str) -> None:
    result = CliRunner().invoke(main, ["bench", "leases", "--waiting", waiting])
    assert result.exit_code == 2
    assert "1,000,000 leases that wait for" in result.stderr
