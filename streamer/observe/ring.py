"""Counts of good and bad over a sliding time, in memory that does not grow.

Rules: time is whole seconds that only go forward, cut into steps; two numbers are kept a step, and
their sums beside them, so that the share over all of it costs nothing. The step that runs is part
of every sum: "the last five minutes" are five to five and a step.
"""

from __future__ import annotations

from array import array


class Ring:
    """What counted and what of it was bad, by steps of time, for so many steps and no more."""

    def __init__(self, step_s: int, steps: int) -> None:
        self._step_s = step_s
        self._counted = array("Q", bytes(8 * steps))
        self._bad = array("Q", bytes(8 * steps))
        #: The step that runs.
        self._at = 0
        self.counted = 0
        self.bad = 0

    def add(self, second: int, counted: int, bad: int) -> None:
        """Count at a second, which is not before any that was given."""
        self.turn(second)
        place = self._at % len(self._bad)
        self._counted[place] += counted
        self._bad[place] += bad
        self.counted += counted
        self.bad += bad

    def turn(self, second: int) -> None:
        """Let go of what is too long ago at that second."""
        step, steps = second // self._step_s, len(self._bad)
        for each in range(max(self._at + 1, step - steps + 1), step + 1):
            place = each % steps
            self.counted -= self._counted[place]
            self.bad -= self._bad[place]
            self._counted[place] = self._bad[place] = 0
        self._at = step

    def last(self, span_s: int) -> tuple[int, int]:
        """What counted, and what was bad, in that time and in the step that runs."""
        steps = len(self._bad)
        places = [
            (self._at - back) % steps for back in range(min(span_s // self._step_s + 1, steps))
        ]
        return sum(self._counted[at] for at in places), sum(self._bad[at] for at in places)

    def resized(self, steps: int) -> Ring:
        """The same with room for another number of steps; the oldest leave."""
        fresh, room = Ring(self._step_s, steps), len(self._bad)
        for step in range(max(0, self._at - room + 1), self._at + 1):
            place = step % room
            fresh.add(step * self._step_s, self._counted[place], self._bad[place])
        return fresh
