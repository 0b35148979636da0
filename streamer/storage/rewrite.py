"""Writing the unproven tail of a log again, to another file.

What no later batch vouches for may be in the page cache and not on the disk: a failed fsync marks
pages clean, so a later fsync of the same file has nothing to write and says that all is well. Such
pages may leave the cache at any time, and what is read then is what was on the disk before: so what
is copied is checked again, in the copy, whose pages stay until they are synced.
"""

from __future__ import annotations

import errno
import os

import attrs

from streamer.limits import MIB
from streamer.storage.files import File, Files, new_file
from streamer.storage.frames import Scan, Window
from streamer.storage.index import SparseIndex
from streamer.storage.producers import ProducerTable
from streamer.storage.segment import write_sidecars

_COPY_BYTES = 4 * MIB


@attrs.frozen(eq=False)
class Rewrite:
    """Copy `nbytes` from `position` of the file `source` to a new file at `target`: whole frames,
    the first of which has the offset `first_offset`.

    `sealed` is what to write beside `source` when it is another file and now ends there.
    """

    files: Files
    source: str
    position: int
    nbytes: int
    first_offset: int
    target: str
    sealed: tuple[SparseIndex, ProducerTable] | None

    def run(self) -> None:
        """Copy, sync, rename, sync the directory, and only then cut. I/O only.

        May be interrupted anywhere and begun again, since a segment ends where the next begins.

        Raises:
            OSError: the disk is full (see `no_room`) or at fault, or what is to be copied has
                changed since it was read; the log is as it was.
        """
        files = self.files
        source = files.open(self.source)
        try:
            with new_file(files, self.target) as target:
                self._copy(source, target)
                self._check(target)
                target.sync()
            files.sync_dir(os.path.dirname(self.target))
            if self.sealed is not None:
                # Before the cut: what is cut off cannot be copied again if this has to be.
                write_sidecars(files, self.source, *self.sealed)
            if self.target != self.source:
                source.truncate(self.position)
        finally:
            source.close()

    def _copy(self, source: File, target: File) -> None:
        done = 0
        while done < self.nbytes:
            data = source.read_at(self.position + done, min(_COPY_BYTES, self.nbytes - done))
            if not data:
                raise OSError(errno.EIO, "file became shorter while it was read", self.source)
            target.write_at(done, [data])
            done += len(data)

    def _check(self, target: File) -> None:
        scan = Scan(Window(target, self.nbytes), 0, self.first_offset)
        for _ in scan:
            pass
        if scan.fault is not None:
            # The next start reads what is left, and cuts the rest: it was never durable.
            raise OSError(errno.EIO, f"the tail changed after it was read: {scan.fault}")
