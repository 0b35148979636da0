"""What is said of records: the verdict of a block that was left, texts and offsets as frames have
them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from streamer.wire.frames import Verb

__all__ = ["bounds_of", "printable", "reason_of", "verdict"]

#: What is told of an exception; the daemon keeps it with the record.
_REASON_CHARS_MAX = 500
#: Of a group of exceptions; there is no room for more.
_LEAVES_MAX = 20


def verdict(error: BaseException | None, bounds: list[int]) -> tuple[Verb, list[int], str]:
    """What leaving a block says of what is left in it."""
    if error is None:
        return Verb.ACK, bounds, ""
    if isinstance(error, Exception):
        return Verb.NACK, bounds, reason_of(error)
    return Verb.RELEASE, bounds, ""


def reason_of(error: Exception) -> str:
    """What is told of an exception; of a group, what is told of those in it."""
    leaves = islice(_leaves(error), _LEAVES_MAX)
    texts = [f"{type(each).__name__}: {_text(each)}" for each in leaves]
    return printable("; ".join(texts))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as also:
        # A program's own exception, whose text is no reason to lose the verdict.
        return f"(its text raises {type(also).__name__})"


def printable(reason: str) -> str:
    """What a frame can carry of a reason: one that cannot be encoded spoils it for others."""
    return reason[:_REASON_CHARS_MAX].encode("utf-8", "replace").decode()


def bounds_of(offsets: list[int]) -> list[int]:
    """The ranges that some offsets make."""
    ordered = sorted(set(offsets))
    bounds: list[int] = []
    for offset in ordered:
        if bounds and bounds[-1] == offset:
            bounds[-1] = offset + 1
        else:
            bounds += (offset, offset + 1)
    return bounds
