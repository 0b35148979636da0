"""G7: an fsync that fails: the partition stops for good, and what was acked stays. A slow one."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

import streamer
from streamer import OutcomeUnknown, PartitionStopped
from streamer_tools.exits import Exit
from tests.faults.daemon import RealDaemon, real_daemon
from tests.faults.load import Load, clients, read_log

SHORT_TIMEOUT = """
[[pipelines]]
[pipelines.propose]
propose_timeout_s = 0.3
"""
SOURCE = Path(__file__).with_name("failing_sync.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a sync fail, compiled here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    found = tmp_path_factory.mktemp("shim") / "failing_sync.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(found), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return found


class FailingDisk:
    """Says which file's next sync fails."""

    def __init__(self, library: Path, control: Path) -> None:
        self._control = control
        self.environment = {"LD_PRELOAD": str(library), "FAILING_SYNC": str(control)}

    def fail_next_sync(self, part_of_path: str) -> None:
        self._say(f"!{part_of_path}")

    def slow_down(self, part_of_path: str) -> None:
        """Have each sync take a second, until `recover`."""
        self._say(f"~{part_of_path}")

    def recover(self) -> None:
        self._control.unlink()

    def _say(self, text: str) -> None:
        new = self._control.with_suffix(".new")
        new.write_text(text)
        new.rename(self._control)

    @property
    def has_failed(self) -> bool:
        return not self._control.exists()


async def test_the_partition_stops_for_good(tmp_path: Path, library: Path) -> None:
    disk = FailingDisk(library, tmp_path / "fail")
    async with real_daemon(tmp_path, environment=disk.environment) as daemon:
        await daemon.start()
        acked = await _produce_until_it_fails(daemon, disk)
        await _stays_stopped(daemon, acked)
        assert await daemon.stop() in (Exit.OK, Exit.FAILED)

        await daemon.start()
        async with streamer.connect(daemon.unix) as client:
            [values] = await read_log(client, "s", 1)
            # Whoever was told that the outcome is unknown finds it out now: once, or not at all.
            assert values[: len(acked)] == acked
            assert values[len(acked) :] in ([], [b"unknown"])
            async with client.producer("s") as producer:
                assert (await producer.send(b"again")).offset == len(values)
        status, health = await daemon.get("/healthz")
        assert (status, health["reasons"]) == (200, [])


async def _produce_until_it_fails(daemon: RealDaemon, disk: FailingDisk) -> list[bytes]:
    """What was acked before."""
    acked = [b"%d" % number for number in range(50)]
    async with streamer.connect(daemon.unix) as client, client.producer("s") as producer:
        for value in acked:
            await producer.send(value)
        disk.fail_next_sync(".log")
        # It is in the page cache and may be on the disk: nobody can say that it is not.
        with pytest.raises(OutcomeUnknown, match="sync failed"):
            await producer.send(b"unknown")
        assert disk.has_failed
    return acked


async def _stays_stopped(daemon: RealDaemon, acked: list[bytes]) -> None:
    """The next sync would succeed, and nobody may believe it."""
    async with streamer.connect(daemon.urls[1]) as client:
        async with client.producer("s") as producer:
            for _ in range(3):
                with pytest.raises(PartitionStopped, match="sync failed"):
                    await producer.send(b"refused")
        # Reads go on, below the last ack; other streams are not concerned.
        assert await read_log(client, "s", 1) == [acked]
        async with client.producer("other") as producer:
            assert (await producer.send(b"fine")).offset == 0
    status, health = await daemon.get("/healthz")
    assert status == 503
    [reason] = health["reasons"]
    assert "stream 's' takes no writes" in reason
    assert "sync failed" in reason
    status, _ = await daemon.get("/readyz")
    assert status == 503


async def _send_one(client: streamer.Client) -> None:
    async with client.producer("s") as producer:
        await producer.send(b"x")


@pytest.mark.parametrize("part", ["streams/s", "streams", "/0"])
async def test_a_failed_sync_while_a_stream_is_made_is_told(
    tmp_path: Path, library: Path, part: str
) -> None:
    """Directories and metadata are synced too: a stream that may be gone is never acked from."""
    disk = FailingDisk(library, tmp_path / "fail")
    async with real_daemon(tmp_path, environment=disk.environment) as daemon:
        await daemon.start()
        disk.fail_next_sync(part)
        async with streamer.connect(daemon.unix) as client:
            with pytest.raises(streamer.StreamerError):
                await _send_one(client)
        assert disk.has_failed
        await daemon.kill()
        await daemon.start()
        async with streamer.connect(daemon.unix) as client, client.producer("s") as producer:
            assert (await producer.send(b"y")).offset in (0, 1)


async def test_a_slow_disk_loses_and_repeats_nothing(tmp_path: Path, library: Path) -> None:
    """The daemon answers "unknown" after its timeout; producers find out by asking again."""
    disk = FailingDisk(library, tmp_path / "slow")
    load = Load("s", 1, random.Random(5))
    async with real_daemon(tmp_path, SHORT_TIMEOUT, environment=disk.environment) as daemon:
        await daemon.start()
        async with clients(daemon.urls) as (unix, websocket):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.send_together, unix, "send", 4)
                nursery.start_soon(load.send_batches, websocket, "batch")
                nursery.start_soon(load.post, websocket, "post", 0)
                await load.next_answer()
                disk.slow_down(".log")
                await trio.sleep(2.5)
                status, _ = await daemon.get("/healthz")
                assert status == 200
                disk.recover()
                await load.next_answer()
                load.stop()
            log = await read_log(unix, "s", 1)
        assert load.ledger.judge(log) == []
        _, varz = await daemon.get("/varz")
        late, _ = varz["metrics"]["propose_timeouts"]
        assert late["value"] > 0
        assert load.ledger.duplicates > 0
        assert await daemon.stop() == Exit.OK
