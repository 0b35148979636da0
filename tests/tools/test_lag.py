"""How far groups are behind; as a check, in records and in age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamer_tools.lag import Limits

if TYPE_CHECKING:
    from conftest import ScriptedDaemon

NEAR = {
    "stream": "orders", "group": "billing", "partition": 0, "cursor": 90, "high_water": 100,
    "lag": 10, "oldest_age_s": 2.5, "in_flight": 5, "retrying": 0,
}  # fmt: skip
FAR = NEAR | {"partition": 1, "cursor": 0, "lag": 2000, "oldest_age_s": 7200.0}
DONE = NEAR | {"group": "audit", "cursor": 100, "lag": 0, "oldest_age_s": None}


@pytest.fixture
def daemon(scripted: ScriptedDaemon) -> ScriptedDaemon:
    scripted.answers = {"lag": [NEAR, FAR, DONE]}
    return scripted


def test_a_row_a_partition(daemon: ScriptedDaemon) -> None:
    head, *lines = daemon("lag").stdout.splitlines()
    rows = [dict(zip(head.split(), line.split(), strict=True)) for line in lines]
    assert rows[1].items() >= {
        "group": "billing", "partition": "1", "cursor": "0", "high_water": "100", "lag": "2000",
        "oldest": "7200",
    }.items()  # fmt: skip
    assert rows[2]["oldest"] == "-"
    assert daemon.arguments_of("lag") == {"stream": ""}


def test_one_stream_is_asked_for(daemon: ScriptedDaemon) -> None:
    daemon.answers["stream"] = {"name": "o", "pipeline": "p", "dictionary_id": 0, "partitions": []}
    assert daemon.json("lag", "orders") == [NEAR, FAR, DONE]
    assert daemon.arguments_of("lag") == {"stream": "orders"}


def test_a_check_that_passes_says_nothing_more(daemon: ScriptedDaemon) -> None:
    result = daemon("lag", "--max-records", "2000", "--max-age", "2h")
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 4


def test_a_check_that_fails_names_what_is_exceeded(daemon: ScriptedDaemon) -> None:
    result = daemon("lag", "--max-records", "1999", "--max-age", "1h", status=1)
    assert result.stderr.splitlines() == [
        "streamer: orders, group billing, partition 1: 2,000 records behind, allowed are 1,999",
        "streamer: orders, group billing, partition 1: the oldest waits for 7200.0 s, "
        "allowed are 3600 s",
    ]
    assert daemon("lag", "--max-age", "2", "--group", "billing", status=1).stderr.count("\n") == 2
    assert daemon("lag", "--max-age", "0", "--group", "audit").stderr == ""


def test_a_check_as_json(daemon: ScriptedDaemon) -> None:
    found = daemon.json("lag", "--max-records", "10", status=1)
    assert [row["exceeded"] for row in found] == [False, True, False]


def test_a_check_of_a_group_that_nobody_has_does_not_pass(daemon: ScriptedDaemon) -> None:
    result = daemon("lag", "--group", "biling", "--max-records", "5", status=1)
    assert result.stderr == "streamer: there is no group 'biling' of any stream\n"


def test_no_groups_at_all(daemon: ScriptedDaemon) -> None:
    daemon.answers["lag"] = []
    assert daemon("lag").stderr == "no groups yet\n"
    assert daemon.json("lag") == []


@pytest.mark.parametrize("limits", [Limits(None, None), Limits(10, None), Limits(None, 2.5)])
def test_a_limit_itself_is_allowed(limits: Limits) -> None:
    assert list(limits.faults(NEAR)) == []


@pytest.mark.parametrize("given", [["--max-age", "soon"], ["--max-records", "-1"]])
def test_what_is_no_limit_is_refused(daemon: ScriptedDaemon, given: list[str]) -> None:
    assert given[0] in daemon("lag", *given, status=2).stderr
