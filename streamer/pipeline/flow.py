"""What is under way between ingest and the acks, and how long it takes.

Ingest groups single records only while a commit is under way, so it must know when none is; and
its batch size follows the commit latency. A `Ticket` is held by everything that came out of one
group, and counts as under way until the last holder lets go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from streamer.observe.traces import Trace


class Flow:
    """Counts the groups of one pipeline that are between ingest and ack."""

    def __init__(self) -> None:
        self.in_flight = 0
        #: Called with the latency in seconds of each group that has been answered.
        self.on_done: Callable[[float], None] | None = None

    def enter(self, traces: Sequence[Trace] = ()) -> Ticket:
        """A group begins; `traces` are those of its appends."""
        self.in_flight += 1
        return Ticket(self, traces)

    def leave(self, latency_s: float) -> None:
        self.in_flight -= 1
        if self.on_done is not None:
            self.on_done(latency_s)


class Ticket:
    """One group's place in the flow."""

    __slots__ = ("_flow", "_holders", "_since", "traces")

    def __init__(self, flow: Flow, traces: Sequence[Trace]) -> None:
        self.traces = traces
        self._flow = flow
        self._holders = 1
        self._since = trio.current_time()

    def hold(self) -> None:
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._flow.leave(trio.current_time() - self._since)
