"""What a producer says of records that belong to traces, and to whom."""

from __future__ import annotations

from typing import Any

import streamer
from streamer.limits import WireLimits
from streamer.wire import frames

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = PARENT[:-1] + "0"


def record(parent: str | None = None) -> streamer.Record:
    headers = None if parent is None else {"traceparent": parent.encode(), "other": b"x"}
    return streamer.Record(b"value", headers=headers)


def said(daemon: Any) -> list[frames.Frame]:
    kinds = frames.Trace | frames.Produce | frames.ProduceRecords
    return [frame for frame in daemon.seen if isinstance(frame, kinds)]


async def test_a_frame_before_the_batch(daemon) -> None:
    daemon.limits = WireLimits(traces=10)
    async with daemon.connect() as client, client.producer("s") as producer:
        await producer.send_batch([record(), record(PARENT), record(UNSAMPLED), record("nonsense")])
        await producer.send_batch([record(), record()])
        await producer.send_batch([b"plain", b"values"])
        trace, batch, *rest = said(daemon)
        assert trace == frames.Trace(batch.request, [[1, PARENT]])
        assert [type(frame) for frame in rest] == [frames.Produce, frames.Produce]


async def test_records_that_are_collected(daemon) -> None:
    daemon.limits = WireLimits(traces=10)
    async with daemon.connect() as client, client.producer("s", linger_s=1) as producer:
        for number in range(5):
            headers = {"traceparent": PARENT.encode()} if number == 3 else None
            await producer.post(b"value", headers=headers)
        await producer.flush()
        trace, batch = said(daemon)
        assert trace == frames.Trace(batch.request, [[3, PARENT]])


async def test_not_of_a_record_alone(daemon) -> None:
    daemon.limits = WireLimits(traces=10)
    async with daemon.connect() as client, client.producer("s") as producer:
        await producer.send(b"value", headers={"traceparent": PARENT.encode()})
        [frame] = said(daemon)
        # Its headers are there to see.
        assert frame.records[0][3] == {"traceparent": PARENT.encode()}


async def test_not_to_a_daemon_that_does_not_know_it(daemon) -> None:
    assert daemon.limits.traces == 0
    async with daemon.connect() as client, client.producer("s") as producer:
        await producer.send_batch([record(PARENT), record()])
        assert [type(frame) for frame in said(daemon)] == [frames.Produce]


async def test_not_of_more_than_a_frame_takes(daemon) -> None:
    daemon.limits = WireLimits(traces=10)
    parents = [PARENT.replace("00f0", f"{number:04x}") for number in range(1, 30)]
    async with daemon.connect() as client, client.producer("s") as producer:
        await producer.send_batch([record(parent) for parent in [*parents, *parents]])
        trace, _ = said(daemon)
        assert trace.parents == [[index, parent] for index, parent in enumerate(parents[:8])]


async def test_again_when_the_batch_goes_again(daemon) -> None:
    daemon.limits = WireLimits(traces=10)
    script = iter(["drop after"])
    daemon.script = lambda _: next(script, None)
    async with daemon.connect() as client, client.producer("s") as producer:
        await producer.send_batch([record(), record(PARENT)])
        first, batch, second, again = said(daemon)
        assert (first.request, second.request) == (batch.request, again.request)
        assert first.parents == second.parents == [[1, PARENT]]
