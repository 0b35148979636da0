"""Length-prefixed framing: the same frames however the bytes are cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import FrameTooLarge, ProtocolError, RemoteProtocolError
from streamer.limits import MIB
from streamer.wire.framing import LengthPrefixed

FRAMES = st.lists(st.binary(min_size=1, max_size=50), max_size=20)


@given(FRAMES, st.lists(st.integers(1, 40), min_size=1), st.booleans())
def test_any_cut_gives_the_same_frames(frames: list[bytes], sizes: list[int], array: bool) -> None:
    data = b"".join(map(LengthPrefixed.prefixed, frames))
    framing = LengthPrefixed(50)
    found = []
    at = step = 0
    while at < len(data):
        size = sizes[step % len(sizes)]
        chunk = data[at : at + size]
        found += framing.feed(bytearray(chunk) if array else chunk)
        at, step = at + size, step + 1
        assert framing.pending_bytes < 54
    assert found == frames
    assert framing.pending_bytes == 0
    assert all(type(frame) is bytes for frame in found)


@given(FRAMES, st.binary(min_size=1, max_size=3))
def test_what_is_not_whole_yet_waits(frames: list[bytes], more: bytes) -> None:
    framing = LengthPrefixed(50)
    assert framing.feed(b"".join(map(LengthPrefixed.prefixed, frames)) + more) == frames
    assert framing.pending_bytes == len(more)
    assert framing.feed(b"") == []
    assert framing.pending_bytes == len(more)


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="frame of 0 bytes"):
        LengthPrefixed(10).feed(bytes(4))


@pytest.mark.parametrize("length", [11, 2**31, 2**32 - 1])
def test_a_length_above_the_limit_is_refused_before_it_comes(length: int) -> None:
    framing = LengthPrefixed(10)
    assert framing.feed(LengthPrefixed.prefixed(b"x" * 10)) == [b"x" * 10]
    prefix = struct.pack("<I", length)
    assert framing.feed(prefix[:3]) == []
    with pytest.raises(FrameTooLarge, match=f"frame of {length} bytes, allowed are 10"):
        framing.feed(prefix[3:])
    # And again: there is no way back.
    with pytest.raises(FrameTooLarge):
        framing.feed(b"")


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_garbage_is_frames_or_the_peers_error(chunks: list[bytes]) -> None:
    framing = LengthPrefixed(100)
    try:
        for chunk in chunks:
            for frame in framing.feed(chunk):
                assert 1 <= len(frame) <= 100
            assert framing.pending_bytes < 104
    except ProtocolError:
        pass


def test_a_large_frame_in_many_pieces() -> None:
    frame = bytes(MIB)
    data = LengthPrefixed.prefixed(frame) + LengthPrefixed.prefixed(b"next")
    framing = LengthPrefixed(MIB)
    found = []
    for at in range(0, len(data), 4096):
        found += framing.feed(data[at : at + 4096])
    assert found == [frame, b"next"]
