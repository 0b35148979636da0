"""One file of a log, and what is known of it without reading it.

A segment's file is named by its base offset and holds frames back to back. It ends where the next
segment begins, whatever its file has behind that: this one rule is what makes each step of a roll
and of a recovery interruptible. Every segment but the last is sealed: it was durable, whole, before
the next one was made, and is never written again.

Beside a sealed `N.log` stand `N.index` and `N.producers`, the producer table as of the segment's
END. Both are only caches of the log: missing, bad or stale ones are made again from it. The last
segment may have an `N.producers` too, of some offset in it: a checkpoint, without which a start
would have to decode every batch of the segment that the daemon grouped.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

import attrs

from streamer.errors import StorageDamaged
from streamer.limits import MIB, BatchLimits
from streamer.storage import sidecar
from streamer.storage.files import TMP_SUFFIX, Files, new_file, no_room
from streamer.storage.frames import Gap, Window, walk
from streamer.storage.index import SparseIndex
from streamer.storage.producers import ProducerTable

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
PRODUCERS_SUFFIX = ".producers"

_NAME = re.compile(r"([0-9]{20})(\.log|\.index|\.producers)")
_PRODUCERS_KIND = "producers"


@attrs.frozen
class LogSettings:
    """How one partition's log is kept.

    `index_bytes` is the distance of index entries; `retention_bytes` and `retention_s` bound what
    is kept (None: for ever), in whole segments; `producers` is how many are remembered, and
    `checkpoint_records` after how many idempotent appends they are written down in between. After
    an unclean stop a last segment of which up to `rewrite_whole_bytes` are proven is written again
    whole: that replaces its file, where a new segment each time would leave many small ones.
    `memory_bytes` bounds a log that is kept in memory; of the others it needs only `retention_s`
    and `producers`.
    """

    segment_bytes: int = 64 * MIB
    index_bytes: int = 64 * 1024
    retention_bytes: int | None = None
    retention_s: float | None = None
    producers: int = 10_000
    checkpoint_records: int = 100_000
    rewrite_whole_bytes: int = 1 * MIB
    limits: BatchLimits = attrs.field(factory=BatchLimits)
    memory_bytes: int = 64 * MIB


@attrs.define(eq=False)
class Segment:
    """A sealed segment. `max_timestamp_us` and `append_time_us` are None until its index was read:
    the greatest timestamp in it, and the daemon's own time of its last batch."""

    path: str
    base_offset: int
    end_offset: int
    nbytes: int
    max_timestamp_us: int | None = None
    append_time_us: int | None = None


def file_path(directory: str, base_offset: int, suffix: str = LOG_SUFFIX) -> str:
    return f"{directory}/{base_offset:020d}{suffix}"


def parse_name(name: str) -> tuple[int, str] | None:
    """(base offset, suffix) of a file that belongs to a segment, None for any other."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def sidecar_path(segment_path: str, suffix: str) -> str:
    return segment_path.removesuffix(LOG_SUFFIX) + suffix


def list_segments(files: Files, path: str) -> list[Segment]:
    """The partition's segments in order; what a crash has left over is removed."""
    names = files.listdir(path)
    parsed = [(name, parse_name(name)) for name in names]
    bases = sorted(found[0] for _, found in parsed if found and found[1] == LOG_SUFFIX)
    known = set(bases)
    left = [
        name
        for name, found in parsed
        if name.endswith(TMP_SUFFIX) or (found and found[0] not in known)
    ]
    for name in left:
        files.unlink(f"{path}/{name}")
    if left:
        # None may come back beside a log that is made again under the same name.
        files.sync_dir(path)
    paths = [file_path(path, base) for base in bases]
    ends = [*bases[1:], -1][: len(bases)]
    return [
        Segment(where, base, end, files.size(where))
        for where, base, end in zip(paths, bases, ends, strict=False)
    ]


# ------------------------------------------------------------------------------------- sidecars


def write_sidecars(
    files: Files, segment_path: str, index: SparseIndex, producers: ProducerTable
) -> None:
    """Write both, durably; a full disk is no reason to fail, since the log can replace them.

    Raises:
        OSError: the disk is at fault.
    """
    try:
        path = sidecar_path(segment_path, PRODUCERS_SUFFIX)
        files.replace(path, _pack_producers(index.end_offset, producers))
        files.replace(sidecar_path(segment_path, INDEX_SUFFIX), index.to_bytes())
    except OSError as error:
        if not no_room(error):
            raise


def write_checkpoint(
    files: Files, segment_path: str, end_offset: int, producers: ProducerTable
) -> None:
    """Write the producers as of `end_offset`. Not synced: it saves time after a process died, and
    after a power cut it is there or not. A full disk is no reason to fail.

    Raises:
        OSError: the disk is at fault.
    """
    path = sidecar_path(segment_path, PRODUCERS_SUFFIX)
    try:
        with new_file(files, path) as file:
            file.write_at(0, [_pack_producers(end_offset, producers)])
    except OSError as error:
        if not no_room(error):
            raise


def _pack_producers(end_offset: int, producers: ProducerTable) -> bytes:
    content = {"end": end_offset, "producers": producers.snapshot()}
    return sidecar.pack(_PRODUCERS_KIND, content)


def parse_producers(data: bytes, table: ProducerTable) -> int:
    """Fill the table from a sidecar's bytes; the offset as of which it is.

    Raises:
        StorageDamaged: it is none.
    """
    content = sidecar.unpack(_PRODUCERS_KIND, data)
    end, snapshot = content.get("end"), content.get("producers")
    if type(end) is not int or not isinstance(snapshot, bytes):
        raise StorageDamaged("producers file with a bad field")
    table.restore(snapshot)
    return end


def read_producers(
    files: Files, segment: Segment, settings: LogSettings
) -> tuple[int, ProducerTable] | None:
    """What the sidecar says: (as of which offset, the table), or None where it says nothing."""
    table = ProducerTable(settings.producers)
    try:
        data = files.read(sidecar_path(segment.path, PRODUCERS_SUFFIX))
        return parse_producers(data, table), table
    except (OSError, StorageDamaged):
        return None


def read_index(files: Files, segment: Segment, every_bytes: int) -> SparseIndex:
    """The segment's index: from its sidecar, else from its headers.

    Raises:
        OSError: the segment cannot be read.
    """
    try:
        data = files.read(sidecar_path(segment.path, INDEX_SUFFIX))
        index = SparseIndex.from_bytes(data, every_bytes)
        if (
            index.base_offset == segment.base_offset
            and index.end_offset == segment.end_offset
            and index.nbytes <= segment.nbytes
        ):
            return index
    except (OSError, StorageDamaged):
        pass
    return build_index(files, segment, every_bytes)


def build_index(files: Files, segment: Segment, every_bytes: int) -> SparseIndex:
    """Make the index from the headers; what is damaged is left out."""
    index = SparseIndex(segment.base_offset, every_bytes)
    file = files.open_read(segment.path)
    try:
        window = Window(file, file.size())
        found = walk(window, 0, segment.base_offset, segment.end_offset, payloads=False)
        for item in found:
            if isinstance(item, Gap):
                index.skip(item.next_offset or segment.end_offset, item.position + item.nbytes)
            else:
                index.add_frame(item[1])
    finally:
        file.close()
    return index


class IndexCache:
    """The indexes of sealed segments, read when first asked for, the last used ones kept.

    The one object of a log that its plans change, from worker threads: it caches what never
    changes, under a lock.
    """

    def __init__(self, files: Files, every_bytes: int, indexes_max: int = 64) -> None:
        self._files = files
        self._every_bytes = every_bytes
        self._indexes_max = indexes_max
        self._indexes: OrderedDict[int, SparseIndex] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, segment: Segment) -> SparseIndex:
        """The segment's index.

        Raises:
            OSError: the segment cannot be read.
        """
        with self._lock:
            index = self._indexes.get(segment.base_offset)
            if index is not None:
                self._indexes.move_to_end(segment.base_offset)
                return index
        index = read_index(self._files, segment, self._every_bytes)
        self.put(segment, index)
        return index

    def put(self, segment: Segment, index: SparseIndex) -> None:
        segment.max_timestamp_us = index.max_timestamp_us
        segment.append_time_us = index.append_time_us
        with self._lock:
            self._indexes[segment.base_offset] = index
            while len(self._indexes) > self._indexes_max:
                self._indexes.popitem(last=False)

    def drop(self, base_offset: int) -> None:
        with self._lock:
            self._indexes.pop(base_offset, None)
