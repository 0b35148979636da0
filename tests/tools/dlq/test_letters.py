"""How dead letters look: nothing in them can write to the terminal, and rows stay short."""

from __future__ import annotations

import json

import attrs
from rich.console import Console

from streamer.client import DeadLetter
from streamer.records import Record
from streamer_tools import show
from streamer_tools.dlq.letters import BRIEF, COLUMNS, letter_json, row
from streamer_tools.dlq.show import lines

NOW_US = 1_800_000_000_000_000
LETTER = DeadLetter(
    partition=0, offset=12_345, record=Record(b"\x1b[2Jvalue", key=b"k", headers={"a": b"\xff"}),
    reason="max_deliveries", group="billing", source_stream="orders", source_partition=2,
    source_offset=1_234_567, attempts=5, error="KeyError: \x1b[2J" + "long " * 100,
    first_us=NOW_US - 100_000_000, last_us=NOW_US - 240_000_000, redriven=3,
)  # fmt: skip


def test_a_row_is_short_and_harmless() -> None:
    shown = row(LETTER, NOW_US)
    assert shown["age_s"] == 240
    assert shown["source"] == "2:1234567"
    assert shown["error_text"].startswith("KeyError: \\x1b[2Jlong")
    assert len(shown["error_text"]) < 70
    assert {column.key for column in (*COLUMNS, *BRIEF)} <= shown.keys()
    assert "_" not in show.plain_table(COLUMNS, [shown]).splitlines()[0]


def test_a_letter_from_the_future_has_no_age() -> None:
    assert row(LETTER, 0)["age_s"] == 0


def test_a_person_sees_it_on_a_wide_terminal() -> None:
    console = Console(width=140, force_terminal=False)
    with console.capture() as captured:
        console.print(show.rich_table(BRIEF, [row(LETTER, NOW_US)]))
    for expected in ("12,345", "2:1234567", "4 min", "max_deliveries", "KeyError"):
        assert expected in captured.get()


def test_json_has_all_of_it() -> None:
    shown = letter_json(LETTER)
    assert json.loads(json.dumps(shown)) == shown
    fields = {field.name for field in attrs.fields(DeadLetter)} - {"record"}
    assert fields <= shown.keys()
    assert (shown["value"], shown["key"], shown["offset"]) == ("\x1b[2Jvalue", "k", 12_345)


def test_all_there_is_to_say() -> None:
    said = dict(line.split(maxsplit=1) for line in lines(LETTER) if not line.startswith("first"))
    assert said["value"] == "\\x1b[2Jvalue"
    assert said["from"] == "orders, partition 2, offset 1234567"
    assert said["redriven"] == "3 times before"
    assert said["error"].startswith("KeyError: \\x1b[2J")
    bare = attrs.evolve(LETTER, error="", redriven=0, record=Record(b"v"))
    names = {line.split()[0] for line in lines(bare)}
    assert not names & {"error", "redriven", "key", "headers", "time"}
