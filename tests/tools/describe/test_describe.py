"""`streamer describe` of what a daemon tells, also of one that tells less, or refuses."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.errors import BadRequest, StorageError, StreamerError, UnknownStream

SPARSE: dict[str, Any] = {
    "overview": {
        "pipelines": [
            {"name": "default"},
            {
                "name": "bulk",
                "stages": [
                    {
                        "place": "persist",
                        "stage": "log",
                        "channel": {"items": 3, "items_max": 10},
                        "detail": {
                            "summary": "sums up",
                            "decisions": [{"at_us": 5, "decision": "grow", "from": 1, "to": 2}],
                        },
                    },
                    {"place": "ack"},
                ],
            },
        ]
    },
    "config": [
        {"key": "pipelines.bulk.persist.fsync", "value": "never", "default": "group",
         "origin": "f [pipelines.persist] of bulk"},
        {"key": "streams.partitions", "value": 1, "default": 1, "origin": "default"},
    ],
    "streams": [
        {"name": "s", "partitions": [{"partition": 0, "first_offset": 2, "high_water": 5,
                                      "bytes": 70}]},
        {"name": "__groups", "partitions": []},
    ],
    "sessions": [{"session": 7}, {"session": 8, "name": "app", "slow": True, "new_figure": 3}],
    "groups": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["stream", "s"], ["stream s", "records 3", "dead letters -", "partitions 1 default"]),
        (["pipeline", "default"], ["pipeline default", "records - a second", "append -"]),
        (
            ["pipeline", "bulk"],
            [
                "persist: stage log",
                "waits 3 of 10 items, - of - most so far - items, -",
                "now sums up",
                "00:00:00.000 grow: 1 to 2",
                "fsync never (default group) f [pipelines.persist] of bulk",
                "ack: stage None",
            ],
        ),
        (["session", "7"], ["session 7", "client -", "under way - of - of its window"]),
        (["session", "app"], ["session 8", "state slow", "new figure 3"]),
        (["daemon"], ["streamer -", "cpu - cores of the last 10 s", "settings [streams]"]),
    ],
)
def test_what_is_not_told_is_a_dash(scripted: Any, arguments: list[str], shown: list[str]) -> None:
    scripted.answers |= SPARSE
    result = scripted("describe", *arguments)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in shown:
        assert any(each.startswith(line) for each in lines), (line, lines)
    assert scripted.json("describe", *arguments)["kind"] == arguments[0]


def test_holes_and_faults_of_a_group(scripted: Any) -> None:
    row = {"stream": "s", "group": "g"}
    partition = {"partition": 0, "cursor": 1, "high_water": 9, "lag": 3, "done_ranges": 2,
                 "fault": "it is damaged"}  # fmt: skip
    scripted.answers |= {
        "groups": [row, {"stream": "t", "group": "g"}, {"stream": "t", "group": "other"}],
        "group": lambda args: {
            **args, "paused": False, "lag": 3, "oldest_age_s": 2.0, "in_flight": 0,
            "retrying": 1, "acked": 5, "redelivered": 0, "dead": 0, "member_list": [],
            "partition_list": [partition],
            "settings": {"mode": "shared", "ack_wait_s": 5.0, "backoff_s": [1.0]},
        },
        "group_holes": {"holes": [{"first": 1, "next": 3, "out": 0, "retrying": 2}]},
    }  # fmt: skip
    text = scripted("describe", "group", "s/g").stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "fault partition 0: it is damaged" in lines
    assert "0 1 2 0 2" in lines
    assert "ack_wait_s 5 s the group's own" in lines
    assert "mode shared default" in lines
    # Without its stream, all of the name.
    assert scripted("describe", "group", "g").stdout.count("group g of stream") == 2
    result = scripted("describe", "group", "s/other", status=1)
    assert "near are: t/other" in result.stderr


def test_figures_of_a_group_that_are_not_told_are_dashes(scripted: Any) -> None:
    scripted.answers |= {
        "groups": [{"stream": "s", "group": "g"}],
        "group": {"stream": "s", "group": "g", "member_list": [], "partition_list": [],
                  "settings": {}},
    }  # fmt: skip
    lines = [
        " ".join(each.split()) for each in scripted("describe", "group", "g").stdout.splitlines()
    ]
    assert {"lag - records", "in flight -", "acked - since the daemon began"} <= set(lines)


def _raiser(error: StreamerError) -> Any:
    def answer(_: object) -> None:
        raise error

    return answer


def test_why_a_stream_could_not_be_opened_is_told(scripted: Any) -> None:
    """It is in no list, and still there is one."""
    scripted.answers |= {
        "streams": [],
        "stream": _raiser(StorageError("stream 's' could not be opened: the file is gone")),
    }
    result = scripted("describe", "stream", "s", status=74)
    assert result.stderr == "streamer: stream 's' could not be opened: the file is gone\n"


def test_of_several_names_none_is_described_if_one_is_unknown(scripted: Any) -> None:
    scripted.answers |= SPARSE
    scripted.answers["stream"] = _raiser(UnknownStream("there is no stream 'groups'"))
    result = scripted("describe", "stream", "s", "groups", status=1)
    assert result.stdout == ""
    # What is the daemon's own is not proposed.
    assert result.stderr == "streamer: there is no stream 'groups'; there are: s\n"
    assert "there is no session '9'; there are: 7, 8, app" in (
        scripted("describe", "session", "9", status=1).stderr
    )


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (["stream", "s"], "overview"),
        (["group", "g"], "groups"),
        (["pipeline", "p"], "overview"),
        (["session", "1"], "sessions"),
        (["daemon"], "overview"),
    ],
)
def test_an_older_daemon_is_named(scripted: Any, arguments: list[str], verb: str) -> None:
    def unknown(_: dict[str, Any]) -> Any:
        raise BadRequest(f"unknown admin verb {verb!r}, known are ['streams']")

    scripted.answers |= {**SPARSE, verb: unknown}
    result = scripted("describe", *arguments, status=76)
    [line] = result.stderr.splitlines()
    assert repr(verb) in line


def test_help_names_what_can_be_described(scripted: Any) -> None:
    from click.testing import CliRunner

    from streamer_tools.main import main

    text = CliRunner().invoke(main, ["describe", "--help"]).stdout
    for kind in ("stream", "group", "pipeline", "session", "daemon"):
        assert kind in text
