"""Frames: round trips, the shape of every field, and what is bounded before it is decoded."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import cbor
from streamer.errors import FrameTooLarge, LocalProtocolError, ProtocolError, RemoteProtocolError
from streamer.limits import KIB, MIB
from streamer.wire import frames, shapes
from streamer.wire.frames import BULK, FRAMES, RECORDS_MAX, SMALL_FRAME_BYTES, Frame

UINT = st.integers(0, 2**63 - 1)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
MAPS = st.dictionaries(st.text(max_size=8), PLAIN, max_size=4)
PLACE = st.tuples(UINT, st.integers(-1, 2**63 - 1))
LEVEL = st.integers(0, 2)
BIT = st.integers(0, 1)
RECORDS = st.lists(
    st.tuples(st.binary(max_size=30)).map(list)
    | st.tuples(
        st.binary(max_size=30),
        st.none() | st.binary(max_size=9),
        st.none() | UINT,
        st.none() | st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=3),
        st.none() | UINT,
    ).map(list),
    min_size=1,
    max_size=5,
)
ACKS = st.lists(
    st.tuples(UINT, PLACE, st.integers(1, 2**63 - 1), LEVEL, BIT).map(
        lambda row: [row[0], *row[1], *row[2:]]
    ),
    max_size=5,
)
RESULTS = st.lists(
    st.tuples(PLACE, LEVEL, BIT).map(lambda row: [*row[0], *row[1:]])
    | st.tuples(st.text(max_size=8), st.text(max_size=8), st.booleans(), MAPS).map(list),
    max_size=5,
)
RANGES = st.sets(UINT, max_size=6).map(lambda found: sorted(found)[: len(found) // 2 * 2])
SETTLES = st.lists(
    st.tuples(UINT, UINT, RANGES, st.none() | UINT, st.text(max_size=8)).map(list),
    min_size=1,
    max_size=4,
)
FAILURES = st.lists(st.tuples(UINT, st.text(max_size=8), st.text(max_size=8)).map(list), max_size=4)
PARENTS = st.lists(st.tuples(UINT, st.text(max_size=60)).map(list), min_size=1, max_size=8)
BY_KIND = {
    shapes.INT: UINT,
    shapes.MAYBE_INT: st.none() | UINT,
    shapes.U32: st.integers(0, 2**32 - 1),
    shapes.STR: st.text(max_size=20),
    shapes.BOOL: st.booleans(),
    shapes.BYTES: st.binary(max_size=60),
    shapes.MAP: MAPS,
    shapes.ANY: PLAIN.filter(lambda value: type(value) is not int or value >= 0),
    shapes.VERSIONS: st.lists(UINT, max_size=4),
    shapes.LIMITS: st.dictionaries(st.text(max_size=8), UINT, max_size=4),
    shapes.RECORDS: RECORDS,
    shapes.ACKS: ACKS,
    shapes.RESULTS: RESULTS,
    shapes.RANGES: RANGES,
    shapes.SETTLES: SETTLES,
    shapes.FAILURES: FAILURES,
    shapes.PARENTS: PARENTS,
}
ANY_FRAME = st.one_of([st.builds(cls, *[BY_KIND[kind] for kind in cls.FIELDS]) for cls in FRAMES])


def sample(cls: type[Frame]) -> Frame:
    """Some frame of the kind."""
    values: dict[Any, Any] = {
        shapes.INT: 1, shapes.MAYBE_INT: None, shapes.U32: 2, shapes.STR: "text",
        shapes.BOOL: False, shapes.BYTES: b"bytes", shapes.MAP: {"a": 1}, shapes.ANY: [1],
        shapes.VERSIONS: [1], shapes.LIMITS: {"frame_bytes": 1}, shapes.RECORDS: [[b"value"]],
        shapes.ACKS: [[1, 0, 5, 1, 1, 0]], shapes.RESULTS: [[0, 5, 1, 0]],
        shapes.RANGES: [1, 3], shapes.SETTLES: [[1, 5, [1, 3], None, "why"]],
        shapes.FAILURES: [[0, "lease_lost", "text"]], shapes.PARENTS: [[0, "00-..."]],
    }  # fmt: skip
    return cls(*[values[kind] for kind in cls.FIELDS])


def head_of(cls: type[Frame]) -> bytes:
    """The array's head and the type."""
    (head,) = (head for head, kind in frames._HEADS.items() if kind is cls)
    assert frames.encode(sample(cls)).startswith(head)
    return head


def parts_of(frame: Frame) -> list[Any]:
    return [frame.TYPE, *attrs.astuple(frame, recurse=False)]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- round trips


@given(ANY_FRAME)
def test_round_trip(frame: Frame) -> None:
    data = frames.encode(frame)
    assert frames.decode(data) == frame
    assert cbor.loads(data) == parts_of(frame)


@given(ANY_FRAME, st.data())
def test_truncated_or_followed_frames_are_refused(frame: Frame, data: st.DataObject) -> None:
    whole = frames.encode(frame)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(RemoteProtocolError):
        frames.decode(whole[:cut])
    with pytest.raises(RemoteProtocolError):
        frames.decode(whole + b"\x00")


@given(st.binary(max_size=100), st.sampled_from([b"", *sorted(frames._HEADS)]))
def test_garbage_is_a_frame_or_the_peers_error(data: bytes, head: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        frames.decode(head + data)


def test_types_are_numbered_without_gaps() -> None:
    assert [cls.TYPE for cls in FRAMES] == list(range(1, len(FRAMES) + 1))
    for cls in FRAMES:
        assert len(cls.FIELDS) == len(attrs.fields(cls))  # type: ignore[arg-type]
        # The array's head is a byte, and the type one or two.
        assert len(cls.FIELDS) < 23
        assert cls.TYPE < 256


@pytest.mark.parametrize("cls", FRAMES, ids=lambda cls: cls.__name__)
def test_frames_are_values(cls: type[Frame]) -> None:
    frame = sample(cls)
    assert frame == sample(cls)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(frame, attrs.fields(cls)[0].name, 5)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------- shape


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no array"),
        (b"\x81", "no array"),
        (b"\x05\x12", "no array"),
        (b"\xa1\x12\x05", "no array"),
        (b"\x80\x12", "no array"),
        (b"\x82\x20\x00", "no array"),
        (b"\x82\xf6\x00", "no array"),
        (b"\x98\x02\x12\x00", "no array"),
        (b"\x9f\x12\x00\xff", "no array"),
        (b"\x82\x00\x00", "unknown frame type 0"),
        (b"\x82\x18\x1b\x00", "unknown frame type 27"),
        (b"\x82\x18\xff\x00", "unknown frame type 255"),
        # Numbers below 24 have one form, larger ones than 255 none.
        (b"\x82\x18\x12\x00", "no array"),
        (b"\x82\x18\x17\x00", "no array"),
        (b"\x82\x18", "no array"),
        (b"\x82\x19\x00\x12\x00", "no array"),
        (b"\x82\x19\x01\x00\x00", "no array"),
        (b"\x98\x03\x18\x18\x01\x80", "no array"),
        (b"\x82\x18\x18\x00", "Settled frame has 1 fields, it takes 2"),
        (b"\x84\x18\x19\x00\x00\x00", "Revoke frame has 3 fields, it takes 4"),
        (b"\x81\x12", "Ping frame has 0 fields, it takes 1"),
        (b"\x83\x12\x00\x00", "Ping frame has 2 fields, it takes 1"),
        (b"\x82\x12", "no CBOR of ours"),
        (b"\x82\x12\xc2\x41\x01", "no CBOR of ours"),
        (b"\x82\x12\x81\x01", "depth"),
        (b"\x82\x12\x80", "field token is not int"),
        (b"\x82\x12\x20", "field token is not int"),
        (b"\x82\x12\x1b\x80\0\0\0\0\0\0\0", "field token is not int"),
        (b"\x82\x12\xf5", "field token is not int"),
        (b"\x82\x12\xf9\x3c\x00", "field token is not int"),
        (b"\x82\x12\x1b\x7f", "no CBOR of ours"),
    ],
)
def test_what_is_no_frame(data: bytes, text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        frames.decode(data)


_WRONG: list[Any] = [None, -1, 2**63, 1.5, "text", b"bytes", True, [None], {"a": 2**63}, {1: 2}]


@pytest.mark.parametrize("cls", FRAMES, ids=lambda cls: cls.__name__)
def test_each_field_takes_its_own_kinds_only(cls: type[Frame]) -> None:
    good = parts_of(sample(cls))
    for number, kind in enumerate(cls.FIELDS, 1):
        refused = 0
        for wrong in _WRONG:
            data = cbor.dumps([*good[:number], wrong, *good[number + 1 :]])
            try:
                found = frames.decode(data)
            except RemoteProtocolError:
                refused += 1
            else:
                value = parts_of(found)[number]
                assert type(value) in kind.types
                assert kind.check is None or kind.check(value)
                assert type(value) is not int or 0 <= value < kind.below
        assert refused, f"field {number} takes anything"


@pytest.mark.parametrize("epoch", [2**32, 2**63 - 1])
def test_an_epoch_has_32_bits(epoch: int) -> None:
    with pytest.raises(RemoteProtocolError, match="epoch is not int below"):
        frames.decode(cbor.dumps([4, 1, "s", None, None, 0, 1, epoch, 0, [[b""]]]))


@pytest.mark.parametrize(
    "frame",
    [
        frames.ProduceRecords(1, "s", 0, -1, 0, 1, 0, 0, [[b""]]),
        frames.ProduceRecords(1, "s", 0, 2**70, 0, 1, 0, 0, [[b""]]),
        frames.ProduceRecords(1, "s", 0, "x", 0, 1, 0, 0, [[b""]]),  # type: ignore[arg-type]
        frames.ProduceRecords(1, "s", 0, None, 0, 1, 2**32, 0, [[b""]]),
        frames.Produce(1, "s", -1, None, 0, b""),
        frames.Produce(1, "s", True, None, 0, b""),
        frames.Subscribe(1, 1, "s", -1, frames.Start.EARLIEST, 0, 1),
        frames.Subscribe(1, 1, "s", 0, frames.Start.OFFSET, 2**64, 1),
        frames.Fetch(1, "s", 0, frames.Start.OFFSET, 0, -1),
        frames.Grant(1, 2**63),
        frames.Join(1, -1, "s", "g"),
        frames.Settle(1, 1, -1, [[0, 5, [], None, ""]]),
        frames.Settle(2**63, 1, 1, [[0, 5, [], None, ""]]),
    ],
    ids=repr,
)
def test_what_a_daemon_would_refuse_a_client_does_not_send(frame: Frame) -> None:
    with pytest.raises(LocalProtocolError, match="is not int"):
        frames.encode(frame)


@pytest.mark.parametrize(
    "row",
    [
        5, [], [1, 0, 5, 1, 1], [1, 0, 5, 1, 1, 0, 0], [1, 0, 5, 1, 1, False], [-1, 0, 5, 1, 1, 0],
        [1, -1, 5, 1, 1, 0], [1, 0, -2, 1, 1, 0], [1, 0, 5, 0, 1, 0], [1, 0, 5, 1, 3, 0],
        [1, 0, 5, 1, -1, 0], [1, 0, 5, 1, 1, 2], [2**63, 0, 5, 1, 1, 0], [1, 2**63, 5, 1, 1, 0],
        [1, 0, 2**63, 1, 1, 0], [1, 0, 5, 2**63, 1, 0], ["1", 0, 5, 1, 1, 0], {"a": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_acks_that_are_refused(row: Any) -> None:
    good = [1, 0, -1, 1, 2, 1]
    assert frames.decode(frames.encode(frames.Acks(0, [good, good])))
    with pytest.raises(RemoteProtocolError, match="array of acks"):
        frames.decode(frames.encode(frames.Acks(0, [good, row])))


@pytest.mark.parametrize(
    "row",
    [
        5, [], [0, 5, 1], [0, 5, 1, False], [-1, 5, 1, 0], [0, -2, 1, 0], [0, 5, 3, 0],
        [0, 5, 1, 2], ["code", "text", True], ["code", "text", 1, {}], ["code", "text", True, []],
        ["code", "text", True, {"a": 2**63}], ["code", None, True, {}], [b"code", "x", True, {}],
    ],
    ids=repr,
)  # fmt: skip
def test_results_that_are_refused(row: Any) -> None:
    good: list[list[Any]] = [[0, -1, 2, 1], ["code", "text", True, {"next": 5}]]
    assert frames.decode(frames.encode(frames.Results(0, 1, good)))
    with pytest.raises(RemoteProtocolError, match="array of results"):
        frames.decode(frames.encode(frames.Results(0, 1, [*good, row])))


_RANGES_WRONG: list[Any] = [
    [1], [1, 1], [2, 1], [-1, 1], [0, 2**63], [1, 3, 3, 5], [1, 3, 2, 5], [4, 5, 1, 2],
    [0, 1, 2], [True, 2], [0, True], [0, 1.0], ["0", 1], [0, None], [[0, 1]], [0, 1, 2, True],
    [0, 1, -1, 3], [2**63, 2**63 + 1], [0, 1, 2, 2**63],
]  # fmt: skip


@pytest.mark.parametrize("ranges", _RANGES_WRONG, ids=repr)
def test_ranges_that_are_refused(ranges: list[Any]) -> None:
    for good in ([], [0, 1], [0, 1, 2, 2**63 - 1]):
        lease = frames.Lease(1, 1, 0, 1, good, False, b"")
        assert frames.decode(frames.encode(lease)) == lease
    with pytest.raises(RemoteProtocolError, match="ranges is not array of ranges"):
        frames.decode(frames.encode(frames.Lease(1, 1, 0, 1, ranges, False, b"")))
    with pytest.raises(LocalProtocolError, match="items is not array of 1 to 4096 settles"):
        frames.encode(frames.Settle(1, 1, 1, [[0, 1, ranges, None, ""]]))


@pytest.mark.parametrize(
    "row",
    [
        5, [], [0, 5, [], None], [0, 5, [], None, "", 0], [-1, 5, [], None, ""],
        [2**63, 5, [], None, ""], [True, 5, [], None, ""], [None, 5, [], None, ""],
        [0, -1, [], None, ""], [0, 2**63, [], None, ""], [0, "5", [], None, ""],
        [0, 5, None, None, ""], [0, 5, {}, None, ""], [0, 5, [], -1, ""], [0, 5, [], 2**63, ""],
        [0, 5, [], False, ""], [0, 5, [], 1.5, ""], [0, 5, [], None, None],
        [0, 5, [], None, b"why"], {"verb": 0},
    ],
    ids=repr,
)  # fmt: skip
def test_settles_that_are_refused(row: Any) -> None:
    # A verb that is not known is for the session to refuse, by itself and not with its frame.
    good: list[Any] = [[4, 5, [], None, ""], [99, 2**63 - 1, [0, 1, 3, 5], 2**63 - 1, "why"]]
    settle = frames.Settle(1, 1, 0, good)
    assert frames.decode(frames.encode(settle)) == settle
    wrong = frames.Settle(1, 1, 0, [*good, row])
    with pytest.raises(LocalProtocolError, match="items is not array of 1 to 4096 settles"):
        frames.encode(wrong)
    with pytest.raises(RemoteProtocolError, match="items is not array of 1 to 4096 settles"):
        frames.decode(cbor.dumps(parts_of(wrong)))


@pytest.mark.parametrize("count", [0, RECORDS_MAX + 1])
def test_settles_of_none_or_too_many_items(count: int) -> None:
    frame = frames.Settle(1, 1, 0, [[0, 5, [], None, ""]] * count)
    with pytest.raises(LocalProtocolError, match="array of 1 to 4096 settles"):
        frames.encode(frame)
    with pytest.raises(RemoteProtocolError, match="array of 1 to 4096 settles"):
        frames.decode(cbor.dumps(parts_of(frame)))


def test_a_verb_is_a_number() -> None:
    frame = frames.Settle(1, 1, 0, [[int(frames.Verb.TERM), 5, [], None, ""]])
    assert frames.decode(frames.encode(frame)) == frame
    assert [int(verb) for verb in frames.Verb] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "row",
    [
        5, [], [0, "code"], [0, "code", "text", {}], [-1, "code", "text"], [2**63, "code", "text"],
        [True, "code", "text"], ["0", "code", "text"], [0, b"code", "text"], [0, "code", None],
        {"index": 0},
    ],
    ids=repr,
)  # fmt: skip
def test_failures_of_settles_that_are_refused(row: Any) -> None:
    good: list[Any] = [[0, "lease_lost", "text"], [4095, "bad_request", ""]]
    assert frames.decode(frames.encode(frames.Settled(1, good)))
    assert frames.decode(frames.encode(frames.Settled(1, [])))
    with pytest.raises(RemoteProtocolError, match="failures is not array of failures"):
        frames.decode(frames.encode(frames.Settled(1, [*good, row])))


@pytest.mark.parametrize(
    "value",
    [
        {1: 2},
        {b"a": 1},
        {"a": {"b": {b"c": 1}}},
        [2**63],
        {"a": -(2**63) - 1},
        [cbor.loads(b"\xf7")],
    ],
    ids=repr,
)
def test_values_that_are_not_plain_are_refused_both_ways(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match="Reply frame cannot be sent"):
        frames.encode(frames.Reply(1, value))
    with contextlib.suppress(cbor.CBORError), pytest.raises(RemoteProtocolError):
        frames.decode(cbor.dumps([17, 1, value]))


# ------------------------------------------------------------------------------ what we send


@pytest.mark.parametrize(
    "frame",
    [
        frames.Reply(1, object()),
        frames.Reply(1, {1, 2}),
        frames.Admin(1, "\ud800", {}),
        frames.Admin(1, "verb", {"when": -(2**70)}),
        frames.Failed(None, "code", "text", False, False, {"why": {1: 2}}),
        frames.Join(1, 1, "s", "g", {"backoff_s": {1.5}}),
        frames.Join(1, 1, "s", "g", {"name": {1: 2}}),
        frames.Join(1, 1, "s", "\ud800", {}),
        frames.Join(1, 1, "s", "g" * SMALL_FRAME_BYTES, {}),
        frames.Subscribe(1, 1, "\udfff", 0, 0, 0, 1),
        frames.Failed(1, "code", "x" * SMALL_FRAME_BYTES, False, False, {}),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_what_no_frame_can_carry_is_not_sent(frame: Frame) -> None:
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        frames.encode(frame)


@pytest.mark.parametrize("count", [0, RECORDS_MAX + 1])
def test_requests_of_none_or_too_many_records(count: int) -> None:
    frame = frames.ProduceRecords(1, "s", None, None, 0, 0, 0, 0, [[b""]] * count)
    with pytest.raises(LocalProtocolError, match=f"{count} records"):
        frames.encode(frame)
    with pytest.raises(RemoteProtocolError, match="array of 1 to"):
        frames.decode(cbor.dumps(parts_of(frame)))


def test_a_refusal_of_every_record_fits_into_a_frame() -> None:
    text = "value of 1048577 bytes, allowed are 1048576" + "." * 80
    rows: list[list[Any]] = [["offset_conflict", text, False, {"next_offset": 2**40}]] * RECORDS_MAX
    data = frames.encode(frames.Results(2**40, 2**40, rows))
    assert len(data) < 1 * MIB
    assert frames.decode(data)


# ------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("cls", FRAMES, ids=lambda cls: cls.__name__)
def test_only_some_kinds_may_be_long(cls: type[Frame]) -> None:
    assert frames.bytes_max(cls, MIB) == (MIB if cls in BULK else SMALL_FRAME_BYTES)
    assert frames.bytes_max(cls, 10) == 10
    data = head_of(cls) + bytes(SMALL_FRAME_BYTES)
    error = RemoteProtocolError if cls in BULK else FrameTooLarge
    with pytest.raises(error):
        frames.decode(data)
    with pytest.raises(RemoteProtocolError):
        frames.decode(data[:SMALL_FRAME_BYTES])


def test_a_settle_of_all_that_may_be_and_its_failures_fit_into_a_frame() -> None:
    items = [[1, 2**62 + n, [n, n + 1, 2**40, 2**41], 10**9, "r" * 200] for n in range(RECORDS_MAX)]
    settle = frames.Settle(1, 1, 1, items)
    data = frames.encode(settle)
    assert SMALL_FRAME_BYTES < len(data) < 1 * MIB
    assert frames.decode(data) == settle
    text = "lease 4611686018427387904 is not held: it ran out, was settled or taken" + "." * 80
    rows: list[list[Any]] = [[n, "lease_lost", text] for n in range(RECORDS_MAX)]
    settled = frames.encode(frames.Settled(2**40, rows))
    assert len(settled) < 1 * MIB
    assert frames.decode(settled)


def test_a_lease_of_every_other_record_of_a_large_batch_passes() -> None:
    """A batch has at most 65,536 records, so its ranges stay below the items of a long frame."""
    ranges = list(range(2**40, 2**40 + 65_536))
    lease = frames.Lease(1, 2**62, 4095, 1, ranges, True, bytes(400 * KIB))
    assert frames.decode(frames.encode(lease)) == lease


@pytest.mark.parametrize("cls", [frames.Produce, frames.Deliver, frames.Fetched, frames.Lease])
def test_long_bytes_pass(cls: type[Frame]) -> None:
    parts = parts_of(sample(cls))
    frame = cls(*parts[1:-1], bytes(MIB))
    assert frames.decode(frames.encode(frame)) == frame


def test_long_requests_of_records_pass() -> None:
    records = [[b"x" * 100, b"key", 5, {"name": b"value"}, None]] * RECORDS_MAX
    frame = frames.ProduceRecords(1, "s", None, None, 0, 0, 0, 0, records)
    assert frames.decode(frames.encode(frame)) == frame


@pytest.mark.parametrize("cls", FRAMES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("filler", [b"\xa0", b"\x80", b"\x81\x00", b"\xa1\x61a\x00", b"\x61a"])
def test_small_items_do_not_become_much_memory(cls: type[Frame], filler: bytes) -> None:
    """A megabyte of empty maps would be 72 MB; in each field of each kind of frame."""
    good = parts_of(sample(cls))
    number = MIB // len(filler)
    flood = b"\x9a" + number.to_bytes(4, "big") + filler * number
    for field in range(1, len(good)):
        data = head_of(cls) + b"".join(map(cbor.dumps, good[1:field])) + flood
        data += b"".join(map(cbor.dumps, good[field + 1 :]))
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                frames.decode(data)
            assert tracemalloc.get_traced_memory()[1] < 4 * MIB
        finally:
            tracemalloc.stop()


def test_the_worst_that_small_items_do() -> None:
    """Just below what is counted, and as many items as may be."""
    short = frames.SMALL_FRAME_BYTES - 10
    items = frames.FRAME_ITEMS_MAX - 10
    for data in (
        b"\x83\x11\x01\x99" + short.to_bytes(2, "big") + b"\xa0" * short,
        b"\x83\x11\x01\x9a" + items.to_bytes(4, "big") + b"\xa0" * items,
    ):
        tracemalloc.start()
        try:
            assert isinstance(frames.decode(data), frames.Reply)
            assert tracemalloc.get_traced_memory()[1] < 12 * MIB
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        (b"\x9b" + b"\x7f" * 8, FrameTooLarge),
        (b"\xbb" + b"\x7f" * 8, FrameTooLarge),
        (b"\x5b" + b"\x7f" * 8, RemoteProtocolError),
        (b"\x9f", RemoteProtocolError),
        (b"\xd8\x1c\x80", RemoteProtocolError),
    ],
)
def test_forged_lengths_in_long_frames(tail: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        frames.decode(b"\x83\x11\x01" + tail + bytes(70 * KIB))


def test_deep_nesting_is_refused() -> None:
    for depth in (16, 400, 60_000):
        data = b"\x83\x11\x01" + b"\x81" * depth + b"\x00"
        with pytest.raises(RemoteProtocolError, match="depth"):
            frames.decode(data)
    assert frames.decode(b"\x83\x11\x01" + b"\x81" * 15 + b"\x00")
