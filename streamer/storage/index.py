"""Where in a segment an offset or a time is: one entry for each so many bytes.

An entry is (offset, position, time): the batch of `offset` begins at byte `position`, and no
batch before it has a max timestamp above `time`. Batches behind an entry are reached by hopping
over headers, so a finer index costs memory and a coarser one costs hops. The greatest timestamp
so far never falls, so both columns can be searched by halves although producers' clocks disagree.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Any

from streamer.errors import StorageDamaged
from streamer.storage import sidecar
from streamer.storage.frames import Frame

_KIND = "index"
#: Below every timestamp that a header can hold.
_NO_TIME = -(2**63)


class SparseIndex:
    """The entries of one segment, with what else one wants to know of it without reading it.

    `end_offset` and `nbytes` are where the segment ends, `max_timestamp_us` the greatest in it,
    `append_time_us` the daemon's own time of its last batch (None while it is empty).
    """

    __slots__ = (
        "_every_bytes",
        "_next_entry_at",
        "_offsets",
        "_positions",
        "_times",
        "append_time_us",
        "base_offset",
        "end_offset",
        "max_timestamp_us",
        "nbytes",
    )

    def __init__(self, base_offset: int, every_bytes: int) -> None:
        self.base_offset = base_offset
        self.end_offset = base_offset
        self.nbytes = 0
        self.max_timestamp_us = _NO_TIME
        self.append_time_us: int | None = None
        self._every_bytes = every_bytes
        self._next_entry_at = every_bytes
        self._offsets = array("Q", [base_offset])
        self._positions = array("Q", [0])
        self._times = array("q", [_NO_TIME])

    def add(self, length: int, count: int, max_timestamp_us: int, append_time_us: int) -> None:
        """Note the batch that was appended at the end."""
        if self.nbytes >= self._next_entry_at:
            self._offsets.append(self.end_offset)
            self._positions.append(self.nbytes)
            self._times.append(self.max_timestamp_us)
            self._next_entry_at = self.nbytes + self._every_bytes
        self.nbytes += length
        self.end_offset += count
        self.append_time_us = append_time_us
        if max_timestamp_us > self.max_timestamp_us:
            self.max_timestamp_us = max_timestamp_us

    def add_frame(self, frame: Frame) -> None:
        self.add(frame.length, frame.count, frame.max_timestamp_us, frame.append_time_us)

    def skip(self, end_offset: int, nbytes: int) -> None:
        """Note that what stands between the end and there is damaged."""
        self.end_offset = end_offset
        self.nbytes = nbytes
        # The next batch gets an entry, so that nobody has to hop over the damage to reach it.
        self._next_entry_at = nbytes

    def by_offset(self, offset: int) -> tuple[int, int]:
        """(offset, position) of the last entry that is not above `offset`."""
        at = bisect_right(self._offsets, offset) - 1
        return self._offsets[at], self._positions[at]

    def by_time(self, timestamp_us: int) -> tuple[int, int]:
        """(offset, position) of the last entry before which every batch is of an earlier time."""
        at = bisect_left(self._times, timestamp_us) - 1
        return self._offsets[max(at, 0)], self._positions[max(at, 0)]

    def __len__(self) -> int:
        return len(self._offsets)

    # --------------------------------------------------------------------------------- sidecar

    def to_bytes(self) -> bytes:
        return sidecar.pack(
            _KIND,
            {
                "base": self.base_offset,
                "end": self.end_offset,
                "nbytes": self.nbytes,
                "max": self.max_timestamp_us,
                "appended": self.append_time_us,
                "offsets": _packed(self._offsets),
                "positions": _packed(self._positions),
                "times": _packed(self._times),
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes, every_bytes: int) -> SparseIndex:
        """Read a sidecar.

        Raises:
            StorageDamaged: it is none, or its parts contradict each other.
        """
        content = sidecar.unpack(_KIND, data)
        try:
            index = cls(_whole(content["base"]), every_bytes)
            index.end_offset = _whole(content["end"])
            index.nbytes = _whole(content["nbytes"])
            index.max_timestamp_us = int(content["max"])
            appended = content["appended"]
            index.append_time_us = None if appended is None else int(appended)
            index._offsets = _unpacked("Q", content["offsets"])
            index._positions = _unpacked("Q", content["positions"])
            index._times = _unpacked("q", content["times"])
        except (KeyError, TypeError, ValueError) as error:
            raise StorageDamaged(f"index file with a bad field: {error!r}") from error
        sizes = {len(index._offsets), len(index._positions), len(index._times)}
        if len(sizes) != 1 or index._offsets[0] != index.base_offset or index._positions[0]:
            raise StorageDamaged("index file whose columns contradict each other")
        index._next_entry_at = index._positions[-1] + every_bytes
        return index


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(value)
    return value


def _packed(column: array[int]) -> bytes:
    return column.tobytes()


def _unpacked(kind: str, data: Any) -> array[int]:
    column: array[int] = array(kind)
    column.frombytes(data)
    if not column:
        raise ValueError("empty column")
    return column
