"""`streamer consume --group`: deliveries to standard output, acked once they are written.

Rules: an ack follows the write that it is about, never the other way round: what is acked has been
written, and what was written twice had not been acked. A delivery of which something could not be
written is given back without counting an attempt: its records are not at fault. The end is looked
for beside the reading, and takes effect between two deliveries, so no line is cut off.

However it ends (Ctrl-C, SIGTERM, a reader that went away), the group is left in order first, and
the reason raised then: a session that just breaks off counts a failed attempt of all that it held.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
import trio

from streamer.errors import LeaseLost
from streamer_tools import show
from streamer_tools.exits import Exit, Told
from streamer_tools.group.show import faults
from streamer_tools.lines import LineJoiner

if TYPE_CHECKING:
    from streamer.client import Client, Consumer, Delivery
    from streamer_tools.files import Output

#: The client's own default, of records held at a time.
_IN_FLIGHT = 1000
#: Between two looks whether all is done: soon after something was, and while nothing happens.
_LOOK_SOON_S = 0.05
_LOOK_MOST_S = 1.0


class GroupPrinter:
    """Puts deliveries on standard output until `count` records are through (None: no end)."""

    def __init__(self, output: Output, as_json: bool, count: int | None) -> None:
        self.written = 0
        self._output = output
        self._as_json = as_json
        self._count = count
        self._joiner = LineJoiner()

    @property
    def left(self) -> int | None:
        """How many records are still wanted; None for all that come."""
        return None if self._count is None else self._count - self.written

    async def write(self, delivery: Delivery) -> int:
        """Write a delivery, or the part of it that is wanted; how many records that were.

        Cancelled, part of it may be out.

        Raises:
            OSError: standard output takes no more; part of it may be out.
        """
        count = len(delivery) if self.left is None else min(self.left, len(delivery))
        data = self._objects(delivery, count) if self._as_json else self._lines(delivery, count)
        await self._output.write(data)
        self.written += count
        return count

    def _lines(self, delivery: Delivery, count: int) -> bytes:
        headers = delivery.columns().headers
        return self._joiner.join(
            delivery.values[:count], None if headers is None else headers[:count]
        )

    def _objects(self, delivery: Delivery, count: int) -> bytes:
        lines = [
            json.dumps(
                show.record_json(record, delivery.partition, offset) | {"attempt": delivery.attempt}
            )
            for record, offset in zip(
                delivery.records[:count], delivery.offsets[:count], strict=True
            )
        ]
        return "".join(f"{line}\n" for line in lines).encode()


async def consume_group(
    url: str, stream: str, group: str, follow: bool, batch: int, printer: GroupPrinter
) -> None:
    """Be a member of the group, and print what comes; see the module and the command's help."""
    from streamer.client import connect

    async with connect(url, name="streamer consume") as client:
        info = await client.stream(stream)
        if printer.left == 0:
            return
        end = None
        if not follow:
            end = {each.partition: each.high_water for each in info.partitions}
        # What is beyond the count would be taken from others, and given back at the end.
        in_flight = _IN_FLIGHT if printer.left is None else min(_IN_FLIGHT, printer.left)
        async with client.consumer(
            stream, group=group, max_in_flight=in_flight, batch_records=batch, name="consume"
        ) as consumer:
            reading = Reading(client, consumer, stream, group, printer)
            await reading.run(end)
    late = consumer.statistics().late
    if late:
        click.echo(
            f"streamer: {late:,} records were written after their time had run out, and may come "
            "again",
            err=True,
        )
    if reading.failure is not None:
        raise reading.failure


class Reading:
    """Prints deliveries while, beside it, the end is looked for."""

    def __init__(
        self, client: Client, consumer: Consumer, stream: str, group: str, printer: GroupPrinter
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._stream = stream
        self._group = group
        self._printer = printer
        #: What ended it before its time.
        self.failure: Exception | None = None
        #: Round the wait for the next delivery, and nothing else.
        self._waiting = trio.CancelScope()
        self._over = False

    async def run(self, end: dict[int, int] | None) -> None:
        """Print until the group's cursors are at `end` (by partition; None: never), the printer
        wants no more, or something is the `failure`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_at_signal, nursery.cancel_scope)
            if end is not None:
                nursery.start_soon(self._look_for, end)
            while not self._over and self._printer.left != 0:
                delivery = await self._next()
                if delivery is not None:
                    await self._print(delivery)
            nursery.cancel_scope.cancel()

    async def _stop_at_signal(self, scope: trio.CancelScope) -> None:
        """At the first signal; a second one, while the group is left, has its usual effect."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            await anext(signals)
        self.failure = Told(Exit.INTERRUPTED)
        scope.cancel()

    async def _next(self) -> Delivery | None:
        with trio.CancelScope() as self._waiting:
            return await anext(self._consumer)
        return None

    async def _print(self, delivery: Delivery) -> None:
        try:
            async with delivery:
                count = await self._write(delivery)
                if count < len(delivery):
                    await delivery.ack(delivery.offsets[:count])
                    await delivery.release()
        except Exception as error:
            self.failure, self._over = error, True

    async def _write(self, delivery: Delivery) -> int:
        try:
            return await self._printer.write(delivery)
        except OSError:
            # The records are not at fault, as leaving the block with it would say.
            with suppress(LeaseLost):
                await delivery.release()
            raise

    async def _look_for(self, end: dict[int, int]) -> None:
        pause_s, written = _LOOK_SOON_S, -1
        told: set[str] = set()
        while True:
            found = await self._client.admin(
                "group", {"stream": self._stream, "group": self._group}
            )
            if done(found, end):
                break
            for obstacle in set(obstacles(found)) - told:
                told.add(obstacle)
                click.echo(f"streamer: group {self._group}: {obstacle}", err=True)
            pause_s = min(2 * pause_s, _LOOK_MOST_S)
            if written != self._printer.written:
                pause_s, written = _LOOK_SOON_S, self._printer.written
            await trio.sleep(pause_s)
        self._over = True
        self._waiting.cancel()


def obstacles(group: dict[str, Any]) -> Iterator[str]:
    """What keeps a group from going on, a line each: its members wait."""
    if group["paused"]:
        yield "paused, waiting for its resumption"
    yield from faults(group["partition_list"])


def done(group: dict[str, Any], end: dict[int, int]) -> bool:
    """Whether the group has done all below `end`, given by partition."""
    return all(each["cursor"] >= end.get(each["partition"], 0) for each in group["partition_list"])
