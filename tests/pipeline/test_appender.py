"""Appends that the daemon makes itself: answered, refused, cancelled."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from streamer.batch import Batch, Codec
from streamer.errors import (
    DiskFull,
    NotAllowed,
    OutcomeUnknown,
    OutOfSequence,
    PipelineDown,
    UnknownPartition,
)
from streamer.pipeline.appender import Appender
from streamer.pipeline.runner import Pipeline
from streamer.records import AckLevel, ProducerStamp
from streamer.testing.memory_files import MemoryFiles
from tests.site import NOW_US, Site, open_site
from tests.stages import Valve

Clock = trio.testing.MockClock


def batch(*values: bytes, stamp: ProducerStamp | None = None) -> Batch:
    return Codec().encode_values(values, now_us=NOW_US, stamp=stamp)


def appender(site: Site) -> Appender:
    def pipeline_of(stream: str) -> Pipeline:
        for pipeline in site.daemon.pipelines:
            if pipeline.serves(stream):
                return pipeline
        raise NotAllowed("no pipeline")

    return Appender(pipeline_of)


async def test_receipts(autojump_clock: Clock) -> None:
    async with open_site() as site:
        append = appender(site).append
        first = await append("s", 0, batch(b"a", b"b"))
        assert (first.offset, first.count, first.level) == (0, 2, AckLevel.SYNCED)
        stamp = ProducerStamp(7, 0, 0)
        second = await append("s", 0, batch(b"c", stamp=stamp))
        assert (second.offset, second.duplicate) == (2, False)
        again = await append("s", 0, batch(b"c", stamp=stamp))
        assert (again.offset, again.duplicate) == (2, True)
        assert (await append("__own", 0, batch(b"x"))).offset == 0


async def test_refusals(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with open_site(files=files) as site:
        append = appender(site).append
        await append("s", 0, batch(b"a"))
        with pytest.raises(UnknownPartition):
            await append("s", 1, batch(b"a"))
        await append("s", 0, batch(b"a", stamp=ProducerStamp(7, 0, 0)))
        with pytest.raises(OutOfSequence):
            await append("s", 0, batch(b"a", stamp=ProducerStamp(7, 0, 5)))
        files.capacity_bytes = files.used_bytes()
        with pytest.raises(DiskFull):
            await append("s", 0, batch(b"a" * 100))
        files.capacity_bytes = 1 << 40
        assert (await append("s", 0, batch(b"b"))).offset == 2
    with pytest.raises(PipelineDown):
        await append("s", 0, batch(b"late"))


async def test_a_pipeline_that_fails(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    tree: dict[str, Any] = {
        "pipelines": [{"persist": {"stage": "valve"}, "on_crash": "restart", "backoff_s": 1.0}]
    }
    async with open_site(tree, registry=valve.registry) as site:
        append = appender(site).append
        valve.failure = RuntimeError("broken")
        with pytest.raises(OutcomeUnknown):
            await append("s", 0, batch(b"a"))
        with pytest.raises(PipelineDown):
            await append("s", 0, batch(b"a"))
        valve.failure = None
        await trio.sleep(2.0)
        assert (await append("s", 0, batch(b"a"))).offset == 0


async def test_cancelled(autojump_clock: Clock) -> None:
    """It may be appended or not; the pipeline goes on, and nothing is left under way."""
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        append = appender(site).append
        valve.shut()
        with trio.move_on_after(1.0) as scope:
            await append("s", 0, batch(b"a"))
        assert scope.cancelled_caught
        valve.open()
        assert (await append("s", 0, batch(b"b"))).offset == 1
        assert all(pipeline.oldest_s == 0.0 for pipeline in site.daemon.pipelines)


async def test_cancelled_before_it_was_taken(autojump_clock: Clock) -> None:
    valve = Valve("ingest")
    tree = {
        "pipelines": [{"ingest": {"stage": "valve", "channel": {"items": 1}}}],
        "session": {"idle_s": 3600},
    }
    async with open_site(tree, registry=valve.registry) as site:
        append = appender(site).append
        valve.shut()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(append, "s", 0, batch(b"%d" % number))
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        valve.open()
        await append("s", 0, batch(b"last"))
        assert all(pipeline.oldest_s == 0.0 for pipeline in site.daemon.pipelines)
