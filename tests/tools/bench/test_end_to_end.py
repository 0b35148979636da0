"""Benchmarks against real daemons: what they report, what they leave behind, what they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, run
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from click.testing import CliRunner

from streamer_tools.bench.contract import Case, Measurement
from streamer_tools.bench.registry import Benchmarks
from streamer_tools.bench.runner import Bench
from streamer_tools.main import main
from streamer_tools.own_daemon import command_line

if TYPE_CHECKING:
    from conftest import Shell

TIMEOUT_S = 60

WORKLOADS = ["produce", "post", "single", "shared", "consume", "group", "latency"]
#: Small values for options that a workload has.
SMALL: dict[str, Any] = {
    "batch": 50, "clients": 2, "in_flight": 16, "rate": 3000.0, "single_records": 100,
}  # fmt: skip


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_benchmark_reports_what_it_measured(shell: Shell, workload: str) -> None:
    settings = Benchmarks.installed().get(workload).settings
    fields = [field.name for field in attrs.fields(settings)]
    used = {name: value for name, value in SMALL.items() if name in fields}
    arguments = ["bench", workload, "--json", "--records", "300", "--repeats", "2"]
    for name, value in used.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    document = json.loads(shell(*arguments).stdout)
    assert document["workload"] == workload
    expected = attrs.asdict(settings(records=300, **used))
    expected |= {"repeats": 2, "url": shell.url, "transport": "ws"}
    assert document["settings"] == expected
    assert len(document["repeats"]) == 2
    assert document["median"]["records_per_s"] > 0
    assert 10 < document["median"]["disk_bytes_per_record"] < 400
    assert document["machine"]["fsync_median_ms"] > 0
    assert document["versions"]["trio"]
    assert document["peak_rss_bytes"]["client"] > 1e6
    assert document["spread"]["records_per_s"].keys() == {"min", "max", "mad"}
    assert document["noise"]["sentences"]
    timed = workload in ("produce", "single", "shared", "latency")
    assert (document["median"]["latency_ms"] is not None) == timed
    assert ("single_records_per_s" in document["median"]) == (workload == "group")
    assert ("timelines" in document) == ("distribution" in document) == timed


def test_a_benchmark_with_a_daemon_of_its_own_leaves_nothing_behind(
    shell: Shell, tmp_path: Path
) -> None:
    arguments = ["bench", "produce", "--records", "2000", "--repeats", "1", "--transport", "unix"]
    result = run(
        command_line(*arguments, "--data", str(tmp_path)),
        capture_output=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert document["settings"]["transport"] == "unix"
    assert "url" not in document["settings"]
    assert document["median"]["daemon_cpu_s"] is not None
    assert document["peak_rss_bytes"]["daemon"] > 1e6
    assert b"records/s" in result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["consume", "--clients", "5"], "--clients"),
        (["produce", "--rate", "5"], "--rate"),
        (["produce", "--url", "tcp://h:1", "--transport", "unix"], "--transport"),
        (["produce", "--url", "tcp://h:1", "--config", "x"], "--config"),
        (["produce", "--url", "tcp://h:1", "--data", "x"], "--data"),
        (["produce", "--url", "foo"], "foo"),
    ],
)
def test_a_benchmark_refuses_what_it_would_not_use(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exit_code == 2
    assert named in result.stderr


def test_a_benchmark_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    arguments = ["bench", "latency", "--rate", "10", "--records", "100000", "--data", str(tmp_path)]
    with Popen(command_line(*arguments), stderr=PIPE, stdout=DEVNULL) as bench:
        assert bench.stderr is not None
        assert bench.stderr.readline().startswith(b"latency: against ws://")
        bench.terminate()
        assert bench.wait(TIMEOUT_S) == 130
    assert os.listdir(tmp_path) == []


def test_a_workload_as_a_library_call(tmp_path: Path) -> None:
    benchmark = Benchmarks.installed().get("produce")
    settings = benchmark.settings(records=2000, batch=100)
    said: list[str] = []
    bench = Bench("unix", directory=tmp_path, say=said.append)
    config = "[[pipelines]]\n[pipelines.ingest]\nrecords_max = 64\n"
    found = bench.measure(benchmark, Case("small", settings, config))
    assert isinstance(found, Measurement)
    assert found.records == 2000
    assert found.daemon_cpu_s is not None
    assert found.daemon_peak_rss_bytes is not None
    assert len(found.latencies_s) == len(found.at_s) == 20
    assert said == []
    assert os.listdir(tmp_path) == []
