"""Damage is found, never served, and never cut where it was durable (G6)."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.errors import PartitionDamaged
from streamer.storage.partition import LogState, PartitionLog
from streamer.storage.verify import Finding, FindingKind, PartitionSummary, verify_partition
from streamer.testing.memory_files import MemoryFiles

SEGMENT = "/data/p/00000000000000000000.log"


def fill(kit: Any, files: MemoryFiles) -> tuple[PartitionLog, dict[int, bytes], list[int]]:
    """Five commits of a batch of two and a batch of one: the log, its values by offset, and where
    the batches end in the file."""
    log = kit.open(files, segment_bytes=10**6, index_bytes=250)
    for number in range(5):
        kit.append(log, [b"%d" % number, b"x" * 30], [b"y%d" % number])
    values = dict(enumerate(kit.read(log)))
    ends = [*list(log._recent_positions[1:]), log.nbytes]
    return log, values, ends


def frame_of(ends: list[int], position: int) -> int:
    return next(number for number, end in enumerate(ends) if position < end)


#: First offset of each of the ten batches, and of what is behind them.
OFFSETS = [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15]


def test_every_byte_flipped_in_a_cleanly_closed_segment_is_found(kit: Any) -> None:
    files = MemoryFiles()
    log, values, ends = fill(kit, files)
    kit.close(log)
    for position in range(ends[-1]):
        files.flip_bit(SEGMENT, position, position % 8)
        log = kit.open(files, segment_bytes=10**6, index_bytes=250)
        found, skipped = kit.read_whole_parts(log)
        number = frame_of(ends, position)
        damaged = (OFFSETS[number], OFFSETS[number + 1])
        assert skipped == [damaged]
        expected = {o: v for o, v in values.items() if not damaged[0] <= o < damaged[1]}
        assert found == expected, "what is whole is served, and nothing else"
        # The start looks at the last commit; what is before it is found when it is read.
        if number >= 8:
            assert log.state is LogState.DAMAGED
            assert [(d.first_offset, d.next_offset) for d in log.damage] == [damaged]
            with pytest.raises(PartitionDamaged) as caught:
                log.plan_append([kit.entry(log, [b"new"])])
            assert (caught.value.detail["first"], caught.value.detail["next"]) == damaged
        assert log.next_offset == 15
        files.flip_bit(SEGMENT, position, position % 8)


def test_every_byte_flipped_after_an_unclean_stop_is_found(kit: Any) -> None:
    for position in range(2000):
        files = MemoryFiles()
        log, values, ends = fill(kit, files)
        if position >= ends[-1]:
            break
        number = frame_of(ends, position)
        files.kill()
        files.flip_bit(SEGMENT, position, position % 8)
        before = files.read(SEGMENT)
        log = kit.open(files, segment_bytes=10**6, index_bytes=250)
        found, skipped = kit.read_whole_parts(log)
        first, behind = OFFSETS[number], OFFSETS[number + 1]
        if number < 8:
            # A later batch says that this was durable.
            assert log.state is LogState.DAMAGED
            assert skipped == [(first, behind)]
            assert found == {o: v for o, v in values.items() if not first <= o < behind}
            assert [(d.first_offset, d.next_offset) for d in log.damage] == [(first, behind)]
            assert log.recovery.damage == log.damage
            assert not log.recovery.cut
            assert files.read(SEGMENT) == before, "nothing is touched"
        else:
            # Nothing tells the last commit from one that was torn.
            assert log.state is LogState.OPEN
            assert not skipped
            assert found == {o: v for o, v in values.items() if o < first}
            (cut,) = log.recovery.cut
            start = ends[number - 1]
            assert (cut.file, cut.position, cut.nbytes) == (SEGMENT, start, len(before) - start)
            assert (cut.first_offset, cut.next_offset) == (first, None)
            names = [name for name in files.listdir("/data/p") if name.endswith(".log")]
            assert b"".join(files.read(f"/data/p/{name}") for name in names) == before[:start]
            kit.append(log, [b"new"])
            assert kit.read(log)[-1] == b"new"


def test_every_byte_flipped_in_a_sealed_segment_is_found(kit: Any) -> None:
    files = MemoryFiles()
    log, values, ends = fill(kit, files)
    kit.close(log)
    log = kit.open(files, segment_bytes=1, index_bytes=250)
    kit.append(log, [b"next segment"])
    values[15] = b"next segment"
    assert log.segment_count == 2
    kit.close(log)
    for position in range(ends[-1]):
        files.flip_bit(SEGMENT, position, position % 8)
        number = frame_of(ends, position)
        damaged = (OFFSETS[number], OFFSETS[number + 1])
        for sidecars in (True, False):
            log = kit.open(files, segment_bytes=1, index_bytes=250)
            if not sidecars:
                log._indexes._files = Without(files, ".index")
            found, skipped = kit.read_whole_parts(log)
            assert skipped == [damaged]
            assert found == {o: v for o, v in values.items() if not damaged[0] <= o < damaged[1]}
            # An offset at a time, also of those that an entry of the index leads to.
            for offset in range(16):
                plan = log.plan_read(offset, 1)
                assert plan is not None
                if damaged[0] <= offset < damaged[1]:
                    with pytest.raises(PartitionDamaged) as caught:
                        plan.run()
                    detail = caught.value.detail
                    assert (detail["first"], detail["next"]) == damaged
                else:
                    result = plan.run()
                    assert result.first_offset <= offset < result.next_offset
        findings = [f for f in verify_partition(files, "/data/p") if isinstance(f, Finding)]
        assert [(f.kind, f.first_offset, f.next_offset) for f in findings] == [
            (FindingKind.DAMAGE, *damaged)
        ]
        start = ends[number - 1] if number else 0
        assert (findings[0].position, findings[0].nbytes) == (start, ends[number] - start)
        files.flip_bit(SEGMENT, position, position % 8)
    (summary,) = verify_partition(files, "/data/p")
    assert isinstance(summary, PartitionSummary)
    assert (summary.batches, summary.records, summary.findings) == (11, 16, 0)


class Without(MemoryFiles):
    """A view that does not see the files of one kind."""

    def __init__(self, files: MemoryFiles, suffix: str) -> None:
        self.__dict__.update(files.__dict__)
        self._suffix = suffix

    def read(self, path: str) -> bytes:
        if path.endswith(self._suffix):
            raise FileNotFoundError(path)
        return super().read(path)


def test_a_segment_cut_short_at_every_byte(kit: Any) -> None:
    files = MemoryFiles()
    log, values, ends = fill(kit, files)
    kit.close(log)
    log = kit.open(files, segment_bytes=1, index_bytes=250)
    kit.append(log, [b"next segment"])
    values[15] = b"next segment"
    kit.close(log)
    whole = files.read(SEGMENT)
    for size in range(len(whole) - 1, -1, -1):
        file = files.open(SEGMENT)
        file.truncate(size)
        file.close()
        log = kit.open(files, segment_bytes=1, index_bytes=250)
        found, skipped = kit.read_whole_parts(log)
        first = OFFSETS[frame_of(ends, size)]
        assert skipped == [(first, 15)]
        assert found == {o: v for o, v in values.items() if o < first or o == 15}
        (finding,) = [f for f in verify_partition(files, "/data/p") if isinstance(f, Finding)]
        assert (finding.kind, finding.first_offset) == (FindingKind.DAMAGE, first)


def test_a_marker_proves_what_is_missing_at_the_end(kit: Any) -> None:
    for kept in (0, 1, 500):
        files = MemoryFiles()
        log, values, ends = fill(kit, files)
        kit.close(log)
        file = files.open(SEGMENT)
        file.truncate(kept)
        file.close()
        log = kit.open(files)
        first = OFFSETS[frame_of(ends, kept)]
        assert log.state is LogState.DAMAGED
        assert log.recovery.clean
        assert log.next_offset == log.high_water == 15
        found, skipped = kit.read_whole_parts(log)
        assert skipped == [(first, 15)]
        assert found == {o: v for o, v in values.items() if o < first}
        assert files.size(SEGMENT) == kept


def test_a_marker_proves_that_the_last_segment_is_gone(kit: Any) -> None:
    files = MemoryFiles()
    log, values, _ = fill(kit, files)
    kit.close(log)
    log = kit.open(files, segment_bytes=1)
    kit.append(log, [b"next segment"])
    kit.close(log)
    files.unlink("/data/p/00000000000000000015.log")
    log = kit.open(files)
    assert log.state is LogState.DAMAGED
    assert log.next_offset == 16
    found, skipped = kit.read_whole_parts(log)
    assert (found, skipped) == (values, [(15, 16)])
    (finding,) = [f for f in verify_partition(files, "/data/p") if isinstance(f, Finding)]
    assert (finding.kind, finding.first_offset, finding.next_offset) == ("damage", 15, 16)
    files.unlink(SEGMENT)
    log = kit.open(files)
    assert log.state is LogState.DAMAGED
    assert log.first_offset == log.next_offset == log.high_water == 16
    assert log.plan_read(16, 100) is None
    with pytest.raises(PartitionDamaged):
        log.plan_append([kit.entry(log, [b"x"])])


def test_a_segment_missing_in_the_middle_is_a_gap(kit: Any) -> None:
    files = MemoryFiles()
    log = kit.open(files, segment_bytes=1)
    for number in range(4):
        kit.append(log, [b"%d" % number])
    kit.close(log)
    files.unlink("/data/p/00000000000000000002.log")
    log = kit.open(files, segment_bytes=1)
    found, skipped = kit.read_whole_parts(log)
    assert found == {0: b"0", 1: b"1", 3: b"3"}
    assert skipped == [(2, 3)]


def test_right_bytes_in_the_wrong_place_are_damage(kit: Any) -> None:
    files = MemoryFiles()
    log = kit.open(files, segment_bytes=10**6)
    for number in range(4):
        kit.append(log, [b"%d" % number * 10])
    starts = log._recent_positions
    blob = files.read(SEGMENT)
    size = starts[1]
    kit.close(log)
    # Batch 1 where batch 2 should be: each passes all checksums.
    files.overwrite(SEGMENT, starts[2], blob[starts[1] : starts[1] + size])
    found, skipped = kit.read_whole_parts(kit.open(files))
    assert skipped == [(2, 3)]
    assert sorted(found) == [0, 1, 3]


def test_damage_and_a_torn_tail_at_once_leave_all_as_it_is(kit: Any) -> None:
    files = MemoryFiles()
    log, _values, ends = fill(kit, files)
    files.kill()
    files.flip_bit(SEGMENT, ends[2] + 70)
    files.flip_bit(SEGMENT, ends[8] + 100)
    before = files.read(SEGMENT)
    log = kit.open(files)
    assert log.state is LogState.DAMAGED
    assert [(d.first_offset, d.next_offset) for d in log.damage] == [(5, 6), (14, None)]
    assert log.next_offset == 14
    found, skipped = kit.read_whole_parts(log)
    assert skipped == [(5, 6)]
    assert sorted(found) == [o for o in range(14) if o != 5]
    assert files.read(SEGMENT) == before
    kinds = [f.kind for f in verify_partition(files, "/data/p") if isinstance(f, Finding)]
    assert kinds == [FindingKind.DAMAGE, FindingKind.TORN]
    # Closing leaves no marker: the next start must find the same.
    kit.close(log)
    assert "clean" not in files.listdir("/data/p")
    assert kit.open(files).state is LogState.DAMAGED


def test_damage_that_a_read_runs_into_can_be_noted(kit: Any) -> None:
    files = MemoryFiles()
    log, _, _ends = fill(kit, files)
    files.flip_bit(SEGMENT, 10)
    plan = log.plan_read(0, 100)
    with pytest.raises(PartitionDamaged) as caught:
        plan.run()
    log.note_damage(caught.value)
    log.note_damage(caught.value)
    assert log.state is LogState.DAMAGED
    assert [(d.first_offset, d.next_offset) for d in log.damage] == [(0, 2)]
    with pytest.raises(PartitionDamaged, match="takes no writes"):
        log.plan_append([kit.entry(log, [b"x"])])
