"""`consume --group` on a real daemon: what is written is acked, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
from subprocess import PIPE, Popen, run
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from streamer_tools.consume_group import done, obstacles
from streamer_tools.main import main
from streamer_tools.own_daemon import command_line

if TYPE_CHECKING:
    from conftest import Shell

TIMEOUT_S = 60


def group_of(shell: Shell, stream: str, group: str = "g") -> dict[str, int]:
    found: dict[str, int] = json.loads(shell("group", "show", stream, group, "--json").stdout)
    return found


def test_all_done_is_each_partition_at_its_end() -> None:
    partitions = [{"partition": 0, "cursor": 5}, {"partition": 1, "cursor": 2}]
    group = {"partition_list": partitions}
    assert done(group, {0: 5, 1: 2})
    assert done(group, {0: 4, 1: 0})
    assert not done(group, {0: 5, 1: 3})


def test_obstacles_are_told() -> None:
    partitions = [{"partition": 0}, {"partition": 1, "fault": "offset 5 is damaged"}]
    assert list(obstacles({"paused": True, "partition_list": partitions})) == [
        "paused, waiting for its resumption",
        "partition 1 does not go on: offset 5 is damaged",
    ]
    assert list(obstacles({"paused": False, "partition_list": partitions[:1]})) == []


def test_what_was_committed_comes_once(shell: Shell) -> None:
    data = b"a\n\nb\r\n\xff\nlast"
    shell("produce", "once", stdin=data)
    assert shell("consume", "once", "--group", "g").stdout == data
    assert shell("consume", "once", "--group", "g").stdout == b""
    assert shell("consume", "once", "--group", "other").stdout == data
    found = group_of(shell, "once")
    assert (found["lag"], found["acked"], found["in_flight"]) == (0, 5, 0)
    shell("produce", "once", stdin=b"more\n")
    assert shell("consume", "once", "--group", "g").stdout == b"more\n"


def test_a_count_leaves_the_rest_to_others(shell: Shell) -> None:
    shell("produce", "counted", stdin=b"0\n1\n2\n3\n4\n")
    assert shell("consume", "counted", "--group", "g", "--count", "0").stdout == b""
    assert shell("consume", "counted", "--group", "g", "--count", "2").stdout == b"0\n1\n"
    found = group_of(shell, "counted")
    assert (found["lag"], found["in_flight"], found["redelivered"]) == (3, 0, 0)
    again = shell("consume", "counted", "--group", "g", "--batch", "1", "--json").stdout
    shown = [json.loads(line) for line in again.splitlines()]
    assert [(each["offset"], each["value"]) for each in shown] == [(2, "2"), (3, "3"), (4, "4")]
    assert {each["attempt"] for each in shown} == {1}


def test_following_waits_for_more_until_ctrl_c(shell: Shell) -> None:
    shell("produce", "followed", stdin=b"first\n")
    with shell.start("consume", "followed", "--group", "g", "--follow") as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"first\n"
        shell("produce", "followed", stdin=b"second\n")
        assert reader.stdout.readline() == b"second\n"
        reader.send_signal(signal.SIGINT)
        assert reader.wait(TIMEOUT_S) == 130
        assert reader.stderr is not None
        assert reader.stderr.read() == b""
    assert shell("consume", "followed", "--group", "g").stdout in (b"", b"second\n")


def test_a_reader_that_goes_away_gives_the_rest_back(shell: Shell) -> None:
    lines = [b"line %d %s" % (n, b"x" * 80) for n in range(100_000)]
    shell("produce", "broken", stdin=b"".join(line + b"\n" for line in lines))
    with shell.start("consume", "broken", "--group", "g") as reader:
        assert reader.stdout is not None
        seen = reader.stdout.read(100_000)
        reader.stdout.close()
        assert reader.wait(TIMEOUT_S) == 0
        assert reader.stderr is not None
        assert reader.stderr.read() == b""
    found = group_of(shell, "broken")
    assert found["in_flight"] == 0
    assert found["dead"] == 0
    rest = shell("consume", "broken", "--group", "g", "--json").stdout.splitlines()
    shown = [json.loads(line) for line in rest]
    # Given back, not failed: nobody counted an attempt.
    assert {each["attempt"] for each in shown} == {1}
    assert sorted(each["offset"] for each in shown) == list(range(100_000 - len(shown), 100_000))
    assert len(shown) + found["acked"] == 100_000
    assert seen.startswith(lines[0] + b"\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_back_what_is_held(shell: Shell, number: signal.Signals) -> None:
    stream = f"signalled {number.name}"
    lines = b"".join(b"line %d %s\n" % (n, b"x" * 80) for n in range(20_000))
    shell("produce", stream, stdin=lines)
    with shell.start("consume", stream, "--group", "g") as reader:
        assert reader.stdout is not None
        # It waits with the rest until somebody reads.
        assert reader.stdout.read(6) == b"line 0"
        reader.send_signal(number)
        assert reader.wait(TIMEOUT_S) == 130
        assert reader.stderr is not None
        assert reader.stderr.read() == b""
    found = group_of(shell, stream)
    # What was given back has not failed.
    assert (found["members"], found["in_flight"], found["retrying"]) == (0, 0, 0)
    assert found["lag"] > 0
    rest = shell("consume", stream, "--group", "g", "--json").stdout.splitlines()
    assert len(rest) + found["acked"] == 20_000
    assert {json.loads(line)["attempt"] for line in rest} == {1}


def test_output_that_cannot_be_written_is_given_back(shell: Shell) -> None:
    shell("produce", "full", stdin=b"line\n")
    command = command_line("consume", "full", "--group", "g", "--url", shell.url)
    result = run(
        ["sh", "-c", 'exec "$@" > /dev/full', "sh", *command],
        stderr=PIPE, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 74
    assert len(result.stderr.splitlines()) == 1
    assert shell("consume", "full", "--group", "g").stdout == b"line\n"


def test_two_members_share_the_work(shell: Shell) -> None:
    lines = [b"%d" % number for number in range(5_000)]
    shell("produce", "shared", stdin=b"".join(line + b"\n" for line in lines))
    command = command_line("consume", "shared", "--group", "g", "--batch", "20", "--url", shell.url)
    with Popen(command, stdout=PIPE) as first, Popen(command, stdout=PIPE) as second:
        assert first.stdout is not None
        assert second.stdout is not None
        # Small enough for the pipe of the one that is read later.
        parts = [first.stdout.read(), second.stdout.read()]
    assert (first.returncode, second.returncode) == (0, 0)
    assert sorted(b"".join(parts).split()) == sorted(lines)


def test_one_that_waits_for_another_ends_with_it(shell: Shell) -> None:
    shell("produce", "held", stdin=b"line\n")
    shell("group", "create", "held", "g")
    # One whose output is full holds its delivery until somebody reads.
    held, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    command = command_line("consume", "held", "--group", "g", "--url", shell.url)
    with Popen(command, stdout=write) as holder:
        os.close(write)
        while not group_of(shell, "held")["in_flight"]:
            assert holder.poll() is None
        with shell.start("consume", "held", "--group", "g") as waiting:
            while os.read(held, 65536) and holder.poll() is None:
                pass
            assert waiting.wait(TIMEOUT_S) == 0
            assert waiting.stdout is not None
            assert waiting.stdout.read() == b""
        assert holder.wait(TIMEOUT_S) == 0
    os.close(held)


def test_a_paused_group_is_told_and_waited_for(shell: Shell) -> None:
    shell("produce", "paused", stdin=b"line\n")
    shell("group", "create", "paused", "g")
    shell("group", "pause", "paused", "g")
    with shell.start("consume", "paused", "--group", "g") as reader:
        assert reader.stderr is not None
        assert reader.stderr.readline() == (
            b"streamer: group g: paused, waiting for its resumption\n"
        )
        shell("group", "resume", "paused", "g")
        assert reader.wait(TIMEOUT_S) == 0
        assert reader.stdout is not None
        assert reader.stdout.read() == b"line\n"


def test_an_empty_stream_ends_at_once(shell: Shell) -> None:
    shell("produce", "empty", stdin=b"")
    assert shell("consume", "empty", "--group", "g").stdout == b""


def test_a_stream_that_is_not_there_is_named(shell: Shell) -> None:
    result = shell("consume", "nowhere", "--group", "g", status=1)
    [line] = result.stderr.decode().splitlines()
    assert "nowhere" in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--group", "g", "--from", "5"], "--from"),
        (["--group", "g", "--partition", "5"], "--partition"),
        (["--group", "g", "--batch", "0"], "--batch"),
        (["--batch", "5"], "--group"),
    ],
)
def test_what_a_group_has_not_is_a_usage_error(options: list[str], named: str) -> None:
    result = CliRunner().invoke(main, ["consume", "s", *options])
    assert result.exit_code == 2
    assert named in result.stderr
