"""Waits for a quiet machine, and has disturbed runs made again, within a budget of time.

Rules: quiet is where other programs use less than `OTHER_CORES`, by /proc/stat. The budget is what
waiting and dropped runs may cost together; once it is used up, runs count as they are, and the
report says what others used. Where the system does not tell, nothing is waited for. Dropping runs
for what others did, and never for their own figures, does not choose among figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from streamer_tools.bench.noise import OTHER_CORES, Seen, watching

#: How long a look at the machine takes.
_LOOK_S = 1.0


def look() -> Seen:
    """The machine for a second, in which we do nothing."""
    with watching(None) as seen:
        time.sleep(_LOOK_S)
    return seen


@attrs.define
class Quiet:
    """The budget, and what is left of it."""

    left_s: float
    say: Callable[[str], None]
    look: Callable[[], Seen] = look

    def wait(self) -> None:
        """Wait until the machine is quiet, or the budget is used up."""
        said = False
        while self.left_s > 0:
            seen = self.look()
            if not _disturbed(seen):
                return
            self.left_s -= seen.seconds
            if not said:
                self.say(f"waiting: other programs use {seen.other_cores:.2g} cores")
                said = True

    def again(self, seen: Seen) -> bool:
        """Whether a run is to be made again, since others disturbed it."""
        if self.left_s <= 0 or not _disturbed(seen):
            return False
        self.left_s -= seen.seconds
        self.say(f"again: other programs used {seen.other_cores:.2g} cores meanwhile")
        return True


def _disturbed(seen: Seen) -> bool:
    return seen.other_cores is not None and seen.other_cores >= OTHER_CORES
