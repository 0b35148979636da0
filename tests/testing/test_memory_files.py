"""The model of a disk keeps the promises that a disk keeps, and breaks those that it breaks."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from streamer.errors import DirectoryLocked
from streamer.testing.memory_files import SECTOR_BYTES, MemoryFiles, ProcessDied

SEEDS = range(60)


def outcomes(make: Callable[[], MemoryFiles], look: Callable[[MemoryFiles], object]) -> set[object]:
    """What can be seen after a power cut, over many seeds."""
    seen = set()
    for seed in SEEDS:
        files = make()
        files.power_cut(random.Random(seed))
        seen.add(look(files))
    return seen


def write_durably(files: MemoryFiles, path: str, data: bytes) -> None:
    file = files.create(path)
    file.write_at(0, [data])
    file.sync()
    file.close()
    files.sync_dir("/d")


@pytest.fixture
def files() -> MemoryFiles:
    files = MemoryFiles()
    files.make_dir("/d")
    return files


def test_writes_and_reads_bytes() -> None:
    files = MemoryFiles()
    files.make_dir("/d/e")
    file = files.create("/d/e/f")
    file.write_at(0, [b"abc", memoryview(b"def")])
    file.write_at(8, [b"x"])
    assert files.read("/d/e/f") == b"abcdef\0\0x"
    assert file.read_at(1, 3) == b"bcd"
    assert file.read_at(7, 100) == b"\0x"
    assert file.size() == files.size("/d/e/f") == 9
    file.truncate(2)
    assert files.read("/d/e/f") == b"ab"
    file.truncate(4)
    assert files.read("/d/e/f") == b"ab\0\0"
    assert files.listdir("/d") == ["e"]
    assert files.listdir("/d/e") == ["f"]


def test_names(files: MemoryFiles) -> None:
    files.create("/d/a").close()
    with pytest.raises(FileExistsError):
        files.create("/d/a")
    files.rename("/d/a", "/d/b")
    assert files.listdir("/d") == ["b"]
    assert not files.exists("/d/a")
    assert files.exists("/d/b")
    assert files.exists("/d")
    assert not files.exists("/no/b")
    files.unlink("/d/b")
    for call in (files.open, files.open_read, files.read, files.unlink, files.size):
        with pytest.raises(FileNotFoundError):
            call("/d/b")
    with pytest.raises(FileNotFoundError):
        files.listdir("/e")
    with pytest.raises(IsADirectoryError):
        files.read("/d")
    files.make_dir("/d")
    files.make_dir("/")
    files.replace("/d/r", b"1")
    files.replace("/d/r", b"2")
    assert files.listdir("/d") == ["r"]
    assert files.read("/d/r") == b"2"


def test_a_closed_file_and_one_opened_to_read_refuse(files: MemoryFiles) -> None:
    write_durably(files, "/d/f", b"abc")
    file = files.open_read("/d/f")
    with pytest.raises(AssertionError):
        file.write_at(0, [b"x"])
    with pytest.raises(AssertionError):
        file.truncate(0)
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read_at(0, 1)


def test_what_is_synced_survives_a_power_cut() -> None:
    def make() -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d")
        write_durably(files, "/d/f", b"a" * 2000)
        return files

    assert outcomes(make, lambda files: files.read("/d/f")) == {b"a" * 2000}


def test_what_is_not_synced_may_be_lost_torn_zeroed_or_kept() -> None:
    def make() -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d")
        write_durably(files, "/d/f", b"a" * 100)
        files.open("/d/f").write_at(100, [b"b" * 4 * SECTOR_BYTES])
        return files

    size = 100 + 4 * SECTOR_BYTES
    seen = outcomes(make, lambda files: files.read("/d/f"))
    assert all(isinstance(data, bytes) and data[:100] == b"a" * 100 for data in seen)
    assert b"a" * 100 in seen
    assert b"a" * 100 + b"b" * 4 * SECTOR_BYTES in seen
    assert any(100 < len(data) < size for data in seen if isinstance(data, bytes))
    holes = [data for data in seen if isinstance(data, bytes) and b"\0b" in data]
    assert holes, "a later sector may reach the disk before an earlier one"


def test_an_overwrite_that_is_not_synced_may_be_lost_in_part() -> None:
    def make() -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d")
        write_durably(files, "/d/f", b"a" * 4 * SECTOR_BYTES)
        files.open("/d/f").write_at(0, [b"b" * 4 * SECTOR_BYTES])
        return files

    seen = outcomes(make, lambda files: files.read("/d/f"))
    assert b"a" * 4 * SECTOR_BYTES in seen
    assert b"b" * 4 * SECTOR_BYTES in seen
    assert len(seen) > 3


def test_a_cut_that_is_not_synced_may_be_undone() -> None:
    def make() -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d")
        write_durably(files, "/d/f", b"abcdef")
        files.open("/d/f").truncate(2)
        return files

    seen = outcomes(make, lambda files: files.read("/d/f"))
    assert {b"ab", b"abcdef"} <= seen


@pytest.mark.parametrize("change", ["create", "unlink", "rename"])
def test_names_are_durable_only_after_sync_dir(change: str) -> None:
    def make(sync: bool = False) -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d")
        write_durably(files, "/d/old", b"old")
        write_durably(files, "/d/other", b"other")
        if change == "create":
            files.create("/d/new").sync()
        elif change == "unlink":
            files.unlink("/d/old")
        else:
            files.rename("/d/old", "/d/other")
        if sync:
            files.sync_dir("/d")
        return files

    def look(files: MemoryFiles) -> object:
        names = files.listdir("/d")
        return tuple((name, files.read(f"/d/{name}")) for name in names)

    before = (("old", b"old"), ("other", b"other"))
    after = {
        "create": (("new", b""), ("old", b"old"), ("other", b"other")),
        "unlink": (("other", b"other"),),
        "rename": (("other", b"old"),),
    }[change]
    assert outcomes(make, look) == {before, after}
    assert outcomes(lambda: make(sync=True), look) == {after}


def test_a_directory_whose_name_is_lost_is_lost_with_all_that_is_in_it() -> None:
    def make() -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d/e")
        # As if the sync of the parent had not been done.
        files._disk.directories["/"].undo.append({"d": (False, None)})
        return files

    seen = outcomes(make, lambda files: (files.exists("/d"), files.exists("/d/e")))
    assert seen == {(True, True), (False, False)}


def test_changes_of_names_are_lost_from_the_last_one_on() -> None:
    def make() -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d")
        for name in "abc":
            files.create(f"/d/{name}").sync()
        return files

    seen = outcomes(make, lambda files: "".join(files.listdir("/d")))
    assert seen == {"", "a", "ab", "abc"}


def test_a_failed_sync_drops_what_it_should_have_written(files: MemoryFiles) -> None:
    write_durably(files, "/d/f", b"a" * SECTOR_BYTES)
    file = files.open("/d/f")
    file.write_at(0, [b"b" * SECTOR_BYTES])
    files.fail_next("sync")
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    file.sync()
    assert files.read("/d/f") == b"b" * SECTOR_BYTES, "programs still see it"
    files.kill()
    assert files.read("/d/f") == b"b" * SECTOR_BYTES
    file = files.open("/d/f")
    file.write_at(SECTOR_BYTES, [b"c"])
    files.evict()
    assert files.read("/d/f")[:SECTOR_BYTES] == b"a" * SECTOR_BYTES, "it was never on the disk"
    assert files.read("/d/f")[SECTOR_BYTES:] == b"c", "what is dirty stays in the cache"
    files.power_cut(random.Random(1))
    assert files.read("/d/f")[:SECTOR_BYTES] == b"a" * SECTOR_BYTES


def test_what_is_written_again_after_a_failed_sync_can_be_synced(files: MemoryFiles) -> None:
    write_durably(files, "/d/f", b"a")
    file = files.open("/d/f")
    file.write_at(0, [b"b"])
    files.fail_next("sync")
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    file.write_at(0, [b"b"])
    file.sync()
    files.power_cut(random.Random(1))
    assert files.read("/d/f") == b"b"


def test_a_killed_process_is_fenced_and_the_cache_survives(files: MemoryFiles) -> None:
    old = files.process()
    file = old.create("/d/f")
    file.write_at(0, [b"abc"])
    lock = old.lock("/d/lock")
    files.kill()
    calls: list[Callable[[], object]] = [
        lambda: file.write_at(0, [b"x"]),
        file.sync,
        file.size,
        lambda: file.truncate(0),
        lambda: old.unlink("/d/f"),
        lambda: old.exists("/d/f"),
        lambda: old.space("/d"),
        lambda: old.listdir("/d"),
    ]
    for call in calls:
        with pytest.raises(OSError, match="process is gone"):
            call()
    file.close()
    assert files.read("/d/f") == b"abc"
    new = files.lock("/d/lock")
    lock.release()
    with pytest.raises(DirectoryLocked, match="process 2"):
        files.lock("/d/lock")
    new.release()
    files.lock("/d/lock")


def test_a_lock_is_held_once(files: MemoryFiles) -> None:
    lock = files.lock("/d/lock")
    with pytest.raises(DirectoryLocked, match="held by process 1"):
        files.lock("/d/lock")
    lock.release()
    files.lock("/d/lock").release()


def test_what_was_cut_off_without_a_sync_may_come_back() -> None:
    def make(sync: bool = False) -> MemoryFiles:
        files = MemoryFiles()
        files.make_dir("/d")
        write_durably(files, "/d/f", b"a")
        files.write_back_with(random.Random(len(made)))
        made.append(files)
        file = files.open("/d/f")
        file.write_at(1, [b"b" * 3])
        file.truncate(1)
        if sync:
            file.sync()
        return files

    made: list[MemoryFiles] = []
    assert b"abbb" in outcomes(make, lambda files: files.read("/d/f"))
    assert outcomes(lambda: make(sync=True), lambda files: files.read("/d/f")) == {b"a"}


def test_a_full_disk_takes_what_fits(files: MemoryFiles) -> None:
    files.capacity_bytes = 10
    file = files.create("/d/f")
    file.write_at(0, [b"abcdef"])
    assert files.space("/d") == (4, 10)
    with pytest.raises(OSError, match="No space left") as caught:
        file.write_at(6, [b"ghijklmnop"])
    assert caught.value.errno == errno.ENOSPC
    assert files.read("/d/f") == b"abcdefghij"
    assert files.used_bytes() == files.capacity_bytes == 10
    file.write_at(0, [b"ABCDEF"])
    with pytest.raises(OSError, match="no space left"):
        files.create("/d/g")
    file.truncate(6)
    file.write_at(6, [b"ghij"])
    assert files.space("/d") == (0, 10)
    assert MemoryFiles(capacity_bytes=7).capacity_bytes == 7


def test_a_disk_that_has_become_smaller_than_what_is_on_it_takes_nothing(
    files: MemoryFiles,
) -> None:
    file = files.create("/d/f")
    file.write_at(0, [b"abcdef"])
    files.capacity_bytes = 3
    with pytest.raises(OSError, match="No space left"):
        file.write_at(6, [b"g"])
    assert files.read("/d/f") == b"abcdef"


def test_calls_fail_by_name_and_by_number(files: MemoryFiles) -> None:
    files.fail_next("open", errno.EMFILE, times=2)
    files.create("/d/f")
    for _ in range(2):
        with pytest.raises(OSError, match="Too many open files"):
            files.open("/d/f")
    files.open("/d/f")
    files.fail_call(files.calls + 1)
    files.open("/d/f")
    with pytest.raises(OSError, match="Input/output"):
        files.open("/d/f")
    files.open("/d/f")
    assert files.trace[-3:] == ["open /d/f"] * 3
    files.fail_next("open")
    files.fail_call(files.calls)
    files.die_at_call(files.calls)
    files.heal()
    files.open("/d/f")


def test_a_write_that_fails_leaves_a_part_behind(files: MemoryFiles) -> None:
    file = files.create("/d/f")
    files.fail_next("write")
    with pytest.raises(OSError, match="Input/output"):
        file.write_at(0, [b"abcd"])
    assert files.read("/d/f") == b"ab"


def test_a_process_dies_at_a_call(files: MemoryFiles) -> None:
    old = files.process()
    file = old.create("/d/f")
    files.die_at_call(files.calls + 1)
    file.write_at(0, [b"abcd"])
    with pytest.raises(ProcessDied):
        file.write_at(4, [b"efgh"])
    with pytest.raises(OSError, match="process is gone"):
        file.sync()
    assert files.read("/d/f") == b"abcdef"


def test_the_power_is_cut_at_a_call(files: MemoryFiles) -> None:
    write_durably(files, "/d/f", b"ab")
    file = files.open("/d/f")
    file.write_at(2, [b"cd"])
    files.die_at_call(files.calls, random.Random(1))
    with pytest.raises(ProcessDied):
        file.sync()
    assert files.read("/d/f")[:2] == b"ab"
    with pytest.raises(OSError, match="process is gone"):
        file.sync()


def test_damage_is_on_the_disk_and_in_the_cache(files: MemoryFiles) -> None:
    write_durably(files, "/d/f", b"abc")
    files.flip_bit("/d/f", 1)
    files.overwrite("/d/f", 2, b"x")
    files.evict()
    assert files.read("/d/f") == b"acx"
    files.power_cut(random.Random(1))
    assert files.read("/d/f") == b"acx"


def test_damage_to_what_is_only_in_the_cache(files: MemoryFiles) -> None:
    files.create("/d/f").write_at(0, [b"abc"])
    files.flip_bit("/d/f", 1)
    assert files.read("/d/f") == b"acc"
    with pytest.raises(IndexError):
        files.flip_bit("/d/f", 3)


def test_renames_stay_in_their_directory(files: MemoryFiles) -> None:
    files.create("/d/f")
    with pytest.raises(AssertionError):
        files.rename("/d/f", "/f")


def test_the_trace_is_bounded(files: MemoryFiles) -> None:
    for _ in range(100_010):
        files.listdir("/d")
    assert 50_000 <= len(files.trace) <= 100_000
    assert files.calls > 100_000
