"""Standard input and output, and files, from a trio program without stopping it.

Rules: a regular file is read and written in a worker thread, a chunk at a time. A pipe or terminal
is waited for by trio, so Ctrl-C works while nothing comes; it stays in blocking mode, because the
setting would be shared with the shell. Writing happens in a thread as well: whoever reads our
output may be slow, and the session must still answer.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from streamer_tools.exits import Exit, Told

CHUNK_BYTES = 1024 * 1024


@contextmanager
def open_input(path: str) -> Iterator[int]:
    """The descriptor of a file to read, `-` for standard input.

    Raises:
        OSError: there is no such file, or it may not be read; it names the file.
    """
    if path == "-":
        if sys.stdin is None:
            raise Told(Exit.IO, "standard input is closed")
        yield sys.stdin.fileno()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        yield descriptor
    finally:
        os.close(descriptor)


class Input:
    """Reads a descriptor in chunks, each as soon as it comes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waits = True

    async def read(self) -> bytes:
        """The next bytes, at most 1 MiB; empty at the end. Cancelled, no byte was taken."""
        if self._waits:
            try:
                await trio.lowlevel.wait_readable(self._descriptor)
                return os.read(self._descriptor, CHUNK_BYTES)
            except PermissionError:
                # epoll takes no regular files: they never make one wait.
                self._waits = False
        return await trio.to_thread.run_sync(os.read, self._descriptor, CHUNK_BYTES)


class Output:
    """Standard output for bytes. Raises `BrokenPipeError` once its reader went away.

    Where it is closed, `main` has put something in its place that refuses.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = sys.stdout.fileno()
        # A large write to a pipe is done in parts, and two must not mix.
        self._lock = trio.Lock()

    async def write(self, data: bytes) -> None:
        """Write all of it. Cancelled, part of it may be out.

        The thread is abandoned when cancelled: a reader that has stopped would hold us for ever.
        """
        async with self._lock:
            await trio.to_thread.run_sync(
                _write_all, self._descriptor, data, abandon_on_cancel=True
            )


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
