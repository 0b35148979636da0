"""Plans that read: a run of batches, and the offset of a time. For a worker thread.

Rules:
- What is served was checked: header, CRC, and that it is the offset that was asked for. What is
  whole before damage is served; the damage itself is an error that names the offsets to skip.
- Each plan opens its file anew: it may run beside appends, rolls and retention, which close and
  remove files, and an open costs less than keeping count of who reads.
- One `read_at` for a run of batches, but where a batch is longer than asked for.
"""

from __future__ import annotations

import attrs

from streamer.batch import HEADER_BYTES
from streamer.errors import Aborted, OffsetOutOfRange, PartitionDamaged, StorageError
from streamer.storage.files import NO_HANDLES, File, Files
from streamer.storage.frames import Gap, Hops, Window, find_next, hop_to, hop_whole, walk
from streamer.storage.segment import IndexCache, Segment


@attrs.frozen
class ReadResult:
    """Whole, checked batches back to back: `blob` has the offsets from `first_offset`, which is
    the base of the batch with the offset that was asked for, up to before `next_offset`."""

    blob: bytes
    first_offset: int
    next_offset: int


def out_of_range(offset: int, first_offset: int, high_water: int) -> OffsetOutOfRange:
    """The error for an offset that is not kept any more, or not there yet."""
    return OffsetOutOfRange(
        f"offset {offset}, kept are {first_offset} to {high_water - 1}",
        offset=offset,
        first_offset=first_offset,
        high_water=high_water,
    )


@attrs.frozen(eq=False)
class ReadPlan:
    """Reads batches of one segment."""

    files: Files
    path: str
    #: Where the segment may be read to: the first byte, and the first offset, not to be served.
    end_position: int
    stop_offset: int
    offset: int
    bytes_max: int
    #: A batch at or before the offset that was asked for; None: ask the index.
    entry: tuple[int, int] | None
    indexes: IndexCache
    segment: Segment | None
    #: The distance of index entries.
    index_bytes: int

    def run(self) -> ReadResult:
        """Read.

        Raises:
            PartitionDamaged: what was asked for is damaged; `first` and `next` of its `detail`
                are the range of offsets to skip.
            OffsetOutOfRange: retention has just removed it.
            Aborted: no file handle to be had; trying again may help.
            StorageError: the disk is at fault.
        """
        try:
            if self.entry is not None:
                expected, position = self.entry
            else:
                assert self.segment is not None
                expected, position = self.indexes.get(self.segment).by_offset(self.offset)
            file = self.files.open_read(self.path)
            try:
                return self._read(file, expected, position)
            finally:
                file.close()
        except FileNotFoundError as error:
            raise OffsetOutOfRange(
                f"offset {self.offset} has been removed", offset=self.offset
            ) from error
        except OSError as error:
            reason = error.strerror or error
            if error.errno in NO_HANDLES:
                raise Aborted(f"{self.path}: no file handle: {reason}") from error
            raise StorageError(f"{self.path}: read failed: {reason}") from error

    def _read(self, file: File, expected: int, position: int) -> ReadResult:
        if expected == self.offset:
            nbytes, data, at = self.bytes_max, self._bytes(file, position, self.bytes_max), 0
        else:
            nbytes = self.bytes_max + self.index_bytes
            data = self._bytes(file, position, nbytes)
            position, expected, data, at = self._seek(file, position, expected, data, nbytes)
        while True:
            hops = hop_whole(memoryview(data), at, expected, self.stop_offset, self.bytes_max)
            if hops.at > at:
                blob = data if not at and hops.at == len(data) else data[at : hops.at]
                return ReadResult(blob, expected, hops.expected)
            position, at = position + at, 0
            if hops.fault is not None or position + hops.wanted > self.end_position:
                raise self._damaged(file, position, hops)
            # What was read ends within the batch.
            data = self._bytes(file, position, max(hops.wanted, nbytes))
            if len(data) < hops.wanted:
                raise self._damaged(file, position, hops)

    def _seek(
        self, file: File, position: int, expected: int, data: bytes, nbytes: int
    ) -> tuple[int, int, bytes, int]:
        """Hop to the batch that has the offset: position and bytes of what was read last, and
        where in them it is, with its base offset."""
        while True:
            hops = hop_to(memoryview(data), 0, expected, self.offset)
            if hops.fault is None and not hops.wanted:
                return position, hops.expected, data, hops.at
            position, expected = position + hops.at, hops.expected
            if hops.fault is not None or position + HEADER_BYTES > self.end_position:
                found = find_next(self._window(file), position, expected, self.stop_offset)
                if found is None or found.frame.base_offset > self.offset:
                    raise self._damaged(file, position, hops)
                position, expected = found.position, found.frame.base_offset
            elif not hops.at:
                # The file has become shorter than it was.
                raise self._damaged(file, position, hops)
            data = self._bytes(file, position, nbytes)

    def _bytes(self, file: File, position: int, nbytes: int) -> bytes:
        there = max(0, self.end_position - position)
        return file.read_at(position, min(max(nbytes, HEADER_BYTES), there))

    def _window(self, file: File) -> Window:
        return Window(file, self.end_position)

    def _damaged(self, file: File, position: int, hops: Hops) -> PartitionDamaged:
        first = hops.expected
        found = find_next(self._window(file), position, first, self.stop_offset)
        behind = self.stop_offset if found is None else found.frame.base_offset
        return damaged(self.path, position, hops.fault or "the file ends before", first, behind)


def damaged(path: str, position: int, fault: str, first: int, behind: int) -> PartitionDamaged:
    """The error for records `first` to before `behind`, which should be there from a byte on."""
    return PartitionDamaged(
        f"{path} is damaged from byte {position} on ({fault}):"
        f" offsets {first} to {behind - 1} are not whole",
        first=first,
        next=behind,
    )


@attrs.frozen(eq=False)
class Stretch:
    """Part of a segment's file to look through, from the batch of `offset` at `position`."""

    path: str
    offset: int
    position: int
    end_position: int
    stop_offset: int


@attrs.frozen(eq=False)
class SeekPlan:
    """Finds the first batch of a time."""

    files: Files
    timestamp_us: int
    sealed: tuple[Segment, ...]
    indexes: IndexCache
    #: Where to look in the last segment; None where all of it is earlier.
    active: Stretch | None
    high_water: int

    def run(self) -> int:
        """The offset of the first batch with a max timestamp that is not before the time, or of
        damage in front of it, so that the reader learns of that; the high-water mark if none.

        Raises:
            StorageError: the disk is at fault.
        """
        try:
            for segment in self.sealed:
                found = self._look_sealed(segment)
                if found is not None:
                    return found
            found = None if self.active is None else self._look(self.active)
        except OSError as error:
            raise StorageError(f"seeking a time failed: {error}") from error
        return self.high_water if found is None else found

    def _look_sealed(self, segment: Segment) -> int | None:
        latest = segment.max_timestamp_us
        if latest is not None and latest < self.timestamp_us:
            return None
        try:
            index = self.indexes.get(segment)
            if index.max_timestamp_us < self.timestamp_us:
                return None
            offset, position = index.by_time(self.timestamp_us)
            where = segment.path, offset, position, segment.nbytes, segment.end_offset
            return self._look(Stretch(*where))
        except FileNotFoundError:
            # Retention has just removed it.
            return None

    def _look(self, stretch: Stretch) -> int | None:
        file = self.files.open_read(stretch.path)
        try:
            window = Window(file, stretch.end_position)
            found = walk(
                window, stretch.position, stretch.offset, stretch.stop_offset, payloads=False
            )
            for item in found:
                if isinstance(item, Gap):
                    return item.first_offset
                if item[1].max_timestamp_us >= self.timestamp_us:
                    return item[1].base_offset
        finally:
            file.close()
        return None
