"""Where blocking disk work runs: a thread of its own that is woken through a socket pair.

`trio.to_thread.run_sync` costs about 150 us a call on our machines (a thread start or lock
handover, the run-sync queue, the GIL), as much as the fsync it is there for; a thread that
blocks in `recv` and answers with one byte costs about 60. Rules: one job at a time and in order,
a job is never abandoned, and a cancelled caller still waits for its job to end. Who only looks at
the disk itself may leave a job behind: nothing depends on it, and a disk that hangs is to be left.

Everything that touches the disk takes a `Disk`, so a simulation can run jobs inline.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import outcome
import trio

T = TypeVar("T")


class Disk(Protocol):
    """Runs a blocking function off the event loop, and waits for it whatever happens."""

    async def run(self, job: Callable[[], T]) -> T: ...


class InlineDisk:
    """Runs jobs on the event loop: for in-memory files, where nothing blocks."""

    def __init__(self) -> None:
        self._turn = trio.Lock()

    async def run(self, job: Callable[[], T]) -> T:
        async with self._turn:
            await trio.lowlevel.checkpoint()
            return job()


class PooledDisk:
    """Runs jobs in trio's thread pool, several at once: for reads, whose order is free."""

    def __init__(self, threads: int, *, abandon: bool = False) -> None:
        """With `abandon` a cancelled caller leaves its job behind, which still takes its thread."""
        self._limiter = trio.CapacityLimiter(threads)
        self._abandon = abandon

    async def run(self, job: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(
            job, limiter=self._limiter, abandon_on_cancel=self._abandon
        )


def make_looker() -> PooledDisk:
    """One thread for who looks at the disk itself, and does not wait for it when he goes."""
    return PooledDisk(1, abandon=True)


class ThreadDisk:
    """Runs jobs in one thread. Made by `open_disk`."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._turn = trio.Lock()
        self._ours = ours
        self._theirs = theirs
        self._job: Callable[[], Any] | None = None
        self._outcome: outcome.Outcome[Any] | None = None

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` in the thread. Cancelled before its turn, it was not run; else it ends first.

        Raises:
            Whatever `job` raises.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            with trio.CancelScope(shield=True):
                self._job = job
                self._ours.send(b"j")
                await trio.lowlevel.wait_readable(self._ours)
                self._ours.recv(1)
            result = self._outcome
            self._job = self._outcome = None
            assert result is not None
            value: T = result.unwrap()
            return value
        finally:
            self._turn.release()

    def work(self) -> None:
        """The thread: one job for each byte, until the other side closes."""
        while self._theirs.recv(1):
            assert self._job is not None
            self._outcome = outcome.capture(self._job)
            self._theirs.send(b"d")


@asynccontextmanager
async def open_disk(name: str) -> AsyncGenerator[ThreadDisk, None]:
    """A disk thread that ends with the block, after the job that it is at."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        disk = ThreadDisk(ours, theirs)
        thread = threading.Thread(target=disk.work, name=f"streamer-disk-{name}", daemon=True)
        thread.start()
        try:
            yield disk
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            # The thread is at most in one job, and `run` does not return before that ends.
            thread.join()
