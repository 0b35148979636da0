"""The batch: the same bytes on the wire, on disk and to the consumer.

`wire/PROTOCOL.md` is the specification; this module is its only implementation. Rules:

- The header is fixed-size and packed, in two parts. The producer writes the first and its CRC-32C
  covers the payload; the daemon writes the second (offset, times), under a check of its own, so
  placing a batch in the log never touches its payload.
- Every bound is checked from the header before anything is decompressed or decoded.
- The payload holds columns, not records (`columns.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import crc32c
import zstandard

from streamer import columns
from streamer.columns import Columns
from streamer.errors import BadBatch, TooLarge, UnknownBatchVersion, UnknownDictionary
from streamer.limits import MIB, OFFSET_MAX, BatchLimits
from streamer.records import ProducerStamp, Record

MAGIC = b"\xabSB"
VERSION = 1

_PRODUCER_PART = struct.Struct("<3sBIIHHIIqqQIIQ")
_DAEMON_PART = struct.Struct("<QqQI")
_CHECK = struct.Struct("<I")
_HEADER = struct.Struct("<3sBIIHHIIqqQIIQQqQII")

PRODUCER_PART_BYTES = _PRODUCER_PART.size
HEADER_BYTES = _HEADER.size
#: The producer's CRC covers everything of its part from here on, and the payload.
_CRC_FROM = 12
_DAEMON_PART_EMPTY = bytes(HEADER_BYTES - PRODUCER_PART_BYTES)
assert PRODUCER_PART_BYTES == 64
assert HEADER_BYTES == 96

CODEC_NONE = 0
CODEC_ZSTD = 1
_CODEC_MASK = 0x0007
FLAG_CONTROL = 0x0008
#: The payload has a producers column: the daemon grouped records of several producers.
FLAG_GROUPED = 0x0010
_FLAGS_KNOWN = _CODEC_MASK | FLAG_CONTROL | FLAG_GROUPED
#: Set by daemons only: recovery believes what such a batch says about other producers.
_FLAGS_DAEMON = FLAG_CONTROL | FLAG_GROUPED

#: Below this zstd's own header costs more than it saves.
_COMPRESS_FROM = 64
_WINDOW_BYTES_MAX = 8 * MIB
#: zstd trains dictionaries of about 110 KiB; every session that reads the stream keeps a copy.
DICTIONARY_BYTES_MAX = 1 * MIB
_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"
_TIMES_US = range(-(1 << 63), 1 << 63)
_NOBODY = ProducerStamp(0, 0, 0)


class Header(NamedTuple):
    """The 96 bytes, in their order. Times are microseconds since 1970 UTC."""

    magic: bytes
    version: int
    length: int
    crc: int
    flags: int
    reserved: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    raw_length: int
    base_timestamp_us: int
    max_timestamp_us: int
    producer_id: int
    epoch: int
    dictionary_id: int
    sequence: int
    base_offset: int
    append_time_us: int
    high_water: int
    term: int
    check: int

    @property
    def codec(self) -> int:
        return self.flags & _CODEC_MASK

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.count

    @property
    def grouped(self) -> bool:
        return bool(self.flags & FLAG_GROUPED)


@attrs.frozen
class Batch:
    """A header and the payload behind it, still compressed. Immutable."""

    header: Header
    #: The header as bytes, both parts.
    head: bytes
    payload: bytes | memoryview

    @property
    def nbytes(self) -> int:
        return HEADER_BYTES + len(self.payload)

    @property
    def count(self) -> int:
        return self.header.count

    def to_bytes(self) -> bytes:
        return self.head + self.payload

    def stamped(self, stamp: ProducerStamp) -> Batch:
        """The same payload under another producer stamp: only the header is written anew."""
        return _sealed(
            self.header._replace(
                producer_id=stamp.producer_id, epoch=stamp.epoch, sequence=stamp.sequence
            ),
            self.payload,
        )

    def placed(
        self, *, base_offset: int, append_time_us: int, high_water: int, term: int = 0
    ) -> Batch:
        """The same batch with the daemon's part filled in; the payload is not touched."""
        head = self.head[:PRODUCER_PART_BYTES] + _DAEMON_PART.pack(
            base_offset, append_time_us, high_water, term
        )
        check = crc32c.crc32c(head)
        header = self.header._replace(
            base_offset=base_offset,
            append_time_us=append_time_us,
            high_water=high_water,
            term=term,
            check=check,
        )
        return Batch(header, head + _CHECK.pack(check), self.payload)


def _sealed(header: Header, payload: bytes | memoryview) -> Batch:
    """Compute the producer's CRC over a header whose other fields are set."""
    part = _PRODUCER_PART.pack(*header[:14])
    crc = crc32c.crc32c(payload, crc32c.crc32c(memoryview(part)[_CRC_FROM:]))
    head = part[:8] + _CHECK.pack(crc) + part[_CRC_FROM:]
    header = Header._make((*header[:3], crc, *header[4:]))
    return Batch(header, head + _DAEMON_PART_EMPTY, payload)


def read_header(data: bytes | memoryview, limits: BatchLimits, at: int = 0) -> Header:
    """Unpack the header at `at` and check what it claims, without looking at the payload.

    Raises:
        BadBatch: not a header (too short, wrong magic, unknown version or flags, counts and
            lengths that contradict each other); `TooLarge` where a limit is exceeded.
    """
    if len(data) - at < HEADER_BYTES:
        raise BadBatch(f"{len(data) - at} bytes where a batch header has {HEADER_BYTES}")
    header = Header._make(_HEADER.unpack_from(data, at))
    if header.magic != MAGIC:
        raise BadBatch(f"magic {header.magic.hex()} where a batch begins with {MAGIC.hex()}")
    if header.version != VERSION:
        raise UnknownBatchVersion(f"batch version {header.version}, known is {VERSION}")
    if header.flags & ~_FLAGS_KNOWN or header.reserved or header.codec > CODEC_ZSTD:
        raise BadBatch(
            f"unknown batch flags {header.flags:#06x} (codec {header.codec}), reserved "
            f"{header.reserved:#06x}"
        )
    if header.length < HEADER_BYTES or not header.count:
        raise BadBatch(f"length {header.length} and count {header.count} make no batch")
    if header.length > limits.batch_bytes:
        raise TooLarge(f"batch of {header.length} bytes, allowed are {limits.batch_bytes}")
    if header.count > limits.records:
        raise TooLarge(f"batch of {header.count} records, allowed are {limits.records}")
    if header.raw_length > limits.raw_bytes:
        raise TooLarge(f"batch of {header.raw_length} raw bytes, allowed are {limits.raw_bytes}")
    if header.raw_length > limits.ratio * (header.length - HEADER_BYTES):
        raise TooLarge(f"batch that claims to expand more than {limits.ratio} times")
    # A record takes a byte of CBOR at the least.
    if header.count > header.raw_length:
        raise BadBatch(f"{header.count} records in {header.raw_length} raw bytes")
    if header.max_timestamp_us < header.base_timestamp_us:
        raise BadBatch("the largest timestamp is below the smallest")
    # One test for both: neither has its highest bit set.
    if (header.producer_id | header.sequence) > OFFSET_MAX:
        raise BadBatch("producer id or sequence above 63 bits")
    if not header.codec and (
        header.dictionary_id or header.raw_length != header.length - HEADER_BYTES
    ):
        raise BadBatch("a dictionary, or a second length, of what is not compressed")
    return header


def parse(data: bytes | memoryview, limits: BatchLimits) -> Batch:
    """Take a batch that fills `data` whole, as a producer sends it, and check its CRC.

    The daemon's part is not looked at: a producer leaves it zero. The payload stays a view of
    `data`.

    Raises:
        BadBatch: see `read_header`; also a CRC that does not match, a length that is not that of
            `data`, or flags that are a daemon's to set.
    """
    batch = _parse(data, limits)
    if batch.header.flags & _FLAGS_DAEMON:
        raise BadBatch(f"flags {batch.header.flags:#06x} are not a producer's to set")
    return batch


def _parse(data: bytes | memoryview, limits: BatchLimits) -> Batch:
    header = read_header(data, limits)
    if header.length != len(data):
        raise BadBatch(f"batch says {header.length} bytes, {len(data)} are there")
    view = memoryview(data)
    check_crc(header, view)
    return Batch(header, bytes(view[:HEADER_BYTES]), view[HEADER_BYTES:])


def check_crc(header: Header, data: memoryview) -> None:
    """Check the producer's CRC of the batch that fills `data`.

    Raises:
        BadBatch: it does not match.
    """
    crc = crc32c.crc32c(data[HEADER_BYTES:], crc32c.crc32c(data[_CRC_FROM:PRODUCER_PART_BYTES]))
    if crc != header.crc:
        raise BadBatch(f"batch checksum {crc:#010x}, its header says {header.crc:#010x}")


def parse_placed(data: bytes | memoryview, limits: BatchLimits) -> Batch:
    """As `parse`, for a batch that came out of a log: whole, and the daemon's part checked."""
    batch = _parse(data, limits)
    check = crc32c.crc32c(memoryview(data)[: HEADER_BYTES - _CHECK.size])
    if check != batch.header.check:
        raise BadBatch(f"header checksum {check:#010x}, it says {batch.header.check:#010x}")
    return batch


def batches_of(blob: bytes, limits: BatchLimits) -> Iterator[Batch]:
    """The whole batches that lie one behind the other in what was read from a log.

    Raises:
        BadBatch: see `parse_placed`.
    """
    view, at = memoryview(blob), 0
    while at < len(view):
        length = read_header(view, limits, at).length
        yield parse_placed(view[at : at + length], limits)
        at += length


def records_of(found: columns.Columns, base_us: int) -> list[Record]:
    """The records of decoded columns, each with its timestamp."""
    count = len(found.values)
    none: list[None] = [None] * count
    deltas = found.timestamp_deltas_us or [0] * count
    return [
        Record(value, key, base_us + delta, headers, due)
        for value, key, delta, headers, due in zip(
            found.values,
            found.keys or none,
            deltas,
            found.headers or none,
            found.deliver_at_us or none,
            strict=True,
        )
    ]


class Codec:
    """Turns columns into batches and back, with compressors that are made once.

    Not for use by two threads at once. `dictionaries` maps a dictionary's id to its bytes, and
    may grow while the codec is in use.
    """

    def __init__(
        self,
        *,
        level: int = 1,
        limits: BatchLimits | None = None,
        dictionaries: Mapping[int, bytes] | None = None,
    ) -> None:
        self.limits = limits or BatchLimits()
        self.dictionaries = dictionaries if dictionaries is not None else {}
        self._level = level
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        self._decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def set_level(self, level: int) -> None:
        """The zstd level of what is encoded from now on."""
        if level != self._level:
            self._level = level
            self._compressors.clear()

    def require_dictionary(self, dictionary_id: int) -> bytes:
        """The dictionary's bytes.

        Raises:
            UnknownDictionary: it is not at hand.
        """
        data = self.dictionaries.get(dictionary_id)
        if data is None:
            known = sorted(self.dictionaries) or "none"
            raise UnknownDictionary(f"dictionary {dictionary_id:#010x}, known are {known}")
        return data

    # ------------------------------------------------------------------------------- encoding

    def encode_values(
        self,
        values: Sequence[bytes],
        *,
        now_us: int,
        stamp: ProducerStamp | None = None,
        dictionary_id: int = 0,
    ) -> Batch:
        """One batch of records that have nothing but a value, all of time `now_us`.

        Raises:
            BadBatch, UnknownDictionary: as `encode_records`.
        """
        span = (now_us, now_us)
        return self._encode([list(values)], len(values), span, stamp, dictionary_id, 0)

    def encode_records(
        self,
        records: Sequence[Record],
        *,
        now_us: int,
        stamp: ProducerStamp | None = None,
        stamps: Sequence[ProducerStamp | None] | None = None,
        dictionary_id: int = 0,
    ) -> Batch:
        """One batch of records; those without a timestamp get `now_us`.

        `stamp` is the producer of the whole batch; `stamps` gives each record's own, for a batch
        that the daemon grouped.

        Raises:
            BadBatch: no records, or one with a field of the wrong type; TooLarge where the batch
                or a value, key or header is above a limit.
            UnknownDictionary: it is not at hand, or not usable.
        """
        times = [now_us if r.timestamp_us is None else r.timestamp_us for r in records]
        if set(map(type, times)) != {int}:
            raise BadBatch("a timestamp that is no integer, or no record at all")
        base, last = min(times), max(times)
        if base not in _TIMES_US or last not in _TIMES_US:
            raise BadBatch(f"timestamps {base} to {last} are not of 64 bits")
        producers = None
        if stamps is not None and any(stamps):
            producers = [s and [s.producer_id, s.epoch, s.sequence] for s in stamps]
        fields: list[Any] = [
            [r.value for r in records],
            _used([r.key for r in records]),
            None if base == last else [t - base for t in times],
            _used([dict(r.headers) if r.headers else None for r in records]),
            _used([r.deliver_at_us for r in records]),
            producers,
        ]
        flags = FLAG_GROUPED if producers else 0
        return self._encode(fields, len(records), (base, last), stamp, dictionary_id, flags)

    def _encode(
        self,
        fields: list[Any],
        count: int,
        span_us: tuple[int, int],
        stamp: ProducerStamp | None,
        dictionary_id: int,
        flags: int,
    ) -> Batch:
        limits = self.limits
        if not count:
            raise BadBatch("a batch has at least one record")
        if count > limits.records:
            raise TooLarge(f"batch of {count} records, allowed are {limits.records}")
        raw = columns.dump(fields, count, bool(flags & FLAG_GROUPED), limits)
        if len(raw) > limits.raw_bytes:
            raise TooLarge(f"batch of {len(raw)} raw bytes, allowed are {limits.raw_bytes}")
        payload, codec = self._compress(raw, dictionary_id)
        if codec == CODEC_NONE:
            dictionary_id = 0
        length = HEADER_BYTES + len(payload)
        if length > limits.batch_bytes:
            raise TooLarge(f"batch of {length} bytes, allowed are {limits.batch_bytes}")
        who = stamp or _NOBODY
        header = Header(
            MAGIC, VERSION, length, 0, codec | flags, 0, count, len(raw), *span_us,
            who.producer_id, who.epoch, dictionary_id, who.sequence, 0, 0, 0, 0, 0,
        )  # fmt: skip
        return _sealed(header, payload)

    def _compress(self, raw: bytes, dictionary_id: int) -> tuple[bytes, int]:
        """The payload and its codec: compressed where that is worth it and readers allow it."""
        if len(raw) >= _COMPRESS_FROM:
            packed = self._compressor(dictionary_id).compress(raw)
            if len(packed) < len(raw) <= self.limits.ratio * len(packed):
                return packed, CODEC_ZSTD
        return raw, CODEC_NONE

    def _compressor(self, dictionary_id: int) -> zstandard.ZstdCompressor:
        compressor = self._compressors.get(dictionary_id)
        if compressor is None:
            # Our CRC covers the payload, so zstd's own checksum would be paid twice.
            compressor = zstandard.ZstdCompressor(
                level=self._level,
                write_checksum=False,
                write_dict_id=False,
                dict_data=self._dictionary(dictionary_id),
            )
            self._compressors[dictionary_id] = compressor
        return compressor

    def _dictionary(self, dictionary_id: int) -> zstandard.ZstdCompressionDict | None:
        if not dictionary_id:
            return None
        return zstandard.ZstdCompressionDict(self.require_dictionary(dictionary_id))

    # ------------------------------------------------------------------------------- decoding

    def decode(self, batch: Batch) -> Columns:
        """Decompress and decode the payload.

        Raises:
            BadBatch: the payload is not what the header says, or no columns.
            UnknownDictionary: the one that it was compressed with is not at hand.
        """
        header = batch.header
        span_us = header.max_timestamp_us - header.base_timestamp_us
        return columns.load(self._decompress(batch), header.count, span_us, header.grouped)

    def records(self, batch: Batch) -> list[Record]:
        """The batch's records, each with its timestamp."""
        return records_of(self.decode(batch), batch.header.base_timestamp_us)

    def _decompress(self, batch: Batch) -> bytes:
        header, payload = batch.header, batch.payload
        if header.codec == CODEC_NONE:
            return bytes(payload)
        try:
            decompressor = self._decompressor(header.dictionary_id)
            # zstandard ignores max_output_size where the frame states its size, so ask first.
            frame = zstandard.get_frame_parameters(payload)
            if frame.content_size != header.raw_length:
                raise BadBatch(
                    f"zstd frame of {frame.content_size} bytes, header says {header.raw_length}"
                )
            return decompressor.decompress(payload, allow_extra_data=False)
        except (zstandard.ZstdError, MemoryError) as error:
            raise BadBatch(f"batch payload does not decompress: {error}") from error

    def _decompressor(self, dictionary_id: int) -> zstandard.ZstdDecompressor:
        decompressor = self._decompressors.get(dictionary_id)
        if decompressor is None:
            decompressor = zstandard.ZstdDecompressor(
                dict_data=self._dictionary(dictionary_id), max_window_size=_WINDOW_BYTES_MAX
            )
            self._decompressors[dictionary_id] = decompressor
        return decompressor


def _used(column: list[Any]) -> list[Any] | None:
    return None if column.count(None) == len(column) else column


def check_dictionary(data: bytes) -> None:
    """Make sure that `data` is a trained zstd dictionary that can be worked with.

    Raises:
        BadBatch: it is none; TooLarge: it is above `DICTIONARY_BYTES_MAX`.
    """
    if len(data) > DICTIONARY_BYTES_MAX:
        raise TooLarge(f"dictionary of {len(data)} bytes, allowed are {DICTIONARY_BYTES_MAX}")
    if not data.startswith(_DICTIONARY_MAGIC):
        raise BadBatch("no zstd dictionary: train one, raw content is not taken")
    try:
        codec = Codec(dictionaries={1: data})
        batch = codec.encode_values([bytes(2 * _COMPRESS_FROM)], now_us=0, dictionary_id=1)
        codec.decode(batch)
    except zstandard.ZstdError as error:
        raise BadBatch(f"the zstd dictionary is not usable: {error}") from error
