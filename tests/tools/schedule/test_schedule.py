"""Schedules: what is asked, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from streamer.errors import BadRequest
from streamer_tools.schedule.add import header
from streamer_tools.schedule.list import schedule_json

if TYPE_CHECKING:
    from conftest import ScriptedDaemon

SCHEDULE = {
    "name": "nightly", "stream": "jobs", "cron": "0 3 * * *", "zone": "Europe/Berlin",
    "next_us": 1_767_323_045_500_000, "last_us": None, "fired": 0, "key": b"k",
    "headers": {"kind": b"x"}, "value": b"\xff",
}  # fmt: skip


@pytest.fixture
def daemon(scripted: ScriptedDaemon) -> ScriptedDaemon:
    scripted.answers = {
        "schedules": [SCHEDULE, SCHEDULE | {"name": "b", "last_us": 0, "fired": 1234}],
        "schedule_add": {"next_us": SCHEDULE["next_us"]},
        "schedule_remove": {},
    }
    return scripted


def test_add(daemon: ScriptedDaemon) -> None:
    result = daemon("schedule", "add", "tick", "jobs", "--cron", "*/5 * * * *")
    assert result.stdout == "tick: sends to jobs next at 2026-01-02T03:04:05.500000+00:00\n"
    assert daemon.asked.pop()[1] == {
        "name": "tick", "stream": "jobs", "cron": "*/5 * * * *", "zone": "UTC", "value": b"",
        "key": None, "headers": {}, "replace": False,
    }  # fmt: skip
    found = daemon.json(
        "schedule", "add", "tick", "jobs", "--cron", "0 3 * * *", "--zone", "Europe/Berlin",
        "--value", "go", "--key", "k", "--header", "a=b=c", "--header", "d=", "--replace",
    )  # fmt: skip
    assert found == {"name": "tick", "stream": "jobs", "next_us": SCHEDULE["next_us"]}
    assert daemon.asked.pop()[1] == {
        "name": "tick", "stream": "jobs", "cron": "0 3 * * *", "zone": "Europe/Berlin",
        "value": b"go", "key": b"k", "headers": {"a": b"b=c", "d": b""}, "replace": True,
    }  # fmt: skip


def test_the_value_of_a_file_is_its_bytes(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"a\n\xff\n")
    daemon("schedule", "add", "tick", "jobs", "--cron", "* * * * *", "--file", str(file))
    assert daemon.arguments_of("schedule_add")["value"] == b"a\n\xff\n"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--cron"),
        (["--cron", "x", "--value", "a", "--file", __file__], "--value and --file"),
        (["--cron", "x", "--file", "/no/such/file"], "--file"),
        (["--cron", "x", "--header", "a"], "'a' is no header such as name=value"),
    ],
)
def test_what_cannot_be_is_a_usage_error(
    daemon: ScriptedDaemon, options: list[str], named: str
) -> None:
    assert named in daemon("schedule", "add", "tick", "jobs", *options, status=2).stderr


def test_a_name_that_is_taken_is_told_in_words_of_the_command(daemon: ScriptedDaemon) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise BadRequest("only `replace` changes it")

    daemon.answers["schedule_add"] = refuse
    add = ("schedule", "add", "nightly", "jobs", "--cron", "* * * * *")
    assert daemon(*add, status=1).stderr == (
        "streamer: schedule 'nightly' is there already: --replace changes it\n"
    )
    for other in (("schedule", "add", "new", *add[3:]), (*add, "--replace")):
        assert daemon(*other, status=1).stderr == "streamer: only `replace` changes it\n"


def test_headers() -> None:
    assert header("a=b") == ("a", b"b")
    for text in ("", "=b", "a"):
        with pytest.raises(click.BadParameter):
            header(text)


def test_list(daemon: ScriptedDaemon) -> None:
    head, first, second = daemon("schedule", "list").stdout.splitlines()
    assert head.split() == ["name", "stream", "cron", "zone", "next", "last", "fired"]
    assert first.split() == [
        "nightly", "jobs", "0_3_*_*_*", "Europe/Berlin", "2026-01-02T03:04:05Z", "-", "0",
    ]  # fmt: skip
    assert second.split()[-2:] == ["1970-01-01T00:00:00Z", "1234"]
    daemon.answers["schedules"] = []
    assert daemon("schedule", "list").stderr == "no schedules yet\n"


def test_json_has_what_is_sent(daemon: ScriptedDaemon) -> None:
    [first, _] = daemon.json("schedule", "list")
    assert first == schedule_json(SCHEDULE)
    assert first["key"] == "k"
    assert first["headers"] == {"kind": "x"}
    assert first["value_base64"] == "/w=="
    assert "headers" not in schedule_json(SCHEDULE | {"headers": {}, "key": None})


def test_remove(daemon: ScriptedDaemon) -> None:
    assert daemon("schedule", "remove", "tick").stdout == "tick: removed\n"
    assert daemon.arguments_of("schedule_remove") == {"name": "tick"}
    assert daemon.json("schedule", "remove", "tick")["removed"] is True
