"""What a group has not done while later records are done: the holes of one partition."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from streamer.groups.ledger import Ledger
from streamer.groups.ranges import Ranges, pairs

#: Holes of one answer.
HOLES_MAX = 1000
#: Leases and retries that are looked through to say what becomes of a hole: about 10 ms of work.
_LOOKED_MAX = 10_000


def holes(ledger: Ledger, high_water: int, offset: int) -> dict[str, Any]:
    """The holes from `offset` on, as plain values: `next` is where the rest begins, or None.

    `out` and `retrying` say how many of a hole's records are at members and how many have failed
    and come again; the others have not been handed out. Both are None where there is too much to
    look through.
    """
    # Where holes begin and end, in turns; the last is where what is done ends.
    edges = [ledger.cursor, *ledger.done.bounds]
    at = bisect_right(edges, offset) & ~1
    behind = at + 2 * HOLES_MAX
    out, retrying = _out(ledger), _retrying(ledger)
    return {
        "cursor": ledger.cursor,
        "high_water": high_water,
        "done_to": edges[-1],
        "next": edges[behind] if behind + 1 < len(edges) else None,
        "holes": [
            {
                "first": first,
                "next": end,
                "out": _within(out, first, end),
                "retrying": _within(retrying, first, end),
            }
            for first, end in pairs(edges[at : min(behind, len(edges) - 1)])
        ],
    }


def _within(ranges: Ranges | None, first: int, end: int) -> int | None:
    return None if ranges is None else Ranges(ranges.overlap(first, end)).count


def _out(ledger: Ledger) -> Ranges | None:
    if len(ledger.leases) > _LOOKED_MAX:
        return None
    found = Ranges()
    for lease in ledger.leases.values():
        for first, end in pairs(lease.bounds):
            found.add(first, end)
    return found


def _retrying(ledger: Ledger) -> Ranges | None:
    if len(ledger.retries) > _LOOKED_MAX:
        return None
    found = Ranges()
    for retry in ledger.retries.values():
        found.add(retry.first, retry.end)
    return found
