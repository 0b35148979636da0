"""The checks: each looks at the documents and says one thing, with what to do about it.

Rules: a check is a function of the documents and the thresholds, and asks nothing itself. What it
is not told it does not know (UNKNOWN), and never takes for well. Advice names the next command, or
the setting. `CHECKS` is the order in which they are shown: first what makes the rest worthless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamer_tools.doctor import flow, machine
from streamer_tools.doctor.documents import Documents
from streamer_tools.doctor.findings import Finding, Level, Result
from streamer_tools.doctor.thresholds import Thresholds, span

Check = Callable[[Documents, Thresholds], Finding]


def check_daemon(documents: Documents, limits: Thresholds) -> Finding:
    """Whether it can be reached, and how long it takes to answer."""
    if documents.unreached:
        return Finding(
            Level.CRITICAL,
            documents.unreached,
            "is it running? `systemctl status streamer`, and its log",
        )
    if documents.ping_s is None:
        return Finding(
            Level.CRITICAL,
            f"{documents.url} lets us in and does not answer",
            "its event loop is stuck or overloaded: see its log and its processor time",
        )
    level = limits["ping"].level(documents.ping_s)
    advice = "it is busy, or the way to it is long: `streamer top`" if level else ""
    return Finding(
        level,
        f"{documents.server} at {documents.url} answers in {span(documents.ping_s)}",
        advice,
        (limits["ping"].figure("ping", documents.ping_s),),
    )


def check_version(documents: Documents, _: Thresholds) -> Finding:
    """Whether the daemon is of this tool's version."""
    server = documents.at("version") or documents.server.removeprefix("streamer/")
    if server == documents.version:
        return Finding(Level.OK, f"the daemon and this tool are {server}")
    return Finding(
        Level.WARNING,
        f"the daemon is {server}, this tool is {documents.version}",
        "use the tool of the daemon's version, or restart the daemon after its upgrade",
    )


def check_health(documents: Documents, _: Thresholds) -> Finding:
    """What the daemon says of itself."""
    ok, ready = documents.at("health", "ok"), documents.at("health", "ready")
    if "overview" in documents.late:
        return Finding(
            Level.CRITICAL,
            f"asked how it is, it gave {documents.why_not('overview')}",
            "its event loop is stuck or overloaded: see its log and its processor time",
        )
    if ok is None:
        return Finding(Level.UNKNOWN, documents.why_not("overview"))
    reasons = "; ".join(map(str, documents.at("health", "reasons") or []))
    if not ok:
        return Finding(Level.CRITICAL, reasons or "not healthy", "see its log: `streamer events`")
    if not ready:
        return Finding(
            Level.WARNING, f"healthy, and takes no clients: {reasons}", "wait, or see its log"
        )
    if reasons:
        return Finding(Level.WARNING, f"healthy, but {reasons}", "see its log")
    up_s = documents.at("uptime_s")
    since = "" if up_s is None else f", up for {span(up_s)}"
    return Finding(Level.OK, f"healthy and ready{since}")


def check_sla(documents: Documents, _: Thresholds) -> Finding:
    """Whether the service levels are met."""
    if documents.overview is None or "sla" not in documents.overview:
        return Finding(Level.UNKNOWN, documents.why_not("overview"))
    objectives = documents.at("sla", "objectives")
    if not objectives:
        return Finding(Level.OK, "no objectives are configured ([sla])")
    missed = [each for each in objectives if each.get("met") is False]
    now = [each for each in objectives if each.get("ok") is False]
    if missed:
        return Finding(
            Level.CRITICAL, f"missed: {_names(missed)}", "`streamer sla` says by how much"
        )
    burning = [each for each in objectives if (each.get("budget_left") or 0) < 0.25]
    if now or burning:
        text = [f"at this moment not kept: {_names(now)}"] if now else []
        text += [f"less than a quarter of the budget is left: {_names(burning)}"] if burning else []
        return Finding(Level.WARNING, "; ".join(text), "`streamer sla` says by how much")
    one = len(objectives) == 1
    said = "1 objective, and it is met" if one else f"{len(objectives)} objectives, all of them met"
    return Finding(Level.OK, said)


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(each.get("name")) for each in rows)


#: name: the check, in the order in which they are shown.
CHECKS: dict[str, Check] = {
    "daemon": check_daemon,
    "version": check_version,
    "health": check_health,
    "disk": machine.check_disk,
    "fsync": machine.check_fsync,
    "commit": machine.check_commit,
    "append": machine.check_append,
    "clock": machine.check_clock,
    "fds": machine.check_fds,
    "memory": machine.check_memory,
    "sessions": machine.check_sessions,
    "slow": flow.check_slow,
    "channels": flow.check_channels,
    "storage": flow.check_storage,
    "lag": flow.check_lag,
    "dead": flow.check_dead,
    "sla": check_sla,
}


def examine(
    documents: Documents, limits: Thresholds, names: Sequence[str] = tuple(CHECKS)
) -> list[Result]:
    """Every check of `names`; of a daemon that was not reached, only that."""
    if documents.unreached or not documents.server:
        return [Result("daemon", check_daemon(documents, limits))]
    return [Result(name, CHECKS[name](documents, limits)) for name in names]
