"""What a start does: cut what was torn, write the unproven again, believe a marker, and no more."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest

from streamer.batch import Codec
from streamer.errors import Aborted, DiskFull, PartitionDamaged, PartitionStopped, StorageError
from streamer.records import ProducerStamp, Record
from streamer.storage import sidecar
from streamer.storage.partition import Entry, LogState, ProducerTable
from streamer.testing.memory_files import MemoryFiles

P = "/data/p"
FIRST = f"{P}/00000000000000000000.log"


def logs(files: MemoryFiles) -> list[str]:
    return [name for name in files.listdir(P) if name.endswith(".log")]


def reads(files: MemoryFiles) -> list[str]:
    return [line.rsplit("/", 1)[1] for line in files.trace if line.startswith("read ")]


# -------------------------------------------------------------------------------------- marker


def test_a_clean_start_reads_the_marker_and_the_last_commit(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=400, index_bytes=1)
    for number in range(20):
        kit.append(log, [b"%d" % number], stamp=ProducerStamp(1, 0, number))
    kit.close(log)
    last = logs(files)[-1]
    files.trace.clear()
    log = kit.open(files, segment_bytes=400, index_bytes=1)
    assert log.recovery.clean
    assert log.recovery.segments == log.segment_count > 3
    assert log.recovery.rewritten_bytes == 0
    assert reads(files) == ["clean", last]
    assert not [line for line in files.trace if line.startswith(("write", "sync", "create"))]
    assert log.producers.last(1) == (0, 19, 19)
    assert kit.read(log) == [b"%d" % number for number in range(20)]
    # It goes on as if it had never ended.
    kit.append(log, [b"20"], stamp=ProducerStamp(1, 0, 20))
    assert kit.read(log)[-1] == b"20"


def test_only_the_last_commit_is_read_after_a_clean_stop(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=10**6, index_bytes=1)
    for number in range(20):
        kit.append(log, [random.Random(number).randbytes(5000)])
    kit.close(log)
    # Damage before the last commit is not this start's affair ...
    files.flip_bit(FIRST, 30_000)
    assert kit.open(files).state is LogState.OPEN
    # ... and in the last commit it is.
    files.flip_bit(FIRST, files.size(FIRST) - 5000)
    log = kit.open(files)
    assert log.state is LogState.DAMAGED
    assert [(d.first_offset, d.next_offset) for d in log.damage] == [(5, 6), (19, 20)]


def test_a_clean_stop_right_after_a_recovery_looks_at_what_was_recovered(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    kit.append(log, [b"b"])
    files.kill()
    log = kit.open(files)
    assert not log.recovery.clean
    kit.close(log)
    files.flip_bit(f"{P}/{logs(files)[-1]}", 98)
    assert kit.open(files).state is LogState.DAMAGED


@pytest.mark.parametrize("kind", ["garbage", "older", "longer", "bad index", "other index"])
def test_a_marker_that_cannot_be_trusted_is_not(kit: Any, files: MemoryFiles, kind: str) -> None:
    log = kit.open(files, segment_bytes=220)
    kit.append(log, [b"a"])
    kit.close(log)
    old = files.read(f"{P}/clean")
    log = kit.open(files, segment_bytes=220)
    kit.append(log, [b"b"])
    if kind == "older":
        kit.append(log, [b"c"])
    files.kill()
    if kind == "garbage":
        old = old[:-1] + b"?"
    if kind in ("bad index", "other index"):
        content = sidecar.unpack("clean", old)
        content.update(nbytes=files.size(FIRST), end_offset=2)
        if kind == "bad index":
            content["index"] = b""
        del content["kind"]
        old = sidecar.pack("clean", content)
    files.replace(f"{P}/clean", old)
    log = kit.open(files)
    assert log.state is LogState.OPEN
    assert not log.recovery.clean
    assert kit.read(log) == [b"a", b"b", b"c"][: log.next_offset]
    assert log.next_offset == 2 + (kind == "older")


# ------------------------------------------------------------------------------------ torn tail


def test_a_torn_tail_is_cut_and_named(kit: Any) -> None:
    for whole in (0, 600):
        files = MemoryFiles()
        log = kit.open(files, rewrite_whole_bytes=whole)
        kit.append(log, [b"a"])
        kit.append(log, [b"b"])
        size = files.size(FIRST)
        kit.append(log, [b"c"], [b"d"])
        torn = files.size(FIRST) - 3
        files.kill()
        file = files.open(FIRST)
        file.truncate(torn)
        log = kit.open(files, rewrite_whole_bytes=whole)
        (cut,) = log.recovery.cut
        start = size + (torn + 3 - size) // 2
        assert (cut.file, cut.position, cut.nbytes) == (FIRST, start, torn - start)
        assert (cut.first_offset, cut.next_offset) == (3, None)
        assert "cut short" in cut.reason
        assert kit.read(log) == [b"a", b"b", b"c"]
        assert log.state is LogState.OPEN
        kit.append(log, [b"e"])
        files.power_cut(random.Random(1))
        assert kit.read(kit.open(files)) == [b"a", b"b", b"c", b"e"]


def test_zeros_at_the_end_are_a_torn_tail(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    end = files.size(FIRST)
    files.overwrite(FIRST, end, bytes(5000))
    files.kill()
    log = kit.open(files)
    assert [(cut.position, cut.nbytes) for cut in log.recovery.cut] == [(end, 5000)]
    assert kit.read(log) == [b"a"]


def test_a_hole_in_the_last_commit_cuts_what_is_whole_behind_it(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    start = files.size(FIRST)
    kit.append(log, [b"b"], [b"c"])
    files.kill()
    files.overwrite(FIRST, start, bytes(96))
    log = kit.open(files)
    assert log.state is LogState.OPEN
    assert kit.read(log) == [b"a"]


def test_a_frame_of_another_log_within_a_record_vouches_for_nothing(
    kit: Any, files: MemoryFiles
) -> None:
    """A copied log travels as records; a torn record of it must not look like damage."""
    kit.codec = kit.uncompressed
    inner = kit.batch([b"inner"], at=7, high_water=7).to_bytes()
    log = kit.open(files)
    kit.append(log, [b"a"])
    start = files.size(FIRST)
    kit.append(log, [random.Random(1).randbytes(200) + inner, b"x" * 10])
    # The end of it is lost, and its header is not.
    files.kill()
    assert inner in files.read(FIRST)
    files.overwrite(FIRST, files.size(FIRST) - 8, bytes(8))
    log = kit.open(files)
    assert log.state is LogState.OPEN
    assert [cut.position for cut in log.recovery.cut] == [start]


# -------------------------------------------------------------------------------------- rewrite


@pytest.mark.parametrize("whole", [0, 10**6])
def test_what_a_failed_sync_left_only_in_the_cache_is_written_again(kit: Any, whole: int) -> None:
    for seed in range(10):
        files = MemoryFiles()
        log = kit.open(files)
        kit.append(log, [b"x" * 600])
        kit.append(log, [b"y" * 600], [b"z" * 600])
        files.fail_next("sync")
        with pytest.raises(PartitionStopped):
            kit.append(log, [random.Random(seed).randbytes(1000)])
        files.kill()
        # The cache still shows it, but no later sync would ever write it.
        log = kit.open(files, rewrite_whole_bytes=whole)
        assert log.next_offset == log.durable_offset == 4
        assert log.recovery.rewritten_bytes > 1000
        assert len(logs(files)) == (1 if whole else 2)
        values = kit.read(log)
        files.power_cut(random.Random(seed))
        assert kit.read(kit.open(files)) == values


def test_a_long_proven_part_is_not_written_again(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=10**6)
    kit.append(log, [random.Random(1).randbytes(50_000)], stamp=ProducerStamp(5, 0, 0))
    kit.append(log, [b"b"], stamp=ProducerStamp(5, 0, 1))
    kit.append(log, [b"c"], stamp=ProducerStamp(6, 0, 0))
    files.kill()
    log = kit.open(files, segment_bytes=10**6, rewrite_whole_bytes=40_000)
    assert logs(files) == ["00000000000000000000.log", "00000000000000000002.log"]
    assert log.recovery.rewritten_bytes == files.size(f"{P}/{logs(files)[1]}") < 200
    assert files.size(FIRST) == log._sealed[0].nbytes
    assert [log.producers.last(n) for n in (5, 6)] == [(0, 1, 1), (0, 0, 2)]
    # The next start has the sealed part's producers beside it.
    files.kill()
    files.trace.clear()
    log = kit.open(files, segment_bytes=10**6)
    assert "00000000000000000000.log" not in reads(files)
    assert [log.producers.last(n) for n in (5, 6)] == [(0, 1, 1), (0, 0, 2)]
    assert len(kit.read(log)) == 3


def test_without_room_the_proven_part_is_served_and_the_rest_waits(
    kit: Any, files: MemoryFiles
) -> None:
    for whole in (0, 10**6):
        files = MemoryFiles()
        log = kit.open(files)
        kit.append(log, [b"a"])
        late_us = kit.now_us + 5
        kit.commit(log, [kit.entry(log, [b"b" * 50], timestamp_us=late_us)])
        files.kill()
        files.capacity_bytes = files.used_bytes() + 10
        log = kit.open(files, rewrite_whole_bytes=whole)
        assert log.state is LogState.OPEN
        assert (log.next_offset, log.high_water, log.durable_offset) == (2, 1, 1)
        assert kit.read(log) == [b"a"]
        assert log.plan_read(1, 100) is None
        assert log.plan_seek_time(0).run() == 0
        assert log.plan_seek_time(late_us).run() == 1
        with pytest.raises(DiskFull):
            kit.append(log, [b"c"])
        sync = log.plan_sync()
        with pytest.raises(DiskFull) as caught:
            sync.run()
        log.failed(sync, caught.value)
        assert not [name for name in files.listdir(P) if name.endswith(".tmp")], "room is short"
        files.capacity_bytes = 10**6
        if whole:
            sync = log.plan_sync()
            sync.run()
            log.synced(sync)
            assert kit.read(log) == [b"a", b"b" * 50]
        kit.append(log, [b"c"])
        assert kit.read(log) == [b"a", b"b" * 50, b"c"]
        assert log.durable_offset == 3
        files.power_cut(random.Random(1))
        assert kit.read(kit.open(files)) == [b"a", b"b" * 50, b"c"]


def test_a_pending_rewrite_survives_an_append_that_does_not(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    kit.append(log, [b"b" * 50])
    files.kill()
    files.capacity_bytes = files.used_bytes() + 10
    log = kit.open(files, segment_bytes=10**6)
    # Room for the rest of the recovery, and not for the append.
    files.capacity_bytes = files.used_bytes() + 600
    with pytest.raises(DiskFull):
        kit.append(log, [random.Random(1).randbytes(2000)])
    assert kit.read(log) == [b"a", b"b" * 50]
    assert log.durable_offset == 2
    kit.close(log)
    assert kit.open(files).recovery.clean


def test_a_tail_that_left_the_cache_before_it_was_written_again_is_not_appended_to(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a" * 600], sync=False)
    files.fail_next("sync")
    with pytest.raises(PartitionStopped):
        kit.append(log, [b"b" * 600])
    files.kill()
    capacity, files.capacity_bytes = files.capacity_bytes, files.used_bytes()
    log = kit.open(files)
    assert (log.durable_offset, log.next_offset) == (0, 2)
    # The pages count as clean, though they were never written, and may go at any time.
    files.evict()
    files.capacity_bytes = capacity
    with pytest.raises(PartitionStopped, match=r"preparing failed: .*changed after it was read"):
        kit.append(log, [b"c"])
    files.kill()
    log = kit.open(files)
    assert log.state is LogState.OPEN
    kit.append(log, [b"c"])
    assert kit.read(kit.open(files)) == [b"c"]


def test_an_empty_segment_is_written_again_as_well(kit: Any) -> None:
    for seed in range(100):
        files = MemoryFiles()
        log = kit.open(files)
        files.write_back_with(random.Random(seed))
        files.capacity_bytes = 300
        files.fail_next("sync")
        with pytest.raises(PartitionStopped, match="cutting off"):
            kit.append(log, [b"a"], [b"b"], [b"c"], [b"d"])
        files.kill()
        assert files.size(FIRST) == 0
        assert kit.open(files).next_offset == 0
        # The first of them may be on the disk: it must not come back now.
        files.power_cut(random.Random(seed))
        assert kit.open(files).next_offset == 0


def test_retention_leaves_alone_what_a_pending_rewrite_is_made_from(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files, segment_bytes=220)
    for number in range(6):
        kit.append(log, [b"%d" % number])
    files.kill()
    capacity, files.capacity_bytes = files.capacity_bytes, files.used_bytes()
    log = kit.open(files, segment_bytes=220, retention_bytes=0, rewrite_whole_bytes=0)
    assert (log._bases, log.high_water, log.next_offset) == ([0, 2, 4], 5, 6)
    plan = log.plan_retention(0, None)
    plan.run()
    log.retained(plan)
    # That has made the room that was missing.
    files.capacity_bytes = capacity
    assert log.first_offset == 4
    kit.append(log, [b"6"])
    assert kit.read(log) == [b"4", b"5", b"6"]
    plan = log.plan_retention(0, None)
    plan.run()
    log.retained(plan)
    assert log.first_offset == 5


def test_closing_before_a_pending_rewrite_was_done_leaves_no_marker(
    kit: Any, files: MemoryFiles
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    kit.append(log, [b"b"])
    files.kill()
    files.capacity_bytes = files.used_bytes()
    log = kit.open(files)
    files.capacity_bytes = 10**6
    kit.close(log)
    assert "clean" not in files.listdir(P)


def test_a_sync_plan_whose_rewrite_fails_stops_the_log(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.kill()
    files.capacity_bytes = files.used_bytes()
    log = kit.open(files)
    files.capacity_bytes = 10**6
    files.fail_next("sync", errno.ENOSPC)
    plan = log.plan_sync()
    with pytest.raises(PartitionStopped):
        plan.run()


@pytest.mark.parametrize("operation", ["open", "create"])
def test_a_sync_plan_that_gets_no_file_handle_can_be_tried_again(
    kit: Any, files: MemoryFiles, operation: str
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.kill()
    files.capacity_bytes = files.used_bytes()
    log = kit.open(files)
    files.capacity_bytes = 10**6
    files.fail_next(operation, errno.EMFILE)
    plan = log.plan_sync()
    with pytest.raises(Aborted, match="no file handle") as caught:
        plan.run()
    log.failed(plan, caught.value)
    plan = log.plan_sync()
    plan.run()
    log.synced(plan)
    assert log.state is LogState.OPEN
    assert kit.read(log) == [b"a"]


@pytest.mark.parametrize("operation", ["listdir", "open", "read", "sync", "rename", "sync_dir"])
def test_a_disk_at_fault_is_an_error_that_can_be_tried_again(
    kit: Any, files: MemoryFiles, operation: str
) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.kill()
    files.fail_next(operation)
    with pytest.raises(StorageError, match="opening failed"):
        kit.open(files)
    files.kill()
    assert kit.read(kit.open(files)) == [b"a"]


def test_a_directory_that_was_made_without_a_sync(kit: Any) -> None:
    for seed in range(10):
        files = MemoryFiles()
        files.make_dir("/data")
        files.fail_next("sync_dir")
        with pytest.raises(StorageError):
            kit.open(files)
        log = kit.open(files)
        kit.append(log, [b"a"])
        files.power_cut(random.Random(seed))
        assert kit.read(kit.open(files)) == [b"a"]


def test_a_segment_whose_name_was_not_synced(kit: Any) -> None:
    for seed in range(10):
        files = MemoryFiles()
        log = kit.open(files, segment_bytes=1)
        kit.append(log, [b"a"])
        # The process dies when the next segment has been made, and not its name.
        files.create(f"{P}/00000000000000000001.log").close()
        files.kill()
        log = kit.open(files)
        kit.append(log, [b"b"])
        files.power_cut(random.Random(seed))
        assert kit.read(kit.open(files)) == [b"a", b"b"]


def test_left_overs_are_removed(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    kit.append(log, [b"a"])
    files.kill()
    for name in ("clean.tmp", "00000000000000000007.index", "00000000000000000007.producers"):
        files.create(f"{P}/{name}").close()
    files.create(f"{P}/somebody's notes").close()
    kit.open(files)
    assert files.listdir(P) == ["00000000000000000000.log", "somebody's notes"]


# ------------------------------------------------------------------------------------ producers


def test_producers_come_from_the_sidecar_and_the_last_segment(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=250)
    for number in range(9):
        kit.append(log, [b"%d" % number], stamp=ProducerStamp(1 + number % 3, 4, number // 3))
    files.kill()
    files.trace.clear()
    log = kit.open(files)
    names = logs(files)
    assert len(names) > 3
    assert set(reads(files)) & set(names) <= {names[-1], names[-2]}
    for n in range(3):
        assert log.producers.last(1 + n) == (4, 2, 6 + n)


@pytest.mark.parametrize("lost", [[-1], [-1, -2], "all"])
@pytest.mark.parametrize("how", ["gone", "bad", "stale"])
def test_without_the_sidecars_producers_come_from_the_log(
    kit: Any, files: MemoryFiles, lost: Any, how: str
) -> None:
    log = kit.open(files, segment_bytes=220)
    for number in range(9):
        kit.append(log, [b"%d" % number], stamp=ProducerStamp(1 + number % 3, 4, number // 3))
    files.kill()
    names = [f"{P}/{n}" for n in files.listdir(P) if n.endswith(".producers")]
    other = files.read(names[0])
    for name in names if lost == "all" else [names[n] for n in lost]:
        if how == "gone":
            files.unlink(name)
        elif how == "bad":
            files.flip_bit(name, 20)
        else:
            files.replace(name, other)
    log = kit.open(files)
    for n in range(3):
        assert log.producers.last(1 + n) == (4, 2, 6 + n)
    assert log.state is LogState.OPEN
    # They have been written again, so that the next start is quick.
    files.kill()
    files.trace.clear()
    kit.open(files)
    assert set(reads(files)) & set(logs(files)) <= set(logs(files)[-2:])


def test_damage_met_while_looking_for_producers_is_reported(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=220)
    for number in range(9):
        kit.append(log, [b"%d" % number], stamp=ProducerStamp(1 + number % 3, 4, number // 3))
    files.kill()
    for name in files.listdir(P):
        if name.endswith(".producers"):
            files.unlink(f"{P}/{name}")
    files.flip_bit(FIRST, 20)
    log = kit.open(files)
    assert log.state is LogState.DAMAGED
    assert [(d.first_offset, d.next_offset) for d in log.damage] == [(0, 1)]
    assert not [name for name in files.listdir(P) if name.endswith(".producers")]
    found, skipped = kit.read_whole_parts(log)
    assert (len(found), skipped) == (8, [(0, 1)])


def grouped(kit: Any, log: Any, *stamps: ProducerStamp | None) -> None:
    kit.commit(log, [kit.grouped(log, [(b"v", stamp) for stamp in stamps])])


def test_grouped_batches_tell_each_record_s_producer(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files)
    a, b = (lambda n: ProducerStamp(1, 0, n)), (lambda n: ProducerStamp(2, 3, n))
    grouped(kit, log, a(0), a(1), None, a(2), b(0), b(1))
    grouped(kit, log, b(2), a(3), b(3))
    expected = [log.producers.last(n) for n in (1, 2)]
    runs = log.producers.snapshot()
    files.kill()
    log = kit.open(files)
    assert [log.producers.last(n) for n in (1, 2)] == expected == [(0, 3, 7), (3, 3, 8)]
    assert log.producers.snapshot() == runs


@pytest.mark.parametrize("clean", [False, True])
def test_a_grouped_batch_that_does_not_decode_is_damage(
    kit: Any, files: MemoryFiles, clean: bool
) -> None:
    dictionary = b"the same words again and again " * 40
    kit.codec = Codec(dictionaries={5: dictionary})
    log = kit.open(files)
    kit.append(log, [b"a"])
    records = [Record(b"the same words again and again %d" % n) for n in range(9)]
    stamps = [ProducerStamp(1, 0, n) for n in range(9)]
    batch = kit.codec.encode_records(records, now_us=1, stamps=stamps, dictionary_id=5)
    assert batch.header.dictionary_id == 5
    placed = batch.placed(base_offset=1, append_time_us=1, high_water=1)
    kit.commit(log, [Entry(placed, [(stamp, 1, 1 + n) for n, stamp in enumerate(stamps)])])
    kit.append(log, [b"z"])
    files.kill()
    kit.codec = Codec()
    log = kit.open(files)
    assert log.state is LogState.DAMAGED
    (damage,) = log.damage
    assert (damage.first_offset, damage.next_offset) == (1, 10)
    assert "dictionary" in damage.reason
    with pytest.raises(PartitionDamaged, match="dictionary"):
        log.plan_append([kit.entry(log, [b"x"])])
    assert log.next_offset == 11
    assert len(log.plan_read(1, 10).run().blob) == batch.nbytes, "it is whole, so it is served"


# ---------------------------------------------------------------------------------- checkpoints


def checkpointed(kit: Any, files: MemoryFiles) -> Any:
    """Three commits of two producers with a checkpoint between the second and the third."""
    log = kit.open(files, checkpoint_records=4, segment_bytes=10**6)
    kit.append(log, [b"first"])
    grouped(kit, log, ProducerStamp(1, 0, 0), ProducerStamp(2, 0, 0))
    grouped(kit, log, ProducerStamp(1, 0, 1), ProducerStamp(2, 0, 1))
    grouped(kit, log, ProducerStamp(1, 0, 2), ProducerStamp(3, 0, 0))
    return log


def test_batches_before_a_checkpoint_are_not_decoded(kit: Any, files: MemoryFiles) -> None:
    log = checkpointed(kit, files)
    expected = [log.producers.last(n) for n in (1, 2, 3)]
    runs = log.producers.snapshot()
    files.kill()
    decoded: list[int] = []

    class Counting(Codec):
        def decode(self, batch: Any) -> Any:
            decoded.append(batch.header.base_offset)
            return super().decode(batch)

    kit.codec = Counting()
    log = kit.open(files, rewrite_whole_bytes=10**6)
    assert decoded == [5]
    assert [log.producers.last(n) for n in (1, 2, 3)] == expected
    assert log.producers.snapshot() == runs


def test_a_checkpoint_of_records_that_are_gone_is_removed(kit: Any, files: MemoryFiles) -> None:
    log = checkpointed(kit, files)
    positions = list(log._recent_positions)
    files.kill()
    # The second group and what is behind it never got to the disk; the checkpoint did.
    file = files.open(FIRST)
    file.truncate(positions[2] + 5)
    file.sync()
    log = kit.open(files)
    assert log.next_offset == 3
    assert [log.producers.last(n) for n in (1, 2, 3)] == [(0, 0, 1), (0, 0, 2), None]
    assert f"{P}/00000000000000000000.producers" not in files.listdir(P)
    # Others write at those offsets, and nobody believes what was there before.
    grouped(kit, log, ProducerStamp(8, 0, 0), ProducerStamp(9, 0, 0))
    grouped(kit, log, ProducerStamp(8, 0, 1), ProducerStamp(9, 0, 1))
    for end in (files.kill, lambda: files.power_cut(random.Random(3))):
        end()
        log = kit.open(files)
        assert [log.producers.last(n) for n in (1, 2, 3)] == [(0, 0, 1), (0, 0, 2), None]
        assert [log.producers.last(n) for n in (8, 9)] == [(0, 1, 5), (0, 1, 6)]


def test_a_stale_checkpoint_does_not_come_back_with_a_power_cut(kit: Any) -> None:
    for seed in range(20):
        files = MemoryFiles()
        log = checkpointed(kit, files)
        positions = list(log._recent_positions)
        files.kill()
        files.sync_dir(P)
        files.open(f"{P}/00000000000000000000.producers").sync()
        file = files.open(FIRST)
        file.truncate(positions[2])
        file.sync()
        log = kit.open(files, rewrite_whole_bytes=10**6)
        for _ in range(2):
            n = log.next_offset
            grouped(kit, log, ProducerStamp(n, 0, 0), ProducerStamp(n + 1, 0, 0))
        files.power_cut(random.Random(seed))
        log = kit.open(files)
        assert [log.producers.last(n) for n in (1, 2)] == [(0, 0, 1), (0, 0, 2)]
        assert log.producers.last(3) == (0, 0, 3)


def test_a_checkpoint_beyond_the_proven_part(kit: Any, files: MemoryFiles) -> None:
    """It tells who wrote what in the end, and not what was so where the segment is split."""
    log = kit.open(files, checkpoint_records=1, segment_bytes=10**6)
    for number in range(3):
        kit.append(log, [b"x" * 100], stamp=ProducerStamp(1 + number, 0, 0))
    # The process dies after the checkpoint, before its append.
    plan = log.plan_append([kit.entry(log, [b"y"], stamp=ProducerStamp(9, 0, 0))])
    files.fail_next("write", errno.EIO)
    with pytest.raises(PartitionStopped):
        plan.run(True)
    file = files.open(FIRST)
    file.truncate(log.nbytes)
    files.kill()
    for _ in range(2):
        log = kit.open(files, rewrite_whole_bytes=0)
        assert log.next_offset == 3
        assert [log.producers.last(1 + n) for n in range(3)] == [(0, 0, n) for n in range(3)]
        assert log.producers.last(9) is None
        files.kill()


def test_a_checkpoint_of_before_the_segment_is_none(kit: Any, files: MemoryFiles) -> None:
    log = checkpointed(kit, files)
    expected = log.producers.snapshot()
    files.kill()
    content = {"end": 0, "producers": ProducerTable(5).snapshot()}
    path = f"{P}/00000000000000000000.producers"
    files.replace(path, sidecar.pack("producers", content))
    assert kit.open(files).producers.snapshot() == expected
