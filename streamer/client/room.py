"""Room for records: so many bytes and no more, first come first served.

Rules: room is taken before a record is, so whoever is cancelled while waiting has handed nothing
over. What is above the bound as a whole may be in alone, else it would wait for ever.
"""

from __future__ import annotations

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from streamer.client.requests import fresh

__all__ = ["Room"]


class Room:
    """Bytes that may be taken, and the tasks that wait for some."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.free = nbytes
        self._waiting: dict[Task, int] = {}

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._waiting)

    def take_now(self, size: int) -> bool:
        """Take room if there is some, and nobody waits for it."""
        if self._waiting or not self._fits(size):
            return False
        self.free -= size
        return True

    async def take(self, size: int) -> None:
        """Wait for room, and take it. Cancelled, it has taken none.

        Raises:
            Whatever `fail` was given meanwhile.
        """
        task = trio.lowlevel.current_task()
        self._waiting[task] = size

        def abort(_: RaiseCancelT) -> Abort:
            del self._waiting[task]
            self._admit()
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def give(self, nbytes: int) -> None:
        """Give room back."""
        self.free += nbytes
        if self._waiting:
            self._admit()

    def fail(self, error: Exception) -> None:
        """Raise `error` in everybody who waits."""
        waiting, self._waiting = self._waiting, {}
        for task in waiting:
            trio.lowlevel.reschedule(task, outcome.Error(fresh(error)))

    def _fits(self, size: int) -> bool:
        return size <= self.free or self.free >= self.nbytes

    def _admit(self) -> None:
        waiting = self._waiting
        while waiting:
            task = next(iter(waiting))
            size = waiting[task]
            if not self._fits(size):
                return
            del waiting[task]
            self.free -= size
            trio.lowlevel.reschedule(task)
