"""Frames on a raw byte transport: each behind its length, a little-endian u32.

Rules: a length is checked before the frame behind it is waited for, so a peer makes us hold at
most one allowed frame and what came in one read. A WebSocket needs none of this: a binary message
is a frame.
"""

from __future__ import annotations

import struct

from streamer.errors import FrameTooLarge, RemoteProtocolError

__all__ = ["LengthPrefixed"]

_LENGTH = struct.Struct("<I")
_PREFIX_BYTES = _LENGTH.size


class LengthPrefixed:
    """Cuts the bytes of one direction of a transport into frames of at most `frame_bytes`."""

    def __init__(self, frame_bytes: int) -> None:
        self.frame_bytes = frame_bytes
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not whole yet; at the end of a transport, what was torn off."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """Take what was read, give the frames that are now whole.

        Raises:
            FrameTooLarge: a length above the limit; RemoteProtocolError: a length of 0. The
                transport is of no use afterwards: where the next frame begins is unknown.
        """
        if self._buffer:
            self._buffer += data
            data = self._buffer
        found = []
        at, total = 0, len(data)
        with memoryview(data) as view:
            while total - at >= _PREFIX_BYTES:
                start = at + _PREFIX_BYTES
                end = start + self._length(view, at)
                if end > total:
                    break
                found.append(bytes(view[start:end]))
                at = end
        if data is self._buffer:
            del self._buffer[:at]
        elif at < total:
            self._buffer += data[at:] if at else data
        return found

    def _length(self, view: memoryview, at: int) -> int:
        length: int = _LENGTH.unpack_from(view, at)[0]
        if length > self.frame_bytes:
            raise FrameTooLarge(f"frame of {length} bytes, allowed are {self.frame_bytes}")
        if not length:
            raise RemoteProtocolError("frame of 0 bytes")
        return length

    @staticmethod
    def prefixed(frame: bytes) -> bytes:
        """The frame behind its length, ready to be written."""
        return _LENGTH.pack(len(frame)) + frame
