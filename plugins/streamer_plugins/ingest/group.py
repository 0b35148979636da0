"""Ingest: groups single records of all sessions, so that they share one write and one fsync.

Rules:

- A batch that a producer encoded passes through untouched, and so does a request of two or more
  records, which is a group of its own. Neither has a setting.
- Single records of one stream are grouped, and a group closes by whichever comes first of count,
  bytes and linger; and when nothing is under way, since little is gained by waiting: at once for
  a record that has no company, else at the controller's pace.
- The `high` lane goes at once, and past the records of the `normal` lane that wait.
- Appends of one stream and lane leave in the order in which they came: what passes through
  closes the open group before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import attrs
import trio

from streamer import (
    Append,
    Decision,
    Group,
    Lane,
    Receiver,
    Sender,
    Stage,
    StageContext,
    StageDetail,
    StagePlugin,
    setting,
)
from streamer_plugins.ingest.controller import DECISIONS, Controller

#: The newest decisions of the controller are shown to those who look.
_DECISIONS_SHOWN = 20
_CLOSE_REASONS = ("batch", "records", "count", "bytes", "linger", "idle", "lane", "order", "drain")


@attrs.frozen
class GroupConfig:
    """Settings of the stage `group`."""

    records_min: int = setting(16, "smallest limit of records in a group", min=1)
    records_max: int = setting(4096, "largest limit of records in a group", min=1, max=65_536)
    bytes_max: int = setting(
        512 * 1024, "bytes of records in a group", unit="bytes", min=1024, max=1024 * 1024
    )
    linger_s: float = setting(
        0.005, "longest wait for company while a commit is under way", unit="s", min=0.0, max=10.0
    )
    latency_target_s: float = setting(
        0.02, "groups shrink while commits take longer than this", unit="s", min=0.0001, max=60.0
    )


@attrs.define(eq=False)
class _Open:
    """A group that is still taking records."""

    appends: list[Append]
    nbytes: int
    deadline: float


class _Ingest:
    def __init__(
        self, config: GroupConfig, context: StageContext, receive: Receiver[Append]
    ) -> None:
        self._config = config
        self._flow = context.flow
        self._receive = receive
        self._open: dict[str, _Open] = {}
        #: When the last group of single records was closed.
        self._closed_at = float("-inf")
        self.controller = Controller(
            records_min=config.records_min,
            records_max=max(config.records_min, config.records_max),
            bytes_max=config.bytes_max,
            latency_target_s=config.latency_target_s,
        )
        self._now_us = context.now_us
        #: (when, what, latency, fill, limit before, limit after) of those that changed the limit.
        self._changes: deque[tuple[int, str, float, float, float, float]] = deque(
            maxlen=_DECISIONS_SHOWN
        )
        context.show("ingest", self.detail)
        stats, name = context.stats, context.pipeline
        self._decisions = {
            d: stats.counter(
                "ingest_decisions", "what the batch size controller did", pipeline=name, decision=d
            )
            for d in DECISIONS
        }
        self._closed = {
            r: stats.counter("ingest_groups", "groups by what closed them", pipeline=name, reason=r)
            for r in _CLOSE_REASONS
        }
        self._records = stats.counter("ingest_records", "records taken in", pipeline=name)
        self._bytes = stats.counter("ingest_bytes", "bytes taken in", pipeline=name)
        stats.gauge(
            "ingest_group_records_limit",
            "records that a group may hold now",
            lambda: self.controller.count_limit,
            pipeline=name,
        )
        stats.gauge(
            "ingest_group_bytes_limit",
            "bytes that a group may hold now",
            lambda: self.controller.bytes_limit,
            pipeline=name,
        )

    def answered(self, latency_s: float) -> None:
        """A group left the pipeline: adapt, and let a waiting group go."""
        controller = self.controller
        before = controller.records
        decision = controller.committed(latency_s, self._flow.in_flight)
        self._decisions[decision].value += 1
        if controller.records != before:
            change = self._now_us(), decision, latency_s, controller.fill, before
            self._changes.append((*change, controller.records))
        if self._open and not self._flow.in_flight:
            self._receive.nudge()

    def detail(self) -> StageDetail:
        """The present limits, and how they came about."""
        controller, config = self.controller, self._config
        return StageDetail(
            f"groups of at most {controller.count_limit} records now, between "
            f"{controller.records_min} and {controller.records_max}; commits are to take at most "
            f"{config.latency_target_s * 1000:g} ms",
            {
                "records_limit": controller.count_limit,
                "records_min": controller.records_min,
                "records_max": controller.records_max,
                "bytes_limit": controller.bytes_limit,
                "latency_target_s": config.latency_target_s,
                "linger_s": config.linger_s,
                "pace_s": controller.pace_s,
                "record_bytes": controller.record_bytes,
            },
            tuple(self._told(*change) for change in self._changes),
        )

    def _told(
        self, at_us: int, decision: str, latency_s: float, fill: float, before: float, after: float
    ) -> Decision:
        target_s = self._config.latency_target_s
        if decision == "shrink":
            why = f"a commit took {latency_s * 1000:.1f} ms, above {target_s * 1000:g} ms"
        elif decision == "grow":
            why = f"the last group was full, and its commit took {latency_s * 1000:.1f} ms"
        else:
            why = f"the last group had {fill:.0%} of the records that it might have"
        return Decision(at_us, decision, why, round(before, 1), round(after, 1))

    def take(self, appends: Iterable[Append]) -> list[Group]:
        """Sort what came in into groups; those that are ready to go."""
        ready: list[Group] = []
        urgent: list[Group] = []
        for append in appends:
            self._records.value += append.count
            self._bytes.value += append.nbytes
            if append.batch is not None or len(append.records) > 1:
                reason = "batch" if append.batch is not None else "records"
                if append.lane is Lane.HIGH:
                    urgent.append(self._group([append], append.nbytes, reason))
                    continue
                ready += self._close(append.stream, "order")
                ready.append(self._group([append], append.nbytes, reason))
            elif append.lane is Lane.HIGH:
                urgent.append(self._group([append], append.nbytes, "lane"))
            else:
                ready += self._add(append)
        return urgent + ready

    def _add(self, append: Append) -> list[Group]:
        ready: list[Group] = []
        group = self._open.get(append.stream)
        if group is not None and group.nbytes + append.nbytes > self.controller.bytes_limit:
            ready = self._close(append.stream, "bytes")
            group = None
        if group is None:
            deadline = append.accepted_at + self._config.linger_s
            group = self._open[append.stream] = _Open([], 0, deadline)
        group.appends.append(append)
        group.nbytes += append.nbytes
        if len(group.appends) >= self.controller.count_limit:
            ready += self._close(append.stream, "count")
        return ready

    def due(self, now: float) -> list[Group]:
        """The open groups whose wait is over."""
        if not self._flow.in_flight and now >= self._paced_until:
            return self.close_all("idle")
        late = [stream for stream, group in self._open.items() if group.deadline <= now]
        return [group for stream in late for group in self._close(stream, "linger")]

    def close_all(self, reason: str) -> list[Group]:
        return [group for stream in list(self._open) for group in self._close(stream, reason)]

    @property
    def deadline(self) -> float:
        """When `due` is to be asked again, if nothing happens before."""
        if not self._open:
            return float("inf")
        first = min(group.deadline for group in self._open.values())
        return first if self._flow.in_flight else min(first, self._paced_until)

    @property
    def _paced_until(self) -> float:
        return self._closed_at + self.controller.pace_s

    def _close(self, stream: str, reason: str) -> list[Group]:
        group = self._open.pop(stream, None)
        if group is None:
            return []
        self.controller.closed(len(group.appends), group.nbytes)
        self._closed_at = trio.current_time()
        return [self._group(group.appends, group.nbytes, reason)]

    def _group(self, appends: list[Append], nbytes: int, reason: str) -> Group:
        self._closed[reason].value += 1
        traces = [trace for append in appends if append.traces for trace in append.traces]
        ticket = self._flow.enter(traces)
        return Group(appends[0].stream, appends, nbytes, reason, ticket)


def make(config: GroupConfig, context: StageContext) -> Stage:
    async def run(receive: Receiver[Append], send: Sender[Group]) -> None:
        ingest = _Ingest(config, context, receive)
        context.flow.on_done = ingest.answered
        with receive, send:
            while True:
                try:
                    appends = await receive.receive_all(until=ingest.deadline)
                except trio.EndOfChannel:
                    break
                for group in ingest.take(appends):
                    await send.send(group)
                for group in ingest.due(trio.current_time()):
                    await send.send(group)
            for group in ingest.close_all("drain"):
                await send.send(group)

    return run


STAGE = StagePlugin(name="group", place="ingest", config=GroupConfig, factory=make)
