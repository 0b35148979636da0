"""Who wrote what last: what makes an append that is sent twice be in the log once.

Rules:
- A producer is remembered for as long as it is among the last `max_producers` that appended; time
  plays no part, so a producer that sleeps for a week may still resume.
- Sequences run on across epochs. An epoch only fences: an append of an older one is refused.
- A duplicate is told its original offset where that is still remembered: of each producer the
  last `ranges` runs of records, contiguous in sequence and in offset, are kept.
- Producer id 0 is "not idempotent": never checked, never remembered.
"""

from __future__ import annotations

import struct
from array import array

import attrs

from streamer.errors import Fenced, OutOfSequence, ProducerUnknown, StorageDamaged
from streamer.records import ProducerStamp

RANGES = 64
#: version, number of producers; then for each: id, epoch, number of runs, and its runs.
_HEAD = struct.Struct("<II")
_PRODUCER = struct.Struct("<QII")
_VERSION = 1
#: A run is three numbers: first sequence, first offset, count.
_RUN = 3
_RUN_BYTES = 8 * _RUN


@attrs.frozen
class DuplicateOf:
    """The append was committed before; `offset` is its first record's, -1 if forgotten."""

    offset: int


class _Producer:
    __slots__ = ("epoch", "runs")

    def __init__(self, epoch: int, runs: array[int]) -> None:
        self.epoch = epoch
        self.runs = runs

    @property
    def next_sequence(self) -> int:
        return self.runs[-3] + self.runs[-1]


class ProducerTable:
    """What one partition remembers of its producers."""

    def __init__(self, max_producers: int, ranges: int = RANGES) -> None:
        assert max_producers > 0
        assert ranges > 0
        self._max_producers = max_producers
        self._numbers_max = ranges * _RUN
        #: Least recently appended first.
        self._producers: dict[int, _Producer] = {}

    def __len__(self) -> int:
        return len(self._producers)

    def __contains__(self, producer_id: int) -> bool:
        return producer_id in self._producers

    def check(self, stamp: ProducerStamp, count: int) -> DuplicateOf | None:
        """Judge an append of `count` records from `stamp.sequence` on; None: it is new.

        Raises:
            Fenced: a newer epoch has appended.
            OutOfSequence: records before it are missing, or only part of it was committed.
            ProducerUnknown: nothing is known of this producer, yet it does not start at 0.
        """
        if not stamp.producer_id:
            return None
        sequence, known = stamp.sequence, self._producers.get(stamp.producer_id)
        if known is None:
            if sequence:
                raise ProducerUnknown(
                    f"producer {stamp.producer_id} is not remembered here and sends sequence"
                    f" {sequence}, not 0",
                    sequence=sequence,
                )
            return None
        if stamp.epoch < known.epoch:
            raise Fenced(
                f"producer {stamp.producer_id} of epoch {stamp.epoch}, epoch {known.epoch} has"
                " taken over",
                epoch=known.epoch,
            )
        expected = known.next_sequence
        if sequence == expected:
            return None
        if sequence + count <= expected:
            return DuplicateOf(_original(known.runs, sequence, count))
        raise OutOfSequence(
            f"producer {stamp.producer_id} sends sequences {sequence} to {sequence + count - 1},"
            f" expected is {expected}",
            expected=expected,
            sequence=sequence,
        )

    def record(self, stamp: ProducerStamp, count: int, base_offset: int) -> None:
        """Note a committed append."""
        if not stamp.producer_id:
            return
        known = self._producers.pop(stamp.producer_id, None)
        if known is None:
            known = _Producer(stamp.epoch, array("Q", (stamp.sequence, base_offset, count)))
            if len(self._producers) >= self._max_producers:
                del self._producers[next(iter(self._producers))]
        else:
            known.epoch = stamp.epoch
            runs = known.runs
            if runs[-3] + runs[-1] == stamp.sequence and runs[-2] + runs[-1] == base_offset:
                runs[-1] += count
            else:
                if len(runs) >= self._numbers_max:
                    del runs[:_RUN]
                runs.extend((stamp.sequence, base_offset, count))
        self._producers[stamp.producer_id] = known

    def last(self, producer_id: int) -> tuple[int, int, int] | None:
        """(epoch, last sequence, its offset), or None where nothing is remembered."""
        known = self._producers.get(producer_id)
        if known is None:
            return None
        sequence, offset, count = known.runs[-_RUN:]
        return known.epoch, sequence + count - 1, offset + count - 1

    def copy(self) -> ProducerTable:
        """A table of its own with the same content."""
        twin = ProducerTable(self._max_producers, self._numbers_max // _RUN)
        twin._producers = {
            producer_id: _Producer(known.epoch, known.runs[:])
            for producer_id, known in self._producers.items()
        }
        return twin

    # -------------------------------------------------------------------------------- snapshot

    def snapshot(self) -> bytes:
        """The content, for `restore`; without a checksum, which the file around it has."""
        parts = [_HEAD.pack(_VERSION, len(self._producers))]
        for producer_id, known in self._producers.items():
            parts.append(_PRODUCER.pack(producer_id, known.epoch, len(known.runs) // _RUN))
            parts.append(known.runs.tobytes())
        return b"".join(parts)

    def restore(self, data: bytes) -> None:
        """Take on the content of a snapshot, the last ones that there is room for.

        Raises:
            StorageDamaged: it is no snapshot; the table is left as it was.
        """
        producers: dict[int, _Producer] = {}
        try:
            version, count = _HEAD.unpack_from(data)
            at = _HEAD.size
            for _ in range(count):
                producer_id, epoch, runs_count = _PRODUCER.unpack_from(data, at)
                at += _PRODUCER.size
                runs = array("Q", data[at : at + runs_count * _RUN_BYTES])
                at += runs_count * _RUN_BYTES
                if not runs_count or len(runs) != runs_count * _RUN:
                    raise StorageDamaged("producer snapshot with a run that is cut short")
                producers[producer_id] = _Producer(epoch, runs[-self._numbers_max :])
        except (struct.error, ValueError) as error:
            raise StorageDamaged(f"producer snapshot that does not unpack: {error}") from error
        if version != _VERSION or at != len(data):
            raise StorageDamaged(f"producer snapshot of version {version}, {len(data)} bytes")
        excess = max(0, len(producers) - self._max_producers)
        for producer_id in list(producers)[:excess]:
            del producers[producer_id]
        self._producers = producers


def _original(runs: array[int], sequence: int, count: int) -> int:
    """The offset of `sequence`, if one remembered run has all `count` records from there on."""
    for at in range(len(runs) - _RUN, -1, -_RUN):
        first, offset, length = runs[at : at + _RUN]
        if first <= sequence:
            inside = sequence - first
            return offset + inside if inside + count <= length else -1
    return -1
