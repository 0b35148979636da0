"""Each call, cancelled at each point where it can be: nothing is lost, stuck or there twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from streamer.client.connect import Client
from streamer.client.producer import Producer

Work = Callable[[Producer, int], Awaitable[object]]


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` just before `task` runs for the n-th time."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.task: trio.lowlevel.Task | None = None
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps -= 1
            if not self.steps:
                self.scope.cancel()


async def send(producer: Producer, turn: int) -> None:
    await producer.send(b"victim %d" % turn)


async def send_batch(producer: Producer, turn: int) -> None:
    await producer.send_batch([b"victim %d a" % turn, b"victim %d b" % turn])


async def post(producer: Producer, turn: int) -> None:
    for n in range(7):
        await producer.post(b"victim %d %d" % (turn, n))


async def post_and_flush(producer: Producer, turn: int) -> None:
    await post(producer, turn)
    await producer.flush()


@pytest.mark.parametrize("work", [send, send_batch, post, post_and_flush])
@pytest.mark.parametrize("buffer_bytes", [50, 10_000])
@pytest.mark.parametrize("steps", range(1, 14))
async def test_cancelled_at_each_step(daemon, client, work: Work, buffer_bytes, steps) -> None:
    done: list[int] = []
    cancel = CancelAtStep(steps)

    async def victim() -> None:
        cancel.task = trio.lowlevel.current_task()
        with cancel.scope:
            for turn in range(5):
                await work(producer, turn)
                done.append(turn)

    async def other(number: int) -> None:
        for turn in range(5):
            await producer.send(b"other %d %d" % (number, turn))

    async with client.producer("s", buffer_bytes=buffer_bytes, batch_records=4) as producer:
        trio.lowlevel.add_instrument(cancel)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(victim)
            for number in range(3):
                nursery.start_soon(other, number)
        trio.lowlevel.remove_instrument(cancel)
        await producer.flush()
        assert producer.buffered_bytes == 0
        assert (await producer.send(b"after")).offset == len(daemon.values("s")) - 1
    found = daemon.values("s")
    assert len(found) == len(set(found))
    assert sum(value.startswith(b"other") for value in found) == 15
    mine = [value for value in found if value.startswith(b"victim")]
    if work in (send, send_batch):
        each = 1 if work is send else 2
        # What was acked is there, and at most the one that was cancelled besides.
        assert each * len(done) <= len(mine) <= each * (len(done) + 1)
    assert mine == sorted(mine)


@pytest.mark.parametrize("steps", range(1, 12))
async def test_a_reader_cancelled_at_each_step(daemon, client: Client, steps: int) -> None:
    async with client.producer("s") as producer:
        for n in range(30):
            await producer.send(b"%d" % n)
    found: list[bytes] = []
    cancel = CancelAtStep(steps)
    daemon.batches_per_delivery = 1
    async with client.reader("s", credit_bytes=300) as reader:

        async def victim() -> None:
            cancel.task = trio.lowlevel.current_task()
            with cancel.scope:
                async for batch in reader:
                    found.extend(batch.values)

        trio.lowlevel.add_instrument(cancel)
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(victim)
        trio.lowlevel.remove_instrument(cancel)
        while len(found) < 30:
            found.extend((await anext(reader)).values)
    assert found == [b"%d" % n for n in range(30)]


@pytest.mark.parametrize("steps", range(1, 12))
async def test_opening_cancelled_at_each_step(daemon, client: Client, steps: int) -> None:
    cancel = CancelAtStep(steps)

    async def victim() -> None:
        cancel.task = trio.lowlevel.current_task()
        with cancel.scope:
            async with client.reader("s") as reader, client.producer("s", name="n") as producer:
                await producer.send(b"a")
                await anext(reader)

    trio.lowlevel.add_instrument(cancel)
    await victim()
    trio.lowlevel.remove_instrument(cancel)
    await trio.testing.wait_all_tasks_blocked()
    # Nothing is left open, and the client is of use.
    assert not daemon.sessions[-1].subscriptions
    assert not client._link._sources
    assert not client._link._subscribers
    async with client.producer("s") as producer:
        await producer.send(b"b")


@pytest.mark.parametrize("steps", range(1, 20))
async def test_a_client_cancelled_at_each_step(daemon, steps: int) -> None:
    cancel = CancelAtStep(steps)

    async def victim() -> None:
        cancel.task = trio.lowlevel.current_task()
        with cancel.scope:
            async with daemon.connect() as client, client.producer("s") as producer:
                await producer.send(b"a")
                await producer.post(b"b")

    trio.lowlevel.add_instrument(cancel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(victim)
    trio.lowlevel.remove_instrument(cancel)
    await trio.sleep(5)
    assert daemon.values("s") in ([], [b"a"], [b"a", b"b"])
