"""`/varz`: everything that is counted, as one JSON document."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamer import __version__
from streamer.stats import Counter, Gauge, Latency

if TYPE_CHECKING:
    from streamer.daemon.supervisor import Daemon


def collect_varz(daemon: Daemon) -> dict[str, Any]:
    """A snapshot. Plain values only; sizes in bytes, times in seconds, as the names say."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(trio.current_time() - daemon.started_at, 3),
        "ready": daemon.ready,
        "listen": [str(address) for address in daemon.addresses],
        "connections": len(daemon.sessions) if daemon.sessions is not None else 0,
        "pipelines": [
            {
                "name": pipeline.name,
                "state": pipeline.state.value,
                "oldest_s": round(pipeline.oldest_s, 3),
                "stages": {
                    view.place: {"stage": view.stage, "queue": attrs.asdict(view.channel)}
                    for view in pipeline.views()
                },
            }
            for pipeline in daemon.pipelines
        ],
        "streams": {
            stream.name: {
                "storage": stream.meta.storage,
                "partitions": len(stream.partitions),
                "records": sum(p.high_water - p.log.first_offset for p in stream.partitions),
                "bytes": sum(p.log.nbytes for p in stream.partitions),
                "dropped": sum(p.log.dropped for p in stream.partitions),
            }
            for stream in (daemon.streams.all() if daemon.streams is not None else ())
        },
        "groups": daemon.deliver.varz() if daemon.deliver is not None else None,
        "rates": daemon.inspector.overview()["rates"],
        "process": daemon.inspector.overview()["process"],
        "availability": round(daemon.sampler.availability, 6),
        "sla": daemon.sla.doc(),
        "metrics": _metrics(daemon),
    }


def _metrics(daemon: Daemon) -> dict[str, Any]:
    """Counters, gauges and latencies by name; with labels as a list."""
    found: dict[str, Any] = {}
    for metric in daemon.stats.metrics():
        shown = _shown(metric.value)
        if shown is None:
            continue
        if metric.labels:
            found.setdefault(metric.name, []).append({**metric.labels, "value": shown})
        else:
            found[metric.name] = shown
    return found


def _shown(value: object) -> Any:
    if isinstance(value, Counter):
        return value.value
    if isinstance(value, Gauge):
        try:
            found = value.read()
        except Exception:
            # A plugin's gauge may fail; what it fails is its own figure.
            return None
        # What is not known (yet) is NaN to Prometheus, which JSON has not.
        return found if math.isfinite(found) else None
    if isinstance(value, Latency):
        return {"total": value.count, **attrs.asdict(value.summary())}
    return None
