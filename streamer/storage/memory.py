"""A partition's log that is kept in memory: bounded, never on the disk, gone with the process.

Rules:
- It decides and gives out plans as `partition.PartitionLog` does, but all that they have to do is
  done when they are made or given back: they may be run on the event loop.
- Above `memory_bytes` the oldest whole batches leave, whoever still needs them, and are counted.
  The newest one always stays, however large it is.
- A batch is copied on its way in: what a session received it in is often larger, and would be
  held as long as the batch.
- Nothing of it is ever durable: `durable_offset` stays 0.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

from streamer.errors import PartitionDamaged, PartitionStopped
from streamer.storage.partition import Entry, LogSettings, LogState
from streamer.storage.producers import ProducerTable
from streamer.storage.read import ReadResult, out_of_range
from streamer.storage.recovery import DamagedRange, RecoveryReport
from streamer.storage.survey import Piece, Question

T = TypeVar("T")

#: What a batch takes besides its bytes: an object, a pointer to it, and four columns.
BATCH_OVERHEAD_BYTES = 80
#: So many places of batches that have left are kept before all of them are cleared away.
_GONE_MAX = 1024
#: Below every timestamp that a header can hold.
_NO_TIME = -(2**63)


@attrs.frozen(eq=False)
class Known(Generic[T]):
    """A plan whose outcome is known."""

    value: T

    def run(self) -> T:
        return self.value


@attrs.frozen(eq=False)
class MemoryAppend:
    """Batches to append. `run` has nothing to do, and cannot fail."""

    entries: tuple[Entry, ...]
    next_offset: int

    def run(self, sync: bool) -> None:
        """Do nothing; `sync` has no meaning here."""


@attrs.frozen(eq=False)
class Expiry:
    """The batches below `offset` are too old; `retained` lets go of them."""

    offset: int

    def run(self) -> None:
        """Do nothing: there are no files to remove."""


class MemoryLog:
    """The log of one partition, in memory. It begins empty, at offset 0."""

    in_memory = True
    #: There are no files.
    segment_count = 0

    def __init__(self, path: str, settings: LogSettings) -> None:
        """`path` is what messages call it. Of the settings, those of segments mean nothing."""
        self.path = path
        self.state = LogState.OPEN
        self.stopped_by = ""
        self.recovery = RecoveryReport(clean=True, cut=(), damage=(), segments=0, rewritten_bytes=0)
        self.damage: tuple[DamagedRange, ...] = ()
        self.first_offset = 0
        self.next_offset = 0
        self.high_water = 0
        self.durable_offset = 0
        #: Records that left for want of room.
        self.dropped = 0
        #: Bytes of the batches that are kept.
        self.nbytes = 0
        #: The committed view. Not to be changed from outside.
        self.producers = ProducerTable(settings.producers)
        self._settings = settings
        self._under_way: object | None = None
        # One place a batch, oldest first; those before `_gone` have left. `_latest` is the
        # greatest timestamp so far: it never falls, so that it can be searched by halves.
        self._gone = 0
        self._blobs: list[bytes] = []
        self._bases = array("Q")
        self._times = array("q")
        self._latest = array("q")
        self._appended = array("q")

    # ------------------------------------------------------------------------------------ append

    def check_writable(self) -> None:
        """Refuse early what `plan_append` would refuse.

        Raises:
            PartitionStopped: it was closed.
        """
        if self.state is not LogState.OPEN:
            raise PartitionStopped(f"{self.path} takes no writes: {self.stopped_by}")

    def plan_append(self, entries: Sequence[Entry]) -> MemoryAppend:
        """Take the entries, which begin at `next_offset` and leave no gap.

        Raises:
            PartitionStopped: it was closed.
        """
        self.check_writable()
        assert self._under_way is None, "one plan that writes at a time"
        assert entries, "an append has entries"
        expected = self.next_offset
        for entry in entries:
            header = entry.batch.header
            assert header.base_offset == expected, "entries begin at next_offset, without a gap"
            expected += header.count
        plan = MemoryAppend(tuple(entries), expected)
        self._under_way = plan
        return plan

    def committed(self, plan: MemoryAppend) -> None:
        """Its batches can be read from now on; what there is no room for any more has left."""
        assert plan is self._under_way
        self._under_way = None
        latest = self._latest[-1] if self._latest else _NO_TIME
        for entry in plan.entries:
            batch, header = entry.batch, entry.batch.header
            latest = max(latest, header.max_timestamp_us)
            self._blobs.append(b"".join((batch.head, batch.payload)))
            self._bases.append(header.base_offset)
            self._times.append(header.max_timestamp_us)
            self._latest.append(latest)
            self._appended.append(header.append_time_us)
            self.nbytes += batch.nbytes
            for stamp, count, base_offset in entry.stamps:
                self.producers.record(stamp, count, base_offset)
        self.next_offset = self.high_water = plan.next_offset
        self._make_room()

    def failed(self, plan: MemoryAppend, error: Exception) -> None:
        """The plan is not carried out: nothing has happened."""
        assert plan is self._under_way
        self._under_way = None

    def abandoned(self, reason: str) -> None:
        """Whoever had a plan is gone: what was not given back was not appended, for certain."""
        self._under_way = None

    def note_damage(self, error: PartitionDamaged) -> None:
        raise AssertionError(f"nothing read from memory is damaged: {error}")

    # ------------------------------------------------------------------------------- letting go

    def _make_room(self) -> None:
        """Drop the oldest batches while there are too many bytes, but for the newest one."""
        excess = self.nbytes - self._settings.memory_bytes
        excess += BATCH_OVERHEAD_BYTES * (len(self._blobs) - self._gone)
        at, last = self._gone, len(self._blobs) - 1
        while excess > 0 and at < last:
            excess -= len(self._blobs[at]) + BATCH_OVERHEAD_BYTES
            at += 1
        before = self.first_offset
        self._let_go(at)
        self.dropped += self.first_offset - before

    def _let_go(self, behind: int) -> None:
        """Let go of the batches before the place `behind`."""
        for at in range(self._gone, behind):
            self.nbytes -= len(self._blobs[at])
            self._blobs[at] = b""
        self._gone = behind
        self.first_offset = self.next_offset if behind == len(self._bases) else self._bases[behind]
        # Rarely, and never more than there is left: so a batch costs the same however many
        # there are.
        if behind > _GONE_MAX and behind * 2 > len(self._blobs):
            for column in (self._bases, self._times, self._latest, self._appended):
                del column[:behind]
            del self._blobs[:behind]
            self._gone = 0

    def plan_retention(self, now_us: int, floor: int | None) -> Expiry | None:
        """Decide which batches are too old, none that has an offset from `floor` on. What they
        may take is looked after by each append, and heeds no floor."""
        keep_s, at = self._settings.retention_s, self._gone
        if keep_s is None:
            return None
        before_us, end = now_us - int(keep_s * 1e6), len(self._blobs)
        while at < end and self._appended[at] < before_us:
            if floor is not None and self._end_of(at) > floor:
                break
            at += 1
        return None if at == self._gone else Expiry(self._end_of(at - 1))

    def retained(self, plan: Expiry) -> None:
        """Let go of what the plan says; some may have been dropped since."""
        self._let_go(max(self._gone, bisect_left(self._bases, plan.offset)))

    def _end_of(self, at: int) -> int:
        return self._bases[at + 1] if at + 1 < len(self._bases) else self.next_offset

    # -------------------------------------------------------------------------------------- read

    def plan_read(self, offset: int, bytes_max: int) -> Known[ReadResult] | None:
        """Whole batches from the one with `offset` on, of `bytes_max` in all or one that is
        larger; None at the high-water mark.

        Raises:
            OffsetOutOfRange: it has left, or is above the high-water mark.
        """
        if offset == self.next_offset:
            return None
        if not self.first_offset <= offset < self.next_offset:
            raise out_of_range(offset, self.first_offset, self.high_water)
        first = at = bisect_right(self._bases, offset, lo=self._gone) - 1
        room, end = bytes_max - len(self._blobs[at]), len(self._blobs)
        at += 1
        while at < end and len(self._blobs[at]) <= room:
            room -= len(self._blobs[at])
            at += 1
        blob = b"".join(self._blobs[first:at])
        return Known(ReadResult(blob, self._bases[first], self._end_of(at - 1)))

    def plan_seek_time(self, timestamp_us: int) -> Known[int]:
        """The first batch with a record of `timestamp_us` or later; the high-water mark if there
        is none."""
        at, end = bisect_left(self._latest, timestamp_us, lo=self._gone), len(self._blobs)
        # The first that is left may only follow a later one that has left.
        while at < end and self._times[at] < timestamp_us:
            at += 1
        return Known(self._bases[at] if at < end else self.high_water)

    def plan_scrub(self) -> None:
        """There is nothing that goes bad unnoticed."""
        return

    def plan_survey(self, question: Question) -> Known[Piece] | None:
        """A piece of what is there: of memory nothing is missing, but there may be silences.

        Raises:
            OffsetOutOfRange: it has left, or is above the high-water mark.
        """
        offset = question.offset
        if offset == self.next_offset:
            return None
        if not self.first_offset <= offset < self.next_offset:
            raise out_of_range(offset, self.first_offset, self.high_water)
        piece, at = Piece.begun(question), bisect_right(self._bases, offset, lo=self._gone) - 1
        while at < len(self._blobs) and not piece.full:
            base, appended_us = self._bases[at], self._appended[at]
            piece.add(base, self._end_of(at) - base, len(self._blobs[at]), appended_us)
            at += 1
        return Known(piece)

    # ------------------------------------------------------------------------------ sync, close

    def plan_sync(self) -> None:
        """There is nothing to sync."""
        return

    def synced(self, plan: object) -> None:
        raise AssertionError("a log in memory gives out no plan that syncs")

    def plan_close(self) -> Known[None]:
        """Take no writes from now on."""
        self.state, self.stopped_by = LogState.STOPPED, "it was closed"
        return Known(None)
