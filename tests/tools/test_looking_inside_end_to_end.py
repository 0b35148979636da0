"""tap, events, gaps, find and describe against real daemons, and against none."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, run
from typing import TYPE_CHECKING, Any

import pytest
import trio
from click.testing import CliRunner

from streamer.client import connect
from streamer.records import Record
from streamer_tools import own_daemon as own
from streamer_tools.main import main
from streamer_tools.own_daemon import OwnDaemon, command_line, own_daemon

if TYPE_CHECKING:
    from conftest import Shell

TIMEOUT_S = 60
CONFIG = """
[streams]
partitions = 3
[[streams.override]]
streams = ["one-*"]
partitions = 1
segment_bytes = "2 MiB"
"""
ALL = [
    ["tap", "*"],
    ["events"],
    ["events", "--follow"],
    ["gaps", "s"],
    ["find", "s"],
    ["describe", "stream", "s"],
    ["describe", "group", "g"],
    ["describe", "pipeline", "default"],
    ["describe", "session", "1"],
    ["describe", "daemon"],
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnDaemon]:
    file = tmp_path_factory.mktemp("config") / "c.toml"
    file.write_text(CONFIG)
    with own_daemon(arguments=["--config", str(file)]) as started:
        yield started


def json_lines(output: bytes) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def produce(url: str, stream: str, *batches: list[Record]) -> None:
    async def send() -> None:
        async with connect(url) as client, client.producer(stream) as producer:
            for batch in batches:
                if len({record.key for record in batch}) == 1:
                    await producer.send_batch(batch)
                else:
                    for record in batch:
                        await producer.send(record.value, key=record.key, headers=record.headers)

    trio.run(send)


def flip(daemon: OwnDaemon, stream: str, position: int) -> None:
    """Damage a byte of a stream's one partition's first segment."""
    with (daemon.data / "streams" / stream / "0" / f"{0:020}.log").open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0xFF]))


@pytest.fixture
def socket() -> Iterator[Path]:
    """Where a socket may be: its path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="streamer-") as directory:
        yield Path(directory) / "socket"


@pytest.fixture
def in_terminal(daemon: OwnDaemon) -> Callable[..., str]:
    """Run a command on a terminal of some columns; what it shows, and its status must be 0."""

    def run_in(columns: int, *arguments: str) -> str:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
        command = command_line(*arguments, "--url", daemon.url())
        with Popen(command, stdin=DEVNULL, stdout=theirs, stderr=DEVNULL, env=environment) as shown:
            os.close(theirs)
            found = b""
            try:
                while data := os.read(ours, 65536):
                    found += data
            except OSError:
                # How Linux says that nobody has the other end any more.
                pass
            assert shown.wait(TIMEOUT_S) == 0
        os.close(ours)
        return re.sub(r"\x1b\[[0-9;]*m", "", found.decode())

    return run_in


# -------------------------------------------------------------------------------------- in all


@pytest.mark.parametrize("arguments", ALL, ids=" ".join)
def test_no_daemon_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [*arguments, "--url", f"unix:{tmp_path}/none"])
    assert result.exit_code == 69
    assert result.stdout == ""
    [line] = [line for line in result.stderr.splitlines() if "shown 0" not in line]
    assert line.startswith("streamer: no daemon answers at unix:")


@pytest.mark.parametrize(
    "arguments", [["events"], ["find", "piped"], ["describe", "daemon"]], ids=" ".join
)
def test_a_reader_that_goes_away_is_no_failure(shell: Shell, arguments: list[str]) -> None:
    shell("produce", "piped", stdin=b"a line that fills the pipe some day\n" * 50_000)
    script = '"$@" | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}'
    command = command_line(*arguments, "--url", shell.url)
    result = run(["bash", "-c", script, "bash", *command], stderr=PIPE, timeout=TIMEOUT_S)
    assert result.returncode == 0, result
    assert result.stderr == b""


def test_nothing_is_wider_than_the_terminal(shell: Shell, in_terminal: Callable[..., str]) -> None:
    produce(shell.url, "one-wide", [Record(b"value " * 100, key=b"a key")])
    for arguments in (
        ["find", "one-wide"],
        ["events"],
        ["gaps", "one-wide"],
    ):
        for line in in_terminal(40, *arguments).splitlines():
            assert len(line.rstrip()) <= 40, line
    text = in_terminal(40, "describe", "stream", "one-wide")
    assert "      " in text
    assert "c.toml [[streams.override]] one-*" in text


# ----------------------------------------------------------------------------------------- tap


def test_tap_shows_what_passes(shell: Shell) -> None:
    with shell.start("tap", "default/*", "--values", "--json", "--stream", "one-t*") as tap:
        assert tap.stdout is not None
        assert tap.stderr is not None
        # Until the tap is there, nothing is seen.
        points = set()
        while len(points) < 4:
            shell("produce", "one-tapped", stdin=b"a\nb\n")
            shell("produce", "one-other", stdin=b"a\nb\n")
            for line in iter_ready(tap):
                item = json.loads(line)
                assert item["stream"] == "one-tapped"
                assert [each["value"] for each in item["shown"]] == ["a", "b"]
                points.add(item["point"].removesuffix(".in").removesuffix(".out"))
        tap.send_signal(signal.SIGINT)
        assert tap.wait(TIMEOUT_S) == 130
        said = tap.stderr.read().decode()
    assert re.fullmatch(r"streamer: shown [1-9]\d* of \d+ items that passed; .*\n", said)


def iter_ready(process: Popen[bytes]) -> Iterator[bytes]:
    """The lines that are there within a moment."""
    import select

    assert process.stdout is not None
    while select.select([process.stdout], [], [], 0.2)[0]:
        line = process.stdout.readline()
        if not line:
            return
        yield line


def test_a_tap_of_nothing_names_the_points(shell: Shell) -> None:
    result = shell("tap", "nothing/*", status=1)
    assert b"default/persist.in" in result.stderr


def test_a_tap_whose_reader_goes_away_ends(shell: Shell) -> None:
    script = '"$@" | head -n 1 >/dev/null; echo ${PIPESTATUS[0]}'
    command = command_line("tap", "default/ack", "--url", shell.url)
    with Popen(["bash", "-c", script, "bash", *command], stdout=PIPE, stderr=PIPE) as piped:
        while piped.poll() is None:
            shell("produce", "one-fed", stdin=b"a\n")
        assert piped.stdout is not None
        assert piped.stdout.read() == b"0\n"


# -------------------------------------------------------------------------------------- events


def test_events_are_shown(shell: Shell) -> None:
    shell("produce", "one-new", stdin=b"a\n")
    arguments = ["events", "--kind", "stream_created", "--json"]
    found = json_lines(shell(*arguments).stdout)
    assert "stream one-new was made" in [event["text"] for event in found]
    assert {event["kind"] for event in found} == {"stream_created"}
    assert shell("events", "--since", "2100-01-01").stderr == b"no events\n"
    assert b"stream_created" in shell("events").stdout


def test_events_are_followed_over_a_restart(tmp_path: Path, socket: Path) -> None:
    data = tmp_path / "d"
    daemon = own.start(data, socket)
    url = daemon.url("unix")
    command = command_line(
        "events", "--follow", "--kind", "serving", "--kind", "draining", "--url", url
    )
    try:
        with Popen(command, stdout=PIPE, stderr=PIPE) as events:
            assert events.stdout is not None
            assert events.stderr is not None
            assert b"  serving  " in events.stdout.readline()
            daemon.kill()
            assert b" is gone; waiting for it" in events.stderr.readline()
            daemon = own.start(data, socket)
            assert b"was restarted; its events begin anew" in events.stderr.readline()
            assert b"  serving  " in events.stdout.readline()
            events.send_signal(signal.SIGINT)
            assert events.wait(TIMEOUT_S) == 130
            assert events.stderr.read() == b""
        # What goes away in the middle for good.
        with Popen(command_line("tap", "*", "--url", url), stdout=DEVNULL, stderr=PIPE) as tap:
            run(command_line("events", "--url", url), stdout=DEVNULL, timeout=TIMEOUT_S, check=True)
            daemon.kill()
            assert tap.wait(TIMEOUT_S) == 69
    finally:
        daemon.kill()


# ---------------------------------------------------------------------------------------- gaps


def test_gaps_of_a_damaged_partition(
    tmp_path: Path, socket: Path, shell_at: Callable[[str], Shell]
) -> None:
    daemon = own.start(tmp_path / "d", socket)
    try:
        batches = [[Record(b"%d-%d" % (batch, n)) for n in range(10)] for batch in range(6)]
        produce(daemon.url(), "s", *batches)
        shell = shell_at(daemon.url())
        assert json.loads(shell("gaps", "s", "--json").stdout)["whole"]
        daemon.stop()
        size = (daemon.data / "streams" / "s" / "0" / f"{0:020}.log").stat().st_size // 6
        flip(daemon, "s", 2 * size + 120)
        daemon = own.start(tmp_path / "d", socket)
        shell = shell_at(daemon.url())
        result = shell("gaps", "s", "--check", status=1)
        assert result.stdout.splitlines()[1].split()[:5] == [b"0", b"damage", b"20", b"29", b"10"]
        assert b"offsets 20 to 29 are not whole" in result.stderr
        assert b"Traceback" not in result.stderr
        # What lies between headers is known from then on, also to who looks at them alone.
        found = json.loads(shell("gaps", "s", "--json", status=1).stdout)
        [damage] = found["partitions"][0]["damage"]
        assert (damage["first"], damage["next"]) == (20, 30)
        result = shell("find", "s", "--json")
        whole = [*range(20), *range(30, 60)]
        assert [each["offset"] for each in json_lines(result.stdout)] == whole
        assert b"offsets 20 to 29 are not whole" in result.stderr
        assert b"damaged" in shell("describe", "stream", "s").stdout
    finally:
        daemon.kill()


def test_gaps_of_retention_and_of_a_group(shell: Shell) -> None:
    async def work() -> None:
        async with connect(shell.url) as client:
            async with client.producer("one-worked") as producer:
                for n in range(3):
                    await producer.send_batch([Record(b"%d" % n)] * 10)
            async with client.consumer(
                "one-worked", "billing", batch_records=10, backoff_s=[3000.0]
            ) as consumer:
                for n in range(2):
                    delivery = await anext(consumer)
                    await (delivery.nack(reason="later") if n == 0 else delivery.ack())

    trio.run(work)
    result = shell("gaps", "one-worked", "--group", "billing")
    kinds = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[:5] for row in kinds] == [[b"0", b"not_done", b"0", b"9", b"10"]]
    assert kinds[0][-1] == b"10"
    described = shell("describe", "group", "one-worked/billing").stdout
    assert b"not done while later records are" in described
    assert re.search(rb"backoff_s +3000 s +the group's own", described)


def test_silences_are_told_on_request(shell: Shell) -> None:
    for _ in range(2):
        shell("produce", "one-silent", stdin=b"a\n")
    assert shell("gaps", "one-silent").stdout == b""
    found = json.loads(shell("gaps", "one-silent", "--silence", "10ms", "--json").stdout)
    [silence] = found["partitions"][0]["silences"]
    assert silence["offset"] == 1
    assert silence["to_us"] > silence["from_us"]


# ---------------------------------------------------------------------------------------- find


def test_find_by_key_reads_the_partition_of_the_key(shell: Shell) -> None:
    records = [
        Record(b"value %d" % n, key=b"key %d" % (n % 10), headers={"n": b"%d" % n})
        for n in range(100)
    ]
    produce(shell.url, "keyed", records)
    for more in ([], ["--all-partitions"]):
        found = json_lines(shell("find", "keyed", "--key", "key 3", "--json", *more).stdout)
        assert sorted(int(each["headers"]["n"]) for each in found) == list(range(3, 100, 10))
        assert len({each["partition"] for each in found}) == 1
    [one] = json_lines(shell("find", "keyed", "--header", "n=42", "--json").stdout)
    assert one["value"] == "value 42"
    limited = shell("find", "keyed", "--contains", "value 1", "--limit", "2", "--values")
    assert len(limited.stdout.splitlines()) == 2
    none = shell("find", "keyed", "--key", "nobody", status=1)
    assert (none.stdout, none.stderr) == (b"", b"streamer: no such records in keyed\n")


def test_find_by_time(shell: Shell) -> None:
    hour_us = 3_600_000_000
    begin_us = 1_700_000_000_000_000
    produce(
        shell.url, "one-timed",
        *[[Record(b"%d" % n, timestamp_us=begin_us + n * hour_us)] for n in range(10)],
    )  # fmt: skip
    span = "2023-11-14T23:30..2023-11-15T02:13:20"
    found = json_lines(shell("find", "one-timed", "--time", span, "--json").stdout)
    assert [each["value"] for each in found] == ["2", "3"]
    assert shell("find", "one-timed", "--time", "2023-11-15T07:13:20", "--values").stdout == b"9\n"
    assert shell("find", "one-timed", "--time", "now", status=1).stdout == b""


def test_find_that_is_interrupted_says_how_far_it_came(shell: Shell) -> None:
    shell("produce", "one-long", stdin=b"a line that fills the pipe some day\n" * 50_000)
    with shell.start("find", "one-long") as find:
        assert find.stdout is not None
        assert find.stderr is not None
        find.stdout.readline()
        find.send_signal(signal.SIGINT)
        assert find.wait(TIMEOUT_S) == 130
        said = find.stderr.read().decode()
    assert re.fullmatch(r"streamer: stopped in partition 0 at offset [\d,]+ of [\d,]+; found .*\n",
                        said)  # fmt: skip


# ------------------------------------------------------------------------------------ describe


def test_a_stream_is_described_with_where_its_settings_are_from(shell: Shell) -> None:
    shell("produce", "one-described", stdin=b"a\nb\n")
    text = shell("describe", "stream", "one-described").stdout.decode()
    assert re.search(r"segment_bytes +2 MiB \(default 64 MiB\) +\S+c.toml \[\[streams", text)
    assert re.search(r"retention_s +0 s +default", text)
    assert re.search(r"records +2, ", text)
    [found] = json_lines(shell("describe", "stream", "one-described", "--json").stdout)
    assert (found["records"], found["storage"], found["groups"]) == (2, "disk", [])
    several = shell("describe", "stream", "one-described", "one-described", "--json").stdout
    assert len(several.splitlines()) == 2


def test_a_pipeline_a_session_and_the_daemon_are_described(shell: Shell, daemon: OwnDaemon) -> None:
    text = shell("describe", "pipeline", "default").stdout.decode()
    assert re.search(r"persist: stage log\n  waits", text)
    assert re.search(r"commit_bytes +4 MiB +default", text)
    with shell.start("consume", "one-read", "--follow"):
        pass
    shell("produce", "one-read", stdin=b"a\n")
    with shell.start("consume", "one-read", "--follow") as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"a\n"
        text = shell("describe", "session", "streamer consume").stdout.decode()
        assert "window_bytes" in text
        assert "one-read" in text
        reader.terminate()
    text = shell("describe", "daemon").stdout.decode()
    assert re.search(r"listen +\[ws:.*--listen", text)
    [found] = json_lines(shell("describe", "daemon", "--json").stdout)
    assert found["pid"] == daemon.pid


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("stream", "one-nearr", "near are: one-near"),
        ("pipeline", "defalt", "near are: default"),
        ("group", "x/y", "there "),
        ("session", "99999999", "there are: "),
    ],
)
def test_an_unknown_name_is_answered_with_the_near_ones(
    shell: Shell, kind: str, name: str, hint: str
) -> None:
    shell("produce", "one-near", stdin=b"a\n")
    result = shell("describe", kind, name, status=1)
    [line] = result.stderr.decode().splitlines()
    assert line.startswith(f"streamer: there is no {kind} {name!r}; ")
    assert hint in line
