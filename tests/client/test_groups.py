"""What a client asks of groups, dead letters, delays and schedules, and what it makes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from streamer.client.groups import Delayed, GroupPartition, MemberInfo, PartitionLag, Schedule
from streamer.errors import BadRequest, UnknownGroup, UnknownStream
from streamer.records import Record

GROUP: dict[str, Any] = {
    "stream": "s", "group": "g", "mode": "shared", "order": "none", "paused": False, "members": 1,
    "partitions": 1, "lag": 5, "oldest_age_s": 1.5, "in_flight": 2, "retrying": 1, "acked": 7,
    "redelivered": 3, "dead": 1,
}  # fmt: skip
LAG: dict[str, Any] = {
    "stream": "s", "group": "g", "partition": 0, "cursor": 3, "high_water": 8, "lag": 5,
    "oldest_age_s": None, "in_flight": 2, "retrying": 1,
}  # fmt: skip
MEMBER: dict[str, Any] = {
    "member": 4, "name": "me", "peer": "unix", "in_flight": 2, "in_flight_bytes": 100,
    "oldest_s": None, "max_in_flight": 1000, "partitions": [0],
}  # fmt: skip
SCHEDULE: dict[str, Any] = {
    "name": "n", "stream": "s", "cron": "* * * * *", "zone": "UTC", "next_us": 9, "last_us": None,
    "fired": 0, "key": None, "headers": {}, "value": b"v",
}  # fmt: skip


@pytest.fixture
def asked(daemon) -> list[tuple[str, dict[str, Any]]]:
    """Every question, with answers to those of groups."""
    found: list[tuple[str, dict[str, Any]]] = []
    partition = {k: v for k, v in LAG.items() if k not in ("stream", "group")}
    answers: dict[str, Any] = {
        "groups": [{**GROUP, "newer": 1}],
        "group": {
            **GROUP,
            "settings": {"mode": "shared"},
            "member_list": [MEMBER],
            "partition_list": [{**partition, "done_ranges": 2, "owner": None}],
        },
        "group_seek": {"partitions": {"0": 5, "1": 6}},
        "lag": [LAG],
        "delayed": {"waiting": 3, "next_due_us": 8},
        "schedules": [SCHEDULE],
        "schedule_add": {"next_us": 60},
    }
    usual = daemon.admin

    def admin(verb: str, args: dict[str, Any]) -> object:
        found.append((verb, args))
        if verb in ("dead_redrive", "dead_purge"):
            ranges = args["ranges"]
            past = "redriven" if verb == "dead_redrive" else "purged"
            return {past: sum(ranges[1::2]) - sum(ranges[::2])}
        if verb.startswith(("group_", "schedule_")):
            return answers.get(verb, {})
        return answers[verb] if verb in answers else usual(verb, args)

    daemon.admin = admin
    return found


async def test_groups(client, asked) -> None:
    (group,) = await client.groups()
    assert (group.stream, group.group, group.lag, group.oldest_age_s) == ("s", "g", 5, 1.5)
    assert asked == [("groups", {})]


async def test_one_group(client, asked) -> None:
    group = await client.group("s", "g")
    assert group.settings == {"mode": "shared"}
    assert group.member_list == [MemberInfo(**MEMBER)]
    assert group.partition_list == [GroupPartition(0, 3, 8, 5, None, 2, 1, 2, None)]
    assert group.acked == 7


async def test_making_and_changing(client, asked) -> None:
    await client.create_group("s", "g", mode="ordered", backoff_s=(1, 2))
    await client.edit_group("s", "g", ack_wait_s=5.0, max_deliveries=0)
    await client.pause_group("s", "g")
    await client.resume_group("s", "g")
    await client.delete_group("s", "g")
    name = {"stream": "s", "group": "g"}
    assert asked == [
        ("group_create", {**name, "settings": {"mode": "ordered", "backoff_s": [1, 2]}}),
        ("group_edit", {**name, "settings": {"ack_wait_s": 5.0, "max_deliveries": 0}}),
        ("group_pause", name),
        ("group_resume", name),
        ("group_delete", name),
    ]


async def test_pauses_that_are_no_sequence(client, asked) -> None:
    for call in (client.create_group, client.edit_group):
        with pytest.raises(BadRequest, match="backoff_s is 5, it must be a sequence"):
            await call("s", "g", backoff_s=5)
    assert asked == []


async def test_seeking(client, asked) -> None:
    assert await client.seek_group("s", "g", "earliest") == {0: 5, 1: 6}
    await client.seek_group("s", "g", 17, partition=1)
    await client.seek_group("s", "g", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    what = [(a["start"], a["value"], a["all"], a["partition"]) for _, a in asked]
    assert what == [(2, 0, True, 0), (0, 17, False, 1), (1, 1_000_000, True, 0)]
    with pytest.raises(BadRequest, match="start 'x'"):
        await client.seek_group("s", "g", "x")


async def test_lag(client, asked) -> None:
    assert await client.lag() == [PartitionLag(**LAG)]
    await client.lag("s")
    assert [args for _, args in asked] == [{"stream": ""}, {"stream": "s"}]


async def test_delays_and_schedules(client, asked) -> None:
    assert await client.delayed("s") == Delayed(3, 8)
    assert await client.schedules() == [Schedule(**SCHEDULE)]
    assert await client.add_schedule("n", "s", "* * * * *", b"v", headers={"h": b"1"}) == 60
    await client.remove_schedule("n")
    assert asked[-2][1] == {
        "name": "n", "stream": "s", "cron": "* * * * *", "zone": "UTC", "value": b"v",
        "key": None, "headers": {"h": b"1"}, "replace": False,
    }  # fmt: skip
    assert asked[-1] == ("schedule_remove", {"name": "n"})


async def test_what_the_daemon_refuses(daemon, client) -> None:
    def refuse(verb, args):
        raise UnknownGroup("there is no group 'g'")

    daemon.admin = refuse
    with pytest.raises(UnknownGroup, match="no group 'g'"):
        await client.group("s", "g")


# ----------------------------------------------------------------------------------- dead letters


def letter(n: int, **facts: Any) -> Record:
    told = {
        "reason": "term", "group": "g", "stream": "s", "partition": 1, "offset": n,
        "attempts": 3, "error": "bad", "first_us": 5, "last_us": 6, **facts,
    }  # fmt: skip
    headers = {"streamer-dead": json.dumps(told).encode(), "streamer-redriven": b"2"}
    return Record(b"%d" % n, b"k", 4, headers)


def open_ranges(daemon, *partitions: tuple[int, list[int]]) -> None:
    usual = daemon.admin

    def admin(verb: str, args: dict[str, Any]) -> object:
        if verb != "dead":
            return usual(verb, args)
        listed = [{"partition": number, "ranges": ranges} for number, ranges in partitions]
        return {"stream": args["stream"] + ".dead", "partitions": listed}

    daemon.admin = admin


async def fill(client, count: int, batch: int = 4, partition: int = 0) -> None:
    async with client.producer("s.dead", partition=partition) as producer:
        for at in range(0, count, batch):
            await producer.send_batch([letter(n) for n in range(at, min(count, at + batch))])


async def offsets(client) -> list[tuple[int, int]]:
    async with client.dead_letters("s") as letters:
        return [(each.partition, each.offset) async for each in letters]


async def test_dead_letters(daemon, client) -> None:
    await fill(client, 1)
    open_ranges(daemon, (0, [0, 1]))
    async with client.dead_letters("s") as letters:
        (found,) = [each async for each in letters]
    assert (found.partition, found.offset) == (0, 0)
    assert found.record == Record(b"0", b"k", 4, {"streamer-redriven": b"2"})
    assert (found.reason, found.group, found.error) == ("term", "g", "bad")
    assert (found.source_stream, found.source_partition, found.source_offset) == ("s", 1, 0)
    assert (found.attempts, found.first_us, found.last_us, found.redriven) == (3, 5, 6, 2)


async def test_only_the_open_ones(daemon, client) -> None:
    daemon.partitions = 3
    await fill(client, 20)
    await fill(client, 5, partition=2)
    open_ranges(daemon, (0, [1, 2, 3, 6, 18, 19]), (1, []), (2, [0, 5]))
    expected = [(0, n) for n in (1, 3, 4, 5, 18)] + [(2, n) for n in range(5)]
    assert await offsets(client) == expected


async def test_wide_gaps_are_jumped_over(daemon, client) -> None:
    await fill(client, 12_000, batch=1000)
    open_ranges(daemon, (0, [3, 4, 11_500, 11_502]))
    daemon.batches_per_delivery = 1
    assert await offsets(client) == [(0, 3), (0, 11_500), (0, 11_501)]


async def test_what_somebody_else_put_there(daemon, client) -> None:
    async with client.producer("s.dead") as producer:
        await producer.send_batch([Record(b"x", None, 7)])
    open_ranges(daemon, (0, [0, 1]))
    async with client.dead_letters("s") as letters:
        (found,) = [each async for each in letters]
    assert (found.reason, found.source_stream, found.source_offset) == ("unknown", "s.dead", 0)
    assert (found.last_us, found.redriven) == (7, 0)


async def test_none_and_no_stream(daemon, client) -> None:
    open_ranges(daemon)
    assert await offsets(client) == []

    def refuse(verb, args):
        raise UnknownStream("no stream")

    daemon.admin = refuse
    with pytest.raises(UnknownStream):
        await offsets(client)


async def test_redrive_and_purge(daemon, client, asked) -> None:
    await fill(client, 6000, batch=1000)
    open_ranges(daemon, (0, [0, 6000]))
    async with client.dead_letters("s") as letters:
        found = [each async for each in letters]
    asked.clear()
    assert await client.redrive("s", found) == 6000
    assert await client.purge("s", [found[1], found[3], found[2], found[9]]) == 4
    assert await client.purge("s", []) == 0
    name = {"stream": "s", "partition": 0}
    assert asked == [
        ("dead_redrive", {**name, "ranges": [0, 5000]}),
        ("dead_redrive", {**name, "ranges": [5000, 6000]}),
        ("dead_purge", {**name, "ranges": [1, 4, 9, 10]}),
    ]
