"""A log in memory: the same answers as on the disk, within its bytes, and nothing on the disk."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import OffsetOutOfRange, PartitionDamaged, PartitionStopped
from streamer.records import ProducerStamp
from streamer.storage.log import Log
from streamer.storage.memory import BATCH_OVERHEAD_BYTES, MemoryLog
from streamer.storage.partition import LogSettings, LogState
from streamer.storage.producers import DuplicateOf
from streamer.testing.memory_files import MemoryFiles
from tests.storage.conftest import Kit


def make_log(**settings: Any) -> MemoryLog:
    return MemoryLog("m", LogSettings(**settings))


def noise(nbytes: int, seed: int = 0) -> bytes:
    """What does not compress."""
    return random.Random(seed).randbytes(nbytes)


def timed(kit: Any, log: Log, timestamp_us: int, values: Sequence[bytes] = (b"x",)) -> None:
    kit.commit(log, [kit.entry(log, values, timestamp_us=timestamp_us)])


def held(log: MemoryLog) -> int:
    """What the log may count of what it holds."""
    return log.nbytes + BATCH_OVERHEAD_BYTES * (len(log._blobs) - log._gone)


# ------------------------------------------------------------------------------- append and read


def test_what_is_appended_can_be_read(kit: Any) -> None:
    log = make_log()
    assert (log.first_offset, log.next_offset, log.high_water, log.nbytes) == (0, 0, 0, 0)
    assert log.plan_read(0, 100) is None
    kit.append(log, [b"a", b"b"], [b"c"])
    kit.append(log, [b"d"])
    assert kit.read(log) == [b"a", b"b", b"c", b"d"]
    assert (log.first_offset, log.next_offset, log.high_water) == (0, 4, 4)
    assert log.nbytes == sum(map(len, log._blobs))
    assert log.durable_offset == log.segment_count == 0
    assert log.plan_sync() is None
    assert log.plan_scrub() is None
    assert log.plan_retention(1 << 60, None) is None
    with pytest.raises(AssertionError, match="no plan that syncs"):
        log.synced(None)
    with pytest.raises(AssertionError, match="nothing read from memory is damaged"):
        log.note_damage(PartitionDamaged("x"))


def test_a_read_gives_whole_batches_within_its_bytes_or_one(kit: Any) -> None:
    log = make_log()
    kit.append(log, [b"a", b"b"], [b"c"], [b"d"])
    size = len(log._blobs[1])
    for offset, bytes_max, base, behind in (
        (0, 1, 0, 2),
        (1, 1, 0, 2),
        (2, 2 * size, 2, 4),
        (2, 2 * size - 1, 2, 3),
        (3, 1 << 20, 3, 4),
    ):
        result = log.plan_read(offset, bytes_max).run()  # type: ignore[union-attr]
        assert (result.first_offset, result.next_offset) == (base, behind)
        assert list(kit.values(result.blob, base)) == list(range(base, behind))


def test_offsets_that_are_not_there(kit: Any) -> None:
    log = make_log()
    kit.append(log, [b"a"])
    assert log.plan_read(1, 100) is None
    with pytest.raises(OffsetOutOfRange, match="offset 2, kept are 0 to 0"):
        log.plan_read(2, 100)


def test_the_same_answers_as_a_log_on_the_disk(kit: Any, files: MemoryFiles) -> None:
    rng = random.Random(3)
    logs: list[Log] = [make_log(), kit.open(files)]
    for number in range(60):
        values = [b"%d of %d" % (n, number) for n in range(rng.randint(1, 5))]
        at_us = rng.randrange(1_000)
        for log in logs:
            timed(kit, log, at_us, values)
    memory, disk = logs
    assert kit.read(memory) == kit.read(disk)
    for timestamp_us in range(0, 1_010, 7):
        found = [log.plan_seek_time(timestamp_us).run() for log in logs]
        assert found[0] == found[1], timestamp_us


# ----------------------------------------------------------------------------------- its bounds


def test_above_its_bytes_the_oldest_batches_leave_and_are_counted(kit: Any) -> None:
    log = make_log(memory_bytes=10_000)
    for number in range(50):
        kit.append(log, [noise(500, number), b"second"])
        assert held(log) <= 10_000
    assert log.dropped == log.first_offset > 0
    assert log.next_offset == 100
    assert log.first_offset % 2 == 0
    # No more left than had to.
    assert held(log) > 10_000 - 1_000
    values = kit.read(log)
    assert values[-2:] == [noise(500, 49), b"second"]
    with pytest.raises(OffsetOutOfRange) as caught:
        log.plan_read(0, 100)
    detail = {"offset": 0, "first_offset": log.first_offset, "high_water": 100}
    assert caught.value.detail == detail


def test_the_newest_batch_stays_however_large_it_is(kit: Any) -> None:
    log = make_log(memory_bytes=1_000)
    kit.append(log, [b"small"])
    kit.append(log, [noise(5_000)])
    assert kit.read(log) == [noise(5_000)]
    kit.append(log, [noise(4_000)], [noise(3_000)])
    assert kit.read(log) == [noise(3_000)]
    assert (log.first_offset, log.dropped) == (3, 3)


def test_small_batches_are_charged_what_they_take(kit: Any) -> None:
    log = make_log(memory_bytes=50_000)
    for _ in range(2_000):
        kit.append(log, [b"x"])
    assert len(log._blobs) - log._gone == 50_000 // (len(log._blobs[-1]) + BATCH_OVERHEAD_BYTES)


def test_the_places_of_those_that_left_are_cleared_away(kit: Any) -> None:
    log = make_log(memory_bytes=2_000)
    places = 0
    for _ in range(5_000):
        kit.append(log, [b"x"])
        places = max(places, len(log._blobs))
        assert sum(map(len, log._blobs)) == log.nbytes
    assert places < 1_100
    assert len(log._bases) == len(log._times) == len(log._latest) == len(log._blobs)
    assert kit.read(log) == [b"x"] * (5_000 - log.dropped)


def test_a_read_that_was_planned_is_not_cut_short(kit: Any) -> None:
    log = make_log(memory_bytes=1_000)
    kit.append(log, [b"a"])
    plan = log.plan_read(0, 100)
    kit.append(log, [noise(5_000)])
    assert log.first_offset == 1
    assert kit.values(plan.run().blob, 0) == {0: b"a"}  # type: ignore[union-attr]


def test_what_a_session_received_a_batch_in_is_not_held(kit: Any) -> None:
    log = make_log()
    entry = kit.entry(log, [b"a"])
    kit.commit(log, [entry])
    assert type(log._blobs[0]) is bytes
    assert len(log._blobs[0]) == entry.batch.nbytes


# ----------------------------------------------------------------------------------- retention


def test_batches_that_are_too_old_leave_without_being_counted(kit: Any) -> None:
    log = make_log(retention_s=10)
    for second in range(20):
        kit.now_us = second * 1_000_000
        kit.append(log, [b"%d" % second])
    assert log.plan_retention(10_000_000, None) is None
    plan = log.plan_retention(15_000_000, None)
    assert plan is not None
    plan.run()
    log.retained(plan)
    assert (log.first_offset, log.dropped) == (5, 0)
    assert log.plan_retention(15_000_000, None) is None
    # All of it, once: age keeps no newest one.
    log.retained(log.plan_retention(1 << 50, None))  # type: ignore[arg-type]
    assert (log.first_offset, log.next_offset, log.nbytes) == (20, 20, 0)
    assert log.plan_read(20, 100) is None
    with pytest.raises(OffsetOutOfRange):
        log.plan_read(19, 100)
    assert log.plan_seek_time(0).run() == 20
    kit.append(log, [b"again"])
    assert kit.read(log) == [b"again"]


def test_a_floor_holds_age_back_and_not_want_of_room(kit: Any) -> None:
    log = make_log(retention_s=10, memory_bytes=20_000)
    for _ in range(5):
        kit.append(log, [b"a", b"b"])
    assert log.plan_retention(1 << 50, 1) is None
    plan = log.plan_retention(1 << 50, 5)
    assert plan is not None
    log.retained(plan)
    assert log.first_offset == 4
    kit.append(log, [noise(30_000)])
    assert (log.first_offset, log.dropped) == (10, 6)


def test_what_was_dropped_while_retention_was_planned(kit: Any) -> None:
    log = make_log(retention_s=10, memory_bytes=20_000)
    kit.append(log, [b"a"], [b"b"])
    plan = log.plan_retention(1 << 50, 1)
    assert plan is not None
    kit.append(log, [noise(30_000)])
    assert log.first_offset == 2
    log.retained(plan)
    assert (log.first_offset, kit.read(log)) == (2, [noise(30_000)])


# ------------------------------------------------------------------------------------ seek by time


def test_a_time_is_found_also_behind_a_later_one_that_has_left(kit: Any) -> None:
    log = make_log(memory_bytes=20_000)
    assert log.plan_seek_time(5).run() == 0
    timed(kit, log, 1_000)
    for timestamp_us in (10, 20, 20, 15, 40, 30):
        timed(kit, log, timestamp_us)
    assert [log.plan_seek_time(t).run() for t in (0, 25, 1_000, 1_001)] == [0, 0, 0, 7]
    timed(kit, log, 35, [noise(19_000)])
    assert log.first_offset > 0
    first = log.first_offset
    kept = [log._times[n] for n in range(log._gone, len(log._times))]
    for timestamp_us in range(60):
        expected = next((n for n, t in enumerate(kept) if t >= timestamp_us), len(kept))
        assert log.plan_seek_time(timestamp_us).run() == first + expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 400)), max_size=30))
def test_any_times_and_sizes(appends: list[tuple[int, int]]) -> None:
    kit, log = Kit(), make_log(memory_bytes=1_500)
    model: list[tuple[int, int]] = []
    for number, (timestamp_us, nbytes) in enumerate(appends):
        timed(kit, log, timestamp_us, [noise(nbytes, number)])
        model.append((timestamp_us, nbytes))
        first = log.first_offset
        assert held(log) <= 1_500 or first == number
        assert kit.read(log) == [noise(size, n) for n, (_, size) in enumerate(model)][first:]
        for wanted in range(11):
            expected = next(
                (n for n in range(first, len(model)) if model[n][0] >= wanted), len(model)
            )
            assert log.plan_seek_time(wanted).run() == expected


# ------------------------------------------------------------------------------------- producers


def test_producers_are_remembered_also_when_their_records_have_left(kit: Any) -> None:
    log = make_log(memory_bytes=1_000, producers=5)
    kit.append(log, [b"a", b"b"], stamp=ProducerStamp(7, 0, 0))
    kit.append(log, [noise(2_000)])
    assert log.first_offset == 2
    assert log.producers.last(7) == (0, 1, 1)
    assert log.producers.check(ProducerStamp(7, 0, 0), 2) == DuplicateOf(0)
    assert log.producers.check(ProducerStamp(7, 0, 2), 1) is None
    for number in range(5):
        kit.append(log, [b"x"], stamp=ProducerStamp(100 + number, 0, 0))
    assert 7 not in log.producers


# --------------------------------------------------------------------------- failing and closing


def test_a_plan_that_is_given_back_or_lost_appended_nothing(kit: Any) -> None:
    log = make_log()
    plan = log.plan_append([kit.entry(log, [b"a"])])
    plan.run(True)
    log.failed(plan, PartitionStopped("x"))
    log.plan_append([kit.entry(log, [b"b"])])
    log.abandoned("its pipeline ended")
    assert (log.state, log.next_offset) == (LogState.OPEN, 0)
    kit.append(log, [b"c"])
    assert kit.read(log) == [b"c"]


def test_closed_it_takes_nothing_more(kit: Any) -> None:
    log = make_log()
    kit.append(log, [b"a"])
    log.plan_close().run()
    assert log.state is LogState.STOPPED
    for refused in (log.check_writable, lambda: log.plan_append([kit.entry(log, [b"b"])])):
        with pytest.raises(PartitionStopped, match="m takes no writes: it was closed"):
            refused()
    assert kit.read(log) == [b"a"]
