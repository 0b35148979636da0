"""Hopping over frames, and finding them again after damage."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamer.batch import HEADER_BYTES, _sealed
from streamer.storage.frames import (
    Found,
    Gap,
    Scan,
    Window,
    find_next,
    frame_at,
    hop_to,
    hop_whole,
    walk,
)
from streamer.testing.memory_files import MemoryFiles


def window_of(data: bytes, window_bytes: int = 4096) -> Window:
    files = MemoryFiles()
    file = files.create("/f")
    file.write_at(0, [data])
    return Window(file, len(data), window_bytes)


def frames(kit: Any, *sizes: int, at: int = 0) -> list[bytes]:
    """Frames of two records each, one of which is as large as asked for."""
    made = []
    for number, size in enumerate(sizes):
        values = [random.Random(number).randbytes(size), b"x"]
        made.append(kit.batch(values, at=at).to_bytes())
        at += 2
    return made


# ---------------------------------------------------------------------------------------- hops


def test_hopping_ends_at_the_stop_the_limit_and_the_end(kit: Any) -> None:
    parts = frames(kit, 10, 20, 30)
    ends = [len(b"".join(parts[: n + 1])) for n in range(3)]
    view = memoryview(b"".join(parts))
    assert hop_whole(view, 0, 0, 6, 10**6) == (ends[2], 6, None, 0)
    assert hop_whole(view, 0, 0, 4, 10**6) == (ends[1], 4, None, 0)
    assert hop_whole(view, 0, 0, 6, ends[1]) == (ends[1], 4, None, 0)
    assert hop_whole(view, 0, 0, 6, ends[1] - 1) == (ends[0], 2, None, 0)
    assert hop_whole(view, 0, 0, 6, 1) == (ends[0], 2, None, 0), "one at least"
    assert hop_whole(view, ends[0], 2, 6, 1) == (ends[1], 4, None, 0)
    # What is not all there says how much it wants.
    assert hop_whole(view[: ends[1] - 1], 0, 0, 6, 10**6) == (ends[0], 2, None, len(parts[1]))
    assert hop_whole(view[: ends[0] + 50], 0, 0, 6, 10**6) == (ends[0], 2, None, HEADER_BYTES)
    assert hop_whole(view, ends[2], 6, 9, 10**6) == (ends[2], 6, None, HEADER_BYTES)


def test_hopping_to_an_offset(kit: Any) -> None:
    parts = frames(kit, 10, 20, 30)
    ends = [0, *(len(b"".join(parts[: n + 1])) for n in range(3))]
    view = memoryview(b"".join(parts))
    for offset in range(6):
        assert hop_to(view, 0, 0, offset) == (ends[offset // 2], offset // 2 * 2, None, 0)
    assert hop_to(view, 0, 0, 6) == (ends[3], 6, None, HEADER_BYTES)
    assert hop_to(view[: ends[1] + 10], 0, 0, 3) == (ends[1], 2, None, HEADER_BYTES)
    # A frame that ends beyond the data is hopped over nonetheless: only its header is read.
    assert hop_to(view[: ends[1] + HEADER_BYTES], 0, 0, 5).at == ends[2]


def test_hops_see_each_kind_of_damage(kit: Any) -> None:
    data = b"".join(frames(kit, 10, 20))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 4
        hops = hop_whole(memoryview(damaged), 0, 0, 4, 10**6)
        assert hops.fault is not None or hops.wanted
        assert hops.at == (0 if position < len(frames(kit, 10)[0]) else len(frames(kit, 10)[0]))
    header = memoryview(bytes(HEADER_BYTES) + data)
    assert hop_to(header, 0, 0, 3).fault == "no batch header"
    assert hop_to(memoryview(data), 0, 1, 3).fault == "batch of offset 0"
    assert hop_whole(memoryview(data), 0, 1, 9, 99).fault == "batch of offset 0"


def test_a_header_that_would_not_get_on_is_no_frame(kit: Any) -> None:
    batch = kit.batch([b"a"], at=5)
    assert frame_at(memoryview(batch.head), 0) is not None
    assert frame_at(memoryview(batch.head), 1) is None
    assert frame_at(memoryview(batch.head[:-1]), 0) is None
    for change in ({"length": 95}, {"count": 0}, {"count": 2**32 - 1, "base_offset": 2**63 - 1}):
        header = batch.header._replace(**change)
        sealed = _sealed(header, batch.payload)
        placed = sealed.placed(base_offset=header.base_offset, append_time_us=0, high_water=0)
        assert frame_at(memoryview(placed.head), 0) is None


# ---------------------------------------------------------------------------------------- scan


@pytest.mark.parametrize("window_bytes", [1, 100, 130, 4096])
@pytest.mark.parametrize("payloads", [False, True])
def test_a_scan_does_not_depend_on_its_window(kit: Any, window_bytes: int, payloads: bool) -> None:
    parts = frames(kit, 10, 2000, 30, 500)
    window = window_of(b"".join(parts), window_bytes)
    scan = Scan(window, 0, 0, payloads=payloads)
    found = [(position, frame.base_offset, bytes(data)) for position, frame, data in scan]
    starts = [len(b"".join(parts[:n])) for n in range(4)]
    expected = parts if payloads else [b""] * 4
    assert found == list(zip(starts, (0, 2, 4, 6), expected, strict=True))
    assert (scan.position, scan.expected, scan.fault) == (window.size, 8, None)


def test_a_scan_stops_before_an_offset(kit: Any) -> None:
    parts = frames(kit, 10, 20, 30)
    scan = Scan(window_of(b"".join(parts)), 0, 0, 4)
    assert len(list(scan)) == 2
    assert (scan.expected, scan.fault) == (4, None)


@pytest.mark.parametrize(
    ("cut", "fault"), [(1, "cut short"), (30, "cut short"), (140, "file ends before")]
)
def test_a_scan_of_a_file_that_is_cut_short(kit: Any, cut: int, fault: str) -> None:
    parts = frames(kit, 10, 50)
    data = b"".join(parts)[:-cut]
    scan = Scan(window_of(data), 0, 0)
    assert len(list(scan)) == 1
    assert fault in str(scan.fault)
    assert scan.position == len(parts[0])


def test_a_scan_of_a_file_that_becomes_shorter_meanwhile(kit: Any) -> None:
    data = b"".join(frames(kit, 10, 500))
    files = MemoryFiles()
    file = files.create("/f")
    file.write_at(0, [data])
    window = Window(file, len(data), 100)
    file.truncate(len(data) - 1)
    scan = Scan(window, 0, 0)
    assert len(list(scan)) == 1
    assert scan.fault == "the file ends before"
    file.truncate(3)
    scan = Scan(Window(file, len(data), 100), 0, 0)
    assert list(scan) == []
    assert scan.fault == "the file ends before"


# ------------------------------------------------------------------------------------- search


def found_at(window: Window, position: int, expected: int, stop: int = 10**9) -> Any:
    found = find_next(window, position, expected, stop)
    return None if found is None else (found.position, found.frame.base_offset)


@pytest.mark.parametrize("window_bytes", [1, 97, 4096])
def test_the_next_frame_is_found_whatever_byte_is_damaged(kit: Any, window_bytes: int) -> None:
    parts = frames(kit, 10, 60, 30)
    data = b"".join(parts)
    for position in range(len(parts[0])):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        window = window_of(bytes(damaged), window_bytes)
        assert found_at(window, 0, 0) == (len(parts[0]), 2)


def test_the_next_frame_is_found_behind_a_lost_block(kit: Any) -> None:
    parts = frames(kit, 600, 600, 600, 20)
    data = bytearray(b"".join(parts))
    data[100:900] = bytes(800)
    assert found_at(window_of(bytes(data)), 0, 0) == (len(parts[0]) * 2, 4)
    data[0:900] = bytes(900)
    assert found_at(window_of(bytes(data)), 0, 0) == (len(parts[0]) * 2, 4)
    assert found_at(window_of(bytes(data)), 0, 0, stop=4) is None


def test_many_damaged_frames_in_a_row(kit: Any) -> None:
    parts = frames(kit, *[10] * 3000)
    size = len(parts[0])
    data = bytearray(b"".join(parts))
    for number in range(2999):
        data[number * size + HEADER_BYTES + 5] ^= 1
    assert found_at(window_of(bytes(data)), 0, 0) == (2999 * size, 5998)


def test_no_frame_follows(kit: Any) -> None:
    part = frames(kit, 50)[0]
    for data in (b"", part[:50], part[:120], bytes(200), part[:-1] + b"?", part[:96] + bytes(54)):
        assert found_at(window_of(data), 0, 0) is None
    assert found_at(window_of(bytes(300) + part), 0, 0) is None, "its offset has been before"


@pytest.mark.parametrize("header_lost", [False, True])
def test_a_frame_within_a_record_is_not_taken_for_one_of_this_log(
    kit: Any, header_lost: bool
) -> None:
    """Records may be batches themselves, of offsets that would fit."""
    kit.codec = kit.uncompressed
    inner = b"".join(kit.batch([b"inner"], at=n).to_bytes() for n in (1, 2, 3))
    values = [random.Random(1).randbytes(200) + inner + random.Random(2).randbytes(50)]
    outer = kit.batch(values, at=0).to_bytes()
    assert inner in outer
    after = b"".join(kit.batch([b"after"], at=n).to_bytes() for n in (1, 2))
    data = bytearray(outer + after)
    data[30] ^= 1
    if header_lost:
        data[0:96] = bytes(96)
    assert found_at(window_of(bytes(data)), 0, 0) == (len(outer), 1)


def test_without_a_chain_to_the_end_the_first_whole_frame_is_taken(kit: Any) -> None:
    parts = frames(kit, 10, 20, 30)
    data = bytearray(b"".join(parts))
    data[0:96] = bytes(96)
    assert found_at(window_of(bytes(data[:-1])), 0, 0) == (len(parts[0]), 2)


def test_a_magic_across_the_edge_of_a_window_is_found(kit: Any) -> None:
    part = kit.batch([b"a"], at=5).to_bytes()
    for before in range(90, 110):
        window = window_of(bytes(before) + part, window_bytes=100)
        assert window.find_magic(0) == before
        assert window.find_magic(before) == before
        assert window.find_magic(before + 1) is None
    files = MemoryFiles()
    file = files.create("/f")
    file.write_at(0, [bytes(500)])
    window = Window(file, 500, 100)
    file.truncate(150)
    assert window.find_magic(0) is None


# ---------------------------------------------------------------------------------------- walk


def gaps_and_offsets(items: Any) -> list[Any]:
    return [item if isinstance(item, Gap) else item[1].base_offset for item in items]


def test_a_walk_gives_frames_and_gaps(kit: Any) -> None:
    parts = frames(kit, 10, 10, 10, 10, 10)
    size = len(parts[0])
    data = bytearray(b"".join(parts))
    data[size + 100] ^= 1
    data[3 * size] ^= 1
    found = gaps_and_offsets(walk(window_of(bytes(data)), 0, 0))
    assert found == [
        0,
        Gap(size, size, 2, 4, "batch checksum"),
        4,
        Gap(3 * size, size, 6, 8, "no batch header"),
        8,
    ]
    # Right bytes in the wrong place.
    other = [*frames(kit, 10), *frames(kit, 10, at=9), *frames(kit, 10, at=4)]
    found = gaps_and_offsets(walk(window_of(b"".join(other)), 0, 0))
    assert found == [0, Gap(size, size, 2, 4, "batch of offset 9"), 4]
    # Of headers only, what is in the payload does not show.
    found = gaps_and_offsets(walk(window_of(bytes(data)), 0, 0, payloads=False))
    assert [item for item in found if isinstance(item, Gap)] == [
        Gap(3 * size, size, 6, 8, "no batch header")
    ]


def test_a_walk_knows_where_its_segment_ends(kit: Any) -> None:
    parts = frames(kit, 10, 10, 10)
    size = len(parts[0])
    data = b"".join(parts)
    assert gaps_and_offsets(walk(window_of(data), 0, 0, 6)) == [0, 2, 4]
    # The next segment has what is behind; nobody looks at it here.
    assert gaps_and_offsets(walk(window_of(data), 0, 0, 4)) == [0, 2]
    assert gaps_and_offsets(walk(window_of(data + b"garbage"), 0, 0, 6)) == [0, 2, 4]
    assert gaps_and_offsets(walk(window_of(data), 0, 0, 9)) == [
        0, 2, 4, Gap(3 * size, 0, 6, 9, "the file ends before"),
    ]  # fmt: skip
    assert gaps_and_offsets(walk(window_of(data[:-1]), 0, 0, 9))[-1] == Gap(
        2 * size, size - 1, 4, 9, f"batch of {size} bytes is cut short"
    )
    assert gaps_and_offsets(walk(window_of(data[:-1]), 0, 0))[-1].next_offset is None
    assert gaps_and_offsets(walk(window_of(b""), 0, 0)) == []


def test_found_is_a_pair(kit: Any) -> None:
    parts = frames(kit, 10, 10)
    found = find_next(window_of(bytes(96) + b"".join(parts)), 0, -1)
    assert isinstance(found, Found)
    assert found.frame.next_offset == 2
