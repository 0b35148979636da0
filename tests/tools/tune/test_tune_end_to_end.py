"""`streamer tune` as a whole, on real daemons, with the smallest budgets."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from streamer_tools.own_daemon import command_line

TIMEOUT_S = 180

#: Compressing takes far longer than all the rest: any other level is better by far.
SLOW = """\
# written by hand
[batch]
zstd_level = 19  # disks are dear
"""


def tune(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line("tune", *arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_it_finds_measures_and_writes_what_is_better(tmp_path: Path) -> None:
    config, written = tmp_path / "streamer.toml", tmp_path / "new.toml"
    config.write_text(SLOW)
    result = tune(
        "--single", "--value-bytes", "32k", "--producers", "8", "--budget", "60s", "--config",
        str(config), "--write", str(written), "--data", str(tmp_path), "--json",
    )  # fmt: skip
    assert result.returncode == 0, result
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["machine"]["fsync_ms"] > 0
    assert {each["kind"] for each in found["rounds"]} >= {"first look", "halving", "confirmation"}
    proposal = found["proposal"]
    assert "batch.zstd_level" in proposal["settings"], proposal
    [confirmation] = [each for each in found["rounds"] if each["kind"] == "confirmation"]
    assert proposal["settings"] in [each["settings"] for each in confirmation["candidates"]]
    level = proposal["settings"]["batch.zstd_level"]
    assert f"# written by hand\n[batch]\nzstd_level = {level}  # disks" in written.read_text()
    assert found["diff"].startswith(f"--- {config}\n+++ {written}\n")
    checked = subprocess.run(command_line("check", "--config", str(written)), check=False)
    assert checked.returncode == 0


def test_a_budget_that_is_too_short(tmp_path: Path) -> None:
    result = tune("--producers", "1", "--budget", "3s", "--data", str(tmp_path))
    assert result.returncode == 2, result
    assert "--budget 3s is too short for one round" in result.stderr
    assert "allowed are" in result.stderr


def test_a_present_configuration_that_does_not_run_the_workload(tmp_path: Path) -> None:
    config = tmp_path / "streamer.toml"
    config.write_text("[session]\nsessions = 1\nsessions_per_address = 1\n")
    result = tune("--producers", "3", "--config", str(config), "--data", str(tmp_path))
    assert result.returncode == 1, result
    assert "the present configuration does not run this workload: " in result.stderr


def test_interrupted_it_prints_what_it_has(tmp_path: Path) -> None:
    written = tmp_path / "new.toml"
    process = subprocess.Popen(
        command_line(
            "tune", "--producers", "2", "--budget", "90s", "--write", str(written), "--data",
            str(tmp_path), "--json",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    while "round 1" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, (out, said + rest)
    found = json.loads(out)
    assert found["cut_short"] == "interrupted"
    assert found["rounds"][0]["kind"] == "first look"
    assert found["proposal"]["settings"] is None
    assert "was not written: interrupted" in rest
    # Daemons are gone, with their data.
    assert list(tmp_path.iterdir()) == []
