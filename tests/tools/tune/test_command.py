"""What `tune` refuses before it measures anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer_tools.main import main


def refused(status: int, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["tune", *arguments])
    assert result.exit_code == status, (result.output, result.exception)
    assert result.stdout == ""
    return result.stderr


def test_a_workload_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text('mode = "both"\nspeed = 3\n')
    said = refused(78, str(file))
    assert said.splitlines() == [
        f'{file}: mode: found "both", allowed "single" or "batch" (did you mean "batch"?)',
        f"{file}: speed: found an unknown key, allowed mode, value_bytes, sample, rate, "
        "producers, tasks, readers, stream, client",
    ]


def test_a_configuration_with_faults(tmp_path: Path) -> None:
    file = tmp_path / "streamer.toml"
    file.write_text("[batch]\nzstd_level = 99\n")
    said = refused(78, "--config", str(file))
    assert f"{file}: batch.zstd_level: found 99, allowed a whole number from 1 to 19" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--weights", "speed=1"], "found 'speed=1', allowed latency=NUMBER"),
        (["--budget", "soon"], "'soon' is no time such as"),
        (["--rate", "-1"], "-1.0 is not in the range x>=0"),
    ],
)
def test_a_command_line_that_is_wrong(arguments: list[str], said: str) -> None:
    assert said in refused(2, *arguments)


def test_a_file_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    assert "found a directory, allowed a file" in refused(74, "--write", str(tmp_path))
    missing = tmp_path / "no" / "new.toml"
    assert "found no directory" in refused(74, "--write", str(missing))


def test_a_place_for_data_that_is_none(tmp_path: Path) -> None:
    said = refused(74, "--data", str(tmp_path / "no"))
    assert said.startswith(f"streamer: --data {tmp_path / 'no'}: found no directory")


def test_a_stream_that_no_pipeline_serves(tmp_path: Path) -> None:
    config, workload = tmp_path / "streamer.toml", tmp_path / "w.toml"
    config.write_text('[[pipelines]]\nname = "bulk"\nstreams = ["bulk-*"]\n')
    workload.write_text('stream = "other"\n')
    said = refused(1, str(workload), "--config", str(config))
    assert "no pipeline serves the stream 'other'" in said
