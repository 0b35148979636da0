"""Files through a real daemon: what goes in comes out, byte for byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamer_tools.own_daemon import OwnDaemon, command_line, own_daemon, start

if TYPE_CHECKING:
    from conftest import Shell

TIMEOUT_S = 60

SAMPLE = Path(__file__).parents[1] / "data" / "sample.log"
#: Real system logs, where they stand beside the repository.
REAL = sorted((Path(__file__).parents[3] / "shared" / "data" / "loghub").glob("*.log"))
FILES = [SAMPLE, *REAL]

ODD = {
    "empty file": b"",
    "no newline": b"one line",
    "only newlines": b"\n\n\n",
    "carriage returns": b"a\r\nb\r\n\r\nc\r",
    "no text": bytes(range(256)) * 3,
    "ends in an empty line": b"a\n\n",
    "long line": b"x" * 900_000 + b"\nshort",
}


@pytest.mark.parametrize(
    ("transport", "path"),
    [*(("ws", path) for path in FILES), ("tcp", SAMPLE), ("unix", SAMPLE)],
    ids=lambda value: getattr(value, "name", value),
)
def test_log_files_come_back(
    daemon: OwnDaemon, shell_at: type[Shell], path: Path, transport: str
) -> None:
    shell = shell_at(daemon.url(transport))
    stream = f"{transport} {path.name}"
    produced = json.loads(shell("produce", "--json", stream, str(path)).stdout)
    data = path.read_bytes()
    assert produced["acked"] == len(data.split(b"\n")) - data.endswith(b"\n")
    assert produced["level"] == "synced"
    assert shell("consume", stream).stdout == data


@pytest.mark.parametrize("name", ODD)
def test_odd_files_come_back_from_standard_input(shell: Shell, name: str) -> None:
    shell("produce", name, "-", stdin=ODD[name])
    assert shell("consume", name).stdout == ODD[name]


def test_two_files_in_one_stream_are_still_one_value_a_line(shell: Shell) -> None:
    shell("produce", "two", stdin=b"a\nb")
    shell("produce", "two", stdin=b"c\nd")
    assert shell("consume", "two").stdout == b"a\nb\nc\nd"


def test_every_acked_line_is_there_after_sigkill(tmp_path: Path, shell_at: type[Shell]) -> None:
    with tempfile.TemporaryDirectory() as runtime:
        first = start(tmp_path / "data", Path(runtime, "socket"))
        try:
            shell = shell_at(first.url())
            for path in FILES:
                shell("produce", path.name, str(path))
        finally:
            first.kill()
        second = start(tmp_path / "data", Path(runtime, "socket"))
        try:
            shell = shell_at(second.url())
            for path in FILES:
                assert shell("consume", path.name).stdout == path.read_bytes()
            assert second.stop() == 0
        finally:
            second.kill()


def test_a_position_and_a_count(shell: Shell) -> None:
    before = datetime.now(UTC)
    shell("produce", "positions", stdin=b"0\n1\n2\n3\n4\n")
    assert shell("consume", "positions", "--from", "3").stdout == b"3\n4\n"
    assert shell("consume", "positions", "--from", "1", "--count", "2").stdout == b"1\n2\n"
    assert shell("consume", "positions", "--count", "0").stdout == b""
    assert shell("consume", "positions", "--from", "latest").stdout == b""
    assert shell("consume", "positions", "--from", "5").stdout == b""
    assert shell("consume", "positions", "--from", before.isoformat()).stdout.startswith(b"0\n")
    assert shell("consume", "positions", "--from", "2100-01-01").stdout == b""
    beyond = shell("consume", "positions", "--from", "6", status=1)
    assert len(beyond.stderr.splitlines()) == 1


def test_json_has_a_record_a_line(shell: Shell) -> None:
    shell("produce", "as json", stdin=b"text\n\xff")
    first, second = map(json.loads, shell("consume", "--json", "as json").stdout.splitlines())
    assert first.items() >= {"partition": 0, "offset": 0, "value": "text"}.items()
    assert second["value_base64"] == "/w=="
    assert second["headers"] == {"streamer-no-newline": ""}


def test_what_a_pipe_brings_goes_out_as_it_comes(shell: Shell) -> None:
    shell("produce", "live", stdin=b"")
    with shell.start("consume", "--follow", "live") as reader:
        with shell.start("produce", "live", stdin=subprocess.PIPE) as writer:
            assert writer.stdin is not None
            assert reader.stdout is not None
            for line in (b"first\n", b"second\n"):
                os.write(writer.stdin.fileno(), line)
                assert reader.stdout.readline() == line
            writer.stdin.close()
            assert writer.wait(TIMEOUT_S) == 0
        reader.send_signal(signal.SIGINT)
        assert reader.wait(TIMEOUT_S) == 130
        assert reader.stderr is not None
        assert reader.stderr.read() == b""


def test_an_interrupted_produce_says_what_was_acked(shell: Shell) -> None:
    shell("produce", "broken off", stdin=b"")
    with (
        shell.start("consume", "--follow", "broken off") as reader,
        shell.start("produce", "--json", "broken off", stdin=subprocess.PIPE) as writer,
    ):
        assert writer.stdin is not None
        assert reader.stdout is not None
        os.write(writer.stdin.fileno(), b"one\ntwo\nhalf a li")
        assert reader.stdout.readline() == b"one\n"
        assert reader.stdout.readline() == b"two\n"
        writer.send_signal(signal.SIGINT)
        assert writer.wait(TIMEOUT_S) == 130
        assert writer.stdout is not None
        assert json.loads(writer.stdout.read())["acked"] == 2
        assert writer.stderr is not None
        assert writer.stderr.read() == b""
        reader.kill()


def test_a_line_that_is_too_long_is_named_and_what_was_acked_is_said(shell: Shell) -> None:
    lines = b"fits\n" * 300_000 + b"x" * 1_100_000 + b"\n"
    result = shell("produce", "--json", "too long", stdin=lines, status=1)
    acked = json.loads(result.stdout)["acked"]
    assert 0 < acked <= 300_000
    [line] = result.stderr.decode().splitlines()
    assert "line 300001 has" in line
    assert len(shell("consume", "too long").stdout) == acked * 5


def test_a_line_that_no_batch_holds_is_named(shell: Shell) -> None:
    # Bytes that do not compress, exactly as many as a value may have: a batch has a header too.
    line = random.Random(0).randbytes(1024**2).replace(b"\n", b"x")
    result = shell("produce", "exact", stdin=b"fits\n" + line + b"\n", status=1)
    [said] = result.stderr.decode().splitlines()
    assert said.startswith("streamer: line 2 has 1048576 bytes: ")
    assert result.stdout.startswith(b"exact: 1 records acknowledged")


def test_a_daemon_with_small_limits_gets_small_batches(
    tmp_path: Path, shell_at: type[Shell]
) -> None:
    config = tmp_path / "small.toml"
    config.write_text("[batch]\nrecords = 100\nbatch_bytes = 4096\nvalue_bytes = 3000\n")
    data = b"".join(b"%d %s\n" % (n, random.Random(n).randbytes(20).hex().encode())
                    for n in range(3000))  # fmt: skip
    with own_daemon(tmp_path, ["--config", str(config)]) as daemon:
        shell = shell_at(daemon.url())
        produced = json.loads(shell("produce", "--json", "small", stdin=data).stdout)
        assert produced["acked"] == 3000
        assert produced["batches"] >= 30
        assert shell("consume", "small").stdout == data
        result = shell("produce", "small", stdin=b"x" * 3001 + b"\n", status=1)
        assert b"line 1 has 3001 bytes, allowed are 3000" in result.stderr


def test_a_directory_is_no_file(shell: Shell, tmp_path: Path) -> None:
    result = shell("produce", "x", str(tmp_path), status=74)
    assert result.stderr.decode() == f"streamer: {tmp_path}: Is a directory\n"


def test_a_file_that_is_not_there_is_named(shell: Shell) -> None:
    result = shell("produce", "x", "no such file", status=74)
    assert result.stderr == b"streamer: no such file: No such file or directory\n"
    assert result.stdout == b""


def test_a_stream_that_is_not_there_is_named(shell: Shell) -> None:
    for arguments in (
        ["consume", "nowhere"],
        ["consume", "nowhere", "--partition", "0"],
        ["peek", "nowhere", "0", "0"],
    ):
        result = shell(*arguments, status=1)
        [line] = result.stderr.decode().splitlines()
        assert "nowhere" in line
    assert "nowhere" not in shell("streams", "--json").stdout.decode()


def test_a_reader_that_goes_away_is_no_error(shell: Shell) -> None:
    shell("produce", "long", stdin=b"line\n" * 200_000)
    with shell.start("consume", "long") as reader:
        assert reader.stdout is not None
        assert reader.stdout.read(5) == b"line\n"
        reader.stdout.close()
        assert reader.wait(TIMEOUT_S) == 0
        assert reader.stderr is not None
        assert reader.stderr.read() == b""


def test_output_that_cannot_be_written_is_an_io_error(shell: Shell) -> None:
    shell("produce", "full", stdin=b"line\n")
    command = command_line("consume", "full", "--url", shell.url)
    for script in ('exec "$@" > /dev/full', 'exec "$@" >&-'):
        reader = subprocess.run(
            ["sh", "-c", script, "sh", *command],
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert reader.returncode == 74, reader
        assert len(reader.stderr.splitlines()) == 1


def test_the_sample_is_as_odd_as_it_should_be() -> None:
    data = SAMPLE.read_bytes()
    assert b"\r\n" in data
    assert b"\n\n" in data
    assert not data.endswith(b"\n")
    with pytest.raises(UnicodeDecodeError):
        data.decode()
