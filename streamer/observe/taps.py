"""Taps: what passes at a point of a pipeline, for somebody who looks.

Rules:

- Where nobody looks, a point costs one look at an empty tuple.
- A tap never slows what it watches. It takes `rate` items a second and counts the rest; it keeps
  references and decodes nothing; what it keeps is bounded in items and bytes, oldest first out.
- It ends by itself when nobody has asked for `IDLE_S`: who looks may be gone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import trio

from streamer.errors import BadRequest, Refused
from streamer.limits import KIB, MIB

#: Taps at once, of all sessions.
TAPS_MAX = 32
RATE_MAX = 1000
#: A tap that nobody asks for so long is over.
IDLE_S = 10.0
_ITEMS_MAX = 1000
_ITEM_BYTES_MAX = 64 * KIB
_BYTES_A_SECOND = 1 * MIB
_KEPT_BYTES_MAX = 4 * MIB
_ID_CHARS_MAX = 100

#: What an item looks like: plain values, and under `batch` or `sample` what it holds.
Look = Callable[[Any], Iterable[dict[str, Any]]]


class Encoded(bytes):
    """A batch that is bytes already."""

    @property
    def nbytes(self) -> int:
        return len(self)

    def to_bytes(self) -> bytes:
        return self


class TapPoint:
    """A place where items pass, by one or more names."""

    __slots__ = ("_look", "names", "taps")

    def __init__(self, names: tuple[str, ...], look: Look) -> None:
        self.names = names
        self._look = look
        self.taps: tuple[tuple[Tap, str], ...] = ()

    def saw(self, item: Any) -> None:
        """An item passes; called only while there are taps."""
        for tap, name in self.taps:
            tap.offer(name, item, self._look)


class Tap:
    """What one person looks at."""

    def __init__(self, glob: str, rate: int, values: bool, now_us: Callable[[], int]) -> None:
        self.glob = glob
        self.rate = rate
        self.values = values
        self.seen = 0
        self.shown = 0
        self.asked_at = trio.current_time()
        self._now_us = now_us
        self._items: deque[dict[str, Any]] = deque()
        self._kept_bytes = 0
        self._tokens = float(rate)
        self._bytes_left = float(_BYTES_A_SECOND)
        self._at = trio.current_time()
        self._came = trio.lowlevel.ParkingLot()
        self._over = False

    def matches(self, name: str) -> bool:
        """Whether the glob means that point, with or without its direction."""
        bare = name.rpartition(".")[0] or name
        return any(fnmatchcase(each, self.glob) for each in (name, bare))

    def offer(self, point: str, item: Any, look: Look) -> None:
        """Take note of an item, if the rate allows."""
        self.seen += 1
        if self._tokens < 1.0 and not self._refill():
            return
        self._tokens -= 1.0
        for found in look(item):
            self._keep({"at_us": self._now_us(), "point": point, **found})

    def _refill(self) -> bool:
        now = trio.current_time()
        passed = now - self._at
        self._at = now
        self._tokens = min(float(self.rate), self._tokens + passed * self.rate)
        self._bytes_left = min(_BYTES_A_SECOND, self._bytes_left + passed * _BYTES_A_SECOND)
        return self._tokens >= 1.0

    def _keep(self, found: dict[str, Any]) -> None:
        batch = found.pop("_batch", None)
        sample = found.pop("_sample", None)
        found["batch"], found["sample"] = None, []
        found["_nbytes"] = 0
        if self.values and batch is not None:
            size = batch.nbytes
            if size <= _ITEM_BYTES_MAX and size <= self._bytes_left:
                self._bytes_left -= size
                found["batch"], found["_nbytes"] = batch, size
        if self.values and sample is not None:
            found["sample"] = sample()
            found["_nbytes"] = sum(len(each["value"]) for each in found["sample"])
        self._items.append(found)
        self._kept_bytes += found["_nbytes"]
        while len(self._items) > _ITEMS_MAX or self._kept_bytes > _KEPT_BYTES_MAX:
            self._kept_bytes -= self._items.popleft()["_nbytes"]
        self._came.unpark_all()

    async def take(self, wait_s: float) -> list[dict[str, Any]]:
        """What has come since the last call; waits up to `wait_s` for the first. Cancelled while
        it waits, nothing was taken."""
        self.asked_at = math.inf
        try:
            with trio.move_on_after(wait_s):
                while not self._items and not self._over:
                    await self._came.park()
        finally:
            self.asked_at = trio.current_time()
        items, self._items = list(self._items), deque()
        self._kept_bytes = 0
        self.shown += len(items)
        for found in items:
            del found["_nbytes"]
            batch = found["batch"]
            found["batch"] = batch.to_bytes() if batch is not None else None
        return items

    def over(self) -> None:
        """There will be nothing more: nobody waits."""
        self._over = True
        self._came.unpark_all()


class Taps:
    """All points and all taps of a daemon."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._points: dict[tuple[str, ...], TapPoint] = {}
        self._taps: dict[str, Tap] = {}

    def point(self, look: Look, *names: str) -> TapPoint:
        """The point of these names, made if need be; taps that match it see it from now on."""
        point = self._points.get(names)
        if point is None:
            point = self._points[names] = TapPoint(names, look)
            self._connect([point])
        return point

    def remove(self, *names: str) -> None:
        """A point is gone."""
        self._points.pop(names, None)

    def names(self) -> list[str]:
        """The names of all points."""
        return sorted(name for names in self._points for name in names)

    def open(self, number: str, glob: str, rate: int, values: bool) -> Tap:
        """The tap of that id, made if need be.

        Raises:
            BadRequest: a glob that matches no point, a rate that may not be.
            Refused: there are too many taps.
        """
        tap = self._taps.get(number)
        if tap is not None and (tap.glob, tap.rate, tap.values) == (glob, rate, values):
            return tap
        if not 1 <= len(number) <= _ID_CHARS_MAX:
            raise BadRequest(f"a tap's id has 1 to {_ID_CHARS_MAX} characters, not {len(number)}")
        if not 1 <= rate <= RATE_MAX:
            raise BadRequest(f"a rate of {rate} items a second, allowed are 1 to {RATE_MAX}")
        made = Tap(glob, rate, values, self._now_us)
        if not self.matched(made):
            shown = ", ".join(self.names()[:50])
            raise BadRequest(f"no point matches {glob[:80]!r}, known are {shown}")
        if tap is None and len(self._taps) >= TAPS_MAX:
            raise Refused(f"there are {TAPS_MAX} taps, allowed are no more")
        self._taps[number] = made
        self._connect(self._points.values())
        return made

    def matched(self, tap: Tap) -> list[str]:
        """The points that a tap sees."""
        return [name for name in self.names() if tap.matches(name)]

    def expire(self) -> None:
        """End the taps that nobody asks for; called every second or so."""
        oldest = trio.current_time() - IDLE_S
        left = {name: tap for name, tap in self._taps.items() if tap.asked_at >= oldest}
        if len(left) < len(self._taps):
            self._taps = left
            self._connect(self._points.values())

    def close(self) -> None:
        """The daemon goes down: who waits gets an answer."""
        taps, self._taps = self._taps, {}
        self._connect(self._points.values())
        for tap in taps.values():
            tap.over()

    def _connect(self, points: Iterable[TapPoint]) -> None:
        for point in points:
            point.taps = tuple(
                (tap, next(name for name in point.names if tap.matches(name)))
                for tap in self._taps.values()
                if any(map(tap.matches, point.names))
            )
