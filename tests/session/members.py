"""Members of consumer groups by hand, for tests of sessions; and the honest one beside them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

import streamer
from streamer.wire import frames
from tests.site import UNIX, Peer, Site

ACK_WAIT_S = 2.0
DELIVERIES_MAX = 3
SETTINGS: dict[str, Any] = {
    "ack_wait_s": ACK_WAIT_S,
    "max_deliveries": DELIVERIES_MAX,
    "backoff_s": [0.1],
}
#: By then whatever somebody holds has been tried as often as it may be.
PATIENCE_S = 60.0


class Member:
    """A member by hand; what is given to it is kept."""

    def __init__(self, peer: Peer, group: str = "g", subscription: int = 1) -> None:
        self.peer = peer
        self.group = group
        self.subscription = subscription
        self.leases: list[frames.Lease] = []
        self.revoked: list[frames.Revoke] = []

    async def receive(self) -> frames.Frame:
        """The next frame that is no lease: those are kept, and pings are answered."""
        while True:
            frame = await self.peer.receive()
            if isinstance(frame, frames.Lease):
                self.leases.append(frame)
            elif isinstance(frame, frames.Revoke):
                self.revoked.append(frame)
            elif isinstance(frame, frames.Ping):
                await self.peer.send(frames.Pong(frame.token))
            else:
                return frame

    async def join(self, stream: str = "s", **options: Any) -> Any:
        """What the reply says, or the `Failed` frame."""
        request = next(self.peer.numbers)
        given = {**SETTINGS, **options}
        await self.peer.send(frames.Join(request, self.subscription, stream, self.group, given))
        answer = await self.receive()
        return answer.result if isinstance(answer, frames.Reply) else answer

    async def leased(self, count: int = 1) -> list[frames.Lease]:
        """Wait until it has been given so many records."""
        while sum(map(count_of, self.leases)) < count:
            frame = await self.peer.receive()
            assert isinstance(frame, frames.Lease), repr(frame)[:500]
            self.leases.append(frame)
        return self.leases

    async def settle(self, *items: Sequence[Any], level: int = 1, subscription: int = 0) -> Any:
        """Codes of what failed, by item; or the `Failed` frame."""
        rows = [[int(item[0]), *item[1:], *[[], None, ""][len(item) - 2 :]] for item in items]
        await self.peer.send(
            frames.Settle(next(self.peer.numbers), subscription or self.subscription, level, rows)
        )
        answer = await self.receive()
        if not isinstance(answer, frames.Settled):
            return answer
        return {index: code for index, code, _ in answer.failures}


def count_of(lease: frames.Lease) -> int:
    return sum(lease.ranges[1::2]) - sum(lease.ranges[::2])


@asynccontextmanager
async def member(site: Site, url: str = UNIX, **options: Any) -> AsyncGenerator[Member, None]:
    """One that has joined, until it is cut off at the end."""
    found = Member(await site.peer(url))
    answer = await found.join(**options)
    assert not isinstance(answer, frames.Failed), answer
    yield found
    found.peer.stream.reset()


async def produce(site: Site, count: int, size: int = 10) -> list[bytes]:
    """So many records, in batches of ten; their values."""
    peer = await site.peer()
    values = [b"%d" % number + b"." * size for number in range(count)]
    for first in range(0, count, 10):
        answer = await peer.produce(values[first : first + 10])
        assert isinstance(answer, frames.Acks), answer
    await peer.stream.aclose()
    return values


async def dead_values(client: streamer.Client) -> set[bytes]:
    try:
        async with client.reader("s.dead", 0, "earliest", follow=False) as reader:
            return {value async for batch in reader for value in batch.values}
    except streamer.UnknownStream:
        return set()


async def all_is_served(site: Site, values: Sequence[bytes], deadly: int = 0) -> None:
    """An honest member gets all that is not done: at the end nothing is left, and what it was
    not given, at most `deadly`, is with the dead letters."""
    seen = set()
    async with site.client() as client:
        with trio.fail_after(PATIENCE_S):
            async with client.consumer("s", group="g") as consumer, trio.open_nursery() as nursery:

                async def handle() -> None:
                    async for message in consumer.messages():
                        async with message:
                            seen.add(message.value)

                nursery.start_soon(handle)
                while True:
                    await trio.sleep(0.1)
                    [lag] = await client.admin("lag", {"stream": "s"})
                    if not lag["lag"]:
                        break
                nursery.cancel_scope.cancel()
            # The group is done with a dead letter a little before it lies where it belongs.
            while True:
                dead = await dead_values(client)
                if seen | dead == set(values):
                    break
                await trio.sleep(0.1)
    assert len(dead) <= deadly
