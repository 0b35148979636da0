"""Hopping over the batches of a segment, and finding them again after damage.

A segment is placed batches back to back, nothing else. Rules:

- A frame is whole when its magic, its header check and its CRC match and its base offset is the
  expected one: right bytes in the wrong place are damage too.
- The limits of `BatchLimits` are not asked: what passed them when it was written must stay
  readable when the configuration has become stricter. The checks make its length trustworthy.
- After damage the next frame is looked for in this order: where the damaged frame's header says
  it ends, if its header check matches; where its length field points, if a whole frame is there;
  else wherever a frame's magic is. Records are bytes of users and may hold whole frames (of a
  copied log, say), so of the last kind one counts first whose chain of frames leads to the end
  of the segment, which a frame inside a record does not do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import crc32c

from streamer.batch import HEADER_BYTES, MAGIC, PRODUCER_PART_BYTES, VERSION
from streamer.limits import MIB, OFFSET_MAX
from streamer.storage.files import File

#: magic and version, length, crc, flags, count, base timestamp (unused), max timestamp,
#: producer id, epoch, sequence | base offset, append time, high water, check.
_FRAME = struct.Struct("<4sIIH2xI4x8xqQI4xQQqQ4xI")
assert _FRAME.size == HEADER_BYTES
#: The same for a hop: magic and version, length, crc, count, base offset, check.
_HOP = struct.Struct("<4sII4xI44xQ20xI")
assert _HOP.size == HEADER_BYTES

_BEGIN = MAGIC + bytes([VERSION])
_CHECKED_BYTES = HEADER_BYTES - 4
_CRC_FROM = 12
_WINDOW_BYTES = 4 * MIB


class Frame(NamedTuple):
    """What storage wants to know of a batch in a segment. Times in microseconds since 1970."""

    begin: bytes
    length: int
    crc: int
    flags: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    max_timestamp_us: int
    producer_id: int
    epoch: int
    sequence: int
    base_offset: int
    append_time_us: int
    high_water: int
    check: int

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.count


class Hops(NamedTuple):
    """How far a hop over frames came: up to byte `at`, to before offset `expected`.

    `fault` says what is wrong with what stands at `at`; None where the hop ended for another
    reason: the stop, or a frame of `wanted` bytes that is not whole within the data.
    """

    at: int
    expected: int
    fault: str | None
    wanted: int


def hop_whole(view: memoryview, at: int, expected: int, stop_offset: int, bytes_max: int) -> Hops:
    """Hop over whole frames, checking every byte: at least one, then while within `bytes_max`."""
    unpack, crc = _HOP.unpack_from, crc32c.crc32c
    start, size = at, len(view)
    while expected < stop_offset:
        if size - at < HEADER_BYTES:
            return Hops(at, expected, None, HEADER_BYTES)
        begin, length, payload_crc, count, base, check = unpack(view, at)
        if begin != _BEGIN or crc(view[at : at + _CHECKED_BYTES]) != check:
            return Hops(at, expected, "no batch header", 0)
        if base != expected:
            return Hops(at, expected, f"batch of offset {base}", 0)
        end = at + length
        if end - start > bytes_max and at > start:
            break
        if end > size:
            return Hops(at, expected, None, length)
        parts = crc(view[at + _CRC_FROM : at + PRODUCER_PART_BYTES])
        if crc(view[at + HEADER_BYTES : end], parts) != payload_crc:
            return Hops(at, expected, "batch checksum", 0)
        at = end
        expected += count
    return Hops(at, expected, None, 0)


def hop_to(view: memoryview, at: int, expected: int, offset: int) -> Hops:
    """Hop, by header checks only, to the frame that has `offset`."""
    unpack, crc = _HOP.unpack_from, crc32c.crc32c
    size = len(view)
    while True:
        if size - at < HEADER_BYTES:
            return Hops(at, expected, None, HEADER_BYTES)
        begin, length, _, count, base, check = unpack(view, at)
        if begin != _BEGIN or crc(view[at : at + _CHECKED_BYTES]) != check:
            return Hops(at, expected, "no batch header", 0)
        if base != expected:
            return Hops(at, expected, f"batch of offset {base}", 0)
        if expected + count > offset:
            return Hops(at, expected, None, 0)
        at += length
        expected += count


def frame_at(view: memoryview, at: int) -> Frame | None:
    """The frame whose header stands at `at`, if its header check matches."""
    if len(view) - at < HEADER_BYTES:
        return None
    frame = Frame._make(_FRAME.unpack_from(view, at))
    if frame.begin != _BEGIN or crc32c.crc32c(view[at : at + _CHECKED_BYTES]) != frame.check:
        return None
    # The check matches, so these were written so; still nothing may hop on the spot.
    if frame.length < HEADER_BYTES or not frame.count or frame.next_offset > OFFSET_MAX:
        return None
    return frame


def payload_matches(frame: Frame, data: memoryview) -> bool:
    """Whether the frame that fills `data` passes its CRC."""
    parts = crc32c.crc32c(data[_CRC_FROM:PRODUCER_PART_BYTES])
    return crc32c.crc32c(data[HEADER_BYTES:], parts) == frame.crc


class Window:
    """A sliding view of a file, for passes over more bytes than memory should hold."""

    def __init__(self, file: File, size: int, window_bytes: int = _WINDOW_BYTES) -> None:
        self.file = file
        self.size = size
        self.start = 0
        self._data = b""
        self._view = memoryview(b"")
        self._window_bytes = window_bytes

    def at(self, position: int, nbytes: int) -> memoryview:
        """At least `nbytes` from `position`, fewer only where the file ends before."""
        first = position - self.start
        if first < 0 or first + nbytes > len(self._data):
            ahead = min(max(nbytes, self._window_bytes), self.size - position)
            self._data = self.file.read_at(position, ahead) if ahead > 0 else b""
            self._view = memoryview(self._data)
            self.start, first = position, 0
        return self._view[first:]

    def frame(self, position: int) -> Frame | None:
        return frame_at(self.at(position, HEADER_BYTES), 0)

    def whole(self, position: int, frame: Frame) -> memoryview | None:
        """The bytes of a frame that passes its CRC."""
        if position + frame.length > self.size:
            return None
        data = self.at(position, frame.length)[: frame.length]
        return data if len(data) == frame.length and payload_matches(frame, data) else None

    def find_magic(self, position: int) -> int | None:
        """Where the next frame's magic is, from `position` on."""
        while position + HEADER_BYTES <= self.size:
            if len(self.at(position, HEADER_BYTES)) < HEADER_BYTES:
                return None
            found = self._data.find(_BEGIN, position - self.start)
            if found >= 0:
                return self.start + found
            # The magic may lie across the edge of the window.
            position = self.start + len(self._data) - len(_BEGIN) + 1
        return None


class Scan:
    """A pass over a segment's frames from `position` on, ended by the first that is not whole.

    Iterating gives (position, frame, its bytes) for each. Afterwards `position` and `expected`
    are where it ended and `fault` says why: None at the end of the file or at `stop_offset`.
    With `payloads=False` only the headers are checked.
    """

    def __init__(
        self,
        window: Window,
        position: int,
        expected: int,
        stop_offset: int = OFFSET_MAX,
        *,
        payloads: bool = True,
    ) -> None:
        self.position = position
        self.expected = expected
        self.fault: str | None = None
        self._window = window
        self._stop_offset = stop_offset
        self._payloads = payloads

    def __iter__(self) -> Iterator[tuple[int, Frame, memoryview]]:
        # Every start hops over a whole segment here, hence the locals and no calls of our own.
        make, unpack, crc = Frame._make, _FRAME.unpack_from, crc32c.crc32c
        payloads, stop, size = self._payloads, self._stop_offset, self._window.size
        data, wanted = memoryview(b""), HEADER_BYTES
        while self.expected < stop and self.position < size:
            start, at = self.position, 0
            view = self._window.at(start, wanted)
            have = len(view)
            if have < wanted:
                self.fault = "the file ends before"
                return
            wanted = HEADER_BYTES
            while have - at >= HEADER_BYTES and self.expected < stop:
                frame = make(unpack(view, at))
                end = at + frame.length
                if frame.begin != _BEGIN or crc(view[at : at + _CHECKED_BYTES]) != frame.check:
                    self.fault = "no batch header"
                    return
                if frame.base_offset != self.expected:
                    self.fault = f"batch of offset {frame.base_offset}"
                    return
                if start + end > size:
                    self.fault = f"batch of {frame.length} bytes is cut short"
                    return
                if payloads:
                    if end > have:
                        # Come again with a view that has all of it.
                        wanted = frame.length
                        break
                    data = view[at:end]
                    parts = crc(data[_CRC_FROM:PRODUCER_PART_BYTES])
                    if crc(data[HEADER_BYTES:], parts) != frame.crc:
                        self.fault = "batch checksum"
                        return
                yield self.position, frame, data
                at = end
                self.position = start + end
                self.expected += frame.count


class Gap(NamedTuple):
    """Bytes of a segment that are no whole frame, and the offsets that should be there.

    `next_offset` is the first offset behind it, None where nothing tells.
    """

    position: int
    nbytes: int
    first_offset: int
    next_offset: int | None
    reason: str


class Found(NamedTuple):
    """A whole frame behind damage."""

    position: int
    frame: Frame


def find_next(
    window: Window, position: int, expected: int, stop_offset: int = OFFSET_MAX
) -> Found | None:
    """The next whole frame behind the one at `position`, which is not whole.

    `expected` is the offset that should be at `position`; what is found has a greater one, and
    one below `stop_offset`. The search order and its reasons are in the module's docstring.
    """

    while len(head := window.at(position, HEADER_BYTES)) >= HEADER_BYTES:
        known = frame_at(head, 0)
        if known is None or known.base_offset != expected:
            length = _HOP.unpack_from(head)[1]
            if length >= HEADER_BYTES:
                found = _whole(window, position + length, expected, stop_offset)
                if found is not None:
                    return found
            return _search(window, position, expected, stop_offset)
        # Its own check vouches for its length: what is inside it is no frame of this log.
        position += known.length
        found = _whole(window, position, known.next_offset - 1, stop_offset)
        if found is not None:
            return found
        expected = known.next_offset
    return None


def _whole(window: Window, at: int, above: int, stop_offset: int) -> Found | None:
    frame = window.frame(at)
    if frame is None or not above < frame.base_offset < stop_offset:
        return None
    return Found(at, frame) if window.whole(at, frame) is not None else None


def _search(window: Window, position: int, expected: int, stop_offset: int) -> Found | None:
    first: Found | None = None
    at = window.find_magic(position)
    while at is not None:
        behind = at + 1
        found = _whole(window, at, expected, stop_offset)
        if found is not None:
            chain = Scan(window, at, found.frame.base_offset, stop_offset, payloads=False)
            for _ in chain:
                pass
            if chain.fault is None:
                return found
            first = first or found
            behind = max(behind, chain.position)
        at = window.find_magic(behind)
    return first


def walk(
    window: Window,
    position: int,
    expected: int,
    end_offset: int | None = None,
    *,
    payloads: bool = True,
) -> Iterator[tuple[int, Frame, memoryview] | Gap]:
    """All frames from `position` on, and the gaps between them.

    `end_offset` is where the segment ends, where that is known: then frames from there on are not
    looked at (the next segment has them), and a file that ends before has a gap at its end.
    """
    stop = OFFSET_MAX if end_offset is None else end_offset
    while True:
        scan = Scan(window, position, expected, stop, payloads=payloads)
        yield from scan
        position, expected = scan.position, scan.expected
        if scan.fault is None:
            if end_offset is not None and expected < end_offset:
                yield Gap(position, 0, expected, end_offset, "the file ends before")
            return
        found = find_next(window, position, expected, stop)
        if found is None:
            yield Gap(position, window.size - position, expected, end_offset, scan.fault)
            return
        behind = found.frame.base_offset
        yield Gap(position, found.position - position, expected, behind, scan.fault)
        position, expected = found.position, behind
