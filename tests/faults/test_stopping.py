"""SIGTERM under load: in order, within the budget; and a second one, at once."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import trio

import streamer
from streamer_tools.exits import Exit
from tests.faults.daemon import real_daemon
from tests.faults.load import Load, clients, read_log
from tests.faults.silent import never_reading

DRAIN_S = 4.0
CONFIG = f"""
[daemon]
drain_s = {DRAIN_S}
"""
#: What a busy machine may add to a deadline.
SLACK_S = 3.0


async def test_everything_acked_is_there_after_sigterm_under_load(tmp_path: Path) -> None:
    load = Load("s", 1, random.Random(7), pause_s=0)
    async with real_daemon(tmp_path, CONFIG) as daemon:
        await daemon.start()
        async with clients(daemon.urls) as (unix, websocket), trio.open_nursery() as nursery:
            nursery.start_soon(load.send_together, unix, "send", 8)
            nursery.start_soon(load.send_batches, websocket, "batch")
            nursery.start_soon(load.post, unix, "post", 0)
            nursery.start_soon(load.follow, websocket, "reader", 0)
            await trio.sleep(0.5)
            began = trio.current_time()
            assert await daemon.stop() == Exit.OK
            assert trio.current_time() - began < DRAIN_S + SLACK_S
            # What the clients have been told by now must be there; they go no further.
            nursery.cancel_scope.cancel()
        assert daemon.errors() == []
        assert load.ledger.acked > 100
        await daemon.start()
        async with streamer.connect(daemon.unix) as client:
            log = await read_log(client, "s", 1)
        assert load.ledger.judge(log, settled=False) == []


async def test_a_peer_that_takes_nothing_cannot_hold_the_end_up(tmp_path: Path) -> None:
    async with real_daemon(tmp_path, CONFIG) as daemon:
        await daemon.start()
        async with never_reading(daemon, "s"):
            began = trio.current_time()
            assert await daemon.stop() == Exit.OK
            assert trio.current_time() - began < DRAIN_S + SLACK_S


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    async with real_daemon(tmp_path, CONFIG.replace(f"{DRAIN_S}", "60")) as daemon:
        await daemon.start()
        async with never_reading(daemon, "s"):
            daemon.signal(signal.SIGTERM)
            with pytest.raises(trio.TooSlowError):
                await daemon.ended(within_s=0.7)
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended(within_s=SLACK_S) == Exit.INTERRUPTED
        await daemon.start()
        async with streamer.connect(daemon.unix) as client:
            [values] = await read_log(client, "s", 1)
        assert len(values) > 0
