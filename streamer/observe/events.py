"""What happens in a daemon, for people: joins, leaves, recoveries, dead letters and the like.

Rules:

- Bounded: the newest `EVENTS_MAX` are kept, and as many of those that are more than information: a
  thousand sessions that come and go must not hide the crash before them. Who asks for what is not
  kept any more is told how many it missed.
- The same thing again within a second is gathered, and becomes one event with a count when the
  second is over: a million redeliveries are a few lines.
- An event is a sentence and its facts; logs say more, and metrics count exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, Literal

import trio

EVENTS_MAX = 1000
#: Different things that may be gathered at once; what is above is one event each.
_GATHERED_MAX = 256
_GATHER_S = 1.0

Severity = Literal["info", "warning", "error"]


class Events:
    """The newest events, by sequence number from 1 on."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._infos: deque[dict[str, Any]] = deque(maxlen=EVENTS_MAX)
        self._grave: deque[dict[str, Any]] = deque(maxlen=EVENTS_MAX)
        self._next = 1
        #: (kind, facts) -> until when it is gathered, and what has been gathered.
        self._gathering: dict[tuple[Any, ...], tuple[float, dict[str, Any] | None]] = {}
        self._came = trio.lowlevel.ParkingLot()
        self._closed = False

    def emit(
        self, kind: str, text: str, *, severity: Severity = "info", count: int = 1, **facts: Any
    ) -> None:
        """Something has happened (`count` times); `facts` are plain values."""
        key = (kind, *sorted((name, str(value)) for name, value in facts.items()))
        event = {"kind": kind, "severity": severity, "text": text, "count": count, "facts": facts}
        known = self._gathering.get(key)
        now = trio.current_time()
        if known is not None and now < known[0]:
            if known[1] is not None:
                event["count"] += known[1]["count"]
            self._gathering[key] = known[0], event
            return
        if known is not None and known[1] is not None:
            self._add(known[1])
        if known is not None or len(self._gathering) < _GATHERED_MAX:
            self._gathering[key] = now + _GATHER_S, None
        self._add(event)

    def flush(self) -> None:
        """Give out what was gathered and whose second is over; called every second or so."""
        now = trio.current_time()
        for key, (until, event) in list(self._gathering.items()):
            if until <= now:
                del self._gathering[key]
                if event is not None:
                    self._add(event)

    def _add(self, event: dict[str, Any]) -> None:
        kept = self._infos if event["severity"] == "info" else self._grave
        kept.append({"seq": self._next, "at_us": self._now_us(), **event})
        self._next += 1
        self._came.unpark_all()

    async def after(self, seq: int, limit: int, wait_s: float) -> dict[str, Any]:
        """The events from `seq` on (0: the oldest kept), waiting up to `wait_s` for the first; at
        most `limit`, which is 1 at the least.

        A `seq` from before a restart of the daemon is larger than any here: then from the oldest.
        """
        if seq > self._next:
            seq = 0
        with trio.move_on_after(wait_s):
            while seq >= self._next and not self._closed:
                await self._came.park()
        kept = merge(self._infos, self._grave, key=itemgetter("seq"))
        found = list(islice((event for event in kept if event["seq"] >= seq), limit))
        end = found[-1]["seq"] + 1 if len(found) == limit else self._next
        missed = end - seq - len(found) if seq else 0
        return {"next": end, "missed": missed, "events": found}

    def close(self) -> None:
        """The daemon goes down: nobody waits any more."""
        self._closed = True
        self._came.unpark_all()
