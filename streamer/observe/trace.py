"""A trace of one append: what it says of itself, the spans in it, and the `traceparent` that asks
for it (W3C Trace Context).

Values only: what makes traces and keeps them is in `traces`. Times are `trio.current_time()`,
seconds; a trace has the wall clock of its beginning once, so that its spans fit together whatever
is done to the clock meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from streamer.records import Record

__all__ = [
    "MARKS_MAX",
    "SPANS_MAX",
    "TRACEPARENT",
    "Marks",
    "Parent",
    "Span",
    "Trace",
    "marks_of",
    "parse_parent",
]

#: The header of a record, and of HTTP, that carries the trace that it belongs to.
TRACEPARENT = "traceparent"
#: Spans of one trace: eight of a pipeline, two for each attempt of each group.
SPANS_MAX = 64

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 1
#: (index of a record, traceparent) of some records of an append.
Marks = Sequence[Sequence[Any]]
#: More traces of one append are not followed: its records may be of as many callers.
MARKS_MAX = 8
_ONCE = frozenset({"queueing", "service"})


class Parent(NamedTuple):
    """What a `traceparent` says."""

    trace_id: bytes
    span_id: bytes
    sampled: bool


def parse_parent(text: str | bytes) -> Parent | None:
    """The W3C `traceparent` in `text`; None where it is none.

    A version above 00 is read as the specification tells: its first four fields, and whatever
    follows a dash. Version ff and ids of nothing but zeros are none.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("ascii")
        except UnicodeDecodeError:
            return None
    found = _PARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    parent = Parent(
        bytes.fromhex(trace_id), bytes.fromhex(span_id), bool(int(flags, 16) & _SAMPLED)
    )
    return parent if any(parent.trace_id) and any(parent.span_id) else None


def marks_of(records: Iterable[Record], most: int = MARKS_MAX) -> list[tuple[int, str]]:
    """Which of the records carry a sampled traceparent: (index, traceparent), the first of each
    and at most so many."""
    found: list[tuple[int, str]] = []
    seen: set[bytes] = set()
    for index, record in enumerate(records):
        value = record.headers and record.headers.get(TRACEPARENT)
        if not value or value in seen:
            continue
        seen.add(value)
        parent = parse_parent(value)
        if parent is not None and parent.sampled:
            found.append((index, value.decode("ascii")))
            if len(found) == most:
                break
    return found


class Span(NamedTuple):
    """What took from `start` to `end`; at `name`, as tap points are named."""

    name: str
    #: queueing, service, delivery, handling or read.
    kind: str
    start: float
    end: float
    facts: Mapping[str, Any]


class Trace:
    """One append, or the first record of it that belongs to one caller's trace."""

    __slots__ = (
        "_late",
        "began",
        "began_us",
        "dropped",
        "ended",
        "error",
        "index",
        "nbytes",
        "offset",
        "outcome",
        "parent_id",
        "partition",
        "records",
        "seq",
        "session",
        "span_id",
        "spans",
        "stream",
        "trace_id",
        "until",
    )

    def __init__(
        self,
        trace_id: bytes,
        parent_id: bytes | None,
        span_id: bytes,
        *,
        stream: str,
        began: float,
        began_us: int,
        session: str = "",
        index: int = 0,
        records: int = 1,
        nbytes: int = 0,
    ) -> None:
        self.trace_id = trace_id
        #: The caller's span, if it came with one.
        self.parent_id = parent_id
        #: Of the append as a whole.
        self.span_id = span_id
        self.stream = stream
        self.session = session
        #: Which record of the append it follows.
        self.index = index
        self.records = records
        self.nbytes = nbytes
        self.began = began
        self.began_us = began_us
        self.spans: list[Span] = []
        #: Spans above the bound.
        self.dropped = 0
        self.partition: int | None = None
        self.offset: int | None = None
        #: When it was answered; and with what: a level, or an error's code.
        self.ended: float | None = None
        self.outcome = ""
        self.error = ""
        #: Grows with all that is added once it is finished; 0 before.
        self.seq = 0
        #: How long it is watched for.
        self.until = 0.0
        self._late: Callable[[Trace, Span], None] | None = None

    def span(self, name: str, kind: str, start: float, end: float, **facts: Any) -> None:
        """Add what took from `start` to `end`; above the bound it is only counted.

        Of a stage the first of each kind counts: a group that goes on in parts, one a partition,
        passes the same places again.
        """
        if kind in _ONCE and any(each.name == name and each.kind == kind for each in self.spans):
            return
        if len(self.spans) >= SPANS_MAX:
            self.dropped += 1
            return
        span = Span(name, kind, start, end, facts)
        self.spans.append(span)
        if self._late is not None:
            self._late(self, span)

    @property
    def total_s(self) -> float:
        """From taking in to the answer."""
        return 0.0 if self.ended is None else self.ended - self.began

    def doc(self, *, watched: bool = False) -> dict[str, Any]:
        """Plain values; times are seconds since it began."""
        return {
            "seq": self.seq,
            "trace_id": self.trace_id.hex(),
            "span_id": self.span_id.hex(),
            "parent_id": None if self.parent_id is None else self.parent_id.hex(),
            "stream": self.stream,
            "partition": self.partition,
            "offset": self.offset,
            "records": self.records,
            "bytes": self.nbytes,
            "session": self.session,
            "began_us": self.began_us,
            "total_s": self.total_s,
            "outcome": self.outcome,
            "error": self.error,
            "watched": watched,
            "spans_dropped": self.dropped,
            "spans": [
                {
                    "name": span.name,
                    "kind": span.kind,
                    "start_s": span.start - self.began,
                    "end_s": span.end - self.began,
                    "facts": dict(span.facts),
                }
                for span in sorted(self.spans, key=lambda span: (span.start, span.end))
            ],
        }
