"""Checks of what flows: channels, partitions, groups, dead letters, slow sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamer_tools.doctor.documents import Documents
from streamer_tools.doctor.findings import Finding, Level, worst
from streamer_tools.doctor.machine import unknown
from streamer_tools.doctor.thresholds import Thresholds, percent, span


def counted(number: int, what: str) -> str:
    """`1 group`, `2,000 groups`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def check_channels(documents: Documents, limits: Thresholds) -> Finding:
    """Channels that are full, and pipelines in which something waits for too long."""
    channels = list(_channels(documents))
    if not channels:
        return unknown(documents)
    fill, fullest = max(channels)
    ages = [(each.get("oldest_s") or 0.0, each.get("name")) for each in documents.rows("pipelines")]
    oldest_s, stuck = max(ages)
    full, old = limits["fill"].level(fill), limits["oldest"].level(oldest_s)
    level = worst((full, old))
    text, advice = [f"the fullest is {fullest} ({percent(fill)})"], []
    if old:
        text.insert(0, f"an append to pipeline {stuck} waits for {span(oldest_s)}")
        advice.append("`streamer queues` shows in front of which stage")
    if full:
        advice.append(f"{fullest.partition('/')[2]} is slower than what is before it")
    figures = (
        limits["fill"].figure("channel_fill", fill),
        limits["oldest"].figure("oldest_append", oldest_s),
    )
    return Finding(level, "; ".join(text), "; ".join(advice), figures)


def _channels(documents: Documents) -> Iterator[tuple[float, str]]:
    """How full each is (the larger of items and bytes), and its name."""
    for pipeline in documents.rows("pipelines"):
        for stage in pipeline.get("stages") or []:
            channel = stage.get("channel") or {}
            shares = [
                channel[kind] / channel[f"{kind}_max"]
                for kind in ("items", "bytes")
                if channel.get(kind) is not None and channel.get(f"{kind}_max")
            ]
            if shares:
                yield max(shares), f"{pipeline.get('name')}/{stage.get('place')}"


def check_storage(documents: Documents, _: Thresholds) -> Finding:
    """Streams whose partitions take no writes."""
    if documents.at("streams") is None:
        return unknown(documents)
    streams = documents.rows("streams")
    bad = [each for each in streams if each.get("state") in ("damaged", "stopped")]
    if not bad:
        return Finding(
            Level.OK, f"{counted(len(streams), 'stream')}, none of them damaged or stopped"
        )
    named = ", ".join(f"{each.get('name')} is {each.get('state')}" for each in bad[:5])
    more = f", and {len(bad) - 5} more" if len(bad) > 5 else ""
    stopped = any(each.get("state") == "stopped" for each in bad)
    advice = (
        "a failed write stopped it: restart the daemon once the disk is well"
        if stopped
        else "`streamer verify DIR` says what is damaged; restore it from a copy"
    )
    return Finding(Level.CRITICAL, named + more, advice)


def check_lag(documents: Documents, limits: Thresholds) -> Finding:
    """The group that is furthest behind, of those that are not paused."""
    if documents.at("groups") is None:
        return unknown(documents)
    groups = documents.rows("groups")
    at_work = [each for each in groups if not each.get("paused")]
    paused = len(groups) - len(at_work)
    aside = f" ({paused} paused)" if paused else ""
    if not at_work:
        return Finding(Level.OK, f"no groups at work{aside}")
    oldest = max(at_work, key=_age)
    longest = max(at_work, key=_lag)
    by_age, by_count = limits["lag-age"].level(_age(oldest)), limits["lag"].level(_lag(longest))
    level = worst((by_age, by_count))
    shown = oldest if by_age is level else longest
    if not level and not _lag(longest):
        text = f"{counted(len(at_work), 'group')}, with all done{aside}"
    else:
        text = (
            f"group {shown.get('group')} of {shown.get('stream')} is "
            f"{counted(_lag(shown), 'record')} behind, the oldest waits for {span(_age(shown))}"
            f"{aside}"
        )
    figures = (
        limits["lag-age"].figure("lag_age", _age(oldest)),
        limits["lag"].figure("lag_records", _lag(longest)),
    )
    return Finding(level, text, _lag_advice(shown) if level else "", figures)


def _lag_advice(group: Mapping[str, Any]) -> str:
    if group.get("members") == 0:
        return "it has no member: start its consumers"
    return f"`streamer group show {group.get('stream')} {group.get('group')}` shows who holds what"


def _age(group: Mapping[str, Any]) -> float:
    return float(group.get("oldest_age_s") or 0.0)


def _lag(group: Mapping[str, Any]) -> int:
    return int(group.get("lag") or 0)


def check_dead(documents: Documents, limits: Thresholds) -> Finding:
    """Records that died since the daemon began."""
    if documents.at("groups") is None:
        return unknown(documents)
    groups = documents.rows("groups")
    dead = sum(int(each.get("dead") or 0) for each in groups)
    figures = (limits["dead"].figure("dead", dead),)
    if not dead:
        return Finding(Level.OK, "no dead letters since the daemon began", "", figures)
    most = max(groups, key=lambda each: int(each.get("dead") or 0))
    return Finding(
        limits["dead"].level(dead),
        f"{counted(dead, 'dead letter')} since the daemon began, most of them of group "
        f"{most.get('group')} of {most.get('stream')}",
        f"`streamer dlq list {most.get('stream')}` says why",
        figures,
    )


def check_slow(documents: Documents, limits: Thresholds) -> Finding:
    """Sessions that take less than there is for them."""
    sessions = documents.sessions
    if sessions is None:
        # The overview shows those with most under way, and a slow one is among them.
        sessions = documents.at("sessions", "shown")
    if sessions is None:
        return unknown(documents, "sessions")
    slow = [each for each in sessions if each.get("slow")]
    figures = (limits["slow"].figure("slow_sessions", len(slow)),)
    if not slow:
        return Finding(Level.OK, "no slow sessions", "", figures)
    first = slow[0]
    more = f", and {len(slow) - 1} more" if len(slow) > 1 else ""
    return Finding(
        limits["slow"].level(len(slow)),
        f"session {first.get('session')} ({first.get('name') or 'no name'}, {first.get('peer')}) "
        f"takes less than there is for it{more}",
        "its program reads too slowly; what it does not take stays in the log",
        figures,
    )
