"""Checks of what the daemon stands on: disk, clock, memory, descriptors, and the time they take."""

from __future__ import annotations

import statistics
from typing import Any

from streamer_tools import show
from streamer_tools.doctor.documents import Documents
from streamer_tools.doctor.findings import Finding, Level
from streamer_tools.doctor.thresholds import Threshold, Thresholds, percent, span


def unknown(documents: Documents, verb: str = "overview") -> Finding:
    """The daemon did not say."""
    return Finding(Level.UNKNOWN, documents.why_not(verb))


def check_disk(documents: Documents, limits: Thresholds) -> Finding:
    """How much of the disk below the data is free."""
    free, total = documents.at("disk", "free_bytes"), documents.at("disk", "total_bytes")
    if free is None or not total:
        return unknown(documents)
    share = free / total
    level = limits["disk"].level(share)
    advice = (
        "give it room, or keep less: streams.retention_bytes and retention_s; a full disk refuses "
        "appends and loses nothing"
    )
    return Finding(
        level,
        f"{show.size(free)} of {show.size(total)} is free ({percent(share)}) at "
        f"{documents.at('disk', 'path') or 'the data directory'}",
        advice if level else "",
        (limits["disk"].figure("disk_free", share),),
    )


def check_fsync(documents: Documents, limits: Thresholds) -> Finding:
    """How long a small write and its sync take just now."""
    if documents.probe is None:
        reason = documents.why_not("probe")
        if "probe" in documents.late and documents.overview is not None:
            return Finding(
                Level.CRITICAL,
                f"writing and syncing 4 KiB: {reason}",
                "the disk hangs: see the system's log (`dmesg`), and what else uses it",
            )
        return Finding(Level.UNKNOWN, reason)
    times = documents.probe.get("fsync_s")
    if not times:
        return Finding(Level.UNKNOWN, "the daemon measured nothing")
    middle = statistics.median(times)
    level = limits["fsync"].level(middle)
    return Finding(
        level,
        f"a sync takes {span(middle)}, the slowest of {len(times)} took {span(max(times))}",
        "the disk is slow or busy: every ack waits for it (`iostat -x`)" if level else "",
        (limits["fsync"].figure("fsync", middle),),
    )


def check_commit(documents: Documents, limits: Thresholds) -> Finding:
    """The p99 of persist, in the last minute or two, of the slowest pipeline."""
    found = []
    for pipeline in documents.rows("pipelines"):
        for stage in pipeline.get("stages") or []:
            if stage.get("place") == "persist":
                found.append((pipeline.get("name"), stage.get("service") or {}))
    return _latency(documents, limits, "commit", "to become durable takes", found)


def check_append(documents: Documents, limits: Thresholds) -> Finding:
    """The p99 from taking in to the ack, in the last minute or two, of the slowest pipeline."""
    pipelines = documents.rows("pipelines")
    found = [(each.get("name"), each.get("append") or {}) for each in pipelines]
    return _latency(documents, limits, "append", "from taking in to the ack takes", found)


def _latency(
    documents: Documents, limits: Thresholds, name: str, what: str, found: list[tuple[Any, Any]]
) -> Finding:
    if not found:
        return unknown(documents)
    told = [(doc["p99_s"], pipeline) for pipeline, doc in found if doc.get("count")]
    if not told:
        known = all("count" in doc for _, doc in found)
        return Finding(Level.OK, "nothing was appended lately") if known else unknown(documents)
    worst_s, pipeline = max(told, key=lambda each: each[0])
    level = limits[name].level(worst_s)
    advice = _slowest(documents, str(pipeline)) if level else ""
    return Finding(
        level,
        f"{what} {span(worst_s)} (p99) in pipeline {pipeline}",
        advice,
        (limits[name].figure(f"{name}_p99", worst_s),),
    )


def _slowest(documents: Documents, name: str) -> str:
    """Where in a pipeline the time goes."""
    places = []
    for pipeline in documents.rows("pipelines"):
        for stage in pipeline.get("stages") or [] if pipeline.get("name") == name else []:
            for kind in ("queueing", "service"):
                seconds = (stage.get(kind) or {}).get("p99_s")
                if seconds is not None:
                    places.append((seconds, f"{kind} of {stage.get('place')}"))
    if not places:
        return "`streamer top` shows where the time goes"
    seconds, place = max(places)
    return f"most of it is {place} ({span(seconds)}); `streamer top` shows it live"


def check_clock(documents: Documents, limits: Thresholds) -> Finding:
    """The daemon's wall clock against ours."""
    off_s = documents.clock_off_s
    if off_s is None:
        return unknown(documents, "probe")
    level = limits["clock"].level(abs(off_s))
    if abs(off_s) <= max(documents.clock_error_s, 0.001):
        text = "the daemon's clock is as ours"
    else:
        text = f"the daemon's clock is {span(abs(off_s))} {'ahead' if off_s > 0 else 'behind'}"
    return Finding(
        level,
        text,
        "set both by NTP: timestamps, retention and delays go by it" if level else "",
        (limits["clock"].figure("clock_off", abs(off_s)),),
    )


def check_fds(documents: Documents, limits: Thresholds) -> Finding:
    """File descriptors against their limit."""
    return _used(
        documents,
        limits["fds"],
        ("process", "fds"),
        ("process", "fds_max"),
        "file descriptors",
        "raise LimitNOFILE of the service: each session and each open segment takes one",
    )


def check_sessions(documents: Documents, limits: Thresholds) -> Finding:
    """Sessions against their limit."""
    return _used(
        documents,
        limits["sessions"],
        ("sessions", "count"),
        ("sessions", "max"),
        "sessions",
        "raise session.sessions, or see who has so many: `streamer top`",
    )


def _used(
    documents: Documents,
    threshold: Threshold,
    used_at: tuple[str, str],
    most_at: tuple[str, str],
    what: str,
    advice: str,
) -> Finding:
    used, most = documents.at(*used_at), documents.at(*most_at)
    if used is None or not most:
        return unknown(documents)
    # A limit of the system may be "none", which is a number below 0.
    share = used / most if most > 0 else 0.0
    level = threshold.level(share)
    of = f" of {most:,}" if most > 0 else ", without a limit"
    return Finding(
        level,
        f"{used:,}{of} {what}",
        advice if level else "",
        (threshold.figure(what.replace(" ", "_"), share),),
    )


def check_memory(documents: Documents, limits: Thresholds) -> Finding:
    """Resident memory."""
    rss = documents.at("process", "rss_bytes")
    if not rss:
        return unknown(documents)
    level = limits["memory"].level(rss)
    return Finding(
        level,
        f"{show.size(rss)} of memory",
        "session.budget_bytes, the channels' bytes and streams in memory bound it" if level else "",
        (limits["memory"].figure("memory", rss),),
    )
