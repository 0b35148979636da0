"""The payload of a batch: columns, one list a field, and the checks on what they hold.

Rules: the same checks run before a payload is made and after one is read, so nothing is written
that a reader would refuse. Types are checked a column at a time, which costs a few nanoseconds a
record. `wire/PROTOCOL.md` specifies the columns.

A payload comes from a stranger, and a byte of CBOR can become 72 bytes of empty map, so what is
decoded is bounded first: a payload of nothing but values by its depth, which leaves room for no
container; others that are large by counting their items.
"""

from __future__ import annotations

from typing import Any

import attrs

from streamer import cbor
from streamer.errors import BadBatch, TooLarge
from streamer.limits import MIB, OFFSET_MAX, BatchLimits

__all__ = ["COLUMNS_MAX", "Columns", "dump", "load"]

#: Items (array entries, keys and values) of a payload with more columns than values: 16 a record
#: of the largest batch; at 72 bytes each under 80 MB.
ITEMS_MAX = 1 << 20
#: Below this a payload's items are not counted: the worst is 72 MB, for a moment.
_COUNT_FROM = 1 * MIB

_NONE = type(None)
_TYPES: tuple[frozenset[type], ...] = (
    frozenset({bytes}),
    frozenset({bytes, _NONE}),
    frozenset({int}),
    frozenset({dict, _NONE}),
    frozenset({int, _NONE}),
    frozenset({list, _NONE}),
)
COLUMNS_MAX = len(_TYPES)
_PRODUCERS = COLUMNS_MAX - 1
_INT64 = 1 << 63
_EPOCH_BELOW = 1 << 32

#: The payload, its columns, and a header map or producer stamp.
_DEPTH_MAX = 3
_ONE_COLUMN = 0x81


@attrs.frozen
class Columns:
    """A decoded payload. Every list is as long as `values`, or None where unused."""

    values: list[bytes]
    keys: list[bytes | None] | None = None
    timestamp_deltas_us: list[int] | None = None
    headers: list[dict[str, bytes] | None] | None = None
    deliver_at_us: list[int | None] | None = None
    #: Per record None or [producer id, epoch, sequence]; only in batches that the daemon grouped.
    producers: list[list[int] | None] | None = None


def dump(columns: list[Any], count: int, grouped: bool, limits: BatchLimits) -> bytes:
    """The payload, not compressed; trailing columns that are None are left out.

    Raises:
        BadBatch: an entry that a reader would refuse; TooLarge: a value, key or header map above
            its limit, or more items than a reader takes.
    """
    while columns[-1] is None:
        columns.pop()
    _check(columns, count, grouped)
    try:
        raw = cbor.dumps(columns)
    except cbor.CBORError as error:
        raise BadBatch(f"records cannot be encoded: {error}") from error
    if len(columns) > 1:
        _check_items(raw)
    if len(raw) > limits.value_bytes or len(columns) > 1:
        _check_sizes(columns, len(raw), limits)
    return raw


def load(raw: bytes, count: int, span_us: int, grouped: bool) -> Columns:
    """The columns of a payload of `count` records whose timestamps are `span_us` apart at most.

    Raises:
        BadBatch: not columns, or not of the right number, length and types; TooLarge: more items
            than a payload may have.
    """
    try:
        if raw[0] == _ONE_COLUMN:
            entries, _ = cbor.array_head(raw, 1)
            if entries != count:
                raise BadBatch(f"column 0 has {entries} entries, the header says {count}")
            columns = cbor.loads(raw, 2)
        else:
            _check_items(raw)
            columns = cbor.loads(raw, _DEPTH_MAX)
    except cbor.CBORError as error:
        raise BadBatch(f"batch payload is no CBOR of ours: {error}") from error
    if not isinstance(columns, list) or not 1 <= len(columns) <= COLUMNS_MAX:
        raise BadBatch("batch payload is no list of columns")
    _check(columns, count, grouped)
    found = Columns(*columns)
    deltas = found.timestamp_deltas_us
    if deltas and not 0 <= min(deltas) <= max(deltas) <= span_us:
        raise BadBatch(f"a timestamp outside of the {span_us} us that the header gives")
    return found


def _check_items(raw: bytes) -> None:
    if len(raw) <= _COUNT_FROM:
        return
    try:
        cbor.check_items(raw, ITEMS_MAX)
    except cbor.TooManyItems as error:
        raise TooLarge(f"batch payload of {error}") from error


def _check(columns: list[Any], count: int, grouped: bool) -> None:
    """Refuse columns that are not of the right length and types."""
    for number, column in enumerate(columns):
        if column is None and number:
            continue
        if not isinstance(column, list) or len(column) != count:
            raise BadBatch(f"column {number} is no list of {count} entries")
        if not _TYPES[number].issuperset(map(type, column)):
            raise BadBatch(f"column {number} has an entry of a type that is not allowed there")
    if len(columns) == 1 and not grouped:
        return
    _check_rest(columns + [None] * (COLUMNS_MAX - len(columns)), grouped)


def _check_rest(columns: list[Any], grouped: bool) -> None:
    *_, headers, deliver_at, producers = columns
    for time in deliver_at or ():
        if time is not None and not -_INT64 <= time < _INT64:
            raise BadBatch("a time to deliver at is not of 64 bits")
    for entry in headers or ():
        for name, value in entry.items() if entry else ():
            if type(name) is not str or type(value) is not bytes:
                raise BadBatch("record headers map text to bytes")
    if (producers is not None) is not grouped:
        raise BadBatch("a batch has producers of its records if its header says so, and only then")
    for stamp in producers or ():
        if stamp is not None and not _is_stamp(stamp):
            raise BadBatch("a producer stamp is an id, an epoch and a sequence")


def _check_sizes(columns: list[Any], raw_bytes: int, limits: BatchLimits) -> None:
    """Refuse a value, key or header map above its limit, looking only where there may be one."""
    values, keys, _, headers, *_ = columns + [None] * (COLUMNS_MAX - len(columns))
    for what, column, allowed in (
        ("value", values, limits.value_bytes),
        ("key", keys, limits.key_bytes),
    ):
        if column is not None and raw_bytes > allowed:
            largest = max(map(len, filter(None, column)), default=0)
            if largest > allowed:
                raise TooLarge(f"{what} of {largest} bytes, allowed are {allowed}")
    if headers is None:
        return
    large = raw_bytes - sum(map(len, values)) > limits.headers_bytes
    for entry in headers:
        if not entry:
            continue
        if len(entry) > limits.headers:
            raise TooLarge(f"{len(entry)} headers, allowed are {limits.headers}")
        if large:
            size = sum(map(len, entry)) + sum(map(len, entry.values()))
            if size > limits.headers_bytes:
                raise TooLarge(f"headers of {size} bytes, allowed are {limits.headers_bytes}")


def _is_stamp(stamp: list[Any]) -> bool:
    if [*map(type, stamp)] != [int, int, int]:
        return False
    producer_id, epoch, sequence = stamp
    return bool(
        0 < producer_id <= OFFSET_MAX and 0 <= epoch < _EPOCH_BELOW and 0 <= sequence <= OFFSET_MAX
    )
