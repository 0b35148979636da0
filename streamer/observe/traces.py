"""Traces: where the time of one record went, from the session to the groups that handled it.

A `Trace` is made for few appends and travels with them. Rules:

- Nobody pays for what is not traced: a session asks `begin` for each append, which looks at two
  attributes; the deliver stage looks at `deliveries.watched`, which is empty.
- An append is traced if somebody armed its stream (`arm`, for the verb `trace_next`), if a record
  of it carries a sampled `traceparent` (W3C Trace Context), or by chance (`[trace] sample`). What
  is not armed is bounded by `[trace] per_second`; what comes above it is counted, not traced.
- Nothing here grows: so many traces, so many spans in each; what is above a bound is counted.
- A trace is finished when its append is answered. For `[trace] keep_s` longer it is watched for:
  what hands its record out adds spans. Each addition gives the trace a new number (`seq`), so that
  who asks for what came after a number gets it again, as it is now.

What calls what:

- a session, and the daemon's own `Appender`: `begin`, before it offers an append, with what a
  `Trace` frame said, or what the headers of moved records say;
- a channel's meter: `Trace.span(..., "queueing" | "service", ...)` for what carries traces;
- `Ack.watch`: the answer, which finishes the traces of an append;
- the deliver stage and subscriptions: `deliveries`, see there;
- `session/inspection.py`: `arm`, `docs` and `wait`.

Times are `trio.current_time()`, seconds; a trace has the wall clock of its beginning once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from random import Random
from typing import Any, Protocol

import attrs
import trio

from streamer.errors import StreamerError
from streamer.observe.deliveries import Deliveries
from streamer.observe.trace import MARKS_MAX, Marks, Parent, Span, Trace, marks_of, parse_parent
from streamer.records import Receipt, Record
from streamer.stats import Stats

__all__ = ["ARM_COUNT_MAX", "Exporter", "Trace", "Tracer"]

#: Finished traces that are kept.
TRACES_MAX = 256
#: What may be armed: globs, and appends of each.
_ARMED_MAX = 64
#: Who armed a stream that nothing comes to may be long gone.
_ARMED_S = 600.0
ARM_COUNT_MAX = 1000


class Exporter(Protocol):
    """Who is told of finished traces; neither call may block."""

    def trace(self, trace: Trace) -> None:
        """A trace is finished, with the spans that it has by now."""

    def span(self, trace: Trace, span: Span) -> None:
        """A span came to a trace that was finished before."""


class _Ack(Protocol):
    @property
    def outcomes(self) -> Sequence[Receipt | StreamerError | None]: ...

    def watch(self, look: Callable[[Any], None]) -> None: ...


class Traced(Protocol):
    """An append, as far as it concerns a trace (`pipeline.stage.Append`)."""

    traces: Sequence[Trace]

    @property
    def stream(self) -> str: ...
    @property
    def ack(self) -> _Ack: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def accepted_at(self) -> float: ...
    @property
    def records(self) -> Sequence[Record]: ...
    @property
    def count(self) -> int: ...


@attrs.define
class _Armed:
    glob: str
    left: int
    until: float


class Tracer:
    """All traces of one daemon."""

    def __init__(
        self,
        stats: Stats,
        now_us: Callable[[], int],
        rng: Random,
        *,
        sample: float = 0.0,
        per_second: int = 10,
        keep_s: float = 60.0,
        exporter: Exporter | None = None,
    ) -> None:
        """`sample` is the share of appends that are traced by chance; `per_second` bounds those
        and the ones that a traceparent asks for."""
        self.per_second = per_second
        #: What becomes of records that are answered.
        self.deliveries = Deliveries()
        self._now_us = now_us
        self._rng = rng
        self._sample = sample
        self._keep_s = keep_s
        #: Who is told of finished traces.
        self.exporter = exporter
        self._armed: list[_Armed] = []
        #: Whether appends without a traceparent may be traced.
        self._alert = sample > 0
        self._allowance = float(per_second)
        self._allowed_at = 0.0
        self._ring: OrderedDict[Trace, None] = OrderedDict()
        self._seq = 0
        self._news = trio.lowlevel.ParkingLot()
        self._closed = False
        self._begun = stats.counter("traces", "appends that are traced")
        self._skipped = stats.counter(
            "traces_skipped", "appends not traced, as there are too many a second"
        )

    def configure(self, *, sample: float, keep_s: float) -> None:
        """Go on with other settings."""
        self._sample, self._keep_s = sample, keep_s
        self._alert = bool(self._armed) or sample > 0

    # ----------------------------------------------------------------------------- beginning

    def begin(self, append: Traced, session: str = "", marks: Marks = ()) -> None:
        """Trace an append, if somebody wants to; called before it is offered.

        `marks` are what a `Trace` frame said of its batch: (index of a record, traceparent).
        """
        if not marks and not self._alert:
            for record in append.records:
                if record.headers:
                    break
            else:
                return
        self._begin(append, session, marks or marks_of(append.records))

    def _begin(self, append: Traced, session: str, marks: Marks) -> None:
        parents: list[tuple[int, Parent]] = []
        for index, text in marks[:MARKS_MAX]:
            parent = parse_parent(text)
            if parent is not None and parent.sampled and index < append.count:
                parents.append((index, parent))
        armed = self._alert and self._take_armed(append.stream)
        if parents:
            wanted: list[tuple[int, Parent | None]] = [
                each for each in parents if armed or self._allow()
            ]
        elif armed or (self._sample and self._rng.random() < self._sample and self._allow()):
            wanted = [(0, None)]
        else:
            return
        if not wanted:
            return
        append.traces = traces = [self._new(append, session, *each) for each in wanted]
        self._begun.value += len(traces)
        for trace in traces:
            self.deliveries.expect(trace)
        append.ack.watch(partial(self._answered, traces))

    def _new(self, append: Traced, session: str, index: int, parent: Parent | None) -> Trace:
        began = append.accepted_at
        return Trace(
            self._rng.randbytes(16) if parent is None else parent.trace_id,
            None if parent is None else parent.span_id,
            self._rng.randbytes(8),
            stream=append.stream,
            session=session,
            index=index,
            records=append.count,
            nbytes=append.nbytes,
            began=began,
            began_us=self._now_us() - int((trio.current_time() - began) * 1_000_000),
        )

    def _allow(self) -> bool:
        """Whether one more may be traced now, that nobody armed."""
        now = trio.current_time()
        grown = self._allowance + (now - self._allowed_at) * self.per_second
        self._allowance = min(float(self.per_second), grown)
        self._allowed_at = now
        if self._allowance < 1.0:
            self._skipped.value += 1
            return False
        self._allowance -= 1.0
        return True

    def arm(self, glob: str, count: int) -> int:
        """Have the next `count` appends to streams that match traced; how many are armed for
        this glob now. What has not come within ten minutes is not waited for."""
        until = trio.current_time() + _ARMED_S
        self._keep_armed([each for each in self._armed if each.until > trio.current_time()])
        for armed in self._armed:
            if armed.glob == glob:
                break
        else:
            if len(self._armed) >= _ARMED_MAX:
                del self._armed[0]
            armed = _Armed(glob, 0, until)
            self._armed.append(armed)
        armed.left, armed.until = min(ARM_COUNT_MAX, armed.left + count), until
        self._alert = True
        return armed.left

    def disarm(self, glob: str) -> None:
        """Take back what is armed for a glob."""
        self._keep_armed([armed for armed in self._armed if armed.glob != glob])

    def _keep_armed(self, armed: list[_Armed]) -> None:
        self._armed = armed
        self._alert = bool(armed) or self._sample > 0

    def _take_armed(self, stream: str) -> bool:
        now = trio.current_time()
        taken = next((each for each in self._armed if fnmatchcase(stream, each.glob)), None)
        found = taken is not None and taken.until > now
        if taken is not None:
            taken.left -= 1
        self._keep_armed([each for each in self._armed if each.left > 0 and each.until > now])
        return found

    # ----------------------------------------------------------------------------- finishing

    def _answered(self, traces: Sequence[Trace], ack: _Ack) -> None:
        now = trio.current_time()
        self.deliveries.expire(now)
        for trace in traces:
            outcomes = ack.outcomes
            outcome = outcomes[trace.index if trace.index < len(outcomes) else 0]
            first = min((span.start for span in trace.spans), default=now)
            if first > trace.began:
                # It was read, and waited in its session for room in the pipeline.
                trace.span("session", "queueing", trace.began, first)
            trace.ended = now
            if isinstance(outcome, Receipt):
                trace.outcome = "duplicate" if outcome.duplicate else outcome.level.value
                trace.partition = outcome.partition
                if outcome.offset >= 0:
                    # A batch has one receipt; records have one each.
                    behind = trace.index if len(outcomes) == 1 else 0
                    trace.offset = outcome.offset + behind
            elif outcome is not None:
                trace.outcome, trace.error = outcome.code, outcome.message
            if self.exporter is not None:
                self.exporter.trace(trace)
            trace._late = self._added
            self._publish(trace)
            self.deliveries.answered(trace, now + self._keep_s)

    def _added(self, trace: Trace, span: Span) -> None:
        """A span came to a finished trace."""
        if self.exporter is not None:
            self.exporter.span(trace, span)
        self._publish(trace)

    def _publish(self, trace: Trace) -> None:
        self._seq += 1
        trace.seq = self._seq
        self._ring[trace] = None
        self._ring.move_to_end(trace)
        if len(self._ring) > TRACES_MAX:
            self._ring.popitem(last=False)
        self._news.unpark_all()

    # ------------------------------------------------------------------------------- looking

    @property
    def seq(self) -> int:
        """The number of what came last."""
        return self._seq

    def docs(self, *, trace_id: str = "", after: int = 0, limit: int = 20) -> dict[str, Any]:
        """What came after the number `after`, oldest first; and the number to go on with.

        `trace_id` (hexadecimal, or how it begins) picks traces. A `limit` of 0 gives none, and
        the number of now.
        """
        self.deliveries.expire(trio.current_time())
        found: list[dict[str, Any]] = []
        if not limit:
            return {"next": self._seq, "traces": found}
        for trace in self._ring:
            if trace.seq <= after or not trace.trace_id.hex().startswith(trace_id):
                continue
            if len(found) >= limit:
                return {"next": found[-1]["seq"], "traces": found}
            found.append(trace.doc(watched=trio.current_time() < trace.until))
        return {"next": max(after, self._seq), "traces": found}

    async def wait(self, after: int, timeout_s: float, *, trace_id: str = "") -> None:
        """Wait until there is something after that number, at most so long."""
        with trio.move_on_after(timeout_s):
            while not (
                self._closed or self.docs(trace_id=trace_id, after=after, limit=1)["traces"]
            ):
                await self._news.park()

    def close(self) -> None:
        """The daemon goes down: nobody waits any more."""
        self._closed = True
        self._news.unpark_all()
