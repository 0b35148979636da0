"""The command: against a daemon that answers by a script, a real one, and none."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from streamer_tools.doctor.checks import CHECKS
from streamer_tools.main import main

if TYPE_CHECKING:
    from conftest import ScriptedDaemon, Shell

TIMEOUT_S = 60


def asked_until(ask: Callable[[], bytes], text: bytes) -> bytes:
    """The first answer that has `text`: the daemon looks at its groups about once a second."""
    deadline = time.monotonic() + TIMEOUT_S
    while text not in (said := ask()):
        assert time.monotonic() < deadline, said
    return said


def test_a_real_daemon(shell: Shell) -> None:
    shell("produce", "orders", stdin=b"a\nb\n")
    shell("group", "create", "orders", "g")
    # What this machine lends the daemon is not ours to judge.
    generous = [
        option
        for name in ("ping", "fsync", "commit", "append", "memory", "fds")
        for option in ("-w", f"{name}=none", "-c", f"{name}=none")
    ]
    asked = ("doctor", *generous, "--skip", "disk", "--skip", "slow", "--json")
    told = json.loads(asked_until(lambda: shell(*asked, status=None).stdout, b"lag_records"))
    assert (told["status"], told["code"], told["url"]) == ("OK", 0, shell.url)
    assert [each["check"] for each in told["checks"]] == [
        name for name in CHECKS if name not in ("disk", "slow")
    ]
    figures = {f["name"]: f["value"] for each in told["checks"] for f in each["figures"]}
    assert figures["lag_records"] == 2
    assert figures["memory"] > 10_000_000
    assert 0 < figures["fsync"] < 10
    first, *lines = (
        shell("doctor", *generous, "--only", "daemon", "--only", "lag").stdout.decode().splitlines()
    )
    assert first.startswith("OK - 2 checks passed | ping=")
    assert [line.split()[:2] for line in lines] == [["OK", "daemon"], ["OK", "lag"]]


def test_statuses_of_a_real_daemon(shell: Shell) -> None:
    # Further behind than the group of any other test here.
    shell("produce", "late", stdin=b"a\nb\nc\nd\n")
    shell("group", "create", "late", "g")
    lag = ("doctor", "--only", "lag")
    asked_until(lambda: shell(*lag, "-w", "lag=4", status=None).stdout, b"of late ")
    assert shell(*lag, "-w", "lag=4", status=1).stdout.startswith(b"WARNING - lag: ")
    said = shell(*lag, "-w", "lag=4", "-c", "lag=4", status=2).stdout
    assert said.startswith(b"CRITICAL - lag: ")
    assert b"it has no member: start its consumers" in said


def test_no_daemon_is_critical() -> None:
    started = time.monotonic()
    result = CliRunner().invoke(main, ["doctor", "--url", "ws://127.0.0.1:1"])
    assert result.exit_code == 2
    first, only = result.stdout.splitlines()
    assert first.startswith("CRITICAL - daemon: no daemon answers at ws://127.0.0.1:1")
    assert only.startswith("CRITICAL  daemon    ")
    assert time.monotonic() - started < 10


def test_one_that_takes_connections_and_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        started = time.monotonic()
        result = CliRunner().invoke(main, ["doctor", "--url", f"unix:{path}", "--timeout", "300ms"])
    assert result.exit_code == 2
    assert "no answer within 0.3 s" in result.stdout
    assert time.monotonic() - started < 5


def test_one_that_does_not_speak_our_protocol(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        result = CliRunner().invoke(main, ["doctor", "--url", f"unix:{path}"])
        thread.join()
    assert result.exit_code == 2, result.output
    assert result.stdout.startswith("CRITICAL - daemon: ")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--nonsense"],
        ["extra"],
        ["-w", "nope=1"],
        ["-w", "ping=1h"],
        ["--only", "nope"],
        ["--only", "disk", "--skip", "disk"],
        ["--timeout", "soon"],
        ["--url", "nowhere"],
    ],
)
def test_a_wrong_command_line_is_unknown(wrong: list[str]) -> None:
    result = CliRunner().invoke(main, ["doctor", *wrong])
    assert result.exit_code == 3
    assert result.stdout.startswith("UNKNOWN - ")
    assert "Usage: " in result.stderr


def test_an_older_daemon_is_unknown_and_says_why(scripted: ScriptedDaemon) -> None:
    told = scripted.json("doctor", status=1)
    # Its version is another, and that is known.
    by_name = {each["check"]: each for each in told["checks"]}
    assert by_name["version"]["status"] == "WARNING"
    assert by_name["daemon"]["status"] == "OK"
    assert by_name["disk"]["status"] == "UNKNOWN"
    assert by_name["disk"]["text"] == "verb overview is not in the script"
    assert scripted("doctor", "--skip", "version", status=3).stdout.startswith("UNKNOWN - ")


def test_what_hangs_ends_with_the_deadline(scripted: ScriptedDaemon) -> None:
    asked = threading.Event()

    def hang(_: Any) -> Any:
        asked.wait(TIMEOUT_S)
        return {}

    scripted.answers = {"overview": hang, "sessions": hang, "probe": hang}
    arguments = ["doctor", "--timeout", "500ms", "--only", "health", "--json"]
    started = time.monotonic()
    told = json.loads(scripted(*arguments, status=2).stdout)
    asked.set()
    assert time.monotonic() - started < 10
    assert told["checks"][0]["text"] == "asked how it is, it gave no answer within 0.5 s"


def test_text_of_others_cannot_act_on_a_terminal(scripted: ScriptedDaemon) -> None:
    scripted.answers = {"overview": {"health": {"ok": False, "reasons": ["\x1b[2J\nx"]}}}
    said = scripted("doctor", "--only", "health", status=2).stdout
    assert "\x1b" not in said
    assert len(said.splitlines()) == 2
