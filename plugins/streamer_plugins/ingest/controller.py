"""How large a group of single records may grow, and how soon the next may follow: decided from
measured commit latency.

Rules, in the manner of congestion control (additive rise would take minutes over our range, so
rise and fall are both by a factor):

- A full group with others under way lets them grow, however slow its commit was: what waits goes
  into one commit anyway, and fewer groups cost less. Shrinking there would make an overload worse.
- Else a commit slower than the target shrinks the groups, and a quick one after a full group lets
  them grow.
- A group that was all but empty lets them fall back. As groups leave by themselves when nothing is
  under way, the limit is to bound what a backlog becomes and not what is usual, so it stays well
  above that: measured, a limit that binds at the top of a swing doubles p99.

- Groups that are shared follow each other at a pace: not sooner than `PACE` times what a group
  usually takes from being closed to its answer. A commit costs much and a record in it little, so
  waiting for company for half a commit's time gives fewer commits, and with them less work, shorter
  queues and a lower p99; more than that costs more than it gives. A group of one record waits for
  nobody, nor does the one after it.
- Where the bounds are one number there is nothing to decide, and so no pace either.

Bytes follow records by the measured mean size. Every decision is counted by its name.
"""

from __future__ import annotations

import attrs

GROW = 1.25
SHRINK = 0.7
DECAY = 0.9
#: A group below this share of what it may hold says that the limit is far from what bounds it.
_MOSTLY_EMPTY = 0.125
#: Of what a group usually takes: how soon the next may follow a shared one. Measured from 1 to 3:
#: at 1.5 p99 at an even rate is lowest, and closed loops are faster than without.
PACE = 1.5
#: Weight of the newest group in the mean record size, and in what a group usually takes.
_SIZE_WEIGHT = 0.1
_LATENCY_WEIGHT = 0.1
#: A latency counts as at most so many times the usual one: a disk that hangs once is not usual.
_LATENCY_AT_MOST = 3.0

DECISIONS = ("grow", "shrink", "decay", "hold")


@attrs.define
class Controller:
    """The present limits of a group, and how they change."""

    records_min: int
    records_max: int
    bytes_max: int
    latency_target_s: float
    records: float = attrs.field(init=False)
    record_bytes: float = attrs.field(init=False, default=128.0)
    #: Share of its limit that the last closed group had reached.
    fill: float = attrs.field(init=False, default=0.0)
    #: What a group usually takes from being closed to its answer.
    usual_s: float = attrs.field(init=False, default=0.0)
    _shared: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.records = float(self.records_min)

    @property
    def count_limit(self) -> int:
        return int(self.records)

    @property
    def bytes_limit(self) -> int:
        """Room for `count_limit` records twice the mean size, within the configured bound."""
        return min(self.bytes_max, int(2 * self.records * self.record_bytes) + 1)

    @property
    def pace_s(self) -> float:
        """How soon the next group may follow the last one that was closed, by itself."""
        adapts = self.records_min < self.records_max
        return PACE * self.usual_s if adapts and self._shared else 0.0

    def closed(self, records: int, nbytes: int) -> None:
        """A group of single records was closed."""
        self._shared = records > 1
        # Of the whole records that it could hold: of 27.25 nothing would ever be full.
        self.fill = records / self.count_limit
        self.record_bytes += _SIZE_WEIGHT * (nbytes / records - self.record_bytes)

    def committed(self, latency_s: float, behind: int = 0) -> str:
        """A group was answered after `latency_s`, with `behind` others under way; the decision that
        follows from it."""
        usual = self.usual_s or latency_s
        newest = min(latency_s, _LATENCY_AT_MOST * usual)
        self.usual_s = usual + _LATENCY_WEIGHT * (newest - usual)
        before = self.records
        full = self.fill >= 1.0
        if latency_s > self.latency_target_s and not (full and behind):
            self.records = max(self.records_min, before * SHRINK)
            return "shrink" if self.records < before else "hold"
        if full:
            self.records = min(self.records_max, before * GROW + 1)
            return "grow" if self.records > before else "hold"
        if self.fill < _MOSTLY_EMPTY:
            self.records = max(self.records_min, before * DECAY)
            return "decay" if self.records < before else "hold"
        return "hold"
