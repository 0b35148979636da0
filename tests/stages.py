"""Stages that a test holds up or lets fail, in front of the real ones."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from streamer.config import DEFAULT_STAGES
from streamer.pipeline.channel import Receiver, Sender, open_channel
from streamer.pipeline.registry import Registry
from streamer.pipeline.stage import Stage, StagePlugin


@attrs.frozen
class NoSettings:
    """These stages are told what to do by the test."""


class Valve:
    """The real stage of a place behind a valve: shut, nothing reaches it; broken, it raises."""

    def __init__(self, place: str, name: str = "valve") -> None:
        self.place = place
        self.name = name
        #: Raised with the next item, and then with each further one while it is set.
        self.failure: BaseException | None = None
        #: Raised by the factory.
        self.cannot_start: Exception | None = None
        #: It returns with the next item although its input is open.
        self.returns = False
        #: It drops all items.
        self.loses = False
        self.started = 0
        self._open = trio.Event()
        self._open.set()
        self._real = Registry.installed().get(place, DEFAULT_STAGES[place])

    def shut(self) -> None:
        self._open = trio.Event()

    def open(self) -> None:
        self._open.set()

    @property
    def plugin(self) -> StagePlugin:
        return StagePlugin(self.name, self.place, NoSettings, self.make)

    @property
    def registry(self) -> Registry:
        return Registry.installed().with_stages(self.plugin)

    @property
    def tree(self) -> dict[str, Any]:
        """A configuration with this stage in its place."""
        return {
            "pipelines": [{self.place: {"stage": self.name}}],
            # Not to be asked for a sign of life while time passes.
            "session": {"idle_s": 3600},
        }

    def make(self, config: NoSettings, context: Any) -> Stage:
        if self.cannot_start is not None:
            raise self.cannot_start
        self.started += 1
        real = self._real.factory(self._real.config(), context)

        async def run(receive: Receiver[Any], send: Sender[Any]) -> None:
            head: Sender[Any]
            tail: Receiver[Any]
            head, tail = open_channel(1, 1 << 30)
            with receive:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(real, tail, send)
                    with head:
                        await self._pass(receive, head)

        return run

    async def _pass(self, receive: Receiver[Any], head: Sender[Any]) -> None:
        async for item in receive:
            if self.failure is not None:
                raise self.failure
            if self.returns:
                return
            if self.loses:
                continue
            await self._open.wait()
            await head.send(item)
