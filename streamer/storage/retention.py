"""The plan that removes what need not be kept any longer: whole sealed segments, oldest first."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import attrs

from streamer.errors import StorageError
from streamer.storage.files import Files
from streamer.storage.segment import (
    INDEX_SUFFIX,
    PRODUCERS_SUFFIX,
    IndexCache,
    LogSettings,
    Segment,
    sidecar_path,
)


@attrs.define(eq=False)
class RetentionPlan:
    """Removes segments. `run` it, then give it back to the log as `retained`, also where it
    failed: `removed` has what is gone already."""

    files: Files
    directory: str
    indexes: IndexCache
    #: The segments that may go, oldest first, and how many of them must by size.
    candidates: tuple[Segment, ...]
    too_many: int
    #: Those whose last batch was appended before this go as well; None: age does not matter.
    expired_before_us: int | None
    removed: list[Segment] = attrs.field(factory=list)

    def run(self) -> None:
        """Remove them, and sync the directory.

        Raises:
            StorageError: the disk is at fault.
        """
        try:
            for number, segment in enumerate(self.candidates):
                if number >= self.too_many and not self._expired(segment):
                    break
                self._remove(segment)
            if self.removed:
                self.files.sync_dir(self.directory)
        except OSError as error:
            raise StorageError(f"{self.directory}: removing segments failed: {error}") from error

    def _expired(self, segment: Segment) -> bool:
        if self.expired_before_us is None:
            return False
        # Looking it up also notes it in the segment, so that the next plan needs no reading.
        appended = self.indexes.get(segment).append_time_us
        return appended is None or appended < self.expired_before_us

    def _remove(self, segment: Segment) -> None:
        # The log file first: sidecars without one are left-overs, and removed at the next start.
        with contextlib.suppress(FileNotFoundError):
            # Somebody else removed it: it is gone all the same.
            self.files.unlink(segment.path)
        self.removed.append(segment)
        for suffix in (INDEX_SUFFIX, PRODUCERS_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                self.files.unlink(sidecar_path(segment.path, suffix))


def choose(
    files: Files,
    directory: str,
    indexes: IndexCache,
    settings: LogSettings,
    sealed: Sequence[Segment],
    nbytes: int,
    now_us: int,
    floor: int | None,
) -> RetentionPlan | None:
    """Decide which of a log's sealed segments may go; `nbytes` is the size of the whole log."""
    candidates = tuple(s for s in sealed if floor is None or s.end_offset <= floor)
    if not candidates:
        return None
    too_many = 0
    if settings.retention_bytes is not None:
        for segment in candidates:
            nbytes -= segment.nbytes
            if nbytes < settings.retention_bytes:
                break
            too_many += 1
    before_us = None
    if settings.retention_s is not None:
        before_us = now_us - int(settings.retention_s * 1e6)
    if not too_many:
        appended_us = candidates[0].append_time_us
        if before_us is None or (appended_us is not None and appended_us >= before_us):
            return None
    return RetentionPlan(files, directory, indexes, candidates, too_many, before_us)
