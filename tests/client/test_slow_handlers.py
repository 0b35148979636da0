"""Handlers that are slow, against the real daemon in memory: what waits behind them longer than a
lease may last has not failed, and keeps its order where that is promised."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from streamer.records import Record
from tests.site import open_site, passing_us

RECORDS = 30
KEYS = 3


@pytest.mark.parametrize("batch", [1, 10])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "promise", [{}, {"mode": "ordered"}, {"order": "key"}], ids=["shared", "ordered", "key"]
)
async def test_what_waits_has_not_failed(promise: dict[str, Any], workers: int, batch: int) -> None:
    handled: list[int] = []
    running: set[bytes | None] = set()

    async def work(client: Any) -> None:
        async with client.consumer("s", "g", ack_wait_s=1, lease_max_s=2, **promise) as consumer:
            async for message in consumer.messages():
                async with message:
                    assert message.attempt == 1
                    key = message.key if promise else b"%d" % message.offset
                    key = b"all" if "mode" in promise else key
                    assert key not in running
                    running.add(key)
                    await trio.sleep(0.6)
                    running.remove(key)
                    handled.append(message.offset)
                if len(handled) == RECORDS:
                    await consumer.flush()
                    assert consumer.statistics().late == 0
                    nursery.cancel_scope.cancel()

    async with open_site(now_us=passing_us) as site, site.client() as client:
        async with client.producer("s") as producer:
            for at in range(0, RECORDS, batch):
                records = [Record(b"", b"%d" % (n % KEYS)) for n in range(at, at + batch)]
                await producer.send_batch(records)
        with trio.fail_after(200):
            async with trio.open_nursery() as nursery:
                for _ in range(workers):
                    nursery.start_soon(work, client)
        group = await client.group("s", "g")
        assert (group.lag, group.retrying, group.dead) == (0, 0, 0)
    assert sorted(handled) == list(range(RECORDS))
    if "mode" in promise:
        assert handled == list(range(RECORDS))
    if promise:
        for key in range(KEYS):
            assert [n for n in handled if n % KEYS == key] == list(range(key, RECORDS, KEYS))
