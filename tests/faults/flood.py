"""One producer that sends as fast as it can, as a process: `python -m tests.faults.flood WAY URL`.

It runs until it is ended, or until its daemon goes. WAY is how it hands records over.
"""

from __future__ import annotations

import random
import sys

import trio

import streamer
from streamer.errors import StreamerError

STREAM = "soak"
VALUE_BYTES = 100
_TASKS = 64


async def _batches(producer: streamer.Producer, values: list[bytes]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(_batch_after_batch, producer, values)


async def _batch_after_batch(producer: streamer.Producer, values: list[bytes]) -> None:
    while True:
        await producer.send_batch(values)


async def _posts(producer: streamer.Producer, values: list[bytes]) -> None:
    while True:
        for value in values:
            await producer.post(value)


async def _singles(producer: streamer.Producer, values: list[bytes]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(_TASKS):
            nursery.start_soon(_one_after_another, producer, values)


async def _one_after_another(producer: streamer.Producer, values: list[bytes]) -> None:
    while True:
        for value in values:
            await producer.send(value)


WAYS = {"batch": _batches, "post": _posts, "send": _singles}


async def flood(way: str, url: str) -> None:
    rng = random.Random(1)
    # Half of it compresses, as logs do.
    values = [rng.randbytes(VALUE_BYTES // 4).hex().encode() * 2 for _ in range(1000)]
    async with streamer.connect(url, reconnect_s=1) as client, client.producer(STREAM) as producer:
        await WAYS[way](producer, values)


if __name__ == "__main__":
    try:
        trio.run(flood, sys.argv[1], sys.argv[2])
    except* StreamerError as group:
        sys.exit(str(group.exceptions))
