"""A consumer that ends, in whatever way, gives back what was not begun, and counts nothing for it;
and what ended it comes out of `connect` as it is."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import trio

from streamer.client.connect import Client, open_client
from streamer.client.consumer import Consumer
from streamer.transport import RawTransport, Transport
from tests.client.conftest import Daemon
from tests.site import Site, open_site

RECORDS = 50


class Odd(BaseException):
    """As a test runner's, or a framework's."""


async def fill(site: Site) -> None:
    async with site.client() as client, client.producer("s") as producer:
        for at in range(0, RECORDS, 10):
            await producer.send_batch([b"%d" % n for n in range(at, at + 10)])


async def work(consumer: Consumer, end: Callable[[], object]) -> None:
    """The loop of the README; `end` is called while the fourth is handled."""
    number = 0
    async for message in consumer.messages():
        async with message:
            number += 1
            if number == 4:
                end()
                await trio.sleep_forever()


async def attempts(site: Site, mode: str) -> dict[int, int]:
    """The attempt with which each record comes now."""
    found: dict[int, int] = {}
    async with site.client() as client:
        (group,) = await client.groups()
        assert (group.members, group.in_flight) == (0, 0)
        async with client.consumer("s", "g", mode=mode) as consumer:
            with trio.move_on_after(30):
                async for delivery in consumer:
                    async with delivery:
                        found.update(dict.fromkeys(delivery.offsets, delivery.attempt))
    return found


def raiser(error: BaseException) -> Callable[[], object]:
    def end() -> None:
        raise error

    return end


@pytest.mark.parametrize("mode", ["shared", "ordered"])
@pytest.mark.parametrize(
    ("error", "failed"),
    [(KeyboardInterrupt(), 0), (SystemExit(3), 0), (Odd("mine"), 0), (ValueError("mine"), 1)],
)
async def test_it_ends_by_what_its_program_raises(error, failed, mode) -> None:
    async with open_site() as site:
        await fill(site)
        caught: BaseException | None = None
        try:
            async with site.client() as client, client.consumer("s", "g", mode=mode) as consumer:
                await work(consumer, raiser(error))
        except BaseException as raised:
            caught = raised
        assert caught is error
        assert not hasattr(error, "__notes__")
        counts = consumer.statistics()
        assert (counts.acked, counts.nacked, counts.late, counts.held) == (3, failed, 0, 0)
        found = await attempts(site, mode)
    assert found == {n: 1 + (n == 3 and failed) for n in range(3, RECORDS)}


@pytest.mark.parametrize("mode", ["shared", "ordered"])
async def test_it_ends_by_a_cancellation_around_the_client(mode) -> None:
    async with open_site() as site:
        await fill(site)
        with trio.CancelScope() as scope:
            async with site.client() as client, client.consumer("s", "g", mode=mode) as consumer:
                await work(consumer, scope.cancel)
        assert scope.cancelled_caught
        assert consumer.statistics().late == 0
        found = await attempts(site, mode)
    assert found == dict.fromkeys(range(3, RECORDS), 1)


async def test_it_ends_by_a_cancellation_among_several_tasks() -> None:
    async with open_site() as site:
        await fill(site)
        with trio.CancelScope() as scope:
            async with (
                site.client() as client,
                client.consumer("s", "g") as consumer,
                trio.open_nursery() as nursery,
            ):
                for _ in range(3):
                    nursery.start_soon(work, consumer, scope.cancel)
        assert scope.cancelled_caught
        found = await attempts(site, "shared")
    assert set(found.values()) == {1}


@pytest.mark.parametrize("error", [SystemExit(0), ValueError("mine")])
async def test_it_is_left_in_order_and_then_the_program_ends(error) -> None:
    async with open_site() as site:
        await fill(site)
        caught: BaseException | None = None
        try:
            async with site.client() as client:
                async with client.consumer("s", "g") as consumer:
                    async for _ in consumer.messages():
                        break
                raise error
        except BaseException as raised:
            caught = raised
        assert caught is error
        found = await attempts(site, "shared")
    assert found == dict.fromkeys(range(RECORDS), 1)


async def test_it_is_cancelled_while_it_leaves() -> None:
    async with open_site() as site:
        await fill(site)
        with trio.CancelScope() as scope:
            async with (
                site.client() as client,
                client.consumer("s", "g") as consumer,
                await anext(consumer),
            ):
                scope.cancel()
        found = await attempts(site, "shared")
    assert found == dict.fromkeys(range(10, RECORDS), 1)


# ------------------------------------------------------------------------------------- Ctrl-C


class Interrupting(RawTransport):
    """A connection in whose every message Ctrl-C is pressed, once it is armed."""

    armed = False

    def _press(self) -> None:
        if Interrupting.armed:
            Interrupting.armed = False
            signal.raise_signal(signal.SIGINT)

    async def send_all(self, messages) -> None:
        self._press()
        await super().send_all(messages)

    async def receive(self) -> bytes:
        data = await super().receive()
        self._press()
        return data


@pytest.mark.parametrize("where", ["dialling", "reading and writing"])
def test_ctrl_c_inside_the_client_is_the_program_s(where: str) -> None:
    async def ask(client: Client) -> None:
        for _ in range(5):
            Interrupting.armed = True
            await client.streams()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            daemon = Daemon(nursery)

            async def dial(inner: trio.Nursery) -> Transport:
                plain = await daemon.dial(inner)
                if where == "dialling":
                    signal.raise_signal(signal.SIGINT)
                assert isinstance(plain, RawTransport)
                return Interrupting(plain._stream, daemon.limits.frame_bytes)

            try:
                async with open_client(dial) as client:
                    await ask(client)
                raise AssertionError("not interrupted")
            except KeyboardInterrupt:
                nursery.cancel_scope.cancel()
                raised.append(where)

    raised: list[str] = []
    trio.run(main)
    assert raised == [where]
