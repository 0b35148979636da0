"""Plans that write: what is refused is nowhere, what fails stops the log, what is synced stays."""

from __future__ import annotations

import errno
import random
from typing import Any

import attrs
import pytest

from streamer.batch import Batch
from streamer.errors import Aborted, DiskFull, PartitionStopped
from streamer.records import ProducerStamp
from streamer.storage.partition import Entry, LogState
from streamer.testing.memory_files import MemoryFiles

P = "/data/p"
FIRST = f"{P}/00000000000000000000.log"


def test_a_commit_is_one_write_and_one_sync(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"first"])
    files.trace.clear()
    kit.append(log, [b"a", b"b"], [b"c"], [b"d"])
    assert files.trace == [f"write {FIRST}", f"sync {FIRST}"]
    assert kit.read(log) == [b"first", b"a", b"b", b"c", b"d"]
    assert (log.next_offset, log.high_water, log.durable_offset) == (5, 5, 5)


def test_nothing_is_readable_or_remembered_before_committed(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    stamp = ProducerStamp(7, 0, 0)
    plan = log.plan_append([kit.entry(log, [b"a"], stamp=stamp)])
    plan.run(True)
    assert (log.next_offset, log.high_water) == (0, 0)
    assert log.plan_read(0, 100) is None
    assert log.producers.last(7) is None
    log.committed(plan)
    assert (log.next_offset, log.high_water) == (1, 1)
    assert log.producers.last(7) == (0, 0, 0)


def test_appends_that_contradict_the_log_are_programmer_errors(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files)
    with pytest.raises(AssertionError):
        log.plan_append([])
    with pytest.raises(AssertionError, match="begin at next_offset"):
        log.plan_append([kit.entry(log, [b"a"], at=1)])
    with pytest.raises(AssertionError, match="without a gap"):
        log.plan_append([kit.entry(log, [b"a"]), kit.entry(log, [b"a"], at=2)])
    with pytest.raises(AssertionError, match="durable_offset"):
        log.plan_append([Entry(kit.batch([b"a"], at=0, high_water=1))])
    plan = log.plan_append([kit.entry(log, [b"a"])])
    with pytest.raises(AssertionError, match="one plan"):
        log.plan_append([kit.entry(log, [b"a"])])
    plan.run(False)
    log.committed(plan)
    with pytest.raises(AssertionError):
        log.committed(plan)
    sync = log.plan_sync()
    with pytest.raises(AssertionError, match="one plan"):
        log.plan_sync()
    with pytest.raises(AssertionError):
        log.failed(plan, DiskFull(""))
    sync.run()
    log.synced(sync)


# ------------------------------------------------------------------------------------ no room


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_what_did_not_fit_is_nowhere_even_after_a_crash(kit: Any, power: bool, fresh: bool) -> None:
    for seed in range(20):
        files = MemoryFiles()
        files.write_back_with(random.Random(seed))
        log = kit.open(files)
        if not fresh:
            kit.append(log, [b"kept"])
        before, kept, values = log.nbytes, log.next_offset, kit.read(log)
        entries = [kit.entry(log, [b"refused"]), kit.entry(log, [b"too"], at=kept + 1)]
        # The first batch fits whole, and the second in part.
        files.capacity_bytes = files.used_bytes() + entries[0].batch.nbytes + 30
        with pytest.raises(DiskFull) as caught:
            kit.commit(log, entries)
        assert caught.value.retryable
        assert caught.value.detail == {"errno": errno.ENOSPC}
        assert log.state is LogState.OPEN
        assert (log.next_offset, log.nbytes) == (kept, before)
        assert kit.read(log) == values
        if power:
            files.power_cut(random.Random(seed))
        else:
            files.kill()
        files.capacity_bytes = 10**9
        log = kit.open(files)
        assert kit.read(log) == values
        assert not log.recovery.cut


def test_writing_goes_on_when_there_is_room_again(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.capacity_bytes = files.used_bytes() + 50
    for _ in range(3):
        with pytest.raises(DiskFull):
            kit.append(log, [b"b"])
        assert kit.read(log) == [b"a"]
    files.capacity_bytes += 1000
    kit.append(log, [b"b"])
    assert kit.read(log) == [b"a", b"b"]
    files.power_cut(random.Random(1))
    assert kit.read(kit.open(files)) == [b"a", b"b"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("operation", ["write", "create", "open", "unlink"])
def test_all_ways_to_have_no_room(kit: Any, files: MemoryFiles, error: int, operation: str) -> None:
    log = kit.open(files, segment_bytes=1)
    kit.append(log, [b"a"])
    kit.close(log)
    log = kit.open(files, segment_bytes=10**6 if operation == "open" else 1)
    files.fail_next(operation, error)
    if operation in ("write", "create"):
        # The sidecars come first, and are no reason to refuse.
        files.fail_next(operation, error)
    with pytest.raises(DiskFull):
        kit.append(log, [b"b"])
    kit.append(log, [b"b"])
    files.power_cut(random.Random(1))
    assert kit.read(kit.open(files)) == [b"a", b"b"]


def test_a_roll_that_was_begun_is_gone_on_with(kit: Any, files: MemoryFiles) -> None:
    """A segment ends where the next one's file begins, so nothing may be appended before it."""
    log = kit.open(files, segment_bytes=400)
    kit.append(log, [b"a"])
    large = [random.Random(1).randbytes(300)]
    files.fail_next("write", errno.ENOSPC, times=2)
    with pytest.raises(DiskFull):
        kit.append(log, large)
    assert len([name for name in files.listdir(P) if name.endswith(".log")]) == 2
    # This one would fit into the first segment.
    kit.append(log, [b"b"])
    assert log.segment_count == 2
    assert kit.read(log) == [b"a", b"b"]
    files.kill()
    log = kit.open(files)
    assert kit.read(log) == [b"a", b"b"]


def test_what_an_append_left_in_a_new_segment_is_written_over(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    files.fail_next("write", errno.ENOSPC)
    files.fail_next("truncate", errno.EIO)
    with pytest.raises(PartitionStopped, match="cutting off"):
        kit.append(log, [b"x" * 200])
    files.kill()
    # As if the process had died before it could cut: the next one finds a part of a batch.
    log = kit.open(files)
    assert log.recovery.cut[0].first_offset == 0
    assert kit.read(log) == []
    file = files.create(f"{P}/00000000000000000001.log")
    file.write_at(0, [b"left over" * 100])
    file.close()
    kit.append(log, [b"a"])
    log._rolling = True
    kit.append(log, [b"b"])
    assert files.size(f"{P}/00000000000000000001.log") < 300
    assert kit.read(log) == [b"a", b"b"]


def test_without_file_handles_it_can_be_tried_again(kit: Any, files: MemoryFiles) -> None:
    for operation in ("create", "sync_dir"):
        log = kit.open(files, segment_bytes=1)
        before = kit.read(log)
        if operation == "create":
            files.fail_next(operation, errno.EMFILE)
            with pytest.raises(Aborted) as caught:
                kit.append(log, [b"x"])
            assert caught.value.retryable
        kit.append(log, [b"y"])
        assert kit.read(log) == [*before, b"y"]


# ------------------------------------------------------------------------------------- faults


def assert_stopped(kit: Any, log: Any, files: MemoryFiles, values: list[bytes]) -> None:
    assert log.state is LogState.STOPPED
    with pytest.raises(PartitionStopped):
        log.plan_append([kit.entry(log, [b"more"])])
    assert log.plan_sync() is None
    assert kit.read(log) == values
    files.trace.clear()
    kit.close(log)
    assert not [line for line in files.trace if line.startswith("sync")], "never tried again"
    assert "clean" not in files.listdir(P)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_sync_stops_the_log_for_good(kit: Any, files: MemoryFiles, error: int) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.fail_next("sync", error)
    with pytest.raises(PartitionStopped) as caught:
        kit.append(log, [b"b"])
    assert not caught.value.retryable
    assert caught.value.detail == {"errno": error}
    assert_stopped(kit, log, files, [b"a"])


def test_a_failed_write_stops_the_log_for_good(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.fail_next("write", errno.EIO)
    with pytest.raises(PartitionStopped, match="write failed"):
        kit.append(log, [b"b"])
    assert_stopped(kit, log, files, [b"a"])


@pytest.mark.parametrize("operation", ["truncate", "sync"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_part_that_cannot_be_cut_off_stops_the_log(
    kit: Any, files: MemoryFiles, operation: str, error: int
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.fail_next("write", errno.ENOSPC)
    files.fail_next(operation, error)
    with pytest.raises(PartitionStopped, match="cutting off"):
        kit.append(log, [b"b"])
    assert_stopped(kit, log, files, [b"a"])


@pytest.mark.parametrize("operation", ["create", "sync_dir", "rename", "sync"])
@pytest.mark.parametrize("error", [errno.EIO])
def test_a_failed_roll_stops_the_log(
    kit: Any, files: MemoryFiles, operation: str, error: int
) -> None:
    log = kit.open(files, segment_bytes=1)
    kit.append(log, [b"a"])
    files.fail_next(operation, error)
    with pytest.raises(PartitionStopped):
        kit.append(log, [b"b"])
    assert_stopped(kit, log, files, [b"a"])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE])
def test_a_directory_that_cannot_be_synced_stops_the_log(
    kit: Any, files: MemoryFiles, error: int
) -> None:
    log = kit.open(files)
    files.fail_next("sync_dir", error)
    with pytest.raises(PartitionStopped):
        kit.append(log, [b"b"])
    assert_stopped(kit, log, files, [])


def test_a_checkpoint_that_fails_stops_the_log_unless_there_is_no_room(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files, checkpoint_records=1)
    kit.append(log, [b"a"], stamp=ProducerStamp(1, 0, 0))
    files.fail_next("create", errno.ENOSPC)
    kit.append(log, [b"b"], stamp=ProducerStamp(1, 0, 1))
    assert f"{P}/00000000000000000000.producers" not in files.listdir(P)
    files.fail_next("create", errno.EIO)
    with pytest.raises(PartitionStopped, match="checkpoint"):
        kit.append(log, [b"c"], stamp=ProducerStamp(1, 0, 2))
    assert_stopped(kit, log, files, [b"a", b"b"])


def test_an_error_that_nobody_foresaw_stops_the_log(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    plan = log.plan_append([kit.entry(log, [b"a"])])
    log.failed(plan, MemoryError("no memory"))
    assert_stopped(kit, log, files, [])


def test_what_a_lost_thread_did_is_unknown(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    log.abandoned("nothing was under way")
    assert log.state is LogState.OPEN
    plan = log.plan_append([kit.entry(log, [b"a"])])
    log.abandoned("the thread is gone")
    assert_stopped(kit, log, files, [])
    with pytest.raises(AssertionError):
        log.committed(plan)


# --------------------------------------------------------------------------------------- roll


def test_a_full_segment_is_sealed_with_its_sidecars(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=220)
    kit.append(log, [b"a"])
    kit.append(log, [b"b"])
    assert log.segment_count == 1
    old = log._file
    kit.append(log, [b"c"])
    assert log.segment_count == 2
    assert files.listdir(P) == [
        "00000000000000000000.index",
        "00000000000000000000.log",
        "00000000000000000000.producers",
        "00000000000000000002.log",
    ]
    assert log.nbytes == sum(files.size(f"{P}/{n}") for n in files.listdir(P) if "log" in n)
    with pytest.raises(OSError, match="Bad file descriptor"):
        old.size()


def test_a_group_larger_than_a_segment_has_one_of_its_own(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=300)
    kit.append(log, [b"a"], [b"b"], [b"c"], [b"d"])
    kit.append(log, [b"e"])
    assert [n for n in files.listdir(P) if "log" in n] == [
        "00000000000000000000.log",
        "00000000000000000004.log",
    ]


def test_a_segment_ends_when_it_spans_too_much_of_the_time_that_is_kept(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files, retention_s=40.0)
    for seconds, segments in ((0, 1), (10, 1), (10.1, 2), (20.1, 2), (20.2, 3)):
        kit.now_us = int(1e6 * (1000 + seconds))
        kit.append(log, [b"%d" % segments])
        assert log.segment_count == segments
    # What was there before this start counts from the first append after it.
    kit.close(log)
    log = kit.open(files, retention_s=40.0)
    for seconds, segments in ((100, 3), (110, 3), (110.1, 4)):
        kit.now_us = int(1e6 * (1000 + seconds))
        kit.append(log, [b"x"])
        assert log.segment_count == segments


def test_rolling_syncs_what_was_appended_without(kit: Any) -> None:
    for seed in range(20):
        files = MemoryFiles()
        log = kit.open(files, segment_bytes=220)
        kit.append(log, [b"a"], sync=False)
        kit.append(log, [b"b"], sync=False)
        assert log.durable_offset == 0
        kit.append(log, [b"c"], sync=False)
        assert (log.durable_offset, log.high_water) == (2, 3)
        files.power_cut(random.Random(seed))
        assert kit.read(kit.open(files))[:2] == [b"a", b"b"]


# ------------------------------------------------------------------------- sync, marker, close


def test_what_is_not_synced_yet_can_be_read_and_is_not_durable(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files)
    assert log.plan_sync() is None
    kit.append(log, [b"a"])
    kit.append(log, [b"b"], sync=False)
    assert (log.high_water, log.durable_offset) == (2, 1)
    assert kit.read(log) == [b"a", b"b"]
    plan = log.plan_sync()
    plan.run()
    log.synced(plan)
    assert log.durable_offset == 2
    assert log.plan_sync() is None
    files.power_cut(random.Random(2))
    assert kit.read(kit.open(files)) == [b"a", b"b"]


def test_a_failed_sync_on_its_own_stops_the_log(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"], sync=False)
    plan = log.plan_sync()
    files.fail_next("sync", errno.ENOSPC)
    with pytest.raises(PartitionStopped) as caught:
        plan.run()
    log.failed(plan, caught.value)
    assert_stopped(kit, log, files, [b"a"])


def test_the_marker_is_gone_before_the_first_append(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    kit.close(log)
    assert "clean" in files.listdir(P)
    log = kit.open(files)
    assert "clean" in files.listdir(P), "nothing was appended, so it is still true"
    files.trace.clear()
    kit.append(log, [b"b"])
    assert files.trace == [
        f"unlink {P}/clean",
        f"sync_dir {P}",
        f"open {FIRST}",
        f"write {FIRST}",
        f"sync {FIRST}",
    ]
    kit.append(log, [b"c"])
    assert files.trace[5:] == [f"write {FIRST}", f"sync {FIRST}"]


def test_a_marker_that_cannot_be_removed(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    kit.close(log)
    log = kit.open(files)
    files.fail_next("sync_dir")
    with pytest.raises(PartitionStopped):
        kit.append(log, [b"b"])
    assert log.state is LogState.STOPPED
    log = kit.open(files)
    files.fail_next("write", errno.ENOSPC)
    with pytest.raises(DiskFull):
        kit.append(log, [b"b"])
    files.trace.clear()
    kit.append(log, [b"c"])
    assert files.trace == [f"write {FIRST}", f"sync {FIRST}"], "it was removed, and is forgotten"
    assert kit.read(log) == [b"a", b"c"]


def test_a_marker_that_is_gone_already(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    kit.close(log)
    log = kit.open(files)
    files.unlink(f"{P}/clean")
    kit.append(log, [b"b"])
    assert kit.read(log) == [b"a", b"b"]


def test_closing_syncs(kit: Any) -> None:
    for seed in range(20):
        files = MemoryFiles()
        log = kit.open(files)
        kit.append(log, [b"a"], sync=False)
        kit.close(log)
        files.power_cut(random.Random(seed))
        log = kit.open(files)
        assert log.recovery.clean
        assert kit.read(log) == [b"a"]


def test_a_closed_log_takes_nothing(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    kit.close(log)
    assert log.state is LogState.STOPPED
    with pytest.raises(PartitionStopped, match="closed"):
        log.plan_append([kit.entry(log, [b"b"])])
    log = kit.open(files)
    # Nothing was appended since, so the marker stands as it is.
    files.trace.clear()
    kit.close(log)
    assert files.trace == []


def test_closing_an_empty_log_leaves_nothing(kit: Any, files: MemoryFiles) -> None:
    kit.close(kit.open(files))
    assert files.listdir(P) == []
    log = kit.open(files)
    assert (log.first_offset, log.next_offset, log.nbytes, log.segment_count) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("operation", "error", "marked"),
    [("create", errno.ENOSPC, False), ("sync", errno.EIO, False), ("create", errno.EIO, False)],
)
def test_closing_that_fails_leaves_no_marker(
    kit: Any, files: MemoryFiles, operation: str, error: int, marked: bool
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"], sync=False)
    file = log._file
    files.fail_next(operation, error)
    plan = log.plan_close()
    if error == errno.ENOSPC:
        plan.run()
    else:
        with pytest.raises(PartitionStopped):
            plan.run()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.size()
    assert ("clean" in files.listdir(P)) is marked
    files.kill()
    assert kit.read(kit.open(files)) == [b"a"]


def test_a_plan_that_was_never_given_back_leaves_no_marker(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    plan = log.plan_append([kit.entry(log, [b"b"])])
    plan.run(True)
    kit.close(log)
    assert "clean" not in files.listdir(P)
    assert kit.read(kit.open(files)) == [b"a", b"b"]


# --------------------------------------------------------------------------------- checkpoints


def test_producers_are_written_down_now_and_then(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=10**6, checkpoint_records=10)
    path = f"{P}/00000000000000000000.producers"
    stamps = dict.fromkeys((1, 2), 0)

    def group(size: int) -> None:
        records = []
        for number in range(size):
            producer = 1 + number % 2
            records.append((b"v", ProducerStamp(producer, 0, stamps[producer])))
            stamps[producer] += 1
        kit.commit(log, [kit.grouped(log, records)])

    group(9)
    assert not files.exists(path)
    group(1)
    assert not files.exists(path)
    group(1)
    assert files.exists(path), "written before the append that comes after ten"
    written = files.read(path)
    group(9)
    assert files.read(path) == written
    group(1)
    assert files.read(path) != written


def test_a_batch_is_written_as_it_is(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    batch: Batch = kit.batch([b"a" * 300], at=0)
    view = attrs.evolve(batch, payload=memoryview(batch.payload))
    kit.commit(log, [Entry(view)])
    assert files.read(FIRST) == batch.to_bytes()
