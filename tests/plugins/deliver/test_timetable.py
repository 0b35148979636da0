"""Schedules fire once, also over restarts; what was missed is made up for once."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from streamer.testing.memory_files import MemoryFiles
from tests.plugins.deliver.kit import admin, killed, opened, records_in, values_in
from tests.site import NOW_US, Site

Clock = trio.testing.MockClock
MINUTE_S = 60.0


async def add(site: Site, name: str = "n", **more: Any) -> Any:
    given = {"stream": "s", "cron": "* * * * *", "value": b"v", **more}
    return await admin(site, "schedule_add", name=name, **given)


async def test_each_minute_once(autojump_clock: Clock) -> None:
    async with opened() as site:
        told = await add(site, key=b"k", headers={"h": b"1"})
        assert told["next_us"] % 60_000_000 == 0
        assert NOW_US < told["next_us"] <= NOW_US + 60_000_000
        await trio.sleep(5 * MINUTE_S)
        records = await records_in(site, "s")
        assert len(records) == 5
        for number, record in enumerate(records):
            assert record.headers is not None
            nominal_us = told["next_us"] + number * 60_000_000
            assert record.headers["streamer-scheduled-us"] == b"%d" % nominal_us
            assert (record.headers["streamer-schedule"], record.headers["h"]) == (b"n", b"1")
            assert (record.value, record.key) == (b"v", b"k")
            assert nominal_us <= record.timestamp_us <= nominal_us + 1_100_000
        (listed,) = await admin(site, "schedules")
        assert (listed["name"], listed["fired"]) == ("n", 5)
        assert site.count("schedules_fired") == 5


async def test_over_restarts_and_what_was_missed(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        await add(site)
        await trio.sleep(2 * MINUTE_S)
        assert len(await values_in(site, "s")) == 2
    async with killed(files) as site:
        assert len(await values_in(site, "s")) == 2
    # Nobody is there for an hour.
    await trio.sleep(60 * MINUTE_S)
    async with killed(files) as site:
        await trio.sleep(2.0)
        records = await records_in(site, "s")
        assert len(records) == 3
        (listed,) = await admin(site, "schedules")
        assert listed["fired"] == 3
    async with opened(files) as site:
        await trio.sleep(MINUTE_S)
        records = await records_in(site, "s")
        assert len(records) == 4
        times = [int((record.headers or {})["streamer-scheduled-us"]) for record in records]
        assert times == sorted(set(times))


async def test_replaced_and_removed(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with killed(files) as site:
        await add(site)
        assert (await add(site)).code == "bad_request"
        await add(site, value=b"new", replace=True)
        await add(site, "other")
        await trio.sleep(MINUTE_S)
        assert sorted(await values_in(site, "s")) == [b"new", b"v"]
        assert await admin(site, "schedule_remove", name="other") == {}
        assert (await admin(site, "schedule_remove", name="other")).code == "unknown_schedule"
        await trio.sleep(MINUTE_S)
    async with opened(files) as site:
        await trio.sleep(1.5 * MINUTE_S)
        assert [each["name"] for each in await admin(site, "schedules")] == ["n"]
        assert (await values_in(site, "s")).count(b"v") == 1
        assert (await values_in(site, "s")).count(b"new") >= 3


async def test_a_stream_that_cannot_be_made(autojump_clock: Clock) -> None:
    async with opened() as site:
        assert (await add(site, stream="__groups")).code in ("bad_request", "not_allowed")
        await add(site, "bad", stream="a/b")
        await add(site, "good")
        await trio.sleep(2 * MINUTE_S)
        assert site.logged("schedule not fired", schedule="bad")
        assert len(await values_in(site, "s")) == 2


async def test_a_schedule_may_wait_for_long(autojump_clock: Clock) -> None:
    async with opened() as site:
        await add(site, cron="0 0 1 1 *")
        await trio.sleep(10 * MINUTE_S)
        await add(site, "soon")
        await trio.sleep(MINUTE_S)
        assert len(await values_in(site, "s")) == 1
