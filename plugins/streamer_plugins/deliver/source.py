"""Batches of a partition as a group hands them out: whole, by their keys, or some records of them.

Rules: a batch is sent as it lies in the log where most of it is meant, and made anew where few of
its records are; it is decompressed only for that, and for keys. What is large is decompressed in a
thread. One read is kept while a partition is being handed out, and nothing between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

import trio

from streamer import (
    HEADER_BYTES,
    BadBatch,
    Batch,
    BatchLimits,
    Codec,
    Header,
    OffsetOutOfRange,
    Partition,
    PartitionDamaged,
    Record,
    Stream,
    StreamerError,
    TooLarge,
    parse_placed,
    read_header,
    records_of,
)
from streamer.groups.ranges import pairs, size

_READ_BYTES = 256 * 1024
#: Batches that are larger when decompressed are so in a thread.
_INLINE_BYTES = 512 * 1024
#: Smaller ones are sent whole, however little of them is meant.
_WHOLE_BYTES = 4096
#: Of decoded batches that are kept: together, and however small they are.
_KEPT_BYTES, _KEPT_PIECES = 16 * 1024 * 1024, 16
#: What a decoded record takes besides its bytes.
_RECORD_BYTES = 256


class Piece:
    """One batch of a log."""

    def __init__(self, header: Header, data: memoryview) -> None:
        self.header = header
        self.first = header.base_offset
        self.end = header.next_offset
        self._data = data
        self._records: list[Record] | None = None

    @property
    def nbytes(self) -> int:
        return self.header.length

    @property
    def memory_bytes(self) -> int:
        """What it takes when decoded, about."""
        return self.header.raw_length + _RECORD_BYTES * self.header.count

    async def decode(self, stream: Stream, limits: BatchLimits) -> list[Record]:
        """Its records.

        Raises:
            StreamerError: they cannot be read.
        """
        if self._records is None:
            batch = parse_placed(self._data, limits)
            if self.header.raw_length > _INLINE_BYTES:
                # A codec of its own: one is not for two threads.
                codec = Codec(limits=limits, dictionaries=stream.dictionaries)
                self._records = await stream.partitions[0].run(partial(_decode, codec, batch))
            else:
                self._records = _decode(stream.codec, batch)
        return self._records

    def keys(self) -> list[bytes | None]:
        """The keys of its records, if it was decoded; what cannot be read has none."""
        if self._records is None:
            return [None] * self.header.count
        return [record.key for record in self._records]

    def wants_extract(self, bounds: list[int]) -> bool:
        """Whether it is better made anew for these records alone."""
        return self.nbytes > _WHOLE_BYTES and 2 * size(bounds) < self.header.count

    def whole(self) -> bytes:
        return bytes(self._data)

    def extract(self, codec: Codec, bounds: list[int]) -> bytes | None:
        """A batch of these records alone; None if that would be too large, or is not decoded."""
        if self._records is None:
            return None
        chosen = [
            record
            for first, end in pairs(bounds)
            for record in self._records[first - self.first : end - self.first]
        ]
        try:
            return codec.encode_records(chosen, now_us=self.header.base_timestamp_us).to_bytes()
        except TooLarge:
            return None


def _decode(codec: Codec, batch: Batch) -> list[Record]:
    return records_of(codec.decode(batch), batch.header.base_timestamp_us)


def pieces_of(blob: bytes, limits: BatchLimits) -> Iterator[Piece]:
    """The batches that lie one behind the other in what was read from a log."""
    view, at = memoryview(blob), 0
    while at + HEADER_BYTES <= len(view):
        header = read_header(view, limits, at)
        yield Piece(header, view[at : at + header.length])
        at += header.length


class Source:
    """Reads one partition."""

    def __init__(self, partition: Partition, limits: BatchLimits) -> None:
        self.partition = partition
        self._limits = limits
        self._pieces: deque[Piece] = deque()

    async def piece_at(self, offset: int) -> Piece | None:
        """The batch that holds an offset; None at the high-water mark.

        Raises:
            OffsetOutOfRange: it is not kept any more.
            StreamerError: it cannot be read.
        """
        found = self._kept(offset)
        if found is not None:
            await trio.lowlevel.checkpoint()
            return found
        self._pieces.clear()
        result = await self.partition.read(offset, _READ_BYTES)
        if result is None:
            return None
        self._pieces.extend(pieces_of(result.blob, self._limits))
        return self._kept(offset)

    def _kept(self, offset: int) -> Piece | None:
        pieces = self._pieces
        while len(pieces) > 1 and pieces[0].end <= offset:
            pieces.popleft()
        if pieces and pieces[0].first <= offset < pieces[0].end:
            return pieces[0]
        return None

    def forget(self) -> None:
        """Keep nothing in memory."""
        self._pieces.clear()


class Pieces:
    """The batches that records were last taken from, decoded: where they leave one by one, each
    would cost the decompression of its whole batch."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Partition, Piece]] = deque()
        self._bytes = 0

    def find(self, partition: Partition, offset: int) -> Piece | None:
        for of, piece in self._kept:
            if of is partition and piece.first <= offset < piece.end:
                return piece
        return None

    def keep(self, partition: Partition, piece: Piece) -> None:
        """The oldest leave when there are too many."""
        self._kept.append((partition, piece))
        self._bytes += piece.memory_bytes
        while self._bytes > _KEPT_BYTES or len(self._kept) > _KEPT_PIECES:
            self._bytes -= self._kept.popleft()[1].memory_bytes


async def records_at(
    stream: Stream, partition: int, first: int, end: int, limits: BatchLimits, pieces: Pieces
) -> dict[int, Record]:
    """Records by their offsets; those that are not there any more, or damaged, are left out.

    Raises:
        StreamerError: they cannot be read now.
    """
    source = Source(stream.partition(partition), limits)
    found: dict[int, Record] = {}
    offset = first
    while offset < end:
        try:
            piece = pieces.find(source.partition, offset)
            if piece is None:
                piece = await source.piece_at(offset)
                if piece is None:
                    break
                await piece.decode(stream, limits)
                pieces.keep(source.partition, piece)
            records: Sequence[Record] = await piece.decode(stream, limits)
        except (OffsetOutOfRange, PartitionDamaged, BadBatch) as error:
            offset = max(offset + 1, _behind(error, end))
            continue
        for at in range(offset, min(end, piece.end)):
            found[at] = records[at - piece.first]
        offset = piece.end
    return found


def _behind(error: StreamerError, end: int) -> int:
    """Where what an error speaks of is over."""
    behind = error.detail.get("first_offset", error.detail.get("next", 0))
    return min(int(behind or 0), end)
