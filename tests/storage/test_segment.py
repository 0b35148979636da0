"""Names, sidecars, and the cache of indexes."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.errors import StorageDamaged
from streamer.storage import sidecar
from streamer.storage.index import SparseIndex
from streamer.storage.producers import ProducerTable
from streamer.storage.segment import (
    IndexCache,
    Segment,
    build_index,
    file_path,
    parse_name,
    parse_producers,
    read_index,
    sidecar_path,
)
from streamer.testing.memory_files import MemoryFiles

P = "/data/p"


def test_names() -> None:
    path = file_path("/d", 42)
    assert path == "/d/00000000000000000042.log"
    assert parse_name(path.split("/")[-1]) == (42, ".log")
    assert sidecar_path(path, ".index") == "/d/00000000000000000042.index"
    assert parse_name("00000000000000000042.producers") == (42, ".producers")
    for name in ("42.log", "clean", "00000000000000000042.log.tmp", "x0000000000000000042.log"):
        assert parse_name(name) is None
    names = [file_path("/d", base) for base in (0, 9, 10, 2**63)]
    assert sorted(names) == names


def sealed(kit: Any, files: MemoryFiles, count: int = 12) -> tuple[Any, Segment]:
    log = kit.open(files, segment_bytes=10**6, index_bytes=200)
    for number in range(count):
        kit.commit(log, [kit.entry(log, [b"%02d" % number], timestamp_us=number)])
    kit.close(log)
    log = kit.open(files, segment_bytes=1, index_bytes=200)
    kit.append(log, [b"next"])
    return log, Segment(file_path(P, 0), 0, count, files.size(file_path(P, 0)))


def test_an_index_made_from_headers_is_the_one_that_was_written(
    kit: Any, files: MemoryFiles
) -> None:
    _, segment = sealed(kit, files)
    written = files.read(f"{P}/00000000000000000000.index")
    assert build_index(files, segment, 200).to_bytes() == written
    assert read_index(files, segment, 200).to_bytes() == written


@pytest.mark.parametrize("field", ["base", "end", "nbytes"])
def test_an_index_of_something_else_is_not_believed(
    kit: Any, files: MemoryFiles, field: str
) -> None:
    _, segment = sealed(kit, files)
    path = f"{P}/00000000000000000000.index"
    right = read_index(files, segment, 200).to_bytes()
    content = sidecar.unpack("index", right)
    content[field] += 10**6
    if field == "base":
        content["offsets"] = (10**6).to_bytes(8, "little")
        content["positions"] = content["times"] = bytes(8)
    files.replace(path, sidecar.pack("index", content))
    assert read_index(files, segment, 200).to_bytes() == right
    files.unlink(path)
    assert read_index(files, segment, 200).to_bytes() == right


def test_an_index_made_from_damaged_headers_leaves_the_damage_out(
    kit: Any, files: MemoryFiles
) -> None:
    _, segment = sealed(kit, files)
    size = segment.nbytes // 12
    files.flip_bit(segment.path, 4 * size)
    files.flip_bit(segment.path, 11 * size)
    index = build_index(files, segment, 10**6)
    assert index.by_offset(4) == (0, 0)
    assert index.by_offset(11) == (5, 5 * size)
    assert (index.end_offset, index.nbytes) == (12, segment.nbytes)
    assert index.max_timestamp_us == 10


def test_the_cache_keeps_those_used_last(kit: Any, files: MemoryFiles) -> None:
    log = kit.open(files, segment_bytes=1)
    for number in range(5):
        kit.append(log, [b"%d" % number])
    segments = log._sealed
    cache = IndexCache(files, 300, indexes_max=2)

    def read_by(number: int) -> bool:
        files.trace.clear()
        assert cache.get(segments[number]).base_offset == number
        return bool(files.trace)

    assert [read_by(n) for n in (0, 1, 0, 2, 0, 1)] == [True, True, False, True, False, True]
    cache.drop(1)
    cache.drop(77)
    assert read_by(1)
    assert segments[1].append_time_us == kit.now_us
    fresh = Segment(segments[3].path, 3, 4, segments[3].nbytes)
    cache.get(fresh)
    assert (fresh.max_timestamp_us, fresh.append_time_us) == (kit.now_us, kit.now_us)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"end": 5},
        {"end": "5", "producers": b""},
        {"end": 5, "producers": "x"},
        {"end": 5, "producers": b"x"},
    ],
)
def test_a_producers_file_with_a_bad_field_is_refused(content: dict[str, Any]) -> None:
    table = ProducerTable(5)
    with pytest.raises(StorageDamaged):
        parse_producers(sidecar.pack("producers", content), table)
    good = {"end": 5, "producers": table.snapshot()}
    assert parse_producers(sidecar.pack("producers", good), table) == 5


def test_an_index_of_nothing() -> None:
    index = SparseIndex(7, 100)
    assert SparseIndex.from_bytes(index.to_bytes(), 100).by_offset(7) == (7, 0)
