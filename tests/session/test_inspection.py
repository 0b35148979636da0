"""The verbs that look inside, on a whole daemon in memory."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from streamer.pipeline.context import StageDetail
from streamer.session.inspection import VERBS
from streamer.wire import frames
from tests.site import UNIX, WS, Site, open_site, values_of
from tests.stages import Valve

Clock = trio.testing.MockClock

_WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("events", {"limit": 0}, "argument limit is 0, allowed are 1 to 1000"),
    ("events", {"wait_ms": 10_001}, "argument wait_ms is 10001, allowed are 0 to 10000"),
    ("traces", {"limit": 101}, "argument limit is 101, allowed are 0 to 100"),
    (
        "trace_next",
        {"stream": "s", "count": 1001},
        "argument count is 1001, allowed are 0 to 1000",
    ),
    ("tap", {"id": "a", "glob": "none/*"}, "no point matches 'none/*', known are default/ack.in"),
    ("tap", {"id": "a", "glob": "[!" * 300}, "argument glob has 600 characters, allowed are 500"),
    ("trace_next", {"stream": "*" * 501}, "argument stream has 501 characters, allowed are 500"),
    ("session", {"session": 4711}, "there is no session 4711"),
    ("session", {}, "session: argument session must be an integer"),
    ("overview", {"colour": "red"}, "overview: takes [], not ['colour']"),
]


@pytest.mark.parametrize(("verb", "args", "text"), _WRONG)
async def test_wrong_arguments(
    autojump_clock: Clock, site: Site, verb: str, args: dict[str, Any], text: str
) -> None:
    peer = await site.peer()
    failed = await peer.admin(verb, **args)
    assert isinstance(failed, frames.Failed)
    assert (failed.code, failed.fatal) == ("bad_request", False)
    assert text in failed.message


def test_each_verb_is_tested() -> None:
    assert set(VERBS) == {
        "overview", "history", "sessions", "session", "events", "tap", "trace_next", "traces",
        "config", "probe",
    }  # fmt: skip


async def test_overview(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    for _ in range(5):
        await peer.produce([b"value"] * 100)
        await trio.sleep(1)
    found = await peer.admin("overview")
    assert found["ready"] is True
    assert found["health"] == {"ok": True, "ready": True, "reasons": []}
    assert found["rates"]["records_in"] == pytest.approx(100, rel=0.3)
    assert found["rates"]["records_acked"] == pytest.approx(100, rel=0.3)
    assert found["totals"]["records_acked"] == 500
    assert found["availability"] == 1.0
    assert found["process"]["fds"] > 0
    assert found["disk"]["free_bytes"] > 0
    assert found["sla"] is None
    default, own = found["pipelines"]
    assert (default["name"], default["streams"], default["state"]) == ("default", ["*"], "running")
    assert own["name"] == "streamer"
    assert default["append"]["count"] == 5
    assert default["rates"]["batches"] == pytest.approx(1, rel=0.3)
    stages = default["stages"]
    assert [stage["place"] for stage in stages] == ["ingest", "propose", "persist", "ack"]
    assert all(stage["queueing"]["count"] == 5 for stage in stages)
    # The ack stage asks for more right after.
    assert all(stage["service"]["count"] == 5 for stage in stages)
    assert stages[0]["detail"]["figures"]["records_limit"] == 16
    assert stages[1]["detail"] is None
    (stream,) = found["streams"]
    assert (stream["name"], stream["records"], stream["state"]) == ("s", 500, "open")
    assert found["sessions"]["count"] == 1
    (session,) = found["sessions"]["shown"]
    assert session["records_in"] == 500


async def test_an_overview_is_made_at_most_twice_a_second(
    autojump_clock: Clock, site: Site
) -> None:
    peer = await site.peer()
    first = await peer.admin("overview")
    await trio.sleep(0.4)
    assert await peer.admin("overview") == first
    await trio.sleep(0.2)
    assert (await peer.admin("overview"))["uptime_s"] > first["uptime_s"]


async def test_history(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await trio.sleep(25)
    await peer.produce([b"a"] * 7)
    await trio.sleep(2)
    found = await peer.admin("history")
    series = found["fine"]["series"]
    assert sum(series["records_in"]) == pytest.approx(7, rel=0.01)
    assert {"append_p99_s", "cpu", "rss_bytes", "lag_records", "fill.default.persist"} <= set(
        series
    )
    assert len(found["coarse"]["at_us"]) == 2


async def test_sessions(autojump_clock: Clock, site: Site) -> None:
    peer, other = await site.peer(UNIX), await site.peer(WS)
    await peer.produce([b"a"], "s")
    await other.subscribe("s")
    await other.delivered(1)
    first, second = await peer.admin("sessions")
    assert (first["transport"], second["transport"]) == ("unix", "ws")
    assert (first["name"], first["records_in"], first["slow"]) == ("peer", 1, False)
    (subscribed,) = second["subscribed"]
    assert subscribed == {
        "subscription": 1,
        "stream": "s",
        "partition": 0,
        "offset": 1,
        "waits_for_credit": False,
    }
    assert (await peer.admin("session", session=2))["subscribed"] == [subscribed]


async def test_errors_are_counted_by_their_codes(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"], "no/such/name")
    await peer.admin("stream", stream="nothing")
    await peer.admin("nothing")
    assert site.count("answers_failed", code="unknown_stream") == 1
    assert site.count("answers_failed", code="bad_request") == 2
    await trio.sleep(2)
    assert (await peer.admin("overview"))["totals"]["errors"] == 3


async def test_events_of_sessions_streams_and_groups(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"], "s")
    before = await peer.admin("events")
    async with site.client() as client, client.consumer("s", group="g") as consumer:
        async for delivery in consumer:
            async with delivery:
                break
    await trio.sleep(1)
    found = await peer.admin("events", after=before["next"])
    kinds = [event["kind"] for event in found["events"]]
    assert kinds == ["session_opened", "member_joined", "member_left", "session_closed"]
    joined = found["events"][1]
    assert (joined["facts"]["stream"], joined["facts"]["group"]) == ("s", "g")
    assert "stream_created" in [event["kind"] for event in before["events"]]


async def test_dead_letters_and_redeliveries_are_events(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a", b"b"], "s")
    async with (
        site.client() as client,
        client.consumer("s", group="g", max_deliveries=2) as consumer,
    ):
        seen = 0
        async for message in consumer.messages():
            await message.nack(reason="no")
            seen += 1
            if seen == 4:
                break
    await trio.sleep(2)
    events = (await peer.admin("events"))["events"]
    counts: dict[str, int] = {}
    for event in events:
        counts[event["kind"]] = counts.get(event["kind"], 0) + event["count"]
    assert counts["redelivered"] == 2
    assert counts["dead_letter"] == 2


async def test_waiting_does_not_hold_up_the_drain(autojump_clock: Clock) -> None:
    async with open_site() as site:
        peer = await site.peer()
        at = (await peer.admin("events"))["next"]
        await peer.send(frames.Admin(77, "events", {"after": at, "wait_ms": 10_000}))
        await peer.send(frames.Admin(78, "tap", {"id": "a", "glob": "*", "wait_ms": 10_000}))
        await peer.send(frames.Admin(79, "traces", {"wait_ms": 10_000}))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        site.daemon.stop()
        # This one comes when the others have been let go.
        await peer.send(frames.Admin(80, "tap", {"id": "b", "glob": "*", "wait_ms": 10_000}))
        answers = [frame for frame in await peer.ended() if isinstance(frame, frames.Reply)]
        assert sorted(each.request for each in answers) == [77, 78, 79, 80]
        assert trio.current_time() - began < 1


async def test_a_tap_sees_what_passes(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    asked = {"id": "a", "glob": "default/*", "values": True}
    assert (await peer.admin("tap", **asked))["items"] == []
    await peer.produce([b"one", b"two"], "s")
    await peer.send(peer.records([[b"three", b"k", None, None]], "s"))
    await peer.receive()
    found = await peer.admin("tap", **asked)
    assert found["seen"] == found["shown"] == 8
    batch = [item for item in found["items"] if item["records"] == 2]
    assert [item["kind"] for item in batch] == ["append", "group", "proposal", "commit"]
    assert [item["point"] for item in batch] == [
        "default/ingest.in", "default/propose.in", "default/persist.in", "default/ack.in",
    ]  # fmt: skip
    assert [item["offset"] for item in batch] == [None, None, 0, 0]
    assert values_of(batch[2]["batch"]) == [b"one", b"two"]
    single = [item for item in found["items"] if item["records"] == 1]
    assert single[0]["sample"] == [{"key": b"k", "value": b"three", "headers": {}}]
    assert values_of(single[3]["batch"]) == [b"three"]


async def test_a_tap_cuts_what_records_hold(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    asked = {"id": "a", "glob": "default/ingest.in", "values": True}
    await peer.admin("tap", **asked)
    headers = {f"{number:03}{'n' * 300}": bytes(2000) for number in range(20)}
    await peer.send(peer.records([[bytes(5000), bytes(6000), None, headers]] * 12, "s"))
    await peer.receive()
    (item,) = (await peer.admin("tap", **asked))["items"]
    assert (item["records"], len(item["sample"])) == (12, 10)
    shown = item["sample"][0]
    assert (len(shown["value"]), len(shown["key"])) == (1024, 1024)
    assert [(len(name), len(data)) for name, data in shown["headers"].items()] == [(200, 1024)] * 16


async def test_a_tap_sees_what_is_handed_to_a_group(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"one", b"two"], "s")
    await peer.admin("group_create", stream="s", group="g", settings={})
    asked = {"id": "a", "glob": "deliver/s/*", "values": True}
    assert (await peer.admin("tap", **asked))["points"] == ["deliver/s/g"]
    async with site.client() as client, client.consumer("s", group="g") as consumer:
        async for delivery in consumer:
            async with delivery:
                break
    (item,) = (await peer.admin("tap", **asked))["items"]
    assert (item["kind"], item["records"], item["offset"]) == ("lease", 2, 0)
    assert values_of(item["batch"]) == [b"one", b"two"]
    await peer.admin("group_delete", stream="s", group="g")
    gone = await peer.admin("tap", id="b", glob="deliver/s/*")
    assert "no point matches" in gone.message


async def test_config_and_probe(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    settings = {each["key"]: each for each in await peer.admin("config")}
    assert settings["session.window_bytes"]["origin"] == "default"
    assert settings["daemon.data"]["value"] == "/data"
    found = await peer.admin("probe")
    assert len(found["fsync_s"]) == 5
    assert "probe.tmp" not in site.files.listdir("/data")


async def test_a_probe_of_a_full_disk_says_so(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    site.files.capacity_bytes = site.files.used_bytes()
    failed = await peer.admin("probe")
    assert isinstance(failed, frames.Failed)
    assert "/data/probe.tmp: " in failed.message
    site.files.capacity_bytes = 1 << 30
    assert len((await peer.admin("probe"))["fsync_s"]) == 5


async def test_a_pipeline_that_crashes_and_comes_back(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.failure = RuntimeError("broken on purpose")
        await peer.produce([b"a"])
        valve.failure = None
        await trio.sleep(5)
        events = {event["kind"]: event for event in (await peer.admin("events"))["events"]}
        assert "broken on purpose" in events["pipeline_crashed"]["text"]
        assert events["pipeline_crashed"]["severity"] == "error"
        assert "runs again" in events["pipeline_restarted"]["text"]


async def test_a_stage_that_holds_things_up_shows(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        valve.shut()
        for _ in range(3):
            await peer.send(peer.batch([b"a"]))
        await trio.sleep(5)
        other = await site.peer()
        (default, _) = (await other.admin("overview"))["pipelines"]
        persist = default["stages"][2]
        assert persist["channel"]["items"] >= 1
        assert persist["channel"]["oldest_s"] >= 4
        assert default["oldest_s"] >= 4
        history = await other.admin("history")
        assert history["fine"]["series"]["append_p99_s"][-1] >= 3
        assert history["fine"]["series"]["fill.default.persist"][-1] > 0
        valve.open()


async def test_service_levels_are_judged(autojump_clock: Clock) -> None:
    valve = Valve("persist")
    tree = {**valve.tree, "sla": {"latency_p99_s": 0.5, "availability_min": 0.9}}
    async with open_site(tree, registry=valve.registry) as site:
        peer = await site.peer()
        for _ in range(10):
            await peer.produce([b"a"])
            await trio.sleep(1)
        assert (await peer.admin("overview"))["sla"]["met"] is True
        valve.shut()
        await peer.send(peer.batch([b"a"]))
        await trio.sleep(6)
        other = await site.peer()
        found = (await other.admin("overview"))["sla"]
        latency = found["objectives"][0]
        assert (latency["name"], latency["ok"], latency["met"]) == ("latency_p99", False, False)
        assert latency["burn_5m"] > 1
        valve.open()


async def test_a_detail_that_fails_is_one_detail_and_no_overview_less(
    autojump_clock: Clock, site: Site
) -> None:
    def fail() -> StageDetail:
        raise KeyError("figure")

    (pipeline, _) = site.daemon.pipelines
    pipeline._details["persist"] = fail
    stages = (await (await site.peer()).admin("overview"))["pipelines"][0]["stages"]
    details = {each["place"]: each["detail"] for each in stages}
    assert details["persist"]["summary"] == "unknown: KeyError: 'figure'"
    assert details["ingest"]["figures"]["records_min"] > 0
