"""`streamer gaps`: pieces are put together, and shown; what a real daemon says is elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.errors import OffsetOutOfRange
from streamer_tools.gaps import Whole, brief_columns, rows, summary

PIECE: dict[str, Any] = {
    "first_offset": 0,
    "high_water": 10,
    "dropped": 0,
    "state": "open",
    "next": None,
    "last_us": 7,
    "batches": 2,
    "records": 10,
    "bytes": 200,
    "damage": [],
    "silences": [],
    "known": [],
}
STREAM = {
    "name": "s",
    "pipeline": "default",
    "dictionary_id": 0,
    "storage": "disk",
    "partitions": [
        {
            "partition": number,
            "first_offset": 0,
            "next_offset": 10,
            "high_water": 10,
            "bytes": 200,
            "segments": 1,
            "state": "open",
            "dropped": 0,
        }
        for number in range(2)
    ],
}


def gap(first: int, behind: int | None, reason: str = "r") -> dict[str, Any]:
    return {"first": first, "next": behind, "reason": reason}


def test_pieces_are_put_together() -> None:
    whole = Whole(3)
    more = {**PIECE, "next": 5, "damage": [gap(4, 5)], "silences": [{"offset": 2}]}
    assert whole.add(more) == 5
    assert whole.share(5) == 0.5
    assert whole.add({**PIECE, "last_us": 9}) is None
    found = whole.doc()
    assert (found["partition"], found["batches"], found["records"], found["bytes"]) == (
        3,
        4,
        20,
        400,
    )
    assert (found["damage"], found["silences"]) == ([gap(4, 5)], [{"offset": 2}])
    assert found["last_append_us"] == 9


def test_known_damage_is_told_once() -> None:
    whole = Whole(0)
    known = [gap(0, 2, "gone by now"), gap(1, 4, "cut"), gap(6, 7, "found"), gap(8, None, "end")]
    whole.add({**PIECE, "first_offset": 3, "damage": [gap(5, 8)], "known": known})
    assert whole.damage == [gap(3, 4, "cut"), gap(5, 8), gap(8, 10, "end")]


def test_rows_are_by_offset() -> None:
    found = {
        "partition": 1,
        "first_offset": 5,
        "dropped": 0,
        "damage": [gap(20, 22)],
        "silences": [{"offset": 9, "from_us": 1_000_000, "to_us": 61_000_000}],
        "group": {"holes": [{"first": 7, "next": 8, "out": 1, "retrying": None}]},
    }
    assert [(row["kind"], row["first"], row.get("last")) for row in rows(found)] == [
        ("retention", 0, 4),
        ("not done", 7, 7),
        ("silence", 9, None),
        ("damage", 20, 21),
    ]
    [silence] = [row for row in rows(found) if row["kind"] == "silence"]
    assert silence["seconds"] == 60
    assert silence["since"].startswith("1970-01-01T00:00:01")
    assert next(rows({**found, "dropped": 3}))["kind"] == "dropped"
    titles = [column.title for column in brief_columns(list(rows(found)))]
    assert titles == ["part", "kind", "first", "last", "records", "for", "out"]


def test_the_summary_counts() -> None:
    found = [Whole(0, records=3, batches=1).doc(), Whole(1, damage=[gap(1, 2)]).doc()]
    assert summary("s", found[:1]) == "s: 1 partition, 3 records in 1 batches, no damage"
    assert summary("s", found).endswith("2 partitions, 3 records in 1 batches, 1 damaged range")
    holes = {"group": "g", "holes": [{"first": 1, "next": 4}]}
    assert summary("s", [{**found[0], "group": holes}]).endswith("; g: 3 records left out")


# ------------------------------------------------------------------------------ what is asked


def test_each_piece_is_asked_for(scripted: Any) -> None:
    def gaps(args: dict[str, Any]) -> dict[str, Any]:
        return {**PIECE, "next": 5 if args["offset"] == 0 else None, "last_us": 77}

    scripted.answers |= {"stream": STREAM, "gaps": gaps}
    found = scripted.json("gaps", "s", "--silence", "2s", "--check")
    assert (found["whole"], found["checked"], len(found["partitions"])) == (True, True, 2)
    asked = [
        (args["partition"], args["offset"], args["last_us"], args["silence_us"], args["check"])
        for verb, args in scripted.asked
        if verb == "gaps"
    ]
    assert asked == [
        (number, offset, last_us, 2_000_000, True)
        for number in (0, 1)
        for offset, last_us in ((0, None), (5, 77))
    ]


def test_damage_is_status_1_and_its_reason_on_standard_error(scripted: Any) -> None:
    scripted.answers |= {"stream": STREAM, "gaps": {**PIECE, "damage": [gap(3, 5, "bad\x1b[m")]}}
    result = scripted("gaps", "s", "--partition", "0", status=1)
    assert result.stdout.splitlines()[1].split() == ["0", "damage", "3", "4", "2", *"----"]
    assert result.stderr.splitlines() == [
        "streamer: s, partition 0: bad\\x1b[m",
        "s: 1 partition, 10 records in 2 batches, 1 damaged range",
    ]
    assert scripted.json("gaps", "s", status=1)["whole"] is False


def test_holes_of_a_group_are_asked_for_to_the_end(scripted: Any) -> None:
    def holes(args: dict[str, Any]) -> dict[str, Any]:
        first = args["offset"] + 1
        hole = {"first": first, "next": first + 1, "out": 0, "retrying": 1}
        following = None if first > 5 else first + 4
        return {"cursor": 1, "high_water": 10, "done_to": 9, "next": following, "holes": [hole]}

    scripted.answers |= {"stream": STREAM, "gaps": PIECE, "group_holes": holes}
    found = scripted.json("gaps", "s", "--group", "g", "--partition", "1")
    assert [hole["first"] for hole in found["partitions"][0]["group"]["holes"]] == [1, 6]
    text = scripted("gaps", "s", "--group", "g", "--partition", "1")
    assert text.stdout.splitlines()[2].split()[:5] == ["1", "not_done", "6", "6", "1"]
    assert text.stderr.endswith("; g: 2 records left out\n")


def test_what_is_refused_is_told(scripted: Any) -> None:
    def gone(_: dict[str, Any]) -> Any:
        raise OffsetOutOfRange("offset 7")

    scripted.answers |= {"stream": STREAM, "gaps": gone}
    assert "offset 7" in scripted("gaps", "s", status=1).stderr
    assert "partitions 0 to 1, not 2" in scripted("gaps", "s", "--partition", "2", status=1).stderr


@pytest.mark.parametrize("verb", ["gaps", "group_holes"])
def test_an_older_daemon_is_named(scripted: Any, verb: str) -> None:
    from streamer.errors import BadRequest

    def unknown(_: dict[str, Any]) -> Any:
        raise BadRequest(f"unknown admin verb {verb!r}, known are ['streams']")

    scripted.answers |= {"stream": STREAM, "gaps": PIECE, verb: unknown}
    result = scripted("gaps", "s", "--group", "g", status=76)
    [line] = result.stderr.splitlines()
    assert "scripted" in line
    assert repr(verb) in line
