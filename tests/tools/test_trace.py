"""`streamer trace` against a daemon by a script, and against a real one with a group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

import streamer
from streamer_tools import show
from streamer_tools.trace import _brief

if TYPE_CHECKING:
    from conftest import ScriptedDaemon, Shell

    from streamer_tools.own_daemon import OwnDaemon

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(name: str, kind: str, start: float, end: float, **facts: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "start_s": start, "end_s": end, "facts": facts}


def doc(seq: int, *more: dict[str, Any], offset: int = 7, stream: str = "orders") -> dict[str, Any]:
    stages = [
        span("default/ingest", "queueing", 0.0, 0.001),
        span("default/ingest", "service", 0.001, 0.01),
    ]
    return {
        "seq": seq, "trace_id": f"{offset:032x}", "span_id": f"{offset:016x}", "parent_id": None,
        "stream": stream, "partition": 0, "offset": offset, "records": 1, "bytes": 42,
        "session": "shop", "began_us": 1_700_000_000_000_000, "total_s": 0.01,
        "outcome": "synced", "error": "", "spans": [*stages, *more],
    }  # fmt: skip


HANDED = span("deliver/orders/mail", "delivery", 0.01, 0.02, attempt=1)
ACKED = span("deliver/orders/mail", "handling", 0.02, 0.5, attempt=1, outcome="ack")
NACKED = span("deliver/orders/mail", "handling", 0.02, 0.5, attempt=1, outcome="nack")


def script(daemon: ScriptedDaemon, *answers: list[dict[str, Any]], members: int = 0) -> None:
    """Have the daemon give these traces, a list an answer; none after them."""
    left = list(answers)

    def traces(args: dict[str, Any]) -> Any:
        found = left.pop(0) if args["limit"] and left else []
        return {"next": max([args.get("after", 0), *(each["seq"] for each in found)]),
                "traces": found}  # fmt: skip

    daemon.answers = {
        "traces": traces,
        "trace_next": lambda args: {"armed": args["count"]},
        "groups": [{"stream": "orders", "group": "mail", "members": members}],
    }


def armed(daemon: ScriptedDaemon) -> list[tuple[str, int]]:
    return [(args["stream"], args["count"]) for verb, args in daemon.asked if verb == "trace_next"]


def test_one_that_nobody_reads_is_shown_once(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1)])
    lines = scripted("trace", "orders").stdout.splitlines()
    assert lines[0] == "orders/0@7  synced in 10 ms"
    assert lines[-1] == "longest: default/ingest, service, 9 ms (90%)"
    assert armed(scripted) == [("orders", 1)]


def test_what_groups_do_is_shown_once_they_are_through(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1, HANDED)], [doc(2, HANDED, NACKED)], [doc(3, HANDED, ACKED)], members=1)
    lines = scripted("trace", "orders").stdout.splitlines()
    assert lines.count("orders/0@7") == 1
    assert lines[-1].split()[-1] == "ack"


def test_and_else_at_the_end(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1)], [doc(2, HANDED)], members=1)
    lines = scripted("trace", "orders", "--deliveries", "50ms").stdout.splitlines()
    assert lines[-1].split()[-1] == "out"


def test_or_not_at_all(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1, HANDED)], members=1)
    assert "deliver" not in scripted("trace", "orders", "--deliveries", "0").stdout
    assert "groups" not in [verb for verb, _ in scripted.asked]


def test_several_of_a_glob_and_no_others(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1, stream="other"), doc(2, offset=8)], [doc(3, offset=9)])
    found = scripted.json("trace", "ord*", "--count", "2")
    assert [each["offset"] for each in found] == [8, 9]
    assert armed(scripted) == [("ord*", 2)]


def test_when_none_comes_what_was_armed_is_taken_back(scripted: ScriptedDaemon) -> None:
    script(scripted)
    result = scripted("trace", "orders", "--timeout", "50ms", status=1)
    assert result.stderr == "streamer: no append to 'orders' came within 50 ms\n"
    assert armed(scripted) == [("orders", 1), ("orders", 0)]


def test_when_fewer_come(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1)])
    result = scripted("trace", "orders", "--timeout", "50ms", "--count", "3", status=1)
    assert result.stderr == "streamer: 1 of 3 appends to 'orders' came within 50 ms\n"
    assert result.stdout.startswith("orders/0@7")
    script(scripted, [doc(1)])
    found = scripted.json("trace", "orders", "--timeout", "50ms", "--count", "3", status=1)
    assert len(found) == 1


def test_a_list(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1), doc(2, offset=8)])
    head, first, _ = scripted("trace", "--list").stdout.splitlines()
    row = dict(zip(head.split(), first.split(), strict=True))
    assert row == {
        "began": "1700000000000000", "trace": f"{7:032x}", "record": "orders/0@7",
        "outcome": "synced", "total": "0.01", "longest": "default/ingest_service",
    }  # fmt: skip
    script(scripted)
    result = scripted("trace", "--list")
    assert (result.stdout, result.stderr) == ("", "no traces are kept\n")
    assert scripted.json("trace", "--list") == []


def test_one_by_its_id(scripted: ScriptedDaemon) -> None:
    script(scripted, [doc(1, HANDED, ACKED)])
    text = scripted("trace", "--id", "4BF9").stdout
    assert "orders/0@7  synced" in text
    assert text.splitlines()[-1].split()[-1] == "ack"
    assert scripted.arguments_of("traces")["id"] == "4bf9"
    script(scripted)
    result = scripted("trace", "--id", "4bf9", status=1)
    assert result.stderr == "streamer: the daemon keeps no trace whose id begins with 4bf9\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "one of STREAM, --id and --list is needed"),
        (("orders", "--list"), "one of STREAM, --id and --list is needed"),
        (("--id", "xyz"), "'xyz' is no trace id: 32 hexadecimal digits"),
        (("--id", "a" * 33), "is no trace id"),
        (("orders", "--count", "0"), "--count"),
    ],
)
def test_a_wrong_command_line(
    scripted: ScriptedDaemon, arguments: tuple[str, ...], text: str
) -> None:
    assert text in scripted("trace", *arguments, status=2).stderr


def test_an_older_daemon(scripted: ScriptedDaemon) -> None:
    def unknown(_: dict[str, Any]) -> Any:
        raise streamer.BadRequest("unknown admin verb 'traces', known are ['streams']")

    scripted.answers = {"traces": unknown}
    result = scripted("trace", "orders", status=76)
    assert "is scripted and does not know 'traces'" in result.stderr


def test_no_daemon(shell_at: type[Shell], tmp_path: Any) -> None:
    result = shell_at(f"unix:{tmp_path}/none")("trace", "orders", status=69)
    assert result.stderr.startswith(b"streamer: ")


# ------------------------------------------------------------------------------- a real daemon


def test_through_a_real_daemon_to_a_group(daemon: OwnDaemon, shell: Shell) -> None:
    url = daemon.url()
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01".encode()}

    async def main() -> None:
        async with streamer.connect(url, name="shop") as client, trio.open_nursery() as nursery:
            nursery.start_soon(consume, client)
            async with client.producer("traced") as producer:
                # A record alone, and one in a batch, whose headers the daemon does not see.
                await producer.send(b"alone", headers=headers)
                records = [streamer.Record(b"%d" % number) for number in range(20)]
                records[13] = streamer.Record(b"13", headers=headers)
                await producer.send_batch(records)

    async def consume(client: Any) -> None:
        seen = []
        async with client.consumer("traced", group="mail") as consumer:
            async for message in consumer.messages():
                seen.append(dict(message.headers or {}).get("traceparent"))
                await message.ack()
                if len(seen) == 21:
                    break
        # It comes to the handlers as it was sent.
        assert seen.count(headers["traceparent"]) == 2

    trio.run(main)
    found = json.loads(shell("trace", "--id", TRACE, "--json").stdout)
    assert [(each["records"], each["offset"]) for each in found] == [(1, 0), (20, 14)]
    for each in found:
        assert each["parent_id"] == "00f067aa0ba902b7"
        assert each["session"] == "shop"
        names = {(part["name"], part["kind"]) for part in each["spans"]}
        assert names >= {
            (f"default/{place}", kind)
            for place in ("ingest", "propose", "persist", "ack")
            for kind in ("queueing", "service")
        }
        handled = [part for part in each["spans"] if part["kind"] == "handling"]
        assert [part["facts"]["outcome"] for part in handled] == ["ack"]
        assert handled[0]["name"] == "deliver/traced/mail"
        assert each["spans"][0]["start_s"] == 0.0
    text = shell("trace", "--id", TRACE).stdout.decode()
    assert text.count("longest: ") == 2


def test_the_next_append(daemon: OwnDaemon, shell: Shell) -> None:
    process = shell.start("trace", "nex*", "--json", "--deliveries", "0")
    # It is there once it has armed the stream; until then what is sent is not traced.
    while process.poll() is None:
        shell("produce", "next", "-", stdin=b"x\n")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    [found] = json.loads(output)
    assert (found["stream"], found["outcome"]) == ("next", "synced")


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (120, ["began", "trace", "record", "outcome", "total", "longest"]),
        (80, ["began", "trace", "record", "outcome", "total", "longest"]),
        (40, ["trace", "record", "total"]),
    ],
)
def test_what_a_list_has_room_for(width: int, titles: list[str]) -> None:
    from io import StringIO

    from rich.console import Console

    columns = _brief(width)
    assert [column.title for column in columns] == titles
    row = doc(1) | {"place": "orders/0@1204", "longest": "default/persist service"}
    text = StringIO()
    Console(file=text, width=width).print(show.rich_table(columns, [row]))
    assert "\u2026" not in text.getvalue()
    assert f"{7:032x}"[: 32 if width > 80 else 8] in text.getvalue()
