"""Service levels as a table, as JSON, and as a check."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streamer_tools.own_daemon import own_daemon
from streamer_tools.sla import share

if TYPE_CHECKING:
    from conftest import ScriptedDaemon, Shell

TIMEOUT_S = 60
LATENCY: dict[str, Any] = {
    "name": "latency_p99", "limit": 0.05, "unit": "s", "now": 0.012, "ok": True, "objective": 0.99,
    "compliance": 0.995, "counted": 1000, "bad": 5, "window_s": 86400.0, "since_s": 7200,
    "burn_5m": 0.5, "burn_1h": 0.5, "budget_left": 0.5, "met": True,
}  # fmt: skip
MISSED = LATENCY | {
    "name": "availability", "limit": 0.999, "unit": "share", "now": 1.0, "objective": 0.999,
    "compliance": 0.9989996, "burn_5m": 0.0, "burn_1h": 12.25, "budget_left": -0.0004, "met": False,
}  # fmt: skip
IDLE = LATENCY | {
    "name": "throughput", "limit": 1000.0, "unit": "records/s", "now": None, "compliance": 1.0,
    "counted": 0, "burn_5m": 0.0, "burn_1h": 0.0, "budget_left": 1.0,
}  # fmt: skip


def answer(daemon: ScriptedDaemon, *objectives: dict[str, Any]) -> ScriptedDaemon:
    met = all(each["met"] for each in objectives)
    doc = {"met": met, "since_s": 7200, "objectives": list(objectives)} if objectives else None
    daemon.answers = {"overview": {"sla": doc}}
    return daemon


def test_a_row_an_objective(scripted: ScriptedDaemon) -> None:
    result = answer(scripted, LATENCY, IDLE)("sla")
    head, *lines = result.stdout.splitlines()
    rows = [dict(zip(head.split(), line.split(), strict=True)) for line in lines]
    assert rows[0] == {
        "objective": "latency_p99", "limit": "0.05", "unit": "s", "now": "0.012",
        "promised": "0.99", "compliance": "0.995", "burn_5m": "0.5", "burn_1h": "0.5",
        "budget_left": "0.5", "met": "yes",
    }  # fmt: skip
    assert (rows[1]["now"], rows[1]["compliance"]) == ("-", "-")
    assert result.stderr == ""


def test_what_is_missed_is_told_and_is_a_status(scripted: ScriptedDaemon) -> None:
    result = answer(scripted, LATENCY, MISSED)("sla", status=1)
    assert result.stderr.splitlines() == [
        "streamer: availability (at least 99.9 %) is missed: 99.899 % was good, promised is 99.9 % "
        "(over 24.0 h, of which 2.0 h are known)"
    ]
    assert result.stdout.splitlines()[2].split()[-1] == "no"


def test_as_json_it_is_the_document(scripted: ScriptedDaemon) -> None:
    assert answer(scripted, LATENCY).json("sla")["objectives"] == [LATENCY]
    assert answer(scripted, MISSED).json("sla", status=1)["met"] is False
    assert answer(scripted).json("sla") is None


def test_without_objectives_a_sentence(scripted: ScriptedDaemon) -> None:
    result = answer(scripted)("sla")
    assert result.stdout == ""
    assert result.stderr.startswith("no objectives: [sla]")


def test_an_older_daemon_is_told_from_one_without_objectives(scripted: ScriptedDaemon) -> None:
    scripted.answers = {}
    assert "verb overview is not in the script" in scripted("sla", status=1).stderr


def test_keys_that_another_daemon_does_not_tell(scripted: ScriptedDaemon) -> None:
    scripted.answers = {"overview": {"sla": {"objectives": [{"name": "new", "met": False}]}}}
    result = scripted("sla", status=1)
    assert result.stdout.splitlines()[1].split()[0] == "new"
    assert "new (at most -) is missed" in result.stderr
    scripted.answers = {"overview": {}}
    assert scripted("sla").stdout == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9899999, "98.999 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (-0.5, "-50 %"),
        (0.57, "57 %"),
        (None, "-"),
    ],
)
def test_shares_are_rounded_down(value: float | None, text: str) -> None:
    assert share(value) == text


def test_a_real_daemon(tmp_path: Path, shell_at: type[Shell]) -> None:
    config = tmp_path / "sla.toml"
    config.write_text("[sla]\navailability_min = 0.5\nthroughput_min = 1e9\n")
    with own_daemon(arguments=["--config", str(config)]) as daemon:
        shell = shell_at(daemon.url())
        deadline = time.monotonic() + TIMEOUT_S
        while not (result := shell("sla", status=None)).returncode:
            # Nothing was asked yet, so nothing is missed; then each second in which it is.
            assert time.monotonic() < deadline, result
            shell("produce", "orders", stdin=b"a\n")
    assert result.returncode == 1
    assert b"streamer: throughput (at least 1,000,000,000 records/s) is missed" in result.stderr
    assert result.stdout.splitlines()[2].split()[-1] == b"yes"
