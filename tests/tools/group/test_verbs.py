"""The verbs for one group: what they ask, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from streamer.errors import GroupConflict, StreamerError, UnknownGroup, UnknownStream
from streamer.wire.frames import Start
from streamer_tools.main import main

if TYPE_CHECKING:
    from conftest import ScriptedDaemon

SETTINGS = {
    "mode": "shared", "order": "key", "ack_wait_s": 30.0, "lease_max_s": 3600.0,
    "max_deliveries": 5, "backoff_s": [1.0, 5.0, 30.0], "start": "earliest",
}  # fmt: skip
GROUP = {
    "stream": "orders", "group": "billing", "mode": "shared", "order": "key", "paused": False,
    "members": 1, "partitions": 2, "lag": 1234, "oldest_age_s": 3.21, "in_flight": 10,
    "retrying": 3, "acked": 5000, "redelivered": 7, "dead": 1, "settings": SETTINGS,
    "member_list": [
        {"member": 7, "name": "worker 1", "peer": "127.0.0.1:5", "in_flight": 10,
         "in_flight_bytes": 2048, "oldest_s": 1.5, "max_in_flight": 1000, "partitions": [0, 1]},
    ],
    "partition_list": [
        {"partition": number, "cursor": 5, "high_water": 10, "lag": 5, "oldest_age_s": 3.21,
         "in_flight": 5, "retrying": 0, "done_ranges": 1, "owner": owner}
        for number, owner in enumerate((7, None))
    ],
}  # fmt: skip


@pytest.fixture
def daemon(scripted: ScriptedDaemon) -> ScriptedDaemon:
    scripted.answers = {
        "group": GROUP,
        "group_seek": lambda args: {"partitions": {"1": 17, "0": 5}},
        **{f"group_{verb}": {} for verb in ("create", "edit", "pause", "resume", "delete")},
    }
    return scripted


@pytest.mark.parametrize(("verb", "said"), [("pause", "paused"), ("resume", "resumed")])
def test_pause_and_resume(daemon: ScriptedDaemon, verb: str, said: str) -> None:
    assert daemon("group", verb, "orders", "billing").stdout == f"orders, group billing: {said}\n"
    assert daemon.arguments_of(f"group_{verb}") == {"stream": "orders", "group": "billing"}
    assert daemon.json("group", verb, "orders", "billing")["paused"] is (verb == "pause")


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"], ["pause"], ["resume"], ["seek", "--to", "5"], ["delete", "--yes"], ["create"],
        ["edit", "--max-deliveries", "3"],
    ],
)  # fmt: skip
def test_a_refusal_is_a_sentence(daemon: ScriptedDaemon, arguments: list[str]) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise UnknownGroup("there is no group 'biling' of stream 'orders'")

    daemon.answers = dict.fromkeys(daemon.answers, refuse)
    verb, *options = arguments
    result = daemon("group", verb, "orders", "biling", *options, status=1)
    assert result.stderr == "streamer: there is no group 'biling' of stream 'orders'\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("to", "start", "value"),
    [
        ("earliest", Start.EARLIEST, 0),
        ("latest", Start.LATEST, 0),
        ("17", Start.OFFSET, 17),
        ("2026-01-02T03:04:05.5", Start.TIME, 1_767_323_045_500_000),
    ],
)
def test_seek(daemon: ScriptedDaemon, to: str, start: Start, value: int) -> None:
    result = daemon("group", "seek", "orders", "billing", "--to", to)
    assert daemon.arguments_of("group_seek") == {
        "stream": "orders", "group": "billing", "start": int(start), "value": value, "all": True,
        "partition": 0,
    }  # fmt: skip
    assert result.stdout.splitlines() == [
        "orders, group billing: partition 0 goes on at offset 5",
        "orders, group billing: partition 1 goes on at offset 17",
    ]


def test_seek_of_one_partition(daemon: ScriptedDaemon) -> None:
    found = daemon.json("group", "seek", "orders", "billing", "--to", "5", "--partition", "1")
    assert found["partitions"] == {"0": 5, "1": 17}
    asked = daemon.arguments_of("group_seek")
    assert (asked["all"], asked["partition"]) == (False, 1)


def test_seek_says_where_to(daemon: ScriptedDaemon) -> None:
    assert "--to" in daemon("group", "seek", "orders", "billing", status=2).stderr
    assert "none of: earliest" in daemon(
        "group", "seek", "orders", "billing", "--to", "soon", status=2
    ).stderr  # fmt: skip


@pytest.mark.parametrize("typed", ["y\n", "YES\n"])
def test_delete_asks(daemon: ScriptedDaemon, typed: str) -> None:
    result = daemon("group", "delete", "orders", "billing", typed=typed)
    assert result.stdout == "orders, group billing: deleted\n"
    assert "1 members, 1,234 records not done, 10 in flight. Delete it? [y/N]" in result.stderr
    assert daemon.arguments_of("group_delete") == {"stream": "orders", "group": "billing"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("\n", "nothing was changed"),
        ("n\n", "nothing was changed"),
        ("", "nothing was changed: nobody answered; --yes goes without asking"),
    ],
)
def test_delete_takes_a_no(daemon: ScriptedDaemon, typed: str, said: str) -> None:
    result = daemon("group", "delete", "orders", "billing", typed=typed, status=1)
    assert result.stderr.endswith(f"streamer: {said}\n")
    assert result.stdout == ""
    assert "group_delete" not in dict(daemon.asked)


def test_delete_without_asking(daemon: ScriptedDaemon) -> None:
    assert daemon.json("group", "delete", "orders", "billing", "--yes")["deleted"] is True
    assert [verb for verb, _ in daemon.asked] == ["group_delete"]


def test_create_sends_what_was_named(daemon: ScriptedDaemon) -> None:
    daemon("group", "create", "orders", "billing")
    assert daemon.asked.pop()[1]["settings"] == {}
    daemon(
        "group", "create", "orders", "billing", "--mode", "shared", "--order", "key",
        "--ack-wait", "90", "--lease-max", "2h", "--max-deliveries", "0", "--backoff", "1,5,2m",
        "--start", "latest",
    )  # fmt: skip
    assert daemon.asked.pop()[1]["settings"] == {
        "mode": "shared", "order": "key", "ack_wait_s": 90, "lease_max_s": 7200,
        "max_deliveries": 0, "backoff_s": [1, 5, 120], "start": "latest",
    }  # fmt: skip


def refusing(error: StreamerError) -> Callable[[dict[str, Any]], None]:
    def refuse(_: dict[str, Any]) -> None:
        raise error

    return refuse


def test_create_says_what_it_did(daemon: ScriptedDaemon) -> None:
    create = ("group", "create", "orders", "billing")
    already = "orders, group billing: is there already, nothing was changed\n"
    assert daemon(*create).stdout == already
    assert daemon.json(*create)["created"] is False
    daemon.answers["group"] = refusing(UnknownGroup("there is no group 'billing'"))
    assert daemon(*create).stdout == "orders, group billing: created\n"
    assert daemon.json(*create)["created"] is True
    daemon.answers["group"] = refusing(UnknownStream("there is no stream 'orders'"))
    made = "orders, group billing: created, and stream orders with it\n"
    assert daemon(*create).stdout == made


def test_create_of_another_with_the_name_is_refused(daemon: ScriptedDaemon) -> None:
    daemon.answers["group_create"] = refusing(GroupConflict("the group has other settings"))
    result = daemon("group", "create", "orders", "billing", status=1)
    assert (result.stdout, result.stderr) == ("", "streamer: the group has other settings\n")


def test_edit_changes_something(daemon: ScriptedDaemon) -> None:
    result = daemon("group", "edit", "orders", "billing", "--ack-wait", "1m")
    assert daemon.arguments_of("group_edit")["settings"] == {"ack_wait_s": 60}
    assert result.stdout == "orders, group billing: changed ack_wait_s\n"
    assert "nothing to change" in daemon("group", "edit", "orders", "billing", status=2).stderr
    assert "--mode" in daemon("group", "edit", "o", "b", "--mode", "shared", status=2).stderr


def test_show(daemon: ScriptedDaemon) -> None:
    lines = daemon("group", "show", "orders", "billing").stdout.splitlines()
    assert lines[:8] == [
        "stream     orders",
        "group      billing",
        "mode       shared, order key",
        "ack wait   30 s, prolonged to 3600 s",
        "attempts   5, pauses between them 1, 5, 30 s",
        "lag        1,234 records, the oldest 3.2 s old",
        "in flight  10, retrying 3",
        "so far     5,000 acked, 7 delivered again, 1 dead, since the daemon began",
    ]
    assert lines[9].split() == [
        "member", "name", "peer", "in_flight", "of", "bytes", "oldest", "partitions",
    ]  # fmt: skip
    assert lines[10].split()[1:] == [
        "worker_1", "127.0.0.1:5", "10", "1000", "2048", "1.5", "0,1",
    ]  # fmt: skip
    assert [line.split()[-1] for line in lines[-3:]] == ["owner", "7", "-"]
    assert daemon.json("group", "show", "orders", "billing") == GROUP


def test_a_members_name_cannot_write_to_the_terminal(daemon: ScriptedDaemon) -> None:
    [member] = GROUP["member_list"]  # type: ignore[misc]
    daemon.answers["group"] = GROUP | {"member_list": [member | {"name": "\x1b[31mred\nx"}]}
    result = daemon("group", "show", "orders", "billing")
    assert "\\x1b[31mred\\nx" in result.stdout
    assert "\x1b" not in result.stdout


def test_an_error_cannot_write_to_the_terminal(daemon: ScriptedDaemon) -> None:
    daemon.answers["group"] = refusing(UnknownGroup("\x1b[2Jgone\n"))
    result = daemon("group", "show", "orders", "billing", status=1)
    assert result.stderr == "streamer: \\x1b[2Jgone\\n\n"


def test_counts_are_told_with_their_beginning(daemon: ScriptedDaemon) -> None:
    for command in (("group", "show"), ("groups",)):
        text = CliRunner().invoke(main, [*command, "--help"]).output
        assert "since the daemon began" in " ".join(text.split())


def test_show_tells_what_is_stuck(daemon: ScriptedDaemon) -> None:
    first, second = GROUP["partition_list"]  # type: ignore[misc]
    stuck = {**second, "fault": "offset 5 is damaged"}
    daemon.answers["group"] = GROUP | {"partition_list": [first, stuck]}
    result = daemon("group", "show", "orders", "billing")
    assert result.stderr == "streamer: partition 1 does not go on: offset 5 is damaged\n"


def test_show_without_members(daemon: ScriptedDaemon) -> None:
    settings = SETTINGS | {"max_deliveries": 0}
    daemon.answers["group"] = GROUP | {
        "member_list": [], "members": 0, "paused": True, "oldest_age_s": None, "lag": 0,
        "settings": settings,
    }  # fmt: skip
    text = daemon("group", "show", "orders", "billing").stdout
    assert "\nno members\n" in text
    assert "billing (paused)" in text
    assert "attempts   no limit," in text
    assert "lag        0 records\n" in text
