"""The offline walk over every checksum of a data directory.

Rules:
- Read-only and without the lock: it works on a directory that a daemon is using, that is half
  written, or that no daemon would open. What grows meanwhile is looked at as it was found; what
  retention removes meanwhile is left out.
- Damage is told from a torn tail as recovery tells them (see `recovery`), so what is called torn
  here is what the next start will cut. On a live log that may be a write that is under way.
- Sidecars only repeat what a log says; a bad one is named, and harms nobody.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from urllib.parse import unquote

import attrs

from streamer.errors import StorageDamaged, StorageError
from streamer.limits import OFFSET_MAX
from streamer.storage.directory import (
    DICTIONARY_SUFFIX,
    META_NAME,
    STREAMS_NAME,
    StreamMeta,
    read_dictionary,
)
from streamer.storage.files import Files
from streamer.storage.frames import Gap, Window, walk
from streamer.storage.index import SparseIndex
from streamer.storage.marker import Marker, marker_path, read_marker
from streamer.storage.producers import ProducerTable
from streamer.storage.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    PRODUCERS_SUFFIX,
    file_path,
    parse_name,
    parse_producers,
)


class FindingKind(enum.StrEnum):
    #: Bytes that were durable are not whole.
    DAMAGE = "damage"
    #: The end of a log that no acknowledged sync has covered; the next start cuts it.
    TORN = "torn"
    #: A file beside a log that will be made again from it.
    SIDECAR = "sidecar"
    #: A stream's metadata or dictionary does not pass its checks.
    METADATA = "metadata"


@attrs.frozen
class Finding:
    """One thing that is not as it should be. `next_offset` is the first offset behind the range;
    both offsets are None where it is about no records, the second also where nothing tells."""

    kind: FindingKind
    stream: str
    partition: int | None
    file: str
    position: int
    nbytes: int
    first_offset: int | None
    next_offset: int | None
    reason: str

    @property
    def harmless(self) -> bool:
        return self.kind in (FindingKind.TORN, FindingKind.SIDECAR)


@attrs.frozen
class PartitionSummary:
    """What is whole in a partition, and how many findings there were."""

    stream: str
    partition: int
    segments: int
    batches: int
    records: int
    nbytes: int
    first_offset: int
    next_offset: int
    findings: int


def verify_directory(files: Files, path: str) -> Iterator[Finding | PartitionSummary]:
    """Walk over everything in the data directory at `path`: each partition's findings, then its
    summary.

    Raises:
        StorageError: it is no data directory, or the disk is at fault.
    """
    root = f"{path}/{STREAMS_NAME}"
    if not files.exists(root):
        raise StorageError(f"{path} is no data directory: it has no {STREAMS_NAME!r}")
    try:
        for entry in sorted(files.listdir(root)):
            yield from _verify_stream(files, f"{root}/{entry}", unquote(entry))
    except OSError as error:
        raise StorageError(f"{path}: {error}") from error


def verify_partition(
    files: Files, path: str, stream: str = "", number: int = 0
) -> Iterator[Finding | PartitionSummary]:
    """The same for the one partition whose log is in the directory `path`.

    Raises:
        OSError: the disk is at fault.
    """
    return _Partition(files, path, stream, number).verify()


def _verify_stream(files: Files, path: str, name: str) -> Iterator[Finding | PartitionSummary]:
    names = files.listdir(path)
    bad: list[tuple[str, str]] = []
    if META_NAME in names:
        try:
            name = StreamMeta.from_bytes(files.read(f"{path}/{META_NAME}")).name
        except StorageDamaged as error:
            bad.append((META_NAME, error.message))
    for entry in sorted(names):
        if entry.endswith(DICTIONARY_SUFFIX):
            try:
                read_dictionary(files, f"{path}/{entry}")
            except StorageDamaged as error:
                bad.append((entry, error.message))
    numbers = sorted(int(entry) for entry in names if entry.isdecimal())
    if META_NAME not in names and numbers:
        bad.append((META_NAME, "the file is gone"))
    for entry, reason in bad:
        where = f"{path}/{entry}"
        nbytes = files.size(where) if entry in names else 0
        kind = FindingKind.METADATA
        yield Finding(kind, name, None, where, 0, nbytes, None, None, reason)
    for number in numbers:
        yield from verify_partition(files, f"{path}/{number}", name, number)


@attrs.define(eq=False)
class _Partition:
    files: Files
    path: str
    stream: str
    number: int
    segments: int = 0
    batches: int = 0
    records: int = 0
    nbytes: int = 0
    first_offset: int = 0
    next_offset: int = 0
    findings: int = 0

    def verify(self) -> Iterator[Finding | PartitionSummary]:
        marker = read_marker(self.files, self.path)
        names = self.files.listdir(self.path)
        parsed = [found for found in map(parse_name, names) if found]
        bases = sorted(base for base, suffix in parsed if suffix == LOG_SUFFIX)
        self.first_offset = self.next_offset = bases[0] if bases else 0
        for base, end in zip(bases, [*bases[1:], None], strict=False):
            try:
                yield from self._segment(base, end, marker)
            except FileNotFoundError:
                continue
        if marker is not None and (not bases or bases[-1] < marker.base_offset):
            gone = file_path(self.path, marker.base_offset)
            offsets = self.next_offset, marker.end_offset
            yield self._finding(FindingKind.DAMAGE, gone, Gap(0, 0, *offsets, "the file is gone"))
        if marker is None and self.files.exists(marker_path(self.path)):
            yield self._sidecar(marker_path(self.path), "it does not pass its checks")
        yield PartitionSummary(
            self.stream,
            self.number,
            self.segments,
            self.batches,
            self.records,
            self.nbytes,
            self.first_offset,
            self.next_offset,
            self.findings,
        )

    def _segment(self, base: int, end: int | None, marker: Marker | None) -> Iterator[Finding]:
        """Walk over one segment; `end` is None for the last one, of which a marker may say where
        it ends."""
        path = file_path(self.path, base)
        file = self.files.open_read(path)
        try:
            size = file.size()
            durable = 0
            # A marker beside a longer log is one that is just being removed.
            if end is None and marker and marker.base_offset == base and size <= marker.nbytes:
                durable = marker.end_offset
            gaps, vouched = [], durable if end is None else OFFSET_MAX
            self.segments += 1
            self.next_offset = base
            for found in walk(Window(file, size), 0, base, end or (durable or None)):
                if isinstance(found, Gap):
                    gaps.append(found)
                    continue
                frame = found[1]
                self.batches += 1
                self.records += frame.count
                self.nbytes += frame.length
                self.next_offset = frame.next_offset
                vouched = max(vouched, min(frame.high_water, frame.base_offset))
        finally:
            file.close()
        for gap in gaps:
            torn = gap.first_offset >= vouched
            yield self._finding(FindingKind.TORN if torn else FindingKind.DAMAGE, path, gap)
        if end is not None:
            yield from self._sidecars(path, end)

    def _sidecars(self, path: str, end_offset: int) -> Iterator[Finding]:
        stem = path.removesuffix(LOG_SUFFIX)
        for suffix in (INDEX_SUFFIX, PRODUCERS_SUFFIX):
            try:
                data = self.files.read(stem + suffix)
                if suffix == INDEX_SUFFIX:
                    said = SparseIndex.from_bytes(data, 1).end_offset
                else:
                    said = parse_producers(data, ProducerTable(1))
                if said != end_offset:
                    yield self._sidecar(stem + suffix, f"it is of a segment up to {said}")
            except FileNotFoundError:
                continue
            except StorageDamaged as error:
                yield self._sidecar(stem + suffix, error.message)

    def _sidecar(self, file: str, reason: str) -> Finding:
        self.findings += 1
        kind, nbytes = FindingKind.SIDECAR, self.files.size(file)
        where = self.stream, self.number, file
        return Finding(kind, *where, 0, nbytes, None, None, reason)

    def _finding(self, kind: FindingKind, file: str, gap: Gap) -> Finding:
        self.findings += 1
        return Finding(kind, self.stream, self.number, file, *gap)
