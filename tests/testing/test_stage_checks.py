"""Each check of `stage_checks` catches a stage that is wrong in just that way, and no good one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from streamer.config import DEFAULT_STAGES
from streamer.errors import BadRequest
from streamer.pipeline.channel import Receiver, Sender, open_channel
from streamer.pipeline.registry import PLACES, Registry
from streamer.pipeline.stage import Commit, StagePlugin
from streamer.records import Receipt
from streamer.testing.stage_checks import (
    StageCheckFailed,
    check_answers_once,
    check_backpressure,
    check_cancellation,
    check_drains,
    check_stage,
)

Clock = trio.testing.MockClock
Run = Callable[[Receiver[Any], Sender[Any]], Awaitable[None]]


@attrs.frozen
class NoSettings:
    """None of these stages has any."""


def stage(place: str, run: Run) -> StagePlugin:
    return StagePlugin("wrong", place, NoSettings, lambda _config, _context: run)


def relay(act: Callable[[int, Any, Sender[Any]], Awaitable[None]]) -> Run:
    """A stage that does everything right but for what `act` does with each item."""

    async def run(receive: Receiver[Any], send: Sender[Any]) -> None:
        with receive, send:
            number = 0
            async for item in receive:
                await act(number, item, send)
                number += 1

    return run


async def pass_on(receive: Receiver[Any], send: Sender[Any]) -> None:
    """Passes everything on: right in any place between two real stages of the same values."""
    with receive, send:
        async for item in receive:
            await send.send(item)


class Behind:
    """The real stage of a place with a wrong one in front of it or behind it."""

    def __init__(self, place: str, wrong: Run) -> None:
        self._real = Registry.installed().get(place, DEFAULT_STAGES[place])
        self._wrong = wrong
        self.plugin = StagePlugin("wrong", place, NoSettings, self._make)

    def _make(self, _config: NoSettings, context: Any) -> Run:
        real = self._real.factory(self._real.config(), context)

        async def run(receive: Receiver[Any], send: Sender[Any]) -> None:
            head: Sender[Any]
            tail: Receiver[Any]
            head, tail = open_channel(1, 1 << 30)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wrong, receive, head)
                nursery.start_soon(real, tail, send)

        return run


@pytest.mark.parametrize("place", PLACES)
async def test_the_real_stages_pass(autojump_clock: Clock, place: str) -> None:
    await check_stage(Registry.installed().get(place, DEFAULT_STAGES[place]))


@pytest.mark.parametrize("place", PLACES)
async def test_a_stage_in_front_of_the_real_one_passes(autojump_clock: Clock, place: str) -> None:
    await check_stage(Behind(place, pass_on).plugin)


# ---------------------------------------------------------------------------------------- drains


async def does_not_close_its_sending_end(receive: Receiver[Any], send: Sender[Any]) -> None:
    with receive:
        async for item in receive:
            await send.send(item)


async def does_not_close_its_receiving_end(receive: Receiver[Any], send: Sender[Any]) -> None:
    with send:
        async for item in receive:
            await send.send(item)


async def does_not_return(receive: Receiver[Any], send: Sender[Any]) -> None:
    await pass_on(receive, send)
    await trio.sleep_forever()


async def returns_too_early(receive: Receiver[Any], send: Sender[Any]) -> None:
    with receive, send:
        for _ in range(3):
            await send.send(await receive.receive())


async def closes_while_it_holds_some(receive: Receiver[Any], send: Sender[Any]) -> None:
    held = []
    with receive, send:
        async for item in receive:
            held.append(item)
            if len(held) > 2:
                await send.send(held.pop(0))


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (does_not_close_its_sending_end, "returned without closing its sending end"),
        (does_not_close_its_receiving_end, "returned without closing its receiving end"),
        (does_not_return, "did not return after its input had ended"),
        (returns_too_early, "7 appends went in, 3 came out"),
        (closes_while_it_holds_some, "7 appends went in, 5 came out"),
    ],
)
async def test_drains(autojump_clock: Clock, run: Run, says: str) -> None:
    with pytest.raises(StageCheckFailed, match=f"^wrong: {says}$"):
        await check_drains(stage("ingest", run))
    with pytest.raises(StageCheckFailed):
        await check_stage(stage("ingest", run))


# --------------------------------------------------------------------------------- backpressure


async def takes_without_bound(receive: Receiver[Any], send: Sender[Any]) -> None:
    with receive, send:
        for item in [item async for item in receive]:
            await send.send(item)


@relay
async def drops_what_it_cannot_send(number: int, item: Any, send: Sender[Any]) -> None:
    with suppress(trio.WouldBlock):
        send.send_nowait(item)


@relay
async def swallows_the_fifth(number: int, item: Any, send: Sender[Any]) -> None:
    if number != 4:
        await send.send(item)


@relay
async def sends_one_twice(number: int, item: Any, send: Sender[Any]) -> None:
    await send.send(item)
    if number == 4:
        await send.send(item)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (takes_without_bound, "takes without bound while it cannot send"),
        (drops_what_it_cannot_send, "takes without bound while it cannot send"),
        (swallows_the_fifth, "60 appends went in, 59 came out"),
        (sends_one_twice, "60 appends went in, 61 came out"),
        (returns_too_early, "closed its receiving end while there was input"),
    ],
)
async def test_backpressure(autojump_clock: Clock, run: Run, says: str) -> None:
    # The messages stand at the bottom of a group where the checks' own nursery was at work.
    with pytest.raises((StageCheckFailed, ExceptionGroup)) as caught:
        await check_backpressure(stage("ingest", run))
    assert f"wrong: {says}" in leaf(caught.value)


def leaf(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StageCheckFailed)
    return str(error)


# --------------------------------------------------------------------------------- cancellation


async def leaves_its_end_open(receive: Receiver[Any], send: Sender[Any]) -> None:
    async for item in receive:
        await send.send(item)
    receive.close()
    send.close()


async def waits_whatever_happens(receive: Receiver[Any], send: Sender[Any]) -> None:
    with trio.CancelScope(shield=True), suppress(trio.BrokenResourceError):
        await pass_on(receive, send)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (leaves_its_end_open, r"cancelled at step \d+, it ended without closing its \w+ end"),
        (waits_whatever_happens, r"cancelled at step \d+, it went on"),
    ],
)
async def test_cancellation(autojump_clock: Clock, run: Run, says: str) -> None:
    with pytest.raises(StageCheckFailed, match=f"^wrong: {says}$"):
        await check_cancellation(stage("ingest", run))
    # It is right as long as nobody cancels it.
    await check_drains(stage("ingest", run))


# -------------------------------------------------------------------------------------- answers


@relay
async def never_answers(number: int, commit: Any, send: Sender[Any]) -> None:
    """As an ack stage."""


@relay
async def answers_twice(number: int, commit: Commit, send: Sender[Any]) -> None:
    """As an ack stage."""
    for proposal in commit.proposals:
        for waiter in proposal.waiters:
            receipt = Receipt("checked", 0, waiter.offset, waiter.count, commit.level, False)
            waiter.ack.resolve(waiter.index, receipt)
            waiter.ack.resolve(waiter.index, receipt)


async def test_answers_never(autojump_clock: Clock) -> None:
    with pytest.raises(StageCheckFailed, match=r"^wrong: 40 appends were never answered$"):
        await check_answers_once(stage("ack", never_answers))


async def test_answers_swallowed_on_the_way(autojump_clock: Clock) -> None:
    for place in ("ingest", "propose", "ack"):
        with pytest.raises(StageCheckFailed, match=r"^wrong: \d+ appends were never answered$"):
            await check_answers_once(Behind(place, relay(swallow_first)).plugin)


async def swallow_first(number: int, item: Any, send: Sender[Any]) -> None:
    if number:
        await send.send(item)


async def test_answers_twice(autojump_clock: Clock) -> None:
    with pytest.raises(StageCheckFailed, match=r"^wrong: an append was answered more than once$"):
        await check_answers_once(stage("ack", answers_twice))


async def test_answers_with_a_refusal(autojump_clock: Clock) -> None:
    @relay
    async def refuse(number: int, append: Any, send: Sender[Any]) -> None:
        if number == 3:
            append.ack.resolve_all(BadRequest("it does not like it"))
        else:
            await send.send(append)

    with pytest.raises(StageCheckFailed, match="an append was refused: BadRequest"):
        await check_answers_once(Behind("ingest", refuse).plugin)


async def test_answers_that_never_end(autojump_clock: Clock) -> None:
    with pytest.raises(StageCheckFailed, match="did not return"):
        await check_answers_once(stage("ack", does_not_return))
