"""The one place that decodes CBOR: bounded, without tags, and nothing may follow.

cbor2's defaults accept cycles, regular expressions, colliding keys and trailing bytes; each of
those has been measured to hurt (a 388-byte message with 2^40 leaves, 258 kB that take seconds).
Everything that we send is arrays, text-keyed maps, integers, floats, byte and text strings,
booleans and null. Tags and keys of other types are refused here; what else CBOR has (simple
values, keys of bytes) is harmless and left to whoever checks the shape of a value.

What remains is that a byte of CBOR can become 72 bytes of empty map. Callers bound it: by a small
input, by a depth that leaves no room for containers, or by `check_items`.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import cbor2

from streamer.limits import CBOR_DEPTH_MAX

__all__ = ["CBORError", "TooManyItems", "array_head", "check_items", "dumps", "loads"]

#: Tags that cbor2 decodes by itself; `tag_hook` is not called for them, so each needs refusing.
_BUILT_IN_TAGS = (
    *range(6), 25, *range(28, 31), *range(35, 38), 52, 54, 100,
    256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip

_STRINGS = (2, 3)
_ARRAY, _MAP, _TAG = 4, 5, 6


class CBORError(ValueError):
    """Bytes that are not the CBOR we speak, or a value that it does not carry."""


class TooManyItems(CBORError):
    """More array entries, keys and values than were allowed."""


def _refuse(*_: object) -> Any:
    # cbor2 passes different arguments to hooks of different kinds, and wraps what they raise.
    raise CBORError("tags are not allowed")


_SEMANTIC: dict[int, Callable[..., Any]] = dict.fromkeys(_BUILT_IN_TAGS, _refuse)


def dumps(value: Any) -> bytes:
    """Encode one value.

    Raises:
        CBORError: something in it has no encoding: an object of ours, half a surrogate pair.
    """
    try:
        return cbor2.dumps(value)
    except (cbor2.CBOREncodeError, UnicodeError, RecursionError, OverflowError) as error:
        raise CBORError(str(error) or type(error).__name__) from error


def loads(data: bytes, depth_max: int = CBOR_DEPTH_MAX) -> Any:
    """Decode one value that fills `data` whole and nests at most `depth_max` containers.

    Empty containers do not count, so `[[], {}]` is one deep.

    Raises:
        CBORError: malformed, truncated, too deep, tagged, or followed by more bytes.
    """
    source = BytesIO(data)
    decoder = cbor2.CBORDecoder(
        source,
        tag_hook=_refuse,
        semantic_decoders=_SEMANTIC,
        max_depth=depth_max,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value = decoder.decode()
    except (cbor2.CBORDecodeError, MemoryError, RecursionError, OverflowError) as error:
        raise CBORError(str(error) or type(error).__name__) from error
    if source.tell() != len(data):
        raise CBORError(f"{len(data) - source.tell()} bytes follow the value")
    return value


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """The item's head at `at`: its major type, its number, and where what follows begins."""
    if at >= len(data):
        raise CBORError("the value is cut off")
    first = data[at]
    number = first & 31
    at += 1
    if number >= 24:
        if number > 27:
            raise CBORError(f"head {first:#04x} is not allowed")
        end = at + (1 << (number - 24))
        number = int.from_bytes(data[at:end], "big")
        at = end
    return first >> 5, number, at


def array_head(data: bytes, at: int = 0) -> tuple[int, int]:
    """The number of entries of the array whose head is at `at`, and where its entries begin.

    Raises:
        CBORError: no array begins there.
    """
    major, number, at = _head(data, at)
    if major != _ARRAY:
        raise CBORError("no array where one must be")
    return number, at


def check_items(data: bytes, items_max: int) -> None:
    """Refuse a value of more than `items_max` array entries, keys and values, unseen.

    About 0.1 us an item: for inputs that are large and rare. Nothing is built, and a forged
    count is refused at its head.

    Raises:
        TooManyItems: there are more; CBORError: cut off or malformed.
    """
    at, end, to_come, allowed = 0, len(data), 1, items_max + 1
    while to_come:
        if at >= end:
            raise CBORError("the value is cut off")
        first = data[at]
        number = first & 31
        if number < 24:
            at += 1
        elif number == 24 and at + 1 < end:
            number = data[at + 1]
            at += 2
        else:
            _, number, at = _head(data, at)
        to_come -= 1
        allowed -= 1
        major = first >> 5
        if major in _STRINGS:
            at += number
            continue
        if major == _ARRAY:
            to_come += number
        elif major == _MAP:
            to_come += 2 * number
        elif major == _TAG:
            raise CBORError("tags are not allowed")
        if to_come > allowed:
            raise TooManyItems(f"more than {items_max} items")
    if at > end:
        raise CBORError("the value is cut off")
