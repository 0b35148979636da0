"""Each check on documents: what it says of well, of wrong, and of what it is not told."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from streamer_tools.doctor.checks import CHECKS, examine
from streamer_tools.doctor.documents import Documents
from streamer_tools.doctor.findings import Finding, Level
from streamer_tools.doctor.thresholds import DEFAULTS, changed

LATENCY = {"count": 10, "p50_s": 0.001, "p95_s": 0.002, "p99_s": 0.003, "max_s": 0.004}
STAGE: dict[str, Any] = {
    "place": "persist", "stage": "log", "queueing": LATENCY, "service": LATENCY,
    "channel": {"items": 1, "items_max": 100, "bytes": 10, "bytes_max": 100},
}  # fmt: skip
WELL: dict[str, Any] = {
    "version": "0.1.0", "uptime_s": 3600.0, "ready": True,
    "health": {"ok": True, "ready": True, "reasons": []},
    "process": {"rss_bytes": 100 << 20, "fds": 20, "fds_max": 1024},
    "disk": {"path": "/data", "free_bytes": 50 << 30, "total_bytes": 100 << 30},
    "pipelines": [{"name": "default", "oldest_s": 0.0, "append": LATENCY, "stages": [STAGE]}],
    "streams": [{"name": "orders", "state": "open"}],
    "groups": [
        {"stream": "orders", "group": "billing", "lag": 0, "oldest_age_s": None, "members": 1,
         "dead": 0, "paused": False}
    ],
    "sessions": {"count": 1, "max": 1000, "shown": []},
    "sla": None,
}  # fmt: skip


def documents(**changes: Any) -> Documents:
    """Those of a daemon that is well, with a part of the overview replaced."""
    found = Documents("ws://x:1", "0.1.0", server="streamer/0.1.0", connect_s=0.01, ping_s=0.001)
    found.overview = copy.deepcopy(WELL) | changes
    found.sessions = []
    found.probe = {"fsync_s": [0.001, 0.002, 0.001, 0.001, 0.2], "time_us": 0}
    found.clock_off_s = 0.0
    return found


def check(name: str, found: Documents, *warnings: str) -> Finding:
    return CHECKS[name](found, changed(warnings, ()))


def pipeline(**changes: Any) -> list[dict[str, Any]]:
    return [copy.deepcopy(WELL["pipelines"][0]) | changes]


def group(**changes: Any) -> dict[str, Any]:
    return WELL["groups"][0] | changes


def test_all_is_well() -> None:
    results = examine(documents(), DEFAULTS)
    assert [result.name for result in results] == list(CHECKS)
    assert {result.finding.level for result in results} == {Level.OK}
    assert not any(result.finding.advice for result in results)


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in ("daemon", "version")])
def test_what_is_not_told_is_unknown(name: str) -> None:
    bare = Documents("ws://x:1", "0.1.0", server="streamer/0.1.0", ping_s=0.001)
    bare.failed = dict.fromkeys(("overview", "sessions", "probe"), "does not know it")
    finding = check(name, bare)
    assert (finding.level, finding.text) == (Level.UNKNOWN, "does not know it")
    bare.overview = {}
    assert check(name, bare).level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("name", "changes", "level", "text"),
    [
        ("version", {"version": "0.0.9"}, Level.WARNING, "the daemon is 0.0.9, this tool is 0.1.0"),
        ("health", {"health": {"ok": False, "reasons": ["stuck"]}}, Level.CRITICAL, "stuck"),
        (
            "health",
            {"health": {"ok": True, "ready": False, "reasons": ["draining"]}},
            Level.WARNING,
            "takes no clients: draining",
        ),
        (
            "health",
            {"health": {"ok": True, "ready": True, "reasons": ["damaged"]}},
            Level.WARNING,
            "but damaged",
        ),
        (
            "disk",
            {"disk": {"free_bytes": 8 << 30, "total_bytes": 100 << 30}},
            Level.WARNING,
            "8 GiB of 100 GiB is free (8.0 %)",
        ),
        (
            "disk",
            {"disk": {"free_bytes": 0, "total_bytes": 100}},
            Level.CRITICAL,
            "0 B of 100 B is free (0.0 %)",
        ),
        (
            "append",
            {"pipelines": pipeline(append=LATENCY | {"p99_s": 0.7})},
            Level.WARNING,
            "700 ms (p99) in pipeline default",
        ),
        (
            "commit",
            {"pipelines": pipeline(stages=[STAGE | {"service": LATENCY | {"p99_s": 3.0}}])},
            Level.CRITICAL,
            "to become durable takes 3.0 s",
        ),
        (
            "append",
            {"pipelines": pipeline(append=LATENCY | {"count": 0})},
            Level.OK,
            "nothing was appended lately",
        ),
        ("fds", {"process": {"fds": 900, "fds_max": 1024}}, Level.WARNING, "900 of 1,024"),
        ("fds", {"process": {"fds": 900, "fds_max": -1}}, Level.OK, "900, without a limit"),
        ("sessions", {"sessions": {"count": 960, "max": 1000}}, Level.CRITICAL, "960 of 1,000"),
        ("memory", {"process": {"rss_bytes": 3 << 30}}, Level.WARNING, "3 GiB"),
        (
            "storage",
            {"streams": [{"name": "a", "state": "damaged"}, {"name": "b", "state": "stopped"}]},
            Level.CRITICAL,
            "a is damaged, b is stopped",
        ),
        (
            "lag",
            {"groups": [group(lag=5, oldest_age_s=301.0, members=0)]},
            Level.WARNING,
            "group billing of orders is 5 records behind, the oldest waits for 5 min",
        ),
        ("lag", {"groups": [group(lag=5, oldest_age_s=9e9, paused=True)]}, Level.OK, "(1 paused)"),
        ("lag", {"groups": []}, Level.OK, "no groups at work"),
        ("dead", {"groups": [group(dead=1)]}, Level.WARNING, "1 dead letter since"),
        (
            "sla",
            {"sla": {"objectives": [{"name": "a", "met": True, "budget_left": 0.9}]}},
            Level.OK,
            "1 objective, and it is met",
        ),
        (
            "sla",
            {"sla": {"objectives": [{"name": "a", "met": True, "budget_left": 0.1, "ok": False}]}},
            Level.WARNING,
            "at this moment not kept: a; less than a quarter of the budget is left: a",
        ),
        (
            "sla",
            {"sla": {"objectives": [{"name": "a", "met": False}]}},
            Level.CRITICAL,
            "missed: a",
        ),
    ],
)
def test_what_a_check_says(name: str, changes: dict[str, Any], level: Level, text: str) -> None:
    finding = check(name, documents(**changes))
    assert (finding.level, text in finding.text) == (level, True), finding
    # Who is told of something wrong is told what to do.
    assert bool(finding.advice) == (level is not Level.OK)


def test_a_daemon_that_lets_in_and_does_not_answer() -> None:
    found = documents()
    found.ping_s = None
    assert check("daemon", found).level is Level.CRITICAL
    found.ping_s = 0.6
    assert check("daemon", found).level is Level.WARNING


def test_a_daemon_that_stops_answering_is_not_healthy() -> None:
    found = documents()
    found.overview, found.failed["overview"] = None, "no answer within 10 s"
    found.late = {"overview"}
    finding = check("health", found)
    assert (finding.level, finding.text) == (
        Level.CRITICAL,
        "asked how it is, it gave no answer within 10 s",
    )


def test_of_a_daemon_that_is_not_there_nothing_else_is_told() -> None:
    found = Documents("ws://x:1", "0.1.0", unreached="no daemon answers at ws://x:1")
    [result] = examine(found, DEFAULTS)
    assert (result.name, result.finding.level) == ("daemon", Level.CRITICAL)


def test_a_sync_is_judged_by_the_middle_one() -> None:
    found = documents()
    finding = check("fsync", found)
    assert (finding.level, finding.text) == (
        Level.OK,
        "a sync takes 1 ms, the slowest of 5 took 200 ms",
    )
    assert check("fsync", found, "fsync=1ms").level is Level.WARNING
    found.probe = {"fsync_s": []}
    assert check("fsync", found).level is Level.UNKNOWN


def test_a_sync_that_does_not_come_back_is_critical() -> None:
    found = documents()
    found.probe, found.failed["probe"], found.late = None, "no answer within 10 s", {"probe"}
    finding = check("fsync", found)
    assert (finding.level, "disk hangs" in finding.advice) == (Level.CRITICAL, True)
    # Where nothing is answered it is not the disk.
    found.overview = None
    assert check("fsync", found).level is Level.UNKNOWN
    found.failed["probe"], found.late = "the disk is full", set()
    assert check("fsync", found).level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("off_s", "level", "text"),
    [
        (0.0004, Level.OK, "the daemon's clock is as ours"),
        (-0.5, Level.OK, "the daemon's clock is 500 ms behind"),
        (2.0, Level.WARNING, "the daemon's clock is 2.0 s ahead"),
        (-3600.0, Level.CRITICAL, "the daemon's clock is 60 min behind"),
    ],
)
def test_clocks(off_s: float, level: Level, text: str) -> None:
    found = documents()
    found.clock_off_s = off_s
    finding = check("clock", found)
    assert (finding.level, finding.text) == (level, text)


def test_where_the_time_goes_is_told() -> None:
    slow = STAGE | {"service": LATENCY | {"p99_s": 0.6}}
    found = documents(pipelines=pipeline(append=LATENCY | {"p99_s": 0.7}, stages=[slow]))
    assert "most of it is service of persist (600 ms)" in check("append", found).advice


def test_channels_that_are_full_and_appends_that_wait() -> None:
    full = STAGE | {"channel": {"items": 5, "items_max": 100, "bytes": 95, "bytes_max": 100}}
    finding = check("channels", documents(pipelines=pipeline(stages=[full])))
    assert (finding.level, finding.text) == (
        Level.WARNING,
        "the fullest is default/persist (95 %)",
    )
    assert finding.advice == "persist is slower than what is before it"
    finding = check("channels", documents(pipelines=pipeline(oldest_s=20.0)))
    assert finding.level is Level.CRITICAL
    assert finding.text.startswith("an append to pipeline default waits for 20.0 s")


def test_lag_by_count_where_it_is_asked_for() -> None:
    groups = [
        group(group="old", lag=1, oldest_age_s=100.0),
        group(group="long", lag=50, oldest_age_s=1.0),
    ]
    finding = check("lag", documents(groups=groups), "lag=50")
    assert (finding.level, "group long" in finding.text) == (Level.WARNING, True)
    assert "streamer group show orders long" in finding.advice
    finding = check("lag", documents(groups=groups), "lag-age=100")
    assert "group old" in finding.text


def test_slow_sessions_of_either_document() -> None:
    slow = {"session": 7, "name": "shop", "peer": "10.0.0.1:5", "slow": True}
    found = documents(sessions={"count": 1, "max": 10, "shown": [slow]})
    assert check("slow", found).level is Level.OK
    found.sessions = None
    assert check("slow", found).text.startswith("session 7 (shop, 10.0.0.1:5) takes less")
    found.sessions = [slow, slow]
    finding = check("slow", found)
    assert (finding.level, finding.text.endswith(", and 1 more")) == (Level.WARNING, True)
