"""Plans that write: append, sync, close. Disk work only, for a worker thread.

Rules:
- One of them is under way in a partition at a time.
- No room (`no_room`) is not a fault: what was written in part is cut off, and the cut is synced
  before the caller hears of it, since it is told that nothing was written, for certain.
- Any other failure to write, and every failure to sync, stops the partition: nobody knows what is
  on the disk, and trying again may only seem to succeed.
- A sealed segment is durable: rolling syncs the old file, and the directory with the new one's
  name, before anything is written to the new one. Whatever the fsync policy, so that only the
  last segment ever needs recovery.
"""

from __future__ import annotations

import attrs

from streamer.errors import Aborted, DiskFull, PartitionStopped
from streamer.storage.files import NO_HANDLES, Buffer, File, Files, SyncFailed, no_room
from streamer.storage.index import SparseIndex
from streamer.storage.marker import Marker, marker_path, write_marker
from streamer.storage.producers import ProducerTable
from streamer.storage.rewrite import Rewrite
from streamer.storage.segment import file_path, write_checkpoint, write_sidecars
from streamer.storage.stamps import Stamps


def stopped(path: str, what: str, error: OSError) -> PartitionStopped:
    """The error for a fault of the disk."""
    text = error.strerror or str(error)
    return PartitionStopped(f"{path}: {what} failed: {text}", errno=error.errno or 0)


def refusal(path: str, what: str, error: OSError) -> Exception:
    """The error for a failure before anything was written."""
    if no_room(error):
        return DiskFull(f"{path}: no room on the disk", errno=error.errno)
    if error.errno in NO_HANDLES and not isinstance(error, SyncFailed):
        return Aborted(f"{path}: no file handle: {error.strerror}", errno=error.errno)
    return stopped(path, what, error)


@attrs.frozen
class Roll:
    """What is to be done about the segment that the append leaves behind."""

    path: str
    index: SparseIndex
    producers: ProducerTable
    #: Its handle, None where it was not opened yet.
    file: File | None
    unsynced: bool


@attrs.define(eq=False)
class AppendPlan:
    """A gathered write at the end of the log. `run` it, then give it back to the log:
    `committed`, or `failed` with what `run` raised."""

    files: Files
    directory: str
    #: The segment to write to, and where in it.
    base_offset: int
    position: int
    first_offset: int
    next_offset: int
    nbytes: int
    buffers: list[Buffer]
    #: Length, count, max timestamp and append time of each batch.
    batches: list[tuple[int, int, int, int]]
    stamps: list[Stamps]
    vouched: int
    file: File | None
    #: A segment begins here; `roll` has the one before it, if there is one.
    fresh: bool
    roll: Roll | None
    rewrite: Rewrite | None
    marked: bool
    #: The producers as of `first_offset`, where it is time to write them down.
    checkpoint: ProducerTable | None
    #: Whether the last `run` synced.
    synced: bool = False

    def run(self, sync: bool) -> None:
        """Write, and sync if asked to.

        Raises:
            DiskFull: no room; nothing was written, and trying again may help.
            Aborted: no file handle to be had; likewise.
            PartitionStopped: the disk is at fault. What was to be written may be there or not.
        """
        if self.rewrite is not None or self.marked:
            self._prepare()
        if self.file is None:
            self._open()
        if self.checkpoint is not None:
            self._write_checkpoint(self.checkpoint)
        file = self.file
        assert file is not None
        try:
            file.write_at(self.position, self.buffers)
        except OSError as error:
            raise self._write_failed(file, error) from error
        if sync:
            try:
                file.sync()
            except OSError as error:
                raise stopped(self._path, "sync", error) from error
        self.synced = sync

    @property
    def _path(self) -> str:
        return file_path(self.directory, self.base_offset)

    def _prepare(self) -> None:
        """What a start has left to be done before the first append."""
        try:
            if self.rewrite is not None:
                self.rewrite.run()
                self.rewrite = None
            if self.marked:
                if self.files.exists(marker_path(self.directory)):
                    self.files.unlink(marker_path(self.directory))
                self.files.sync_dir(self.directory)
                self.marked = False
        except OSError as error:
            raise refusal(self._path, "preparing", error) from error

    def _open(self) -> None:
        try:
            if not self.fresh:
                self.file = self.files.open(self._path)
                return
            if self.roll is not None:
                self._seal(self.roll)
            self.file = self._create()
            self.files.sync_dir(self.directory)
        except OSError as error:
            raise refusal(self._path, "opening", error) from error

    def _seal(self, roll: Roll) -> None:
        if roll.file is not None and roll.unsynced:
            try:
                roll.file.sync()
            except OSError as error:
                raise stopped(roll.path, "sync", error) from error
        write_sidecars(self.files, roll.path, roll.index, roll.producers)

    def _write_checkpoint(self, producers: ProducerTable) -> None:
        try:
            write_checkpoint(self.files, self._path, self.first_offset, producers)
        except OSError as error:
            raise refusal(self._path, "checkpoint", error) from error

    def _create(self) -> File:
        try:
            return self.files.create(self._path)
        except FileExistsError:
            # Of an append that failed. Nothing in it was ever committed.
            file = self.files.open(self._path)
            file.truncate(0)
            return file

    def _write_failed(self, file: File, error: OSError) -> Exception:
        """The error for a write that failed; without room, cut off what it left behind."""
        if not no_room(error):
            return stopped(self._path, "write", error)
        try:
            file.truncate(self.position)
            file.sync()
        except OSError as second:
            return stopped(self._path, "cutting off what was written in part", second)
        return refusal(self._path, "write", error)


@attrs.frozen(eq=False)
class SyncPlan:
    """Syncs what was appended without. `run` it, then give it back: `synced`, or `failed`."""

    path: str
    file: File | None
    #: Everything below will be durable.
    next_offset: int
    rewrite: Rewrite | None

    def run(self) -> None:
        """Sync.

        Raises:
            DiskFull: a start had no room to write the tail again, and there still is none.
            Aborted: there was no file handle for that; likewise.
            PartitionStopped: it failed; it must not be tried again.
        """
        try:
            if self.rewrite is not None:
                self.rewrite.run()
            if self.file is not None:
                self.file.sync()
        except OSError as error:
            if self.rewrite is not None:
                raise refusal(self.path, "sync", error) from error
            raise stopped(self.path, "sync", error) from error


@attrs.frozen(eq=False)
class ClosePlan:
    """Syncs, leaves the clean marker and closes the file. The log takes nothing more."""

    files: Files
    directory: str
    file: File | None
    unsynced: bool
    #: What to leave behind; None where a marker stands already or must not.
    marker: Marker | None

    def run(self) -> None:
        """Close. Without room for the marker there is none, and the next start reads more.

        Raises:
            PartitionStopped: the disk is at fault; the file is closed nonetheless.
        """
        try:
            if self.file is not None and self.unsynced:
                self.file.sync()
            if self.marker is not None:
                write_marker(self.files, self.directory, self.marker)
        except OSError as error:
            if not no_room(error):
                raise stopped(self.directory, "closing", error) from error
        finally:
            if self.file is not None:
                self.file.close()
