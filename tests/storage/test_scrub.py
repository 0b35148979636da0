"""Looking through a log for damage, a step at a time."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamer.errors import StorageError
from streamer.storage.partition import LogState
from streamer.testing.memory_files import MemoryFiles

P = "/data/p"


def filled(kit: Any, files: MemoryFiles, **more: Any) -> Any:
    """Twenty batches of 200 kB, three to a segment: more than a step each."""
    log = kit.open(files, segment_bytes=650_000, **more)
    for number in range(20):
        kit.append(log, [random.Random(number).randbytes(200_000)])
    return log


def scrub(log: Any) -> tuple[int, list[tuple[int, int]]]:
    """How many steps it took, and the ranges that were found."""
    found = []
    plan, steps, more = log.plan_scrub(), 0, True
    while more:
        more, damage = plan.step()
        steps += 1
        found += [(error.detail["first"], error.detail["next"]) for error in damage]
    assert plan.step() == (False, [])
    return steps, found


def test_a_whole_log_has_no_damage(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    steps, found = scrub(log)
    assert found == []
    assert steps >= 4
    assert scrub(kit.open(files, path="/data/empty")) == (1, [])


def test_a_step_reads_about_as_much_as_it_should(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=10**8)
    for number in range(20):
        kit.append(log, [random.Random(number).randbytes(200_000)])
    steps, found = scrub(log)
    assert found == []
    assert 3 <= steps <= 6


def test_all_damage_is_found(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    names = [name for name in files.listdir(P) if name.endswith(".log")]
    for name, position in ((names[0], 100), (names[0], 450_000), (names[2], 250_000)):
        files.flip_bit(f"{P}/{name}", position)
    files.open(f"{P}/{names[3]}").truncate(350_000)
    assert scrub(log)[1] == [(0, 1), (2, 3), (7, 8), (10, 12)]


def test_damage_at_the_end_of_what_is_committed_is_found(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    last = [name for name in files.listdir(P) if name.endswith(".log")][-1]
    files.flip_bit(f"{P}/{last}", files.size(f"{P}/{last}") - 1)
    assert scrub(log)[1] == [(19, 20)]


def test_what_is_written_meanwhile_is_not_looked_at(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    plan = log.plan_scrub()
    append = log.plan_append([kit.entry(log, [b"new"])])
    files.fail_next("write")
    with pytest.raises(Exception, match="write failed"):
        append.run(True)
    more, found = True, []
    while more:
        more, damage = plan.step()
        found += damage
    assert found == []


def test_what_retention_removes_meanwhile_is_passed_over(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, retention_bytes=0)
    plan = log.plan_scrub()
    retention = log.plan_retention(0, None)
    retention.run()
    more = True
    while more:
        more, damage = plan.step()
        assert damage == []


def test_a_disk_at_fault(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    for operation in ("open", "read", "size"):
        plan = log.plan_scrub()
        files.fail_next(operation)
        with pytest.raises(StorageError, match="Input/output"):
            plan.step()


def test_what_is_found_stops_the_writes(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    files.flip_bit(f"{P}/00000000000000000000.log", 100)
    plan, more = log.plan_scrub(), True
    while more:
        more, damage = plan.step()
        for error in damage:
            log.note_damage(error)
    assert log.state is LogState.DAMAGED
    assert [(d.first_offset, d.next_offset) for d in log.damage] == [(0, 1)]
