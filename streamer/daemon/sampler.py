"""Looks at the daemon once a second: rates, history, service levels, and what grows silently.

Rules: everything here is read from counters that others keep, so nothing is paid for on the way of
a record. A look at groups that takes long is taken less often.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamer.errors import StreamerError
from streamer.observe.history import History
from streamer.observe.recent import Recent
from streamer.observe.sla import ASKERS_CODES, Sample
from streamer.pipeline.disk import Disk
from streamer.pipeline.runner import Pipeline
from streamer.stats import Counter, Stats

if TYPE_CHECKING:
    from streamer.daemon.supervisor import Daemon

_EVERY_S = 1.0
#: Rates are told over so many seconds.
RATE_S = 10
#: What the system must be asked for is looked at so often.
_SLOW_EVERY_S = 10.0
_COST_SHARE = 0.05
#: Yet groups are looked at so often, at the least.
_GROUPS_EVERY_MAX_S = 10.0
#: A session that takes nothing for so long is said to be slow.
_SLOW_SESSION_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Errors of these codes are time-outs.
_TIMEOUTS = ("timed_out", "outcome_unknown")

#: Totals by what they are called in documents: the counters that make them up.
_TOTALS = {
    "records_in": "session_records_in",
    "bytes_in": "session_bytes_in",
    "bytes_out": "session_bytes_out",
    "records_acked": "persist_records",
    "errors": "answers_failed",
}
#: Totals that a second is judged by.
_OF_SAMPLES = ("faults", "answers", "appends")


@attrs.frozen
class Process:
    """What the system says of this process, and of the disk below the data."""

    cpu_s: float = 0.0
    rss_bytes: int = 0
    threads: int = 0
    fds: int = 0
    fds_max: int = 0
    free_bytes: int | None = None
    total_bytes: int | None = None


class Sampler:
    """Made by the daemon; `run` is its task."""

    def __init__(self, daemon: Daemon, own_pipeline: str, disk: Disk) -> None:
        """`disk` is where the system is asked."""
        self.history = History()
        self.process = Process()
        self.seconds = 0
        self.seconds_ok = 0
        self._ok = True
        #: Rows of the verb `groups`, as old as they may be.
        self.groups: list[dict[str, Any]] = []
        self._daemon = daemon
        self._own_pipeline = own_pipeline
        self._disk = disk
        self._looks: deque[tuple[float, dict[str, float]]] = deque(maxlen=RATE_S + 1)
        self._slow_since: dict[int, float] = {}
        self._recent: dict[Pipeline, Recent] = {}

    # ---------------------------------------------------------------------------------- totals

    def totals(self) -> dict[str, float]:
        """What was counted since the start, by name; of pipelines under `NAME/...`."""
        stats = self._daemon.stats
        found = {
            name: _sum(stats, counter, self._own_pipeline) for name, counter in _TOTALS.items()
        }
        found["records_out"] = _sum(stats, "deliver_records") + _sum(stats, "lease_records")
        acked = _sum(stats, "ack_answers", self._own_pipeline)
        found["answers"] = found["errors"] + acked
        found["appends"] = _sum(stats, "appends_failed") + acked
        found["faults"] = sum(
            counter.value
            for labels, counter in _counters(stats, "answers_failed")
            if labels.get("code") not in ASKERS_CODES
        )
        found["timeouts"] = sum(
            counter.value
            for labels, counter in _counters(stats, "answers_failed")
            if labels.get("code") in _TIMEOUTS
        )
        for kind in ("records", "bytes", "batches"):
            for labels, counter in _counters(stats, f"persist_{kind}"):
                found[f"{labels['pipeline']}/{kind}"] = counter.value
        for pipeline in self._daemon.pipelines:
            for place, channel in pipeline.channels():
                found[f"{pipeline.name}/{place}/items"] = channel.items_total
                found[f"{pipeline.name}/{place}/bytes"] = channel.bytes_total
        found["cpu_s"] = time.process_time()
        streams = self._daemon.streams
        for stream in streams.all() if streams is not None else ():
            found[f"{stream.name}:records"] = sum(p.high_water for p in stream.partitions)
        return found

    def rates(self) -> dict[str, float]:
        """What each total grew by a second, over the last `RATE_S` seconds."""
        if len(self._looks) < 2:
            return {}
        (then, before), (now, after) = self._looks[0], self._looks[-1]
        return _rates(before, after, now - then)

    @property
    def availability(self) -> float:
        """The share of seconds since the start in which all was well."""
        return self.seconds_ok / self.seconds if self.seconds else 1.0

    # ------------------------------------------------------------------------------------ task

    async def run(self) -> None:
        """Look, until cancelled."""
        self._recent = {each: Recent(each.append_latency) for each in self._served()}
        async with trio.open_nursery() as nursery:
            # Of a disk that hangs these wait for ever, and nobody waits for them.
            nursery.start_soon(self._keep_groups)
            nursery.start_soon(self._keep_process)
            while True:
                self._look()
                await trio.sleep(_EVERY_S)

    def _look(self) -> None:
        daemon, now = self._daemon, trio.current_time()
        # Seconds without a look (a stalled loop) are none in which all was well.
        self.seconds += max(1, round(now - self._looks[-1][0])) if self._looks else 1
        self._ok = daemon.health().ok
        self.seconds_ok += self._ok
        self._looks.append((now, self.totals()))
        if len(self._looks) > 1:
            (then, before), (_, after) = self._looks[-2], self._looks[-1]
            rates = _rates(before, after, now - then)
            append = self._append_s()
            self._note(rates, append or (0.0, 0.0))
            daemon.sla.tick(self._sample(rates, before, after, append[1] if append else None))
        daemon.events.flush()
        daemon.taps.expire()
        self._name_slow_sessions(now)

    def _served(self) -> list[Pipeline]:
        """The pipelines of the config."""
        return [each for each in self._daemon.pipelines if each.name != self._own_pipeline]

    def _append_s(self) -> tuple[float, float] | None:
        """Median and p99 of the appends answered since the last look, in the pipeline that is the
        slowest; and what waits for longer counts as it is."""
        found = []
        for pipeline in self._served():
            seen = self._recent[pipeline].look(50.0, 99.0)
            if seen is not None:
                found.append(tuple(seen))
            if pipeline.oldest_s > _EVERY_S:
                found.append((pipeline.oldest_s, pipeline.oldest_s))
        if not found:
            return None
        return max(p50 for p50, _ in found), max(p99 for _, p99 in found)

    def _sample(
        self,
        rates: Mapping[str, float],
        before: Mapping[str, float],
        after: Mapping[str, float],
        p99_s: float | None,
    ) -> Sample:
        grown = {name: int(after[name] - before[name]) for name in _OF_SAMPLES}
        # One that is paused waits for a person, who knows.
        at_work = [group for group in self.groups if not group.get("paused")]
        ages = [group.get("oldest_age_s") or 0.0 for group in at_work]
        return Sample(
            append_p99_s=p99_s,
            records_per_s=rates["records_acked"],
            errors=grown["faults"],
            answers=grown["answers"],
            healthy=self._ok,
            lag_age_s=max(ages, default=None),
            # Of appends alone: a question that is refused sends nothing.
            pending=grown["appends"] > 0 or any(each.oldest_s for each in self._served()),
        )

    def _note(self, rates: Mapping[str, float], append: tuple[float, float]) -> None:
        """Put one second into the history."""
        values = {name: rates.get(name, 0.0) for name in (*_TOTALS, "records_out", "timeouts")}
        values["append_p50_s"], values["append_p99_s"] = append
        values["cpu"] = rates.get("cpu_s", 0.0)
        values["rss_bytes"] = self.process.rss_bytes
        # The rows are a plugin's, who may leave something out.
        values["lag_records"] = sum(group.get("lag") or 0 for group in self.groups)
        values["in_flight"] = sum(group.get("in_flight") or 0 for group in self.groups)
        for pipeline in self._served():
            for place, channel in pipeline.channels():
                share = max(channel.items / channel.items_max, channel.bytes / channel.bytes_max)
                values[f"fill.{pipeline.name}.{place}"] = share
        self.history.add(self._daemon.now_us(), values)

    async def _keep_groups(self) -> None:
        while True:
            began = time.perf_counter()
            deliver = self._daemon.deliver
            try:
                self.groups = await deliver.ask("groups", {}) if deliver is not None else []
            except StreamerError:
                # They are down, which health says.
                self.groups = []
            took_s = time.perf_counter() - began
            await trio.sleep(min(max(_EVERY_S, took_s / _COST_SHARE), _GROUPS_EVERY_MAX_S))

    async def _keep_process(self) -> None:
        while True:
            self.process = await self._disk.run(self._read_process)
            await trio.sleep(_SLOW_EVERY_S)

    def _read_process(self) -> Process:
        """In a thread: what the system says."""
        import resource

        free_bytes = total_bytes = None
        with contextlib.suppress(OSError):
            free_bytes, total_bytes = self._daemon.files.space(self._daemon.data_path)
        rss_bytes = fds = 0
        with contextlib.suppress(OSError), open("/proc/self/statm", "rb") as file:
            rss_bytes = int(file.read().split()[1]) * _PAGE_BYTES
        with contextlib.suppress(OSError):
            fds = len(os.listdir("/proc/self/fd"))
        return Process(
            time.process_time(),
            rss_bytes,
            threading.active_count(),
            fds,
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            free_bytes,
            total_bytes,
        )

    def _name_slow_sessions(self, now: float) -> None:
        sessions = self._daemon.sessions
        slow = {each.number: each for each in (sessions.all() if sessions else ()) if each.slow}
        self._slow_since = {
            number: since for number, since in self._slow_since.items() if number in slow
        }
        for number, session in slow.items():
            since = self._slow_since.setdefault(number, now)
            if since < now - _SLOW_SESSION_S:
                # Said once: it stays in the table with a time that never comes again.
                self._slow_since[number] = float("inf")
                self._daemon.events.emit(
                    "session_slow",
                    f"session {number} ({session.name or 'no name'}, {session.peer}) takes less "
                    "than there is for it",
                    severity="warning",
                    session=number,
                    peer=session.peer,
                )


def _counters(stats: Stats, name: str) -> list[tuple[dict[str, str], Counter]]:
    return [(labels, value) for labels, value in stats.family(name) if isinstance(value, Counter)]


def _sum(stats: Stats, name: str, without: str = "") -> float:
    """The total of a name, less what belongs to the pipeline `without`."""
    return sum(
        counter.value
        for labels, counter in _counters(stats, name)
        if labels.get("pipeline") != without or not without
    )


def _rates(
    before: Mapping[str, float], after: Mapping[str, float], seconds: float
) -> dict[str, float]:
    """A total that fell belongs to something new: it counts from 0."""
    found = {}
    for name, value in after.items():
        was = before.get(name, 0.0)
        found[name] = (value - was if value >= was else value) / max(seconds, 1e-6)
    return found
