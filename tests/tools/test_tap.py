"""`streamer tap`: what is asked, what an item looks like, and what is said at the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from streamer.batch import Codec
from streamer.errors import BadRequest
from streamer.limits import BatchLimits, WireLimits
from streamer.records import Record
from streamer_tools.tap import Counts, Shower, line, of, plain_line

POINTS = ["default/ingest.in", "deliver/orders/billing"]


def item(**more: Any) -> dict[str, Any]:
    return {
        "at_us": 1_700_000_000_123_456,
        "point": "default/ingest.in",
        "kind": "commit",
        "stream": "orders",
        "partition": 0,
        "offset": 12,
        "records": 2,
        "bytes": 2048,
        "lane": None,
        "reason": "synced",
        "batch": None,
        "sample": [],
        **more,
    }


def answer(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"points": POINTS, "seen": len(items), "shown": len(items), "items": list(items), **more}


# --------------------------------------------------------------------------------------- a line


def test_an_item_is_a_line() -> None:
    assert line(item(), POINTS, 100) == (
        "22:13:20.123  default/ingest.in       orders/0@12  2 rec  2 KiB  commit  synced"
    )
    unknown = item(partition=None, offset=None, lane="high", reason=None, kind="append")
    assert line(unknown, POINTS, 100).endswith("orders  2 rec  2 KiB  append  high lane")
    assert plain_line(item(reason="a b")) == (
        "2023-11-14T22:13:20.123456+00:00  default/ingest.in  orders  0  12  2  2048  commit"
        "  -  a_b"
    )


def test_what_a_daemon_of_another_version_does_not_tell_is_a_dash() -> None:
    assert line({}, POINTS, 100).split() == ["-", "-", "-", "-", "rec", "-"]
    assert line({}, POINTS, 40) == "- - - -r -"
    assert plain_line({}).split() == ["-"] * 10


def test_at_40_columns_the_least_wanted_is_left_out() -> None:
    assert line(item(), POINTS, 40) == "22:13:20 ingest.in orders/0@12 2r 2KiB synced"
    assert len(line(item(reason=None), POINTS, 40)) <= 40


def test_names_cannot_act_on_the_terminal() -> None:
    for width in (40, 100):
        assert "\x1b" not in line(item(stream="\x1b[2J"), POINTS, width)
    assert "\x1b" not in plain_line(item(stream="\x1b[2J"))


def test_streams_are_chosen_by_a_glob() -> None:
    assert of(item(), "ord*")
    assert not of(item(), "x*")
    assert not of(item(stream=None), "x*")


# ------------------------------------------------------------------------------------- records


class FakeClient:
    """Stands for the client: limits, and dictionaries by their number."""

    limits = (BatchLimits(), WireLimits())

    def __init__(self, dictionaries: dict[int, bytes] | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._dictionaries = dictionaries or {}

    async def admin(self, verb: str, args: dict[str, Any]) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append((verb, args))
        return {"id": args["id"], "data": self._dictionaries[args["id"]]}


def encoded(*records: Record) -> bytes:
    batch = Codec().encode_records(list(records), now_us=5)
    return batch.placed(base_offset=12, append_time_us=5, high_water=0).to_bytes()


async def lines(shower: Shower, found: dict[str, Any], client: Any = None) -> list[str]:
    return await shower.lines(client or FakeClient(), found, POINTS, 100)


async def test_the_records_of_a_batch_are_below_it() -> None:
    batch = encoded(Record(b"one\n", key=b"k\x00", headers={"h": b"v"}), Record(b"two"))
    found = item(batch=batch)
    assert (await lines(Shower(True, True, False), found))[1:] == [
        "    k\\x00  h=v  one\\n",
        "    -  two",
    ]
    assert (await lines(Shower(True, False, False), found))[1:] == ["    k\\x00", "    -"]
    assert len(await lines(Shower(False, False, False), found)) == 1


async def test_a_sample_is_shown_as_far_as_it_goes() -> None:
    sample = [{"key": None, "value": b"%d" % n, "headers": {}} for n in range(10)]
    found = await lines(Shower(True, True, False), item(records=1200, sample=sample))
    assert found[1] == "    -  0"
    assert found[-1] == "    ... 1,190 more"
    none = await lines(Shower(True, True, False), item())
    assert none[1] == "    (too large, or too much in this second)"


async def test_what_cannot_be_read_is_said() -> None:
    batch = bytearray(encoded(Record(b"one" * 100)))
    batch[-1] ^= 1
    found = await lines(Shower(True, True, False), item(batch=bytes(batch)))
    assert found[1].startswith("    (cannot be read: ")
    shown = json.loads((await lines(Shower(True, True, True), item(batch=bytes(batch))))[0])
    assert shown["shown"] == []


async def test_a_dictionary_is_asked_for_once() -> None:
    import zstandard

    words = [b"the same words again and again %d" % (n % 7) for n in range(2000)]
    data = zstandard.train_dictionary(2048, words).as_bytes()
    number = zstandard.ZstdCompressionDict(data).dict_id()
    codec = Codec(dictionaries={number: data})
    batch = codec.encode_values(words[:50], now_us=5, dictionary_id=number)
    assert batch.header.dictionary_id == number
    client = FakeClient({number: data})
    shower = Shower(True, True, False)
    for _ in range(2):
        found = await lines(shower, item(batch=batch.to_bytes(), records=50), client)
        assert found[1] == "    -  the same words again and again 0"
    assert client.asked == [("dictionary_get", {"stream": "orders", "id": number})]


async def test_json_has_the_item_and_its_records() -> None:
    found = item(batch=encoded(Record(b"\xff", key=b"k", headers={"h": b"v"})))
    [text] = await lines(Shower(True, True, True), found)
    shown = json.loads(text)
    assert shown["shown"] == [{"key": "k", "headers": {"h": "v"}, "value_base64": "/w=="}]
    assert shown["offset"] == 12
    assert not {"batch", "sample"} & set(shown)
    [text] = await lines(Shower(False, False, True), found)
    assert "shown" not in json.loads(text)


# ------------------------------------------------------------------------------ what is counted


def test_the_counts_go_on_over_a_new_tap() -> None:
    counts = Counts(10)
    for seen, given in ((5, 5), (100, 10), (3, 3)):
        counts.take(seen)
        counts.given += given
        counts.shown += given
    assert counts.sentence() == (
        "streamer: shown 18 of 103 items that passed; 85 were over the rate of 10 a second"
    )
    assert Counts(1, shown=1, given=3, others=2, seen=3).sentence() == (
        "streamer: shown 1 of 3 items that passed; 2 were of other streams"
    )


def test_what_is_asked_and_where_it_ends(scripted: Any) -> None:
    scripted.answers["tap"] = answer(item(), item(stream="other"), item(), item(), seen=40)
    arguments = ["default/ingest", "--in", "--rate", "7", "--values", "--count", "2"]
    result = scripted("tap", *arguments, "--stream", "ord*", "--json")
    assert [json.loads(text)["stream"] for text in result.stdout.splitlines()] == ["orders"] * 2
    assert result.stderr == (
        "streamer: shown 2 of 40 items that passed; 1 were of other streams; 36 were over the"
        " rate of 7 a second\n"
    )
    args = scripted.arguments_of("tap")
    assert args.pop("id").startswith("tap-")
    assert args == {"glob": "default/ingest.in", "rate": 7, "values": True, "wait_ms": 2000}


@pytest.mark.parametrize(
    ("given", "asked"), [("*/persist.out", "*/persist.out"), ("*/persist.in", "*/persist.out")]
)
def test_a_direction_takes_the_place_of_another(scripted: Any, given: str, asked: str) -> None:
    scripted.answers["tap"] = answer(item())
    scripted("tap", given, "--out", "--count", "1")
    assert scripted.arguments_of("tap")["glob"] == asked


def test_it_ends_by_itself(scripted: Any) -> None:
    scripted.answers["tap"] = answer()
    result = scripted("tap", "*", "--for", "0.2")
    assert (result.stdout, result.stderr) == ("", "streamer: shown 0 of 0 items that passed\n")


def test_a_glob_that_matches_nothing_is_answered_with_the_points(scripted: Any) -> None:
    def refused(_: dict[str, Any]) -> Any:
        raise BadRequest("no point matches 'x', known are default/ack.in")

    scripted.answers["tap"] = refused
    result = scripted("tap", "x", status=1)
    assert "known are default/ack.in" in result.stderr


def test_an_older_daemon_is_named(scripted: Any) -> None:
    def unknown(_: dict[str, Any]) -> Any:
        raise BadRequest("unknown admin verb 'tap', known are ['streams']")

    scripted.answers["tap"] = unknown
    assert "'tap'" in scripted("tap", "x", status=76).stderr
