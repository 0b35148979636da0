"""The daemon as a whole: how it starts, what it says of itself, and in which order it goes down."""

from __future__ import annotations

import errno
import json
import math
import random
from contextlib import suppress

import pytest
import trio
import trio.testing

from streamer.errors import ConnectionFailed, DirectoryLocked, StorageError
from streamer.testing.memory_files import MemoryFiles
from streamer.testing.memory_network import MemoryNetwork
from streamer.wire import frames
from tests.site import UNIX, WS, Peer, Site, open_site, values_of
from tests.stages import Valve

Clock = trio.testing.MockClock


async def fetched(site: Site, stream: str = "s") -> list[bytes]:
    answer = await (await site.peer()).fetch(stream)
    assert isinstance(answer, frames.Fetched)
    return values_of(answer.batches)


# -------------------------------------------------------------------------------------- starting


async def test_addresses_are_written_with_the_ports_that_were_given(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    tree = {"daemon": {"listen": [UNIX, "ws://127.0.0.1:0", "tcp://127.0.0.1:0"]}}
    async with open_site(tree, files=files) as site:
        listen = [UNIX, "ws://127.0.0.1:1", "tcp://127.0.0.1:2"]
        assert json.loads(files.read("/data/addresses.json")) == {"listen": listen, "http": ""}
        assert [str(address) for address in site.daemon.addresses] == listen
        for url in listen:
            await (await site.peer(url)).is_served()


async def test_two_daemons_cannot_have_one_directory(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with open_site(files=files) as site:
        with pytest.raises(ExceptionGroup) as caught:
            async with open_site(files=files):
                raise AssertionError("it started")
        assert caught.group_contains(DirectoryLocked)
        await (await site.peer()).is_served()
    async with open_site(files=files):
        pass


async def test_an_address_that_is_taken_ends_it_before_it_serves(autojump_clock: Clock) -> None:
    """The directory is free again, and so is the address that it had got first."""
    network, files = MemoryNetwork(), MemoryFiles()
    async with open_site(network=network):
        taken = {"daemon": {"listen": ["unix:/other", WS]}}
        with pytest.raises(ExceptionGroup) as caught:
            async with open_site(taken, network=network, files=files):
                raise AssertionError("it started")
        assert caught.group_contains(OSError, match=f"cannot listen at {WS}")
        assert [str(address) for address in network.listeners] == [UNIX, WS]
        async with open_site(
            {"daemon": {"listen": ["unix:/other"]}}, network=network, files=files
        ) as other:
            await (await other.peer("unix:/other")).is_served()


async def test_a_stage_that_is_not_installed_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(Exception, match='found stage "gruop"'):
        async with open_site({"pipelines": [{"ingest": {"stage": "gruop"}}]}):
            pass


async def test_a_full_disk_lets_it_start_and_be_read(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with open_site(files=files) as site:
        await (await site.peer()).produce([b"a", b"b"])
    files.capacity_bytes = 1
    async with open_site(files=files) as site:
        assert await fetched(site) == [b"a", b"b"]
        refused = await (await site.peer()).produce([b"c"])
        assert isinstance(refused, frames.Failed)
        assert (refused.code, refused.retryable) == ("disk_full", True)
        assert site.logged("addresses not written")
        files.capacity_bytes = 1 << 40
        assert isinstance(await (await site.peer()).produce([b"c"]), frames.Acks)


async def test_stopped_before_it_has_started(autojump_clock: Clock) -> None:
    """A signal during a long recovery."""
    async with open_site() as site:
        pass
    assert site.ended.is_set()
    async with trio.open_nursery() as nursery:
        daemon = site.daemon.__class__(
            site.daemon.config, site.daemon._registry, site.daemon._world
        )
        daemon.stop()
        await nursery.start(daemon.run)
    assert not daemon.serving
    assert not daemon.ready


async def test_a_listener_at_fault_ends_it(autojump_clock: Clock) -> None:
    """A daemon that nobody can reach is to be started again, not to linger."""

    async def life() -> None:
        async with open_site() as site:
            for listener in site.network.listeners.values():
                listener.fail_next(errno.EBADF)
            site.network.connect(UNIX)
            await trio.sleep(60)

    with pytest.raises(ExceptionGroup) as caught:
        await life()
    assert caught.group_contains(OSError, match="Bad file descriptor")


# ------------------------------------------------------------------------------------- of itself


async def test_health_over_http() -> None:
    """Real sockets and a real clock for the pages; `test_http` has the rest."""
    async with open_site({"daemon": {"http": "127.0.0.1:0"}}) as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        url = site.daemon.http_address
        assert url.startswith("http://127.0.0.1:")
        written = json.loads(site.files.read("/data/addresses.json"))
        assert written["http"] == url

        async def get(page: str) -> bytes:
            port = int(url.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(
                    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % page.encode()
                )
                return b"".join([data async for data in stream])

        for page in ("/healthz", "/readyz"):
            assert (await get(page)).startswith(b"HTTP/1.1 200")
        assert b"streamer_sessions 1.0" in await get("/metrics")
        site.files.fail_next("sync", errno.EIO)
        await peer.produce([b"b"])
        for page in ("/healthz", "/readyz"):
            answer = await get(page)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"takes no writes" in answer


async def test_health_from_the_start_to_the_end(autojump_clock: Clock) -> None:
    async with open_site() as site:
        health = site.daemon.health()
        assert (health.ok, health.ready, health.reasons) == (True, True, ())
        peer = await site.peer()
        site.daemon.stop()
        await peer.expect(frames.Goodbye)
        health = site.daemon.health()
        assert (health.ok, health.ready, health.reasons) == (True, False, ("draining",))


async def test_health_before_it_serves() -> None:
    async with open_site() as site:
        pass
    fresh = site.daemon.__class__(site.daemon.config, site.daemon._registry, site.daemon._world)
    health = fresh.health()
    assert (health.ok, health.ready, health.reasons) == (True, False, ("starting",))


async def test_a_stopped_partition_is_no_health(autojump_clock: Clock) -> None:
    async with open_site() as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        site.files.fail_next("sync", errno.EIO)
        await peer.produce([b"b"])
        health = site.daemon.health()
        assert (health.ok, health.ready) == (False, False)
        (reason,) = health.reasons
        assert reason.startswith("partition 0 of stream 's' takes no writes: ")


async def test_a_stream_that_cannot_be_opened_is_said_and_the_others_are_served(
    autojump_clock: Clock,
) -> None:
    files = MemoryFiles()
    async with open_site(files=files) as site:
        peer = await site.peer()
        await peer.produce([b"a"], "broken")
        await peer.produce([b"b"], "whole")
    files.overwrite("/data/streams/broken/stream", 5, b"\xff\xff")
    async with open_site(files=files) as site:
        assert await fetched(site, "whole") == [b"b"]
        peer = await site.peer()
        refused = await peer.produce([b"c"], "broken")
        assert isinstance(refused, frames.Failed)
        assert refused.code == "storage"
        health = site.daemon.health()
        assert health.ok
        assert "stream 'broken' could not be opened" in health.reasons[0]
        assert isinstance(await peer.produce([b"c"], "whole"), frames.Acks)


async def test_varz(autojump_clock: Clock) -> None:
    async with open_site() as site:
        peer = await site.peer()
        await peer.produce([b"a", b"b"])
        await trio.sleep(2)
        site.daemon.stats.gauge("unknown", "", lambda: math.nan)
        varz = json.loads(json.dumps(site.daemon.varz(), allow_nan=False))
        assert (varz["uptime_s"], varz["ready"], varz["connections"]) == (2.0, True, 1)
        assert varz["listen"] == [UNIX, WS]
        assert varz["streams"]["s"] == {
            "storage": "disk",
            "partitions": 1,
            "records": 2,
            "bytes": varz["streams"]["s"]["bytes"],
            "dropped": 0,
        }
        # What consumer groups leave behind has a stream and a pipeline of its own.
        assert list(varz["streams"]) == ["__groups", "s"]
        pipeline, own = varz["pipelines"]
        assert own["name"] == "streamer"
        assert (pipeline["name"], pipeline["state"], pipeline["oldest_s"]) == (
            "default",
            "running",
            0.0,
        )
        assert list(pipeline["stages"]) == ["ingest", "propose", "persist", "ack"]
        metrics = varz["metrics"]
        assert metrics["sessions"] == 1
        assert metrics["sessions_accepted"] == 1
        latency, _ = metrics["append_seconds"]
        assert latency["pipeline"] == "default"
        assert latency["value"]["total"] == 1
        assert {"p50_s", "p95_s", "p99_s", "p999_s", "max_s"} <= set(latency["value"])


# ------------------------------------------------------------------------------------ going down


async def test_it_closes_what_it_opened_from_the_inside_out(autojump_clock: Clock) -> None:
    """No new connections, then the answers, then the pipelines, then the logs."""
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer = await site.peer()
        await peer.produce([b"0"])
        valve.shut()
        await peer.send(peer.batch([b"1"]))
        await trio.testing.wait_all_tasks_blocked()
        site.daemon.stop()
        await peer.expect(frames.Goodbye)
        with pytest.raises(ConnectionFailed):
            site.network.connect(UNIX)
        assert site.daemon.pipelines[0].state.value == "running"
        calls = len(site.files.trace)
        valve.open()
        assert isinstance(await peer.receive(), frames.Acks)
        await site.ended.wait()
        assert site.daemon.pipelines[0].state.value == "drained"
        after = site.files.trace[calls:]
        synced = max(
            n for n, call in enumerate(after) if call.startswith("sync ") and ".log" in call
        )
        assert any("clean" in call or "marker" in call for call in after[synced:])
    files = site.files
    async with open_site(files=files) as again:
        assert await fetched(again) == [b"0", b"1"]
        assert not again.logged("torn tail cut")


async def test_cut_off_at_once_loses_nothing_that_was_acked(autojump_clock: Clock) -> None:
    """As a second signal does, under load; and the directory is free at once."""
    rng = random.Random(2)
    files = MemoryFiles()
    found: list[bytes] = []
    for life in range(15):
        acked: list[bytes] = []
        async with open_site(files=files) as site, trio.open_nursery() as nursery:
            peer = await site.peer()
            nursery.start_soon(produce, peer, [b"%d/%d" % (life, n) for n in range(30)], acked)
            for _ in range(rng.randrange(200)):
                await trio.lowlevel.checkpoint()
            site.scope.cancel()
        async with open_site(files=files) as site:
            before, found = found, await fetched(site)
        assert found[: len(before)] == before
        new = found[len(before) :]
        # What was under way may be there too.
        assert new[: len(acked)] == acked
        assert len(new) <= len(acked) + 1
    assert len(found) > 20


async def produce(peer: Peer, values: list[bytes], acked: list[bytes]) -> None:
    with suppress(trio.EndOfChannel, trio.BrokenResourceError):
        for value in values:
            assert isinstance(await peer.produce([value]), frames.Acks)
            acked.append(value)


async def test_no_budget_at_all_still_closes_the_logs(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with open_site({"daemon": {"drain_s": 0}}, files=files) as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        began = trio.current_time()
        await site.stop()
        assert trio.current_time() - began <= 2
    async with open_site(files=files) as site:
        assert await fetched(site) == [b"a"]


async def test_a_log_that_cannot_be_closed_is_an_error_and_the_others_are_closed(
    autojump_clock: Clock,
) -> None:
    files = MemoryFiles()

    async def life() -> None:
        async with open_site(files=files) as site:
            peer = await site.peer()
            for stream in ("a", "b"):
                await peer.produce([b"x"], stream)
            await peer.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            files.fail_next("write", errno.EIO)

    with pytest.raises(ExceptionGroup) as caught:
        await life()
    assert caught.group_contains(StorageError, match="1 logs not closed in order")
    async with open_site(files=files) as site:
        assert await fetched(site, "a") == await fetched(site, "b") == [b"x"]


async def test_idle_it_does_its_house_keeping(autojump_clock: Clock) -> None:
    tree = {
        "streams": {
            "segment_bytes": "64 KiB",
            "index_bytes": "4 KiB",
            "retention_bytes": "64 KiB",
        },
        "batch": {"batch_bytes": "32 KiB"},
    }
    async with open_site(tree) as site:
        peer = await site.peer()
        for _ in range(20):
            await peer.produce([random.Random(1).randbytes(20_000)])
        log = site.daemon.streams.get("s").partition(0).log  # type: ignore[union-attr]
        assert log.first_offset == 0
        site.files.fail_next("unlink", errno.EIO)
        await trio.sleep(11)
        assert site.logged("removing segments failed")
        await trio.sleep(10)
        assert log.first_offset > 10
        assert site.logged("segments removed")
        await peer.is_served()


async def test_another_configuration_while_it_runs(autojump_clock: Clock) -> None:
    import attrs

    async with open_site() as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        old = site.daemon.config
        new = attrs.evolve(
            old,
            daemon=attrs.evolve(old.daemon, origins=("https://example.org",), drain_s=1.0),
            batch=attrs.evolve(old.batch, zstd_level=7),
            streams=attrs.evolve(old.streams, auto_create=False),
        )
        site.daemon.apply(new)
        assert site.daemon.sessions is not None
        assert site.daemon.sessions.origins == ("https://example.org",)
        refused = await peer.produce([b"a"], "new")
        assert isinstance(refused, frames.Failed)
        assert refused.code == "unknown_stream"
        assert isinstance(await peer.produce([b"a"]), frames.Acks)


async def test_streams_and_their_pipelines(autojump_clock: Clock) -> None:
    pipelines = [{"name": f"p{number}", "streams": [f"s{number}"]} for number in range(3)]
    async with open_site({"pipelines": pipelines}) as site:
        name_of = site.daemon.pipeline_name
        assert [name_of(name) for name in ("s0", "s2.dead", "__groups", "x")] == [
            "p0", "p2", "streamer", "",
        ]  # fmt: skip
        for pipeline in site.daemon.pipelines:
            assert pipeline.serves("s1") == (pipeline.name == "p1")
