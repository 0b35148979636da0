"""Looking through what a log holds for damage, bit by bit, before somebody asks for it.

A start reads the last segment at most, so that it takes the same time however long the log is.
What went bad before that is found by this, or by whoever reads it first. Rules:

- A step at a time, so that its caller can pause between: a scrub must not be in anybody's way.
- Only what is committed is looked at. A segment that retention has removed meanwhile is left out.
"""

from __future__ import annotations

from collections import deque

import attrs

from streamer.errors import PartitionDamaged, StorageError
from streamer.limits import MIB
from streamer.storage.files import Files
from streamer.storage.frames import Gap, Window, walk
from streamer.storage.read import Stretch, damaged

_STEP_BYTES = 1 * MIB


@attrs.define(eq=False)
class Scrub:
    """A pass over a log as it was when this was made. `step` until it says that it is done."""

    files: Files
    #: What is still to be looked at, and from where.
    stretches: deque[Stretch]

    def step(self) -> tuple[bool, list[PartitionDamaged]]:
        """Look at some more: whether there is anything left, and what is damaged of it, for
        `PartitionLog.note_damage`.

        For a worker thread. About as many bytes at each call, but never less than a batch.

        Raises:
            StorageError: the disk is at fault.
        """
        if not self.stretches:
            return False, []
        stretch = self.stretches.popleft()
        try:
            rest, damage = self._look(stretch)
        except FileNotFoundError:
            rest, damage = None, []
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"{stretch.path}: read failed: {reason}") from error
        if rest is not None:
            self.stretches.appendleft(rest)
        return bool(self.stretches), damage

    def _look(self, stretch: Stretch) -> tuple[Stretch | None, list[PartitionDamaged]]:
        found: list[PartitionDamaged] = []
        path, stop = stretch.path, stretch.position + _STEP_BYTES
        file = self.files.open_read(path)
        try:
            # A file that has become shorter ends before its segment does, which is a gap too.
            window = Window(file, min(file.size(), stretch.end_position), _STEP_BYTES)
            for item in walk(window, stretch.position, stretch.offset, stretch.stop_offset):
                if isinstance(item, Gap):
                    offset = stretch.stop_offset if item.next_offset is None else item.next_offset
                    position = item.position + item.nbytes
                    found.append(
                        damaged(path, item.position, item.reason, item.first_offset, offset)
                    )
                else:
                    position, offset = item[0] + item[1].length, item[1].next_offset
                if offset >= stretch.stop_offset:
                    break
                if position >= stop:
                    return attrs.evolve(stretch, position=position, offset=offset), found
        finally:
            file.close()
        return None, found
