"""A result against an earlier one: what is compared, what is refused, what fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from streamer_tools.bench import compare
from streamer_tools.bench.contract import Measurement
from streamer_tools.bench.results import report
from streamer_tools.exits import Told

SETTINGS = {"records": 1000, "value_bytes": 100, "repeats": 3, "transport": "ws", "config": None}


def result(*seconds: float, settings: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    runs = [Measurement(1000, 100_000, each, [each / 100]) for each in seconds]
    return report("post", settings or SETTINGS, runs, **facts)


def row(comparison: dict[str, Any], figure: str) -> dict[str, Any]:
    [found] = [row for row in comparison["figures"] if row["figure"] == figure]
    return dict(found)


def test_beyond_the_noise_is_where_the_ranges_do_not_touch() -> None:
    found = compare.compare(result(1.0, 1.1, 1.2), result(0.5, 0.6, 0.7), "old.json")
    rate = row(found, "records_per_s")
    assert (rate["before"], rate["now"]) == (909.1, 1667)
    assert rate["ratio"] == pytest.approx(1.834, abs=0.001)
    assert rate["beyond_noise"] is True
    assert rate["says"] == "better"
    latency = row(found, "latency_ms.p99")
    assert latency["ratio"] < 1
    assert latency["says"] == "better"
    back = compare.compare(result(0.5, 0.6, 0.7), result(1.0, 1.1, 1.2), "old.json")
    assert row(back, "records_per_s")["says"] == row(back, "latency_ms.p50")["says"] == "worse"


def test_within_the_noise_and_not_known() -> None:
    found = compare.compare(result(1.0, 1.1, 1.2), result(1.15, 1.3, 1.4), "old.json")
    assert row(found, "records_per_s")["says"] == "within the noise"
    assert row(found, "seconds")["beyond_noise"] is False
    one = compare.compare(result(1.0), result(2.0), "old.json")
    assert row(one, "records_per_s")["beyond_noise"] is None
    assert row(one, "records_per_s")["says"] == "not known: one repeat"
    same = compare.compare(result(1.0), result(1.0), "old.json")
    assert row(same, "records_per_s")["says"] == "the same"


def test_what_was_not_measured_is_not_compared() -> None:
    names = {row["figure"] for row in compare.compare(result(1.0), result(2.0), "x")["figures"]}
    assert "client_cpu_s" not in names


def test_other_workloads_and_settings_are_refused_by_name() -> None:
    with pytest.raises(click.UsageError, match="earlier result is of post, this is single"):
        compare.check(result(1.0), "single", SETTINGS, {})
    other = SETTINGS | {"records": 5, "value_bytes": 7}
    with pytest.raises(click.UsageError, match=r"records was 1000 and is 5, value_bytes was 100 a"):
        compare.check(result(1.0), "post", other, {})


def test_what_does_not_change_the_work_is_not_refused_but_told() -> None:
    other = SETTINGS | {"repeats": 9, "config": "my.toml"}
    compare.check(result(1.0), "post", other, {})
    now = result(1.0, settings=other, machine={"cpus": 8}, versions={"streamer": "2"})
    old = result(1.0, machine={"cpus": 2}, versions={"streamer": "1"})
    assert compare.compare(old, now, "x")["notes"] == [
        'config was null and is "my.toml"',
        "machine: cpus was 2 and is 8",
        'versions: streamer was "1" and is "2"',
    ]


def test_a_setting_that_was_added_since_had_its_default() -> None:
    now = SETTINGS | {"linger_s": 0.0}
    compare.check(result(1.0), "post", now, {"linger_s": 0})
    with pytest.raises(click.UsageError, match="linger_s was 0 and is 1"):
        compare.check(result(1.0), "post", now | {"linger_s": 1.0}, {"linger_s": 0.0})


def test_cases_are_compared_by_their_names() -> None:
    one, two = result(1.0, 1.0), result(2.0, 2.0)
    old = one | {"cases": [one | {"name": "a"}, two | {"name": "b"}]}
    new = one | {"cases": [two | {"name": "a"}, one | {"name": "c"}]}
    found = compare.compare(old, new, "x")
    assert {row["case"] for row in found["figures"]} == {"a"}
    assert found["notes"] == ["only in one of them: b, c"]


def test_fail_below_counts_rates_and_latencies_beyond_the_noise() -> None:
    found = compare.compare(result(1.0, 1.0), result(2.0, 2.0), "x")
    lines = compare.below(found, 0.9)
    assert lines[0] == (
        "records_per_s: 500 against 1,000 is 0.500 of the earlier result, allowed is at least 0.9"
    )
    assert {line.partition(":")[0] for line in lines} == {
        "records_per_s", "mb_per_s", "latency_ms.p50", "latency_ms.p99",
    }  # fmt: skip
    assert compare.below(found, 0.4) == []
    noisy = compare.compare(result(1.0, 3.0), result(2.0, 2.5), "x")
    assert compare.below(noisy, 0.99) == []
    single = compare.compare(result(1.0), result(2.0), "x")
    assert compare.below(single, 0.9), "one repeat has no noise to be within"
    assert compare.below(compare.compare(result(2.0), result(1.0), "x"), 1.0) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is no map"),
        ("{}", "it has no workload"),
        ('{"workload": "post"}', "it has no settings"),
        ('{"workload": "post", "settings": {}}', "it has no medians of repeats"),
        ('{"workload": "post", "settings": {}, "median": {}, "repeats": []}', "it has no repeats"),
    ],
)
def test_a_file_that_is_no_result_says_why(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(Told, match=says) as caught:
        compare.load(file)
    assert caught.value.status == 74
    with pytest.raises(Told, match="No such file"):
        compare.load(tmp_path / "nothing")


def test_an_older_result_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    old = result(1.0, 2.0)
    del old["spread"]
    file.write_text(json.dumps(old))
    found = compare.compare(compare.load(file), result(0.5, 0.5), "x")
    assert row(found, "records_per_s")["beyond_noise"] is True
    limits = {"workload": "limits", "settings": {}, "codec": {"encode_records_per_s": 5.0}}
    file.write_text(json.dumps(limits))
    assert compare.load(file)["median"] == {"codec": {"encode_records_per_s": 5.0}}
