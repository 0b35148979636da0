"""The data directory: its lock, its streams and their names, what is kept beside the logs."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.batch import Codec
from streamer.errors import (
    BadRequest,
    DirectoryLocked,
    DiskFull,
    NotAllowed,
    PartitionStopped,
    StorageDamaged,
    StorageError,
    UnknownPartition,
    UnknownStream,
)
from streamer.storage import sidecar
from streamer.storage.directory import (
    DataDirectory,
    StreamMeta,
    check_stream_name,
    encode_name,
)
from streamer.storage.files import RealFiles
from streamer.storage.partition import LogSettings
from streamer.testing.memory_files import MemoryFiles

META = StreamMeta(
    "orders",
    3,
    created_us=17,
    dictionary_id=5,
    floors={"billing": {0: 7, 2: 9}, "audit": {}},
    producers={"a": (2**64 - 1, 3), "b": (1, 0)},
)


@pytest.fixture
def directory(files: MemoryFiles) -> DataDirectory:
    return DataDirectory.open(files, "/srv/data")


# --------------------------------------------------------------------------------------- names


@given(st.text(min_size=1, max_size=210))
def test_a_name_that_is_allowed_is_one_safe_path_segment(name: str) -> None:
    try:
        check_stream_name(name)
    except BadRequest:
        assert not name.isprintable() or len(name) > 200 or name in (".", "..") or "/" in name
        return
    encoded = encode_name(name)
    assert encoded
    assert len(encoded.encode()) <= 200
    assert encoded.isascii()
    assert not set(encoded) & set("/\\\0. \n")


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=2, unique=True))
def test_two_names_are_two_paths(names: list[str]) -> None:
    names = [name for name in names if name.isprintable()]
    assert len({encode_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/", "a\0b", "a\nb", "\x1b[2J", "\ud800", "x" * 201, "../../etc/passwd"],
)
def test_names_that_are_not_allowed(directory: DataDirectory, name: str) -> None:
    with pytest.raises(BadRequest, match="stream name"):
        directory.create_stream(StreamMeta(name, 1))
    with pytest.raises(BadRequest, match="stream name"):
        directory.load_stream(name)


NAMES = [
    "orders",
    "...",
    "a b",
    "%41",
    "A",
    "~",
    "é",
    "注文" * 100,
    "x" * 200,
    "💧" * 200,
    "stream",
]


def test_names_of_all_kinds_come_back(files: MemoryFiles, directory: DataDirectory) -> None:
    for name in NAMES:
        directory.create_stream(StreamMeta(name, 1))
    directory.close()
    directory = DataDirectory.open(files, "/srv/data")
    assert directory.streams() == sorted(NAMES)
    for name in NAMES:
        assert directory.load_stream(name).name == name


def test_names_of_all_kinds_on_the_real_file_system(tmp_path: Path) -> None:
    directory = DataDirectory.open(RealFiles(), f"{tmp_path}/a/b")
    for name in NAMES:
        directory.create_stream(StreamMeta(name, 1))
        directory.open_partition(name, 0, LogSettings(), Codec()).plan_close().run()
    assert directory.streams() == sorted(NAMES)
    directory.close()
    for path in tmp_path.rglob("*"):
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600)


def test_long_names_that_begin_alike_are_two(directory: DataDirectory) -> None:
    names = ["é" * 150 + end for end in ("a", "b")]
    for name in names:
        directory.create_stream(StreamMeta(name, 1))
    assert directory.streams() == sorted(names)


# ---------------------------------------------------------------------------------------- lock


def test_one_daemon_has_the_directory(files: MemoryFiles, directory: DataDirectory) -> None:
    with pytest.raises(DirectoryLocked, match="held by process"):
        DataDirectory.open(files, "/srv/data")
    directory.close()
    DataDirectory.open(files, "/srv/data").close()
    lock = files.lock("/srv/data/lock")
    files.kill()
    lock.release()
    DataDirectory.open(files, "/srv/data")


def test_a_directory_that_cannot_be_made_is_not_kept_locked(files: MemoryFiles) -> None:
    files.make_dir("/srv/data")
    files.fail_call(files.calls + 5)
    with pytest.raises(StorageError, match="Input/output"):
        DataDirectory.open(files, "/srv/data")
    assert files.trace[-2:] == ["lock /srv/data/lock", "make_dir /srv/data/streams"]
    DataDirectory.open(files, "/srv/data").close()


def test_a_full_disk_while_opening(files: MemoryFiles) -> None:
    files.fail_next("make_dir", errno.ENOSPC)
    with pytest.raises(DiskFull):
        DataDirectory.open(files, "/srv/data")


def test_the_nth_call_of_the_first_start_fails(kit: Any) -> None:
    """What is made on the way is made durable by whoever comes to use it."""
    for number in range(100):
        files = MemoryFiles()
        files.fail_call(number)
        attempts = 0
        while True:
            attempts += 1
            try:
                directory = DataDirectory.open(files.process(), "/srv/data")
                if "s" not in directory.streams():
                    directory.create_stream(StreamMeta("s", 1))
                log = directory.open_partition("s", 0, LogSettings(), kit.codec)
                kit.append(log, [b"a"])
            except (StorageError, PartitionStopped):
                files.kill()
                continue
            break
        files.heal()
        values = kit.read(log)
        files.power_cut(random.Random(number))
        directory = DataDirectory.open(files, "/srv/data")
        log = directory.open_partition("s", 0, LogSettings(), kit.codec)
        assert kit.read(log) == values
        assert values in ([b"a"], [b"a", b"a"])
        if attempts == 1:
            break
    assert number > 15


# ------------------------------------------------------------------------------------- streams


def test_a_stream_s_metadata_comes_back(files: MemoryFiles, directory: DataDirectory) -> None:
    directory.create_stream(META)
    assert directory.load_stream("orders") == META
    changed = attrs.evolve(META, producers={"a": (7, 4)}, floors={})
    directory.save_stream(changed)
    files.power_cut(random.Random(1))
    directory = DataDirectory.open(files, "/srv/data")
    assert directory.load_stream("orders") == changed
    assert directory.streams() == ["orders"]
    assert list(directory.load_stream("orders").producers) == ["a"]


def test_the_order_of_producers_is_kept() -> None:
    meta = StreamMeta("s", 1, producers={"z": (1, 1), "a": (2, 2), "m": (3, 3)})
    assert list(StreamMeta.from_bytes(meta.to_bytes()).producers) == ["z", "a", "m"]


def test_a_stream_is_made_once(directory: DataDirectory) -> None:
    directory.create_stream(META)
    with pytest.raises(NotAllowed, match="already"):
        directory.create_stream(META)
    for partitions in (0, -1, 4097):
        with pytest.raises(BadRequest, match="partitions"):
            directory.create_stream(StreamMeta("other", partitions))
    with pytest.raises(UnknownStream):
        directory.load_stream("other")


def test_a_stream_that_was_not_made_in_full_is_none(
    files: MemoryFiles, directory: DataDirectory
) -> None:
    files.fail_next("create")
    with pytest.raises(StorageError):
        directory.create_stream(META)
    assert directory.streams() == []
    with pytest.raises(UnknownStream):
        directory.load_stream("orders")
    directory.create_stream(META)
    assert directory.load_stream("orders") == META


@pytest.mark.parametrize("name", ["orders", "é" * 100])
def test_a_log_without_its_metadata_is_damage_and_no_new_stream(
    files: MemoryFiles, directory: DataDirectory, name: str
) -> None:
    """Made anew it could have fewer partitions, and what lies in the others would be lost."""
    meta = attrs.evolve(META, name=name)
    directory.create_stream(meta)
    directory.open_partition(name, 2, LogSettings(), Codec())
    files.unlink(f"/srv/data/streams/{encode_name(name)}/stream")
    # A long name is not in its path, so nobody can tell of which stream it is.
    assert directory.streams() == ([name] if name == "orders" else [])
    for refused in (lambda: directory.load_stream(name), lambda: directory.create_stream(meta)):
        with pytest.raises(StorageDamaged, match="the file is gone, and the log is there"):
            refused()


def test_metadata_that_cannot_be_saved_stays_as_it_was(
    files: MemoryFiles, directory: DataDirectory
) -> None:
    directory.create_stream(META)
    files.fail_next("write", errno.ENOSPC)
    with pytest.raises(DiskFull) as caught:
        directory.save_stream(attrs.evolve(META, created_us=5))
    assert caught.value.retryable
    files.fail_next("sync", errno.ENOSPC)
    with pytest.raises(StorageError):
        directory.save_stream(attrs.evolve(META, created_us=5))
    assert directory.load_stream("orders") == META


def test_damaged_metadata(files: MemoryFiles, directory: DataDirectory) -> None:
    directory.create_stream(META)
    directory.create_stream(StreamMeta("é" * 100, 1))
    path = "/srv/data/streams/orders/stream"
    for position in range(files.size(path)):
        files.flip_bit(path, position)
        with pytest.raises(StorageDamaged, match="streams/orders/stream"):
            directory.load_stream("orders")
        assert "orders" in directory.streams(), "the others can still be served"
        files.flip_bit(path, position)
    files.replace(path, StreamMeta("other", 1).to_bytes())
    with pytest.raises(StorageDamaged, match="of stream 'other'"):
        directory.load_stream("orders")
    long = next(n for n in files.listdir("/srv/data/streams") if "~" in n)
    files.flip_bit(f"/srv/data/streams/{long}/stream", 30)
    with pytest.raises(StorageDamaged):
        directory.streams()


@pytest.mark.parametrize(
    "change",
    [
        {"partitions": "x"},
        {"floors": 5},
        {"floors": {"g": [[1]]}},
        {"producers": {"p": [1, 2, 3]}},
        {"producers": [1]},
        {"created": None},
        {"storage": "tape"},
        {"storage": None},
    ],
)
def test_metadata_with_a_bad_field(change: dict[str, Any]) -> None:
    content = sidecar.unpack("stream", META.to_bytes())
    with pytest.raises(StorageDamaged, match="bad field"):
        StreamMeta.from_bytes(sidecar.pack("stream", {**content, **change}))
    if "storage" in change:
        return
    for key in change:
        del content[key]
    with pytest.raises(StorageDamaged, match="bad field"):
        StreamMeta.from_bytes(sidecar.pack("stream", content))


def test_a_stream_from_before_there_was_a_choice_is_on_the_disk() -> None:
    content = sidecar.unpack("stream", META.to_bytes())
    assert content.pop("storage") == "disk"
    assert StreamMeta.from_bytes(sidecar.pack("stream", content)) == META


def test_a_disk_at_fault(files: MemoryFiles, directory: DataDirectory) -> None:
    directory.create_stream(META)
    for operation, call in (
        ("listdir", directory.streams),
        ("read", lambda: directory.load_stream("orders")),
        ("listdir", lambda: directory.dictionaries("orders")),
    ):
        files.fail_next(operation)
        with pytest.raises(StorageError, match="Input/output"):
            call()


# ---------------------------------------------------------------------------------- partitions


def test_partitions_are_opened_by_number(kit: Any, directory: DataDirectory) -> None:
    directory.create_stream(META)
    log = directory.open_partition("orders", 2, LogSettings(), kit.codec)
    assert log.path == directory.partition_path("orders", 2) == "/srv/data/streams/orders/2"
    kit.append(log, [b"a"])
    other = directory.open_partition("orders", 0, LogSettings(), kit.codec)
    assert other.next_offset == 0
    for number in (-1, 3):
        with pytest.raises(UnknownPartition):
            directory.open_partition("orders", number, LogSettings(), kit.codec)
    with pytest.raises(UnknownStream):
        directory.open_partition("nobody", 0, LogSettings(), kit.codec)


def test_a_partition_in_memory_leaves_nothing_on_the_disk(
    kit: Any, files: MemoryFiles, directory: DataDirectory
) -> None:
    directory.create_stream(attrs.evolve(META, name="presence", storage="memory"))
    calls = [call for call in files.trace if not call.startswith(("exists", "read", "open"))]
    for number in range(3):
        log = directory.open_partition("presence", number, LogSettings(), kit.codec)
        assert log.in_memory
        assert (log.path, log.next_offset) == (f"partition {number} of 'presence' in memory", 0)
        kit.append(log, [b"a"])
        kit.close(log)
    with pytest.raises(UnknownPartition, match="has partitions 0 to 2, not 3"):
        directory.open_partition("presence", 3, LogSettings(), kit.codec)
    changes = [call for call in files.trace if not call.startswith(("exists", "read", "open"))]
    assert changes == calls
    assert files.listdir("/srv/data/streams/presence") == ["stream"]
    again = DataDirectory.open_partition
    assert again(directory, "presence", 0, LogSettings(), kit.codec).next_offset == 0


# -------------------------------------------------------------------------------- dictionaries


def test_dictionaries_are_kept_with_their_stream(
    files: MemoryFiles, directory: DataDirectory
) -> None:
    directory.create_stream(META)
    assert directory.dictionaries("orders") == {}
    first = directory.add_dictionary("orders", b"one dictionary")
    second = directory.add_dictionary("orders", b"another")
    assert directory.add_dictionary("orders", b"one dictionary") == first
    assert 0 < first != second
    assert directory.add_dictionary("orders", b"") == 1, "0 means none"
    files.power_cut(random.Random(1))
    directory = DataDirectory.open(files, "/srv/data")
    expected = {first: b"one dictionary", second: b"another", 1: b""}
    assert directory.dictionaries("orders") == expected
    path = f"/srv/data/streams/orders/{first:08x}.dict"
    files.flip_bit(path, 20)
    with pytest.raises(StorageDamaged):
        directory.dictionaries("orders")
    files.replace(path, sidecar.pack("dictionary", {"data": "text"}))
    with pytest.raises(StorageDamaged, match="no dictionary"):
        directory.dictionaries("orders")
    files.replace(path, sidecar.pack("dictionary", {"data": b"of the same id"}))
    with pytest.raises(StorageError, match="another dictionary has the id"):
        directory.add_dictionary("orders", b"one dictionary")
    files.fail_next("write", errno.ENOSPC)
    with pytest.raises(DiskFull):
        directory.add_dictionary("orders", b"a third")
