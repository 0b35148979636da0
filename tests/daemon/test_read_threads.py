"""How many threads read from the disk is what the configuration says."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from streamer.config_load import structure_config
from streamer.daemon.supervisor import Daemon, World
from streamer.pipeline.disk import Disk, InlineDisk
from streamer.pipeline.registry import Registry
from streamer.testing.memory_files import MemoryFiles
from streamer.testing.memory_network import MemoryNetwork
from tests.site import UNIX, inline_disk


@pytest.mark.parametrize(("daemon", "threads"), [({}, 4), ({"read_threads": 9}, 9)])
async def test_readers_get_the_threads_of_the_configuration(
    daemon: dict[str, int], threads: int, autojump_clock: trio.testing.MockClock
) -> None:
    asked: list[int] = []

    def make(count: int) -> Disk:
        asked.append(count)
        return InlineDisk()

    registry = Registry.installed()
    tree = {"daemon": {"data": "/data", "listen": [UNIX], "http": "", **daemon}}
    network = MemoryNetwork()
    world = World(
        files=MemoryFiles(),
        open_disk=inline_disk,
        make_readers=make,
        make_looker=InlineDisk,
        open_listeners=network.open_listeners,
    )
    running = Daemon(structure_config(tree, registry), registry, world)
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        running.stop()
    assert asked[0] == threads
