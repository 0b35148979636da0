"""The frames of the protocol, and their one encoding: a CBOR array that begins with the type.

Rules: a frame is an immutable value; its fields are in the order of the array; `FIELDS` says what
each field may be, and is the only check on shape. What a field means is in `PROTOCOL.md`.

A megabyte of empty maps decodes to 72 MB of objects, so a frame's kind and length are looked at
before it is decoded: only the kinds that carry records may be long, and of those only the kinds
whose bulk is one byte string are decoded without counting their items first.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, NoReturn

import attrs

from streamer import cbor
from streamer.errors import FrameTooLarge, LocalProtocolError, RemoteProtocolError
from streamer.limits import CBOR_DEPTH_MAX, KIB
from streamer.wire.shapes import (
    ACKS,
    ANY,
    BOOL,
    BYTES,
    FAILURES,
    INT,
    LIMITS,
    MAP,
    MAYBE_INT,
    PARENTS,
    RANGES,
    RECORDS,
    RECORDS_MAX,
    RESULTS,
    SETTLES,
    STR,
    U32,
    VERSIONS,
    Kind,
    are_few,
)

PROTOCOL_VERSION = 1

#: Frames that carry no records say little; 64 KiB of anything decode to less than 5 MB.
SMALL_FRAME_BYTES = 64 * KIB
#: Items (array entries, map keys and values) of a frame above that: at 72 bytes each, under 10 MB.
FRAME_ITEMS_MAX = 128 * KIB


class Start(enum.IntEnum):
    """Where a subscription or fetch begins; offset and time take a value."""

    OFFSET = 0
    TIME = 1
    EARLIEST = 2
    LATEST = 3


class Verb(enum.IntEnum):
    """What a settle item says of the records of a lease."""

    ACK = 0
    NACK = 1
    TERM = 2
    RELEASE = 3
    EXTEND = 4


class Frame:
    """Base of all frames; `TYPE` is the number on the wire."""

    __slots__ = ()
    TYPE: ClassVar[int]
    FIELDS: ClassVar[tuple[Kind, ...]]


@attrs.frozen
class Hello(Frame):
    TYPE = 1
    FIELDS = (VERSIONS, STR, MAP)
    versions: list[int]
    name: str
    options: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Welcome(Frame):
    TYPE = 2
    FIELDS = (INT, STR, LIMITS, INT)
    version: int
    name: str
    limits: dict[str, int]
    credit: int


@attrs.frozen
class Produce(Frame):
    """A batch that the producer encoded: atomic, forwarded untouched."""

    TYPE = 3
    FIELDS = (INT, STR, MAYBE_INT, MAYBE_INT, INT, BYTES)
    request: int
    stream: str
    partition: int | None
    expected: int | None
    lane: int
    batch: bytes


@attrs.frozen
class ProduceRecords(Frame):
    """Records that the daemon is to batch, each with a result of its own."""

    TYPE = 4
    FIELDS = (INT, STR, MAYBE_INT, MAYBE_INT, INT, INT, U32, INT, RECORDS)
    request: int
    stream: str
    partition: int | None
    expected: int | None
    lane: int
    producer_id: int
    epoch: int
    sequence: int
    #: Each [value, key?, timestamp_us?, headers?, deliver_at_us?], trailing nulls left out. Not
    #: looked at here: a record that is wrong fails its request, not the session.
    records: list[list[Any]]


@attrs.frozen
class Acks(Frame):
    TYPE = 5
    FIELDS = (INT, ACKS)
    credit: int
    #: Each [request, partition, offset, count, level, duplicate]; `duplicate` is 0 or 1, and -1 the
    #: offset of a duplicate whose own is no longer known.
    acks: list[list[int]]


@attrs.frozen
class Failed(Frame):
    """A request failed (or, with `request` null, the session did)."""

    TYPE = 6
    FIELDS = (MAYBE_INT, STR, STR, BOOL, BOOL, MAP)
    request: int | None
    code: str
    message: str
    retryable: bool
    fatal: bool
    detail: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Credit(Frame):
    """The client may now have produced this many bytes since the session began."""

    TYPE = 7
    FIELDS = (INT,)
    limit: int


@attrs.frozen
class Results(Frame):
    """The records of one request fared differently."""

    TYPE = 8
    FIELDS = (INT, INT, RESULTS)
    credit: int
    request: int
    #: Each [partition, offset, level, duplicate] or [code, message, retryable, detail].
    results: list[list[Any]]


@attrs.frozen
class Subscribe(Frame):
    TYPE = 9
    FIELDS = (INT, INT, STR, INT, INT, INT, INT)
    request: int
    subscription: int
    stream: str
    partition: int
    start: int
    value: int
    #: Bytes of batches that the daemon may deliver before it is granted more.
    credit: int


@attrs.frozen
class Deliver(Frame):
    TYPE = 10
    FIELDS = (INT, INT, BYTES)
    subscription: int
    high_water: int
    #: Whole batches, one behind the other.
    batches: bytes


@attrs.frozen
class Ended(Frame):
    """The daemon ended a subscription; the session goes on."""

    TYPE = 11
    FIELDS = (INT, STR, STR, MAP)
    subscription: int
    code: str
    message: str
    detail: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Grant(Frame):
    """The daemon may now have delivered this many bytes since the subscription began."""

    TYPE = 12
    FIELDS = (INT, INT)
    subscription: int
    limit: int


@attrs.frozen
class Unsubscribe(Frame):
    TYPE = 13
    FIELDS = (INT,)
    subscription: int


@attrs.frozen
class Fetch(Frame):
    TYPE = 14
    FIELDS = (INT, STR, INT, INT, INT, INT)
    request: int
    stream: str
    partition: int
    start: int
    value: int
    bytes_max: int


@attrs.frozen
class Fetched(Frame):
    TYPE = 15
    FIELDS = (INT, INT, INT, BYTES)
    request: int
    next_offset: int
    high_water: int
    batches: bytes


@attrs.frozen
class Admin(Frame):
    TYPE = 16
    FIELDS = (INT, STR, MAP)
    request: int
    verb: str
    args: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Reply(Frame):
    TYPE = 17
    FIELDS = (INT, ANY)
    request: int
    result: Any


@attrs.frozen
class Ping(Frame):
    TYPE = 18
    FIELDS = (INT,)
    token: int


@attrs.frozen
class Pong(Frame):
    TYPE = 19
    FIELDS = (INT,)
    token: int


@attrs.frozen
class Goodbye(Frame):
    """No new requests from here on; those under way are still answered."""

    TYPE = 20
    FIELDS = (STR, STR)
    code: str
    message: str


@attrs.frozen
class Join(Frame):
    """Become a member of a consumer group, which is made if it is not there."""

    TYPE = 21
    FIELDS = (INT, INT, STR, STR, MAP)
    request: int
    subscription: int
    stream: str
    group: str
    options: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Lease(Frame):
    """Records of one batch, held by the member until it settles them or its time runs out."""

    TYPE = 22
    FIELDS = (INT, INT, INT, INT, RANGES, BOOL, BYTES)
    subscription: int
    token: int
    partition: int
    attempt: int
    #: first, end, first, end, ...: half-open ranges of offsets, ascending.
    ranges: list[int]
    #: The batch is the log's, of which only the ranges are meant; else it holds just their records.
    whole: bool
    batch: bytes


@attrs.frozen
class Settle(Frame):
    """What became of leases, and which are to last longer."""

    TYPE = 23
    FIELDS = (INT, INT, INT, SETTLES)
    request: int
    subscription: int
    level: int
    #: Each [verb, token, ranges, delay_us or null, reason]; no ranges: all that is left of it.
    items: list[list[Any]]


@attrs.frozen
class Settled(Frame):
    """The answer to `Settle`: the items that did not count."""

    TYPE = 24
    FIELDS = (INT, FAILURES)
    request: int
    #: Each [index, code, message].
    failures: list[list[Any]]


@attrs.frozen
class Revoke(Frame):
    """Leases of a partition with smaller tokens are asked back; or, `lost`, those with this token
    or a larger one are gone already."""

    TYPE = 25
    FIELDS = (INT, INT, INT, BOOL)
    subscription: int
    partition: int
    token: int
    lost: bool


@attrs.frozen
class Trace(Frame):
    """Records of the batch in the next frame belong to traces that somebody follows."""

    TYPE = 26
    FIELDS = (INT, PARENTS)
    request: int
    #: Each [index, traceparent]: which record of the batch, from 0, and the header that it has.
    parents: list[list[Any]]


FRAMES: tuple[type[Frame], ...] = (
    Hello, Welcome, Produce, ProduceRecords, Acks, Failed, Credit, Results, Subscribe,
    Deliver, Ended, Grant, Unsubscribe, Fetch, Fetched, Admin, Reply, Ping, Pong, Goodbye,
    Join, Lease, Settle, Settled, Revoke, Trace,
)  # fmt: skip
#: The kinds that may be longer than `SMALL_FRAME_BYTES`.
BULK: frozenset[type[Frame]] = frozenset(
    {
        Produce, ProduceRecords, Acks, Results, Deliver, Fetched, Admin, Reply, Lease, Settle,
        Settled,
    }
)  # fmt: skip
#: What a client sends: its fields come from a program, and one that is wrong ends the session.
_OF_CLIENTS: frozenset[type[Frame]] = frozenset(
    {
        Hello, Produce, ProduceRecords, Subscribe, Grant, Unsubscribe, Fetch, Admin, Ping, Pong,
        Goodbye, Join, Settle, Trace,
    }
)  # fmt: skip
#: Kinds in which somebody's own maps and values travel: what we would refuse is not sent.
_CHECKED_OUT: frozenset[type[Frame]] = frozenset(
    {Hello, Welcome, Failed, Ended, Admin, Reply, Join}
)

_ARRAY = 0x80
#: The byte before a type that has one of its own, as CBOR has it from 24 on.
_LONG = 24
_NAMES: dict[type[Frame], tuple[str, ...]] = {
    cls: tuple(field.name for field in attrs.fields(cls))  # type: ignore[arg-type]
    for cls in FRAMES
}
#: How each kind begins: the array's head and the type, two bytes, or three from type 24 on.
_HEADS: dict[bytes, type[Frame]] = {
    bytes([_ARRAY + 1 + len(cls.FIELDS)]) + cbor.dumps(cls.TYPE): cls for cls in FRAMES
}
#: Nothing but numbers and strings inside: the array itself is the only container.
_FLAT: frozenset[type[Frame]] = frozenset(
    cls for cls in FRAMES if not any({list, dict} & kind.types for kind in cls.FIELDS)
)


class _Shape(NamedTuple):
    """What is left to check once the types of all fields are known to be allowed together."""

    ints: tuple[tuple[int, int], ...]
    checks: tuple[tuple[int, Callable[[Any], bool]], ...]

    def holds(self, parts: list[Any]) -> bool:
        for index, below in self.ints:
            if not 0 <= parts[index] < below:
                return False
        # A loop, since a generator costs as much as what most checks do.
        for index, check in self.checks:  # noqa: SIM110
            if not check(parts[index]):
                return False
        return True


def _shapes(cls: type[Frame]) -> dict[tuple[type, ...], _Shape]:
    """The shapes of a kind by the types of its fields: one look-up instead of one a field."""
    return {
        types: _Shape(
            tuple((index, cls.FIELDS[index].below) for index, of in enumerate(types) if of is int),
            tuple(
                (index, kind.check)
                for index, kind in enumerate(cls.FIELDS)
                if kind.check is not None
            ),
        )
        for types in itertools.product(*[kind.types for kind in cls.FIELDS])
    }


_SHAPES = {cls: _shapes(cls) for cls in FRAMES}


def bytes_max(cls: type[Frame], frame_bytes: int) -> int:
    """The longest that a frame of this kind may be where the session allows `frame_bytes`."""
    return frame_bytes if cls in BULK else min(frame_bytes, SMALL_FRAME_BYTES)


def encode(frame: Frame) -> bytes:
    """The frame's bytes, without the length prefix that the raw transport adds.

    Raises:
        LocalProtocolError: a value in it that frames do not carry.
    """
    cls = type(frame)
    try:
        parts = [getattr(frame, name) for name in _NAMES[cls]]
        if isinstance(frame, ProduceRecords) and not are_few(frame.records):
            count = len(frame.records)
            raise LocalProtocolError(f"{count} records, allowed are 1 to {RECORDS_MAX}")
        if cls in _OF_CLIENTS:
            _check_fields(cls, parts)
        data = cbor.dumps([cls.TYPE, *parts])
        if cls in _CHECKED_OUT:
            decode(data)
    except (cbor.CBORError, RemoteProtocolError, FrameTooLarge) as error:
        raise LocalProtocolError(f"{cls.__name__} frame cannot be sent: {error}") from error
    return data


def _check_fields(cls: type[Frame], parts: list[Any]) -> None:
    shape = _SHAPES[cls].get(tuple(map(type, parts)))
    if shape is None:
        # An enumeration's member travels as the number that it is.
        parts = [int(part) if isinstance(part, enum.IntEnum) else part for part in parts]
        shape = _SHAPES[cls].get(tuple(map(type, parts)))
    if shape is None or not shape.holds(parts):
        _refuse(cls, parts)


def decode(data: bytes) -> Frame:
    """The frame that fills `data` whole, its shape checked.

    Raises:
        RemoteProtocolError: not CBOR, not an array that begins with a known type, or fields of
            the wrong number, type or range.
        FrameTooLarge: longer, or of more items, than a frame of its kind may be.
    """
    cls = _HEADS.get(bytes(data[:2])) or _HEADS.get(bytes(data[:3]))
    if cls is None:
        raise RemoteProtocolError(_unknown(data))
    flat = cls in _FLAT
    if len(data) > SMALL_FRAME_BYTES:
        _check_long(cls, data, flat)
    try:
        parts = cbor.loads(data, 1 if flat else CBOR_DEPTH_MAX)
    except cbor.CBORError as error:
        raise RemoteProtocolError(f"frame is no CBOR of ours: {error}") from error
    del parts[0]
    shape = _SHAPES[cls].get(tuple(map(type, parts)))
    if shape is None or not shape.holds(parts):
        _refuse(cls, parts)
    return cls(*parts)


def _refuse(cls: type[Frame], parts: list[Any]) -> NoReturn:
    """Say which field is not as it must be."""
    for value, kind, field in zip(parts, cls.FIELDS, _NAMES[cls], strict=True):
        name, types, below, check = kind
        of = type(value)
        if (
            of not in types
            or (of is int and not 0 <= value < below)
            or (check is not None and not check(value))
        ):
            raise RemoteProtocolError(f"{cls.__name__} frame: field {field} is not {name}")
    raise AssertionError("a shape refused what no field does")


def _check_long(cls: type[Frame], data: bytes, flat: bool) -> None:
    """Refuse a frame that may not be long, or that holds more than it may."""
    if cls not in BULK:
        raise FrameTooLarge(
            f"{cls.__name__} frame of {len(data)} bytes, allowed are {SMALL_FRAME_BYTES}"
        )
    if flat:
        return
    try:
        cbor.check_items(data, FRAME_ITEMS_MAX)
    except cbor.TooManyItems as error:
        raise FrameTooLarge(f"{cls.__name__} frame: {error}") from error
    except cbor.CBORError as error:
        raise RemoteProtocolError(f"frame is no CBOR of ours: {error}") from error


def _unknown(data: bytes) -> str:
    """Why `data` does not begin as a frame does."""
    number = data[1] if len(data) > 1 else _LONG
    long = number == _LONG and len(data) > 2 and data[2] >= _LONG
    if long:
        number = data[2]
    if not (long or number < _LONG) or not _ARRAY < data[0] < _ARRAY + 24:
        return "frame is no array that begins with its type"
    for cls in FRAMES:
        if number == cls.TYPE:
            fields = data[0] - _ARRAY - 1
            return f"{cls.__name__} frame has {fields} fields, it takes {len(cls.FIELDS)}"
    return f"unknown frame type {number}"
