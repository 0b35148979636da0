"""Records that are to come later: when they are due, and the way to where they wait.

Rules: what waits is durable at once, in the companion stream `STREAM.delayed`, and moves to its
stream when it is due; so it goes through a producer of its own, which is opened when it is first
needed and lives as long as the one that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

import trio

from streamer.errors import BadRequest
from streamer.names import DELAYED

if TYPE_CHECKING:
    from streamer.client.producer import Producer

__all__ = ["DELAYED", "DELAY_S_MAX", "Later", "due_us"]

#: Above a year it is a slip in the unit more often than a wish.
DELAY_S_MAX = 366 * 86_400


def due_us(now_us: int, delay_s: float | None, deliver_at: datetime | None) -> int:
    """When a record is due, in microseconds since 1970 UTC. A time that has passed is due at once.

    Raises:
        BadRequest: both are given, a delay is negative, or either is absurd.
    """
    if deliver_at is not None:
        if delay_s is not None:
            raise BadRequest("delay_s and deliver_at are two ways to say one thing: give one")
        if not isinstance(deliver_at, datetime):
            raise BadRequest(f"deliver_at is {type(deliver_at).__name__}, it must be a datetime")
        if deliver_at.tzinfo is None:
            raise BadRequest(f"deliver_at {deliver_at.isoformat()} has no time zone")
        due = max(now_us, round(deliver_at.timestamp() * 1_000_000))
        if due - now_us > DELAY_S_MAX * 1_000_000:
            raise BadRequest(
                f"deliver_at {deliver_at.isoformat()} is more than {DELAY_S_MAX} seconds away"
            )
        return due
    assert delay_s is not None, "asked for what is delayed"
    return now_us + delay_us(delay_s)


def delay_us(delay_s: float) -> int:
    """A delay in whole microseconds.

    Raises:
        BadRequest: it is no time, negative, or absurd.
    """
    if type(delay_s) not in (int, float) or not 0 <= delay_s <= DELAY_S_MAX:
        raise BadRequest(f"delay_s is {delay_s!r}, allowed are 0 to {DELAY_S_MAX} seconds")
    return math.ceil(delay_s * 1_000_000)


class Later:
    """The producer to `STREAM.delayed`, once there is one."""

    def __init__(self, make: Callable[[], Awaitable[Producer]]) -> None:
        self.producer: Producer | None = None
        self._make = make
        self._opening = trio.Lock()
        self._closed = False

    async def open(self) -> Producer:
        """The producer; waits for what the daemon says of its stream when there is none yet.

        Raises:
            StreamerError: there is no such stream; trio.ClosedResourceError: it was closed.
        """
        if self.producer is None:
            async with self._opening:
                if self.producer is None:
                    producer = await self._make()
                    if self._closed:
                        producer.close()
                    self.producer = producer
        return self.producer

    async def flush(self) -> Exception | None:
        """Wait until all of it is acked; what failed."""
        if self.producer is not None:
            try:
                await self.producer.flush()
            except Exception as error:
                return error
        return None

    def close(self) -> None:
        self._closed = True
        if self.producer is not None:
            self.producer.close()
