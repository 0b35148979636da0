"""One ordered log: decides on the event loop, and gives out plans that do the disk work.

Rules:
- State changes only in the methods of `PartitionLog`, which do no I/O (but for `open`). A plan
  takes with it all that it needs, runs in a worker thread, and is given back.
- One plan that writes (append, sync, close) is under way at a time; reads, seeks and retention
  may run beside it and beside each other.
- What is committed can be read, and is below the high-water mark. What is durable as well is below
  `durable_offset`; the two differ only where appends are committed without a sync. Batches are to
  be placed with `high_water=log.durable_offset`: recovery believes what they say.
"""

from __future__ import annotations

import enum
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

import attrs

from streamer.batch import Batch, Codec
from streamer.errors import PartitionDamaged, PartitionStopped, StorageError, StreamerError
from streamer.limits import OFFSET_MAX
from streamer.storage.append import AppendPlan, ClosePlan, Roll, SyncPlan
from streamer.storage.files import Buffer, File, Files
from streamer.storage.index import SparseIndex
from streamer.storage.marker import Marker, marker_path
from streamer.storage.producers import DuplicateOf, ProducerTable
from streamer.storage.read import ReadPlan, ReadResult, SeekPlan, Stretch, out_of_range
from streamer.storage.recovery import DamagedRange, Recovered, RecoveryReport, recover
from streamer.storage.retention import RetentionPlan, choose
from streamer.storage.scrub import Scrub
from streamer.storage.segment import IndexCache, LogSettings, Segment, file_path
from streamer.storage.stamps import Stamps
from streamer.storage.survey import Question, SurveyPlan

__all__ = [
    "AppendPlan",
    "ClosePlan",
    "DamagedRange",
    "DuplicateOf",
    "Entry",
    "LogSettings",
    "LogState",
    "PartitionLog",
    "ProducerTable",
    "ReadPlan",
    "ReadResult",
    "RecoveryReport",
    "RetentionPlan",
    "Scrub",
    "SeekPlan",
    "SyncPlan",
]

#: How many of the last batches are found without hopping: those that live readers ask for.
_RECENT_MAX = 1024
#: A segment spans at most this part of the time that is kept, so that time alone ends it too.
_SEGMENTS_PER_RETENTION = 4


class LogState(enum.Enum):
    OPEN = "open"
    #: There is damage in the middle: no writes, reads serve what is whole.
    DAMAGED = "damaged"
    #: The disk failed, or the log was closed: no writes, until it is opened again.
    STOPPED = "stopped"


@attrs.frozen
class Entry:
    """A batch to append, placed, and who wrote its records."""

    batch: Batch
    #: (stamp, number of records, base offset) of what is idempotent in it.
    stamps: Stamps = ()


class PartitionLog:
    """The log of one partition. It does what `log.Log` asks for."""

    in_memory = False
    #: Nothing leaves but what retention removes.
    dropped = 0

    def __init__(
        self, files: Files, path: str, settings: LogSettings, recovered: Recovered
    ) -> None:
        """Not for use from outside: see `open`."""
        self.path = path
        self.recovery: RecoveryReport = recovered.report
        self.state = LogState.DAMAGED if recovered.report.damage else LogState.OPEN
        self.damage: tuple[DamagedRange, ...] = recovered.report.damage
        #: The first offset behind what was written.
        self.next_offset = recovered.durable
        #: The first offset that cannot be read yet.
        self.high_water = recovered.durable
        #: The first offset that may not be on the disk yet.
        self.durable_offset = recovered.durable
        #: The committed view. Not to be changed from outside.
        self.producers = recovered.producers
        self._files = files
        self._settings = settings
        #: Why it takes no writes any more, if it is stopped.
        self.stopped_by = ""
        self._sealed = recovered.sealed
        self._bases = [segment.base_offset for segment in self._sealed]
        self._sealed_bytes = sum(segment.nbytes for segment in self._sealed)
        self._indexes = IndexCache(files, settings.index_bytes)
        self._active = recovered.active
        if self._active is not None:
            self.next_offset = self._active.end_offset
        self._first_append_us: int | None = None
        self._file: File | None = None
        self._rewrite = recovered.rewrite
        self._marked = recovered.marked
        self._vouched = recovered.vouched
        #: A roll was begun: the next append must go on with it, since a segment ends where the
        #: next one's file begins.
        self._rolling = False
        #: Idempotent appends since the producers were last written down.
        self._unwritten = 0
        self._under_way: object | None = None
        self._recent_offsets = array("Q")
        self._recent_positions = array("Q")

    @classmethod
    def open(cls, files: Files, path: str, settings: LogSettings, codec: Codec) -> PartitionLog:
        """Recover what the directory `path` holds; it is made if it is not there.

        `codec` decodes what the daemon grouped, and is used by this thread meanwhile. What was
        cut, and what is damaged, is in `recovery`. Reads and syncs, so for a worker thread.

        Raises:
            StorageError: the disk is at fault.
        """
        try:
            if not files.exists(marker_path(path)):
                # Also where it is there: whoever made it may have died before it was durable.
                files.make_dir(path)
            return cls(files, path, settings, recover(files, path, settings, codec))
        except OSError as error:
            raise StorageError(f"{path}: opening failed: {error}") from error

    # ---------------------------------------------------------------------------------- figures

    @property
    def first_offset(self) -> int:
        """The first offset that is kept; the next one where none is."""
        if self._bases:
            return self._bases[0]
        return self.next_offset if self._active is None else self._active.base_offset

    @property
    def nbytes(self) -> int:
        return self._sealed_bytes + (0 if self._active is None else self._active.nbytes)

    @property
    def segment_count(self) -> int:
        return len(self._sealed) + (self._active is not None)

    # ------------------------------------------------------------------------------------ append

    def check_writable(self) -> None:
        """Refuse early what `plan_append` would refuse.

        Raises:
            PartitionDamaged, PartitionStopped: as `plan_append`.
        """
        if self.state is not LogState.OPEN:
            raise self._refusal()

    def plan_append(self, entries: Sequence[Entry]) -> AppendPlan:
        """Decide where the entries go. They begin at `next_offset` and leave no gap.

        Raises:
            PartitionDamaged: there is damage in the middle of the log.
            PartitionStopped: the disk failed before, or the log was closed.
        """
        self.check_writable()
        assert self._under_way is None, "one plan that writes at a time"
        first = expected = self.next_offset
        buffers: list[Buffer] = []
        batches: list[tuple[int, int, int, int]] = []
        nbytes = 0
        vouched = self._vouched
        for entry in entries:
            batch = entry.batch
            header = batch.header
            assert header.base_offset == expected, "entries begin at next_offset, without a gap"
            assert header.high_water <= self.durable_offset, "place with high_water=durable_offset"
            buffers += (batch.head, batch.payload)
            length, count = header.length, header.count
            batches.append((length, count, header.max_timestamp_us, header.append_time_us))
            expected += count
            nbytes += length
            vouched = max(vouched, header.high_water)
        assert batches, "an append has entries"
        active = self._active
        fresh = active is None or self._is_full(active, nbytes, batches[0][3])
        base, position, roll = first, 0, None
        if active is not None:
            if fresh:
                roll = self._roll(active)
            else:
                base, position = active.base_offset, active.nbytes
        due = not fresh and self._unwritten >= self._settings.checkpoint_records
        plan = AppendPlan(
            self._files,
            self.path,
            base,
            position,
            first,
            expected,
            nbytes,
            buffers,
            batches,
            [entry.stamps for entry in entries if entry.stamps],
            vouched,
            None if fresh else self._file,
            fresh,
            roll,
            self._rewrite,
            self._marked,
            self.producers if due else None,
        )
        self._under_way = plan
        return plan

    def _is_full(self, active: SparseIndex, nbytes: int, now_us: int) -> bool:
        if self._rolling:
            return True
        if not active.nbytes:
            return False
        if active.nbytes + nbytes > self._settings.segment_bytes:
            return True
        keep_s, first_us = self._settings.retention_s, self._first_append_us
        if keep_s is None or first_us is None:
            return False
        return now_us - first_us > keep_s * 1e6 / _SEGMENTS_PER_RETENTION

    def _roll(self, active: SparseIndex) -> Roll:
        unsynced = self.durable_offset < self.next_offset
        path = file_path(self.path, active.base_offset)
        return Roll(path, active, self.producers, self._file, unsynced)

    def committed(self, plan: AppendPlan) -> None:
        """Take note that the plan was run: its batches can be read from now on."""
        assert plan is self._under_way
        self._under_way = None
        if plan.rewrite is not self._rewrite:
            self._rewritten()
        if plan.fresh:
            self._rolled(plan)
        active = self._active
        assert active is not None
        self._file, self._marked, self._vouched = plan.file, False, plan.vouched
        offsets, positions = self._recent_offsets, self._recent_positions
        for batch in plan.batches:
            offsets.append(active.end_offset)
            positions.append(active.nbytes)
            active.add(*batch)
        if len(offsets) > _RECENT_MAX:
            del offsets[: -_RECENT_MAX // 2]
            del positions[: -_RECENT_MAX // 2]
        if self._first_append_us is None:
            self._first_append_us = plan.batches[0][3]
        if plan.fresh or plan.checkpoint is not None:
            self._unwritten = 0
        for stamps in plan.stamps:
            self._unwritten += len(stamps)
            for stamp, count, base_offset in stamps:
                self.producers.record(stamp, count, base_offset)
        self.next_offset = self.high_water = plan.next_offset
        if plan.synced:
            self.durable_offset = plan.next_offset
        elif plan.fresh:
            # A roll syncs what was before it.
            self.durable_offset = plan.first_offset

    def _rolled(self, plan: AppendPlan) -> None:
        if plan.roll is not None:
            index = plan.roll.index
            segment = Segment(plan.roll.path, index.base_offset, index.end_offset, index.nbytes)
            self._sealed.append(segment)
            self._bases.append(segment.base_offset)
            self._sealed_bytes += segment.nbytes
            self._indexes.put(segment, index)
            if plan.roll.file is not None:
                plan.roll.file.close()
        self._active = SparseIndex(plan.base_offset, self._settings.index_bytes)
        self._recent_offsets, self._recent_positions = array("Q"), array("Q")
        self._first_append_us = None
        self._rolling = False

    def _rewritten(self) -> None:
        self._rewrite = None
        self.durable_offset = self.high_water = self.next_offset

    def failed(self, plan: AppendPlan | SyncPlan | ClosePlan, error: Exception) -> None:
        """Take note that the plan's `run` raised. A retryable refusal leaves the log as it was;
        anything else stops it for good."""
        assert plan is self._under_way
        self._under_way = None
        if isinstance(plan, AppendPlan):
            self._marked = plan.marked
            if plan.rewrite is not self._rewrite:
                self._rewritten()
            if not plan.fresh:
                self._file = plan.file
            else:
                self._rolling = True
                if plan.file is not None:
                    plan.file.close()
        if not (isinstance(error, StreamerError) and error.retryable):
            self._stop(str(error))

    def abandoned(self, reason: str) -> None:
        """Take note that whoever ran a plan that writes is gone. If it was not given back, what
        it did is unknown, and the log stops."""
        if self._under_way is not None:
            self._under_way = None
            self._stop(reason)

    def _stop(self, reason: str) -> None:
        self.state, self.stopped_by = LogState.STOPPED, reason

    def note_damage(self, error: PartitionDamaged) -> None:
        """Take note of damage that a read or a scrub ran into: the log refuses writes from now
        on."""
        first, behind = error.detail["first"], error.detail["next"]
        if all(not each.first_offset <= first < _end_of(each) for each in self.damage):
            found = DamagedRange(self.path, 0, 0, first, behind, error.message)
            self.damage = (*self.damage, found)
        if self.state is LogState.OPEN:
            self.state = LogState.DAMAGED

    def _refusal(self) -> StreamerError:
        if self.state is LogState.STOPPED:
            return PartitionStopped(f"{self.path} takes no writes: {self.stopped_by}")
        first = self.damage[0]
        # What a read ran into tells the whole story by itself.
        what = first.reason
        if first.file != self.path:
            what = f"{first.file} is damaged from byte {first.position} on ({what})"
        return PartitionDamaged(
            f"{self.path} takes no writes: {what}",
            first=first.first_offset,
            next=first.next_offset,
        )

    # ------------------------------------------------------------------------------ sync, close

    def plan_sync(self) -> SyncPlan | None:
        """Decide what is to be synced; None where all is durable, or nothing can be done."""
        if self.state is not LogState.OPEN or self.durable_offset == self.next_offset:
            return None
        assert self._under_way is None, "one plan that writes at a time"
        plan = SyncPlan(self.path, self._file, self.next_offset, self._rewrite)
        self._under_way = plan
        return plan

    def synced(self, plan: SyncPlan) -> None:
        """Take note that the plan was run."""
        assert plan is self._under_way
        self._under_way = None
        if plan.rewrite is not None:
            self._rewritten()
        self.durable_offset = plan.next_offset

    def plan_close(self) -> ClosePlan:
        """Decide how to close. The log takes no writes from now on, whether or not it is run.

        A plan that was never given back (its caller was cancelled) leaves unknown what was
        written: then there is no marker, and the next start recovers.
        """
        marker, active = None, self._active
        sound = self.state is LogState.OPEN and self._under_way is None
        if sound and active is not None and not self._marked and self._rewrite is None:
            marker = Marker(
                active.base_offset,
                active.end_offset,
                active.nbytes,
                self._vouched,
                active.to_bytes(),
                self.producers.snapshot(),
            )
        unsynced = sound and self.durable_offset < self.next_offset
        file, self._file = self._file, None
        if self.state is LogState.OPEN:
            self._stop("it was closed")
        return ClosePlan(self._files, self.path, file, unsynced, marker)

    # -------------------------------------------------------------------------------------- read

    def plan_read(self, offset: int, bytes_max: int) -> ReadPlan | None:
        """Decide what to read: whole batches from the one with `offset` on, of `bytes_max` in
        all or one that is larger. None where there is nothing yet: at the high-water mark, and
        in a tail that a start had no room to write again, up to its end.

        Raises:
            OffsetOutOfRange: below what is kept, or above what was written.
        """
        if self.high_water <= offset <= self.next_offset:
            return None
        first = self.first_offset
        if not first <= offset < self.high_water:
            raise out_of_range(offset, first, self.high_water)
        path, end_position, stop_offset, entry, segment = self._place(offset)
        return ReadPlan(
            self._files,
            path,
            end_position,
            stop_offset,
            offset,
            bytes_max,
            entry,
            self._indexes,
            segment,
            self._settings.index_bytes,
        )

    def _place(self, offset: int) -> tuple[str, int, int, tuple[int, int] | None, Segment | None]:
        """The segment that has a committed offset: its file, the first byte and the first offset
        behind it, and what tells where in it the offset is, an entry or the segment's index."""
        active = self._active
        if active is not None and offset >= active.base_offset:
            path = file_path(self.path, active.base_offset)
            return path, active.nbytes, self.high_water, self._active_entry(active, offset), None
        segment = self._sealed[bisect_right(self._bases, offset) - 1]
        return segment.path, segment.nbytes, segment.end_offset, None, segment

    def _active_entry(self, active: SparseIndex, offset: int) -> tuple[int, int]:
        recent = self._recent_offsets
        if recent and offset >= recent[0]:
            at = bisect_right(recent, offset) - 1
            return recent[at], self._recent_positions[at]
        return active.by_offset(offset)

    def plan_seek_time(self, timestamp_us: int) -> SeekPlan:
        """Decide where to look for the first batch with a record of `timestamp_us` or later."""
        stretch, active = None, self._active
        if active is not None and active.max_timestamp_us >= timestamp_us:
            path = file_path(self.path, active.base_offset)
            entry = active.by_time(timestamp_us)
            if entry[0] < self.high_water:
                stretch = Stretch(path, *entry, active.nbytes, self.high_water)
        return SeekPlan(
            self._files,
            timestamp_us,
            tuple(self._sealed),
            self._indexes,
            stretch,
            self.high_water,
        )

    def plan_scrub(self) -> Scrub:
        """Begin to look through all that is committed now."""
        sealed = [
            Stretch(each.path, each.base_offset, 0, each.nbytes, each.end_offset)
            for each in self._sealed
        ]
        active = self._active
        if active is not None and self.high_water > active.base_offset:
            path = file_path(self.path, active.base_offset)
            sealed.append(Stretch(path, active.base_offset, 0, active.nbytes, self.high_water))
        return Scrub(self._files, deque(sealed))

    def plan_survey(self, question: Question) -> SurveyPlan | None:
        """Decide where to look over a piece for what is missing; None at the high-water mark.

        Raises:
            OffsetOutOfRange: below what is kept, or above what was written.
        """
        offset, first = question.offset, self.first_offset
        if self.high_water <= offset <= self.next_offset:
            return None
        if not first <= offset < self.high_water:
            raise out_of_range(offset, first, self.high_water)
        path, end_position, stop_offset, entry, segment = self._place(offset)
        return SurveyPlan(
            self._files, question, path, end_position, stop_offset, entry, self._indexes, segment
        )

    # --------------------------------------------------------------------------------- retention

    def plan_retention(self, now_us: int, floor: int | None) -> RetentionPlan | None:
        """Decide which sealed segments may go: by size the oldest, as long as at least
        `retention_bytes` are left, and by age those whose last batch is too old; none that has
        an offset from `floor` on. None where there is nothing to do.
        """
        sealed = self._sealed
        if self._rewrite is not None:
            # Its file still has the tail that could not be written again yet.
            sealed = [segment for segment in sealed if segment.path != self._rewrite.source]
        return choose(
            self._files,
            self.path,
            self._indexes,
            self._settings,
            sealed,
            self.nbytes,
            now_us,
            floor,
        )

    def retained(self, plan: RetentionPlan) -> None:
        """Take note of what the plan removed; also after its `run` failed."""
        gone = len(plan.removed)
        assert plan.removed == self._sealed[:gone], "one plan of retention at a time"
        for segment in plan.removed:
            self._sealed_bytes -= segment.nbytes
            self._indexes.drop(segment.base_offset)
        del self._sealed[:gone], self._bases[:gone]


def _end_of(damage: DamagedRange) -> int:
    return OFFSET_MAX if damage.next_offset is None else damage.next_offset
