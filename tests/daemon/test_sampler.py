"""The look once a second: rates, availability, slow sessions, and disks that hang."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
import trio.testing

from streamer.daemon.sampler import _rates
from streamer.pipeline.disk import make_looker
from streamer.session.session import Session
from streamer.testing.memory_files import MemoryFiles
from streamer.wire import frames
from streamer.wire.frames import Start
from tests.site import Site, open_site
from tests.stages import Valve

Clock = trio.testing.MockClock


def test_rates() -> None:
    found = _rates({"a": 10, "fell": 100, "gone": 1}, {"a": 30, "fell": 4, "new": 8}, 2)
    assert found == {"a": 10, "fell": 2, "new": 4}


async def test_rates_are_of_ten_seconds(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"] * 100)
    await trio.sleep(5)
    assert site.daemon.sampler.rates()["records_in"] == pytest.approx(20, rel=0.3)
    await trio.sleep(15)
    assert site.daemon.sampler.rates()["records_in"] == 0


async def test_availability_is_the_share_of_seconds(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    tree = {**valve.tree}
    tree["pipelines"][0]["on_crash"] = "stop"
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        await trio.sleep(9.5)
        assert site.daemon.sampler.availability == 1.0
        valve.failure = RuntimeError("on purpose")
        await peer.produce([b"a"])
        await trio.sleep(10)
        assert site.daemon.sampler.availability == pytest.approx(0.5, abs=0.05)


async def test_the_daemons_own_records_are_not_counted(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    for number in range(20):
        await peer.admin("group_create", stream="s", group=f"g{number}", settings={})
    await trio.sleep(2)
    assert site.daemon.sampler.totals()["records_acked"] == 0


async def test_a_question_that_is_refused_is_no_second_of_throughput(
    autojump_clock: Clock,
) -> None:
    async with open_site({"sla": {"throughput_min": 100.0}}) as site:
        peer = await site.peer()
        for _ in range(10):
            await peer.admin("no such verb")
            await trio.sleep(1)
        (objective,) = (await peer.admin("overview"))["sla"]["objectives"]
        assert (objective["counted"], objective["met"]) == (0, True)
        await peer.produce([b"a"])
        failed = await peer.produce([b"a"], partition=7)
        assert isinstance(failed, frames.Failed)
        await trio.sleep(2)
        (objective,) = (await peer.admin("overview"))["sla"]["objectives"]
        assert (objective["counted"], objective["met"]) == (1, False)


async def test_what_went_out_stays_counted_when_its_group_is_deleted(
    autojump_clock: Clock, site: Site
) -> None:
    async with site.client() as client:
        async with client.producer("s") as producer:
            await producer.send_batch([b"a"] * 100)
        for group in ("kept", "deleted"):
            async with client.consumer("s", group=group) as consumer:
                async for delivery in consumer:
                    async with delivery:
                        break
        await trio.sleep(20)
        await client.admin("group_delete", {"stream": "s", "group": "deleted"})
        await trio.sleep(3)
        found = await client.admin("overview")
    assert found["totals"]["records_out"] == 200
    assert found["rates"]["records_out"] == 0


async def test_groups_above_the_bound_of_series_add_up(autojump_clock: Clock, site: Site) -> None:
    site.daemon.stats._series_per_name_max = 0
    async with site.client() as client:
        async with client.producer("s") as producer:
            await producer.send_batch([b"a"] * 100)
        for group in ("one", "two"):
            async with client.consumer("s", group=group) as consumer:
                async for delivery in consumer:
                    async with delivery:
                        break
    await trio.sleep(1)
    assert site.count("group_acked", stream="other", group="other") == 200


async def test_a_session_that_does_not_read_is_named_once(
    autojump_clock: Clock, site: Site
) -> None:
    peer, slow = await site.peer(), await site.peer()
    for _ in range(30):
        await peer.produce([bytes(200_000)])
    sessions = site.daemon.sessions
    assert sessions is not None
    session: Session = sessions.all()[1]
    await slow.subscribe("s", Start.EARLIEST, credit=1 << 30)
    session._outbox.bytes += 1 << 30
    await trio.sleep(6)
    events = (await peer.admin("events"))["events"]
    named = [event for event in events if event["kind"] == "session_slow"]
    assert [event["facts"]["session"] for event in named] == [2]
    assert named[0]["severity"] == "warning"


async def test_a_disk_that_hangs_holds_up_no_looks(
    autojump_clock: Clock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(job: Any) -> Any:
        await trio.sleep_forever()

    monkeypatch.setattr(site.daemon.sampler._disk, "run", hang)
    before = site.daemon.sampler.seconds
    await trio.sleep(30)
    assert site.daemon.sampler.seconds - before == pytest.approx(30, abs=1)


async def test_a_disk_that_hangs_does_not_hold_up_the_drain() -> None:
    asked, answered = threading.Event(), threading.Event()

    class Hanging(MemoryFiles):
        def space(self, path: str) -> tuple[int, int]:
            asked.set()
            answered.wait()
            return super().space(path)

    try:
        async with open_site(files=Hanging(), make_looker=make_looker) as site:
            await trio.to_thread.run_sync(asked.wait)
            with trio.fail_after(5):
                await site.stop()
    finally:
        answered.set()


async def test_groups_that_are_down_are_none(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.admin("group_create", stream="s", group="g", settings={})
    await trio.sleep(2)
    assert [group["group"] for group in site.daemon.sampler.groups] == ["g"]
    assert site.daemon.deliver is not None
    site.daemon.deliver._deliverer = None
    await trio.sleep(2)
    assert site.daemon.sampler.groups == []


async def test_seconds_without_a_look_are_not_available(autojump_clock: Clock, site: Site) -> None:
    await trio.sleep(9.5)
    sampler = site.daemon.sampler
    assert sampler.availability == 1.0
    at, totals = sampler._looks[-1]
    sampler._looks[-1] = at - 9, totals
    await trio.sleep(1)
    assert sampler.availability == pytest.approx(11 / 20, abs=0.05)
