"""The answer to a consumer's asking to join its group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.client.requests import Request
from streamer.errors import StreamerError
from streamer.wire.frames import Frame

if TYPE_CHECKING:
    from streamer.client.consumer import Consumer

__all__ = ["Joining"]


class Joining(Request):
    """The answer to a Join frame."""

    __slots__ = ("consumer", "number")

    def __init__(self, consumer: Consumer, number: int) -> None:
        self.consumer = consumer
        self.number = number

    def answered(self, frame: Frame) -> None:
        self.consumer.joined(self.number, frame)

    def refused(self, error: StreamerError) -> None:
        self.consumer.not_joined(self.number, error)

    def lost(self) -> None:
        """The consumer joins again by itself."""

    def accused(self, error: StreamerError) -> None:
        self.consumer.accused(self.number, error)
