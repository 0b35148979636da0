"""Whole sealed segments go, oldest first, and never one that somebody still needs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamer.errors import StorageError
from streamer.testing.memory_files import MemoryFiles

P = "/data/p"


def filled(kit: Any, files: MemoryFiles, **more: Any) -> Any:
    """Ten segments of one batch of one record, appended a second apart."""
    log = kit.open(files, segment_bytes=1, **more)
    for number in range(10):
        kit.now_us = number * 1_000_000
        kit.append(log, [b"%d" % number])
    return log


def retain(log: Any, now_us: int = 0, floor: int | None = None) -> int:
    plan = log.plan_retention(now_us, floor)
    if plan is not None:
        plan.run()
        log.retained(plan)
    return int(log.first_offset)


def test_nothing_goes_without_a_limit(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    assert log.plan_retention(10**15, None) is None


@pytest.mark.parametrize(
    ("segments", "extra", "first"), [(10, 0, 0), (9, 1, 0), (9, 0, 1), (3, 0, 7), (1, 0, 9)]
)
def test_by_size_the_oldest_go_while_enough_is_left(
    kit: Any, files: MemoryFiles, segments: int, extra: int, first: int
) -> None:
    size = filled(kit, files).nbytes // 10
    log = kit.open(files, segment_bytes=1, retention_bytes=segments * size + extra)
    assert retain(log) == first
    assert log.segment_count == 10 - first
    assert log.nbytes == (10 - first) * size
    names = {name.split(".")[0] for name in files.listdir(P)}
    assert names == {f"{number:020d}" for number in range(first, 10)}
    assert kit.read(log) == [b"%d" % number for number in range(first, 10)]
    assert log.plan_retention(0, None) is None
    files.power_cut(random.Random(1))
    assert kit.open(files).first_offset == first


def test_the_last_segment_stays_whatever_the_limit(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    log = kit.open(files, segment_bytes=1, retention_bytes=0, retention_s=0.0)
    assert retain(log, 10**15) == 9
    assert kit.read(log) == [b"9"]
    kit.append(log, [b"10"])
    assert retain(log, 10**15) == 10


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("now_s", "first"), [(3, 0), (3.000001, 1), (7.5, 5), (100, 9)])
def test_by_age_those_go_whose_last_batch_is_too_old(
    kit: Any, files: MemoryFiles, now_s: float, first: int, cached: bool
) -> None:
    log = filled(kit, files, retention_s=3.0)
    if not cached:
        log = kit.open(files, segment_bytes=1, retention_s=3.0)
    assert retain(log, int(now_s * 1e6)) == first


def test_a_producer_s_clock_does_not_matter(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=1, retention_s=3.0)
    for number in range(4):
        kit.now_us = number * 1_000_000
        kit.commit(log, [kit.entry(log, [b"%d" % number], timestamp_us=10**15)])
    assert retain(log, 5_000_000) == 2


def test_asking_again_costs_no_reading(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    log = kit.open(files, segment_bytes=1, retention_s=100.0)
    assert retain(log, 50_000_000) == 0
    assert log.plan_retention(50_000_000, None) is None
    assert log.plan_retention(100_000_001, None) is not None


@pytest.mark.parametrize("floor", range(11))
def test_nothing_goes_that_is_still_needed(kit: Any, files: MemoryFiles, floor: int) -> None:
    for limits in ({"retention_bytes": 0}, {"retention_s": 0.0}):
        files = MemoryFiles()
        log = filled(kit, files, **limits)
        assert retain(log, 10**15, floor) == min(floor, 9)


def test_a_segment_that_is_needed_in_part_stays(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=220, retention_bytes=0)
    for number in range(6):
        kit.append(log, [b"%d" % number])
    assert log._bases == [0, 2]
    assert [retain(log, 0, floor) for floor in (0, 1, 2, 3, 4)] == [0, 0, 2, 2, 4]


@pytest.mark.parametrize("failing", ["unlink", "sync_dir"])
def test_what_was_removed_before_a_fault_is_noted(
    kit: Any, files: MemoryFiles, failing: str
) -> None:
    log = filled(kit, files, retention_bytes=0)
    plan = log.plan_retention(0, None)
    if failing == "unlink":
        files.fail_call(files.calls + 7)
    else:
        files.fail_next(failing)
    with pytest.raises(StorageError, match="removing segments failed"):
        plan.run()
    log.retained(plan)
    assert log.first_offset == {"unlink": 3, "sync_dir": 9}[failing]
    assert kit.read(log) == [b"%d" % number for number in range(log.first_offset, 10)]
    assert log.nbytes == sum(
        files.size(f"{P}/{name}") for name in files.listdir(P) if name.endswith(".log")
    )
    assert retain(log) == 9


def test_an_index_that_cannot_be_read_removes_nothing(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    log = kit.open(files, segment_bytes=1, retention_s=0.0)
    plan = log.plan_retention(10**15, None)
    files.fail_next("read")
    files.fail_next("open")
    with pytest.raises(StorageError):
        plan.run()
    log.retained(plan)
    assert log.first_offset == 0


def test_without_sidecars_all_the_same(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, retention_s=3.0)
    for name in files.listdir(P):
        if not name.endswith(".log"):
            files.unlink(f"{P}/{name}")
    files.kill()
    log = kit.open(files, segment_bytes=1, retention_s=3.0)
    for name in files.listdir(P):
        if name.endswith(".index"):
            files.unlink(f"{P}/{name}")
    assert retain(log, 7_500_000) == 5


def test_an_empty_log_has_nothing_to_remove(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, retention_bytes=0, retention_s=0.0)
    assert log.plan_retention(10**15, None) is None


def test_a_segment_of_damage_alone_is_too_old_for_anybody(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, retention_s=1000.0)
    kit.close(log)
    files.open(f"{P}/00000000000000000000.log").truncate(0)
    files.unlink(f"{P}/00000000000000000000.index")
    log = kit.open(files, segment_bytes=1, retention_s=1000.0)
    assert retain(log, 0) == 1
