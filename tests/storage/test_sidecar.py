"""Small files under a checksum: what was written comes back, and nothing else does."""

from __future__ import annotations

import crc32c
import pytest

from streamer import cbor
from streamer.errors import StorageDamaged
from streamer.storage import sidecar


def test_what_was_packed_comes_back() -> None:
    content = {"a": 1, "b": b"bytes", "c": ["text", None, -5]}
    assert sidecar.unpack("thing", sidecar.pack("thing", content)) == {"kind": "thing", **content}


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    data = sidecar.pack("thing", {"a": 1, "b": b"bytes"})
    for position in range(len(data)):
        with pytest.raises(StorageDamaged):
            sidecar.unpack("thing", data[:position])
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(StorageDamaged):
                sidecar.unpack("thing", bytes(damaged))
    with pytest.raises(StorageDamaged):
        sidecar.unpack("thing", data + b"\0")


def test_another_kind_is_refused() -> None:
    with pytest.raises(StorageDamaged, match="another kind"):
        sidecar.unpack("index", sidecar.pack("marker", {}))


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\xff", "no CBOR"), (cbor.dumps([1]), "another kind"), (cbor.dumps({}) + b"x", "no CBOR")],
)
def test_a_right_checksum_over_wrong_content(body: bytes, reason: str) -> None:
    head = sidecar.pack("thing", {})[:4] + crc32c.crc32c(body).to_bytes(4, "little")
    with pytest.raises(StorageDamaged, match=reason):
        sidecar.unpack("thing", head + body)
