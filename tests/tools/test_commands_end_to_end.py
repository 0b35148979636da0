"""What the commands show of a real daemon; files have tests of their own."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from subprocess import PIPE, run
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from streamer_tools.bench.values import log_lines
from streamer_tools.main import main
from streamer_tools.own_daemon import OwnDaemon, command_line

if TYPE_CHECKING:
    from conftest import Shell

TIMEOUT_S = 60
SAMPLE = Path(__file__).parents[1] / "data" / "sample.log"


def test_streams_tells_offsets_and_sizes(shell: Shell) -> None:
    shell("produce", "listed", stdin=b"a\nb\nc\n")
    [found] = [each for each in json.loads(shell("streams", "--json").stdout)
               if each["name"] == "listed"]  # fmt: skip
    [partition] = found["partitions"]
    assert partition.items() >= {"first_offset": 0, "next_offset": 3, "high_water": 3}.items()
    assert partition["bytes"] > 96
    head, *rows = shell("streams").stdout.decode().splitlines()
    [row] = [row.split() for row in rows if row.startswith("listed")]
    assert dict(zip(head.split(), row, strict=True)).items() >= {
        "partition": "0", "state": "open", "records": "3", "high_water": "3",
    }.items()  # fmt: skip


def test_the_address_comes_from_the_environment(
    daemon: OwnDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_URL", daemon.url("unix"))
    assert CliRunner().invoke(main, ["streams", "--json"]).exit_code == 0
    monkeypatch.setenv("STREAMER_URL", "nonsense")
    result = CliRunner().invoke(main, ["streams", "--json"])
    assert result.exit_code == 2
    assert "nonsense" in result.stderr


def test_queues_tells_each_stage_and_its_limits(shell: Shell) -> None:
    shell("produce", "queued", stdin=b"a\n")
    pipelines = json.loads(shell("queues", "--json").stdout)
    [pipeline] = [each for each in pipelines if each["pipeline"] == "default"]
    assert [stage["place"] for stage in pipeline["stages"]] == [
        "ingest", "propose", "persist", "ack",
    ]  # fmt: skip
    for stage in pipeline["stages"]:
        channel = stage["channel"]
        assert channel["items"] == 0 < channel["items_seen"] <= channel["items_max"]
        assert channel["bytes"] == 0 < channel["bytes_seen"] <= channel["bytes_max"]
    lines = shell("queues").stdout.decode().splitlines()
    assert len(lines) == 1 + sum(len(each["stages"]) for each in pipelines)
    assert len({len(line.split()) for line in lines}) == 1


@pytest.mark.parametrize("options", [[], ["--json"], ["--help"]])
def test_a_closed_standard_output_is_an_io_error(shell: Shell, options: list[str]) -> None:
    shell("produce", "listed closed", stdin=b"a\n")
    result = run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command_line("streams", "--url", shell.url, *options)],
        stderr=PIPE, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 74
    assert result.stderr == b"streamer: standard output is closed\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["peek", "t", "0", "99999999999999999999999"],
        ["peek", "t", "99999999999999999999999", "0"],
        ["consume", "t", "--partition", "9999999999999999999999"],
        ["consume", "t", "--count", "9999999999999999999999"],
        ["consume", "t", "--from", "9" * 30],
        ["consume", "t", "--from", "9" * 5000],
        ["produce", "t", "--partition", "9999999999999999999999"],
    ],
)
def test_a_number_that_no_offset_can_be_is_a_usage_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--url", "tcp://127.0.0.1:1"])
    assert result.exit_code == 2
    assert str(2**63 - 1) in result.stderr


def test_queues_watches_until_ctrl_c(shell: Shell) -> None:
    with shell.start("queues", "--watch", "--json", "--interval", "0.05") as watch:
        assert watch.stdout is not None
        for _ in range(3):
            assert json.loads(watch.stdout.readline())
        watch.send_signal(signal.SIGINT)
        assert watch.wait(TIMEOUT_S) == 130
        assert watch.stderr is not None
        assert watch.stderr.read() == b""


def test_peek_shows_a_record_and_its_batch(shell: Shell) -> None:
    shell("produce", "peeked", stdin=b"a\n\x1b[2Jb\n\xff\n")
    text = shell("peek", "peeked", "0", "1").stdout.decode()
    assert "\\x1b[2Jb" in text
    assert "offsets 0 to 2 (3 records), " in text
    assert text.count("not compressed") == 1
    shell("produce", "peeked packed", stdin=b"the same again\n" * 50)
    [line] = [line for line in shell("peek", "peeked packed", "0", "0").stdout.decode().splitlines()
              if line.startswith("batch ")]  # fmt: skip
    assert line.endswith(" before zstd")
    found = json.loads(shell("peek", "--json", "peeked", "0", "2").stdout)
    assert found["value_base64"] == "/w=="
    assert found["batch"]["count"] == 3
    beyond = shell("peek", "peeked", "0", "3", status=1)
    assert len(beyond.stderr.splitlines()) == 1


def test_a_trained_dictionary_is_used_and_needed_by_nobody_to_read(shell: Shell) -> None:
    lines = b"".join(line + b"\n" for line in log_lines(2000, 200))
    shell("produce", "trained", stdin=lines)
    dry = json.loads(shell("dict", "train", "--dry-run", "--json", "trained").stdout)
    assert dry["id"] is None
    trained = json.loads(shell("dict", "train", "--json", "trained").stdout)
    assert trained["bytes_per_record"]["1"]["with"] < trained["bytes_per_record"]["1"]["without"]
    one = log_lines(1, 200, seed=7)[0]
    shell("produce", "trained", stdin=one + b"\n")
    assert shell("consume", "trained").stdout == lines + one + b"\n"
    batch = json.loads(shell("peek", "--json", "trained", "0", "2000").stdout)["batch"]
    assert batch["dictionary_id"] == trained["id"]
    assert b"stored as" in shell("dict", "train", "trained").stdout


def test_too_few_records_to_train_on_are_refused(shell: Shell) -> None:
    shell("produce", "few", stdin=b"a\n" * 10)
    result = shell("dict", "train", "few", status=1)
    assert b"few has 10 records" in result.stderr


def test_training_on_a_stream_that_is_not_there_makes_none(shell: Shell) -> None:
    result = shell("dict", "train", "no such stream", status=1)
    [line] = result.stderr.decode().splitlines()
    assert "no such stream" in line
    assert "records" not in line
    assert "no such stream" not in shell("streams", "--json").stdout.decode()


def test_a_second_daemon_is_kept_out_of_the_directory(daemon: OwnDaemon) -> None:
    second = run(
        command_line("run", "--data", str(daemon.data), "--listen", "tcp://127.0.0.1:0",
                     "--http", ""),
        capture_output=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert second.returncode == 75
    assert str(daemon.pid).encode() in second.stderr
    assert b"Traceback" not in second.stderr


def test_an_address_in_use_is_named(daemon: OwnDaemon, tmp_path: Path) -> None:
    url = daemon.url("tcp")
    second = run(
        command_line("run", "--data", str(tmp_path / "data"), "--listen", url, "--http", ""),
        capture_output=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert second.returncode == 74
    assert url.encode() in second.stderr
    assert b"Traceback" not in second.stderr


def test_the_demo_shows_bytes_and_queues() -> None:
    result = run(
        command_line("demo", "--seconds", "0.3", str(SAMPLE)),
        capture_output=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    text = result.stdout.decode()
    assert f"the same {SAMPLE.stat().st_size:,} bytes came back" in text
    assert "persist" in text
    assert "sent and received meanwhile" in text
