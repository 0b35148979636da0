"""Small files under a checksum of their own: indexes, snapshots, markers, stream metadata.

    4 bytes   b"\\xabSC" and a format version
    4 bytes   CRC-32C of all that follows, little-endian
    the rest  CBOR: a map with a "kind", so that one file is never taken for another

They are written whole by `Files.replace`, so a reader sees an old one or a new one. Those beside
a log say nothing that the log does not: one that is missing or bad is made again from it.
"""

from __future__ import annotations

import struct
from typing import Any

import crc32c

from streamer import cbor
from streamer.errors import StorageDamaged

_MAGIC = b"\xabSC\x01"
_HEAD = struct.Struct("<4sI")


def pack(kind: str, content: dict[str, Any]) -> bytes:
    """The bytes of a file of this kind."""
    body = cbor.dumps({"kind": kind, **content})
    return _HEAD.pack(_MAGIC, crc32c.crc32c(body)) + body


def unpack(kind: str, data: bytes) -> dict[str, Any]:
    """The content of a file of this kind.

    Raises:
        StorageDamaged: it is no such file, or does not pass its checksum.
    """
    if len(data) < _HEAD.size:
        raise StorageDamaged(f"{len(data)} bytes where a {kind} file has a header of {_HEAD.size}")
    magic, crc = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise StorageDamaged(f"magic {magic.hex()} where a {kind} file has {_MAGIC.hex()}")
    body = data[_HEAD.size :]
    if crc32c.crc32c(body) != crc:
        raise StorageDamaged(f"checksum of a {kind} file does not match")
    try:
        content = cbor.loads(body)
    except cbor.CBORError as error:
        raise StorageDamaged(f"{kind} file is no CBOR of ours: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise StorageDamaged(f"a file of another kind where a {kind} file was looked for")
    return content
