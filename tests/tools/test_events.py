"""`streamer events`: which are shown, how, and what is said of those that were missed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.errors import BadRequest
from streamer_tools.events import Position, Wanted, line

EVENT: dict[str, Any] = {
    "seq": 4,
    "at_us": 1_700_000_000_123_456,
    "kind": "session_slow",
    "severity": "warning",
    "text": "session 3 takes nothing",
    "count": 1,
    "facts": {"session": 3},
}


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(kinds=frozenset({"session_slow"})), True),
        (Wanted(kinds=frozenset({"dead_letter"})), False),
        (Wanted(severity=1), True),
        (Wanted(severity=2), False),
        (Wanted(since_us=EVENT["at_us"]), True),
        (Wanted(since_us=EVENT["at_us"] + 1), False),
    ],
)
def test_which_are_wanted(wanted: Wanted, takes: bool) -> None:
    assert wanted.takes(EVENT) is takes


def test_a_severity_of_a_newer_daemon_is_the_worst() -> None:
    assert Wanted(severity=2).takes({**EVENT, "severity": "catastrophe"})


def test_an_event_is_a_line() -> None:
    assert line(EVENT, None) == (
        "2023-11-14T22:13:20.123456+00:00  warning  session_slow        1  session 3 takes nothing"
    )
    assert line({**EVENT, "count": 1200}, 100) == (
        "22:13:20.123  warning  session_slow        session 3 takes nothing  (x1,200)"
    )
    assert line(EVENT, 40) == "22:13:20  warning: session 3 takes nothing"
    assert line({**EVENT, "severity": "info"}, 40) == "22:13:20  session 3 takes nothing"
    for width in (None, 40, 100):
        assert "\x1b" not in line({**EVENT, "text": "\x1b[2J", "kind": "\x1b"}, width)


def test_what_a_daemon_of_another_version_does_not_tell_is_a_dash() -> None:
    assert line({}, None).split() == ["-", "-", "-", "1", "-"]
    assert line({}, 100).split() == ["-"] * 4
    assert Position().reached({}) is None


def test_a_restart_begins_anew_and_a_broken_connection_goes_on() -> None:
    position = Position()
    overview = {"pid": 7, "server_time_us": 50_000_000, "uptime_s": 10.0}
    assert position.reached(overview) is None
    assert position.take({"next": 9, "missed": 0}) is None
    # The same run: another look, from the same start.
    later = {"pid": 7, "server_time_us": 60_100_000, "uptime_s": 20.0}
    assert position.reached(later) == "streamer: connected again"
    assert position.after == 9
    restarted = {"pid": 7, "server_time_us": 70_000_000, "uptime_s": 1.0}
    assert "restarted" in (position.reached(restarted) or "")
    assert position.after == 0
    position.take({"next": 3})
    assert "restarted" in (position.reached({**restarted, "pid": 8}) or "")
    assert position.after == 0


def test_missed_events_are_said() -> None:
    said = Position().take({"next": 5, "missed": 1200})
    assert said == "streamer: 1,200 events were missed: more came than the daemon keeps"


# ------------------------------------------------------------------------------ what is asked


def test_all_that_are_kept_are_asked_for(scripted: Any) -> None:
    def events(args: dict[str, Any]) -> dict[str, Any]:
        after = args["after"] or 3
        missed = 2 if args["after"] == 0 else 0
        found = [{**EVENT, "seq": after, "text": f"number {after}"}] if after < 5 else []
        return {"next": after + len(found), "missed": missed, "events": found}

    scripted.answers["events"] = events
    result = scripted("events")
    assert [text.rpartition("  ")[2] for text in result.stdout.splitlines()] == [
        "number 3",
        "number 4",
    ]
    assert "2 events were missed" in result.stderr
    assert [args["after"] for _, args in scripted.asked] == [0, 4, 5]
    assert all(args["wait_ms"] == 0 for _, args in scripted.asked)


def test_json_is_a_line_an_event(scripted: Any) -> None:
    answers = [{"next": 5, "missed": 0, "events": [EVENT]}]
    scripted.answers["events"] = lambda _: (
        answers.pop() if answers else {"next": 5, "missed": 0, "events": []}
    )
    assert json.loads(scripted("events", "--json").stdout) == EVENT
    assert scripted("events", "--json").stderr == ""


def test_none_are_said_to_be_none(scripted: Any) -> None:
    scripted.answers["events"] = {"next": 1, "missed": 0, "events": []}
    result = scripted("events", "--since", "10m", "--severity", "error")
    assert (result.stdout, result.stderr) == ("", "no events\n")


@pytest.mark.parametrize("arguments", [["--since", "soon"], ["--severity", "bad"]])
def test_wrong_options(scripted: Any, arguments: list[str]) -> None:
    assert arguments[1] in scripted("events", *arguments, status=2).stderr


@pytest.mark.parametrize(("follow", "verb"), [([], "events"), (["--follow"], "overview")])
def test_an_older_daemon_is_named(scripted: Any, follow: list[str], verb: str) -> None:
    def unknown(_: dict[str, Any]) -> Any:
        raise BadRequest(f"unknown admin verb {verb!r}, known are ['streams']")

    scripted.answers[verb] = unknown
    assert repr(verb) in scripted("events", *follow, status=76).stderr


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_no_daemon_at_the_beginning_is_the_end(scripted: Any, follow: list[str]) -> None:
    from click.testing import CliRunner

    from streamer_tools.main import main

    url = f"{scripted.url}-not-there"
    result = CliRunner().invoke(main, ["events", *follow, "--url", url])
    assert result.exit_code == 69
    assert len(result.stderr.splitlines()) == 1
