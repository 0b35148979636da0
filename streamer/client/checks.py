"""What may be a record: looked at before it is taken, so that a bad one harms no neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer.client.pending import PLAIN, Extras
from streamer.errors import BadRequest, TooLarge
from streamer.limits import BatchLimits
from streamer.records import Record

__all__ = ["RECORD_BYTES", "measure", "size_of"]

#: What a record takes besides its bytes; as `Record.nbytes` has it.
RECORD_BYTES = 16
_TIME_MAX = 2**63 - 1


def size_of(value: bytes, extras: Extras, limits: BatchLimits) -> int:
    """What a record takes in the buffer, once it is checked.

    Raises:
        BadRequest: it is no record; TooLarge: a part of it is above its limit.
    """
    if type(value) is not bytes:
        raise BadRequest(f"value is {type(value).__name__}, it must be bytes")
    size = len(value)
    if size > limits.value_bytes:
        raise TooLarge(f"value of {size} bytes, allowed are {limits.value_bytes}")
    if extras != PLAIN:
        size += _check_extras(extras, limits)
    return size + RECORD_BYTES


def measure(values: Sequence[Any], limits: BatchLimits) -> tuple[bool, int, set[bytes | None]]:
    """Whether they are plain values, what they take in the buffer, and their keys.

    Raises:
        BadRequest: they are no batch; TooLarge: more than a batch holds.
    """
    count = len(values)
    if not count:
        raise BadRequest("a batch of no records")
    if count > limits.records:
        raise TooLarge(f"batch of {count} records, allowed are {limits.records}")
    kinds = set(map(type, values))
    if kinds == {bytes}:
        longest = max(map(len, values))
        if longest > limits.value_bytes:
            raise TooLarge(f"value of {longest} bytes, allowed are {limits.value_bytes}")
        return True, sum(map(len, values)) + count * RECORD_BYTES, {None}
    if kinds != {Record}:
        names = sorted(kind.__name__ for kind in kinds)
        raise BadRequest(f"a batch of {', '.join(names)}, it must be all bytes or all Record")
    size = 0
    for record in values:
        extras = record.key, record.timestamp_us, record.headers, None
        size += size_of(record.value, extras, limits)
        due = record.deliver_at_us
        if due is not None and not (type(due) is int and 0 <= due <= _TIME_MAX):
            raise BadRequest(f"deliver_at_us is {due!r}, it must be a whole number from 0")
    return False, size, {record.key for record in values}


def _check_extras(extras: Extras, limits: BatchLimits) -> int:
    """Check key, timestamp and headers of a record; their size."""
    key, timestamp_us, headers, _ = extras
    size = 0
    if key is not None:
        if type(key) is not bytes:
            raise BadRequest(f"key is {type(key).__name__}, it must be bytes")
        size = len(key)
        if size > limits.key_bytes:
            raise TooLarge(f"key of {size} bytes, allowed are {limits.key_bytes}")
    if timestamp_us is not None and not (
        type(timestamp_us) is int and 0 <= timestamp_us <= _TIME_MAX
    ):
        raise BadRequest(f"timestamp_us is {timestamp_us!r}, it must be a whole number from 0")
    if headers:
        if len(headers) > limits.headers:
            raise TooLarge(f"{len(headers)} headers, allowed are {limits.headers}")
        total = 0
        for name, text in headers.items():
            if type(name) is not str or type(text) is not bytes:
                raise BadRequest("headers map text to bytes")
            try:
                total += len(name.encode()) + len(text)
            except UnicodeEncodeError as error:
                raise BadRequest(f"header name {name!r} is no text: {error.reason}") from None
        if total > limits.headers_bytes:
            raise TooLarge(f"headers of {total} bytes, allowed are {limits.headers_bytes}")
        size += total
    return size
