"""A daemon with groups over memory, and members of groups by hand.

Time is trio's, jumping; the wall clock goes with it. `killed` is what SIGKILL does to a daemon.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from streamer.batch import Codec
from streamer.batch import parse as parse_batch
from streamer.limits import BatchLimits
from streamer.records import Record
from streamer.testing.memory_files import MemoryFiles
from streamer.wire import frames
from streamer.wire.frames import Verb
from tests.site import UNIX, Peer, Site, open_site, passing_us

#: Nobody is asked for a sign of life while time passes.
TREE: dict[str, Any] = {"session": {"idle_s": 36_000}}
#: Long enough for whatever is under way in the daemon, and short for everything that waits.
MOMENT_S = 0.4
#: Nothing that comes comes later.
PATIENCE_S = 400.0


def tree(**tables: Any) -> dict[str, Any]:
    return {**TREE, **tables}


@asynccontextmanager
async def opened(files: MemoryFiles | None = None, **more: Any) -> AsyncGenerator[Site, None]:
    """A site whose wall clock moves."""
    tables = more.pop("tree", TREE)
    async with open_site(tables, files=files, now_us=passing_us, **more) as site:
        yield site


@asynccontextmanager
async def killed(files: MemoryFiles, **more: Any) -> AsyncGenerator[Site, None]:
    """As `opened`; at the end of the block the daemon is killed."""
    async with opened(files.process(), **more) as site:
        yield site
        files.kill()
        site.scope.cancel()


def count_of(lease: frames.Lease) -> int:
    return sum(lease.ranges[1::2]) - sum(lease.ranges[::2])


def offsets_of(*leases: frames.Lease) -> list[int]:
    return [
        offset
        for lease in leases
        for first, end in zip(lease.ranges[::2], lease.ranges[1::2], strict=True)
        for offset in range(first, end)
    ]


def records_of(lease: frames.Lease) -> list[Record]:
    """The records of a lease, whether its batch is whole or an extract."""
    batch = parse_batch(lease.batch, BatchLimits())
    records = Codec().records(batch)
    if not lease.whole:
        return records
    return [records[offset - batch.header.base_offset] for offset in offsets_of(lease)]


def small_segments(monkeypatch: pytest.MonkeyPatch, nbytes: int = 4000) -> None:
    """The daemon's own streams roll at that size; configs do not go as low."""
    from streamer.daemon import stream_settings

    monkeypatch.setattr(stream_settings, "_OWN_SEGMENT_BYTES", nbytes)


class Member:
    """One subscription to a group, by hand: whatever comes is kept until it is asked for."""

    numbers = itertools.count(1)

    def __init__(self, peer: Peer, stream: str, group: str, subscription: int) -> None:
        self.peer = peer
        self.stream = stream
        self.group = group
        self.subscription = subscription
        #: What came and was not taken yet.
        self.new: list[frames.Lease] = []
        self.revoked: list[frames.Revoke] = []
        self.ended: frames.Ended | None = None
        self.goodbye: frames.Goodbye | None = None
        #: What the daemon said of the group when it joined.
        self.told: dict[str, Any] = {}

    async def frame(self) -> frames.Frame | None:
        """The next frame, if it is an answer; else it is kept, and that is None."""
        with trio.fail_after(PATIENCE_S):
            frame = await self.peer.receive()
        if isinstance(frame, frames.Lease):
            self.new.append(frame)
        elif isinstance(frame, frames.Revoke):
            self.revoked.append(frame)
        elif isinstance(frame, frames.Ended):
            self.ended = frame
        elif isinstance(frame, frames.Goodbye):
            self.goodbye = frame
        elif isinstance(frame, frames.Ping):
            await self.peer.send(frames.Pong(frame.token))
        else:
            return frame
        return None

    async def answer(self) -> Any:
        while True:
            frame = await self.frame()
            if frame is not None:
                return frame

    async def join(self, **options: Any) -> Any:
        """None, or the `Failed` frame."""
        request = next(self.peer.numbers)
        self.ended = None
        await self.peer.send(
            frames.Join(request, self.subscription, self.stream, self.group, options)
        )
        answer = await self.answer()
        if isinstance(answer, frames.Failed):
            return answer
        self.told = answer.result
        return None

    async def take(self, records: int = 1) -> list[frames.Lease]:
        """The leases that came since the last call, once they have so many records."""
        while sum(map(count_of, self.new)) < records:
            answer = await self.frame()
            assert answer is None, answer
        found, self.new = self.new, []
        return found

    async def one(self, records: int = 1) -> frames.Lease:
        (lease,) = await self.take(records)
        assert count_of(lease) == records, lease
        return lease

    async def look(self, seconds: float = MOMENT_S) -> list[frames.Lease]:
        """The leases that came since the last call, by that time."""
        with trio.move_on_after(seconds):
            while True:
                answer = await self.frame()
                assert answer is None, answer
        found, self.new = self.new, []
        return found

    async def send(self, *items: Sequence[Any], level: int = 1) -> int:
        """Settle without waiting for the answer; items as in the frame, ends left out."""
        rows = [[int(item[0]), *item[1:], *[[], None, ""][len(item) - 2 :]] for item in items]
        request = next(self.peer.numbers)
        await self.peer.send(frames.Settle(request, self.subscription, level, rows))
        return request

    async def settle(self, *items: Sequence[Any], level: int = 1) -> Any:
        """Codes of what failed, by item; or the `Failed` frame."""
        await self.send(*items, level=level)
        answer = await self.answer()
        if not isinstance(answer, frames.Settled):
            return answer
        return {index: code for index, code, _ in answer.failures}

    async def ack(self, *leases: frames.Lease) -> None:
        assert await self.settle(*([Verb.ACK, lease.token] for lease in leases)) == {}

    async def leave(self) -> None:
        await self.peer.send(frames.Unsubscribe(self.subscription))
        await self.is_there()

    async def is_there(self) -> None:
        """All that was sent is dealt with."""
        token = next(self.numbers)
        await self.peer.send(frames.Ping(token))
        assert await self.answer() == frames.Pong(token)

    async def break_off(self) -> None:
        self.peer.stream.reset()
        await trio.sleep(MOMENT_S)


async def member(
    site: Site,
    stream: str = "s",
    group: str = "g",
    *,
    peer: Peer | None = None,
    subscription: int = 1,
    url: str = UNIX,
    **options: Any,
) -> Member:
    """One that has joined."""
    found = Member(peer or await site.peer(url), stream, group, subscription)
    failed = await found.join(**options)
    assert failed is None, failed
    return found


async def produce(
    site: Site,
    count: int,
    *,
    stream: str = "s",
    batch: int = 10,
    first: int = 0,
    size: int = 0,
    **fields: Any,
) -> list[bytes]:
    """So many records, in batches; their values are their numbers, and noise of that size."""
    peer, rng = await site.peer(), random.Random(first)
    values = [b"%d" % number for number in range(first, first + count)]
    if size:
        values = [value + b"." + rng.randbytes(size) for value in values]
    for at in range(0, count, batch):
        answer = await peer.produce(values[at : at + batch], stream, **fields)
        assert isinstance(answer, frames.Acks), answer
    await peer.stream.aclose()
    return values


async def produce_records(site: Site, rows: Sequence[Any], stream: str = "s", **more: Any) -> None:
    """One request; rows [value, key, timestamp_us, headers, deliver_at_us], ends left out."""
    peer = await site.peer()
    await peer.send(peer.records(rows, stream, **more))
    answer = await peer.receive()
    assert isinstance(answer, frames.Acks), answer
    await peer.stream.aclose()


async def admin(site: Site, verb: str, **args: Any) -> Any:
    """The result, or the `Failed` frame."""
    peer = await site.peer()
    answer = await peer.admin(verb, **args)
    await peer.stream.aclose()
    return answer


async def group(site: Site, stream: str = "s", name: str = "g") -> dict[str, Any]:
    found: dict[str, Any] = await admin(site, "group", stream=stream, group=name)
    return found


async def records_in(site: Site, stream: str) -> list[Record]:
    """All records of a stream, partition by partition; none if it is not there."""
    assert site.daemon.streams is not None
    if not site.daemon.streams.has(stream):
        return []
    found: list[Record] = []
    for partition in site.daemon.streams.get(stream).partitions:
        offset = partition.log.first_offset
        while (result := await partition.read(offset, 1 << 20)) is not None:
            blob = bytes(result.blob)
            while blob:
                length = int.from_bytes(blob[4:8], "little")
                batch = parse_batch(blob[:length], BatchLimits())
                found += Codec().records(batch)
                blob = blob[length:]
            offset = result.next_offset
    return found


async def values_in(site: Site, stream: str) -> list[bytes]:
    return [bytes(record.value) for record in await records_in(site, stream)]


async def drained(site: Site, *, stream: str = "s", name: str = "g") -> list[bytes]:
    """What a member that acks all is given, until nothing is left."""
    one = await member(site, stream, name)
    seen: list[bytes] = []
    while True:
        leases = await one.look()
        for lease in leases:
            seen += [bytes(record.value) for record in records_of(lease)]
        if leases:
            await one.ack(*leases)
        elif not (await group(site, stream, name))["lag"]:
            await one.leave()
            await one.peer.stream.aclose()
            return seen
