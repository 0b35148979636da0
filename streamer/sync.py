"""The client for programs without trio: scripts, web frameworks, any number of threads.

    import streamer.sync

    with streamer.sync.connect("ws://127.0.0.1:4440") as client:
        with client.producer("orders") as producer:
            receipt = producer.send(b"...", key=b"42")
        with client.reader("orders", follow=False) as reader:
            for batch in reader:
                print(batch.values)
        with client.consumer("orders", group="billing") as consumer:
            for message in consumer.messages():
                with message:
                    handle(message.value)

Rules: one thread runs trio and the real client for as long as the block lasts; every call hands
its work to that thread (`trio.from_thread.run`) and waits for the answer, which costs about a
tenth of a millisecond. Only `post` does not wait: it collects, and wakes the other thread. A
`send` costs the same from one thread as from fifty, and those share requests by themselves.
Leases of a consumer are prolonged over there, whatever this thread is busy with.

After the block every call raises `trio.ClosedResourceError`. What a call raises besides that is
what the same call of `streamer.client` raises.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import datetime
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import outcome
import trio

from streamer import client as trio_client
from streamer.client.dead_letters import DeadLetter
from streamer.client.producer import Committed
from streamer.client.reader import Position, ReceivedBatch
from streamer.limits import MIB, BatchLimits, WireLimits
from streamer.records import Receipt, Record

__all__ = [
    "Client",
    "Consumer",
    "Delivery",
    "Message",
    "Producer",
    "Reader",
    "connect",
    "open_client",
]

T = TypeVar("T")
P = ParamSpec("P")

#: Posted records that are collected before `post` waits for them to be taken.
_POSTED_MAX = 500
#: And their bytes: what is collected here is not in the producer's buffer yet.
_POSTED_BYTES_MAX = 1 * MIB


class _Bridge:
    """The thread that runs trio, and the way into it."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._done: trio.Event
        self._held: dict[AbstractAsyncContextManager[Any], None] = {}
        self._closed = False

    def run(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `call(*args)` in the other thread, and wait for it.

        Raises:
            trio.ClosedResourceError: the client is closed.
        """
        self.check()
        try:
            result: T = trio.from_thread.run(call, *args, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            raise _closed() from None
        return result

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Have the other thread run `task`, and don't wait."""
        self.check()
        assert self._token is not None, "there is a token while the bridge is open"
        assert self._nursery is not None, "and a nursery"
        try:
            self._token.run_sync_soon(self._nursery.start_soon, task)
        except trio.RunFinishedError:
            raise _closed() from None

    def check(self) -> None:
        """Raises ClosedResourceError: the client is closed."""
        if self._closed:
            raise _closed()

    @contextmanager
    def hold(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Hold something of the real client open for the length of a block."""
        value = self.run(self._enter, manager)
        try:
            yield value
        except BaseException as error:
            self.run(self._leave, manager, type(error), error, error.__traceback__)
            raise
        self.run(self._leave, manager, None, None, None)

    async def _enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        value = await manager.__aenter__()
        self._held[manager] = None
        return value

    async def _leave(self, manager: AbstractAsyncContextManager[Any], *error: Any) -> None:
        if manager in self._held:
            del self._held[manager]
            await manager.__aexit__(*error)

    @contextmanager
    def open(self, connecting: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Start the thread, which holds `connecting` open until the block ends."""
        ready = threading.Event()
        opened: list[T] = []
        ended: list[outcome.Outcome[None]] = []

        async def main() -> None:
            self._token = trio.lowlevel.current_trio_token()
            self._done = trio.Event()
            async with connecting as value, trio.open_nursery() as self._nursery:
                opened.append(value)
                ready.set()
                await self._done.wait()
                # Blocks of other threads, which are about to find out.
                for manager in reversed(self._held.copy()):
                    await self._leave(manager, GeneratorExit, GeneratorExit(), None)
                self._nursery.cancel_scope.cancel()

        def work() -> None:
            ended.append(outcome.capture(trio.run, main))
            ready.set()

        thread = threading.Thread(target=work, name="streamer-sync", daemon=True)
        thread.start()
        ready.wait()
        try:
            if opened:
                yield opened[0]
        finally:
            self._stop()
            thread.join()
        ended[0].unwrap()

    def _stop(self) -> None:
        self._closed = True
        assert self._token is not None, "the thread set it first of all"
        # If the run has ended by itself, `open` raises what ended it.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._done.set)


def _plain(
    method: Callable[Concatenate[trio_client.Client, P], Awaitable[T]],
) -> Callable[Concatenate[Client, P], T]:
    """A method of the real client, as a plain call."""

    @wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.ask(lambda client: method(client, *args, **kwargs))

    return call


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this client is closed")


def _nbytes(value: object, *more: object) -> int:
    """About what a record takes; what is no record is refused later."""
    size = len(value) if isinstance(value, bytes) else 0
    for part in more:
        if isinstance(part, bytes):
            size += len(part)
        elif isinstance(part, Mapping):
            size += sum(len(text) for text in part.values() if isinstance(text, bytes))
    return size


class Producer:
    """As `streamer.Producer`; any number of threads may share it."""

    def __init__(self, bridge: _Bridge, producer: trio_client.Producer) -> None:
        self._bridge = bridge
        self._producer = producer
        self._turn = trio.Lock()
        self._posted: list[Callable[[], Awaitable[None]]] = []
        self._posted_bytes = 0
        self._closed = False
        self._adding = threading.Lock()
        self._error: Exception | None = None

    def send(
        self,
        value: bytes,
        key: bytes | None = None,
        *,
        timestamp_us: int | None = None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
        expected_offset: int | None = None,
        delay_s: float | None = None,
        deliver_at: datetime | None = None,
    ) -> Receipt:
        """Append one record; its receipt, once it is acked."""
        call = partial(
            self._producer.send,
            value,
            key,
            timestamp_us=timestamp_us,
            headers=headers,
            partition=partition,
            expected_offset=expected_offset,
            delay_s=delay_s,
            deliver_at=deliver_at,
        )
        receipt: Receipt = self._bridge.run(self._after_posted, call)
        return receipt

    def send_batch(
        self,
        values: Sequence[bytes] | Sequence[Record],
        *,
        partition: int | None = None,
        expected_offset: int | None = None,
    ) -> Receipt:
        """Append records as one atomic batch; its receipt, once it is acked."""
        call = partial(
            self._producer.send_batch,
            values,
            partition=partition,
            expected_offset=expected_offset,
        )
        receipt: Receipt = self._bridge.run(self._after_posted, call)
        return receipt

    def post(
        self,
        value: bytes,
        key: bytes | None = None,
        *,
        timestamp_us: int | None = None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
        delay_s: float | None = None,
        deliver_at: datetime | None = None,
    ) -> None:
        """Hand over one record, to be sent soon; `flush`, or leaving the producer, checks it.

        Waits while there is no room. What is wrong with an earlier record may be raised here.
        """
        call = partial(
            self._producer.post,
            value,
            key,
            timestamp_us=timestamp_us,
            headers=headers,
            partition=partition,
            delay_s=delay_s,
            deliver_at=deliver_at,
        )
        self._bridge.check()
        with self._adding:
            if self._closed:
                raise trio.ClosedResourceError("this producer is closed")
            self._posted.append(call)
            self._posted_bytes += _nbytes(value, key, headers)
            count, nbytes = len(self._posted), self._posted_bytes
        if count >= _POSTED_MAX or nbytes >= _POSTED_BYTES_MAX:
            self._bridge.run(self._take)
        elif count == 1:
            self._bridge.start(self._take)
        self._raise()

    def flush(self) -> None:
        """Wait until all that has been handed over is acked; raises what failed."""
        self._bridge.run(self._after_posted, self._producer.flush)
        self._raise()

    def committed(self, partition: int = 0) -> Committed | None:
        """The last record of this producer that the partition is known to have committed."""

        async def ask() -> Committed | None:
            return self._producer.committed(partition)

        return self._bridge.run(ask)

    def _finish_after(self, error: Exception) -> None:
        """The block raised: hand over what was posted; what is wrong with it is only a note."""
        try:
            self._bridge.run(self._take)
            self._raise()
        except Exception as also:
            error.add_note(f"and of what was posted: {also!r}")

    def _close(self) -> None:
        """Take nothing more: nobody would hand it over."""
        with self._adding:
            self._closed = True
            self._posted, self._posted_bytes = [], 0

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    # ------------------------------------------------------------------- in the other thread

    async def _after_posted(self, call: Callable[[], Awaitable[T]]) -> T:
        await self._take()
        return await call()

    async def _take(self) -> None:
        """Hand on what has been posted, in order."""
        async with self._turn:
            with self._adding:
                posted, self._posted = self._posted, []
                self._posted_bytes = 0
            for call in posted:
                try:
                    await call()
                except Exception as error:
                    self._error = self._error or error


class Reader:
    """As `streamer.Reader`: an iterator of batches, for one thread at a time."""

    def __init__(self, bridge: _Bridge, reader: trio_client.Reader) -> None:
        self._bridge = bridge
        self._reader = reader

    def __iter__(self) -> Iterator[ReceivedBatch]:
        return self

    def __next__(self) -> ReceivedBatch:
        batch = self._bridge.run(self._next)
        if batch is None:
            raise StopIteration
        return batch

    async def _next(self) -> ReceivedBatch | None:
        batch = await anext(self._reader, None)
        if batch is not None:
            # Here and not in the caller's thread: all readers of a stream share its codec.
            batch.decode()
        return batch

    @property
    def position(self) -> int | None:
        """The next offset that will be handed out."""
        return self._reader.position

    def seek(self, offset: int) -> None:
        """Go on at `offset`, also after an error."""

        async def seek() -> None:
            self._reader.seek(offset)

        self._bridge.run(seek)


class _Block:
    """What is settled by leaving its block."""

    _bridge: _Bridge
    _inner: AbstractAsyncContextManager[Any]

    def __repr__(self) -> str:
        return repr(self._inner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As of the other one: acks, nacks after an exception, and releases after anything that
        is no `Exception`, as KeyboardInterrupt. It does not wait for the answer."""
        try:
            self._bridge.run(self._inner.__aexit__, kind, error, trace)
        except trio.ClosedResourceError:
            # With the client, the lease went; what the block raised says more.
            if error is None:
                raise


class Delivery(_Block):
    """As `streamer.Delivery`, with plain calls and `with`."""

    def __init__(self, bridge: _Bridge, delivery: trio_client.Delivery) -> None:
        self._bridge = bridge
        self._inner = self._delivery = delivery
        self.stream = delivery.stream
        self.partition = delivery.partition
        self.token = delivery.token
        self.attempt = delivery.attempt

    def __len__(self) -> int:
        return len(self._delivery)

    @property
    def offsets(self) -> list[int]:
        """The offset of each record, ascending."""
        return self._delivery.offsets

    @property
    def values(self) -> list[bytes]:
        """The values alone: the quickest way to the data."""
        return self._delivery.values

    @property
    def records(self) -> list[Record]:
        """The records with everything that belongs to them."""
        return self._delivery.records

    def ack(self, offsets: Iterable[int] | None = None) -> None:
        """These records, by default all that are left, are done with."""
        self._bridge.run(self._delivery.ack, offsets)

    def nack(
        self, offsets: Iterable[int] | None = None, delay_s: float | None = None, reason: str = ""
    ) -> None:
        """Handling them failed: deliver them again."""
        self._bridge.run(self._delivery.nack, offsets, delay_s, reason)

    def term(self, reason: str, offsets: Iterable[int] | None = None) -> None:
        """They can never be handled: put them to the dead letters."""
        self._bridge.run(self._delivery.term, reason, offsets)

    def release(self, offsets: Iterable[int] | None = None) -> None:
        """Give them back, without counting an attempt."""
        self._bridge.run(self._delivery.release, offsets)

    def extend(self) -> None:
        """Prolong the lease; that is done by itself, too."""
        self._bridge.run(self._delivery.extend)


class Message(_Block):
    """As `streamer.Message`, with plain calls and `with`."""

    def __init__(self, bridge: _Bridge, message: trio_client.Message) -> None:
        self._bridge = bridge
        self._inner = self._message = message
        self.stream = message.stream
        self.partition = message.partition
        self.offset = message.offset
        self.token = message.token
        self.attempt = message.attempt
        self.value = message.value

    @property
    def key(self) -> bytes | None:
        return self._message.key

    @property
    def headers(self) -> Mapping[str, bytes] | None:
        return self._message.headers

    @property
    def timestamp_us(self) -> int:
        return self._message.timestamp_us

    @property
    def record(self) -> Record:
        """The record with everything that belongs to it."""
        return self._message.record

    def ack(self) -> None:
        """It is done with."""
        self._bridge.run(self._message.ack)

    def nack(self, delay_s: float | None = None, reason: str = "") -> None:
        """Handling it failed: deliver it again."""
        self._bridge.run(self._message.nack, delay_s, reason)

    def term(self, reason: str) -> None:
        """It can never be handled: put it to the dead letters."""
        self._bridge.run(self._message.term, reason)

    def release(self) -> None:
        """Give it back, without counting an attempt."""
        self._bridge.run(self._message.release)

    def extend(self) -> None:
        """Prolong its lease; that is done by itself, too."""
        self._bridge.run(self._message.extend)


class Consumer:
    """As `streamer.Consumer`: an iterator of deliveries; threads may share it."""

    def __init__(self, bridge: _Bridge, consumer: trio_client.Consumer) -> None:
        self._bridge = bridge
        self._consumer = consumer

    def __iter__(self) -> Iterator[Delivery]:
        return self

    def __next__(self) -> Delivery:
        """The next delivery; waits until there is one."""
        return Delivery(self._bridge, self._bridge.run(self._next))

    async def _next(self) -> trio_client.Delivery:
        delivery = await anext(self._consumer)
        # Here and not in the caller's thread: everybody who reads a stream shares its codec.
        delivery.decode()
        return delivery

    def messages(self) -> Iterator[Message]:
        """The same, record by record; for one thread, and each may have its own."""
        messages = self._consumer.messages()
        # Decoded in the other thread, before they are handed out.
        return iter(lambda: Message(self._bridge, self._bridge.run(anext, messages)), None)

    def statistics(self) -> trio_client.ConsumerStatistics:
        """What became of its records until now."""

        async def ask() -> trio_client.ConsumerStatistics:
            return self._consumer.statistics()

        return self._bridge.run(ask)

    def flush(self) -> None:
        """Wait until all that was settled so far has been answered."""
        self._bridge.run(self._consumer.flush)


class Client:
    """As `streamer.Client`; any number of threads may share it."""

    def __init__(self, bridge: _Bridge, client: trio_client.Client) -> None:
        self._bridge = bridge
        self._client = client

    @property
    def server_name(self) -> str:
        """What the daemon calls itself."""
        return self._client.server_name

    @property
    def limits(self) -> tuple[BatchLimits, WireLimits]:
        """What the daemon takes: of a batch, and of a session."""
        return self._client.limits

    @property
    def connected(self) -> bool:
        """Whether there is a connection now; for display."""
        return self._client.connected

    @contextmanager
    def producer(self, stream: str, **settings: Any) -> Iterator[Producer]:
        """A producer for one stream, with the settings of `streamer.Client.producer`."""
        with self._bridge.hold(self._client.producer(stream, **settings)) as inner:
            producer = Producer(self._bridge, inner)
            try:
                yield producer
                producer.flush()
            except Exception as error:
                producer._finish_after(error)
                raise
            finally:
                producer._close()

    @contextmanager
    def reader(
        self,
        stream: str,
        partition: int = 0,
        start: Position = "earliest",
        **settings: Any,
    ) -> Iterator[Reader]:
        """A reader of one partition, with the settings of `streamer.Client.reader`."""
        opening = self._client.reader(stream, partition, start, **settings)
        with self._bridge.hold(opening) as inner:
            yield Reader(self._bridge, inner)

    @contextmanager
    def consumer(self, stream: str, group: str, **settings: Any) -> Iterator[Consumer]:
        """A member of a consumer group, with the settings of `streamer.Client.consumer`."""
        with self._bridge.hold(self._client.consumer(stream, group, **settings)) as inner:
            yield Consumer(self._bridge, inner)

    def admin(self, verb: str, args: Mapping[str, Any] | None = None) -> Any:
        """Ask for `verb` with its arguments; the plain value that the daemon answers."""
        return self._bridge.run(self._client.admin, verb, args)

    @contextmanager
    def dead_letters(self, stream: str) -> Iterator[Iterator[DeadLetter]]:
        """The dead letters of `stream` that were neither redriven nor purged."""
        with self._bridge.hold(self._client.dead_letters(stream)) as letters:

            async def following() -> DeadLetter | None:
                return await anext(letters, None)

            yield iter(lambda: self._bridge.run(following), None)

    def ask(self, question: Callable[[trio_client.Client], Awaitable[T]]) -> T:
        """Whatever else: run `question(client)` with the real client, in its own thread."""

        async def answer() -> T:
            found = await question(self._client)
            if isinstance(found, ReceivedBatch):
                # As for `Reader`: its codec must not be used by two threads.
                found.decode()
            return found

        return self._bridge.run(answer)

    streams = _plain(trio_client.Client.streams)
    stream = _plain(trio_client.Client.stream)
    queues = _plain(trio_client.Client.queues)
    peek = _plain(trio_client.Client.peek)
    offset_at = _plain(trio_client.Client.offset_at)
    varz = _plain(trio_client.Client.varz)
    fetch = _plain(trio_client.Client.fetch)
    producer_state = _plain(trio_client.Client.producer_state)
    set_floor = _plain(trio_client.Client.set_floor)
    dictionary_add = _plain(trio_client.Client.dictionary_add)
    train_dictionary = _plain(trio_client.Client.train_dictionary)

    groups = _plain(trio_client.Client.groups)
    group = _plain(trio_client.Client.group)
    create_group = _plain(trio_client.Client.create_group)
    edit_group = _plain(trio_client.Client.edit_group)
    pause_group = _plain(trio_client.Client.pause_group)
    resume_group = _plain(trio_client.Client.resume_group)
    delete_group = _plain(trio_client.Client.delete_group)
    seek_group = _plain(trio_client.Client.seek_group)
    lag = _plain(trio_client.Client.lag)
    redrive = _plain(trio_client.Client.redrive)
    purge = _plain(trio_client.Client.purge)
    delayed = _plain(trio_client.Client.delayed)
    schedules = _plain(trio_client.Client.schedules)
    add_schedule = _plain(trio_client.Client.add_schedule)
    remove_schedule = _plain(trio_client.Client.remove_schedule)


@contextmanager
def connect(url: str = trio_client.DEFAULT_URL, **settings: Any) -> Iterator[Client]:
    """Connect to the daemon at `url`, with the settings of `streamer.connect`.

    Raises:
        BadRequest: `url` is no address.
        ConnectionFailed: no daemon answers there.
    """
    with open_client(trio_client.connect(url, **settings)) as client:
        yield client


@contextmanager
def open_client(connecting: AbstractAsyncContextManager[trio_client.Client]) -> Iterator[Client]:
    """A client around whatever `connecting` opens: for tests and simulations."""
    bridge = _Bridge()
    with bridge.open(connecting) as client:
        yield Client(bridge, client)
