"""From a benchmark to its document, its lines, its files and its exit status."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner, Result

from streamer import setting
from streamer_tools.bench import telling
from streamer_tools.bench.command import command
from streamer_tools.bench.contract import Benchmark, Case, Measurement, Run, Target, Workbench
from streamer_tools.bench.registry import Benchmarks
from streamer_tools.exits import Exit, Told
from streamer_tools.main import main


@attrs.frozen
class PaceSettings:
    records: int = setting(5000, "records", min=1)
    rate: float = setting(1000.0, "records a second", unit="records/s", min=1.0)
    slow: bool = setting(False, "half as fast")


@asynccontextmanager
async def open_pace(settings: PaceSettings, _: Target) -> AsyncGenerator[Run, None]:
    async def run() -> Measurement:
        seconds = settings.records / settings.rate * (2 if settings.slow else 1)
        return Measurement(settings.records, 1000, seconds, [seconds / 1000])

    yield run


def plan(settings: PaceSettings, workbench: Workbench) -> list[Case]:
    workbench.say("planned")
    return [Case("quick", settings), Case("slow", attrs.evolve(settings, slow=True))]


def conclude(document: Any) -> dict[str, Any]:
    return {"conclusion": [f"There were {len(document['cases'])}."]}


PACE = Benchmark("pace", "At a pace.", PaceSettings, open_pace, daemon=False)
RACE = Benchmark(
    "race", "Two paces.", PaceSettings, open_pace, daemon=False, plan=plan, conclude=conclude
)


def bench(*arguments: str) -> Result:
    benchmarks = Benchmarks({}).with_benchmarks(PACE, RACE)
    return CliRunner().invoke(command, arguments, obj=benchmarks)


def test_files_take_the_place_of_standard_output(tmp_path: Path) -> None:
    output, html = tmp_path / "x.json", tmp_path / "x.html"
    result = bench("pace", "-o", str(output), "--html", str(html))
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    document = json.loads(output.read_text())
    assert document["median"]["records_per_s"] == 1000
    assert html.read_text().startswith("<!doctype html>")
    assert result.stderr.splitlines()[:3] == [
        "pace 1/3: 1,000 records/s, p99 5 ms",
        "pace 2/3: 1,000 records/s, p99 5 ms",
        "pace 3/3: 1,000 records/s, p99 5 ms",
    ]
    assert "pace: 1,000 records/s" in result.stderr
    assert "noise: Not known" in result.stderr


def test_a_directory_that_is_not_there_is_said_before_anything_runs(tmp_path: Path) -> None:
    result = bench("pace", "--html", str(tmp_path / "no" / "x.html"))
    assert isinstance(result.exception, Told)
    assert result.exception.status is Exit.IO
    assert "there is no directory" in str(result.exception)
    assert "pace 1/3" not in result.stderr


def test_cases_take_turns_and_stand_in_the_document() -> None:
    result = bench("race", "--repeats", "2", "--json")
    document = json.loads(result.stdout)
    said = [line.partition(":")[0] for line in result.stderr.splitlines()]
    assert said[:5] == ["planned", "race quick 1/2", "race slow 1/2", "race quick 2/2",
                        "race slow 2/2"]  # fmt: skip
    assert [case["name"] for case in document["cases"]] == ["quick", "slow"]
    assert document["cases"][1]["settings"]["slow"] is True
    assert document["settings"]["slow"] is False
    assert document["median"] == document["cases"][0]["median"]
    assert "There were 2." in result.stderr
    assert "slow           500" in result.stderr


def test_against_an_earlier_result_and_a_limit_for_machines(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    assert bench("race", "-o", str(old)).exit_code == 0
    same = bench("race", "--against", str(old), "--fail-below", "0.95", "-o", str(new))
    assert same.exit_code == 0, same.output
    assert "the same" in same.stderr
    document = json.loads(old.read_text())
    for case in document["cases"]:
        for each in (case["median"], *case["repeats"]):
            each["records_per_s"] *= 2
    old.write_text(json.dumps(document))
    worse = bench("race", "--against", str(old), "--fail-below", "0.95")
    assert isinstance(worse.exception, Told)
    assert worse.exception.status is Exit.FAILED
    assert worse.exception.lines[0].startswith("quick records_per_s: 1,000 against 2,000 is 0.500")
    assert bench("race", "--against", str(old)).exit_code == 0, "by itself it is an information"
    shown = bench("show", str(new), "--against", str(old), "--html", str(tmp_path / "x.html"))
    assert shown.exit_code == 0, shown.output
    assert "worse" in shown.stderr


def test_refusals_come_before_anything_runs(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    assert bench("pace", "-o", str(old)).exit_code == 0
    for arguments, says in (
        (["pace", "--records", "7"], "records was 5000 and is 7"),
        (["race"], "the earlier result is of pace, this is race"),
    ):
        result = bench(*arguments, "--against", str(old))
        assert result.exit_code == 2
        assert says in result.stderr
        assert "1/3" not in result.stderr
    assert bench("pace", "--fail-below", "0.9").exit_code == 2


def test_swing_refuses_a_daemon_that_it_did_not_make() -> None:
    for arguments in (["--url", "tcp://h:1"], ["--config", "x.toml"]):
        result = CliRunner().invoke(main, ["bench", "swing", *arguments])
        assert result.exit_code == 2
        assert "swing starts daemons of its own" in result.stderr


def test_tuples_and_sizes_are_read() -> None:
    for arguments, says in (
        (["--sizes", "1,x"], "'x' is not a valid integer"),
        (["--sizes", "0"], "0 is not in the range"),
        (["--lingers", "5ms,20s"], "20s is above 10"),
        (["--value-bytes", "many"], "no number of bytes"),
    ):
        result = CliRunner().invoke(main, ["bench", "swing", *arguments])
        assert result.exit_code == 2
        assert says in result.stderr


def test_a_table_leaves_out_what_no_row_has() -> None:
    columns = telling.CASE_COLUMNS
    rows = [{"name": "a b", "p99": 1.5}, {"name": "c", "p99": None}]
    assert telling.table(columns, rows).splitlines() == [
        "setting  p99 ms", "a b         1.5", "c             -",
    ]  # fmt: skip
