"""The commands for groups, dead letters, delays and schedules on a real daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

import streamer

if TYPE_CHECKING:
    from conftest import Shell


def asked(shell: Shell, *arguments: str, status: int = 0) -> Any:
    return json.loads(shell(*arguments, "--json", status=status).stdout)


async def let_die(url: str, stream: str, reasons: dict[bytes, str]) -> None:
    """Work on all of a stream as group `g`: values in `reasons` are put to the dead letters."""
    async with streamer.connect(url) as client:
        info = await client.stream(stream)
        left = sum(partition.high_water for partition in info.partitions)
        async with client.consumer(stream, group="g") as consumer:
            async for message in consumer.messages():
                async with message:
                    if message.value in reasons:
                        await message.term(reasons[message.value])
                left -= 1
                if not left:
                    return


@pytest.fixture
def dead(shell: Shell, request: pytest.FixtureRequest) -> str:
    """A stream of five records, of which two died."""
    stream = f"dead {request.node.name}"
    shell("produce", stream, stdin=b"a\nbad\nc\nworse\ne\n")
    trio.run(let_die, shell.url, stream, {b"bad": "no JSON", b"worse": "no such user \x1b[2J"})
    return stream


def test_a_group_from_its_making_to_its_end(shell: Shell) -> None:
    shell("produce", "life", stdin=b"0\n1\n2\n")
    shell("group", "create", "life", "g", "--ack-wait", "10", "--backoff", "1,2m")
    [found] = asked(shell, "groups", "life")
    assert found.items() >= {"group": "g", "mode": "shared", "lag": 3, "members": 0}.items()
    assert found["oldest_age_s"] is not None
    settings = asked(shell, "group", "show", "life", "g")["settings"]
    assert settings.items() >= {"ack_wait_s": 10.0, "backoff_s": [1.0, 120.0]}.items()
    shell("group", "edit", "life", "g", "--max-deliveries", "0")
    assert asked(shell, "group", "show", "life", "g")["settings"]["max_deliveries"] == 0
    assert shell("consume", "life", "--group", "g").stdout == b"0\n1\n2\n"
    assert asked(shell, "group", "seek", "life", "g", "--to", "1")["partitions"] == {"0": 1}
    assert shell("consume", "life", "--group", "g").stdout == b"1\n2\n"
    shell("group", "seek", "life", "g", "--to", "earliest")
    shell("group", "seek", "life", "g", "--to", "latest")
    assert shell("consume", "life", "--group", "g").stdout == b""
    shell("group", "pause", "life", "g")
    assert asked(shell, "groups", "life")[0]["paused"] is True
    shell("group", "delete", "life", "g", stdin=b"n\n", status=1)
    shell("group", "delete", "life", "g", stdin=b"y\n")
    assert asked(shell, "groups", "life") == []
    assert b"life" in shell("group", "show", "life", "g", status=1).stderr


def test_the_tables_of_a_group_that_has_a_member(shell: Shell) -> None:
    shell("produce", "member", stdin=b"0\n1\n")
    with shell.start("consume", "member", "--group", "g", "--follow") as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"0\n"
        text = shell("group", "show", "member", "g").stdout.decode()
        assert " consume " in text
        assert b"member" in shell("groups").stdout
        reader.terminate()


def test_lag_is_a_check(shell: Shell) -> None:
    shell("produce", "behind", stdin=b"0\n1\n2\n")
    shell("group", "create", "behind", "g")
    [row] = asked(shell, "lag", "behind", "--max-records", "3")
    assert (row["cursor"], row["high_water"], row["lag"], row["exceeded"]) == (0, 3, 3, False)
    failed = shell("lag", "behind", "--max-records", "2", status=1)
    assert b"3 records behind, allowed are 2" in failed.stderr
    assert shell("lag", "behind", "--max-age", "0s", status=1).stderr
    shell("lag", "behind", "--max-age", "1h")
    shell("lag", "behind", "--group", "other", "--max-age", "1h", status=1)


def test_a_second_group_with_the_name_must_be_the_same(shell: Shell) -> None:
    shell("produce", "conflict", stdin=b"")
    shell("group", "create", "conflict", "g", "--mode", "ordered")
    result = shell("group", "create", "conflict", "g", "--mode", "shared", status=1)
    assert b"ordered" in result.stderr
    again = shell("group", "create", "conflict", "g", "--mode", "ordered").stdout
    assert again == b"conflict, group g: is there already, nothing was changed\n"


def test_what_is_not_there_is_told_in_one_way(shell: Shell) -> None:
    for command in (
        ("groups", "nosuch"),
        ("lag", "nosuch"),
        ("group", "show", "nosuch", "g"),
        ("group", "pause", "nosuch", "g"),
        ("dlq", "list", "nosuch"),
    ):
        assert shell(*command, status=1).stderr == b"streamer: there is no stream 'nosuch'\n"
    shell("produce", "such", stdin=b"a\n")
    for command in (("lag", "such", "--group", "g"), ("group", "show", "such", "g")):
        said = shell(*command, status=1).stderr
        assert said.startswith(b"streamer: there is no group 'g' of stream 'such'")
    said = shell("dlq", "show", "such", "99", status=1).stderr
    assert said.startswith(b"streamer: there is no dead letter of stream 'such' at offset 99")
    said = shell("schedule", "remove", "never", status=1).stderr
    assert said == b"streamer: there is no schedule 'never'\n"


def test_a_stream_that_is_made_by_the_way_is_told(shell: Shell) -> None:
    said = shell("group", "create", "by the way", "g").stdout
    assert said == b"by the way, group g: created, and stream by the way with it\n"


def test_times_that_contradict_each_other_are_refused(shell: Shell) -> None:
    odd = ("--ack-wait", "2h", "--lease-max", "1s")
    failed = shell("group", "create", "times", "g", *odd, status=1)
    assert b"ack_wait_s is 7200 s, allowed is up to lease_max_s, which is 1 s" in failed.stderr
    shell("group", "create", "times", "g")
    failed = shell("group", "edit", "times", "g", "--ack-wait", "2h", status=1)
    assert b"which is 3600 s" in failed.stderr


def test_dead_letters_are_listed_with_their_reasons(shell: Shell, dead: str) -> None:
    found = [json.loads(line) for line in shell("dlq", "list", dead, "--json").stdout.splitlines()]
    assert [(each["value"], each["error"], each["source_offset"]) for each in found] == [
        ("bad", "no JSON", 1),
        ("worse", "no such user \x1b[2J", 3),
    ]
    assert {(each["reason"], each["group"], each["attempts"]) for each in found} == {
        ("term", "g", 1)
    }
    head, *rows = shell("dlq", "list", dead).stdout.decode().splitlines()
    assert len(rows) == 2
    assert head.split()[:4] == ["partition", "offset", "from", "group"]
    assert "\x1b" not in rows[1]


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (["--reason", "term"], ["bad", "worse"]),
        (["--reason", "max_deliveries"], []),
        (["--error", "JSON"], ["bad"]),
        (["--group", "g"], ["bad", "worse"]),
        (["--group", "other"], []),
        (["--older-than", "1h"], []),
        (["--newer-than", "1h"], ["bad", "worse"]),
        (["--count", "1"], ["bad"]),
        (["--count", "0"], []),
    ],
)
def test_letters_are_found_by_what_they_are(
    shell: Shell, dead: str, options: list[str], values: list[str]
) -> None:
    lines = shell("dlq", "list", dead, "--json", *options).stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == values


def test_a_letter_says_what_it_holds_and_why_it_died(shell: Shell, dead: str) -> None:
    [first, second] = [
        json.loads(line) for line in shell("dlq", "list", dead, "--json").stdout.splitlines()
    ]
    where = [str(first["offset"]), "--partition", str(first["partition"])]
    text = shell("dlq", "show", dead, *where).stdout.decode()
    for expected in ("reason     term", "error      no JSON", "value      bad", "offset 1\n"):
        assert expected in text
    assert asked(shell, "dlq", "show", dead, *where) == first
    assert asked(shell, "dlq", "show", dead, str(second["offset"])) == second
    assert b"99" in shell("dlq", "show", dead, "99", status=1).stderr
    assert b"partition 7" in shell(
        "dlq", "show", dead, "0", "--partition", "7", status=1
    ).stderr  # fmt: skip


def test_redriven_letters_come_again(shell: Shell, dead: str) -> None:
    dry = shell("dlq", "redrive", dead, "--dry-run").stdout
    assert dry.decode() == f"{dead}: 2 dead letters would be redriven\n"
    assert asked(shell, "dlq", "redrive", dead, "--error", "JSON")["redriven"] == 1
    assert shell("consume", dead, "--group", "g").stdout == b"bad\n"
    assert asked(shell, "dlq", "redrive", dead)["redriven"] == 1
    assert asked(shell, "dlq", "redrive", dead)["redriven"] == 0
    again = json.loads(shell("consume", dead, "--group", "g", "--json").stdout)
    assert again["headers"] == {"streamer-redriven": "1"}
    assert shell("dlq", "list", dead).stdout == b""


def test_purged_letters_are_gone(shell: Shell, dead: str) -> None:
    refused = shell("dlq", "purge", dead, stdin=b"n\n", status=1)
    assert b"2 dead letters" in refused.stderr
    assert asked(shell, "dlq", "purge", dead, "--dry-run") == {
        "stream": dead, "found": 2, "purged": 0,
    }  # fmt: skip
    assert asked(shell, "dlq", "purge", dead, "--count", "1", "--yes")["purged"] == 1
    shell("dlq", "purge", dead, stdin=b"y\n")
    assert shell("dlq", "list", dead, "--json").stdout == b""
    assert shell("consume", dead, "--group", "g").stdout == b""


def test_a_stream_without_letters(shell: Shell) -> None:
    shell("produce", "healthy", stdin=b"a\n")
    assert shell("dlq", "list", "healthy").stderr == b"no such dead letters of healthy\n"
    assert asked(shell, "dlq", "redrive", "healthy")["found"] == 0
    for verb in ("list", "redrive", "purge"):
        assert b"nowhere" in shell("dlq", verb, "nowhere", status=1).stderr


def test_a_delayed_line_comes_when_it_is_due(shell: Shell) -> None:
    shell("produce", "later", stdin=b"now\n")
    found = asked_with_input(shell, b"tomorrow\n", "produce", "later", "--delay", "1d")
    assert (found["acked"], found["stream"], found["delay_s"]) == (1, "later", 86_400)
    said = shell("produce", "later", "--delay", "0.5", stdin=b"one\ntwo").stdout.decode()
    assert said.startswith("later: 2 records acknowledged (offsets 1 to 2 of partition 0 of later.")
    assert said.endswith(", due 0.5 s after they were sent\n")
    lines = shell("consume", "later", "--follow", "--count", "3").stdout.splitlines()
    assert lines == [b"now", b"one", b"two"]
    assert shell("consume", "later").stdout == b"now\none\ntwo"
    waiting = json.loads(shell("consume", "later.delayed", "--json", "--count", "1").stdout)
    assert waiting["value"] == "tomorrow"
    assert waiting["deliver_at_us"] - waiting["timestamp_us"] == pytest.approx(86_400e6, rel=0.01)


def asked_with_input(shell: Shell, stdin: bytes, *arguments: str) -> Any:
    return json.loads(shell(*arguments, "--json", stdin=stdin).stdout)


def test_a_schedule_from_its_making_to_its_end(shell: Shell) -> None:
    shell("produce", "ticks", stdin=b"")
    shell("schedule", "add", "tick", "ticks", "--cron", "0 3 * * *", "--zone", "Europe/Berlin",
          "--value", "go", "--header", "a=b")  # fmt: skip
    [found] = [each for each in asked(shell, "schedule", "list") if each["name"] == "tick"]
    assert found.items() >= {
        "stream": "ticks", "cron": "0 3 * * *", "zone": "Europe/Berlin", "value": "go",
        "headers": {"a": "b"}, "fired": 0, "last_us": None,
    }.items()  # fmt: skip
    assert b"tick" in shell("schedule", "list").stdout
    again = ["schedule", "add", "tick", "ticks", "--cron", "0 4 * * *"]
    taken = b"streamer: schedule 'tick' is there already: --replace changes it\n"
    assert shell(*again, status=1).stderr == taken
    shell(*again, "--replace")
    for cron in ("nonsense", "61 * * * *"):
        shell("schedule", "add", "odd", "ticks", "--cron", cron, status=1)
    shell("schedule", "add", "odd", "ticks", "--cron", "* * * * *", "--zone", "Mars/Base", status=1)
    shell("schedule", "remove", "tick")
    assert b"tick" in shell("schedule", "remove", "tick", status=1).stderr
