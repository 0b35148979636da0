"""What every stage must do, as checks that a stage's author runs against it.

    from streamer.testing import stage_checks

    async def test_my_stage() -> None:
        await stage_checks.check_stage(STAGE)

Rules that are checked: a stage drains (it returns once its input has ended, and closes both of its
ends); it holds under backpressure (it takes no more than it can pass on); cancelled at any point it
ends, and closes its ends; and every append that enters a pipeline with it is answered exactly
once. Needs pytest-trio's or your own trio; uses in-memory files and no real time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import structlog
import trio

from streamer.batch import Codec
from streamer.limits import BatchLimits
from streamer.pipeline.channel import Receiver, Sender, open_channel
from streamer.pipeline.context import StageContext
from streamer.pipeline.disk import InlineDisk
from streamer.pipeline.flow import Flow
from streamer.pipeline.partition import TailCache
from streamer.pipeline.registry import PLACES, Registry
from streamer.pipeline.stage import Ack, Append, StagePlugin
from streamer.pipeline.streams import Streams, StreamSettings
from streamer.records import Lane, ProducerStamp, Receipt, Record
from streamer.stats import Stats
from streamer.storage.directory import DataDirectory
from streamer.testing.memory_files import MemoryFiles

_STREAM = "checked"
_NOW_US = 1_700_000_000_000_000
#: A stage that needs more steps than this for a few items is not going to end.
_STEPS_MAX = 2_000


class StageCheckFailed(AssertionError):
    """A stage does not do what every stage must."""


@asynccontextmanager
async def open_context(
    files: MemoryFiles | None = None, *, partitions: int = 1
) -> AsyncGenerator[StageContext, None]:
    """A stage's context over in-memory files, with one stream that can be made on first use."""
    disk = InlineDisk()
    directory = DataDirectory.open(files or MemoryFiles(), "/data")
    streams = Streams(
        directory,
        settings=lambda _: StreamSettings(partitions=partitions),
        streams_max=10,
        limits=BatchLimits(),
        level=1,
        disk=disk,
        cache=TailCache(1024 * 1024),
    )
    yield StageContext(
        pipeline="checks",
        streams=streams,
        limits=BatchLimits(),
        stats=Stats(),
        flow=Flow(),
        disk=disk,
        now_us=lambda: _NOW_US,
        log=structlog.get_logger("streamer.checks"),
    )


def make_append(number: int, answered: Callable[[Ack], None] = lambda _: None) -> Append:
    """An append: every third a batch of three records, the others a record of their own."""
    stamp = ProducerStamp(producer_id=1000 + number, epoch=0, sequence=0)
    common: dict[str, Any] = {
        "stream": _STREAM,
        "partition": None,
        "expected": None,
        "lane": Lane.HIGH if number % 5 == 4 else Lane.NORMAL,
        "ack": Ack(1, answered),
        "accepted_at": trio.current_time(),
    }
    if number % 3 == 2:
        values = [b"record %d of batch %d" % (record, number) for record in range(3)]
        batch = Codec().encode_values(values, now_us=_NOW_US, stamp=stamp)
        return Append(nbytes=batch.nbytes, batch=batch, **common)
    record = Record(b"record %d" % number, key=b"%d" % number)
    return Append(nbytes=record.nbytes, records=[record], stamp=stamp, **common)


def _channel(items: int) -> tuple[Sender[Any], Receiver[Any]]:
    """A channel that only the number of items bounds."""
    return open_channel(items, 1 << 30)


@attrs.define(eq=False)
class _Flowing:
    """The stages before the checked one, run for real, so that it gets true input."""

    context: StageContext
    before: Sequence[StagePlugin]

    async def input(self, count: int) -> list[Any]:
        """What the checked stage would receive for `count` appends."""
        items: list[Any] = [make_append(number) for number in range(count)]
        for plugin in self.before:
            items = await run_stage(plugin, self.context, items)
        return items


async def run_stage(
    plugin: StagePlugin, context: StageContext, items: Sequence[Any], settings: Any = None
) -> list[Any]:
    """Feed a stage, end its input, and give what it sent until it returned."""
    head, receive = _channel(len(items) + 1)
    send, tail = _channel(10_000)
    for item in items:
        head.send_nowait(item)
    head.close()
    stage = plugin.factory(plugin.config() if settings is None else settings, context)
    await stage(receive, send)
    found: list[Any] = []
    try:
        while True:
            found += await tail.receive_all()
    except trio.EndOfChannel:
        return found


def _default_stages() -> dict[str, StagePlugin]:
    registry = Registry.installed()
    names = {"ingest": "group", "propose": "local", "persist": "log", "ack": "session"}
    return {place: registry.get(place, name) for place, name in names.items()}


async def check_stage(plugin: StagePlugin, settings: Any = None) -> None:
    """Run every check.

    Args:
        plugin: the stage; those of the other places are streamer's own.
        settings: an instance of its settings class, else one with the defaults.

    Raises:
        StageCheckFailed: naming what it does not do.
    """
    for check in (check_drains, check_backpressure, check_cancellation, check_answers_once):
        await check(plugin, settings)


async def _prepared(plugin: StagePlugin, context: StageContext, count: int) -> list[Any]:
    stages = _default_stages()
    before = [stages[place] for place in PLACES[: PLACES.index(plugin.place)]]
    return await _Flowing(context, before).input(count)


async def check_drains(plugin: StagePlugin, settings: Any = None) -> None:
    """It returns once its input has ended, with nothing left behind and both ends closed."""
    async with open_context() as context:
        items = await _prepared(plugin, context, 7)
        head, receive = _channel(100)
        send, tail = _channel(10_000)
        stage = plugin.factory(plugin.config() if settings is None else settings, context)
        with trio.move_on_after(60) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stage, receive, send)
                for item in items:
                    await head.send(item)
                head.close()
        if scope.cancelled_caught:
            raise StageCheckFailed(f"{plugin.name}: did not return after its input had ended")
        _check_closed(plugin, head, tail)


def _check_closed(plugin: StagePlugin, head: Sender[Any], tail: Receiver[Any]) -> None:
    """Both ends are closed, so that its neighbours do not wait for it for ever."""
    try:
        head.clone()
    except trio.ClosedResourceError:
        pass
    except trio.BrokenResourceError:
        return
    statistics = head.statistics()
    if statistics.items:
        raise StageCheckFailed(f"{plugin.name}: left {statistics.items} items behind")
    if not tail.ended and not tail.statistics().items:
        raise StageCheckFailed(f"{plugin.name}: returned without closing its sending end")


async def check_backpressure(plugin: StagePlugin, settings: Any = None) -> None:
    """With nobody taking what it sends, it stops taking; what it holds comes out afterwards."""
    if plugin.place == PLACES[-1]:
        return
    count = 60
    async with open_context() as context:
        items = await _prepared(plugin, context, count)
        expected = sum(_size(item) for item in items)
        head, receive = _channel(1)
        send, tail = _channel(1)
        stage = plugin.factory(plugin.config() if settings is None else settings, context)
        got = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage, receive, send)
            nursery.start_soon(_feed, head, items)
            with trio.move_on_after(5):
                await trio.sleep_forever()
            if head.statistics().items_total == len(items) > 4:
                raise StageCheckFailed(f"{plugin.name}: takes without bound while it cannot send")
            async for item in tail:
                got += _size(item)
        if got != expected:
            raise StageCheckFailed(f"{plugin.name}: {expected} appends went in, {got} came out")


async def _feed(head: Sender[Any], items: Sequence[Any]) -> None:
    with head:
        for item in items:
            await head.send(item)


def _size(item: Any) -> int:
    """Appends (or their waiters) in an item of any place."""
    for name in ("appends", "waiters"):
        if hasattr(item, name):
            return len(getattr(item, name))
    if hasattr(item, "proposals"):
        return sum(len(proposal.waiters) for proposal in item.proposals)
    return 1


class _CancelAt(trio.abc.Instrument):
    """Cancels `scope` when the stage's task is about to take its n-th step."""

    def __init__(self, task_name: str, step: int, scope: trio.CancelScope) -> None:
        self._task_name = task_name
        self._left = step
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == self._task_name:
            if not self._left:
                self._scope.cancel()
            self._left -= 1


async def check_cancellation(plugin: StagePlugin, settings: Any = None) -> None:
    """Cancelled before any of its steps, it ends at once and closes its ends."""
    for step in range(_STEPS_MAX):
        async with open_context() as context:
            items = await _prepared(plugin, context, 4)
            head, receive = _channel(100)
            send, tail = _channel(10_000)
            for item in items:
                head.send_nowait(item)
            head.close()
            stage = plugin.factory(plugin.config() if settings is None else settings, context)
            if not await _cancelled_at(step, stage, receive, send):
                return
            if not tail.ended and not tail.statistics().items:
                raise StageCheckFailed(
                    f"{plugin.name}: cancelled at step {step}, it left its sending end open"
                )
    raise StageCheckFailed(f"{plugin.name}: took more than {_STEPS_MAX} steps for four appends")


async def _cancelled_at(
    step: int, stage: Callable[..., Awaitable[None]], receive: Receiver[Any], send: Sender[Any]
) -> bool:
    """Run a stage and cancel it before that step; whether it got so far."""
    ended = False

    async def run() -> None:
        nonlocal ended
        await stage(receive, send)
        ended = True

    with trio.CancelScope() as scope:
        instrument = _CancelAt("checked stage", step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, name="checked stage")
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not ended


async def check_answers_once(plugin: StagePlugin, settings: Any = None) -> None:
    """In a pipeline of streamer's own stages with this one, every append is answered once."""
    answers: dict[Ack, int] = {}

    def answered(ack: Ack) -> None:
        answers[ack] = answers.get(ack, 0) + 1

    async with open_context() as context:
        stages = {**_default_stages(), plugin.place: plugin}
        appends = [make_append(number, answered) for number in range(40)]
        items: Sequence[Any] = appends
        for place in PLACES:
            own = settings if place == plugin.place else None
            items = await run_stage(stages[place], context, items, own)
    unanswered = [append for append in appends if not append.ack.done]
    if unanswered:
        raise StageCheckFailed(f"{plugin.name}: {len(unanswered)} appends were never answered")
    if set(answers.values()) != {1}:
        raise StageCheckFailed(f"{plugin.name}: an append was answered more than once")
    failed = [
        outcome
        for append in appends
        for outcome in append.ack.outcomes
        if not isinstance(outcome, Receipt)
    ]
    if failed:
        raise StageCheckFailed(f"{plugin.name}: an append was refused: {failed[0]!r}")
