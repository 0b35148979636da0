"""One task waits, others wake it: the least that does it.

`trio.Event` is for once, `ParkingLot` for many tasks; a session's writer is one task that is woken
for each commit, and their bookkeeping was a tenth of its time.
"""

from __future__ import annotations

import trio
from trio.lowlevel import Abort, Task


class Wakeup:
    """Wakes the one task that waits. A wake-up that finds nobody waiting is not kept."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: Task | None = None

    def wake(self) -> None:
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait for `wake`. Check what you wait for before and after: it may wake for nothing."""
        assert self._task is None, "one task waits"
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED
