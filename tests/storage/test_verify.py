"""The offline walk names every damage, tells it from a torn tail, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.errors import StorageError
from streamer.storage.directory import DataDirectory, StreamMeta
from streamer.storage.partition import LogSettings
from streamer.storage.verify import Finding, FindingKind, PartitionSummary, verify_directory
from streamer.testing.memory_files import MemoryFiles

ROOT = "/srv/data"
LOG = f"{ROOT}/streams/orders/0/00000000000000000000.log"


def filled(kit: Any, files: MemoryFiles, *, close: bool = True) -> DataDirectory:
    directory = DataDirectory.open(files, ROOT)
    directory.create_stream(StreamMeta("orders", 2))
    directory.create_stream(StreamMeta("a b", 1))
    directory.add_dictionary("a b", b"words")
    for name, number, count in (("orders", 0, 9), ("orders", 1, 1), ("a b", 0, 3)):
        log = directory.open_partition(name, number, LogSettings(segment_bytes=300), kit.codec)
        for n in range(count):
            kit.append(log, [b"%d" % n])
        if close:
            kit.close(log)
    return directory


def verify(files: MemoryFiles) -> tuple[list[Finding], list[PartitionSummary]]:
    before = dict(files._disk.directories)
    files.trace.clear()
    found = list(verify_directory(files, ROOT))
    assert {line.split()[0] for line in files.trace} <= {"listdir", "open", "read", "size"}
    assert dict(files._disk.directories) == before
    findings = [item for item in found if isinstance(item, Finding)]
    summaries = [item for item in found if isinstance(item, PartitionSummary)]
    assert len(findings) >= sum(summary.findings for summary in summaries)
    return findings, summaries


def test_a_stream_in_memory_has_nothing_to_verify(kit: Any, files: MemoryFiles) -> None:
    directory = filled(kit, files)
    directory.create_stream(StreamMeta("presence", 2, storage="memory"))
    kit.append(directory.open_partition("presence", 1, LogSettings(), kit.codec), [b"a"])
    findings, summaries = verify(files)
    assert findings == []
    assert {summary.stream for summary in summaries} == {"a b", "orders"}
    files.flip_bit(f"{ROOT}/streams/presence/stream", 30)
    (finding,) = verify(files)[0]
    assert (finding.kind, finding.stream) == (FindingKind.METADATA, "presence")


def test_a_whole_directory(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    findings, summaries = verify(files)
    assert findings == []
    assert [(s.stream, s.partition, s.segments, s.batches, s.records) for s in summaries] == [
        ("a b", 0, 1, 3, 3),
        ("orders", 0, 3, 9, 9),
        ("orders", 1, 1, 1, 1),
    ]
    assert [(s.first_offset, s.next_offset, s.nbytes) for s in summaries] == [
        (0, 3, 300),
        (0, 9, 900),
        (0, 1, 100),
    ]


def test_a_directory_in_use_and_one_after_a_crash(kit: Any, files: MemoryFiles) -> None:
    directory = filled(kit, files, close=False)
    assert verify(files)[0] == []
    files.kill()
    assert verify(files)[0] == []
    directory.close()


@pytest.mark.parametrize("segment", [0, 3])
def test_damage_in_a_sealed_segment(kit: Any, files: MemoryFiles, segment: int) -> None:
    filled(kit, files)
    path = LOG.replace("0.log", f"{segment}.log")
    files.flip_bit(path, 150)
    (finding,), summaries = verify(files)
    assert (
        finding
        == Finding(
            FindingKind.DAMAGE,
            "orders",
            0,
            path,
            101,
            101,
            segment + 1,
            segment + 2,
            "batch checksum",
        )
        or finding.reason == "no batch header"
    )
    assert not finding.harmless
    assert [s.findings for s in summaries] == [0, 1, 0]
    assert [s.records for s in summaries] == [3, 8, 1]


@pytest.mark.parametrize("clean", [False, True])
def test_damage_and_torn_tails_in_the_last_segment(
    kit: Any, files: MemoryFiles, clean: bool
) -> None:
    filled(kit, files, close=clean)
    path = LOG.replace("0.log", "6.log")
    # The batch before the last is vouched for by the last, and that one by the marker alone.
    for position, kind in (
        (120, FindingKind.DAMAGE),
        (250, FindingKind.DAMAGE if clean else FindingKind.TORN),
    ):
        files.flip_bit(path, position)
        (finding,), _ = verify(files)
        number = position // 100
        assert (finding.kind, finding.file) == (kind, path)
        assert finding.harmless is (kind is FindingKind.TORN)
        assert (finding.position, finding.nbytes) == (number * 100, 100)
        assert finding.first_offset == 6 + number
        assert finding.next_offset == (8 if number == 1 else 9 if clean else None)
        files.flip_bit(path, position)


def test_a_write_that_is_under_way_is_a_torn_tail(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files, close=False)
    path = LOG.replace("0.log", "6.log")
    size = files.size(path)
    files.overwrite(path, size, kit.batch([b"new"], at=9).to_bytes()[:60])
    (finding,), summaries = verify(files)
    assert (finding.kind, finding.position, finding.nbytes) == (FindingKind.TORN, size, 60)
    assert summaries[1].next_offset == 9


def test_a_log_that_grows_beside_its_marker(kit: Any, files: MemoryFiles) -> None:
    """The daemon removes the marker first, but a walk may have read it before."""
    filled(kit, files)
    path = LOG.replace("0.log", "6.log")
    size = files.size(path)
    files.overwrite(path, size, kit.batch([b"new"], at=9, high_water=9).to_bytes())
    findings, summaries = verify(files)
    assert findings == []
    assert summaries[1].next_offset == 10


def test_segments_that_vanish_meanwhile_are_left_out(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    walk = verify_directory(files, ROOT)
    # The summary of the stream before it, then retention takes what was listed.
    first = next(walk)
    assert isinstance(first, PartitionSummary)

    class Vanishing(MemoryFiles):
        def open_read(self, path: str) -> Any:
            if path == LOG:
                raise FileNotFoundError(path)
            return super().open_read(path)

    vanishing = Vanishing()
    vanishing.__dict__.update(files.__dict__)
    summaries = [s for s in verify_directory(vanishing, ROOT) if isinstance(s, PartitionSummary)]
    assert [s.records for s in summaries] == [3, 6, 1]
    assert [s.findings for s in summaries] == [0, 0, 0]


@pytest.mark.parametrize("suffix", ["index", "producers"])
def test_bad_sidecars_are_named_and_harmless(kit: Any, files: MemoryFiles, suffix: str) -> None:
    filled(kit, files)
    path = LOG.replace("log", suffix)
    good = files.read(path)
    files.flip_bit(path, 15)
    (finding,), _ = verify(files)
    assert (finding.kind, finding.file) == (FindingKind.SIDECAR, path)
    assert finding.harmless
    assert finding.first_offset is finding.next_offset is None
    files.replace(path, good)
    files.replace(path, files.read(LOG.replace("0.log", f"3.{suffix}")))
    (finding,), _ = verify(files)
    assert "of a segment up to 6" in finding.reason
    files.unlink(path)
    assert verify(files)[0] == [], "one that is not there is made again"


def test_a_bad_marker_is_named_and_harmless(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    files.flip_bit(f"{ROOT}/streams/orders/0/clean", 30)
    (finding,), _ = verify(files)
    assert (finding.kind, finding.file.split("/")[-1]) == (FindingKind.SIDECAR, "clean")


@pytest.mark.parametrize("kept", [True, False])
def test_a_last_segment_that_is_gone(kit: Any, files: MemoryFiles, kept: bool) -> None:
    filled(kit, files)
    for base in (6,) if kept else (0, 3, 6):
        files.unlink(LOG.replace("0.log", f"{base}.log"))
    (finding,), summaries = verify(files)
    assert finding.kind is FindingKind.DAMAGE
    assert (finding.first_offset, finding.next_offset) == (6 if kept else 0, 9)
    assert finding.reason == "the file is gone"
    assert summaries[1].findings == 1


def test_bad_metadata_and_dictionaries_are_named(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    path = f"{ROOT}/streams/orders/stream"
    files.flip_bit(path, 15)
    (finding,), summaries = verify(files)
    assert (finding.kind, finding.file, finding.partition) == (FindingKind.METADATA, path, None)
    assert not finding.harmless
    assert finding.nbytes == files.size(path)
    assert [s.stream for s in summaries] == ["a b", "orders", "orders"]
    files.unlink(path)
    (finding,), _ = verify(files)
    assert (finding.reason, finding.nbytes) == ("the file is gone", 0)
    (name,) = [n for n in files.listdir(f"{ROOT}/streams/a%20b") if n.endswith(".dict")]
    files.flip_bit(f"{ROOT}/streams/a%20b/{name}", 15)
    findings, _ = verify(files)
    assert [finding.file.split("/")[-1] for finding in findings] == [name, "stream"]


def test_a_stream_that_was_never_made_in_full_is_nothing(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    files.make_dir(f"{ROOT}/streams/half")
    assert verify(files)[0] == []


def test_no_data_directory(files: MemoryFiles) -> None:
    with pytest.raises(StorageError, match="no data directory"):
        list(verify_directory(files, ROOT))


def test_a_disk_at_fault(kit: Any, files: MemoryFiles) -> None:
    filled(kit, files)
    files.fail_next("open")
    with pytest.raises(StorageError, match="Input/output"):
        list(verify_directory(files, ROOT))
