"""From runs to a report."""

from __future__ import annotations

import json

import pytest

from streamer_tools.bench.contract import Measurement
from streamer_tools.bench.contract import throughput_line as headline
from streamer_tools.bench.results import latency_ms, report


def test_percentiles_are_in_milliseconds() -> None:
    found = latency_ms([n / 1000 for n in range(1, 1001)])
    assert found is not None
    assert found["p50"] == pytest.approx(500, rel=0.01)
    assert found["p99"] == pytest.approx(990, rel=0.01)
    assert found["p99.9"] == pytest.approx(999, rel=0.01)
    assert found["max"] == pytest.approx(1000, rel=0.01)


def test_nothing_timed_is_no_latency() -> None:
    assert latency_ms([]) is None


def test_times_outside_the_histogram_are_kept_at_its_ends() -> None:
    found = latency_ms([0.0, 10_000.0])
    assert found is not None
    assert found["max"] == pytest.approx(600_000, rel=0.01)


def test_a_report_has_medians_and_every_repeat() -> None:
    runs = [
        Measurement(1000, 100_000, seconds, [seconds / 10], 0.5, 0.25, 20_000, {"lag_ms": 1.0})
        for seconds in (1.0, 4.0, 2.0)
    ]
    document = report("post", {"records": 1000}, runs, machine={"cpus": 2})
    assert document["median"]["records_per_s"] == 500
    assert document["median"]["disk_bytes_per_record"] == 20
    assert document["median"]["latency_ms"]["p50"] == pytest.approx(200, rel=0.01)
    assert document["median"]["lag_ms"] == 1
    assert [run["seconds"] for run in document["repeats"]] == [1, 4, 2]
    assert document["machine"] == {"cpus": 2}
    assert json.loads(json.dumps(document)) == document
    assert headline(document).startswith("post: 500 records/s, 0.1 MB/s, p50 200 ms")


def test_a_headline_has_the_second_figure_of_a_group() -> None:
    run = Measurement(1000, 100_000, 1.0, extra={"single_records_per_s": 50.0})
    assert "1,000 records/s, 0.1 MB/s, 50 records/s with an ack a record" in headline(
        report("group", {}, [run])
    )


def test_what_could_not_be_measured_is_null() -> None:
    document = report("post", {}, [Measurement(10, 10, 1.0)])
    assert document["median"]["daemon_cpu_s"] is None
    assert document["median"]["latency_ms"] is None
    assert "on disk" not in headline(document)
