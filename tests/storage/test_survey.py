"""Looking over a log for what is missing of it, piece by piece, as a reader would find it."""

from __future__ import annotations

import errno
import random
from typing import Any

import attrs
import pytest

from streamer.errors import Aborted, OffsetOutOfRange, PartitionDamaged, StorageError
from streamer.storage import survey
from streamer.storage.memory import MemoryLog
from streamer.storage.partition import LogSettings
from streamer.storage.survey import BATCHES_MAX, Piece, Question, Silence
from streamer.testing.memory_files import MemoryFiles

P = "/data/p"


def filled(kit: Any, files: MemoryFiles, **more: Any) -> Any:
    """Twenty batches of 200 kB and a second apart, three to a segment."""
    log = kit.open(files, segment_bytes=650_000, **more)
    for number in range(20):
        kit.now_us += 1_000_000
        kit.append(log, [random.Random(number).randbytes(200_000)])
    return log


def whole(log: Any, **asked: Any) -> tuple[int, Piece]:
    """How many pieces it took, and all of them together."""
    question = Question(log.first_offset, **asked)
    found, pieces = Piece.begun(question), 0
    while (plan := log.plan_survey(question)) is not None:
        piece = plan.run()
        assert piece.offset > question.offset
        found.batches += piece.batches
        found.records += piece.records
        found.nbytes += piece.nbytes
        found.damage += piece.damage
        found.silences += piece.silences
        question = attrs.evolve(question, offset=piece.offset, last_us=piece.last_us)
        pieces += 1
    found.offset, found.last_us = question.offset, question.last_us
    return pieces, found


def ranges(piece: Piece) -> list[tuple[int, int]]:
    return [(error.detail["first"], error.detail["next"]) for error in piece.damage]


@pytest.mark.parametrize("payloads", [False, True])
def test_a_whole_log_has_no_gaps(kit: Any, files: MemoryFiles, payloads: bool) -> None:
    log = filled(kit, files)
    pieces, found = whole(log, payloads=payloads)
    assert (found.batches, found.records, found.nbytes) == (20, 20, log.nbytes)
    assert found.damage == found.silences == []
    assert (found.offset, found.last_us) == (20, kit.now_us)
    assert pieces == log.segment_count == 7
    assert kit.open(files, path="/data/empty").plan_survey(Question(0)) is None


def test_after_a_start_the_indexes_are_asked(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    log = kit.open(files, segment_bytes=650_000)
    for offset in range(18):
        piece = log.plan_survey(Question(offset)).run()
        # To the end of the segment, and nothing from before the offset.
        left = 3 - offset % 3
        assert (piece.records, piece.offset) == (left, offset + left)
    assert whole(log)[1].records == 20


@pytest.mark.parametrize("payloads", [False, True])
def test_what_is_before_the_offset_is_passed_over(
    kit: Any, files: MemoryFiles, payloads: bool
) -> None:
    log = kit.open(files, segment_bytes=10**8, index_bytes=10**6)
    # So many that where the first ones are is not remembered.
    for _ in range(1100):
        kit.append(log, [b"x", b"y"], sync=False)
    [name] = [name for name in files.listdir(P) if name.endswith(".log")]
    size = files.size(f"{P}/{name}") // 1100
    files.flip_bit(f"{P}/{name}", 3 * size + 10)
    assert ranges(log.plan_survey(Question(0, payloads=payloads)).run()) == [(6, 8)]
    piece = log.plan_survey(Question(13, payloads=payloads)).run()
    # Of a batch that is looked at, all counts.
    assert (ranges(piece), piece.offset) == ([], 12 + piece.records)


def test_headers_alone_do_not_read_what_is_between_them(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files)
    names = [name for name in files.listdir(P) if name.endswith(".log")]
    files.flip_bit(f"{P}/{names[0]}", 300_000)
    assert whole(log)[1].damage == []
    [error] = whole(log, payloads=True)[1].damage
    assert "batch checksum" in error.message
    assert ranges(whole(log, payloads=True)[1]) == [(1, 2)]


@pytest.mark.parametrize("payloads", [False, True])
def test_what_headers_tell_of_damage_is_found(kit: Any, files: MemoryFiles, payloads: bool) -> None:
    log = filled(kit, files)
    names = [name for name in files.listdir(P) if name.endswith(".log")]
    size = files.size(f"{P}/{names[0]}") // 3
    files.flip_bit(f"{P}/{names[0]}", 10)
    files.flip_bit(f"{P}/{names[1]}", 2 * size + 10)
    files.open(f"{P}/{names[3]}").truncate(size + 1)
    _, found = whole(log, payloads=payloads, silence_us=10**9)
    assert ranges(found) == [(0, 1), (5, 6), (10, 12)]
    assert found.records == 20 - 4
    for error in found.damage:
        # The same that a reader is told.
        with pytest.raises(PartitionDamaged) as caught:
            log.plan_read(error.detail["first"], 100).run()
        assert caught.value.detail == error.detail
    # From the middle of a gap on, the rest of it is told.
    piece = log.plan_survey(Question(11)).run()
    assert (ranges(piece), piece.offset) == ([(11, 12)], 12)


def test_silences_are_between_batches_and_pieces(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=650_000)
    times = [1, 2, 10, 11, 5, 12, 30]
    for number, second in enumerate(times):
        kit.now_us = second * 1_000_000
        kit.append(log, [random.Random(number).randbytes(200_000)])
    _, found = whole(log, silence_us=3_000_000)
    # A clock that went back is no silence; that it came back is.
    assert found.silences == [
        Silence(2, 2_000_000, 10_000_000),
        Silence(5, 5_000_000, 12_000_000),
        Silence(6, 12_000_000, 30_000_000),
    ]
    assert whole(log)[1].silences == []
    assert whole(log, silence_us=10**9)[1].silences == []


def test_a_piece_is_bounded(kit: Any, files: MemoryFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    log = kit.open(files, segment_bytes=10**8)
    for number in range(20):
        kit.now_us += 10
        kit.append(log, [random.Random(number).randbytes(200_000)])
    assert whole(log)[0] == 1
    # A mebibyte of them, where all bytes are read.
    assert 3 <= whole(log, payloads=True)[0] <= 4
    monkeypatch.setattr(survey, "BATCHES_MAX", 6)
    assert whole(log)[0] == 4
    monkeypatch.setattr(survey, "_FINDINGS_MAX", 2)
    pieces, found = whole(log, silence_us=1)
    assert (pieces, len(found.silences)) == (10, 19)


def test_what_is_not_there_is_refused(kit: Any, files: MemoryFiles) -> None:
    log = filled(kit, files, retention_bytes=650_000)
    plan = log.plan_retention(0, None)
    plan.run()
    early = log.plan_survey(Question(0))
    log.retained(plan)
    with pytest.raises(OffsetOutOfRange, match="has been removed"):
        early.run()
    for offset in (0, 21):
        with pytest.raises(OffsetOutOfRange):
            log.plan_survey(Question(offset))
    assert log.plan_survey(Question(20)) is None


@pytest.mark.parametrize(("number", "error"), [(errno.EIO, StorageError), (errno.EMFILE, Aborted)])
def test_a_fault_of_the_disk_is_told(
    kit: Any, files: MemoryFiles, number: int, error: type[Exception]
) -> None:
    log = filled(kit, files)
    plan = log.plan_survey(Question(0))
    files.fail_next("open", number)
    with pytest.raises(error, match=P):
        plan.run()


# ------------------------------------------------------------------------------------ in memory


def test_a_log_in_memory_tells_its_silences(kit: Any) -> None:
    log = MemoryLog("m", LogSettings(memory_bytes=1000))
    assert log.plan_survey(Question(0)) is None
    for number in range(20):
        kit.now_us = 10_000_000 + number**2 * 1_000_000
        kit.append(log, [random.Random(number).randbytes(100), b"x"])
    assert log.first_offset > 0
    for offset in (0, 41):
        with pytest.raises(OffsetOutOfRange):
            log.plan_survey(Question(offset))
    pieces, found = whole(log, silence_us=36_500_000)
    assert (pieces, found.offset, found.damage) == (1, 40, [])
    assert (found.records, found.nbytes) == (40 - log.first_offset, log.nbytes)
    assert [silence.offset for silence in found.silences] == [38]
    inside = log.plan_survey(Question(37)).run()
    assert (inside.records, inside.offset) == (4, 40)


def test_a_piece_of_memory_is_bounded(kit: Any) -> None:
    log = MemoryLog("m", LogSettings())
    for _ in range(BATCHES_MAX + 1):
        kit.append(log, [b"x"])
    assert whole(log)[0] == 2
