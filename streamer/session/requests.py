"""From the plain values of a frame to the values that the pipeline takes."""

from __future__ import annotations

from typing import Any

from streamer.errors import BadRequest
from streamer.records import Record
from streamer.wire import frames

_FIELDS = ("value", "key", "timestamp_us", "headers", "deliver_at_us")
_NONE = type(None)
_TYPES: tuple[tuple[type, ...], ...] = (
    (bytes,),
    (bytes, _NONE),
    (int, _NONE),
    (dict, _NONE),
    (int, _NONE),
)
#: Columns hold times as 64-bit integers.
_TIME_MAX = 2**63 - 1


def records_of(frame: frames.ProduceRecords) -> list[Record]:
    """The records of a request.

    Raises:
        BadRequest: there are none, or one is not of the form that PROTOCOL.md gives.
    """
    if not frame.records:
        raise BadRequest("a request of no records")
    return [_record(parts, index) for index, parts in enumerate(frame.records)]


def _record(parts: Any, index: int) -> Record:
    if type(parts) is not list or not 1 <= len(parts) <= len(_FIELDS):
        raise BadRequest(f"record {index} is no list of 1 to {len(_FIELDS)} fields")
    for name, part, allowed in zip(_FIELDS, parts, _TYPES, strict=False):
        if type(part) not in allowed or (type(part) is int and not 0 <= part <= _TIME_MAX):
            raise BadRequest(f"record {index}: field {name} is not allowed so")
    if len(parts) > 3 and parts[3] is not None:
        for name, value in parts[3].items():
            if type(name) is not str or type(value) is not bytes:
                raise BadRequest(f"record {index}: headers map text to bytes")
    return Record(*parts)
