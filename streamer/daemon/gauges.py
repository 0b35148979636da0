"""What `/metrics` says of the daemon as a whole: health, room on the disk, limits, what is down.

Rules: read at the scrape, from what is kept anyway; nothing here asks the system. What is not known
yet is NaN, as 0 would be an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from streamer.pipeline.runner import PipelineState
from streamer.storage.partition import LogState

if TYPE_CHECKING:
    from streamer.daemon.supervisor import Daemon


def register_gauges(daemon: Daemon) -> None:
    """Show them in the daemon's stats; its parts may be made later."""
    gauges: dict[str, tuple[str, Callable[[], float | None]]] = {
        "uptime_seconds": ("since the start", lambda: trio.current_time() - daemon.started_at),
        "healthy": ("1 while alive and making progress", lambda: daemon.health().ok),
        "ready": ("1 while new clients are welcome", lambda: daemon.health().ready),
        "availability": (
            "share of seconds since the start in which health was ok",
            lambda: daemon.sampler.availability,
        ),
        "disk_free_bytes": (
            "free where the data is",
            lambda: daemon.sampler.process.free_bytes,
        ),
        "disk_total_bytes": (
            "size of the disk where the data is",
            lambda: daemon.sampler.process.total_bytes,
        ),
        "sessions_max": ("sessions allowed", lambda: daemon.config.session.sessions),
        "sessions_slow": ("sessions that take less than there is", lambda: _slow(daemon)),
    }
    for name, (help, read) in gauges.items():
        daemon.stats.gauge(name, help, _known(read))
    for state in (LogState.DAMAGED, LogState.STOPPED):
        daemon.stats.gauge(
            "partitions_down",
            "partitions that take no writes",
            _partitions(daemon, state),
            state=state.value,
        )
    for pipeline in daemon.config.pipelines:
        daemon.stats.gauge(
            "pipeline_running", "1 while it runs", _runs(daemon, pipeline.name),
            pipeline=pipeline.name,
        )  # fmt: skip
        daemon.stats.gauge(
            "pipeline_oldest_seconds", "the oldest append without an answer",
            _oldest_s(daemon, pipeline.name), pipeline=pipeline.name,
        )  # fmt: skip


def _known(read: Callable[[], float | None]) -> Callable[[], float]:
    def known() -> float:
        found = read()
        return math.nan if found is None else float(found)

    return known


def _slow(daemon: Daemon) -> int:
    sessions = daemon.sessions
    return sum(session.slow for session in sessions.all()) if sessions is not None else 0


def _partitions(daemon: Daemon, state: LogState) -> Callable[[], float]:
    def count() -> float:
        streams = daemon.streams.all() if daemon.streams is not None else []
        return sum(p.log.state is state for stream in streams for p in stream.partitions)

    return count


def _runs(daemon: Daemon, name: str) -> Callable[[], float]:
    return lambda: any(
        each.name == name and each.state is PipelineState.RUNNING for each in daemon.pipelines
    )


def _oldest_s(daemon: Daemon, name: str) -> Callable[[], float]:
    return lambda: max((p.oldest_s for p in daemon.pipelines if p.name == name), default=0.0)
