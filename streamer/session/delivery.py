"""Delivery in its simple form: raw batches below the high-water mark, under the reader's credit.

A subscription is a task that reads where it stands, sends what its credit allows, and waits at
the end of the log for more. A reader that does not read costs its credit and nothing else: the
backlog stays in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from streamer.errors import StreamerError, TooLarge
from streamer.pipeline.partition import Partition
from streamer.session.outbox import Outbox, failed
from streamer.session.service import Service
from streamer.wire import frames
from streamer.wire.credit import SendWindow
from streamer.wire.frames import Frame

#: One read from the disk; several batches share a frame.
_READ_BYTES = 512 * 1024
#: What an envelope of a frame takes besides the batches.
_ENVELOPE_BYTES = 64


async def start_offset(service: Service, partition: Partition, start: int, value: int) -> int:
    """The offset that a request's start and value mean. Raises: see `Streams.position`."""
    # Beyond the high-water mark only after a start without room to write the tail again: who has
    # read it before waits for it.
    return await service.streams.position(partition, start, value, partition.log.next_offset)


async def fetch(service: Service, outbox: Outbox, frame: frames.Fetch) -> Frame:
    """Answer a fetch with what is there now; an empty answer at the high-water mark.

    It waits for room first, so that answers which nobody reads do not pile up.
    """
    partition = service.streams.get(frame.stream).partition(frame.partition)
    offset = await start_offset(service, partition, frame.start, frame.value)
    bytes_max = min(frame.bytes_max, service.limits.frame_bytes - _ENVELOPE_BYTES, _READ_BYTES)
    async with outbox.room(service.limits.frame_bytes):
        result = await partition.read(offset, bytes_max)
    if result is None:
        return frames.Fetched(frame.request, offset, partition.high_water, b"")
    return frames.Fetched(frame.request, result.next_offset, partition.high_water, result.blob)


class _Subscription:
    def __init__(self, number: int, credit: int, stream: str, partition: int) -> None:
        self.number = number
        self.stream = stream
        self.partition = partition
        #: The next offset to send; -1 before it has begun.
        self.offset = -1
        self.scope = trio.CancelScope()
        self.window = SendWindow(credit)
        self.granted = trio.lowlevel.ParkingLot()


class Subscriptions:
    """The subscriptions of one session; their tasks run in the session's nursery."""

    def __init__(self, service: Service, outbox: Outbox, reader: Callable[[], str]) -> None:
        """`reader()` is what people know the session by."""
        self._service = service
        self._outbox = outbox
        self._reader = reader
        self._open: dict[int, _Subscription] = {}
        self._delivered = service.stats.counter("deliver_bytes", "bytes of batches delivered")
        self._records = service.stats.counter("deliver_records", "records delivered to readers")

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, subscription: int) -> bool:
        return subscription in self._open

    def views(self) -> list[dict[str, Any]]:
        """What people see of them."""
        return [
            {
                "subscription": number,
                "stream": each.stream,
                "partition": each.partition,
                "offset": each.offset,
                "waits_for_credit": not each.window.open,
            }
            for number, each in self._open.items()
        ]

    def begin(
        self,
        nursery: trio.Nursery,
        frame: frames.Subscribe,
        reply: Callable[[int, Frame], None],
    ) -> None:
        """Start a subscription; `reply(request, frame)` tells from where, or why not."""
        subscription = _Subscription(
            frame.subscription, frame.credit, frame.stream, frame.partition
        )
        self._open[frame.subscription] = subscription
        nursery.start_soon(self._run, subscription, frame, reply)

    def end_all(self) -> None:
        """End them: the session is about to, and a backlog must not hold it up."""
        for number in list(self._open):
            self.end(number)

    def grant(self, number: int, limit: int) -> None:
        """Raise a subscription's credit; one that has just ended is not there any more."""
        subscription = self._open.get(number)
        if subscription is not None:
            subscription.window.raise_limit(limit)
            subscription.granted.unpark_all()

    def end(self, number: int) -> None:
        subscription = self._open.pop(number, None)
        if subscription is not None:
            subscription.scope.cancel()

    async def _run(
        self,
        subscription: _Subscription,
        frame: frames.Subscribe,
        reply: Callable[[int, Frame], None],
    ) -> None:
        number = subscription.number
        # Outside its scope: ended or not, the request is answered.
        try:
            partition = await self._partition(frame)
            offset = await start_offset(self._service, partition, frame.start, frame.value)
        except StreamerError as error:
            self._forget(subscription)
            reply(frame.request, failed(frame.request, error))
            return
        reply(
            frame.request,
            frames.Reply(frame.request, {"offset": offset, "high_water": partition.high_water}),
        )
        with subscription.scope:
            try:
                await self._deliver(subscription, partition, offset)
            except StreamerError as error:
                self._forget(subscription)
                self._outbox.put(frames.Ended(number, error.code, error.message, error.detail))

    async def _partition(self, frame: frames.Subscribe) -> Partition:
        streams = self._service.streams
        if not streams.has(frame.stream):
            # What no pipeline serves is not made, but what is there can be read.
            self._service.pipeline(frame.stream)
        # Reading makes no stream: a name that is not there is a slip of the pen.
        stream = streams.get(frame.stream)
        return stream.partition(frame.partition)

    def _forget(self, subscription: _Subscription) -> None:
        """Its number may stand for another one by now."""
        if self._open.get(subscription.number) is subscription:
            del self._open[subscription.number]

    async def _deliver(
        self, subscription: _Subscription, partition: Partition, offset: int
    ) -> None:
        outbox, window = self._outbox, subscription.window
        traced = self._service.inspected.tracer.deliveries
        frame_bytes = self._service.limits.frame_bytes - _ENVELOPE_BYTES
        bytes_max = min(_READ_BYTES, frame_bytes)
        while True:
            await partition.wait_above(offset)
            while not window.open:
                await subscription.granted.park()
            async with outbox.room(bytes_max):
                result = await partition.read(offset, bytes_max)
            if result is None:
                continue
            self._records.value += result.next_offset - offset
            subscription.offset = offset = result.next_offset
            nbytes = len(result.blob)
            if nbytes > frame_bytes:
                # Made under a configuration that allowed more.
                raise TooLarge(
                    f"batch of {nbytes} bytes at offset {result.first_offset}, allowed are "
                    f"{frame_bytes}",
                    first=result.first_offset,
                    next=result.next_offset,
                )
            window.spend(nbytes)
            self._delivered.value += nbytes
            if traced.watched:
                first, reader = result.first_offset, self._reader()
                traced.read(partition.stream, partition.number, first, offset, reader)
            outbox.put(
                frames.Deliver(subscription.number, partition.high_water, result.blob), nbytes
            )
