"""The one place that touches the operating system's files.

Rules:
- Everything else in storage works through the `Files` and `File` protocols, so that
  `streamer.testing.memory_files` can stand in with power cuts, full disks and failing syncs.
- Nothing here retries, and no sync is implied that the name does not say: a file's bytes are
  durable after `File.sync`, its name after `sync_dir` of the directory that it is in.
- Errors are `OSError`, as they come, and `SyncFailed` for every failed sync; what they mean is for
  the caller to say.
- A write that fails may leave part of its bytes behind; the caller cuts them off.
- Data is private: files are made with mode 0600, directories with 0700.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from typing import Protocol

from streamer.errors import DirectoryLocked

Buffer = bytes | memoryview

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: What opening says when the process, or the machine, has no more: it can be tried again.
NO_HANDLES = frozenset({errno.EMFILE, errno.ENFILE})

TMP_SUFFIX = ".tmp"

_FILE_MODE = 0o600
_DIR_MODE = 0o700
#: Linux and macOS take at most this many buffers in one gathered write.
_BUFFERS_MAX = 1024


class SyncFailed(OSError):
    """A sync failed, for whatever reason: nobody knows what is on the disk, and the next sync may
    have nothing left to write and succeed. Never to be tried again."""


def no_room(error: OSError) -> bool:
    """Whether it says that the disk is full: nothing is broken, and trying again may help."""
    return error.errno in _NO_ROOM and not isinstance(error, SyncFailed)


class File(Protocol):
    """An open file. Positions and sizes are in bytes."""

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> None:
        """Write all of `buffers`, one behind the other, from `position` on."""

    def read_at(self, position: int, nbytes: int) -> bytes:
        """Read `nbytes`, fewer only where the file ends before."""

    def sync(self) -> None:
        """Return once the bytes and the size are on the disk.

        Raises:
            SyncFailed: whatever went wrong.
        """

    def truncate(self, size: int) -> None: ...

    def size(self) -> int: ...

    def close(self) -> None:
        """Close; a second time does nothing."""


class Lock(Protocol):
    def release(self) -> None: ...


class Files(Protocol):
    """A file system. Paths are absolute or relative text, as the system takes them."""

    def listdir(self, path: str) -> list[str]: ...

    def exists(self, path: str) -> bool: ...

    def make_dir(self, path: str) -> None:
        """Make the directory, durably, and those above it if they are not there.

        For one that exists only its own name is made durable, not those above it.
        """

    def create(self, path: str) -> File:
        """Make a file that does not exist yet and open it to read and write. Syncs nothing."""

    def open(self, path: str) -> File:
        """Open a file that exists to read and write."""

    def open_read(self, path: str) -> File: ...

    def read(self, path: str) -> bytes:
        """The whole of a file."""

    def size(self, path: str) -> int:
        """A file's size, without opening it."""

    def replace(self, path: str, data: bytes) -> None:
        """Put `data` in place of the file at `path`, durably: all of it or nothing."""

    def rename(self, old: str, new: str) -> None:
        """Rename, over a file that may be there. Syncs nothing."""

    def unlink(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None:
        """Return once what was made, renamed and removed in the directory is on the disk.

        Raises:
            SyncFailed: the sync itself failed.
        """

    def lock(self, path: str) -> Lock:
        """Take the lock file at `path` for this process.

        Raises:
            DirectoryLocked: another process has it; the text names that process.
        """

    def space(self, path: str) -> tuple[int, int]:
        """Bytes that are free and bytes in all, of the file system that has `path`."""


def replace_file(files: Files, path: str, data: bytes) -> None:
    """`Files.replace` in terms of the other calls: a new file, synced, renamed over the old."""
    with new_file(files, path) as file:
        file.write_at(0, [data])
        file.sync()
    files.sync_dir(os.path.dirname(path) or ".")


@contextlib.contextmanager
def new_file(files: Files, path: str) -> Iterator[File]:
    """A new file that takes its place at `path` when the block is left, or is removed on error.

    What makes it durable is left to the block (`sync`) and to what follows (`sync_dir`).
    """
    temporary = path + TMP_SUFFIX
    if files.exists(temporary):
        files.unlink(temporary)
    file = files.create(temporary)
    try:
        try:
            yield file
        finally:
            file.close()
        files.rename(temporary, path)
    except OSError:
        # It may be large, and the disk full.
        with contextlib.suppress(OSError):
            files.unlink(temporary)
        raise


class RealFile:
    """A file descriptor."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> None:
        total = sum(map(len, buffers))
        if len(buffers) <= _BUFFERS_MAX and os.pwritev(self._fd, buffers, position) == total:
            return
        # A short write may be a full disk (the next one says so) or 2 GiB at once: go on from
        # the start, which writes the same bytes again.
        self._write_slowly(position, buffers)

    def _write_slowly(self, position: int, buffers: Sequence[Buffer]) -> None:
        pending = [memoryview(buffer) for buffer in buffers if len(buffer)]
        pending.reverse()
        while pending:
            group = pending[: -_BUFFERS_MAX - 1 : -1]
            written = os.pwritev(self._fd, group, position)
            position += written
            while pending and written >= len(pending[-1]):
                written -= len(pending.pop())
            if written:
                pending[-1] = pending[-1][written:]

    def read_at(self, position: int, nbytes: int) -> bytes:
        data = os.pread(self._fd, nbytes, position)
        while data and len(data) < nbytes:
            more = os.pread(self._fd, nbytes - len(data), position + len(data))
            if not more:
                break
            data += more
        return data

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror) from error

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class RealLock:
    """A lock file under `flock`, which the kernel lets go of when its process ends."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 64, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise DirectoryLocked(f"{path} is held by process {holder}") from None
        # The text is for people; a full disk must not keep a daemon from starting to read.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go; a second time does nothing. The file stays: removing it would be a race."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class RealFiles:
    """The machine's own file system."""

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def make_dir(self, path: str) -> None:
        path = path.rstrip("/")
        parent = os.path.dirname(path) or ("." if path else "/")
        if not os.path.isdir(path or "/"):
            if not os.path.isdir(parent):
                self.make_dir(parent)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, _DIR_MODE)
            self.sync_dir(parent)
        else:
            # Whoever made it may have died before this, unless it was somebody else.
            with contextlib.suppress(PermissionError):
                self.sync_dir(parent)

    def create(self, path: str) -> RealFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return RealFile(os.open(path, flags, _FILE_MODE))

    def open(self, path: str) -> RealFile:
        return RealFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def open_read(self, path: str) -> RealFile:
        return RealFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def replace(self, path: str, data: bytes) -> None:
        replace_file(self, path, data)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror, path) from error
        finally:
            os.close(fd)

    def lock(self, path: str) -> RealLock:
        return RealLock(path)

    def space(self, path: str) -> tuple[int, int]:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
