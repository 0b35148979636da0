"""G7: a disk without room. Writes wait, reads go on, and all goes on by itself afterwards."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
import trio

import streamer
from streamer import DiskFull
from streamer.limits import MIB
from streamer_tools.exits import Exit
from tests.faults.daemon import PATIENCE_S, RealDaemon, command, real_daemon
from tests.faults.load import Load, clients, read_log
from tests.faults.mounts import Unavailable, ext4, tmpfs

#: More than what is under way at once here: a post, a batch, four single records, twice.
COMMIT_RECORDS_MAX = 2 * (200 + 100 + 4)


def fill(path: Path) -> None:
    """Leave no room at all beside the file at `path`."""
    with path.open("wb", buffering=0) as filler:
        size = MIB
        while size:
            try:
                filler.write(bytes(size))
            except OSError:
                size //= 2


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
async def test_a_full_disk_holds_writers_and_nobody_else(tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack:
        mounted = tmp_path / "mounted"
        try:
            if kind == "tmpfs":
                stack.enter_context(tmpfs(mounted, 8 * MIB))
            else:
                stack.enter_context(ext4(tmp_path, 16 * MIB))
        except Unavailable as reason:
            pytest.skip(str(reason))
        filler = mounted / "filler"
        # The log of the daemon is on the full disk too, which must not trouble it.
        async with real_daemon(mounted) as daemon:
            await daemon.start()
            end = daemon.kill if kind == "tmpfs" else daemon.stop
            await _fill_and_go_on(daemon, lambda: fill(filler), filler.unlink, end)


async def test_a_file_size_limit_is_like_a_full_disk(tmp_path: Path) -> None:
    """Needs no root: the kernel says EFBIG where a full disk says ENOSPC."""
    async with real_daemon(tmp_path) as daemon:
        await daemon.start()

        def limit(nbytes: int) -> None:
            hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (nbytes, hard))

        def full() -> None:
            # In the middle of the batch after next, so that part of one is written.
            limit(daemon.segments("s")[-1].stat().st_size + 700)

        await _fill_and_go_on(daemon, full, lambda: limit(resource.RLIM_INFINITY))


async def _fill_and_go_on(
    daemon: RealDaemon,
    fill_disk: Callable[[], None],
    make_room: Callable[[], None],
    end: Callable[[], Awaitable[int | None]] | None = None,
) -> None:
    """`end` ends the daemon while there is no room, to be started again."""
    load = Load("s", 1, random.Random(3), value_bytes_max=2000)
    async with clients(daemon.urls) as (unix, websocket), trio.open_nursery() as readers:
        readers.start_soon(load.follow, websocket, "reader", 0)
        async with trio.open_nursery() as producers:
            producers.start_soon(load.send_together, unix, "send", 4)
            producers.start_soon(load.send_batches, websocket, "batch")
            producers.start_soon(load.post, websocket, "post", 0)
            await load.next_answer()
            await trio.sleep(0.2)
            fill_disk()
            await _refuses_writes(daemon)
            await _serves_the_rest(daemon, load)
            if end is not None:
                await _makes_no_stream(daemon, DiskFull)
                assert await end() in (None, Exit.OK)
                await daemon.spawn()
                # Without room, the last commits cannot be proven to be on the disk: those are
                # served once there is some, and whoever has read them before waits.
                await _serves_the_rest(daemon, load, unproven=COMMIT_RECORDS_MAX)
            before = load.answers
            make_room()
            await _makes_no_stream(daemon, None)
            with trio.fail_after(PATIENCE_S):
                while load.answers < before + 20:
                    await load.next_answer()
            load.stop()
        log = await read_log(unix, "s", 1)
        with trio.fail_after(PATIENCE_S):
            await load.caught_up([len(log[0])])
        readers.cancel_scope.cancel()
    assert load.ledger.judge(log) == []
    assert await daemon.stop() == Exit.OK
    verified = await command("verify", str(daemon.data))
    assert verified.returncode == Exit.OK, verified.stdout


async def _refuses_writes(daemon: RealDaemon) -> None:
    """One that is not patient is told why."""
    async with streamer.connect(daemon.unix) as client:
        with pytest.raises(DiskFull, match="no room"):
            await _send_without_patience(client)


async def _send_without_patience(client: streamer.Client) -> None:
    async with client.producer("s", delivery_timeout_s=0.5) as producer:
        # What little room is left may take a few.
        for _ in range(1000):
            await producer.send(os.urandom(4096))


async def _makes_no_stream(daemon: RealDaemon, error: type[Exception] | None) -> None:
    """A stream and a producer's name need room too; when there is some again, they are made."""
    async with streamer.connect(daemon.unix) as client:
        with pytest.raises(error) if error is not None else nullcontext():
            await _append_under_a_name(client)


async def _append_under_a_name(client: streamer.Client) -> None:
    async with client.producer("new", name="somebody") as producer:
        assert (await producer.send(b"first")).offset == 0


async def _serves_the_rest(daemon: RealDaemon, load: Load, unproven: int = 0) -> None:
    """All that is acked can be read, but for so many, and health says that it is alive."""
    acked = load.ledger.acked
    with trio.fail_after(PATIENCE_S):
        # Not `ready`: there may be no room for the file that says so.
        await daemon.listening()
        async with streamer.connect(daemon.unix) as client:
            [values] = await read_log(client, "s", 1)
            assert len(values) >= acked - unproven > 0
    if (daemon.data / "addresses.json").exists():
        status, health = await daemon.get("/healthz")
        assert status == 200, health
