"""What is said of records: the verdict of a block that was left, texts and offsets as frames have
them."""

from __future__ import annotations

from streamer.wire.frames import Verb

__all__ = ["bounds_of", "printable", "verdict"]

#: What is told of an exception; the daemon keeps it with the record.
_REASON_CHARS_MAX = 500


def verdict(error: BaseException | None, bounds: list[int]) -> tuple[Verb, list[int], str]:
    """What leaving a block says of what is left in it."""
    if error is None:
        return Verb.ACK, bounds, ""
    if isinstance(error, Exception):
        return Verb.NACK, bounds, printable(f"{type(error).__name__}: {_text(error)}")
    return Verb.RELEASE, bounds, ""


def _text(error: Exception) -> str:
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
