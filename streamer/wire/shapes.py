"""What each field of a frame may be, and what may stand inside its lists and maps.

Rules: all is checked on plain decoded values, and whoever takes a frame from `frames.decode` may
index and unpack its rows without another look at their types. The one exception are the records
of a request: what is wrong with one of those fails its request and not the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

#: Integers on the wire fit in every language's signed 64 bits.
INT_BELOW = 1 << 63
#: Records of one request: their results, each with a sentence, must fit into one frame.
RECORDS_MAX = 4096

_NONE = type(None)
_SCALARS = frozenset({str, bytes, bool, float, _NONE})
_ACK = [int] * 6
_RESULT = [int] * 4
_REFUSAL = [str, str, bool, dict]
_FAILURE = [int, str, str]
_LEVELS = 3
_PARENT = [int, str]
#: Traces of one batch: more are not followed, and a frame of them stays small.
PARENTS_MAX = 8
#: A traceparent of version 00 has 55; later ones may have more behind those.
_TRACEPARENT_CHARS_MAX = 512


def is_plain(value: Any) -> bool:
    """Text-keyed maps, arrays, 64-bit integers, floats, strings, booleans and null, and no more.

    The decoder bounds depth, so recursion does too.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is int:
        return bool(-INT_BELOW <= value < INT_BELOW)
    if kind is list:
        return all(map(is_plain, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    return False


def are_versions(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def are_limits(values: dict[Any, Any]) -> bool:
    """Text to a number that is at least 0."""
    return all(
        type(key) is str and type(value) is int and 0 <= value < INT_BELOW
        for key, value in values.items()
    )


def are_acks(rows: list[Any]) -> bool:
    """Each [request, partition, offset, count, level, duplicate]."""
    for row in rows:
        if type(row) is not list or [*map(type, row)] != _ACK:
            return False
        request, partition, offset, count, level, duplicate = row
        if not (0 <= request < INT_BELOW and 0 < count < INT_BELOW):
            return False
        if not _is_place(partition, offset, level, duplicate):
            return False
    return True


def _is_place(partition: int, offset: int, level: int, duplicate: int) -> bool:
    # -1 is the offset of a duplicate whose own is no longer known.
    return (
        0 <= partition < INT_BELOW
        and -1 <= offset < INT_BELOW
        and 0 <= level < _LEVELS
        and 0 <= duplicate <= 1
    )


def are_results(rows: list[Any]) -> bool:
    """Each [partition, offset, level, duplicate] or [code, message, retryable, detail]."""
    for row in rows:
        kinds = [*map(type, row)] if type(row) is list else None
        if kinds == _RESULT:
            partition, offset, level, duplicate = row
            if not _is_place(partition, offset, level, duplicate):
                return False
        elif kinds != _REFUSAL or not is_plain(row[3]):
            return False
    return True


def are_few(records: list[Any]) -> bool:
    return 1 <= len(records) <= RECORDS_MAX


def are_ranges(values: list[Any]) -> bool:
    """first, end, first, end, ...: half-open, not empty, ascending, apart from each other."""
    if len(values) == 2:
        # Nearly every lease and settle has one range.
        first, end = values
        return type(first) is int and type(end) is int and 0 <= first < end < INT_BELOW
    if len(values) & 1 or any(type(value) is not int for value in values):
        return False
    if not values:
        return True
    if values[0] < 0 or values[-1] >= INT_BELOW:
        return False
    return all(map(int.__lt__, values, values[1:]))


def are_settles(rows: list[Any]) -> bool:
    """1 to 4096 of [verb, token, ranges, delay_us or null, reason]."""
    if not are_few(rows):
        return False
    for row in rows:
        if type(row) is not list or len(row) != 5:
            return False
        verb, token, ranges, delay_us, reason = row
        if type(verb) is not int or type(token) is not int or type(reason) is not str:
            return False
        if not (0 <= verb < INT_BELOW and 0 <= token < INT_BELOW):
            return False
        if delay_us is not None and not (type(delay_us) is int and 0 <= delay_us < INT_BELOW):
            return False
        if type(ranges) is not list or not are_ranges(ranges):
            return False
    return True


def are_failures(rows: list[Any]) -> bool:
    """Each [index, code, message]."""
    return all(
        type(row) is list and [*map(type, row)] == _FAILURE and 0 <= row[0] < INT_BELOW
        for row in rows
    )


def are_parents(rows: list[Any]) -> bool:
    """1 to 8 of [index, traceparent]; what the text says is not looked at here."""
    return 1 <= len(rows) <= PARENTS_MAX and all(
        type(row) is list
        and [*map(type, row)] == _PARENT
        and 0 <= row[0] < INT_BELOW
        and len(row[1]) <= _TRACEPARENT_CHARS_MAX
        for row in rows
    )


class Kind(NamedTuple):
    """What a field may be: types, for integers a bound (from 0), for lists and maps a check."""

    name: str
    types: frozenset[type]
    below: int = INT_BELOW
    check: Callable[[Any], bool] | None = None


def _kind(name: str, *types: type, **more: Any) -> Kind:
    return Kind(name, frozenset(types), **more)


INT = _kind("int", int)
MAYBE_INT = _kind("int or null", int, _NONE)
U32 = _kind("int below 2^32", int, below=1 << 32)
STR = _kind("text", str)
BOOL = _kind("boolean", bool)
BYTES = _kind("bytes", bytes)
MAP = _kind("map", dict, check=is_plain)
ANY = _kind("plain", str, bool, bytes, list, dict, float, _NONE, int, check=is_plain)
VERSIONS = _kind("array of int", list, check=are_versions)
LIMITS = _kind("map to int", dict, check=are_limits)
RECORDS = _kind(f"array of 1 to {RECORDS_MAX} records", list, check=are_few)
ACKS = _kind("array of acks", list, check=are_acks)
RESULTS = _kind("array of results", list, check=are_results)
RANGES = _kind("array of ranges", list, check=are_ranges)
SETTLES = _kind(f"array of 1 to {RECORDS_MAX} settles", list, check=are_settles)
FAILURES = _kind("array of failures", list, check=are_failures)
PARENTS = _kind(f"array of 1 to {PARENTS_MAX} parents", list, check=are_parents)
