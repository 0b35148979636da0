"""The batch: round trips, the header's checks, and what hostile bytes come to."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import crc32c
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from streamer import batch as batches
from streamer import cbor
from streamer.batch import (
    FLAG_CONTROL,
    FLAG_GROUPED,
    HEADER_BYTES,
    PRODUCER_PART_BYTES,
    Batch,
    Codec,
    Header,
    check_dictionary,
    parse,
    parse_placed,
    read_header,
)
from streamer.errors import BadBatch, TooLarge, UnknownBatchVersion, UnknownDictionary
from streamer.limits import MIB, BatchLimits
from streamer.records import ProducerStamp, Record

LIMITS = BatchLimits()
INT64 = st.integers(-(2**63), 2**63 - 1)

RECORDS = st.builds(
    Record,
    st.binary(max_size=200),
    st.none() | st.binary(max_size=20),
    st.none() | INT64,
    st.none() | st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=3),
    st.none() | INT64,
)
STAMPS = st.builds(
    ProducerStamp, st.integers(1, 2**63 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1)
)
#: The fields of the header by name: their offset and format.
OFFSETS = {
    "magic": (0, "3s"), "version": (3, "B"), "length": (4, "I"), "crc": (8, "I"),
    "flags": (12, "H"), "reserved": (14, "H"), "count": (16, "I"), "raw_length": (20, "I"),
    "base_timestamp_us": (24, "q"), "max_timestamp_us": (32, "q"), "producer_id": (40, "Q"),
    "epoch": (48, "I"), "dictionary_id": (52, "I"), "sequence": (56, "Q"),
    "base_offset": (64, "Q"), "append_time_us": (72, "q"), "high_water": (80, "Q"),
    "term": (88, "I"), "check": (92, "I"),
}  # fmt: skip


def forged(data: bytes, **fields: Any) -> bytes:
    """`data` with header fields overwritten and both checks made right again."""
    out = bytearray(data)
    for name, value in fields.items():
        at, code = OFFSETS[name]
        struct.pack_into("<" + code, out, at, value)
    if "crc" not in fields:
        struct.pack_into("<I", out, 8, crc32c.crc32c(bytes(out[96:]), crc32c.crc32c(out[12:64])))
    if "check" not in fields:
        struct.pack_into("<I", out, 92, crc32c.crc32c(bytes(out[:92])))
    return bytes(out)


def with_payload(payload: bytes, *, count: int, raw_length: int, **fields: Any) -> bytes:
    """A batch with a payload of one's own, its checks right."""
    head = Codec().encode_values([b"x"], now_us=0).head
    fields = {"length": len(head) + len(payload), "count": count, "flags": 1} | fields
    return forged(head + payload, raw_length=raw_length, **fields)


def plain(columns: Any, count: int, flags: int = 0) -> bytes:
    raw = columns if isinstance(columns, bytes) else cbor.dumps(columns)
    return with_payload(raw, count=count, raw_length=len(raw), flags=flags)


# ------------------------------------------------------------------------------- round trips


@given(
    st.lists(RECORDS, min_size=1, max_size=30),
    st.integers(0, 2**62),
    st.none() | STAMPS,
)
def test_records_round_trip(records: list[Record], now: int, stamp: ProducerStamp | None) -> None:
    codec = Codec()
    batch = codec.encode_records(records, now_us=now, stamp=stamp)
    data = batch.to_bytes()
    parsed = parse(data, LIMITS)
    assert parsed.header == batch.header
    assert parsed.to_bytes() == data
    assert (parsed.nbytes, parsed.count) == (len(data), len(records))
    times = [now if r.timestamp_us is None else r.timestamp_us for r in records]
    found = codec.records(parsed)
    assert [r.timestamp_us for r in found] == times
    assert (batch.header.base_timestamp_us, batch.header.max_timestamp_us) == (
        min(times),
        max(times),
    )
    for want, got in zip(records, found, strict=True):
        assert (got.value, got.key, got.deliver_at_us) == (want.value, want.key, want.deliver_at_us)
        assert (got.headers or None) == (want.headers or None)
    header = parsed.header
    written = ProducerStamp(header.producer_id, header.epoch, header.sequence)
    assert written == (stamp or ProducerStamp(0, 0, 0))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=50))
def test_values_are_records_with_nothing_else(values: list[bytes]) -> None:
    codec = Codec()
    short = codec.encode_values(values, now_us=7)
    assert (
        short.to_bytes() == codec.encode_records([Record(v) for v in values], now_us=7).to_bytes()
    )
    columns = codec.decode(short)
    assert columns == batches.Columns(values)


@given(st.lists(st.tuples(RECORDS, st.none() | STAMPS), min_size=1, max_size=10))
def test_grouped_batches_name_each_producer(
    pairs: list[tuple[Record, ProducerStamp | None]],
) -> None:
    codec = Codec()
    stamps = [stamp for _, stamp in pairs]
    batch = codec.encode_records([record for record, _ in pairs], now_us=1, stamps=stamps)
    assert batch.header.grouped is any(stamps)
    wanted = [s and [s.producer_id, s.epoch, s.sequence] for s in stamps] if any(stamps) else None
    placed = batch.placed(base_offset=4, append_time_us=5, high_water=3).to_bytes()
    assert codec.decode(parse_placed(placed, LIMITS)).producers == wanted
    if any(stamps):
        with pytest.raises(BadBatch, match="not a producer's to set"):
            parse(placed, LIMITS)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**62), st.integers(0, 2**63 - 1))
def test_placing_leaves_the_producers_part_alone(offset: int, now: int, high_water: int) -> None:
    batch = Codec().encode_values([b"a", b"b", b"c"], now_us=1)
    placed = batch.placed(base_offset=offset, append_time_us=now, high_water=high_water, term=9)
    data = placed.to_bytes()
    assert data[:PRODUCER_PART_BYTES] == batch.to_bytes()[:PRODUCER_PART_BYTES]
    assert placed.payload is batch.payload
    parsed = parse_placed(data, LIMITS)
    assert parsed.header == placed.header
    assert parsed.header.next_offset == offset + 3
    assert (parsed.header.append_time_us, parsed.header.high_water) == (now, high_water)
    assert parsed.header.term == 9
    # A producer may send it again as it is: its part is whole.
    assert parse(data, LIMITS).header.crc == batch.header.crc


@given(STAMPS)
def test_stamping_writes_only_the_header(stamp: ProducerStamp) -> None:
    batch = Codec().encode_values([b"a" * 200], now_us=1)
    stamped = batch.stamped(stamp)
    assert stamped.payload is batch.payload
    header = parse(stamped.to_bytes(), LIMITS).header
    assert (header.producer_id, header.epoch, header.sequence) == (
        stamp.producer_id,
        stamp.epoch,
        stamp.sequence,
    )


def test_the_header_is_what_its_table_says() -> None:
    batch = Codec().encode_values([b"x" * 500], now_us=1, stamp=ProducerStamp(7, 8, 9))
    placed = batch.placed(base_offset=1, append_time_us=2, high_water=3, term=4)
    assert list(OFFSETS) == list(Header._fields)
    for name, (at, code) in OFFSETS.items():
        assert struct.unpack_from("<" + code, placed.head, at) == (getattr(placed.header, name),)


def test_large_payloads_are_within_the_window() -> None:
    """A zstd frame of more than the 8 MiB window still decodes: its window is smaller."""
    codec = Codec()
    rng = random.Random(1)
    values = [rng.randbytes(50) * 40 for _ in range(7000)]
    batch = codec.encode_values(values, now_us=1)
    assert batch.header.raw_length > 12 * MIB
    assert codec.decode(batch).values == values


def test_what_does_not_shrink_is_not_compressed() -> None:
    codec = Codec()
    noise = random.Random(2).randbytes(400)
    batch = codec.encode_values([noise], now_us=1)
    assert batch.header.codec == batches.CODEC_NONE
    assert codec.decode(batch).values == [noise]
    # And what shrinks more than a reader believes is not either.
    zeros = codec.encode_values([bytes(900_000)], now_us=1)
    assert zeros.header.codec == batches.CODEC_NONE


def test_the_level_is_used_and_may_change() -> None:
    rng = random.Random(3)
    values = [json.dumps({"n": rng.random(), "m": "message"}).encode() for _ in range(500)]
    codec = Codec(level=1)
    quick = codec.encode_values(values, now_us=1)
    codec.set_level(1)
    codec.set_level(19)
    assert codec.encode_values(values, now_us=1).nbytes < quick.nbytes


# ------------------------------------------------------------------- what cannot be encoded


def _encode(*records: Record, **options: Any) -> Batch:
    return Codec().encode_records(records, now_us=1, **options)


@pytest.mark.parametrize(
    "record",
    [
        Record("text"),  # type: ignore[arg-type]
        Record(None),  # type: ignore[arg-type]
        Record(bytearray(b"x")),  # type: ignore[arg-type]
        Record(b"x", key="text"),  # type: ignore[arg-type]
        Record(b"x", timestamp_us=1.5),  # type: ignore[arg-type]
        Record(b"x", timestamp_us=2**63),
        Record(b"x", timestamp_us=-(2**63) - 1),
        Record(b"x", headers={"a": "text"}),  # type: ignore[dict-item]
        Record(b"x", headers={b"a": b"x"}),  # type: ignore[dict-item]
        Record(b"x", headers={"\ud800": b"x"}),
        Record(b"x", deliver_at_us="now"),  # type: ignore[arg-type]
        Record(b"x", deliver_at_us=2**63),
    ],
    ids=repr,
)
def test_a_record_of_the_wrong_types_is_refused(record: Record) -> None:
    with pytest.raises(BadBatch):
        _encode(record)
    with pytest.raises(BadBatch):
        _encode(Record(b"fine"), record)


def test_values_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(BadBatch, match="column 0"):
        Codec().encode_values([b"a", "b"], now_us=1)  # type: ignore[list-item]


def test_timestamps_may_be_as_far_apart_as_they_can_be() -> None:
    far = [Record(b"x", timestamp_us=-(2**63)), Record(b"x", timestamp_us=2**63 - 1)]
    batch = Codec().encode_records(far, now_us=0)
    assert [r.timestamp_us for r in Codec().records(batch)] == [-(2**63), 2**63 - 1]


def test_no_records_are_no_batch() -> None:
    with pytest.raises(BadBatch):
        Codec().encode_values([], now_us=1)
    with pytest.raises(BadBatch):
        Codec().encode_records([], now_us=1)


@pytest.mark.parametrize(
    ("limits", "record"),
    [
        (BatchLimits(value_bytes=10), Record(b"x" * 11)),
        (BatchLimits(key_bytes=10), Record(b"", key=b"x" * 11)),
        (BatchLimits(headers=1), Record(b"", headers={"a": b"", "b": b""})),
        (BatchLimits(headers_bytes=10), Record(b"", headers={"a": b"x" * 10})),
        (BatchLimits(raw_bytes=100), Record(b"x" * 100)),
        (BatchLimits(batch_bytes=200), Record(random.Random(1).randbytes(120))),
    ],
    ids=str,
)
def test_limits_hold_for_what_is_encoded(limits: BatchLimits, record: Record) -> None:
    with pytest.raises(TooLarge):
        Codec(limits=limits).encode_records([record, Record(b"")], now_us=1)


def test_limits_are_reached_without_being_exceeded() -> None:
    limits = BatchLimits(value_bytes=10, key_bytes=10, headers=1, headers_bytes=11, records=3)
    codec = Codec(limits=limits)
    record = Record(b"x" * 10, key=b"x" * 10, headers={"a": b"x" * 10})
    batch = codec.encode_records([record, Record(b"", headers={}), Record(b"y")], now_us=1)
    assert [r.key for r in codec.records(batch)] == [b"x" * 10, None, None]
    with pytest.raises(TooLarge, match="4 records"):
        codec.encode_values([b""] * 4, now_us=1)


def test_too_many_items_are_not_encoded() -> None:
    """What a reader would refuse for its number of items is refused here already."""
    many = {f"{n:x}": b"" for n in range(64)}
    records = [Record(b"", headers=many)] * 9000
    codec = Codec(limits=BatchLimits(ratio=100_000))
    with pytest.raises(TooLarge, match="items"):
        codec.encode_records(records, now_us=1)
    assert codec.encode_records(records[:8000], now_us=1).count == 8000


# ---------------------------------------------------------------------------- the header's checks

GOOD = Codec().encode_values([b"value %d" % n for n in range(100)], now_us=5).to_bytes()
PLAIN = Codec().encode_values([b"abc"], now_us=5).to_bytes()


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"", BadBatch, "0 bytes where"),
        (GOOD[:95], BadBatch, "95 bytes where"),
        (GOOD[:-1], BadBatch, "are there"),
        (GOOD + b"x", BadBatch, "are there"),
        (forged(GOOD, magic=b"\xabSC"), BadBatch, "magic"),
        (forged(GOOD, version=2), UnknownBatchVersion, "version 2"),
        (forged(GOOD, version=0), UnknownBatchVersion, "version 0"),
        (forged(GOOD, flags=2), BadBatch, "codec 2"),
        (forged(GOOD, flags=0x21), BadBatch, "flags 0x0021"),
        (forged(GOOD, flags=0x8001), BadBatch, "flags"),
        (forged(GOOD, reserved=1), BadBatch, "flags"),
        (forged(GOOD, length=95), BadBatch, "make no batch"),
        (forged(GOOD, length=0), BadBatch, "make no batch"),
        (forged(GOOD, count=0), BadBatch, "make no batch"),
        (forged(GOOD, length=2**32 - 1), TooLarge, "4294967295 bytes"),
        (forged(GOOD, length=MIB + 1), TooLarge, "allowed are 1048576"),
        (forged(GOOD, count=65_537), TooLarge, "65537 records"),
        (forged(GOOD, raw_length=16 * MIB + 1), TooLarge, "raw bytes"),
        (forged(PLAIN, raw_length=6001), TooLarge, "expand"),
        (forged(GOOD, count=10_000), BadBatch, "10000 records in"),
        (forged(GOOD, max_timestamp_us=4), BadBatch, "timestamp"),
        (forged(GOOD, producer_id=2**63), BadBatch, "63 bits"),
        (forged(GOOD, sequence=2**64 - 1), BadBatch, "63 bits"),
        (forged(PLAIN, raw_length=7), BadBatch, "second length"),
        (forged(PLAIN, dictionary_id=6), BadBatch, "a dictionary"),
        (forged(GOOD, crc=1), BadBatch, "checksum"),
        (GOOD[:100] + b"\x00" + GOOD[101:], BadBatch, "checksum"),
    ],
)
def test_headers_that_are_refused(data: bytes, error: type[BadBatch], text: str) -> None:
    with pytest.raises(error, match=text):
        parse(data, LIMITS)
    with pytest.raises(BadBatch):
        Codec().decode(parse_placed(data, LIMITS))


@pytest.mark.parametrize("flag", [FLAG_CONTROL, FLAG_GROUPED])
def test_flags_that_only_a_daemon_sets(flag: int) -> None:
    data = forged(GOOD, flags=1 | flag)
    assert parse_placed(data, LIMITS).header.flags == 1 | flag
    with pytest.raises(BadBatch, match="not a producer's"):
        parse(data, LIMITS)


def test_every_byte_of_a_stored_batch_is_guarded() -> None:
    placed = parse(GOOD, LIMITS).placed(base_offset=9, append_time_us=8, high_water=7).to_bytes()
    parse_placed(placed, LIMITS)
    for at in range(len(placed)):
        for bit in (1, 0x80):
            bad = bytearray(placed)
            bad[at] ^= bit
            with pytest.raises(BadBatch):
                parse_placed(bytes(bad), LIMITS)
            if at < PRODUCER_PART_BYTES or at >= HEADER_BYTES:
                with pytest.raises(BadBatch):
                    parse(bytes(bad), LIMITS)


def test_a_header_in_the_midst_of_others_is_read() -> None:
    data = PLAIN + GOOD + b"more"
    assert read_header(data, LIMITS).length == len(PLAIN)
    header = read_header(memoryview(data), LIMITS, len(PLAIN))
    assert (header.length, header.count) == (len(GOOD), 100)
    with pytest.raises(BadBatch):
        read_header(data, LIMITS, len(PLAIN) + len(GOOD))


# ------------------------------------------------------------------------------ hostile payloads


@pytest.mark.parametrize(
    ("columns", "count"),
    [
        pytest.param(b"\xff", 1, id="no CBOR"),
        pytest.param(b"\x81\x81\x40\x00", 1, id="trailing bytes"),
        pytest.param({"a": 1}, 1, id="a map"),
        pytest.param(5, 1, id="a number"),
        pytest.param([], 1, id="no columns"),
        pytest.param([[b"x"], None, None, None, None, None, None], 1, id="too many columns"),
        pytest.param([None, [b"x"]], 1, id="no values"),
        pytest.param([5], 1, id="a column that is a number"),
        pytest.param([[b"x"], {"a": 1}], 1, id="a column that is a map"),
        pytest.param([[b"x"]], 2, id="too few values"),
        pytest.param([[b"x", b"y"]], 1, id="too many values"),
        pytest.param([[b"x", b"y"], [b"k"]], 2, id="too few keys"),
        pytest.param([["x"]], 1, id="a value of text"),
        pytest.param([[[1]]], 1, id="a value that is a list"),
        pytest.param([[{}]], 1, id="a value that is an empty map"),
        pytest.param([[b"x"], ["k"]], 1, id="a key of text"),
        pytest.param([[b"x"], None, [None]], 1, id="a delta of null"),
        pytest.param([[b"x"], None, [1]], 1, id="a delta above the span"),
        pytest.param([[b"x"], None, [-1]], 1, id="a delta below the span"),
        pytest.param([[b"x"], None, [True]], 1, id="a delta that is true"),
        pytest.param([[b"x"], None, None, [[]]], 1, id="headers that are a list"),
        pytest.param([[b"x"], None, None, [{"a": "b"}]], 1, id="a header of text"),
        pytest.param([[b"x"], None, None, [{b"a": b"b"}]], 1, id="a header named by bytes"),
        pytest.param([[b"x"], None, None, [{"a": [1]}]], 1, id="a header that is a list"),
        pytest.param([[b"x"], None, None, None, [1.5]], 1, id="a due time with a fraction"),
        pytest.param([[b"x"], None, None, None, None, [[1, 1, 1]]], 1, id="producers without flag"),
        pytest.param([[b"x"], None, None, None, [-(2**63) - 1]], 1, id="a due time of 65 bits"),
        pytest.param(b"\x82\x81\x40\xd8\x1c\x80", 1, id="a shared reference"),
    ],
)
def test_payloads_that_are_refused(columns: Any, count: int) -> None:
    with pytest.raises(BadBatch):
        Codec().decode(parse(plain(columns, count), LIMITS))


@pytest.mark.parametrize(
    "stamp",
    [
        [1, 1], [1, 1, 1, 1], [1, 1, "1"], [0, 1, 1], [-1, 1, 1], [2**63, 1, 1], [1, -1, 1],
        [1, 2**32, 1], [1, 1, -1], [1, 1, 2**63], [1, True, 1], [],
    ],
)  # fmt: skip
def test_producer_stamps_that_are_refused(stamp: list[Any]) -> None:
    data = plain([[b"x"], None, None, None, None, [stamp]], 1, FLAG_GROUPED)
    with pytest.raises(BadBatch, match="stamp"):
        Codec().decode(parse_placed(data, LIMITS))


def test_the_flag_and_the_producers_go_together() -> None:
    for columns in ([[b"x"]], [[b"x"], [b"k"]]):
        with pytest.raises(BadBatch, match="only then"):
            Codec().decode(parse_placed(plain(columns, 1, FLAG_GROUPED), LIMITS))


def _bomb(raw: bytes, **claims: Any) -> bytes:
    packed = zstandard.compress(raw, 1)
    return with_payload(packed, **({"count": 1, "raw_length": len(raw)} | claims))


def _streamed(raw: bytes, window_log: int = 20) -> bytes:
    """zstd without the size of what it holds."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=window_log, write_content_size=False, compression_level=1
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(raw) + packer.flush()


VALUE = b"\x81\x81\x59\x01\x00" + bytes(256)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: _bomb(bytes(100 * MIB), raw_length=1000), id="more than it says"),
        pytest.param(lambda: _bomb(bytes(100 * MIB)), id="more than allowed"),
        pytest.param(lambda: _bomb(bytes(15 * MIB)), id="more than the ratio allows"),
        pytest.param(lambda: _bomb(VALUE, raw_length=200), id="less than it holds"),
        pytest.param(lambda: _bomb(VALUE, raw_length=300), id="more than it holds"),
        pytest.param(
            lambda: with_payload(_streamed(VALUE), count=1, raw_length=len(VALUE)), id="no size"
        ),
        pytest.param(
            lambda: with_payload(zstandard.compress(VALUE) + b"x", count=1, raw_length=len(VALUE)),
            id="bytes follow",
        ),
        pytest.param(
            lambda: with_payload(zstandard.compress(VALUE) * 2, count=1, raw_length=len(VALUE)),
            id="a second frame",
        ),
        pytest.param(
            lambda: with_payload(b"\x50\x2a\x4d\x18\x04\0\0\0abcd", count=1, raw_length=4),
            id="a skippable frame",
        ),
        pytest.param(lambda: with_payload(b"\x28\xb5", count=1, raw_length=4), id="cut off"),
        pytest.param(lambda: with_payload(b"garbage!" * 4, count=1, raw_length=4), id="garbage"),
        pytest.param(
            lambda: with_payload(zstandard.compress(VALUE)[:-3], count=1, raw_length=len(VALUE)),
            id="its end is missing",
        ),
    ],
)
def test_bombs_and_forged_sizes(make: Callable[[], bytes]) -> None:
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(BadBatch):
            Codec().decode(parse(data, LIMITS))
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_huge_window_is_refused() -> None:
    """128 MiB to decode a few bytes: the frame's header is written by hand."""
    # Content size in 8 bytes, no single segment, window of 2^27; one raw block of `VALUE`.
    head = b"\x28\xb5\x2f\xfd" + bytes([0b11000000, (27 - 10) << 3])
    head += len(VALUE).to_bytes(8, "little")
    block = (len(VALUE) << 3 | 1).to_bytes(3, "little") + VALUE
    assert zstandard.get_frame_parameters(head + block).window_size == 1 << 27
    data = with_payload(head + block, count=1, raw_length=len(VALUE))
    try:
        columns = Codec().decode(parse(data, LIMITS))
    except BadBatch:
        return
    # Where the whole result is allocated at once no window is, and that is as good.
    assert columns.values == [VALUE[5:]]


def test_a_forged_content_size_allocates_nothing() -> None:
    head = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + (1 << 62).to_bytes(8, "little")
    data = with_payload(head + b"\x01\0\0", count=1, raw_length=100)
    with pytest.raises(BadBatch):
        Codec().decode(parse(data, LIMITS))


@pytest.mark.parametrize("filler", [b"\xa0", b"\x80", b"\xa1\x61a\x00", b"\x81\x00"])
@pytest.mark.parametrize("where", ["values", "a value", "keys", "a header", "columns"])
def test_small_items_do_not_become_much_memory(filler: bytes, where: str) -> None:
    """16 MB of empty maps would be 1.2 GB."""
    number = 15 * MIB // len(filler)
    huge = b"\x9a" + number.to_bytes(4, "big") + filler * number
    raw = {
        "values": b"\x81" + huge,
        "a value": b"\x81\x81" + huge,
        "keys": b"\x82\x81\x40" + huge,
        "a header": b"\x84\x81\x40\xf6\xf6\x81" + huge,
        "columns": huge,
    }[where]
    # Above the ratio, so what is tested stands behind the header's checks.
    limits = BatchLimits(ratio=1_000_000)
    data = _bomb(raw)
    del huge
    codec = Codec(limits=limits)
    batch = parse(data, limits)
    tracemalloc.start()
    try:
        with pytest.raises(BadBatch):
            codec.decode(batch)
        # The decompressed bytes (and the decoder's copy) are there, the objects are not.
        assert tracemalloc.get_traced_memory()[1] < 3 * len(raw)
    finally:
        tracemalloc.stop()


def test_a_payload_of_a_megabyte_is_not_counted_and_costs_less_than_80() -> None:
    number = MIB - 100
    raw = b"\x84\x81\x40\xf6\xf6\x81\x9a" + number.to_bytes(4, "big") + b"\xa0" * number
    limits = BatchLimits(ratio=1_000_000)
    batch = parse(_bomb(raw), limits)
    tracemalloc.start()
    try:
        with pytest.raises(BadBatch):
            Codec(limits=limits).decode(batch)
        assert tracemalloc.get_traced_memory()[1] < 80 * MIB
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300), st.integers(1, 300), st.sampled_from([0, 1]))
def test_any_payload_is_columns_or_a_bad_batch(payload: bytes, count: int, codec: int) -> None:
    raw_length = len(payload) if codec == 0 else 300
    data = with_payload(payload, count=count, raw_length=raw_length, flags=codec)
    with contextlib.suppress(BadBatch):
        Codec().decode(parse(data, LIMITS))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_batch_or_a_bad_batch(data: bytes) -> None:
    for read in (parse, parse_placed):
        with pytest.raises(BadBatch):
            read(data, LIMITS)


# --------------------------------------------------------------------------------- dictionaries


def _lines(count: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [
        json.dumps(
            {
                "time": f"2025-01-02T03:04:{rng.randrange(60):02}Z",
                "level": rng.choice(["info", "warn"]),
                "path": f"/api/v1/items/{rng.randrange(10_000)}",
                "ms": rng.randrange(1000),
            }
        ).encode()
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def trained() -> bytes:
    data: bytes = zstandard.train_dictionary(8192, _lines(3000)).as_bytes()
    return data


def test_a_trained_dictionary_shrinks_small_batches(trained: bytes) -> None:
    codec = Codec(dictionaries={7: trained})
    for count, factor in ((1, 2.5), (4, 1.9), (10, 1.3)):
        values = _lines(count, seed=2)
        plain = codec.encode_values(values, now_us=1)
        packed = codec.encode_values(values, now_us=1, dictionary_id=7)
        assert packed.header.dictionary_id == 7
        payloads = len(plain.payload), len(packed.payload)
        assert payloads[0] > factor * payloads[1], payloads
        for batch in (plain, packed):
            assert codec.decode(parse(batch.to_bytes(), LIMITS)).values == values


def test_an_unknown_dictionary_is_named(trained: bytes) -> None:
    dictionaries = {7: trained}
    batch = Codec(dictionaries=dictionaries).encode_values(_lines(1), now_us=1, dictionary_id=7)
    assert parse(batch.to_bytes(), LIMITS).header.dictionary_id == 7
    mine: dict[int, bytes] = {}
    codec = Codec(dictionaries=mine)
    for attempt in (
        lambda: codec.decode(batch),
        lambda: codec.encode_values(_lines(1), now_us=1, dictionary_id=7),
        lambda: codec.require_dictionary(7),
    ):
        with pytest.raises(UnknownDictionary, match="known are none"):
            attempt()
    mine[7] = trained
    assert codec.decode(batch).values == _lines(1)
    assert codec.require_dictionary(7) == trained


def test_the_wrong_dictionary_is_noticed(trained: bytes) -> None:
    other = zstandard.train_dictionary(8192, [b"%x" % n * 9 for n in range(5000)]).as_bytes()
    batch = Codec(dictionaries={7: trained}).encode_values(_lines(1), now_us=1, dictionary_id=7)
    with pytest.raises(BadBatch):
        Codec(dictionaries={7: other}).decode(batch)
    without = forged(batch.to_bytes(), dictionary_id=0)
    with pytest.raises(BadBatch):
        Codec().decode(parse(without, LIMITS))


def test_a_batch_too_small_to_compress_names_no_dictionary(trained: bytes) -> None:
    batch = Codec(dictionaries={7: trained}).encode_values([b"x"], now_us=1, dictionary_id=7)
    assert (batch.header.codec, batch.header.dictionary_id) == (batches.CODEC_NONE, 0)


def test_a_dictionary_is_checked_before_it_is_used(trained: bytes) -> None:
    check_dictionary(trained)
    for data in (b"", b"raw content", b"\x37\xa4\x30\xec" + b"garbage" * 9, trained[:100]):
        with pytest.raises(BadBatch):
            check_dictionary(data)
    with pytest.raises(TooLarge):
        check_dictionary(trained[:4] + bytes(MIB))


def test_a_damaged_dictionary_is_a_bad_batch(trained: bytes) -> None:
    batch = Codec(dictionaries={7: trained}).encode_values(_lines(1), now_us=1, dictionary_id=7)
    with pytest.raises(BadBatch):
        Codec(dictionaries={7: trained[:100]}).decode(batch)
