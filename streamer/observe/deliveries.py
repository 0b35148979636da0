"""What becomes of traced records after their answer: who was handed them, and what came of it.

For so long as a trace is watched for, whoever hands out or sends the record at its offset says so
here, and what became of it; each adds a span to the trace. Rules:

- Look at `watched` before `handed` and `read`, and at `holding` before `settled`: where nothing is
  traced, which is nearly always, that is all that it costs.
- A reader may be quicker than the answer, since both follow the commit: what is handed out while
  traces of its stream have no offset yet is kept until they have.
- So many traces are watched for, and so many leases; the oldest make room.

What calls what: the pump of a group `handed` with each lease; a membership `settled` with each
settle, and with what a member that is gone held; the pump `settled` with what was lost; a
subscription `read` with each frame of batches.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from streamer.observe.trace import Trace

__all__ = ["Deliveries"]

#: Traces that are watched for.
WATCHED_MAX = 256
#: Leases with records of traces that are out to a member.
OUT_MAX = 1024
#: What is handed out while a trace of its stream has no offset.
_EARLY_MAX = 256
#: Stands for a partition that is not known yet.
_ANY = -1


@attrs.frozen(eq=False)
class _Handed:
    """What somebody was given: a lease, or (with token 0) a frame of batches."""

    stream: str
    partition: int
    name: str
    token: int
    attempt: int
    #: first, end, first, end, ...
    bounds: Sequence[int]
    member: str
    at: float

    def has(self, trace: Trace) -> bool:
        assert trace.offset is not None
        return _holds(self.bounds, trace.offset)


@attrs.frozen(eq=False)
class _Settled:
    """What was said of a lease, or of those of its records that are within `bounds`."""

    bounds: Sequence[int]
    outcome: str
    at: float


@attrs.frozen(eq=False)
class _Out:
    """A record of a trace that a member holds."""

    trace: Trace
    handed: _Handed


class Deliveries:
    """Of all traces of one daemon."""

    def __init__(self) -> None:
        #: Traces whose records may yet be handed out, by stream and partition; under a partition
        #: of -1 those that are not answered yet.
        self.watched: dict[tuple[str, int], list[Trace]] = {}
        self._closing: deque[Trace] = deque()
        #: By token.
        self._out: OrderedDict[int, list[_Out]] = OrderedDict()
        self._early: deque[tuple[_Handed, list[_Settled]]] = deque(maxlen=_EARLY_MAX)

    # ------------------------------------------------------------------------------- watching

    def expect(self, trace: Trace) -> None:
        """A trace begins: it may have an offset soon."""
        self.watched.setdefault((trace.stream, _ANY), []).append(trace)

    def answered(self, trace: Trace, until: float) -> None:
        """Its append is answered: if it has an offset, its record may be handed out, and is
        watched for until then."""
        self._remove(trace, _ANY)
        if trace.partition is not None and trace.offset is not None:
            while len(self._closing) >= WATCHED_MAX:
                self._unwatch(self._closing.popleft())
            trace.until = until
            self._closing.append(trace)
            self.watched.setdefault((trace.stream, trace.partition), []).append(trace)
            self._catch_up(trace)
        if (trace.stream, _ANY) not in self.watched:
            kept = [early for early in self._early if early[0].stream != trace.stream]
            self._early = deque(kept, maxlen=_EARLY_MAX)

    def _catch_up(self, trace: Trace) -> None:
        """Its record was handed out before its append was answered."""
        for handed, settles in self._early:
            same = (handed.stream, handed.partition) == (trace.stream, trace.partition)
            if not same or not handed.has(trace):
                continue
            self._give(trace, handed)
            for settled in settles:
                self._settle(handed.token, settled, only=trace)

    def expire(self, now: float) -> None:
        """Watch no longer for what was answered long ago."""
        while self._closing and self._closing[0].until <= now:
            self._unwatch(self._closing.popleft())

    def _unwatch(self, trace: Trace) -> None:
        assert trace.partition is not None
        self._remove(trace, trace.partition)

    def _remove(self, trace: Trace, partition: int) -> None:
        key = trace.stream, partition
        found = self.watched[key]
        found.remove(trace)
        if not found:
            del self.watched[key]

    # ----------------------------------------------------------------------------- handing out

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
        name, now = f"deliver/{stream}/{group}", trio.current_time()
        self._hand(_Handed(stream, partition, name, token, attempt, bounds, member, now))

    def read(self, stream: str, partition: int, first: int, end: int, reader: str) -> None:
        """Records from `first` up to `end` were sent to a subscription. Look at `watched` first."""
        name, now = f"read/{stream}", trio.current_time()
        self._hand(_Handed(stream, partition, name, 0, 0, (first, end), reader, now))

    def _hand(self, handed: _Handed) -> None:
        self.expire(handed.at)
        if (handed.stream, _ANY) in self.watched:
            self._early.append((handed, []))
        for trace in list(self.watched.get((handed.stream, handed.partition), ())):
            if handed.has(trace):
                self._give(trace, handed)

    def _give(self, trace: Trace, handed: _Handed) -> None:
        assert trace.ended is not None
        if not handed.token:
            start = min(trace.ended, handed.at)
            trace.span(handed.name, "read", start, handed.at, reader=handed.member)
            return
        self._close_earlier(trace, handed)
        start = min(_last_end(trace, handed.name), handed.at)
        facts: dict[str, Any] = {"attempt": handed.attempt, "member": handed.member}
        trace.span(handed.name, "delivery", start, handed.at, **facts)
        self._out.setdefault(handed.token, []).append(_Out(trace, handed))
        if len(self._out) > OUT_MAX:
            self._out.popitem(last=False)

    def _close_earlier(self, trace: Trace, handed: _Handed) -> None:
        """What went out before, and came back without a word: the rest of a lease whose first
        record an ordered group took back."""
        for token, out in list(self._out.items()):
            if any(each.trace is trace and each.handed.name == handed.name for each in out):
                self._settle(token, _Settled((), "lost", handed.at), only=trace)

    # -------------------------------------------------------------------------------- settling

    @property
    def holding(self) -> bool:
        """Whether any record of a trace is out: look at that before `settled`."""
        return bool(self._out or self._early)

    def settled(self, token: int, bounds: Sequence[int], outcome: str) -> None:
        """What became of a lease, or of those of its records that are within `bounds`; of all
        that it has left where there are none. `outcome`: ack, nack, term, release or lost."""
        settled = _Settled(bounds, outcome, trio.current_time())
        for handed, settles in self._early:
            if handed.token == token:
                settles.append(settled)
        self._settle(token, settled)

    def _settle(self, token: int, settled: _Settled, only: Trace | None = None) -> None:
        left: list[_Out] = []
        for each in self._out.pop(token, ()):
            trace, handed = each.trace, each.handed
            assert trace.offset is not None
            meant = not settled.bounds or _holds(settled.bounds, trace.offset)
            if not meant or (only is not None and trace is not only):
                left.append(each)
                continue
            trace.span(
                handed.name,
                "handling",
                handed.at,
                settled.at,
                attempt=handed.attempt,
                member=handed.member,
                outcome=settled.outcome,
            )
        if left:
            self._out[token] = left

    def let_go(self) -> None:
        """Nobody will say any more what became of what is out."""
        for token in list(self._out):
            self.settled(token, [], "lost")


def _holds(bounds: Sequence[int], offset: int) -> bool:
    """Whether half-open ranges (first, end, first, end, ...) have `offset`."""
    return any(bounds[at] <= offset < bounds[at + 1] for at in range(0, len(bounds), 2))


def _last_end(trace: Trace, name: str) -> float:
    """When the attempt before this one was over; the commit, if there was none."""
    assert trace.ended is not None
    ends = [span.end for span in trace.spans if span.name == name and span.kind == "handling"]
    return max(ends, default=trace.ended)
