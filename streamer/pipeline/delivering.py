"""Keeps the deliver stage running: started again after a crash, with growing pauses.

A crash of it ends the memberships of all groups and nothing else; members join again when it is
back. This module is an edge between a plugin's code and the daemon, as `runner` is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import structlog
import trio

from streamer.errors import PipelineDown, StreamerError
from streamer.pipeline.deliver import Deliverer, Joined, Port
from streamer.pipeline.runner import texts

_log = structlog.get_logger("streamer.deliver")
_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 30.0
_START_S = 5.0


@attrs.define(eq=False)
class Delivering:
    """`make` gives a fresh stage, for each start."""

    make: Callable[[], Deliverer]
    last_error: str | None = None
    #: It was closed, and has come to its end.
    drained: bool = False
    _deliverer: Deliverer | None = None
    _closing: trio.Event = attrs.Factory(trio.Event)
    #: The first attempt has come to something.
    _tried: trio.Event = attrs.Factory(trio.Event)
    _starting: trio.CancelScope = attrs.Factory(trio.CancelScope)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `close`. Started once the stage is, or has failed, or takes too long: a full
        disk, say, must not keep the daemon from serving what is there."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            with trio.move_on_after(_START_S):
                await self._tried.wait()
            task_status.started()

    async def _keep(self) -> None:
        pause_s = _BACKOFF_S
        while not self._closing.is_set():
            began = trio.current_time()
            try:
                await self._run_once()
            except Exception as error:
                self.last_error = "; ".join(texts(error))
                _log.error("deliver stage failed", error=self.last_error, exc_info=error)
            finally:
                self._deliverer = None
            self._tried.set()
            if trio.current_time() - began > _BACKOFF_MAX_S:
                pause_s = _BACKOFF_S
            with trio.move_on_after(pause_s):
                await self._closing.wait()
            pause_s = min(2 * pause_s, _BACKOFF_MAX_S)
        self.drained = True

    async def _run_once(self) -> None:
        deliverer = self.make()
        with trio.CancelScope() as self._starting:
            async with trio.open_nursery() as nursery:
                await nursery.start(deliverer.run)
                self._deliverer = deliverer
                self.last_error = None
                self._tried.set()
                if self._closing.is_set():
                    deliverer.close()

    def close(self) -> None:
        """Hand out nothing more; `run` returns once all is durable."""
        self._closing.set()
        if self._deliverer is not None:
            self._deliverer.close()
        else:
            # It has nothing yet that could get lost.
            self._starting.cancel()

    def join(
        self,
        port: Port,
        stream: str,
        group: str,
        options: Mapping[str, Any],
        answer: Callable[[Joined], None],
    ) -> None:
        if self._deliverer is None:
            answer(self._down())
        else:
            self._deliverer.join(port, stream, group, options, answer)

    async def ask(self, verb: str, args: dict[str, Any]) -> Any:
        """Raises:
        PipelineDown: the stage does not run now.
        """
        if self._deliverer is None:
            raise self._down()
        try:
            return await self._deliverer.ask(verb, args)
        except StreamerError:
            raise
        except Exception as error:
            # A fault of a plugin is not to end the session that asked.
            _log.error("a question about groups failed", verb=verb, exc_info=error)
            raise StreamerError(f"{verb}: {type(error).__name__}: {error}") from error

    @property
    def down(self) -> str:
        """Why there are no consumer groups now; "" if there are."""
        if self._deliverer is not None or self.last_error is None:
            return ""
        return f"consumer groups are down: {self.last_error}"

    def health(self) -> list[str]:
        """What is wrong with some of it, while the rest goes on."""
        if self._deliverer is None:
            return []
        try:
            return self._deliverer.health()
        except Exception as error:
            # It is asked each second, by a task whose end is the daemon's.
            _log.error("the health of groups is unknown", exc_info=error)
            return [f"the health of consumer groups is unknown: {type(error).__name__}: {error}"]

    def varz(self) -> Any:
        return None if self._deliverer is None else self._deliverer.varz()

    def _down(self) -> PipelineDown:
        return PipelineDown("consumer groups are down")
