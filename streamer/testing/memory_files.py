"""Files in memory that fail as real ones do: `storage.files.Files` for tests and simulations.

The model of a disk, in what it promises and in what it does not:

- Each file has what programs see (the page cache) and what is on the disk. `File.sync` makes the
  second like the first, `sync_dir` does the same for a directory's names.
- `power_cut` keeps, of what was not synced, whatever the dice say: nothing, all, a prefix, single
  sectors, zeros where the size was already written; of the unsynced changes to each directory a
  prefix. `kill` keeps the cache. Either way the dead process is fenced: its handles, its locks and
  any view made by `process` raise `OSError` from then on, so that clean-up code cannot do what a
  dead process could not.
- A failed sync marks the pages clean without having written them ("fsyncgate"): programs still
  see the bytes, a later sync has nothing to write, and a power cut or `evict` loses them.
- Part of what was not synced may get to the disk by itself (`write_back_with`), so that what was
  cut off again only in the cache comes back after a power cut.
- A full disk (`capacity_bytes`) takes the part that fits and then says `ENOSPC`.
- Faults are set by name (`fail_next`) or by number (`fail_call`, `die_at_call`), so that a test can
  fail the n-th call for every n. `calls` counts.

All methods may be called from several threads.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import attrs

from streamer.errors import DirectoryLocked
from streamer.storage.files import Buffer, SyncFailed, replace_file

SECTOR_BYTES = 512
_UNLIMITED = 2**50
_TRACE_MAX = 50_000


class ProcessDied(BaseException):
    """What a thread gets that makes a disk call at the moment of its process's death.

    No `Exception`, so that no handler takes it for an error that it could deal with.
    """


@attrs.define(eq=False)
class _Content:
    """A file's bytes, whatever its name."""

    #: What programs see.
    live: bytearray = attrs.field(factory=bytearray)
    #: What is on the disk.
    durable: bytearray = attrs.field(factory=bytearray)
    #: Sectors of `live` that the next sync will write.
    dirty: set[int] = attrs.field(factory=set)

    def write(self, position: int, data: bytes) -> None:
        end = position + len(data)
        if len(self.live) < position:
            self._touch(len(self.live), position)
            self.live.extend(bytes(position - len(self.live)))
        self.live[position:end] = data
        self._touch(position, end)

    def truncate(self, size: int) -> None:
        old = len(self.live)
        if size < old:
            del self.live[size:]
            self.dirty = {sector for sector in self.dirty if sector * SECTOR_BYTES < size}
        else:
            self.live.extend(bytes(size - old))
        self._touch(min(size, old), max(size, old))

    def _touch(self, start: int, end: int) -> None:
        if start < end:
            self.dirty.update(range(start // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1))

    def sync(self) -> None:
        _resize(self.durable, len(self.live))
        for sector in self.dirty:
            self._settle(sector)
        self.dirty.clear()

    def lose(self) -> None:
        """A sync that fails: the pages count as clean, and were not written."""
        self.dirty.clear()

    def write_back(self, rng: random.Random) -> None:
        """Some of the unsynced gets to the disk by itself, as it may at any time."""
        if rng.random() < 0.5 and len(self.live) > len(self.durable):
            _resize(self.durable, rng.randint(len(self.durable), len(self.live)))
        for sector in self.dirty:
            if rng.random() < 0.5:
                self._settle(sector)

    def evict(self) -> None:
        """Clean pages leave the cache, and are read again from the disk."""
        size = len(self.live)
        dirty = {at: bytes(self.live[_span(at)]) for at in self.dirty}
        self.live[:] = self.durable
        _resize(self.live, size)
        for at, data in dirty.items():
            self.live[at * SECTOR_BYTES : at * SECTOR_BYTES + len(data)] = data

    def power_cut(self, rng: random.Random) -> None:
        """Only what is on the disk is left; a part of the unsynced may have got there."""
        small, large = sorted((len(self.durable), len(self.live)))
        # Extremes are likelier to hurt than the middle.
        chosen = [len(self.durable), len(self.live), rng.randint(small, large)]
        size = rng.choice(chosen)
        _resize(self.durable, size)
        luck = rng.choice([0.0, 0.5, 0.8, 1.0])
        for sector in sorted(self.dirty):
            if rng.random() < luck:
                self._settle(sector)
        self.live = bytearray(self.durable)
        self.dirty.clear()

    def _settle(self, sector: int) -> None:
        span = _span(sector)
        end = min(span.stop, len(self.live), len(self.durable))
        if span.start < end:
            self.durable[span.start : end] = self.live[span.start : end]


def _span(sector: int) -> slice:
    return slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


#: For each name: is it there, and what it stands for; None is a directory.
_Change = dict[str, tuple[bool, "_Content | None"]]


@attrs.define(eq=False)
class _Directory:
    """Names and what they stand for; None is a directory, which is a `_Directory` of its own."""

    names: dict[str, _Content | None] = attrs.field(factory=dict)
    #: For each change since the last sync, the names that it touched as they were before.
    undo: list[_Change] = attrs.field(factory=list)

    def change(self, new: _Change) -> None:
        """Set names: (is it there, what it stands for)."""
        self.undo.append({name: (name in self.names, self.names.get(name)) for name in new})
        self._set(new)

    def _set(self, new: _Change) -> None:
        for name, (there, content) in new.items():
            if there:
                self.names[name] = content
            else:
                self.names.pop(name, None)

    def power_cut(self, rng: random.Random) -> None:
        kept = rng.choice([0, len(self.undo), rng.randint(0, len(self.undo))])
        for old in reversed(self.undo[kept:]):
            self._set(old)
        self.undo.clear()


@attrs.define(eq=False)
class _Disk:
    """What all views share."""

    directories: dict[str, _Directory] = attrs.field(factory=lambda: {"/": _Directory()})
    locks: dict[str, int] = attrs.field(factory=dict)
    #: The number of the process that is alive.
    process: int = 1
    capacity_bytes: int = _UNLIMITED
    calls: int = 0
    trace: list[str] = attrs.field(factory=list)
    failures: list[tuple[str, int]] = attrs.field(factory=list)
    failing_calls: dict[int, int] = attrs.field(factory=dict)
    fatal_calls: dict[int, random.Random | None] = attrs.field(factory=dict)
    #: Decides what gets to the disk without a sync; None: nothing.
    eager: random.Random | None = None
    guard: threading.RLock = attrs.field(factory=threading.RLock)

    def used_bytes(self) -> int:
        return sum(
            len(content.live)
            for directory in self.directories.values()
            for content in directory.names.values()
            if content is not None
        )

    def end_process(self) -> None:
        self.process += 1
        self.locks.clear()

    def power_cut(self, rng: random.Random) -> None:
        self.end_process()
        for _, directory in sorted(self.directories.items()):
            directory.power_cut(rng)
        for _, directory in sorted(self.directories.items()):
            for _, content in sorted(directory.names.items()):
                if content is not None:
                    content.power_cut(rng)
        self._drop_unreachable()

    def _drop_unreachable(self) -> None:
        reachable = {"/"}
        for path in sorted(self.directories, key=lambda path: path.count("/")):
            if path in reachable:
                names = self.directories[path].names
                inside = {name for name, content in names.items() if content is None}
                reachable |= {_join(path, name) for name in inside}
        for path in set(self.directories) - reachable:
            del self.directories[path]


class MemoryFiles:
    """A disk in memory, and a process's view of it.

    The object itself is never fenced: after `kill` or `power_cut` it is the next process's view.
    A test that keeps the old process running gives it a view of its own, from `process`.
    """

    def __init__(self, *, capacity_bytes: int | None = None) -> None:
        self._disk = _Disk()
        self._process: int | None = None
        if capacity_bytes is not None:
            self._disk.capacity_bytes = capacity_bytes

    # ------------------------------------------------------------------------ what a test does

    @property
    def calls(self) -> int:
        """How many calls were made so far, reads included, of files and of directories."""
        return self._disk.calls

    @property
    def trace(self) -> list[str]:
        """The operation and path of each call, of many the last 50,000 at least."""
        return self._disk.trace

    @property
    def capacity_bytes(self) -> int:
        return self._disk.capacity_bytes

    @capacity_bytes.setter
    def capacity_bytes(self, value: int) -> None:
        self._disk.capacity_bytes = value

    def used_bytes(self) -> int:
        with self._disk.guard:
            return self._disk.used_bytes()

    def process(self) -> MemoryFiles:
        """A view for the process that is alive now, fenced when it is killed."""
        view = MemoryFiles.__new__(MemoryFiles)
        view._disk = self._disk
        view._process = self._disk.process
        return view

    def kill(self) -> None:
        """The process dies; the cache survives it."""
        with self._disk.guard:
            self._disk.end_process()

    def power_cut(self, rng: random.Random) -> None:
        """The machine dies, and comes back with what was on its disk."""
        with self._disk.guard:
            self._disk.power_cut(rng)

    def evict(self) -> None:
        """Clean pages leave the cache, as they may at any time."""
        with self._disk.guard:
            for directory in self._disk.directories.values():
                for content in directory.names.values():
                    if content is not None:
                        content.evict()

    def write_back_with(self, rng: random.Random | None) -> None:
        """From now on part of what is written gets to the disk at once, without a sync, so that
        what is cut off in the cache alone can come back. None ends that."""
        self._disk.eager = rng

    def fail_next(self, operation: str, error: int = errno.EIO, *, times: int = 1) -> None:
        """Let the next calls of `operation` fail: read, write, sync, truncate, create, open,
        rename, unlink, sync_dir, make_dir, listdir, size, lock."""
        self._disk.failures.extend([(operation, error)] * times)

    def fail_call(self, number: int, error: int = errno.EIO) -> None:
        """Let the call fail before which `calls` is `number`."""
        self._disk.failing_calls[number] = error

    def die_at_call(self, number: int, rng: random.Random | None = None) -> None:
        """Kill the process at the call before which `calls` is `number`, or cut the power where
        `rng` is given; a write is carried out in part. The call raises `ProcessDied`."""
        self._disk.fatal_calls[number] = rng

    def heal(self) -> None:
        """Forget all faults that were set and have not come to pass."""
        self._disk.failures.clear()
        self._disk.failing_calls.clear()
        self._disk.fatal_calls.clear()

    def flip_bit(self, path: str, position: int, bit: int = 0) -> None:
        """Damage a byte, on the disk and in the cache."""
        with self._disk.guard:
            content = self._content(path)
            content.live[position] ^= 1 << bit
            if position < len(content.durable):
                content.durable[position] ^= 1 << bit

    def overwrite(self, path: str, position: int, data: bytes) -> None:
        """Put bytes into a file, on the disk and in the cache, as a misdirected write does."""
        with self._disk.guard:
            content = self._content(path)
            content.write(position, data)
            content.sync()

    # --------------------------------------------------------------------------------- `Files`

    def listdir(self, path: str) -> list[str]:
        with self._call("listdir", path):
            return sorted(self._directory(path).names)

    def exists(self, path: str) -> bool:
        with self._disk.guard:
            self._fence(self._process, path)
            parent, name = _split(path)
            directory = self._disk.directories.get(parent)
            return not name or (directory is not None and name in directory.names)

    def make_dir(self, path: str) -> None:
        parent, name = _split(path)
        if not name:
            return
        if parent not in self._disk.directories:
            self.make_dir(parent)
        with self._call("make_dir", path):
            directory = self._directory(parent)
            if name not in directory.names:
                directory.change({name: (True, None)})
                self._disk.directories[_join(parent, name)] = _Directory()
        self.sync_dir(parent)

    def create(self, path: str) -> MemoryFile:
        with self._call("create", path):
            parent, name = _split(path)
            directory = self._directory(parent)
            if name in directory.names:
                raise FileExistsError(errno.EEXIST, "file exists", path)
            if self._disk.used_bytes() >= self._disk.capacity_bytes:
                raise OSError(errno.ENOSPC, "no space left on device", path)
            content = _Content()
            directory.change({name: (True, content)})
            return MemoryFile(self, path, content, writable=True)

    def open(self, path: str) -> MemoryFile:
        with self._call("open", path):
            return MemoryFile(self, path, self._content(path), writable=True)

    def open_read(self, path: str) -> MemoryFile:
        with self._call("open", path):
            return MemoryFile(self, path, self._content(path), writable=False)

    def read(self, path: str) -> bytes:
        with self._call("read", path):
            return bytes(self._content(path).live)

    def size(self, path: str) -> int:
        with self._call("size", path):
            return len(self._content(path).live)

    def replace(self, path: str, data: bytes) -> None:
        replace_file(self, path, data)

    def rename(self, old: str, new: str) -> None:
        with self._call("rename", old):
            (parent, name), (new_parent, new_name) = _split(old), _split(new)
            assert parent == new_parent, "storage renames within a directory only"
            content = self._content(old)
            change: _Change = {name: (False, None), new_name: (True, content)}
            self._directory(parent).change(change)

    def unlink(self, path: str) -> None:
        with self._call("unlink", path):
            self._content(path)
            parent, name = _split(path)
            self._directory(parent).change({name: (False, None)})

    def sync_dir(self, path: str) -> None:
        with self._call("sync_dir", path):
            self._directory(path).undo.clear()

    def lock(self, path: str) -> MemoryLock:
        with self._call("lock", path):
            holder = self._disk.locks.get(path)
            if holder is not None:
                raise DirectoryLocked(f"{path} is held by process {holder}")
            self._disk.locks[path] = self._disk.process
            return MemoryLock(self, path, self._disk.process)

    def space(self, path: str) -> tuple[int, int]:
        with self._disk.guard:
            self._fence(self._process, path)
            capacity = self._disk.capacity_bytes
            return max(0, capacity - self._disk.used_bytes()), capacity

    # ------------------------------------------------------------------------------- mechanics

    @contextmanager
    def _call(
        self,
        operation: str,
        path: str,
        handle: MemoryFile | None = None,
        *,
        failing: Callable[[], None] = lambda: None,
        dying: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        """Around every call: fence, count, and let what was planned come to pass. `failing` and
        `dying` do what the call leaves behind when it fails or is cut short."""
        disk = self._disk
        with disk.guard:
            self._fence(self._process if handle is None else handle.process, path)
            number = disk.calls
            disk.calls += 1
            disk.trace.append(f"{operation} {path}")
            if len(disk.trace) > 2 * _TRACE_MAX:
                del disk.trace[:_TRACE_MAX]
            if number in disk.fatal_calls:
                rng = disk.fatal_calls.pop(number)
                dying()
                if rng is None:
                    disk.end_process()
                else:
                    disk.power_cut(rng)
                raise ProcessDied
            error = disk.failing_calls.pop(number, None) or self._planned(operation)
            if error is not None:
                failing()
                kind = SyncFailed if operation.startswith("sync") else OSError
                raise kind(error, os.strerror(error), path)
            yield

    def _fence(self, process: int | None, path: str) -> None:
        if process is not None and process != self._disk.process:
            raise OSError(errno.ESHUTDOWN, "the process is gone", path)

    def _planned(self, operation: str) -> int | None:
        for at, (name, error) in enumerate(self._disk.failures):
            if name == operation:
                del self._disk.failures[at]
                return error
        return None

    def _directory(self, path: str) -> _Directory:
        directory = self._disk.directories.get("/" + path.strip("/"))
        if directory is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        return directory

    def _content(self, path: str) -> _Content:
        parent, name = _split(path)
        directory = self._directory(parent)
        if name not in directory.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        content = directory.names[name]
        if content is None:
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return content


class MemoryFile:
    """An open file of `MemoryFiles`."""

    def __init__(self, files: MemoryFiles, path: str, content: _Content, writable: bool) -> None:
        self.process = files._disk.process
        self._files = files
        self._path = path
        self._content = content
        self._writable = writable
        self._closed = False

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> None:
        content, data = self._content, b"".join(buffers)

        def half() -> None:
            content.write(position, data[: len(data) // 2])

        with self._call("write", failing=half, dying=half):
            assert self._writable, "the file was opened to read"
            growth = position + len(data) - len(content.live)
            room = self._files._disk.capacity_bytes - self._files._disk.used_bytes()
            if growth > max(0, room):
                content.write(position, data[: max(0, len(data) - growth + max(0, room))])
                self._write_back()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
            content.write(position, data)
            self._write_back()

    def _write_back(self) -> None:
        eager = self._files._disk.eager
        if eager is not None:
            self._content.write_back(eager)

    def read_at(self, position: int, nbytes: int) -> bytes:
        with self._call("read"):
            return bytes(self._content.live[position : position + nbytes])

    def sync(self) -> None:
        with self._call("sync", failing=self._content.lose):
            self._content.sync()

    def truncate(self, size: int) -> None:
        with self._call("truncate"):
            assert self._writable, "the file was opened to read"
            self._content.truncate(size)

    def size(self) -> int:
        with self._call("size"):
            return len(self._content.live)

    def close(self) -> None:
        """Close. A dead process may do it too: the system has done it for it."""
        self._closed = True

    def _call(
        self,
        operation: str,
        failing: Callable[[], None] = lambda: None,
        dying: Callable[[], None] = lambda: None,
    ) -> AbstractContextManager[None]:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self._path)
        return self._files._call(operation, self._path, self, failing=failing, dying=dying)


class MemoryLock:
    """A lock that a process holds until it releases it or dies."""

    def __init__(self, files: MemoryFiles, path: str, process: int) -> None:
        self._files = files
        self._path = path
        self._process = process

    def release(self) -> None:
        locks = self._files._disk.locks
        if locks.get(self._path) == self._process:
            del locks[self._path]


def _split(path: str) -> tuple[str, str]:
    """(parent directory, name); relative paths are taken from the root."""
    return os.path.split("/" + path.strip("/"))


def _join(parent: str, name: str) -> str:
    return f"{parent.rstrip('/')}/{name}"
