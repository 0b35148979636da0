"""What is measured at a channel: how long items wait, and how long the stage before had them.

Each item carries its times: `taken_at` is set when a stage takes it, and what the stage makes of
it tells by `began_at` when its oldest part was taken. So of each stage there are two latencies:

- queueing: from the moment the stage before offered the item (waiting for room included) until it
  was taken;
- service: from taking until what was made of it was offered to the next; for the last stage, which
  passes nothing on, until it asks for more.

A stage need not do anything for it. Where taps or traces want the same moments, they get them here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from streamer.observe.taps import TapPoint
from streamer.stats import Latency, Stats


class Spans(Protocol):
    """A trace, as far as a channel is concerned."""

    def span(self, name: str, kind: str, start: float, end: float) -> None: ...


class Metered(Protocol):
    """What flows through a channel that is measured; see `streamer.pipeline.stage`."""

    taken_at: float

    @property
    def began_at(self) -> float: ...

    @property
    def traces(self) -> Sequence[Spans]: ...


class Meter:
    """The measurements of one channel; times are `trio.current_time()`."""

    __slots__ = (
        "_before",
        "_lot",
        "_lot_at",
        "_name",
        "_traced",
        "last",
        "point",
        "queueing",
        "service",
    )

    def __init__(
        self,
        stats: Stats,
        pipeline: str,
        place: str,
        point: TapPoint,
        before: Meter | None,
        *,
        last: bool,
    ) -> None:
        """`place` is the stage behind the channel, `before` the meter of the channel before."""
        labels = {"pipeline": pipeline, "place": place}
        self.queueing: Latency = stats.latency(
            "stage_queueing_seconds", "waiting in front of a stage", **labels
        )
        #: Of the stage behind this channel.
        self.service: Latency = stats.latency(
            "stage_service_seconds", "from taking an item to passing it on", **labels
        )
        self.point = point
        #: Nothing follows the stage: it has done when it asks for more.
        self.last = last
        self._before = before
        self._name = f"{pipeline}/{place}"
        self._lot = 0
        self._lot_at = 0.0
        #: Of the lot.
        self._traced: list[Spans] = []

    def sent(self, item: Any, now: float) -> None:
        """The stage before offers an item."""
        before = self._before
        if before is not None and (began := item.began_at) >= 0:
            before.service.record(now - began, now=now)
            for trace in item.traces:
                trace.span(before._name, "service", began, now)
        if self.point.taps:
            self.point.saw(item)

    def taken(self, entries: Sequence[tuple[Any, int, float]] | deque[Any], now: float) -> None:
        """The stage behind has taken items: each with its size, and when it was offered."""
        for item, _, offered_at in entries:
            item.taken_at = now
            for trace in item.traces:
                trace.span(self._name, "queueing", offered_at, now)
                if self.last:
                    self._traced.append(trace)
        self.queueing.record_since([entry[2] for entry in entries], now)
        if self.last:
            self._lot += len(entries)
            self._lot_at = now

    def asked(self, now: float) -> None:
        """The last stage asks for more: it has done with what it took."""
        if self._lot:
            self.service.record(now - self._lot_at, self._lot, now=now)
            self._lot = 0
            if self._traced:
                for trace in self._traced:
                    trace.span(self._name, "service", self._lot_at, now)
                self._traced.clear()
