"""What becomes of traced records after their answer: who was handed them, and what came of it.

For so long as a trace is watched for, whoever hands out or sends the record at its offset says so
here, and what became of it; each adds a span to the trace. Rules:

- Look at `watched` before `handed` and `read`, and at `holding` before `settled`: where nothing is
  traced, which is nearly always, that is all that it costs.
- So many traces are watched for, and so many leases; the oldest make room.

What calls what: the pump of a group `handed` with each lease; a membership `settled` with each
settle, and with what a member that is gone held; the pump `settled` with what was lost; a
subscription `read` with each frame of batches.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import trio

from streamer.observe.trace import Trace

__all__ = ["Deliveries"]

#: Traces that are watched for.
WATCHED_MAX = 256
#: Leases with records of traces that are out to a member.
OUT_MAX = 1024


class _Out(NamedTuple):
    """A record of a trace that a member holds."""

    trace: Trace
    name: str
    since: float
    facts: dict[str, Any]


class Deliveries:
    """Of all traces of one daemon."""

    def __init__(self) -> None:
        #: Traces whose records may yet be handed out, by stream and partition.
        self.watched: dict[tuple[str, int], list[Trace]] = {}
        self._closing: deque[Trace] = deque()
        self._out: OrderedDict[int, list[_Out]] = OrderedDict()

    def watch(self, trace: Trace, until: float) -> None:
        """Expect that the record of a trace is handed out."""
        assert trace.partition is not None
        while len(self._closing) >= WATCHED_MAX:
            self._unwatch(self._closing.popleft())
        trace.until = until
        self._closing.append(trace)
        self.watched.setdefault((trace.stream, trace.partition), []).append(trace)

    def expire(self, now: float) -> None:
        """Watch no longer for what was answered long ago."""
        while self._closing and self._closing[0].until <= now:
            self._unwatch(self._closing.popleft())

    def _unwatch(self, trace: Trace) -> None:
        assert trace.partition is not None
        key = trace.stream, trace.partition
        found = self.watched[key]
        found.remove(trace)
        if not found:
            del self.watched[key]

    def handed(
        self,
        stream: str,
        partition: int,
        group: str,
        token: int,
        attempt: int,
        bounds: Sequence[int],
        member: str,
    ) -> None:
        """A lease went out: `bounds` are first, end, first, end, ... Look at `watched` first."""
        now = trio.current_time()
        self.expire(now)
        for trace in list(self.watched.get((stream, partition), ())):
            assert trace.offset is not None
            if not _holds(bounds, trace.offset):
                continue
            name = f"deliver/{stream}/{group}"
            self._close_earlier(trace, name)
            start = _last_end(trace, name)
            trace.span(name, "delivery", start, now, attempt=attempt, member=member)
            facts = {"attempt": attempt, "member": member}
            self._out.setdefault(token, []).append(_Out(trace, name, now, facts))
            if len(self._out) > OUT_MAX:
                self._out.popitem(last=False)

    def _close_earlier(self, trace: Trace, name: str) -> None:
        """What went out before, and came back without a word: the rest of a lease whose first
        record an ordered group took back."""
        for token, out in list(self._out.items()):
            if any(each.trace is trace and each.name == name for each in out):
                assert trace.offset is not None
                self.settled(token, [trace.offset, trace.offset + 1], "lost")

    @property
    def holding(self) -> bool:
        """Whether any record of a trace is out: look at that before `settled`."""
        return bool(self._out)

    def settled(self, token: int, bounds: Sequence[int], outcome: str) -> None:
        """What became of a lease, or of those of its records that are within `bounds`; of all
        that it has left where there are none. `outcome`: ack, nack, term, release, expired, lost.
        """
        out = self._out.get(token)
        if out is None:
            return
        now = trio.current_time()
        left: list[_Out] = []
        for each in out:
            assert each.trace.offset is not None
            if bounds and not _holds(bounds, each.trace.offset):
                left.append(each)
            else:
                each.trace.span(
                    each.name, "handling", each.since, now, **each.facts, outcome=outcome
                )
        if left:
            self._out[token] = left
        else:
            del self._out[token]

    def let_go(self) -> None:
        """Nobody will say any more what became of what is out."""
        for token in list(self._out):
            self.settled(token, [], "lost")

    def read(self, stream: str, partition: int, first: int, end: int, reader: str) -> None:
        """Records from `first` up to `end` were sent to a subscription. Look at `watched` first."""
        now = trio.current_time()
        self.expire(now)
        for trace in list(self.watched.get((stream, partition), ())):
            assert trace.offset is not None
            assert trace.ended is not None
            if first <= trace.offset < end:
                trace.span(f"read/{stream}", "read", trace.ended, now, reader=reader)


def _holds(bounds: Sequence[int], offset: int) -> bool:
    """Whether half-open ranges (first, end, first, end, ...) have `offset`."""
    return any(bounds[at] <= offset < bounds[at + 1] for at in range(0, len(bounds), 2))


def _last_end(trace: Trace, name: str) -> float:
    """When the attempt before this one was over; the commit, if there was none."""
    assert trace.ended is not None
    ends = [span.end for span in trace.spans if span.name == name and span.kind == "handling"]
    return max(ends, default=trace.ended)
