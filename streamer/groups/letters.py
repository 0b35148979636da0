"""Dead letters: a record with the account of its end in a header, and the way back.

Rules:
- Value, key, timestamp and headers stay as they were. `streamer-dead` is added, a JSON object of
  less than DEAD_BYTES_MAX: the error's text is cut so that it fits.
- A letter can always be appended: where the record's own headers leave no room for one more, its
  last ones are left out and counted in `headers_cut`; the record itself has them still.
- `streamer-redriven`, how often a record has been given another chance, stays for ever.
- Headers are a stranger's: what is read from them may be anything, and is nothing then.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import attrs

from streamer.limits import KIB, OFFSET_MAX, BatchLimits
from streamer.records import Record

DEAD_HEADER = "streamer-dead"
REDRIVEN_HEADER = "streamer-redriven"
#: Of a record that stands for one that cannot be read any more: where that was, or why.
GONE_HEADER = "streamer-gone"
DEAD_BYTES_MAX = 2 * KIB
#: Reasons.
MAX_DELIVERIES = "max_deliveries"
TERM = "term"

_LIMITS = BatchLimits()
_CUT = "…"
_COUNT_DIGITS_MAX = len(str(OFFSET_MAX))


@attrs.frozen
class DeadFacts:
    """Why and where a record died.

    `partition` and `offset` are those in `stream`, where it lived; `first_us` is when it was
    first handed out, `last_us` when its last attempt failed, in microseconds since 1970 UTC.
    `headers_cut` counts headers that there was no room for.
    """

    reason: str
    group: str
    stream: str
    partition: int
    offset: int
    attempts: int
    error: str
    first_us: int
    last_us: int
    headers_cut: int = 0


_TEXTS = ("reason", "group", "stream", "error")
_NUMBERS = ("partition", "offset", "attempts", "first_us", "last_us")


def dead_letter(record: Record, facts: DeadFacts) -> Record:
    """The record as it goes to the dead letters.

    The names in `facts` are of 200 characters at most, as all names of groups and streams are.
    """
    facts, headers = attrs.evolve(facts, headers_cut=0), _without_dead(record)
    while not _fits(headers, DEAD_HEADER, dead := _dump(facts)):
        _leave_one_out(headers)
        facts = attrs.evolve(facts, headers_cut=facts.headers_cut + 1)
    return attrs.evolve(record, headers={**headers, DEAD_HEADER: dead}, deliver_at_us=None)


def facts_of(record: Record) -> DeadFacts | None:
    """What the record's header says of its end; None: it has none, or not one of ours."""
    data = (record.headers or {}).get(DEAD_HEADER)
    if data is None or len(data) >= DEAD_BYTES_MAX:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    found.setdefault("headers_cut", 0)
    texts: dict[str, Any] = {name: found.get(name) for name in _TEXTS}
    numbers: dict[str, Any] = {name: found.get(name) for name in (*_NUMBERS, "headers_cut")}
    if not all(map(_is_text, texts.values())) or not all(map(_is_number, numbers.values())):
        return None
    return DeadFacts(**texts, **numbers)


def redriven_of(record: Record) -> int:
    """How often the record was redriven; 0 where its header says nothing of the kind."""
    count = (record.headers or {}).get(REDRIVEN_HEADER, b"")
    if not count.isdigit() or len(count) > _COUNT_DIGITS_MAX:
        return 0
    return min(int(count), OFFSET_MAX)


def revive(record: Record) -> Record:
    """The dead letter as it goes back to where it lived: counted once more, due at once."""
    headers = _without_dead(record)
    headers.pop(REDRIVEN_HEADER, None)
    count = b"%d" % min(redriven_of(record) + 1, OFFSET_MAX)
    while not _fits(headers, REDRIVEN_HEADER, count):
        # Never one of our letters, which had room for more: somebody's own record.
        _leave_one_out(headers)
    return attrs.evolve(record, headers={**headers, REDRIVEN_HEADER: count}, deliver_at_us=None)


def moved(record: Record) -> Record:
    """A delayed record as it goes to its stream when it is due; it keeps its timestamp."""
    return attrs.evolve(record, deliver_at_us=None)


def _without_dead(record: Record) -> dict[str, bytes]:
    headers = dict(record.headers or {})
    headers.pop(DEAD_HEADER, None)
    return headers


def _fits(headers: Mapping[str, bytes], name: str, value: bytes) -> bool:
    """Whether a batch takes the headers with one more."""
    nbytes = len(name) + len(value)
    nbytes += sum(len(known) + len(content) for known, content in headers.items())
    return len(headers) < _LIMITS.headers and nbytes <= _LIMITS.headers_bytes


def _leave_one_out(headers: dict[str, bytes]) -> None:
    """Drop the last header; the count of redrives only if nothing else is there."""
    del headers[
        next((name for name in reversed(headers) if name != REDRIVEN_HEADER), REDRIVEN_HEADER)
    ]


def _dump(facts: DeadFacts) -> bytes:
    """The header's JSON, with as much of the error's text as there is room for."""
    plain = attrs.asdict(facts)
    if not facts.headers_cut:
        del plain["headers_cut"]
    for name in _TEXTS:
        # A program's text may have half a surrogate pair, and that has no UTF-8.
        plain[name] = plain[name].encode("utf-8", "replace").decode()
    data = _json(plain)
    if len(data) >= DEAD_BYTES_MAX:
        error = plain["error"]

        def size(keep: int) -> int:
            return len(_json({**plain, "error": error[:keep] + _CUT}))

        # A character takes a byte at least, so what fits is shorter than that.
        lengths = range(1, min(len(error), DEAD_BYTES_MAX) + 1)
        keep = bisect_left(lengths, DEAD_BYTES_MAX, key=size)
        data = _json({**plain, "error": error[:keep] + _CUT})
    assert len(data) < DEAD_BYTES_MAX, f"names of {len(facts.group)} and {len(facts.stream)}"
    return data


def _json(plain: Mapping[str, Any]) -> bytes:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def _is_text(value: Any) -> bool:
    # JSON can name half a surrogate pair too, which nobody could print or send on.
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= OFFSET_MAX
