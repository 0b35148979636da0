"""What programs do with the daemon, for a given time: the timed part of a run.

Rules:

- It runs for seconds, not for a count, so that slow candidates cost no more than quick ones. A
  warm-up goes before, on the same connections, and is not counted: the daemon's controller finds
  its size in it.
- With a rate an operation is timed from when it was due, not from when its turn came, so that what
  waited is never left out. Without one, as many operations are under way as the workload says,
  and the next begins when one ends.
- An error is counted and the operation's time dropped; what has no answer a while after the end is
  a timeout, which is an error.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count, cycle

import attrs
import trio

from streamer.client import Client, Producer, connect
from streamer.errors import StreamerError
from streamer_tools.bench.contract import Benchmark, Result, Target
from streamer_tools.lines import batched
from streamer_tools.tune.plan import COST_SHARE
from streamer_tools.tune.score import Run
from streamer_tools.tune.workload import Workload

#: After the end of a run, for what is under way; longer than any commit.
PATIENCE_S = 10.0
_WARM_UP_LEAST_S = 0.3
#: Records that are timed where a producer groups them: a sample, as timing each would be the load.
_TIMED = 2000
_CONNECTING_S = 20.0
_AFTER_ERROR_S = 0.01


def warm_up_s(seconds: float) -> float:
    """What goes before a run of so many seconds."""
    return _WARM_UP_LEAST_S + (COST_SHARE - 1) * seconds


@attrs.frozen
class TrafficSettings:
    """One run: a workload with the client settings of a candidate in it, and how long."""

    workload: Workload
    pool: Sequence[bytes]
    seconds: float


@attrs.define
class Tally:
    """What happened in the counted time; times by `time.perf_counter`."""

    begin: float
    end: float
    latencies_s: array[float] = attrs.Factory(lambda: array("d"))
    records: int = 0
    errors: int = 0
    under_way: int = 0
    fault: str = ""
    #: When the last of what was counted was acked, where that is after `end`.
    acked_until: float = 0.0

    def done(self, since: float, records: int) -> None:
        """Records were acked; their operation was due, or began, then."""
        now = time.perf_counter()
        if self.begin <= since:
            self.latencies_s.append(now - since)
        if self.begin <= now <= self.end:
            self.records += records

    def failed(self, error: Exception) -> None:
        self.errors += 1
        self.fault = self.fault or _text(error)

    def run(self) -> Run:
        """The figures."""
        times = sorted(self.latencies_s)
        seconds = max(self.end, self.acked_until) - self.begin
        return Run(
            self.records / seconds,
            percentile(times, 0.5),
            percentile(times, 0.99),
            len(times),
            self.errors,
            self.fault,
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed; NaN of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


@asynccontextmanager
async def open_traffic(
    settings: TrafficSettings, target: Target
) -> AsyncGenerator[Callable[[], Awaitable[Result]], None]:
    """The traffic of one run. Its result is `{"run": Run}`, which tells what went wrong too."""

    async def run() -> Result:
        failed: Run | None = None
        try:
            return {"run": await _drive(settings, target.url)}
        except* (StreamerError, OSError) as group:
            # Of a group that is ours any leaf will do: it is what is said of the candidate.
            failed = Run(errors=1, fault=_text(_leaf(group)))
        return {"run": failed}

    yield run


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _text(error: BaseException) -> str:
    return getattr(error, "message", "") or str(error) or type(error).__name__


async def _drive(settings: TrafficSettings, url: str) -> Run:
    """Connect, send for the warm-up and the run, and leave.

    Raises:
        StreamerError: a connection failed, or could not be made.
    """
    workload = settings.workload
    found = Run(errors=1, fault=f"not connected within {_CONNECTING_S:g} s")
    with trio.move_on_after(_CONNECTING_S) as whole:
        async with AsyncExitStack() as stack:
            producers, readers = await _open(stack, workload, url)
            whole.deadline = math.inf
            tally = await _send(settings, producers, readers)
            found = tally.run()
            if tally.under_way:
                # Leaving in order would flush, and wait for what has no answer.
                whole.cancel()
    return found


async def _send(
    settings: TrafficSettings, producers: Sequence[Producer], readers: Sequence[Client]
) -> Tally:
    warm_s, now = warm_up_s(settings.seconds), time.perf_counter()
    tally = Tally(now + warm_s, now + warm_s + settings.seconds)
    traffic = _Traffic(settings, tally, now)
    with trio.move_on_after(warm_s + settings.seconds + PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(_read, reader, settings.workload.stream, tally)
            async with trio.open_nursery() as senders:
                traffic.start(producers, senders)
            nursery.cancel_scope.cancel()
    if tally.under_way:
        tally.errors += tally.under_way
        tally.fault = tally.fault or f"no answer {PATIENCE_S:g} s after the end"
    return tally


async def _open(
    stack: AsyncExitStack, workload: Workload, url: str
) -> tuple[list[Producer], list[Client]]:
    settings = attrs.asdict(workload.client)
    producers = []
    for _ in range(workload.producers):
        client = await stack.enter_async_context(connect(url))
        producer = client.producer(workload.stream, delivery_timeout_s=PATIENCE_S, **settings)
        producers.append(await stack.enter_async_context(producer))
    readers = [await stack.enter_async_context(connect(url)) for _ in range(workload.readers)]
    return producers, readers


async def _read(client: Client, stream: str, tally: Tally) -> None:
    try:
        async with client.reader(stream, start="earliest") as reader:
            async for _ in reader:
                pass
    except StreamerError as error:
        tally.failed(error)


class _Traffic:
    """The senders of one run."""

    def __init__(self, settings: TrafficSettings, tally: Tally, begin: float) -> None:
        self._workload = settings.workload
        self._pool = settings.pool
        self._tally = tally
        self._begin = begin
        self._numbers = count()
        per_timed = settings.workload.rate * settings.seconds / _TIMED
        self._timed_each = max(1, round(per_timed))

    def start(self, producers: Sequence[Producer], nursery: trio.Nursery) -> None:
        """Start them; the nursery ends when they have."""
        workload = self._workload
        values = cycle(self._pool)
        if workload.mode == "single":
            for producer in producers:
                for _ in range(workload.tasks):
                    nursery.start_soon(self._one_by_one, producer, values)
        elif workload.rate:
            for producer in producers:
                nursery.start_soon(self._posting, producer, values, nursery)
        else:
            client = workload.client
            cut = list(batched(self._pool, client.batch_records, client.batch_bytes))
            # The last may be short.
            batches = cycle(cut[:-1] or cut)
            for producer in producers:
                for _ in range(client.in_flight):
                    nursery.start_soon(self._batches, producer, batches)

    async def _next(self) -> float | None:
        """Wait until the next operation is due: when that was; None at the end."""
        now = time.perf_counter()
        if not self._workload.rate:
            return now if now < self._tally.end else None
        due = self._begin + next(self._numbers) / self._workload.rate
        # Late as well: what is behind at the end is not caught up with.
        if due >= self._tally.end or now >= self._tally.end:
            return None
        await trio.sleep(max(0.0, due - now))
        return due

    async def _one_by_one(self, producer: Producer, values: Iterator[bytes]) -> None:
        while (due := await self._next()) is not None:
            await self._timed(producer, next(values), due)

    async def _timed(self, producer: Producer, value: bytes, due: float) -> None:
        tally = self._tally
        tally.under_way += 1
        try:
            await producer.send(value)
        except StreamerError as error:
            tally.failed(error)
            await trio.sleep(_AFTER_ERROR_S)
        else:
            tally.done(due, 1)
        tally.under_way -= 1

    async def _batches(self, producer: Producer, batches: Iterator[list[bytes]]) -> None:
        tally = self._tally
        while (begin := await self._next()) is not None:
            values = next(batches)
            tally.under_way += 1
            try:
                await producer.send_batch(values)
            except StreamerError as error:
                tally.failed(error)
                await trio.sleep(_AFTER_ERROR_S)
            else:
                tally.done(begin, len(values))
            tally.under_way -= 1

    async def _posting(
        self, producer: Producer, values: Iterator[bytes], nursery: trio.Nursery
    ) -> None:
        """Records at a rate, which the producer groups; some of them are timed."""
        tally = self._tally
        posted = 0
        try:
            while (due := await self._next()) is not None:
                number = posted
                posted += 1
                if number % self._timed_each == 0:
                    nursery.start_soon(self._timed, producer, next(values), due)
                    continue
                await producer.post(next(values))
                if tally.begin <= due:
                    tally.records += 1
            tally.under_way += 1
            await producer.flush()
            tally.under_way -= 1
        except StreamerError as error:
            tally.failed(error)
        tally.acked_until = max(tally.acked_until, time.perf_counter())


TRAFFIC = Benchmark("tune", "A workload that is tuned.", TrafficSettings, open_traffic, warm=None)
