"""Timers for very many things that mostly do not come to their time: a hashed timing wheel.

After Varghese and Lauck, "Hashed and hierarchical timing wheels" (1987), scheme 6: time is cut
into ticks, a timer stands in the slot of its tick modulo their number, and a turn of the wheel
looks into the slots that have passed. Setting and taking back are O(1); what waits costs a look
once a turn (102 s), and nothing in between. It rounds up, so a timer is never early and at most a
tick late.
"""

from __future__ import annotations

import math
import sys
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

TICK_S = 0.1
SLOTS = 1024


class Wheel(Generic[T]):
    """Items by the time when they are due. An item stands in it once."""

    __slots__ = ("_slots", "_tick", "count")

    def __init__(self, now: float) -> None:
        self._slots: list[dict[T, int] | None] = [None] * SLOTS
        self._tick = int(now / TICK_S)
        self.count = 0

    def add(self, item: T, when: float) -> int:
        """Have `item` come out once `when` has passed; the tick, for `discard`."""
        # Rounded up, and never into what has been looked through already.
        tick = max(math.ceil(when / TICK_S), self._tick + 1)
        slot = self._slots[tick % SLOTS]
        if slot is None:
            slot = self._slots[tick % SLOTS] = {}
        slot[item] = tick
        self.count += 1
        return tick

    def discard(self, item: T, tick: int) -> None:
        """Take an item back; no effect if it has come out."""
        slot = self._slots[tick % SLOTS]
        if slot is not None and slot.pop(item, None) is not None:
            self.count -= 1
            if not slot:
                # An emptied dict keeps its table: let it go.
                self._slots[tick % SLOTS] = None

    def expired(self, now: float, count: int = sys.maxsize - 1) -> list[T]:
        """Take out what is due, by ticks; at most `count`, and the next call goes on there."""
        to = int(now / TICK_S)
        ticks = range(self._tick + 1, to + 1)[-SLOTS:]
        found: list[T] = []
        for tick in ticks:
            slot = self._slots[tick % SLOTS] if self.count else None
            if not slot:
                continue
            # One more than wanted says that there are more.
            due = list(
                islice((item for item, its in slot.items() if its <= to), count + 1 - len(found))
            )
            if len(found) + len(due) > count:
                due.pop()
                to = tick - 1
            if len(due) == len(slot):
                self._slots[tick % SLOTS] = None
            else:
                for item in due:
                    del slot[item]
            found += due
            if to < tick:
                break
        self._tick = max(self._tick, to)
        self.count -= len(found)
        return found
