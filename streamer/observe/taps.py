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
_DIRECTIONS = (".in", ".out")

#: What an item looks like: plain values, and under `_batch` or `_sample` what it holds: a batch as
#: it is or its bytes, and what gives records with their sizes (see `_keep`).
Look = Callable[[Any], Iterable[dict[str, Any]]]


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
        #: What it matches, of the points that there are; None if that is not known.
        self.names: list[str] | None = None
        self._came = trio.lowlevel.ParkingLot()
        self._over = False

    def matches(self, name: str) -> bool:
        """Whether the glob means that point, with or without its direction."""
        if fnmatchcase(name, self.glob):
            return True
        # A group's point has none, and may have dots.
        bare, dot, direction = name.rpartition(".")
        return dot + direction in _DIRECTIONS and fnmatchcase(bare, self.glob)

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

    def _has_bytes(self, nbytes: int) -> bool:
        if self._bytes_left < nbytes:
            self._refill()
        return self._bytes_left >= nbytes

    def _keep(self, found: dict[str, Any]) -> None:
        batch = found.pop("_batch", None)
        sample = found.pop("_sample", None)
        found["batch"], found["sample"] = None, []
        found["_nbytes"] = 0
        if self.values and batch is not None:
            size = len(batch) if isinstance(batch, bytes) else batch.nbytes
            if size <= _ITEM_BYTES_MAX and self._has_bytes(size):
                found["batch"], found["_nbytes"] = batch, size
        elif self.values and sample is not None and self._has_bytes(1):
            found["sample"], found["_nbytes"] = sample()
        self._bytes_left -= found["_nbytes"]
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
            if batch is not None and not isinstance(batch, bytes):
                found["batch"] = batch.to_bytes()
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
        self._closed = False

    def point(self, look: Look, *names: str) -> TapPoint:
        """The point of these names, made if need be; taps that match it see it from now on."""
        point = self._points.get(names)
        if point is None:
            point = self._points[names] = TapPoint(names, look)
            for tap in self._taps.values():
                tap.names = None
                _connect(point, tap)
        return point

    def remove(self, *names: str) -> None:
        """A point is gone."""
        self._points.pop(names, None)
        for tap in self._taps.values():
            tap.names = None

    def names(self) -> list[str]:
        """The names of all points."""
        return sorted(name for names in self._points for name in names)

    def open(self, id: str, glob: str, rate: int, values: bool) -> Tap:
        """The tap of that id, made if need be; `glob` is of a length that is cheap to match.

        Raises:
            BadRequest: a glob that matches no point, a rate that may not be.
            Refused: there are too many taps.
        """
        tap = self._taps.get(id)
        if tap is not None and (tap.glob, tap.rate, tap.values) == (glob, rate, values):
            return tap
        if not 1 <= len(id) <= _ID_CHARS_MAX:
            raise BadRequest(f"a tap's id has 1 to {_ID_CHARS_MAX} characters, not {len(id)}")
        if not 1 <= rate <= RATE_MAX:
            raise BadRequest(f"a rate of {rate} items a second, allowed are 1 to {RATE_MAX}")
        made = Tap(glob, rate, values, self._now_us)
        if not self.matched(made):
            shown = ", ".join(self.names()[:50])
            raise BadRequest(f"no point matches {glob[:80]!r}, known are {shown}")
        if tap is None and len(self._taps) >= TAPS_MAX:
            raise Refused(f"there are {TAPS_MAX} taps, allowed are no more")
        if self._closed:
            made.over()
            return made
        if tap is not None:
            self._end([tap])
        self._taps[id] = made
        for point in self._points.values():
            _connect(point, made)
        return made

    def matched(self, tap: Tap) -> list[str]:
        """The names that a tap's glob means, of points that there are."""
        if tap.names is None:
            tap.names = [name for name in self.names() if tap.matches(name)]
        return tap.names

    def expire(self) -> None:
        """End the taps that nobody asks for; called every second or so."""
        oldest = trio.current_time() - IDLE_S
        self._end([tap for tap in self._taps.values() if tap.asked_at < oldest])

    def close(self) -> None:
        """The daemon goes down: who waits gets an answer."""
        self._closed = True
        self._end(list(self._taps.values()))

    def _end(self, taps: list[Tap]) -> None:
        if not taps:
            return
        self._taps = {id: tap for id, tap in self._taps.items() if tap not in taps}
        for point in self._points.values():
            if point.taps:
                point.taps = tuple(each for each in point.taps if each[0] not in taps)
        for tap in taps:
            tap.over()


def _connect(point: TapPoint, tap: Tap) -> None:
    """Have a tap see a point, if it means it: under the first of its names that it means."""
    name = next(filter(tap.matches, point.names), None)
    if name is not None:
        point.taps += ((tap, name),)
