"""Dead letters for the console: a page of them, with previews of what they hold.

Rules: a page is bounded in letters, and in bytes read and decompressed, so a request costs little
whatever the letters are; where it ends early, `next` says where to go on. Reading and decoding is
done in the daemon's reader threads, like that of any reader. A letter's content is a stranger's:
it goes out as a short text and its bytes, never as markup.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs

from streamer.batch import Batch, Codec, batches_of, records_of
from streamer.errors import OffsetOutOfRange, PartitionDamaged, StreamerError
from streamer.groups.letters import DEAD_HEADER, facts_of, redriven_of
from streamer.groups.ranges import Ranges, pairs
from streamer.limits import KIB, MIB, OFFSET_MAX, BatchLimits
from streamer.pipeline.streams import Stream
from streamer.records import Record

LETTERS_MAX = 100
PREVIEW_BYTES = 1 * KIB
_READ_BYTES = 256 * KIB
#: Decompressed for one page; a batch above it passes alone.
_RAW_BYTES_MAX = 16 * MIB
#: Reads for one page: letters may lie far apart between those that are done.
_READS_MAX = 200
_HEADERS_MAX = 16

Plain = dict[str, Any]


@attrs.define
class LetterPage:
    """What was found from an offset on; `next` is where to go on, None at the end."""

    letters: list[Plain] = attrs.Factory(list)
    #: `{first, next, message}`: offsets that cannot be read, and why.
    unreadable: list[Plain] = attrs.Factory(list)
    next: int | None = None


async def read_page(
    stream: Stream, number: int, waiting: list[int], first: int, limits: BatchLimits
) -> LetterPage:
    """The letters in a partition of STREAM.dead from `first` on, of those in the bounds `waiting`.

    Raises:
        StreamerError: why they cannot be read.
    """
    partition = stream.partition(number)
    page, wanted = LetterPage(), Ranges(waiting)
    raw_left = _RAW_BYTES_MAX
    for _ in range(_READS_MAX):
        left = wanted.overlap(first, OFFSET_MAX)
        page.next = left[0] if left else None
        if not left or len(page.letters) >= LETTERS_MAX or raw_left <= 0:
            return page
        try:
            result = await partition.read(left[0], _READ_BYTES)
        except PartitionDamaged as error:
            first = max(int(error.detail.get("next", 0)), left[0] + 1)
            page.unreadable.append(_unreadable(left[0], first, error))
            continue
        except OffsetOutOfRange:
            # Retention was faster.
            first = max(partition.log.first_offset, left[0] + 1)
            continue
        if result is None:
            page.next = None
            return page
        codec = Codec(limits=limits, dictionaries=stream.dictionaries)
        batches = _fitting(list(batches_of(result.blob, limits)), raw_left)
        raw_left -= sum(batch.header.raw_length for batch in batches)
        room = LETTERS_MAX - len(page.letters)
        job = partial(_take, codec, batches, left, room, (stream.name, number))
        found, unreadable, first = await partition.run(job)
        page.letters += found
        page.unreadable += unreadable
    return page


def _fitting(batches: Sequence[Batch], raw_bytes: int) -> list[Batch]:
    """The first batches that are not more than so much when decompressed; one at least."""
    fitting: list[Batch] = []
    for batch in batches:
        raw_bytes -= batch.header.raw_length
        if fitting and raw_bytes < 0:
            break
        fitting.append(batch)
    return fitting


def _take(
    codec: Codec,
    batches: Sequence[Batch],
    waiting: list[int],
    room: int,
    where: tuple[str, int],
) -> tuple[list[Plain], list[Plain], int]:
    """In a thread: at most `room` letters, what cannot be read, and the offset to go on from."""
    letters: list[Plain] = []
    unreadable: list[Plain] = []
    wanted = Ranges(waiting)
    for batch in batches:
        base, end = batch.header.base_offset, batch.header.next_offset
        bounds = wanted.overlap(base, end)
        if not bounds:
            continue
        try:
            records = records_of(codec.decode(batch), batch.header.base_timestamp_us)
        except StreamerError as error:
            unreadable.append(_unreadable(bounds[0], end, error))
            continue
        for offset in (each for span in pairs(bounds) for each in range(*span)):
            if len(letters) >= room:
                return letters, unreadable, offset
            letters.append(_letter(*where, offset, records[offset - base]))
    return letters, unreadable, batches[-1].header.next_offset


def _unreadable(first: int, end: int, error: StreamerError) -> Plain:
    return {"first": first, "next": end, "message": error.message}


def _letter(stream: str, partition: int, offset: int, record: Record) -> Plain:
    """One letter. What somebody else put there has the reason "unknown"."""
    facts = facts_of(record)
    headers = {name: data for name, data in (record.headers or {}).items() if name != DEAD_HEADER}
    return {
        "partition": partition,
        "offset": offset,
        "reason": facts.reason if facts else "unknown",
        "error": facts.error if facts else "",
        "group": facts.group if facts else "",
        "source_stream": facts.stream if facts else stream,
        "source_partition": facts.partition if facts else partition,
        "source_offset": facts.offset if facts else offset,
        "attempts": facts.attempts if facts else 0,
        "first_us": facts.first_us if facts else record.timestamp_us,
        "last_us": facts.last_us if facts else record.timestamp_us,
        "redriven": redriven_of(record),
        "key": None if record.key is None else preview(record.key),
        "value": preview(record.value),
        "headers": [
            {"name": name, **preview(data)} for name, data in list(headers.items())[:_HEADERS_MAX]
        ],
        "headers_count": len(headers),
    }


def preview(data: bytes) -> Plain:
    """The beginning of some bytes: as text, with what is no UTF-8 escaped, and as they are."""
    shown = data[:PREVIEW_BYTES]
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    # A character that the cut went through is left out.
    text = decoder.decode(shown, final=len(shown) == len(data))
    return {"bytes": len(data), "text": text, "base64": base64.b64encode(shown).decode()}
