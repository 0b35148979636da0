"""Runs a pipeline: its stages in one nursery, the channels between them, what follows a crash.

Rules:

- Shutdown is closing the head: each stage ends when its input ends. Nothing else stops a stage
  that works.
- A stage that fails, or returns while its input is open, fails the pipeline: every append under
  way is answered (its outcome is unknown), what was proposed is taken back, and the policy says
  whether the pipeline starts again. It is never silent, and other pipelines do not notice.
- This module is one of the three places that catch everything (`except Exception`), as the edge
  between a plugin's code and the daemon.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import attrs
import structlog
import trio

from streamer.config import PipelineConfig, StageConfig, matches
from streamer.errors import OutcomeUnknown, PipelineDown
from streamer.limits import BatchLimits
from streamer.observe.events import Events
from streamer.observe.meter import Meter
from streamer.observe.taps import Taps
from streamer.pipeline.channel import ChannelStatistics, Receiver, Sender, open_channel
from streamer.pipeline.context import StageContext, StageDetail
from streamer.pipeline.disk import Disk
from streamer.pipeline.flow import Flow
from streamer.pipeline.looks import look
from streamer.pipeline.registry import Registry
from streamer.pipeline.stage import Ack, Append, Stage
from streamer.pipeline.streams import Streams
from streamer.stats import LatencySummary, Stats

DiskOpener = Callable[[str], AbstractAsyncContextManager[Disk]]


class PipelineState(enum.Enum):
    STARTING = "starting"
    RUNNING = "running"
    #: A stage failed; it starts again after a pause.
    BACKING_OFF = "backing off"
    #: A stage failed, and the policy says to leave it so.
    STOPPED = "stopped"
    DRAINED = "drained"


class StageEnded(RuntimeError):
    """A stage returned although its input had not ended."""


@attrs.frozen
class StageView:
    """One stage and the channel in front of it, for people who look."""

    place: str
    stage: str
    channel: ChannelStatistics
    #: Waiting in the channel, and what the stage takes for it.
    queueing: LatencySummary
    service: LatencySummary
    detail: StageDetail | None


class Pipeline:
    """One pipeline: appends go in by `offer` or `send`, answers come by their acks."""

    def __init__(
        self,
        config: PipelineConfig,
        *,
        registry: Registry,
        streams: Streams,
        limits: BatchLimits,
        stats: Stats,
        open_disk: DiskOpener,
        now_us: Callable[[], int],
        events: Events,
        taps: Taps,
        serves: Callable[[str], bool] | None = None,
    ) -> None:
        """`serves` tells whether a stream is this pipeline's; by default its config alone does,
        which is right where no pipeline before it matches the same streams."""
        self.config = config
        self.name = config.name
        self.state = PipelineState.STARTING
        #: When a stage last failed, and how: for health.
        self.last_error: str | None = None
        self._registry = registry
        self._streams = streams
        self._limits = limits
        self._stats = stats
        self._open_disk = open_disk
        self._now_us = now_us
        self._events = events
        self._taps = taps
        self._serves = serves or (lambda stream: matches(stream, config.streams))
        self._log = structlog.get_logger("streamer.pipeline").bind(pipeline=config.name)
        #: From taking an append in to its ack; the ack stage adds to it.
        self.append_latency = stats.latency(
            "append_seconds", "from taking an append in to its ack", pipeline=config.name
        )
        self._crashes = stats.counter("pipeline_crashes", "stage failures", pipeline=self.name)
        self._head: Sender[Append] | None = None
        self._inputs: list[tuple[str, StageConfig, Receiver[Any], Meter]] = []
        self._details: dict[str, Callable[[], StageDetail]] = {}
        self._closing = trio.Event()
        #: Appends that are not answered yet, oldest first; those that are leave lazily.
        self._under_way: deque[Append] = deque()

    def serves(self, stream: str) -> bool:
        return self._serves(stream)

    # -------------------------------------------------------------------------------- appends

    def expect(self, append: Append) -> None:
        """Answer for an append from now on (its deadline, a crash), before `offer` or `send`."""
        under_way = self._under_way
        while under_way and under_way[0].ack.done:
            under_way.popleft()
        under_way.append(append)

    def offer(self, append: Append) -> None:
        """Take an append in without waiting.

        Raises:
            trio.WouldBlock: the head of the pipeline is full.
            PipelineDown: it does not run now.
        """
        try:
            self._open_head().send_nowait(append)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PipelineDown(f"pipeline {self.name!r} stopped") from None

    async def send(self, append: Append) -> None:
        """Take an append in, waiting for room. Cancelled, it was not taken.

        Raises:
            PipelineDown: it does not run (any more).
        """
        try:
            await self._open_head().send(append)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PipelineDown(f"pipeline {self.name!r} stopped") from None

    def _open_head(self) -> Sender[Append]:
        if self._head is None or self._closing.is_set():
            raise PipelineDown(f"pipeline {self.name!r} is {self.state.value}")
        return self._head

    @property
    def oldest_s(self) -> float:
        """Age of the oldest append that is not answered: what makes no progress grows old."""
        under_way = self._under_way
        while under_way and under_way[0].ack.done:
            under_way.popleft()
        return trio.current_time() - under_way[0].accepted_at if under_way else 0.0

    # -------------------------------------------------------------------------------- running

    def close(self) -> None:
        """Take nothing more; `run` returns once everything has been answered."""
        self._closing.set()
        if self._head is not None:
            self._head.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `close` and all is drained, restarting as the policy says.

        Started after the first attempt, even if that failed: a pipeline whose stage cannot be
        made is down, and the others are not kept from starting.
        """
        pause_s = self.config.backoff_s
        async with self._open_disk(self.name) as disk:
            while True:
                began = trio.current_time()
                try:
                    await self._run_once(disk, task_status)
                except Exception as error:
                    self._crashed(error)
                    if self.state is PipelineState.STARTING:
                        task_status.started()
                else:
                    self._drained()
                    self.state = PipelineState.DRAINED
                    return
                task_status = trio.TASK_STATUS_IGNORED
                if self.config.on_crash == "stop" or self._closing.is_set():
                    self.state = PipelineState.STOPPED
                    return
                if trio.current_time() - began > self.config.backoff_max_s:
                    pause_s = self.config.backoff_s
                self.state = PipelineState.BACKING_OFF
                with trio.move_on_after(pause_s):
                    await self._closing.wait()
                    self.state = PipelineState.STOPPED
                    return
                pause_s = min(2 * pause_s, self.config.backoff_max_s)

    async def _run_once(self, disk: Disk, task_status: trio.TaskStatus[None]) -> None:
        flow = Flow()
        context = StageContext(
            pipeline=self.name,
            streams=self._streams,
            limits=self._limits,
            stats=self._stats,
            flow=flow,
            disk=disk,
            now_us=self._now_us,
            log=self._log,
            under_way=lambda: self._under_way,
            events=self._events,
            show=self._details.__setitem__,
        )
        async with trio.open_nursery() as nursery:
            head, tail = self._wire(nursery, context)
            self._head = head
            if self.state is PipelineState.BACKING_OFF:
                self._events.emit(
                    "pipeline_restarted", f"pipeline {self.name} runs again", pipeline=self.name
                )
            self.state = PipelineState.RUNNING
            task_status.started()
            if self._closing.is_set():
                head.close()
            with tail:
                # The last stage passes nothing on; a stage of a plugin may, and it ends here.
                async for _ in tail:
                    pass
            if not self._closing.is_set():
                raise StageEnded(f"pipeline {self.name!r} ended by itself")

    def _wire(
        self, nursery: trio.Nursery, context: StageContext
    ) -> tuple[Sender[Append], Receiver[Any]]:
        """Make the channels and start the stages between them."""
        self._inputs = []
        self._details.clear()
        meter: Meter | None = None
        before = "session"
        head: Sender[Any] | None = None
        send: Sender[Any] | None = None
        pending: tuple[Stage, Receiver[Any], str] | None = None
        for place, config in self.config.stages.items():
            plugin = self._registry.get(place, config.stage)
            stage = plugin.factory(config.settings, context)
            channel = config.channel
            last = len(self._inputs) == len(self.config.stages) - 1
            names = f"{self.name}/{place}.in", f"{self.name}/{before}.out"
            point = self._taps.point(look, *names)
            meter = Meter(self._stats, self.name, place, point, meter, last=last)
            before = place
            send, receive = open_channel(channel.items, channel.bytes, meter)
            self._inputs.append((place, config, receive, meter))
            self._gauge(place, receive)
            if pending is None:
                head = send
            else:
                nursery.start_soon(_run_stage, *pending, send)
            pending = (stage, receive, place)
        assert head is not None
        assert pending is not None
        send, tail = open_channel(1, 1)
        nursery.start_soon(_run_stage, *pending, send)
        return head, tail

    def _gauge(self, place: str, receive: Receiver[Any]) -> None:
        """The channel in front of a stage, for `/metrics`."""
        for name, (field, help) in _GAUGES.items():
            read = partial(_field, receive, field)
            self._stats.gauge(name, help, read, pipeline=self.name, place=place)

    def _crashed(self, error: Exception) -> None:
        self._crashes.value += 1
        self.last_error = "; ".join(texts(error))
        self._events.emit(
            "pipeline_crashed",
            f"a stage of pipeline {self.name} failed: {self.last_error[:200]}",
            severity="error",
            pipeline=self.name,
        )
        self._log.error("stage failed", error=self.last_error, exc_info=error)
        if self._head is not None:
            self._head.close()
        self._head = None
        self._answer_all()
        for stream in self._streams.all():
            if self.serves(stream.name):
                for partition in stream.partitions:
                    partition.abandon(f"a stage of pipeline {self.name!r} failed while it wrote")

    def _drained(self) -> None:
        left = sum(not append.ack.done for append in self._under_way)
        if left:
            self._log.error("a stage ended without answering all", appends=left)
        self._answer_all()

    def _answer_all(self) -> None:
        """Answer what is under way and will not be answered by a stage any more."""
        unknown = OutcomeUnknown(
            f"a stage of pipeline {self.name!r} failed: it may have been appended or not"
        )
        while self._under_way:
            self._under_way.popleft().ack.resolve_all(unknown)

    def channels(self) -> list[tuple[str, ChannelStatistics]]:
        """The place of each stage, and what waits in front of it."""
        return [(place, receive.statistics()) for place, _, receive, _ in self._inputs]

    def views(self) -> list[StageView]:
        """Each stage and what waits in front of it, in the order of the flow."""
        return [
            StageView(
                place,
                config.stage,
                receive.statistics(),
                meter.queueing.summary(),
                meter.service.summary(),
                self._detail(place),
            )
            for place, config, receive, meter in self._inputs
        ]

    def _detail(self, place: str) -> StageDetail | None:
        tell = self._details.get(place)
        if tell is None:
            return None
        try:
            return tell()
        except Exception as error:
            # What a plugin fails here is its own detail, and not the page that shows it.
            self._log.exception("stage detail failed", place=place, error=error)
            return StageDetail(f"unknown: {type(error).__name__}: {error}", {})


#: What `/metrics` says of a channel: fields of `ChannelStatistics`.
_GAUGES = {
    "channel_items": ("items", "items that wait in front of a stage"),
    "channel_items_max": ("items_max", "items that may wait"),
    "channel_bytes": ("bytes", "bytes that wait in front of a stage"),
    "channel_bytes_max": ("bytes_max", "bytes that may wait"),
    "channel_oldest_seconds": ("oldest_s", "age of what waits for longest"),
}


def _field(receive: Receiver[Any], field: str) -> float:
    value: float = getattr(receive.statistics(), field)
    return value


async def _run_stage(stage: Stage, receive: Receiver[Any], place: str, send: Sender[Any]) -> None:
    with receive, send:
        await stage(receive, send)
        if not receive.ended:
            raise StageEnded(f"stage {place!r} returned while its input was open")


def texts(error: BaseException) -> Sequence[str]:
    """What an error says, or each of a group of them."""
    if isinstance(error, BaseExceptionGroup):
        return [text for inner in error.exceptions for text in texts(inner)]
    return [f"{type(error).__name__}: {error}"]


__all__ = ["Ack", "DiskOpener", "Pipeline", "PipelineState", "StageEnded", "StageView", "texts"]
