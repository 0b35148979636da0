"""What sessions share: the streams, the pipelines, and the budget of bytes under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from streamer.errors import NotAllowed, Overloaded
from streamer.limits import BatchLimits, WireLimits
from streamer.names import OWN_PREFIX
from streamer.pipeline.delivering import Delivering
from streamer.pipeline.runner import Pipeline
from streamer.pipeline.streams import Streams
from streamer.session.inspection import Inspected
from streamer.stats import Counter, Stats

#: A session keeps at least this much credit, or it could not even say that it wants more.
WINDOW_BYTES_MIN = 64 * 1024
#: What a record takes in memory besides its bytes: the record, its ack's slot, who waits.
RECORD_BYTES = 256
#: Names come from clients; the routes remembered for them are bounded.
_ROUTES_MAX = 10_000


class Budget:
    """Bytes of requests under way in all sessions: when they run short, windows shrink.

    Credit that was granted cannot be taken back, and counts bytes on the wire, where a record may
    be two bytes; so what comes is also charged with what it takes in memory, and above twice the
    budget it is refused: that is the bound. Sessions that heed their windows do not come near it.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.under_way = 0
        self.sessions = 0

    def charge(self, nbytes: int, records: int) -> int:
        """Count a request as under way; what to give back to `release`.

        Raises:
            Overloaded: there is no room; nothing was counted.
        """
        cost = nbytes + records * RECORD_BYTES
        # What is alone passes, or it never would.
        if self.under_way and self.under_way + cost > 2 * self.bytes_max:
            raise Overloaded(
                f"{self.under_way} bytes of requests are under way, allowed are "
                f"{2 * self.bytes_max}"
            )
        self.under_way += cost
        return cost

    def release(self, cost: int) -> None:
        self.under_way -= cost

    def queue(self, wanted: int, at_least: int) -> int:
        """How many bytes may wait for one session to read them: an equal share of the budget."""
        return max(at_least, min(wanted, self.bytes_max // max(1, self.sessions)))

    def window(self, wanted: int) -> int:
        """How many bytes one session may have under way now."""
        left = self.bytes_max
        if self.under_way * 2 > left:
            left -= self.under_way
        return max(WINDOW_BYTES_MIN, min(wanted, left // max(1, self.sessions)))


@attrs.define(eq=False)
class Service:
    """Made by the supervisor, given to every session."""

    streams: Streams
    pipelines: Sequence[Pipeline]
    limits: WireLimits
    batch_limits: BatchLimits
    stats: Stats
    budget: Budget
    server_name: str
    handshake_s: float
    idle_s: float
    send_s: float
    send_queue_bytes: int
    varz: Callable[[], dict[str, Any]]
    deliver: Delivering
    inspected: Inspected
    #: Set when the daemon goes down: nothing new is taken in.
    draining: bool = False
    _routes: dict[str, Pipeline] = attrs.field(factory=dict, init=False)
    _refusals: dict[str, Counter] = attrs.field(factory=dict, init=False)

    def count_failed(self, code: str) -> None:
        """A request was answered with an error of that code."""
        counter = self._refusals.get(code)
        if counter is None:
            counter = self._refusals[code] = self.stats.counter(
                "answers_failed", "requests that were answered with an error", code=code
            )
        counter.value += 1

    def pipeline(self, stream: str) -> Pipeline:
        """The pipeline that serves a stream: the first that matches.

        Raises:
            NotAllowed: no pipeline does.
        """
        if stream.startswith(OWN_PREFIX):
            raise NotAllowed(
                f"stream name {stream[:40]!r}: those with {OWN_PREFIX!r} are the daemon's own"
            )
        found = self._routes.get(stream)
        if found is None:
            for pipeline in self.pipelines:
                if pipeline.serves(stream):
                    if len(self._routes) >= _ROUTES_MAX:
                        self._routes.clear()
                    self._routes[stream] = pipeline
                    return pipeline
            raise NotAllowed(f"no pipeline serves a stream of the name {stream!r}")
        return found

    def pipeline_name(self, stream: str) -> str:
        """The name of the pipeline that serves a stream; empty if none does: it can be read."""
        try:
            return self.pipeline(stream).name
        except NotAllowed:
            return ""
