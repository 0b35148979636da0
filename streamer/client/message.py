"""A message: one record of a delivery, that is settled by itself.

Rules: it is made for each record, so it holds next to nothing, and looks up the rest when asked.
Its verbs are those of its delivery, and so is what leaving its block says.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from streamer.client.delivery import Delivery
from streamer.client.verdicts import verdict
from streamer.records import Record

__all__ = ["Message"]


class Message:
    """One record of a delivery, settled by itself. Made by `Consumer.messages`."""

    __slots__ = ("_index", "delivery", "offset", "value")

    def __init__(self, delivery: Delivery, index: int, offset: int, value: bytes) -> None:
        self.delivery = delivery
        self.offset = offset
        self.value = value
        self._index = index

    def __repr__(self) -> str:
        return f"<Message {self.stream!r}/{self.partition} offset {self.offset}>"

    @property
    def stream(self) -> str:
        return self.delivery.stream

    @property
    def partition(self) -> int:
        return self.delivery.partition

    @property
    def token(self) -> int:
        return self.delivery.token

    @property
    def attempt(self) -> int:
        return self.delivery.attempt

    @property
    def key(self) -> bytes | None:
        keys = self.delivery.columns().keys
        return None if keys is None else keys[self._index]

    @property
    def headers(self) -> Mapping[str, bytes] | None:
        headers = self.delivery.columns().headers
        return None if headers is None else headers[self._index]

    @property
    def timestamp_us(self) -> int:
        deltas = self.delivery.columns().timestamp_deltas_us
        batch = self.delivery.batch
        assert batch is not None, "decoded, so it was opened"
        return batch.header.base_timestamp_us + (deltas[self._index] if deltas else 0)

    @property
    def record(self) -> Record:
        """The record with everything that belongs to it."""
        return Record(self.value, self.key, self.timestamp_us, self.headers)

    async def ack(self) -> None:
        """It is done with. Raises: as `Delivery.ack`, and so do the other verbs."""
        await self.delivery.ack([self.offset])

    async def nack(self, delay_s: float | None = None, reason: str = "") -> None:
        """Handling it failed: deliver it again, after `delay_s` or the group's backoff."""
        await self.delivery.nack([self.offset], delay_s, reason)

    async def term(self, reason: str) -> None:
        """It can never be handled: put it to the dead letters."""
        await self.delivery.term(reason, [self.offset])

    async def release(self) -> None:
        """Give it back, without counting an attempt."""
        await self.delivery.release([self.offset])

    async def extend(self) -> None:
        """Prolong the lease that it belongs to."""
        await self.delivery.extend()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        delivery, offset = self.delivery, self.offset
        if error is None:
            delivery.settle_one(offset)
            settling = delivery._owner.settling
            if settling.crowded:
                await settling.room()
        elif delivery.holds(offset):
            delivery.settle(*verdict(error, [offset, offset + 1]))
