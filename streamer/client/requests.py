"""What a client waits for: requests under way, and the timers that give up on them.

Rules: a request is answered exactly once, or told that its connection is lost. All methods here
are synchronous and are called by the connection's tasks: they take note and wake somebody, and
never wait.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from streamer.errors import OutcomeUnknown, RemoteProtocolError, StreamerError
from streamer.records import AckLevel
from streamer.wire.frames import Frame

E = TypeVar("E", bound=BaseException)

#: Ack levels by their number on the wire.
LEVELS = tuple(AckLevel)


class TryLater(StreamerError):
    """The daemon gave a reason that this client does not know, and said that it may pass."""

    retryable = True


def fresh(error: E) -> E:
    """A copy of an error for one more task to raise: each raise adds to an error's traceback."""
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again


class Request:
    """Whoever is answered by a number. A kind of answer that it does not expect is a fault."""

    __slots__ = ()

    #: Of a batch: [index, traceparent] of its records that belong to traces.
    parents: Sequence[tuple[int, str]] = ()

    def acked(
        self, partition: int, offset: int, count: int, level: AckLevel, duplicate: bool
    ) -> None:
        """It was appended."""
        raise RemoteProtocolError("an ack answers a request that appends nothing")

    def answered(self, frame: Frame) -> None:
        """The answer is in `frame`."""
        raise RemoteProtocolError(f"{type(frame).__name__} frame answers a request to append")

    def refused(self, error: StreamerError) -> None:
        """It failed."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection ended before the answer."""
        raise NotImplementedError

    def accused(self, error: StreamerError) -> None:
        """The daemon ended the session over something that was under way, perhaps this: who is
        there the second time is `refused`, as sending it again would go on for ever."""


class Call(Request):
    """A request with one plain answer, and the one task that waits for it.

    `make(request)` gives its frame. One that may be carried out twice (`again`) is sent again
    over the next connection; of any other, nobody knows whether it was carried out.
    """

    __slots__ = ("_accused", "_early", "_requeue", "_task", "again", "make")

    def __init__(
        self, make: Callable[[int], Frame], again: bool, requeue: Callable[[Call], None]
    ) -> None:
        self.make = make
        self.again = again
        self._requeue = requeue
        self._task: Task | None = None
        self._accused = False
        #: An answer from before anybody waited.
        self._early: outcome.Outcome[Frame] | None = None

    async def wait(self) -> Frame:
        """The answer. Cancelled, the request may still be carried out."""
        if self._early is not None:
            await trio.lowlevel.checkpoint()
            return self._early.unwrap()
        self._task = trio.lowlevel.current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._task = None
            return Abort.SUCCEEDED

        answer: Frame = await trio.lowlevel.wait_task_rescheduled(abort)
        return answer

    @property
    def abandoned(self) -> bool:
        return self._task is None

    def _wake(self, result: outcome.Outcome[Frame]) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, result)
        else:
            self._early = result

    def answered(self, frame: Frame) -> None:
        self._wake(outcome.Value(frame))

    def refused(self, error: Exception) -> None:
        self._wake(outcome.Error(error))

    def lost(self) -> None:
        if self.again:
            self._requeue(self)
        else:
            self.refused(OutcomeUnknown("the connection was lost before the answer"))

    def accused(self, error: StreamerError) -> None:
        if self._accused and self.again:
            self.again = False
            self.refused(error)
        self._accused = True


class Timers:
    """Runs functions when their time has come, in one task. There is no taking back: whoever
    sets a timer keeps to one for each purpose, and looks whether it is still wanted. A timer keeps
    nobody alive: whose owner is gone is passed over."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, weakref.WeakMethod[Callable[[], None]]]] = []
        self._ties = itertools.count()
        self._task: Task | None = None
        self._scope = trio.CancelScope()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action`, a method, at `when` (`trio.current_time()`), or soon after."""
        heapq.heappush(self._heap, (when, next(self._ties), weakref.WeakMethod(action)))
        if when < self._scope.deadline:
            self._scope.deadline = when

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Until cancelled."""
        heap = self._heap
        while True:
            deadline = heap[0][0] if heap else float("inf")
            with trio.CancelScope(deadline=deadline) as self._scope:
                await trio.sleep_forever()
            now = trio.current_time()
            while heap and heap[0][0] <= now:
                action = heapq.heappop(heap)[2]()
                if action is not None:
                    action()
                    # Not until the next timer.
                    del action
