"""PROTOCOL.md says what the program does: its tables, and its vectors executed both ways."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import attrs
import crc32c
import pytest

from streamer import batch as batches
from streamer import errors
from streamer.batch import Batch, Codec, Header, parse, parse_placed
from streamer.errors import BadBatch, ProtocolError, StreamerError
from streamer.groups.settings import EDITABLE, GroupSettings
from streamer.limits import MIB, BatchLimits, WireLimits
from streamer.records import ProducerStamp, Record
from streamer.session.admin import VERBS
from streamer.wire import frames, shapes
from streamer.wire.frames import BULK, FRAMES, Frame, Verb
from streamer.wire.framing import LengthPrefixed
from streamer.wire.machine import CROSSING, MOVES, Connection, Fatal, Role, State
from streamer.wire.partitioner import partition_for

PAGE = (Path(frames.__file__).parent / "PROTOCOL.md").read_text(encoding="utf-8")
LIMITS = BatchLimits()


def section(title: str, text: str = PAGE) -> str:
    """What stands under a heading, up to the next of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"no heading {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(text: str) -> list[list[str]]:
    """The rows of the first table, without its head."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def vectors(name: str) -> list[dict[str, Any]]:
    found = re.search(rf"<!-- vectors: {name} -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"no vectors {name!r}"
    entries: list[dict[str, Any]] = json.loads(found[1], object_hook=_unhex)
    assert entries
    return entries


def _unhex(value: dict[str, Any]) -> Any:
    return bytes.fromhex(value["$hex"]) if set(value) == {"$hex"} else value


def cases(name: str) -> Any:
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=f"{name}{n}") for n, case in enumerate(vectors(name))]
    )


# ------------------------------------------------------------------------------------- tables


def _senders(move: Any) -> str:
    roles = {role.value for (role, _), row in MOVES.items() if move in row}
    return roles.pop() if len(roles) == 1 else "both"


def test_every_frame_is_specified_as_it_is() -> None:
    headings = re.findall(r"^#### (\d+) (\w+) \((\w+)(, bulk)?\)$", PAGE, re.MULTILINE)
    assert headings == [
        (str(cls.TYPE), cls.__name__, _senders(cls), ", bulk" if cls in BULK else "")
        for cls in FRAMES
    ]
    for cls, (number, name, sender, bulk) in zip(FRAMES, headings, strict=True):
        rows = table(section(f"{number} {name} ({sender}{bulk})"))
        assert [row[:2] for row in rows] == [
            [field.name, kind.name]
            for field, kind in zip(attrs.fields(cls), cls.FIELDS, strict=True)  # type: ignore[arg-type]
        ], name
        assert all(row[2] for row in rows)


def test_the_bounds_of_frames_are_the_ones_in_force() -> None:
    text = section("Frames")
    for number in (
        frames.SMALL_FRAME_BYTES,
        frames.FRAME_ITEMS_MAX,
        WireLimits().frame_bytes,
    ):
        assert f"{number:,}" in text
    assert f"1 to {shapes.RECORDS_MAX} records" in text


def render_states() -> str:
    """The table of moves, as it stands in the page."""
    states = [state for state in State if state is not State.CLOSED]
    lines = [
        f"| frame | sent by | {' | '.join(state.value for state in states)} |",
        "|---" * (len(states) + 2) + "|",
    ]
    for move in (*FRAMES, Fatal):
        for role in Role:
            cells = []
            for state in states:
                after = MOVES.get((role, state), {}).get(move)
                crossing = CROSSING.get((role, state), {}).get(move)
                cells.append(after.value if after else f"({crossing.value})" if crossing else "")
            if any(cells):
                lines.append(f"| {move.__name__} | {role.value} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_states_are_the_ones_that_are_executed() -> None:
    wanted = render_states()
    assert wanted in section("Session states"), f"put this into PROTOCOL.md:\n{wanted}"
    assert [row[0] for row in table(section("Session states"))] == [state.value for state in State]


def test_every_error_code_is_specified_as_it_is() -> None:
    found = {row[0]: row[1:3] for row in table(section("Errors"))}
    wanted: dict[str, list[str]] = {}
    todo: list[type[StreamerError]] = [StreamerError]
    while todo:
        cls = todo.pop(0)
        todo += cls.__subclasses__()
        if cls.__module__ == errors.__name__ and cls is not errors.ConfigError:
            flags = ["yes" if flag else "no" for flag in (cls.retryable, cls.fatal)]
            assert wanted.setdefault(cls.code, flags) == flags, "a code that means two things"
    assert found == wanted


def test_the_header_is_specified_as_it_is() -> None:
    sizes = {"3 bytes": "3s", "u8": "B", "u16": "H", "u32": "I", "i64": "q", "u64": "Q"}
    rows = table(section("Batches"))
    *fields, payload = rows
    assert [row[1] for row in fields] == list(Header._fields)
    at = 0
    for offset, _, kind, writer, _ in fields:
        assert int(offset) == at
        assert writer == ("producer" if at < batches.PRODUCER_PART_BYTES else "daemon")
        at += struct.calcsize(f"<{sizes[kind]}")
    assert at == batches.HEADER_BYTES == int(payload[0])
    layout = "<" + "".join(sizes[row[2]] for row in fields)
    stored = (
        Codec()
        .encode_values([b"x"], now_us=1)
        .placed(base_offset=2, append_time_us=3, high_water=4, term=5)
    )
    assert struct.unpack(layout, stored.head) == tuple(stored.header)


def test_the_limits_of_batches_are_the_ones_in_force() -> None:
    text = section("Batches")
    rows = table(text[text.index("| limit |") :])
    assert {row[0]: int(row[1].replace(",", "")) for row in rows} == attrs.asdict(BatchLimits())
    assert f"{WireLimits().frame_bytes:,}" in PAGE


def test_the_columns_are_specified_as_they_are() -> None:
    rows = table(section("Payload"))
    assert [row[0] for row in rows] == [str(n) for n in range(len(attrs.fields(batches.Columns)))]


def test_every_admin_verb_is_specified() -> None:
    assert [row[0] for row in table(section("Admin verbs"))] == list(VERBS)


def test_the_settings_of_groups_are_the_ones_in_force() -> None:
    rows = table(section("Settings of members and groups"))
    group = {row[0]: json.loads(row[3]) for row in rows if row[1] == "group"}
    assert group == GroupSettings().to_plain()
    member = {row[0]: json.loads(row[3]) for row in rows if row[1] == "member"}
    wanted = {"name": "", "max_in_flight": 1000, "max_in_flight_bytes": 4 * MIB}
    assert member == {**wanted, "batch_records": 0}
    (edit,) = (row[2] for row in table(section("Admin verbs")) if row[0] == "group_edit")
    assert re.findall(r"`(\w+)`", edit) == list(EDITABLE)


def test_the_verbs_of_settles_are_specified() -> None:
    rows = table(section("Settling"))
    assert [(row[0], row[1]) for row in rows] == [(str(int(v)), v.name.lower()) for v in Verb]


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings}
    for anchor in re.findall(r"\]\(#([^)]*)\)", PAGE):
        assert anchor in anchors


# ------------------------------------------------------------------------------------ vectors


def test_the_checksum_is_the_one_that_is_named() -> None:
    assert crc32c.crc32c(b"123456789") == 0xE3069283


@cases("frames")
def test_frames(case: dict[str, Any]) -> None:
    number, *fields = case["array"]
    cls = FRAMES[number - 1]
    assert cls.__name__ == case["frame"]
    frame = cls(*fields)
    assert frames.encode(frame).hex() == case["hex"]
    assert frames.decode(bytes.fromhex(case["hex"])) == frame


def test_there_is_a_vector_of_every_frame() -> None:
    assert {case["frame"] for case in vectors("frames")} == {cls.__name__ for cls in FRAMES}


@cases("bad-frames")
def test_bytes_that_are_no_frame(case: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        frames.decode(bytes.fromhex(case["hex"]))
    assert caught.value.code == case["error"]


@pytest.mark.parametrize(("name", "last"), [("session", "closed"), ("group-session", "left")])
def test_a_session(name: str, last: str) -> None:
    ends = {role.value: Connection(role, WireLimits().frame_bytes) for role in Role}
    for step in vectors(name):
        data = bytes.fromhex(step["hex"])
        frame: Frame = frames.decode(data)
        assert type(frame).__name__ == step["frame"]
        for role, end in ends.items():
            if role == step["from"]:
                assert end.send(frame) == data
            else:
                assert end.receive(data) == frame
            assert end.state.value == step["state"]
    assert ends["client"].state.value == last


@cases("framing")
def test_length_prefix(case: dict[str, Any]) -> None:
    frame, data = bytes.fromhex(case["frame"]), bytes.fromhex(case["bytes"])
    assert LengthPrefixed.prefixed(frame) == data
    assert LengthPrefixed(len(frame)).feed(data) == [frame]


def _checked(case: dict[str, Any], codec: Codec) -> tuple[Batch, list[Record]]:
    """The batch of a vector, after decoding it and comparing all that the vector says."""
    data = bytes.fromhex(case["hex"])
    batch = (parse_placed if case.get("placed") else parse)(data, LIMITS)
    header = case["header"] | {"magic": bytes.fromhex(case["header"]["magic"])}
    assert batch.header._asdict() == header
    records = [Record(**record) for record in case["records"]]
    assert codec.records(batch) == records
    assert codec.decode(batch).producers == case.get("producers")
    return batch, records


def _stamp(header: Header) -> ProducerStamp | None:
    if not header.producer_id:
        return None
    return ProducerStamp(header.producer_id, header.epoch, header.sequence)


@cases("batches")
def test_batches_without_compression(case: dict[str, Any]) -> None:
    codec = Codec()
    batch, records = _checked(case, codec)
    header = batch.header
    stamps = [entry and ProducerStamp(*entry) for entry in case.get("producers", ())]
    again = codec.encode_records(records, now_us=0, stamp=_stamp(header), stamps=stamps or None)
    if case["placed"]:
        again = again.placed(
            base_offset=header.base_offset,
            append_time_us=header.append_time_us,
            high_water=header.high_water,
            term=header.term,
        )
    assert again.to_bytes().hex() == case["hex"]


@cases("compressed")
def test_batches_with_compression(case: dict[str, Any]) -> None:
    known = {
        int(number): bytes.fromhex(data) for number, data in case.get("dictionaries", {}).items()
    }
    codec = Codec(dictionaries=known)
    batch, records = _checked(case, codec)
    assert batch.header.codec == batches.CODEC_ZSTD
    again = codec.encode_records(records, now_us=0, dictionary_id=batch.header.dictionary_id)
    assert codec.records(parse(again.to_bytes(), LIMITS)) == records
    same = ("count", "raw_length", "flags", "dictionary_id")
    assert [getattr(again.header, name) for name in same] == [
        getattr(batch.header, name) for name in same
    ]


@cases("bad-batches")
def test_bytes_that_are_no_batch(case: dict[str, Any]) -> None:
    with pytest.raises(BadBatch) as caught:
        Codec().decode(parse(bytes.fromhex(case["hex"]), LIMITS))
    assert caught.value.code == case["error"]


@cases("partitions")
def test_partitions_of_keys(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["key"])
    assert crc32c.crc32c(key) == case["crc32c"]
    assert partition_for(key, case["partitions"]) == case["partition"]
