r"""Lines of a file to records and back, without changing a byte.

Rules: only `\n` ends a line, so `\r`, form feeds and bytes that are no UTF-8 are part of a value,
and an empty line is an empty value. The newline itself is not stored. A last line without one is
marked by the header `streamer-no-newline` on its record; writing lines out again, the mark takes
effect only where nothing follows: between two records there is always a newline, so a stream that
several files went into is still one value a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from streamer.errors import TooLarge

#: The header (with an empty value) of a record that was the last line of a file without newline.
NO_NEWLINE = "streamer-no-newline"

#: What CBOR puts before a value of up to 4 GiB.
_HEAD_BYTES = 5


class LineSplitter:
    """Splits chunks of a file into lines; what is kept between chunks is below one line's limit.

    `number` counts the lines given out so far.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self.number = 0
        self._line_bytes_max = line_bytes_max
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their newlines.

        Raises:
            TooLarge: a line is above the limit; its number is in the text.
        """
        head, *others = chunk.split(b"\n")
        self._rest.append(head)
        self._rest_bytes += len(head)
        lines = []
        if others:
            lines = [b"".join(self._rest), *others[:-1]]
            self._rest, self._rest_bytes = [others[-1]], len(others[-1])
        self._check(lines)
        self.number += len(lines)
        return lines

    def end(self) -> bytes | None:
        """The last line, if it had no newline; None where the file ended with one or was empty."""
        rest, self._rest, self._rest_bytes = b"".join(self._rest), [], 0
        if not rest:
            return None
        self.number += 1
        return rest

    def _check(self, lines: list[bytes]) -> None:
        limit = self._line_bytes_max
        longest = max(map(len, lines), default=0)
        if longest <= limit and self._rest_bytes <= limit:
            return
        for number, line in enumerate(lines, self.number + 1):
            if len(line) > limit:
                raise TooLarge(f"line {number} has {len(line)} bytes, allowed are {limit}")
        number = self.number + len(lines) + 1
        raise TooLarge(f"line {number} has more than {limit} bytes, which are allowed")


def batched(values: Sequence[bytes], records_max: int, bytes_max: int) -> Iterator[list[bytes]]:
    """Cut `values` into lists of bounded count and bytes; a longer value is alone in its list.

    Each value counts as its bytes and the most that a batch adds to them.
    """
    part: list[bytes] = []
    nbytes = 0
    for value in values:
        size = len(value) + _HEAD_BYTES
        if part and (len(part) >= records_max or nbytes + size > bytes_max):
            yield part
            part, nbytes = [], 0
        part.append(value)
        nbytes += size
    if part:
        yield part


class LineJoiner:
    """Puts records back into lines: the inverse of `LineSplitter`.

    The newline of a marked record is held back until another record follows.
    """

    def __init__(self) -> None:
        self._owed = False

    def join(
        self, values: Sequence[bytes], headers: Sequence[Mapping[str, bytes] | None] | None = None
    ) -> bytes:
        """The bytes to write for these records, which follow those of the calls before."""
        if not values:
            return b""
        last = headers[-1] if headers else None
        before = b"\n" if self._owed else b""
        self._owed = last is not None and NO_NEWLINE in last
        return before + b"\n".join(values) + (b"" if self._owed else b"\n")
