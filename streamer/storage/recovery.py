"""What is done before a partition is used again: find its end, and know that it is on the disk.

Rules:
- Only names and the last segment are read. What is before it was durable before it was made.
- After a clean stop a marker says where the log ends, and holds the last segment's index and the
  producer table; only the last commit is read, which no later batch vouches for.
- Otherwise the last segment is read whole. A frame that is not whole begins a torn tail, which is
  cut, unless a whole frame behind it says that the log was durable beyond it (its `high_water`).
  Then it is damage: nothing at all is touched, and the partition takes no more writes.
- What no later frame vouches for is written again, to another file (see `rewrite`). A disk without
  room for that does not keep the proven part from being read: the work is left for the first
  append.
"""

from __future__ import annotations

from collections import deque

import attrs

from streamer.batch import Codec
from streamer.errors import BadBatch, StorageDamaged
from streamer.storage.files import Files, no_room
from streamer.storage.frames import Frame, Gap, Window, walk
from streamer.storage.index import SparseIndex
from streamer.storage.marker import Marker, read_marker
from streamer.storage.producers import ProducerTable
from streamer.storage.rewrite import Rewrite
from streamer.storage.segment import (
    PRODUCERS_SUFFIX,
    LogSettings,
    Segment,
    file_path,
    list_segments,
    read_producers,
    sidecar_path,
    write_sidecars,
)
from streamer.storage.stamps import Stamps, frame_stamps


@attrs.frozen
class DamagedRange:
    """Bytes of a file that are no whole batches, and the offsets that should be there.

    `next_offset` is the first offset behind the range, None where nothing tells.
    """

    file: str
    position: int
    nbytes: int
    first_offset: int
    next_offset: int | None
    reason: str

    def __str__(self) -> str:
        """For people; what matters comes first, as it may be cut."""
        last = "the end" if self.next_offset is None else self.next_offset - 1
        end = self.position + self.nbytes
        return (
            f"{self.reason}, offsets {self.first_offset} to {last}"
            f" (bytes {self.position} to {end} of {self.file})"
        )


@attrs.frozen
class RecoveryReport:
    """What was found and done when a partition was opened."""

    #: There was a clean marker.
    clean: bool
    #: Torn tails that were cut off; nothing of them was ever acknowledged as synced.
    cut: tuple[DamagedRange, ...]
    damage: tuple[DamagedRange, ...]
    segments: int
    #: Size of the tail that was, or is still to be, written again.
    rewritten_bytes: int


@attrs.frozen
class Recovered:
    """A partition as it was found: what `PartitionLog` begins with."""

    sealed: list[Segment]
    #: The last segment; None while the partition has no file.
    active: SparseIndex | None
    producers: ProducerTable
    report: RecoveryReport
    #: Everything below is durable.
    durable: int
    #: The greatest `high_water` in the log, or where the last segment begins.
    vouched: int
    #: Not done yet, for want of room; until it is, only what is below `durable` may be read.
    rewrite: Rewrite | None = None
    marked: bool = False


def recover(files: Files, path: str, settings: LogSettings, codec: Codec) -> Recovered:
    """Find out what the partition in the directory `path` holds, and make it durable.

    Raises:
        OSError: the disk is at fault. Nothing is lost by that, and it can be tried again.
    """
    segments = list_segments(files, path)
    marker = read_marker(files, path)
    opening = _Opening(files, path, segments, settings, codec)
    if not segments:
        return opening.without_files(marker)
    last = segments[-1]
    if marker is None:
        return opening.unclean()
    if last.base_offset < marker.base_offset:
        # The segment that the marker speaks of is gone.
        return opening.damaged(marker.end_offset, clean=True)
    if last.base_offset > marker.base_offset or last.nbytes > marker.nbytes:
        # Something was appended although the marker stands: it cannot be trusted.
        return opening.unclean()
    return opening.clean(marker)


class _Tail:
    """Takes in the last segment's frames; `index` and `producers` lag behind, at the offset up to
    which the frames read so far prove that the log was durable.

    `checkpoint` is the producer table as of some offset in the segment: who wrote what is before
    it need not be asked. It is None once it was used.
    """

    def __init__(
        self,
        index: SparseIndex,
        producers: ProducerTable,
        checkpoint: tuple[int, ProducerTable] | None,
    ) -> None:
        self.index = index
        self.producers = producers
        self.proven = index.end_offset
        self.checkpoint = checkpoint
        self.stamps_from = 0 if checkpoint is None else checkpoint[0]
        self.pending: deque[tuple[Frame, Stamps]] = deque()
        self.pending_bytes = 0

    def add(self, frame: Frame, stamps: Stamps) -> None:
        self.pending.append((frame, stamps))
        self.pending_bytes += frame.length
        vouched = min(frame.high_water, frame.base_offset)
        if vouched > self.proven:
            self.proven = vouched
            while self.pending[0][0].next_offset <= vouched:
                self._settle(self.index, *self.pending.popleft())

    def is_short(self) -> bool:
        """Whether what was read ends before the checkpoint."""
        last = self.pending[-1][0].next_offset if self.pending else self.index.end_offset
        return last < self.stamps_from

    def settle(self, index: SparseIndex) -> None:
        """Take the unproven ones as well, into `index`."""
        while self.pending:
            self._settle(index, *self.pending.popleft())

    def _settle(self, index: SparseIndex, frame: Frame, stamps: Stamps) -> None:
        self.pending_bytes -= frame.length
        index.add_frame(frame)
        for stamp, count, base_offset in stamps:
            self.producers.record(stamp, count, base_offset)
        if self.checkpoint is not None and index.end_offset >= self.checkpoint[0]:
            self.producers, self.checkpoint = self.checkpoint[1], None


@attrs.frozen
class _Opening:
    files: Files
    path: str
    #: At least one, except for `without_files`. The last one's end is not known yet.
    segments: list[Segment]
    settings: LogSettings
    codec: Codec

    def without_files(self, marker: Marker | None) -> Recovered:
        """A partition that nothing was ever appended to, or whose files are gone."""
        damage: tuple[DamagedRange, ...] = ()
        end = 0
        if marker is not None:
            end = marker.end_offset
            gone = file_path(self.path, marker.base_offset)
            damage = (DamagedRange(gone, 0, 0, marker.base_offset, end, "the file is gone"),)
        table = ProducerTable(self.settings.producers)
        report = RecoveryReport(marker is not None, (), damage, 0, 0)
        return Recovered([], None, table, report, end, end, marked=marker is not None)

    def clean(self, marker: Marker) -> Recovered:
        """Take the marker's word, after a look at the last commit."""
        last, table = self.segments[-1], ProducerTable(self.settings.producers)
        try:
            index = SparseIndex.from_bytes(marker.index, self.settings.index_bytes)
            table.restore(marker.producers)
        except StorageDamaged:
            return self.unclean()
        if index.end_offset != marker.end_offset or index.nbytes != marker.nbytes:
            return self.unclean()
        offset, position = index.by_offset(marker.vouched)
        file = self.files.open_read(last.path)
        try:
            window = Window(file, last.nbytes)
            for found in walk(window, position, offset, marker.end_offset):
                if isinstance(found, Gap):
                    return self.damaged(marker.end_offset, clean=True)
        finally:
            file.close()
        report = RecoveryReport(True, (), (), len(self.segments), 0)
        sealed = self.segments[:-1]
        durable = marker.end_offset
        return Recovered(sealed, index, table, report, durable, marker.vouched, marked=True)

    def unclean(self) -> Recovered:
        """Read the last segment whole, cut a torn tail, and write the unproven part again."""
        producers, damage = self._producers()
        last = self.segments[-1]
        checkpoint = read_producers(self.files, last, self.settings)
        if checkpoint is not None and checkpoint[0] <= last.base_offset:
            checkpoint = None
        read = self._read_last(producers, checkpoint)
        if read is not None and read[0].is_short():
            # The checkpoint speaks of records that are gone, and others will have their offsets:
            # it must be gone as well, durably, before the first append.
            self.files.unlink(sidecar_path(last.path, PRODUCERS_SUFFIX))
            self.files.sync_dir(self.path)
            producers, damage = self._producers()
            read = self._read_last(producers, None)
        if read is None:
            return self.damaged(None)
        tail, gap = read
        cut: tuple[DamagedRange, ...] = ()
        if gap is not None:
            nbytes = last.nbytes - gap.position
            first = gap.first_offset
            cut = (DamagedRange(last.path, gap.position, nbytes, first, None, gap.reason),)
        return self._rewritten(tail, cut, damage)

    def _read_last(
        self, producers: ProducerTable, checkpoint: tuple[int, ProducerTable] | None
    ) -> tuple[_Tail, Gap | None] | None:
        """Read the last segment up to its first gap; None where that is no torn tail."""
        last = self.segments[-1]
        index = SparseIndex(last.base_offset, self.settings.index_bytes)
        tail = _Tail(index, producers, checkpoint)
        gap: Gap | None = None
        file = self.files.open_read(last.path)
        try:
            for found in walk(Window(file, last.nbytes), 0, last.base_offset):
                if isinstance(found, Gap):
                    gap = gap or found
                    continue
                _, frame, data = found
                if gap is None:
                    known = frame.base_offset < tail.stamps_from
                    tail.add(frame, () if known else frame_stamps(frame, data, self.codec))
                elif gap.first_offset < frame.high_water <= frame.base_offset:
                    return None
        except BadBatch:
            return None
        finally:
            file.close()
        return tail, gap

    def _rewritten(
        self, tail: _Tail, cut: tuple[DamagedRange, ...], damage: tuple[DamagedRange, ...]
    ) -> Recovered:
        last, sealed, active = self.segments[-1], self.segments[:-1], tail.index
        proven, proven_bytes, tail_bytes = tail.proven, active.nbytes, tail.pending_bytes
        if proven_bytes <= self.settings.rewrite_whole_bytes:
            nbytes = proven_bytes + tail_bytes
            rewrite = Rewrite(self.files, last.path, 0, nbytes, last.base_offset, last.path, None)
        else:
            # With a checkpoint of later on, nothing tells who had written what by then.
            beside = (active, tail.producers.copy()) if tail.checkpoint is None else None
            target = file_path(self.path, proven)
            where = last.path, proven_bytes, tail_bytes, proven, target
            rewrite = Rewrite(self.files, *where, beside)
            sealed.append(Segment(last.path, last.base_offset, proven, proven_bytes))
            active = SparseIndex(proven, self.settings.index_bytes)
        tail.settle(active)
        # The last segment may have been made just before a crash, and its name be unsynced.
        self.files.sync_dir(self.path)
        # Also where nothing is to be copied: on the disk the file may hold what was cut off in the
        # cache alone, before a failed sync, and a power cut would bring that back.
        done = _run(rewrite)
        report = RecoveryReport(False, cut, damage, len(sealed) + 1, tail_bytes)
        durable = active.end_offset if done else proven
        pending = None if done else rewrite
        return Recovered(sealed, active, tail.producers, report, durable, proven, pending)

    def damaged(self, end_offset: int | None, *, clean: bool = False) -> Recovered:
        """Take stock of what is whole, and touch nothing."""
        producers, before = self._producers()
        last, damage = self.segments[-1], list(before)
        index = self._take_stock(last, end_offset, producers, damage)
        report = RecoveryReport(clean, (), tuple(damage), len(self.segments), 0)
        end = index.end_offset
        return Recovered(self.segments[:-1], index, producers, report, end, end, marked=clean)

    def _producers(self) -> tuple[ProducerTable, tuple[DamagedRange, ...]]:
        """The producer table as of the last segment's base: from the sidecar of the one before,
        else from as many segments as it takes."""
        table: ProducerTable | None = None
        known = len(self.segments) - 1
        while known and table is None:
            before = self.segments[known - 1]
            said = read_producers(self.files, before, self.settings)
            if said is not None and said[0] == before.end_offset:
                table = said[1]
            else:
                known -= 1
        table = table or ProducerTable(self.settings.producers)
        damage: list[DamagedRange] = []
        for segment in self.segments[known:-1]:
            index = self._take_stock(segment, segment.end_offset, table, damage)
            if not damage:
                write_sidecars(self.files, segment.path, index, table)
        return table, tuple(damage)

    def _take_stock(
        self,
        segment: Segment,
        end_offset: int | None,
        producers: ProducerTable,
        damage: list[DamagedRange],
    ) -> SparseIndex:
        """Read a segment whole: give its index, add to the table and to the damage."""
        index = SparseIndex(segment.base_offset, self.settings.index_bytes)
        file = self.files.open_read(segment.path)
        try:
            window = Window(file, segment.nbytes)
            for found in walk(window, 0, segment.base_offset, end_offset):
                if isinstance(found, Gap):
                    damage.append(DamagedRange(segment.path, *found))
                    if found.next_offset is not None:
                        index.skip(found.next_offset, found.position + found.nbytes)
                    continue
                position, frame, data = found
                index.add_frame(frame)
                try:
                    stamps = frame_stamps(frame, data, self.codec)
                except BadBatch as error:
                    offsets = frame.base_offset, frame.next_offset
                    reason = f"producers do not decode: {error}"
                    damage.append(
                        DamagedRange(segment.path, position, frame.length, *offsets, reason)
                    )
                    continue
                for stamp, count, base_offset in stamps:
                    producers.record(stamp, count, base_offset)
        finally:
            file.close()
        return index


def _run(rewrite: Rewrite) -> bool:
    """Whether there was room for it."""
    try:
        rewrite.run()
    except OSError as error:
        if not no_room(error):
            raise
        return False
    return True
