"""Looking over a log for what is missing of it, by its headers, a piece at a time.

Rules:

- A piece is a bounded number of batches of one segment, so that neither its caller nor the disk is
  held up; where it ends, the next one begins. No state is kept in between: the offset is all.
- Headers tell that offsets follow each other, and when they were appended; the payloads between
  them are not even read. Only on request is every byte checked, as a scrub does.
- Damage is an error that says what a reader would be told.
"""

from __future__ import annotations

import attrs

from streamer.errors import Aborted, OffsetOutOfRange, PartitionDamaged, StorageError
from streamer.limits import KIB, MIB
from streamer.storage.files import NO_HANDLES, Files
from streamer.storage.frames import Gap, Window, walk
from streamer.storage.read import damaged
from streamer.storage.segment import IndexCache, Segment

#: Batches of a piece; a millisecond or two of work.
BATCHES_MAX = 1000
#: Bytes of a piece, where all of them are read, and its batches: to check one takes longer.
_BYTES_MAX = 1 * MIB
_CHECKED_MAX = 200
#: Findings of a piece.
_FINDINGS_MAX = 256
#: What is read round a header: small batches share one read, large ones are leapt over.
_WINDOW_BYTES = 64 * KIB


@attrs.frozen
class Question:
    """What to look at, and for what.

    `offset` is where to begin; `last_us` the append time of the batch before it, if that is known;
    pauses between appends that are longer than `silence_us` are found, none if it is 0. With
    `payloads` every byte is checked. Times in microseconds.
    """

    offset: int
    last_us: int | None = None
    silence_us: int = 0
    payloads: bool = False


@attrs.frozen
class Silence:
    """Nothing was appended from `from_us` to `to_us`, when the batch of `offset` came."""

    offset: int
    from_us: int
    to_us: int


@attrs.define
class Piece:
    """What was found, and where to go on: at `offset`, unless that is the high-water mark."""

    question: Question
    offset: int
    last_us: int | None
    batches: int = 0
    records: int = 0
    nbytes: int = 0
    damage: list[PartitionDamaged] = attrs.Factory(list)
    silences: list[Silence] = attrs.Factory(list)

    @classmethod
    def begun(cls, question: Question) -> Piece:
        return cls(question, question.offset, question.last_us)

    def add(self, base_offset: int, count: int, nbytes: int, append_time_us: int) -> None:
        """A batch is there."""
        silence_us = self.question.silence_us
        if silence_us and self.last_us is not None and append_time_us - self.last_us > silence_us:
            self.silences.append(Silence(base_offset, self.last_us, append_time_us))
        self.offset, self.last_us = base_offset + count, append_time_us
        self.batches += 1
        self.records += count
        self.nbytes += nbytes

    @property
    def full(self) -> bool:
        """Whether the piece is to end here."""
        return (
            self.batches >= (_CHECKED_MAX if self.question.payloads else BATCHES_MAX)
            or (self.question.payloads and self.nbytes >= _BYTES_MAX)
            or len(self.damage) + len(self.silences) >= _FINDINGS_MAX
        )


@attrs.frozen(eq=False)
class SurveyPlan:
    """Looks over a piece of one segment."""

    files: Files
    question: Question
    path: str
    end_position: int
    stop_offset: int
    #: A batch at or before the offset that was asked for; None: ask the index.
    entry: tuple[int, int] | None
    indexes: IndexCache
    segment: Segment | None

    def run(self) -> Piece:
        """Look.

        Raises:
            OffsetOutOfRange: retention has just removed it.
            Aborted: no file handle to be had; trying again may help.
            StorageError: the disk is at fault.
        """
        try:
            return self._look()
        except FileNotFoundError as error:
            offset = self.question.offset
            raise OffsetOutOfRange(f"offset {offset} has been removed", offset=offset) from error
        except OSError as error:
            reason = error.strerror or error
            if error.errno in NO_HANDLES:
                raise Aborted(f"{self.path}: no file handle: {reason}") from error
            raise StorageError(f"{self.path}: read failed: {reason}") from error

    def _look(self) -> Piece:
        if self.entry is not None:
            expected, position = self.entry
        else:
            assert self.segment is not None
            expected, position = self.indexes.get(self.segment).by_offset(self.question.offset)
        piece, payloads = Piece.begun(self.question), self.question.payloads
        file = self.files.open_read(self.path)
        try:
            # A file that has become shorter ends before its segment does, which is a gap too.
            size = min(file.size(), self.end_position)
            window = Window(file, size, _BYTES_MAX if payloads else _WINDOW_BYTES)
            for item in walk(window, position, expected, self.stop_offset, payloads=payloads):
                if isinstance(item, Gap):
                    self._damaged(item, piece)
                elif item[1].next_offset > self.question.offset:
                    frame = item[1]
                    piece.add(frame.base_offset, frame.count, frame.length, frame.append_time_us)
                if piece.full:
                    break
        finally:
            file.close()
        return piece

    def _damaged(self, gap: Gap, piece: Piece) -> None:
        behind = self.stop_offset if gap.next_offset is None else gap.next_offset
        if behind > piece.offset:
            error = damaged(self.path, gap.position, gap.reason, gap.first_offset, behind)
            piece.damage.append(error)
            piece.offset = behind
