"""A data directory has one daemon."""

from __future__ import annotations

import json

import streamer
from streamer_tools.exits import Exit
from tests.faults.daemon import RealDaemon, command


async def test_a_second_daemon_is_told_who_has_the_directory(daemon: RealDaemon) -> None:
    await daemon.start()
    second = await command(
        "run", "--data", str(daemon.data), "--listen", "ws://127.0.0.1:0", "--http", ""
    )
    assert second.returncode not in (0, -9)
    [line] = second.stderr.decode().splitlines()
    assert f"is held by process {daemon.pid}" in json.loads(line)["error"]
    # The first one did not notice.
    async with streamer.connect(daemon.unix) as client, client.producer("s") as producer:
        assert (await producer.send(b"still here")).offset == 0
    assert await daemon.stop() == Exit.OK


async def test_the_directory_of_a_killed_daemon_is_free(daemon: RealDaemon) -> None:
    await daemon.start()
    await daemon.kill()
    await daemon.start()
    assert await daemon.stop() == Exit.OK
