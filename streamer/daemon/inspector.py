"""The documents that people are shown: overview, sessions, settings; `SPEC` is in PROTOCOL.md.

Rules: plain values; times in seconds and sizes in bytes, as names say. An overview is made at most
every half second, however many look.
"""

from __future__ import annotations

import os
import time
from functools import partial
from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamer import __version__
from streamer.config_origins import explain
from streamer.errors import StreamerError
from streamer.names import OWN_PREFIX
from streamer.observe.events import Events
from streamer.observe.taps import Taps
from streamer.observe.traces import Tracer
from streamer.pipeline.disk import Disk
from streamer.pipeline.runner import Pipeline
from streamer.pipeline.streams import Stream
from streamer.storage.files import Files
from streamer.storage.partition import LogState
from streamer.wire.frames import PROTOCOL_VERSION

if TYPE_CHECKING:
    from streamer.daemon.supervisor import Daemon

_AGAIN_S = 0.5
_SESSIONS_SHOWN = 50
_PROBES = 5
_PROBE_BYTES = 4096


class Inspector:
    """See `streamer.session.inspection.Inspected`."""

    def __init__(
        self, daemon: Daemon, events: Events, taps: Taps, tracer: Tracer, disk: Disk
    ) -> None:
        """`disk` runs probes, one at a time."""
        self.events = events
        self.taps = taps
        self.tracer = tracer
        self._daemon = daemon
        self._disk = disk
        self._made: dict[str, Any] = {}
        self._made_at = float("-inf")

    # -------------------------------------------------------------------------------- overview

    def overview(self) -> dict[str, Any]:
        """All of it at a glance; at most half a second old."""
        if trio.current_time() - self._made_at >= _AGAIN_S:
            self._made = self._overview()
            self._made_at = trio.current_time()
        return self._made

    def _overview(self) -> dict[str, Any]:
        daemon, sampler = self._daemon, self._daemon.sampler
        rates = sampler.rates()
        health = daemon.health()
        return {
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "pid": os.getpid(),
            "server_time_us": daemon.now_us(),
            "uptime_s": round(trio.current_time() - daemon.started_at, 3),
            "ready": health.ready,
            "health": {"ok": health.ok, "ready": health.ready, "reasons": list(health.reasons)},
            "listen": [str(address) for address in daemon.addresses],
            "http": daemon.http_address,
            "process": self._process(rates),
            "disk": {
                "path": daemon.data_path,
                "free_bytes": sampler.process.free_bytes,
                "total_bytes": sampler.process.total_bytes,
            },
            "rates": _plain(rates),
            "totals": _plain(sampler.totals()),
            "availability": round(sampler.availability, 6),
            "pipelines": [_pipeline(each, rates) for each in daemon.pipelines],
            "streams": [
                self._stream(stream, rates)
                for stream in (daemon.streams.all() if daemon.streams is not None else ())
                if not stream.name.startswith(OWN_PREFIX)
            ],
            "groups": sampler.groups,
            "sessions": self._sessions_shown(),
            "sla": daemon.sla.doc(),
        }

    def _process(self, rates: dict[str, float]) -> dict[str, Any]:
        seen = self._daemon.sampler.process
        return {
            "cpu_s": round(time.process_time(), 3),
            "cpu": round(rates.get("cpu_s", 0.0), 4),
            "rss_bytes": seen.rss_bytes,
            "threads": seen.threads,
            "fds": seen.fds,
            "fds_max": seen.fds_max,
        }

    def _stream(self, stream: Stream, rates: dict[str, float]) -> dict[str, Any]:
        partitions = stream.partitions
        return {
            "name": stream.name,
            "pipeline": self._daemon.pipeline_name(stream.name),
            "storage": stream.meta.storage,
            "partitions": len(partitions),
            "records": sum(p.high_water - p.log.first_offset for p in partitions),
            "bytes": sum(p.log.nbytes for p in partitions),
            "dropped": sum(p.log.dropped for p in partitions),
            "state": _worst([p.log.state for p in partitions]),
            "records_per_s": round(rates.get(f"{stream.name}:records", 0.0), 2),
        }

    def _sessions_shown(self) -> dict[str, Any]:
        sessions = self._daemon.sessions
        found = [] if sessions is None else sessions.all()
        # Only those are described: there may be ten thousand.
        busiest = nlargest(_SESSIONS_SHOWN, found, key=attrgetter("under_way_bytes", "bytes_in"))
        return {
            "count": len(found),
            "max": self._daemon.config.session.sessions,
            "shown": [{**each.view(), "subscribed": [], "member_of": []} for each in busiest],
        }

    # ------------------------------------------------------------------------------ the others

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions."""
        sessions = self._daemon.sessions
        return [] if sessions is None else [session.view() for session in sessions.all()]

    def history(self) -> dict[str, Any]:
        """Figures over time."""
        return self._daemon.sampler.history.doc()

    def config(self) -> list[dict[str, Any]]:
        """Every setting, and where it came from."""
        return explain(self._daemon.config)

    async def probe(self) -> dict[str, Any]:
        """How long a small write and its sync take, a few times over.

        Raises:
            StreamerError: the file could not be written.
        """
        daemon = self._daemon
        path = f"{daemon.data_path}/probe.tmp"
        try:
            times = await self._disk.run(partial(_probe, daemon.files, path))
        except OSError as error:
            raise StreamerError(f"{path}: {error.strerror or error}") from error
        return {"fsync_s": times, "time_us": daemon.now_us()}


def _pipeline(pipeline: Pipeline, rates: dict[str, float]) -> dict[str, Any]:
    name = pipeline.name

    def rate(what: str) -> float:
        return round(rates.get(f"{name}/{what}", 0.0), 2)

    return {
        "name": name,
        "state": pipeline.state.value,
        "streams": list(pipeline.config.streams),
        "last_error": pipeline.last_error,
        "oldest_s": round(pipeline.oldest_s, 3),
        "append": attrs.asdict(pipeline.append_latency.summary()),
        "rates": {what: rate(what) for what in ("records", "bytes", "batches")},
        "stages": [
            {
                "place": view.place,
                "stage": view.stage,
                "channel": attrs.asdict(view.channel),
                "items_per_s": rate(f"{view.place}/items"),
                "bytes_per_s": rate(f"{view.place}/bytes"),
                "queueing": attrs.asdict(view.queueing),
                "service": attrs.asdict(view.service),
                "detail": None if view.detail is None else view.detail.doc(),
            }
            for view in pipeline.views()
        ],
    }


def _plain(figures: dict[str, float]) -> dict[str, float]:
    """Those of the daemon as a whole: the others stand with what they belong to."""
    return {
        name: round(value, 2)
        for name, value in figures.items()
        if "/" not in name and ":" not in name and name != "cpu_s"
    }


def _worst(states: list[LogState]) -> str:
    for state in (LogState.STOPPED, LogState.DAMAGED):
        if state in states:
            return str(state.value)
    return "open"


def _probe(files: Files, path: str) -> list[float]:
    """In a thread."""
    times = []
    if files.exists(path):
        files.unlink(path)
    file = files.create(path)
    try:
        for number in range(_PROBES):
            began = time.perf_counter()
            file.write_at(number * _PROBE_BYTES, [bytes(_PROBE_BYTES)])
            file.sync()
            times.append(time.perf_counter() - began)
    finally:
        file.close()
        files.unlink(path)
    return times
