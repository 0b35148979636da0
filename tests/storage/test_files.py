"""The real file system, through the same protocol as the one in memory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streamer.errors import DirectoryLocked
from streamer.storage.files import RealFile, RealFiles, SyncFailed, new_file, no_room
from streamer.testing.memory_files import MemoryFiles


@pytest.fixture
def real() -> RealFiles:
    return RealFiles()


def test_a_gathered_write_and_reads(real: RealFiles, tmp_path: Path) -> None:
    file = real.create(f"{tmp_path}/f")
    file.write_at(0, [b"abc", memoryview(b"defg")[1:], b""])
    file.write_at(10, [b"x"])
    assert real.read(f"{tmp_path}/f") == b"abcefg\0\0\0\0x"
    assert file.read_at(2, 3) == b"cef"
    assert file.read_at(9, 100) == b"\0x"
    assert file.read_at(11, 5) == b""
    assert file.size() == real.size(f"{tmp_path}/f") == 11
    file.truncate(4)
    file.sync()
    assert real.read(f"{tmp_path}/f") == b"abce"
    file.close()
    file.close()
    assert real.open(f"{tmp_path}/f").read_at(0, 2) == b"ab"
    reader = real.open_read(f"{tmp_path}/f")
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.write_at(0, [b"x"])


def test_more_buffers_than_the_system_takes_at_once(real: RealFiles, tmp_path: Path) -> None:
    file = real.create(f"{tmp_path}/f")
    buffers = [b"%d," % n for n in range(5000)]
    buffers[7] = b""
    file.write_at(3, buffers)
    assert real.read(f"{tmp_path}/f") == bytes(3) + b"".join(buffers)


def test_a_short_write_is_gone_on_with(
    real: RealFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may take less than it was given; here it takes at most seven bytes."""
    whole = os.pwritev

    def seven(fd: int, buffers: list[bytes], position: int) -> int:
        return whole(fd, [b"".join(buffers)[:7]], position)

    file = real.create(f"{tmp_path}/f")
    monkeypatch.setattr("streamer.storage.files.os.pwritev", seven)
    file.write_at(1, [b"abc", b"", b"defghijk", b"lmnopqrstuvw", b"xyz"])
    assert real.read(f"{tmp_path}/f") == b"\0abcdefghijklmnopqrstuvwxyz"


def test_a_short_read_is_gone_on_with(
    real: RealFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pread
    file = real.create(f"{tmp_path}/f")
    file.write_at(0, [b"abcdefghij"])
    monkeypatch.setattr(
        "streamer.storage.files.os.pread", lambda fd, n, at: whole(fd, min(n, 3), at)
    )
    assert file.read_at(1, 8) == b"bcdefghi"
    assert file.read_at(1, 80) == b"bcdefghij"


def test_files_and_directories_are_private(real: RealFiles, tmp_path: Path) -> None:
    real.make_dir(f"{tmp_path}/a/b/c/")
    real.create(f"{tmp_path}/a/b/c/f").close()
    real.replace(f"{tmp_path}/a/b/c/r", b"x")
    real.lock(f"{tmp_path}/a/b/c/lock")
    for path in Path(f"{tmp_path}/a").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    real.make_dir(f"{tmp_path}/a/b")
    real.make_dir("/")


def test_relative_paths(real: RealFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real.make_dir("d/e")
    real.replace("f", b"1")
    assert sorted(os.listdir(".")) == ["d", "f"]
    assert real.exists("d/e")


def test_names(real: RealFiles, tmp_path: Path) -> None:
    path = f"{tmp_path}/f"
    real.create(path).close()
    with pytest.raises(FileExistsError):
        real.create(path)
    real.rename(path, f"{tmp_path}/g")
    assert real.listdir(str(tmp_path)) == ["g"]
    assert not real.exists(path)
    assert real.exists(f"{tmp_path}/g")
    real.unlink(f"{tmp_path}/g")
    for call in (real.open, real.open_read, real.read, real.size, real.unlink):
        with pytest.raises(FileNotFoundError):
            call(path)
    real.sync_dir(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        real.sync_dir(path)
    free, total = real.space(str(tmp_path))
    assert 0 < free <= total


def test_replace_is_all_or_nothing(real: RealFiles, tmp_path: Path) -> None:
    path = f"{tmp_path}/f"
    real.replace(path, b"old")
    Path(f"{path}.tmp").write_bytes(b"left by somebody who died")
    real.replace(path, b"new")
    assert real.read(path) == b"new"
    assert real.listdir(str(tmp_path)) == ["f"]


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename", "sync_dir"])
def test_a_replace_that_fails_leaves_the_old_one_and_no_litter(operation: str) -> None:
    files = MemoryFiles()
    files.make_dir("/d")
    files.replace("/d/f", b"old")
    files.fail_next(operation)
    with pytest.raises(OSError, match="Input/output"):
        files.replace("/d/f", b"new")
    assert files.listdir("/d") == ["f"]
    assert files.read("/d/f") == (b"new" if operation == "sync_dir" else b"old")


def test_what_the_block_of_a_new_file_raises_is_not_hidden() -> None:
    files = MemoryFiles()
    files.make_dir("/d")

    def fail() -> None:
        with new_file(files, "/d/f"):
            files.fail_next("unlink")
            raise OSError(errno.ENOSPC, "the first")

    with pytest.raises(OSError, match="the first"):
        fail()


def test_one_process_holds_a_lock(real: RealFiles, tmp_path: Path) -> None:
    path = f"{tmp_path}/lock"
    lock = real.lock(path)
    with pytest.raises(DirectoryLocked, match=f"process {os.getpid()}"):
        real.lock(path)
    lock.release()
    lock.release()
    real.lock(path).release()
    Path(path).write_bytes(b"")
    lock = real.lock(path)
    Path(path).write_bytes(b"")
    with pytest.raises(DirectoryLocked, match="process unknown"):
        real.lock(path)


def test_a_lock_on_a_system_without_locks(
    real: RealFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("streamer.storage.files.fcntl.flock", refuse)
    with pytest.raises(OSError, match="no locks"):
        real.lock(f"{tmp_path}/lock")


def test_a_lock_goes_with_its_process(real: RealFiles, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys
        from streamer.storage.files import RealFiles
        lock = RealFiles().lock(sys.argv[1])
        print("locked", flush=True)
        sys.stdin.read()
        """
    )
    path = f"{tmp_path}/lock"
    other = subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(DirectoryLocked, match=f"process {other.pid}"):
            real.lock(path)
        other.kill()
        other.wait()
    real.lock(path).release()


def test_a_failed_sync_is_never_taken_for_a_full_disk(
    real: RealFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    file = real.create(f"{tmp_path}/f")
    monkeypatch.setattr("streamer.storage.files.os.fdatasync", fail)
    monkeypatch.setattr("streamer.storage.files.os.fsync", fail)
    with pytest.raises(SyncFailed, match="no space") as caught:
        file.sync()
    assert not no_room(caught.value)
    with pytest.raises(SyncFailed, match="no space") as caught:
        real.sync_dir(str(tmp_path))
    assert not no_room(caught.value)
    assert no_room(OSError(errno.ENOSPC, "no space left on device"))
    assert not no_room(OSError(errno.EIO, "input/output error"))


def test_a_directory_above_that_may_not_be_synced(
    real: RealFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data directory may stand in one that the daemon's user may pass through and not read."""

    def refuse(self: RealFiles, path: str) -> None:
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(RealFiles, "sync_dir", refuse)
    real.make_dir(str(tmp_path))
    with pytest.raises(PermissionError):
        real.make_dir(f"{tmp_path}/new")


def test_a_size_limit_of_the_system_is_a_full_disk(tmp_path: Path) -> None:
    """EFBIG, from the kernel itself: the append is refused, cut off, and goes in later."""
    script = textwrap.dedent(
        """
        import resource, sys
        from streamer.batch import Codec
        from streamer.errors import DiskFull
        from streamer.storage.files import RealFiles
        from streamer.storage.partition import Entry, LogSettings, PartitionLog

        files, codec = RealFiles(), Codec()

        def append(log, value):
            at = log.next_offset
            batch = codec.encode_values([value], now_us=1)
            placed = batch.placed(base_offset=at, append_time_us=1, high_water=at)
            plan = log.plan_append([Entry(placed)])
            try:
                plan.run(True)
            except DiskFull as error:
                log.failed(plan, error)
                return False
            log.committed(plan)
            return True

        log = PartitionLog.open(files, sys.argv[1], LogSettings(), codec)
        assert append(log, b"a" * 50)
        resource.setrlimit(resource.RLIMIT_FSIZE, (250, 10**9))
        size = files.size(sys.argv[1] + "/00000000000000000000.log")
        assert not append(log, bytes(range(200)))
        assert files.size(sys.argv[1] + "/00000000000000000000.log") == size
        assert len(log.plan_read(0, 1000).run().blob) == size
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))
        assert append(log, bytes(range(200)))
        log.plan_close().run()
        print(PartitionLog.open(files, sys.argv[1], LogSettings(), codec).next_offset)
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", script, f"{tmp_path}/p"], capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("2\n", "")


def test_closing_twice_does_not_close_somebody_else_s_file(tmp_path: Path) -> None:
    file = RealFile(os.open(f"{tmp_path}/f", os.O_CREAT | os.O_RDWR))
    file.close()
    other = os.open(f"{tmp_path}/g", os.O_CREAT | os.O_RDWR)
    file.close()
    os.close(other)
