"""`connect`: a client, its nursery, and its connection.

Rules: the connection, producers and readers of a client end with its block. What goes wrong with
the connection is raised where somebody waits for it, and by every later call. What the program
raises in the block comes out as it is; a group of exceptions means that the client itself failed.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import trio

from streamer.addresses import FORMS, Address, parse
from streamer.client.consumer import Consumer
from streamer.client.consumer_settings import ConsumerSettings, check_names
from streamer.client.dead_letters import Letters
from streamer.client.delays import DELAYED, Later
from streamer.client.groups import GroupAdmin
from streamer.client.link import Dial, Link, LinkSettings
from streamer.client.producer import Committed, Producer, ProducerSettings
from streamer.client.reader import Position, Reader
from streamer.errors import BadRequest, UnknownPartition
from streamer.limits import GIB, KIB, MIB, BatchLimits, WireLimits
from streamer.records import AckLevel, Lane
from streamer.transport import Transport, open_transport
from streamer.wire import frames
from streamer.wire.frames import Frame, Start

__all__ = ["DEFAULT_URL", "Client", "connect", "open_client"]

DEFAULT_URL = "ws://127.0.0.1:4440"


class Client(GroupAdmin):
    """One connection to a daemon, and all that goes over it. Made by `connect`."""

    @property
    def server_name(self) -> str:
        """What the daemon calls itself."""
        return self._link.server_name

    @property
    def limits(self) -> tuple[BatchLimits, WireLimits]:
        """What the daemon takes: of a batch, and of a session. As it told when it was reached
        last."""
        return self._link.batch_limits, self._link.limits

    @property
    def connected(self) -> bool:
        """Whether there is a connection now. Calls wait for one, so this is for display."""
        return self._link.connected

    @asynccontextmanager
    async def producer(
        self,
        stream: str,
        *,
        partition: int | None = None,
        lane: Lane = Lane.NORMAL,
        name: str | None = None,
        linger_s: float = 0.0,
        batch_records: int = 1000,
        batch_bytes: int = 512 * KIB,
        buffer_bytes: int = 32 * MIB,
        in_flight: int = 16,
        delivery_timeout_s: float = 120.0,
        idempotent: bool = True,
        dictionary: bool = False,
    ) -> AsyncGenerator[Producer, None]:
        """A producer for one stream, which is made if it may be. Leaving the block flushes it.

        If the block raises, what was posted is still flushed before the exception goes on,
        except where the block was cancelled: then what is not acked yet is given up.

        Args:
            partition: Where everything goes; by default by key, and without a key in turns.
            name: Survives the program: the daemon fences an older run under the same name, and
                `Producer.committed` says where it had got to.
            linger_s: How long records wait for company while nothing is under way.
            batch_records, batch_bytes: The most that `send` and `post` group into a batch.
            buffer_bytes: Records that may be in and not acked; above that, calls wait.
            in_flight: Requests under way at once in each partition.
            delivery_timeout_s: How long a record is tried.
            idempotent: Each record is appended once, whatever is sent again. Without it, what
                is sent again after a broken connection may be there twice.
            dictionary: Compress with the stream's dictionary, if it has one.

        Raises:
            BadRequest: a setting that cannot work.
            UnknownStream, UnknownPartition, NotAllowed: there is nothing to produce to.
            StreamerError: on leaving, what failed of the posted records.
        """
        settings = ProducerSettings(
            lane,
            linger_s,
            batch_records,
            batch_bytes,
            buffer_bytes,
            in_flight,
            delivery_timeout_s,
        )
        settings.check()
        if name is not None and not idempotent:
            raise BadRequest("a producer with a name is idempotent")
        info = await self.stream(stream, create=True)
        count = len(info.partitions)
        if partition is not None and not 0 <= partition < count:
            raise UnknownPartition(
                f"stream {stream!r} has partitions 0 to {count - 1}, not {partition}"
            )
        producer_id, epoch = self._link.new_producer_id() if idempotent else 0, 0
        committed: dict[int, Committed] = {}
        if name is not None:
            answer = await self.admin("producer_open", {"stream": stream, "name": name})
            producer_id, epoch = answer["producer_id"], answer["epoch"]
            committed = {int(n): Committed(*last) for n, last in answer["sequences"].items()}
        dictionary_id = await self._current_dictionary(stream) if dictionary else 0
        producer = Producer(
            self._link,
            stream,
            count,
            settings,
            self._codec(stream),
            producer_id=producer_id,
            epoch=epoch,
            committed=committed,
            name=name,
            partition=partition,
            dictionary_id=dictionary_id,
            later=self._later(stream, settings, idempotent),
        )
        try:
            yield producer
        except Exception as error:
            # A flush in a cancelled scope would put `Cancelled` in the place of the error.
            if trio.current_effective_deadline() > -math.inf:
                await _flush_after(producer, error)
            raise
        else:
            await producer.flush()
        finally:
            producer.close()

    def _later(self, stream: str, settings: ProducerSettings, idempotent: bool) -> Later | None:
        """What takes the delayed records of a producer to that stream."""
        if stream.endswith(DELAYED):
            return None
        name = stream + DELAYED

        async def make() -> Producer:
            info = await self.stream(name, create=True)
            number = self._link.new_producer_id() if idempotent else 0
            return Producer(
                self._link,
                name,
                len(info.partitions),
                settings,
                self._codec(name),
                producer_id=number,
            )

        return Later(make)

    @asynccontextmanager
    async def reader(
        self,
        stream: str,
        partition: int = 0,
        start: Position = "earliest",
        *,
        follow: bool = True,
        credit_bytes: int = 4 * MIB,
    ) -> AsyncGenerator[Reader, None]:
        """A reader of one partition, from `start` on: an async iterator of `ReceivedBatch`.

        `start` is an offset, a time (with its zone), "earliest" or "latest". With `follow` it
        goes on for ever; without, it ends at the high-water mark seen at the start.
        `credit_bytes` bounds what waits here.

        Raises:
            UnknownStream, UnknownPartition, OffsetOutOfRange: there is nothing to read there.
        """
        if type(credit_bytes) is not int or not 1 <= credit_bytes <= GIB:
            raise BadRequest(f"credit_bytes is {credit_bytes!r}, it must be 1 to {GIB}")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._link.check()
        reader = Reader(
            self._link,
            self._codec(stream),
            partial(self._fetch_dictionary, stream),
            stream,
            partition,
            start,
            follow=follow,
            credit_bytes=credit_bytes,
        )
        try:
            self._link.subscribe(reader)
            await reader.opened()
            yield reader
        finally:
            reader.close()

    @asynccontextmanager
    async def consumer(
        self,
        stream: str,
        group: str,
        *,
        mode: str | None = None,
        order: str | None = None,
        ack_wait_s: float | None = None,
        lease_max_s: float | None = None,
        max_deliveries: int | None = None,
        backoff_s: Sequence[float] | None = None,
        start: str | None = None,
        max_in_flight: int = 1000,
        max_in_flight_bytes: int = 4 * MIB,
        batch_records: int = 0,
        name: str = "",
        level: AckLevel = AckLevel.SYNCED,
    ) -> AsyncGenerator[Consumer, None]:
        """A member of a consumer group: an async iterator of `Delivery`, or of its `messages`.

        The group is made if it is not there. Leaving the block waits for the answers to what was
        settled, for 10 s at the most (2 s after an exception), and gives back the rest.

        Args:
            mode: "shared": any member takes the next records; "ordered": a partition belongs to
                one member at a time. This and what follows to `start` are the group's: it is made
                with what is named here, and must be so if it is there.
            order: "key": the records of a key are handled one after the other.
            ack_wait_s: How long a lease lasts that nobody prolongs; the client does so by itself.
            lease_max_s: How long it lasts at the most.
            max_deliveries: Failed attempts after which a record is put to the dead letters; 0 for
                no limit.
            backoff_s: Pauses before the second, third, ... attempt; the last one repeats.
            start: "earliest" or "latest": where a group begins when it is made.
            max_in_flight, max_in_flight_bytes: What this member holds at the most: records, and
                their bytes (compressed).
            batch_records: The most records in a delivery; 0 for no limit.
            name: What operators see of this member.
            level: What the answer to a settle promises: accepted or synced.

        Raises:
            BadRequest: a setting that cannot work; GroupConflict: the group has others.
            UnknownStream, NotAllowed: there is nothing to consume.
            StreamerError: on leaving, what failed of the settles that nobody waited for.
        """
        asked = {
            "mode": mode,
            "order": order,
            "ack_wait_s": ack_wait_s,
            "lease_max_s": lease_max_s,
            "max_deliveries": max_deliveries,
            "backoff_s": backoff_s,
            "start": start,
        }
        settings = ConsumerSettings(
            max_in_flight, max_in_flight_bytes, batch_records, name, level, asked
        )
        settings.check()
        check_names(stream, group)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._link.check()
        fetch = partial(self._fetch_dictionary, stream)
        consumer = Consumer(self._link, self._codec(stream), fetch, stream, group, settings)
        try:
            self._link.subscribe(consumer)
            await consumer.opened()
            yield consumer
        except BaseException as error:
            await consumer.flush_and_leave(error)
            raise
        else:
            await consumer.flush_and_leave(None)
        finally:
            consumer.close()

    @asynccontextmanager
    async def dead_letters(self, stream: str) -> AsyncGenerator[Letters, None]:
        """The dead letters of `stream` that were neither redriven nor purged: an async iterator
        of `DeadLetter`.

        Raises:
            UnknownStream: there is no such stream.
        """
        answer = await self.admin("dead", {"stream": stream})
        partitions = [(each["partition"], each["ranges"]) for each in answer["partitions"]]
        read = partial(self.reader, follow=False)
        async with AsyncExitStack() as stack:
            yield Letters(answer["stream"], partitions, read, stack)

    async def fetch(
        self, stream: str, partition: int, offset: int, bytes_max: int = 512 * KIB
    ) -> frames.Fetched:
        """Raw batches from an offset on, at least one if there is any; for tools.

        Raises:
            OffsetOutOfRange: it is not kept any more, or not there yet.
        """

        def make(request: int) -> Frame:
            return frames.Fetch(request, stream, partition, Start.OFFSET, offset, bytes_max)

        frame = await self._link.call(make)
        assert isinstance(frame, frames.Fetched), "a fetch is answered by nothing else"
        return frame


async def _flush_after(producer: Producer, error: Exception) -> None:
    """Flush after the block has raised; what goes wrong now is only a note to that."""
    try:
        await producer.flush()
    except Exception as also:
        error.add_note(f"and while flushing: {also!r}")


@asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    name: str = "",
    reconnect_s: float = 60.0,
    idle_s: float = 15.0,
    handshake_s: float = 5.0,
) -> AsyncGenerator[Client, None]:
    """Connect to the daemon at `url`: `ws://HOST:PORT`, `tcp://HOST:PORT` or `unix:PATH`.

    The first connection is tried once. One that is lost later is made again by itself, with
    growing pauses, for up to `reconnect_s`; meanwhile calls wait.

    Args:
        name: What the daemon's logs call this client.
        idle_s: Silence after which the daemon is asked for a sign of life, while something is
            awaited; after as much again the connection is dropped.
        handshake_s: For connecting and greeting.

    Raises:
        BadRequest: `url` is no address.
        ConnectionFailed: no daemon answers there.
        ProtocolError: what answers there is something else.
    """
    try:
        address = parse(url)
    except ValueError as error:
        raise BadRequest(f"{url!r} is no address ({error}): it is {FORMS}") from error
    settings = LinkSettings(
        name=name,
        address=str(address),
        reconnect_s=reconnect_s,
        idle_s=idle_s,
        handshake_s=handshake_s,
    )
    dial = partial(_dial, address, settings.frame_bytes)
    async with open_client(dial, settings) as client:
        yield client


async def _dial(address: Address, frame_bytes: int, nursery: trio.Nursery) -> Transport:
    return await open_transport(nursery, address, frame_bytes)


async def _run_link(link: Link, scope: trio.CancelScope) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            nursery.start_soon(link.timers.run)


def _wall_clock_us() -> int:
    return time.time_ns() // 1000


@asynccontextmanager
async def open_client(
    dial: Dial,
    settings: LinkSettings | None = None,
    *,
    rng: random.Random | None = None,
    now_us: Callable[[], int] = _wall_clock_us,
) -> AsyncGenerator[Client, None]:
    """A client over whatever `dial` connects: for tests and simulations. See `connect`."""
    link = Link(dial, settings or LinkSettings(), rng or random.Random(), now_us)
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            # Cancelled from around, the block still has something to tell: what its consumers hold.
            connection = trio.CancelScope(shield=True)
            nursery.start_soon(_run_link, link, connection)
            try:
                await link.opened()
                yield Client(link)
            except trio.Cancelled:
                raise
            except BaseException as error:
                # Kept out of the nursery, which would put it into a group.
                raised = error
                # Nothing waits from here on, and `Cancelled` from around must not replace it.
                nursery.cancel_scope.shield = True
            else:
                await link.close()
            finally:
                connection.cancel()
            nursery.cancel_scope.cancel()
    finally:
        link.end()
    if raised is not None:
        raise raised
