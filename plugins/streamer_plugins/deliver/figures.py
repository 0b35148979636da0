"""Metrics of groups."""

from __future__ import annotations

from collections.abc import Callable

from streamer import DeliverContext
from streamer_plugins.deliver.pump import Pump

_COUNTS = {
    "delivered": "records handed out",
    "redelivered": "records handed out again",
    "acked": "records acked",
    "failed": "attempts that failed: nack, time run out, session lost",
    "expired": "attempts whose time ran out",
    "dead": "records that went to the dead letters",
    "late": "settles of what was not held any more",
}


class Figures:
    """Those of one group, under its name and its stream's."""

    def __init__(self, pump: Pump, context: DeliverContext) -> None:
        self._pump = pump
        self._stats = context.stats
        self._labels = {"stream": pump.group.stream, "group": pump.group.name}
        self._gauge("in_flight", "records out to members", lambda: self._sum("in_flight"))
        self._gauge("retrying", "records that failed and come again", lambda: self._sum("retrying"))
        self._gauge("oldest_lease_seconds", "age of what is out for longest", pump.oldest_lease_s)
        self._gauge("lag", "records that are not done", lambda: sum(pump.lags()))
        self._gauge("lag_age_seconds", "age of the oldest record not done", pump.lag_age_s)
        self._gauge("members", "members", lambda: len(pump.group.members))
        self._counters = {
            name: self._stats.counter(f"group_{name}", help, **self._labels)
            for name, help in _COUNTS.items()
        }
        #: What the counters have of it: one that stands for several groups gets what is new.
        self._known = dict.fromkeys(_COUNTS, 0)
        self.update()

    def _gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        self._stats.gauge(f"group_{name}", help, read, **self._labels)

    def _sum(self, name: str) -> int:
        return sum(getattr(ledger, name) for ledger in self._pump.group.ledgers)

    def update(self) -> None:
        """Take over what the group has counted."""
        for name, counter in self._counters.items():
            count = getattr(self._pump.group.counts, name)
            counter.value += count - self._known[name]
            self._known[name] = count

    def forget(self) -> None:
        """The group is gone."""
        self._stats.remove(**self._labels)
