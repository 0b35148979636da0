"""The table of groups, as programs and as a person see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from streamer.errors import UnknownStream
from streamer_tools import show
from streamer_tools.groups import BRIEF, COLUMNS, rows

if TYPE_CHECKING:
    from conftest import ScriptedDaemon

BILLING = {
    "stream": "orders", "group": "billing", "mode": "shared", "order": "none", "paused": False,
    "members": 2, "partitions": 1, "lag": 1234, "oldest_age_s": 240.0, "in_flight": 10,
    "retrying": 3, "acked": 5000, "redelivered": 7, "dead": 1,
}  # fmt: skip
MAIL = BILLING | {
    "stream": "mails", "group": "sender", "order": "key", "paused": True, "lag": 0,
    "oldest_age_s": None,
}  # fmt: skip


@pytest.fixture
def daemon(scripted: ScriptedDaemon) -> ScriptedDaemon:
    def stream(args: dict[str, Any]) -> dict[str, Any]:
        if args["stream"] == "nowhere":
            raise UnknownStream("there is no stream 'nowhere'")
        return {"name": args["stream"], "pipeline": "p", "dictionary_id": 0, "partitions": []}

    scripted.answers = {"groups": [BILLING, MAIL], "stream": stream}
    return scripted


def test_all_groups_a_row_each(daemon: ScriptedDaemon) -> None:
    head, *lines = daemon("groups").stdout.splitlines()
    found = [dict(zip(head.split(), line.split(), strict=True)) for line in lines]
    assert found[0] == {
        "stream": "orders", "group": "billing", "mode": "shared", "order": "none",
        "partitions": "1", "members": "2", "lag": "1234", "oldest": "240", "in_flight": "10",
        "retrying": "3", "acked": "5000", "redelivered": "7", "dead": "1", "paused": "no",
    }  # fmt: skip
    assert found[1]["paused"] == "yes"
    assert found[1]["oldest"] == "-"


def test_the_groups_of_one_stream(daemon: ScriptedDaemon) -> None:
    assert daemon.json("groups") == [BILLING, MAIL]
    assert daemon.json("groups", "orders") == [BILLING]
    assert daemon.json("groups", "empty") == []
    assert daemon("groups", "empty").stderr == "no groups yet\n"


def test_a_stream_that_is_not_there_is_named(daemon: ScriptedDaemon) -> None:
    result = daemon("groups", "nowhere", status=1)
    assert result.stderr == "streamer: there is no stream 'nowhere'\n"
    assert result.stdout == ""


def test_a_person_sees_ages_and_what_is_paused_in_80_columns() -> None:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(show.rich_table(BRIEF, list(rows([BILLING, MAIL]))))
    text = captured.get()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for expected in ("4 min", "1,234", "sender (paused)", "by key"):
        assert expected in text
    assert "billing (paused)" not in text


def test_the_columns_are_those_of_the_daemon() -> None:
    assert {column.key for column in COLUMNS} == set(BILLING)
