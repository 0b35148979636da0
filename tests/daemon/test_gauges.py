"""The daemon as a whole in `/metrics`: health, room, limits, what is down."""

from __future__ import annotations

import errno
import math
from typing import Any

import trio
import trio.testing

from streamer.stats import Gauge
from tests.site import Site, open_site

Clock = trio.testing.MockClock


def gauges(site: Site) -> dict[tuple[str, ...], float]:
    return {
        (metric.name, *metric.labels.values()): float(metric.value.read())
        for metric in site.daemon.stats.metrics()
        if isinstance(metric.value, Gauge)
    }


async def test_a_daemon_that_is_well(autojump_clock: Clock) -> None:
    async with open_site({"session": {"sessions": 600}}) as site:
        await trio.sleep(12.0)
        found = gauges(site)
        assert 12.0 <= found["uptime_seconds",] <= 13.0
        assert found["healthy",] == found["ready",] == found["availability",] == 1.0
        assert 0 < found["disk_free_bytes",] <= found["disk_total_bytes",]
        assert (found["sessions_max",], found["sessions_slow",]) == (600.0, 0.0)
        assert found["partitions_down", "damaged"] == found["partitions_down", "stopped"] == 0.0
        assert found["pipeline_running", "default"] == 1.0
        assert found["pipeline_oldest_seconds", "default"] == 0.0


async def test_a_stopped_partition(autojump_clock: Clock) -> None:
    async with open_site() as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        site.files.fail_next("sync", errno.EIO)
        await peer.produce([b"b"])
        await trio.sleep(10.0)
        found = gauges(site)
        assert (found["healthy",], found["ready",]) == (0.0, 0.0)
        assert found["partitions_down", "stopped"] == 1.0
        assert 0.0 < found["availability",] < 0.5


async def test_before_it_runs_nothing_is_an_alarm(autojump_clock: Clock) -> None:
    async with open_site() as site:
        pass
    fresh = site.daemon.__class__(site.daemon.config, site.daemon._registry, site.daemon._world)
    site.daemon = fresh
    found = gauges(site)
    assert math.isnan(found["disk_free_bytes",])
    assert (found["healthy",], found["ready",], found["pipeline_running", "default"]) == (1, 0, 0)


async def test_what_the_asker_did_wrong_is_no_error_of_the_daemon(autojump_clock: Clock) -> None:
    async with open_site({"sla": {"error_rate_max": 0.01}}) as site:
        peer = await site.peer()
        await trio.sleep(2.0)
        await peer.produce([b"a"])
        await peer.admin("stream", stream="nosuch")
        await trio.sleep(2.0)
        assert objective(site, "error_rate").items() >= {"counted": 2, "bad": 0}.items()
        site.files.fail_next("sync", errno.EIO)
        await peer.produce([b"b"])
        await trio.sleep(2.0)
        assert objective(site, "error_rate").items() >= {"counted": 3, "bad": 1}.items()


async def test_a_group_that_is_paused_is_not_late(autojump_clock: Clock) -> None:
    async with open_site({"sla": {"lag_age_max_s": 5.0}}) as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        await peer.admin("group_create", stream="s", group="g", settings={})
        await peer.admin("group_pause", stream="s", group="g")
        await trio.sleep(5.0)
        assert objective(site, "lag_age")["counted"] <= 1


def objective(site: Site, name: str) -> dict[str, Any]:
    doc = site.daemon.sla.doc()
    assert doc is not None
    [found] = [each for each in doc["objectives"] if each["name"] == name]
    return found
