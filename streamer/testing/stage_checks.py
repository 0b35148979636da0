"""What every stage must do, as checks that a stage's author runs against it.

    from streamer.testing import stage_checks

    async def test_my_stage() -> None:
        await stage_checks.check_stage(STAGE)

Rules that are checked: a stage drains (it returns once its input has ended, loses nothing and
closes both of its ends); it holds under backpressure (it takes no more than it can pass on);
cancelled at any point it ends, and closes its ends; and every append that enters a pipeline with it
is answered exactly once. Needs a clock that jumps (pytest-trio's `autojump_clock`); uses in-memory
files.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import structlog
import trio
import trio.testing

from streamer.batch import Codec
from streamer.limits import BatchLimits
from streamer.observe.events import Events
from streamer.pipeline.channel import Receiver, Sender, open_channel
from streamer.pipeline.context import StageContext
from streamer.pipeline.disk import InlineDisk
from streamer.pipeline.flow import Flow
from streamer.pipeline.partition import TailCache
from streamer.pipeline.registry import PLACES, Registry
from streamer.pipeline.stage import Ack, Append, Outcome, Stage, StagePlugin
from streamer.pipeline.streams import Streams, StreamSettings
from streamer.records import Lane, ProducerStamp, Receipt, Record
from streamer.stats import Stats
from streamer.storage.directory import DataDirectory
from streamer.testing.memory_files import MemoryFiles

_STREAM = "checked"
_NOW_US = 1_700_000_000_000_000
#: A stage that needs more steps than this for a few items is not going to end.
_STEPS_MAX = 2_000


#: What has not happened by then will not.
_PATIENCE_S = 60.0
#: How long a stage is held up: less than any deadline after which it would refuse what it holds.
_HOLD_S = 5.0


class StageCheckFailed(AssertionError):
    """A stage does not do what every stage must."""


class _CountingAck(Ack):
    """Counts how often each outcome is given: `Ack` itself takes no notice of a second one."""

    __slots__ = ("given",)

    def __init__(self, size: int, answered: Callable[[Ack], None]) -> None:
        super().__init__(size, answered)
        self.given = [0] * size

    def resolve(self, index: int, outcome: Outcome) -> bool:
        self.given[index] += 1
        return super().resolve(index, outcome)


@asynccontextmanager
async def open_context(
    files: MemoryFiles | None = None,
    *,
    partitions: int = 1,
    under_way: Sequence[Append] = (),
    limits: BatchLimits | None = None,
) -> AsyncGenerator[StageContext, None]:
    """A stage's context over in-memory files, with one stream that can be made on first use."""
    disk, limits = InlineDisk(), limits or BatchLimits()
    directory = DataDirectory.open(files or MemoryFiles(), "/data")
    streams = Streams(
        directory,
        settings=lambda _: StreamSettings(partitions=partitions),
        streams_max=10,
        limits=limits,
        level=1,
        disk=disk,
        cache=TailCache(1024 * 1024),
        events=Events(lambda: _NOW_US),
    )
    yield StageContext(
        pipeline="checks",
        streams=streams,
        limits=limits,
        stats=Stats(),
        flow=Flow(),
        disk=disk,
        now_us=lambda: _NOW_US,
        log=structlog.get_logger("streamer.checks"),
        under_way=lambda: under_way,
        events=Events(lambda: _NOW_US),
        show=lambda place, detail: None,
    )


def make_append(number: int, answered: Callable[[Ack], None] = lambda _: None) -> Append:
    """An append: every third a batch of three records, the others a record of their own."""
    stamp = ProducerStamp(producer_id=1000 + number, epoch=0, sequence=0)
    common: dict[str, Any] = {
        "stream": _STREAM,
        "partition": None,
        "expected": None,
        "lane": Lane.HIGH if number % 5 == 4 else Lane.NORMAL,
        "ack": _CountingAck(1, answered),
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
    await _made(plugin, settings, context)(receive, send)
    found: list[Any] = []
    try:
        while True:
            found += await tail.receive_all()
    except trio.EndOfChannel:
        return found


def _made(plugin: StagePlugin, settings: Any, context: StageContext) -> Stage:
    return plugin.factory(plugin.config() if settings is None else settings, context)


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
        with trio.move_on_after(_PATIENCE_S) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_made(plugin, settings, context), receive, send)
                nursery.start_soon(_feed, plugin, head, items)
        if scope.cancelled_caught:
            raise StageCheckFailed(f"{plugin.name}: did not return after its input had ended")
        found = await _closed(f"{plugin.name}: returned", receive, tail)
        _check_whole(plugin, items, found)


async def _closed(what: str, receive: Receiver[Any], tail: Receiver[Any]) -> list[Any]:
    """Check that both ends are closed, so that no neighbour waits for it for ever; what it sent."""
    try:
        receive.clone().close()
    except trio.ClosedResourceError:
        pass
    else:
        raise StageCheckFailed(f"{what} without closing its receiving end")
    found: list[Any] = []
    while tail.statistics().items:
        found += await tail.receive_all()
    if not tail.ended:
        raise StageCheckFailed(f"{what} without closing its sending end")
    return found


def _check_whole(plugin: StagePlugin, items: Sequence[Any], found: Sequence[Any]) -> None:
    """What went in came out; from the last place nothing comes, and its answers are counted by
    `check_answers_once`."""
    if plugin.place == PLACES[-1]:
        return
    expected, got = sum(map(_size, items)), sum(map(_size, found))
    if got != expected:
        raise StageCheckFailed(f"{plugin.name}: {expected} appends went in, {got} came out")


async def check_backpressure(plugin: StagePlugin, settings: Any = None) -> None:
    """With nobody taking what it sends, it stops taking; what it holds comes out afterwards."""
    if plugin.place == PLACES[-1]:
        return
    async with open_context() as context:
        items = await _prepared(plugin, context, 60)
        head, receive = _channel(1)
        send, tail = _channel(1)
        found: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_made(plugin, settings, context), receive, send)
            nursery.start_soon(_feed, plugin, head, items)
            await trio.sleep(_HOLD_S)
            # One that the group before it made of all would say nothing.
            if head.statistics().items_total == len(items) > 4:
                raise StageCheckFailed(f"{plugin.name}: takes without bound while it cannot send")
            async for item in tail:
                found.append(item)
        _check_whole(plugin, items, found)


async def _feed(plugin: StagePlugin, head: Sender[Any], items: Sequence[Any]) -> None:
    with head:
        for item in items:
            try:
                await head.send(item)
            except trio.BrokenResourceError:
                raise StageCheckFailed(
                    f"{plugin.name}: closed its receiving end while there was input"
                ) from None


def _size(item: Any) -> int:
    """Appends (or their waiters) in an item of any place."""
    for name in ("appends", "waiters"):
        if hasattr(item, name):
            return len(getattr(item, name))
    if hasattr(item, "proposals"):
        return sum(len(proposal.waiters) for proposal in item.proposals)
    return 1


class _CancelAt(trio.abc.Instrument):
    """Cancels `scope` when the stage's task is about to take its n-th step, and counts the rest."""

    def __init__(self, task_name: str, step: int, scope: trio.CancelScope) -> None:
        self._task_name = task_name
        self._left = step
        self._scope = scope
        self.steps_after = 0

    @property
    def cancelled(self) -> bool:
        return self._scope.cancel_called

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name != self._task_name:
            return
        if self._left:
            self._left -= 1
        elif self.cancelled:
            self.steps_after += 1
        else:
            self._scope.cancel()


async def check_cancellation(plugin: StagePlugin, settings: Any = None) -> None:
    """Cancelled before any of its steps, it ends at once and closes its ends."""
    for ending in (True, False):
        for step in range(_STEPS_MAX):
            if not await _check_cancelled_at(plugin, settings, step, ending):
                break
        else:
            raise StageCheckFailed(
                f"{plugin.name}: took more than {_STEPS_MAX} steps for four appends"
            )


async def _check_cancelled_at(plugin: StagePlugin, settings: Any, step: int, ending: bool) -> bool:
    """Cancel it before that step, with an input that ends or one that does not (so that it waits
    for more); whether it got so far."""
    what = f"{plugin.name}: cancelled at step {step}, it"
    async with open_context() as context:
        items = await _prepared(plugin, context, 4)
        head, receive = _channel(100)
        send, tail = _channel(10_000)
        for item in items:
            head.send_nowait(item)
        if ending:
            head.close()
        stage = _made(plugin, settings, context)
        returned = stuck = False

        async def run() -> None:
            nonlocal returned
            await stage(receive, send)
            returned = True

        with trio.CancelScope() as scope:
            instrument = _CancelAt("checked stage", step, scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run, name="checked stage")
                    if not ending:
                        with trio.CancelScope(shield=True):
                            await trio.testing.wait_all_tasks_blocked()
                        stuck = instrument.cancelled and nursery.child_tasks != frozenset()
                        # Lets it go: by the end of its input, and of whom it sends to.
                        head.close()
                        if stuck:
                            tail.close()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        if not instrument.cancelled:
            return False
        if stuck or (returned and instrument.steps_after > 1):
            raise StageCheckFailed(f"{what} went on")
        await _closed(what + " ended", receive, tail)
        return True


async def check_answers_once(plugin: StagePlugin, settings: Any = None) -> None:
    """In a pipeline of streamer's own stages with this one, every append is answered once."""
    async with open_context() as context:
        stages = {**_default_stages(), plugin.place: plugin}
        appends = [make_append(number) for number in range(40)]
        items: Sequence[Any] = appends
        for place in PLACES:
            own = settings if place == plugin.place else None
            with trio.move_on_after(_PATIENCE_S) as scope:
                items = await run_stage(stages[place], context, items, own)
            if scope.cancelled_caught:
                raise StageCheckFailed(f"{plugin.name}: did not return after its input had ended")
    acks = [append.ack for append in appends]
    unanswered = sum(not ack.done for ack in acks)
    if unanswered:
        raise StageCheckFailed(f"{plugin.name}: {unanswered} appends were never answered")
    if any(isinstance(ack, _CountingAck) and max(ack.given) > 1 for ack in acks):
        raise StageCheckFailed(f"{plugin.name}: an append was answered more than once")
    failed = [
        outcome for ack in acks for outcome in ack.outcomes if not isinstance(outcome, Receipt)
    ]
    if failed:
        raise StageCheckFailed(f"{plugin.name}: an append was refused: {failed[0]!r}")
