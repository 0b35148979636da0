"""The clean marker is believed whole or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.storage import sidecar
from streamer.storage.marker import Marker, marker_path, read_marker, write_marker
from streamer.testing.memory_files import MemoryFiles

MARKER = Marker(5, 9, 1000, 7, b"index", b"producers")


def test_what_was_written_comes_back(files: MemoryFiles) -> None:
    files.make_dir("/d")
    assert read_marker(files, "/d") is None
    write_marker(files, "/d", MARKER)
    assert read_marker(files, "/d") == MARKER
    assert marker_path("/d") == "/d/clean"


@pytest.mark.parametrize(
    "change",
    [
        {"base_offset": "5"},
        {"end_offset": None},
        {"nbytes": True},
        {"vouched": b""},
        {"index": "text"},
        {"producers": 5},
        {"more": 1},
    ],
)
def test_a_bad_field(files: MemoryFiles, change: dict[str, Any]) -> None:
    files.make_dir("/d")
    write_marker(files, "/d", MARKER)
    content = sidecar.unpack("clean", files.read("/d/clean"))
    del content["kind"]
    files.replace("/d/clean", sidecar.pack("clean", {**content, **change}))
    assert read_marker(files, "/d") is None
    content.pop(*change, None)
    files.replace("/d/clean", sidecar.pack("clean", content))
    assert (read_marker(files, "/d") is None) is ("more" not in change)


def test_damage(files: MemoryFiles) -> None:
    files.make_dir("/d")
    write_marker(files, "/d", MARKER)
    for position in range(files.size("/d/clean")):
        files.flip_bit("/d/clean", position)
        assert read_marker(files, "/d") is None
        files.flip_bit("/d/clean", position)


def test_a_disk_at_fault_is_not_a_missing_marker(files: MemoryFiles) -> None:
    files.make_dir("/d")
    write_marker(files, "/d", MARKER)
    files.fail_next("read")
    with pytest.raises(OSError, match="Input/output"):
        read_marker(files, "/d")
