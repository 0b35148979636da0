"""The data directory: its lock, its streams, and what is kept beside their logs.

    lock                         held by the daemon that uses the directory
    streams/NAME/stream          the stream's metadata
    streams/NAME/ID.dict         a zstd dictionary
    streams/NAME/PARTITION/      a partition's log

NAME is never the raw stream name: every byte but ASCII letters, digits, `_` and `-` is
percent-encoded, and where that is longer than a file name may be, its end is replaced by a digest
behind a `~`, which no encoding contains.

Synchronous, for a worker thread; changes to one stream are made one at a time by the caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

import attrs
import crc32c

from streamer.batch import Codec
from streamer.errors import (
    BadRequest,
    DiskFull,
    NotAllowed,
    StorageDamaged,
    StorageError,
    UnknownPartition,
    UnknownStream,
)
from streamer.limits import PARTITIONS_MAX, STREAM_NAME_CHARS_MAX
from streamer.storage import sidecar
from streamer.storage.files import Files, Lock, no_room
from streamer.storage.log import Log
from streamer.storage.memory import MemoryLog
from streamer.storage.partition import LogSettings, PartitionLog

#: Where a stream's records are kept.
Storage = Literal["disk", "memory"]

META_NAME = "stream"
STREAMS_NAME = "streams"
DICTIONARY_SUFFIX = ".dict"

_META_KIND = "stream"
_DICTIONARY_KIND = "dictionary"
_DICTIONARY_NAME = re.compile(r"([0-9a-f]{8})\.dict")
#: File systems take 255 bytes; this leaves room for suffixes.
_NAME_BYTES_MAX = 200
_DIGEST_BYTES = 16


@attrs.frozen
class StreamMeta:
    """What is kept of a stream beside its records.

    `dictionary_id` is the one that new batches are compressed with, 0 for none; `floors` has for
    each configured group the offset of each partition below which it needs nothing any more;
    `producers` has (id, epoch) of each named producer. `storage` is where the records are, and
    stays what it was when the stream was made: they would not move with it.
    """

    name: str
    partitions: int
    created_us: int = 0
    dictionary_id: int = 0
    floors: Mapping[str, Mapping[int, int]] = attrs.field(factory=dict)
    producers: Mapping[str, tuple[int, int]] = attrs.field(factory=dict)
    storage: Storage = "disk"

    def to_bytes(self) -> bytes:
        # CBOR maps of ours have text keys only.
        return sidecar.pack(
            _META_KIND,
            {
                "name": self.name,
                "partitions": self.partitions,
                "created": self.created_us,
                "dictionary": self.dictionary_id,
                "floors": {group: list(per.items()) for group, per in self.floors.items()},
                "producers": {name: list(known) for name, known in self.producers.items()},
                "storage": self.storage,
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamMeta:
        """Read what `to_bytes` wrote.

        Raises:
            StorageDamaged: it is not that.
        """
        content = sidecar.unpack(_META_KIND, data)
        try:
            return cls(
                name=str(content["name"]),
                partitions=int(content["partitions"]),
                created_us=int(content["created"]),
                dictionary_id=int(content["dictionary"]),
                floors={group: _numbers(per) for group, per in content["floors"].items()},
                producers={name: _pair(known) for name, known in content["producers"].items()},
                # Streams of before there was a choice are on the disk.
                storage=_storage(content.get("storage", "disk")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StorageDamaged(f"stream metadata with a bad field: {error!r}") from error


def _pair(value: Any) -> tuple[int, int]:
    first, second = value
    return int(first), int(second)


def _storage(value: Any) -> Storage:
    if value not in get_args(Storage):
        raise ValueError(value)
    chosen: Storage = value
    return chosen


def _numbers(pairs: Any) -> dict[int, int]:
    return dict(map(_pair, pairs))


def check_stream_name(name: str) -> None:
    """Judge a name that a program gives to a stream.

    Raises:
        BadRequest: it cannot be one.
    """
    if not 1 <= len(name) <= STREAM_NAME_CHARS_MAX:
        raise BadRequest(
            f"stream name of {len(name)} characters, allowed are 1 to {STREAM_NAME_CHARS_MAX}"
        )
    if name in (".", "..") or "/" in name or not name.isprintable():
        raise BadRequest(
            f"stream name {name!r}: allowed is printable text without '/' that is not '.' or '..'"
        )


def encode_name(name: str) -> str:
    """The directory name of a stream."""
    encoded = quote(name, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(encoded) <= _NAME_BYTES_MAX:
        return encoded
    digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{encoded[: _NAME_BYTES_MAX - len(digest) - 1]}~{digest}"


def _chain(path: str) -> list[str]:
    """The path and all above it, from the top: each may have been left without a sync."""
    parts = path.rstrip("/").split("/")
    return [above for n in range(1, len(parts) + 1) if (above := "/".join(parts[:n]))]


def partition_path(directory: str, stream: str, partition: int) -> str:
    return f"{directory}/{STREAMS_NAME}/{encode_name(stream)}/{partition}"


class DataDirectory:
    """A data directory that this process has the lock of."""

    def __init__(self, files: Files, path: str, lock: Lock) -> None:
        """Not for use from outside: see `open`."""
        self.path = path
        self._files = files
        self._lock = lock

    @classmethod
    def open(cls, files: Files, path: str) -> DataDirectory:
        """Take the directory, and make it if it is not there.

        Raises:
            DirectoryLocked: another process has it.
            StorageError: the disk is at fault.
        """
        with _faults(path):
            for above in _chain(path):
                files.make_dir(above)
            lock = files.lock(f"{path}/lock")
            try:
                files.make_dir(f"{path}/{STREAMS_NAME}")
            except OSError:
                lock.release()
                raise
        return cls(files, path, lock)

    def close(self) -> None:
        """Let another process have it."""
        self._lock.release()

    # ----------------------------------------------------------------------------------- streams

    def streams(self) -> list[str]:
        """The names of all streams, in order.

        Raises:
            StorageError: the disk is at fault; `StorageDamaged`: a name cannot be made out.
        """
        root = f"{self.path}/{STREAMS_NAME}"
        names = []
        with _faults(root):
            for entry in self._files.listdir(root):
                if not self._files.exists(f"{root}/{entry}/{META_NAME}"):
                    # Never made in full; or damaged, and `load_stream` says so. What a long name
                    # was, its metadata alone could tell.
                    if "~" not in entry and self._has_log(f"{root}/{entry}"):
                        names.append(unquote(entry))
                    continue
                if "~" in entry:
                    names.append(self._read_meta(f"{root}/{entry}/{META_NAME}").name)
                else:
                    names.append(unquote(entry))
        return sorted(names)

    def create_stream(self, meta: StreamMeta) -> None:
        """Make a stream, durably.

        Raises:
            BadRequest: its name or number of partitions cannot be.
            NotAllowed: there is one of that name.
            StorageDamaged: there is the log of one, without its metadata.
            StorageError: the disk is at fault.
        """
        check_stream_name(meta.name)
        if not 1 <= meta.partitions <= PARTITIONS_MAX:
            raise BadRequest(
                f"stream of {meta.partitions} partitions, allowed are 1 to {PARTITIONS_MAX}"
            )
        path = self._stream_path(meta.name)
        with _faults(path):
            if self._files.exists(f"{path}/{META_NAME}"):
                raise NotAllowed(f"there is a stream {meta.name!r} already")
            self._check_no_log(path)
            self._files.make_dir(path)
        self.save_stream(meta)

    def load_stream(self, name: str) -> StreamMeta:
        """A stream's metadata.

        Raises:
            UnknownStream: there is no such stream.
            StorageDamaged: it does not pass its checks.
            StorageError: the disk is at fault.
        """
        check_stream_name(name)
        path = f"{self._stream_path(name)}/{META_NAME}"
        with _faults(path):
            if not self._files.exists(path):
                self._check_no_log(self._stream_path(name))
                raise UnknownStream(f"there is no stream {name!r}")
            meta = self._read_meta(path)
        if meta.name != name:
            raise StorageDamaged(f"{path} is of stream {meta.name!r}, not of {name!r}")
        return meta

    def _has_log(self, path: str) -> bool:
        """Whether a stream's directory has partitions: they are made after its metadata."""
        return self._files.exists(path) and any(map(str.isdecimal, self._files.listdir(path)))

    def _check_no_log(self, path: str) -> None:
        if self._has_log(path):
            raise StorageDamaged(f"{path}/{META_NAME}: the file is gone, and the log is there")

    def save_stream(self, meta: StreamMeta) -> None:
        """Put `meta` in place of what is kept of a stream, durably: all of it or nothing.

        Raises:
            DiskFull: no room; what was there is still there.
            StorageError: the disk is at fault.
        """
        path = f"{self._stream_path(meta.name)}/{META_NAME}"
        with _faults(path):
            self._files.replace(path, meta.to_bytes())

    def _read_meta(self, path: str) -> StreamMeta:
        try:
            return StreamMeta.from_bytes(self._files.read(path))
        except StorageDamaged as error:
            raise StorageDamaged(f"{path}: {error.message}") from error

    def _stream_path(self, name: str) -> str:
        return f"{self.path}/{STREAMS_NAME}/{encode_name(name)}"

    # -------------------------------------------------------------------------------- partitions

    def partition_path(self, name: str, partition: int) -> str:
        return partition_path(self.path, name, partition)

    def open_partition(self, name: str, partition: int, settings: LogSettings, codec: Codec) -> Log:
        """Open a partition's log: see `PartitionLog.open`. One in memory begins empty, and
        leaves nothing on the disk.

        Raises:
            UnknownStream: there is no such stream.
            UnknownPartition: it has no such partition.
            StorageError: the disk is at fault.
        """
        meta = self.load_stream(name)
        if not 0 <= partition < meta.partitions:
            raise UnknownPartition(
                f"stream {name!r} has partitions 0 to {meta.partitions - 1}, not {partition}"
            )
        if meta.storage == "memory":
            return MemoryLog(f"partition {partition} of {name!r} in memory", settings)
        path = self.partition_path(name, partition)
        return PartitionLog.open(self._files, path, settings, codec)

    # ------------------------------------------------------------------------------ dictionaries

    def dictionaries(self, name: str) -> dict[int, bytes]:
        """A stream's dictionaries by their id.

        Raises:
            StorageDamaged: one of them does not pass its checks.
            StorageError: the disk is at fault.
        """
        path = self._stream_path(name)
        found = {}
        with _faults(path):
            for entry in self._files.listdir(path):
                match = _DICTIONARY_NAME.fullmatch(entry)
                if match:
                    found[int(match[1], 16)] = read_dictionary(self._files, f"{path}/{entry}")
        return found

    def add_dictionary(self, name: str, data: bytes) -> int:
        """Keep a dictionary with a stream, durably; its id, which is made from its content.

        To use it for new batches, save the stream with it as `dictionary_id`.

        Raises:
            DiskFull: no room.
            StorageError: the disk is at fault, or another dictionary has that id.
        """
        number = crc32c.crc32c(data) or 1
        path = f"{self._stream_path(name)}/{number:08x}{DICTIONARY_SUFFIX}"
        with _faults(path):
            if self._files.exists(path):
                if read_dictionary(self._files, path) != data:
                    raise StorageError(f"{path}: another dictionary has the id {number:#010x}")
                return number
            self._files.replace(path, sidecar.pack(_DICTIONARY_KIND, {"data": data}))
        return number


def read_dictionary(files: Files, path: str) -> bytes:
    """A dictionary's content.

    Raises:
        StorageDamaged: the file does not pass its checks.
    """
    data = sidecar.unpack(_DICTIONARY_KIND, files.read(path)).get("data")
    if not isinstance(data, bytes):
        raise StorageDamaged(f"{path}: no dictionary")
    return data


@contextlib.contextmanager
def _faults(path: str) -> Iterator[None]:
    """Say `StorageError` for what the disk says, and `DiskFull` where there is no room."""
    try:
        yield
    except OSError as error:
        if no_room(error):
            raise DiskFull(f"{path}: no room on the disk", errno=error.errno) from error
        raise StorageError(f"{path}: {error.strerror or error}") from error
