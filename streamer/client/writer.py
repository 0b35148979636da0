"""What writes to a client's connection: one task, and the queues that it takes from.

Rules:

- Whoever has work puts itself into a queue here, which wakes the task; nothing is encoded before
  it can go out, and nothing goes out beyond the daemon's credit and number of requests.
- The task asks everybody who has something to say (`_gather`, synchronous), hands all of it to
  the transport at once, and parks when there is nothing. So a write is cancelled only when its
  connection ends.
- Between connections the queues stay as they are.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Protocol

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from streamer.client.requests import Call, Request
from streamer.client.session import Session
from streamer.limits import KIB
from streamer.wire.frames import Frame
from streamer.wire.machine import State

__all__ = ["Source", "Writer"]

#: What one write takes: enough to make system calls cheap, too little for the daemon to starve
#: while the next is encoded.
_WRITE_BYTES = 64 * KIB
#: What is written without letting others run.
_YIELD_BYTES = 16 * KIB


class Source(Protocol):
    """Somebody who has requests to append."""

    #: Whether it stands in the link's queue.
    listed: bool

    def next_frame(self, request: int) -> tuple[Request, Frame] | None:
        """The next request to send now, under that number; None if there is none now."""

    def lost(self) -> None:
        """The connection ended: what has not been answered will not be."""

    def failed(self, error: Exception) -> None:
        """The link is at its end."""


class Writer:
    """The writing half of a `Link`; `run` is one connection's."""

    def __init__(self) -> None:
        #: Numbers for requests and subscriptions, none of them ever used twice.
        self.numbers = itertools.count(1)
        self._calls: deque[Call] = deque()
        self._active: deque[Source] = deque()
        #: The task, while it is parked.
        self._task: Task | None = None

    # -------------------------------------------------------------------------------- queueing

    def activate(self, source: Source) -> None:
        """Put a source with something to send into the queue, and wake the task."""
        if not source.listed:
            source.listed = True
            self._active.append(source)
            if self._task is not None:
                self.wake()

    def hurry(self, source: Source, session: Session | None) -> None:
        """As `activate`, for somebody who has one request and nobody to share it with: it goes
        out here and now if nothing is in the way, which saves waking the task."""
        if (
            session is None
            or self._task is None
            or self._has_work(session)
            or not session.may_append
        ):
            self.activate(source)
            return
        number = next(self.numbers)
        found = source.next_frame(number)
        if found is None:
            return
        data: list[bytes] = []
        session.append(number, *found, data)
        try:
            taken = session.transport.send_now(data)
        except trio.BrokenResourceError as error:
            session.machine.send_failed()
            session.end(error)
            return
        if not taken:
            session.encoded += data
        if not taken or session.transport.unsent:
            self.wake()

    def call(self, call: Call) -> None:
        """Have a call sent in its turn."""
        self._calls.append(call)
        self.wake()

    def refuse_calls(self) -> list[Call]:
        """Take back the calls that have not been sent."""
        calls, self._calls = list(self._calls), deque()
        return calls

    def _has_work(self, session: Session) -> bool:
        return bool(self._active or self._calls or session.has_work)

    # --------------------------------------------------------------------------------- writing

    def wake(self) -> None:
        """Have the task look for work; it does so by itself unless it is parked."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def attend(self, session: Session) -> None:
        """Wake the task if there is something to do."""
        if self._task is not None and self._has_work(session):
            self.wake()

    async def run(self, session: Session) -> None:
        """Write until the connection ends. Raises what the transport raises."""
        while True:
            data = self._gather(session)
            if not data and not session.transport.unsent:
                await self._park()
                continue
            try:
                await session.transport.send_all(data)
            except BaseException:
                session.machine.send_failed()
                raise
            # A write that the kernel takes whole does not yield, and acks are to be read, too.
            if sum(map(len, data)) >= _YIELD_BYTES:
                await trio.lowlevel.checkpoint()

    async def _park(self) -> None:
        self._task = trio.lowlevel.current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._task = None
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _gather(self, session: Session) -> list[bytes]:
        """All that may go out now, up to a write's worth."""
        data = session.take_control()
        while self._calls and session.may_ask:
            call = self._calls.popleft()
            if not call.abandoned:
                number = next(self.numbers)
                session.ask(number, call, call.make(number), data)
        if session.machine.state is State.OPEN:
            self._gather_appends(session, data)
        return data

    def _gather_appends(self, session: Session, data: list[bytes]) -> None:
        """In turns, one request of each source."""
        active = self._active
        room = _WRITE_BYTES
        while active and room > 0 and session.may_append:
            source = active.popleft()
            number = next(self.numbers)
            found = source.next_frame(number)
            if found is None:
                source.listed = False
                continue
            active.append(source)
            room -= session.append(number, *found, data)
