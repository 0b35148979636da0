"""Pipelines that crash, stall and end: everything under way is answered, and no other notices."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from streamer.daemon.supervisor import Daemon
from streamer.errors import PipelineDown
from streamer.pipeline.runner import Pipeline, PipelineState
from streamer.storage.partition import LogState
from streamer.testing.stage_checks import make_append
from streamer.wire import frames
from tests.site import Peer, Site, open_site
from tests.stages import Valve

Clock = trio.testing.MockClock
PLACES = ("ingest", "propose", "persist", "ack")
RESTART = {"on_crash": "restart", "backoff_s": 0.5, "backoff_max_s": 4.0}


def two_pipelines(valve: Valve, **policy: Any) -> dict[str, Any]:
    """One with the valve, first and for `bad*` only; the other for everything."""
    return {
        "pipelines": [
            {"name": "bad", "streams": ["bad*"], valve.place: {"stage": "valve"}, **policy},
            {"name": "good"},
        ],
        # Not to be asked for a sign of life while time passes.
        "session": {"idle_s": 3600},
    }


def pipeline_of(site: Site, name: str) -> Pipeline:
    (found,) = [pipeline for pipeline in site.daemon.pipelines if pipeline.name == name]
    return found


async def outcomes(peer: Peer, count: int) -> list[str]:
    """What became of the next requests: `ok` or a code, each."""
    found: list[str] = []
    while len(found) < count:
        frame = await peer.receive()
        if isinstance(frame, frames.Acks):
            found += ["ok"] * len(frame.acks)
        else:
            assert isinstance(frame, frames.Failed)
            found.append(frame.code)
    return found


# ------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("place", PLACES)
async def test_a_crash_answers_everything_and_the_pipeline_serves_again(
    autojump_clock: Clock, place: str
) -> None:
    valve = Valve(place)
    async with open_site(two_pipelines(valve, **RESTART), registry=valve.registry) as site:
        bad, good = await site.peer(), await site.peer()
        assert isinstance(await bad.produce([b"before"], "bad"), frames.Acks)
        assert isinstance(await good.produce([b"before"], "good"), frames.Acks)
        valve.shut()
        await bad.send(*[bad.batch([b"%d" % n], "bad") for n in range(5)])
        await bad.send(bad.records([[b"a"], [b"b"], [b"c"]], "bad"))
        await trio.testing.wait_all_tasks_blocked()
        valve.failure = ValueError("a plugin's bug")
        valve.open()
        await bad.send(bad.batch([b"one too much"], "bad"))
        assert set(await outcomes(bad, 7)) <= {"outcome_unknown", "ok"}
        # Down, and said so, retryably; the other one never noticed.
        down = await bad.produce([b"while it is down"], "bad")
        assert isinstance(down, frames.Failed)
        assert (down.code, down.retryable) == ("pipeline_down", True)
        assert "backing off" in down.message
        assert isinstance(await good.produce([b"meanwhile"], "good"), frames.Acks)
        health = site.daemon.health()
        assert not health.ok
        assert any("a plugin's bug" in reason for reason in health.reasons)
        assert site.count("pipeline_crashes", pipeline="bad") == 1
        assert site.count("pipeline_crashes", pipeline="good") == 0
        valve.failure = None
        await trio.sleep(1)
        assert site.daemon.health().ok
        assert isinstance(await bad.produce([b"after"], "bad"), frames.Acks)
        assert valve.started == 2


async def test_what_was_proposed_and_not_written_is_taken_back(autojump_clock: Clock) -> None:
    """Offsets have no gaps after a crash between propose and persist."""
    valve = Valve("persist")
    async with open_site({**valve.tree}, registry=valve.registry) as site:
        peer = await site.peer()
        assert await peer.produce([b"0"]) == frames.Acks(0, [[1, 0, 0, 1, 1, 0]])
        valve.shut()
        await peer.send(*[peer.batch([b"lost"] * 10) for _ in range(4)])
        await trio.testing.wait_all_tasks_blocked()
        valve.failure = ValueError("now")
        valve.open()
        await peer.send(peer.batch([b"x"]))
        await outcomes(peer, 5)
        valve.failure = None
        await trio.sleep(1)
        acks = await peer.produce([b"next"])
        assert isinstance(acks, frames.Acks)
        log = site.daemon.streams.get("s").partition(0).log  # type: ignore[union-attr]
        assert acks.acks[0][2] + 1 == log.next_offset == log.high_water


async def test_a_crash_takes_nothing_back_of_a_stream_that_another_pipeline_serves(
    autojump_clock: Clock,
) -> None:
    """The second one's glob matches the first one's streams too."""
    valve, held = Valve("ack", "crashing"), Valve("persist", "held")
    tree = {
        "pipelines": [
            {"name": "first", "streams": ["orders"], "persist": {"stage": "held"}},
            {"name": "second", "streams": ["*"], "ack": {"stage": "crashing"}},
        ]
    }
    registry = valve.registry.with_stages(held.plugin)
    async with open_site(tree, registry=registry) as site:
        peer, other = await site.peer(), await site.peer()
        assert isinstance(await peer.produce([b"0"], "orders"), frames.Acks)
        held.shut()
        await peer.send(*[peer.batch([b"proposed"], "orders") for _ in range(3)])
        await trio.testing.wait_all_tasks_blocked()
        valve.failure = ValueError("a bug")
        failed = await other.produce([b"x"], "else")
        assert isinstance(failed, frames.Failed)
        assert failed.code == "outcome_unknown"
        held.open()
        assert await outcomes(peer, 3) == ["ok"] * 3


async def test_it_stops_where_the_policy_says_so(autojump_clock: Clock) -> None:
    valve = Valve("propose")
    tree = two_pipelines(valve, on_crash="stop")
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.failure = ValueError("a bug")
        assert isinstance(await peer.produce([b"x"], "bad"), frames.Failed)
        valve.failure = None
        await trio.sleep(100)
        down = await peer.produce([b"x"], "bad")
        assert isinstance(down, frames.Failed)
        assert (down.code, down.message) == ("pipeline_down", "pipeline 'bad' is stopped")
        assert pipeline_of(site, "bad").state is PipelineState.STOPPED
        assert any("'bad' is stopped: ValueError" in r for r in site.daemon.health().reasons)
        assert not site.daemon.health().ok
        assert isinstance(await peer.produce([b"x"], "good"), frames.Acks)
        # What was there can be read.
        assert isinstance(await peer.fetch("good"), frames.Fetched)


async def test_the_pause_doubles_up_to_its_bound_and_begins_anew(autojump_clock: Clock) -> None:
    valve = Valve("propose")
    tree = two_pipelines(valve, **RESTART)
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        bad = pipeline_of(site, "bad")
        valve.failure = ValueError("always")

        async def pause() -> float:
            """How long it is down after a crash."""
            await peer.produce([b"x"], "bad")
            began = trio.current_time()
            while bad.state is not PipelineState.RUNNING:  # noqa: ASYNC110
                await trio.sleep(0.05)
            return trio.current_time() - began

        pauses = [await pause() for _ in range(6)]
        assert pauses == pytest.approx([0.5, 1, 2, 4, 4, 4], abs=0.06)
        await trio.sleep(5)
        assert await pause() == pytest.approx(0.5, abs=0.06)
        valve.failure = None


async def test_a_stage_that_returns_while_its_input_is_open_is_a_crash(
    autojump_clock: Clock,
) -> None:
    for place in PLACES:
        valve = Valve(place)
        async with open_site(two_pipelines(valve), registry=valve.registry) as site:
            peer = await site.peer()
            valve.returns = True
            failed = await peer.produce([b"x"], "bad")
            assert isinstance(failed, frames.Failed)
            assert failed.code == "outcome_unknown"
            error = pipeline_of(site, "bad").last_error
            assert error is not None
            assert f"stage {place!r} returned while its input was open" in error
            valve.returns = False
            await trio.sleep(1)
            assert isinstance(await peer.produce([b"x"], "bad"), frames.Acks)


async def test_a_stage_that_cannot_be_made_keeps_no_other_from_starting(
    autojump_clock: Clock,
) -> None:
    for policy in ("restart", "stop"):
        valve = Valve("propose")
        valve.cannot_start = RuntimeError("its server is not there")
        tree = two_pipelines(valve, on_crash=policy)
        async with open_site(tree, registry=valve.registry) as site:
            peer = await site.peer()
            assert isinstance(await peer.produce([b"x"], "good"), frames.Acks)
            down = await peer.produce([b"x"], "bad")
            assert isinstance(down, frames.Failed)
            assert down.code == "pipeline_down"
            assert any("server is not there" in r for r in site.daemon.health().reasons)
            valve.cannot_start = None
            await trio.sleep(60)
            again = await peer.produce([b"x"], "bad")
            assert isinstance(again, frames.Acks) == (policy == "restart")


async def test_a_crash_while_persist_is_about_to_write(autojump_clock: Clock) -> None:
    """It is cancelled with a plan in its hands: the plan is given back, and writes go on."""
    valve = Valve("ack")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        for _ in range(10):
            valve.failure = ValueError("a bug")
            await peer.send(*[peer.batch([b"x"]) for _ in range(8)])
            assert len(await outcomes(peer, 8)) == 8
            valve.failure = None
            await trio.sleep(61)
            await peer.is_served()
        log = site.daemon.streams.get("s").partition(0).log  # type: ignore[union-attr]
        assert log.state is LogState.OPEN
        assert isinstance(await peer.produce([b"x"]), frames.Acks)


# -------------------------------------------------------------------------------------- stalling


async def test_one_that_stalls_is_seen_and_holds_nobody_else_up(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    async with open_site(two_pipelines(valve), registry=valve.registry) as site:
        peer, good = await site.peer(), await site.peer()
        await peer.produce([b"x"], "bad")
        valve.shut()
        await peer.send(peer.batch([b"stuck"], "bad"))
        await trio.sleep(14)
        assert site.daemon.health().ok
        await trio.sleep(2)
        health = site.daemon.health()
        assert not health.ok
        assert health.reasons[0].startswith("pipeline 'bad' has an append without an answer for 16")
        assert not health.ready
        assert isinstance(await good.produce([b"x"], "good"), frames.Acks)
        # The same session's appends to another pipeline are not behind it either.
        assert isinstance(await peer.produce([b"x"], "good"), frames.Acks)
        valve.open()
        assert isinstance(await peer.receive(), frames.Acks)
        assert site.daemon.health().ok


async def test_a_full_pipeline_costs_credit_and_holds_up_no_pings(autojump_clock: Clock) -> None:
    valve = Valve("ingest")
    tree = two_pipelines(valve)
    tree["pipelines"][0]["ingest"]["channel"] = {"items": 2}
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        await peer.send(*[peer.batch([b"%d" % n], "bad") for n in range(50)])
        await peer.send(frames.Ping(1))
        assert await peer.receive() == frames.Pong(1)
        assert isinstance(await peer.produce([b"x"], "good"), frames.Acks)
        ((queues),) = [q for q in await peer.admin("queues") if q["pipeline"] == "bad"]
        channel = queues["stages"][0]["channel"]
        assert (channel["items"], channel["items_max"], channel["senders_waiting"]) == (2, 2, 1)
        valve.open()
        acked: list[int] = []
        while len(acked) < 50:
            acked += [ack[2] for ack in (await peer.expect(frames.Acks)).acks]
        assert acked == list(range(50))


async def test_a_session_that_goes_with_a_full_pipeline_leaves_nothing_behind(
    autojump_clock: Clock,
) -> None:
    """What it had not handed on yet is no append that waits for ever."""
    valve = Valve("ingest")
    tree = two_pipelines(valve)
    tree["pipelines"][0]["ingest"]["channel"] = {"items": 2}
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        await peer.send(*[peer.batch([b"%d" % n], "bad") for n in range(50)])
        await trio.testing.wait_all_tasks_blocked()
        peer.stream.reset()
        await trio.testing.wait_all_tasks_blocked()
        valve.open()
        await trio.sleep(1)
        assert pipeline_of(site, "bad").oldest_s == 0
        await trio.sleep(20)
        assert site.daemon.health().ok
        other = await site.peer()
        log = site.daemon.streams.get("bad").partition(0).log  # type: ignore[union-attr]
        assert log.high_water < 10
        assert isinstance(await other.produce([b"x"], "bad"), frames.Acks)


async def test_a_crash_answers_what_waits_in_front_of_the_pipeline_too(
    autojump_clock: Clock,
) -> None:
    valve = Valve("ingest")
    tree = two_pipelines(valve, on_crash="stop")
    tree["pipelines"][0]["ingest"]["channel"] = {"items": 2}
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        await peer.send(*[peer.batch([b"%d" % n], "bad") for n in range(30)])
        await trio.testing.wait_all_tasks_blocked()
        valve.failure = ValueError("a bug")
        valve.open()
        found = await outcomes(peer, 30)
        assert set(found) <= {"outcome_unknown", "pipeline_down", "ok"}
        assert "ok" not in found[2:]


async def test_an_append_that_comes_between_a_crash_and_its_notice(
    autojump_clock: Clock,
) -> None:
    """The first stage has closed its input, and the pipeline does not know yet."""
    valve = Valve("ingest")
    async with open_site(two_pipelines(valve), registry=valve.registry) as site:
        bad = pipeline_of(site, "bad")
        _, _, receive, _ = bad._inputs[0]
        receive.close()
        append = make_append(0)
        with pytest.raises(PipelineDown, match="pipeline 'bad' stopped"):
            bad.offer(append)
        with pytest.raises(PipelineDown, match="pipeline 'bad' stopped"):
            await bad.send(append)


# --------------------------------------------------------------------------------- going down


async def test_going_down_does_not_wait_for_a_pipeline_that_backs_off(
    autojump_clock: Clock,
) -> None:
    valve = Valve("propose")
    tree = two_pipelines(valve, backoff_s=30.0)
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.failure = ValueError("a bug")
        await peer.produce([b"x"], "bad")
        await peer.stream.aclose()
        began = trio.current_time()
        await site.stop()
        assert trio.current_time() - began < 1
        assert pipeline_of(site, "bad").state is PipelineState.STOPPED
        assert pipeline_of(site, "good").state is PipelineState.DRAINED


async def test_what_a_stage_loses_at_the_drain_is_answered(autojump_clock: Clock) -> None:
    """A plugin that returns with appends in its hands, once its input has ended."""
    valve = Valve("propose")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.loses = True
        await peer.send(peer.batch([b"x"]))
        await trio.testing.wait_all_tasks_blocked()
        pipeline, _ = site.daemon.pipelines
        pipeline.close()
        assert await outcomes(peer, 1) == ["outcome_unknown"]
        assert pipeline.state is PipelineState.DRAINED
    assert site.logged("a stage ended without answering all", appends=1)


async def test_a_pipeline_that_crashes_while_it_drains_ends(autojump_clock: Clock) -> None:
    valve = Valve("ack")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        await peer.send(peer.batch([b"x"]))
        await trio.testing.wait_all_tasks_blocked()
        valve.failure = ValueError("a bug")
        site.daemon.stop()
        await peer.expect(frames.Goodbye)
        await peer.stream.aclose()
        valve.open()
        await site.ended.wait()
        daemon: Daemon = site.daemon
        assert daemon.pipelines[0].state in (PipelineState.STOPPED, PipelineState.DRAINED)
