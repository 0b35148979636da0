"""One consumer of a group, as a process: `python -m tests.faults.group_consumer OPTIONS`.

OPTIONS is the JSON of `Options`. It handles records as their values say (`FATES`) until SIGTERM,
and notes all that it does (`tests.faults.group_history`): each line with one write, before the
deed, so that whatever kills it leaves no deed without its line. It rides through everything else
with the public client alone: whatever that raises ends the process, and so the run, as a failure.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

import streamer
from tests.faults.group_history import parse_value
from tests.faults.load import RECONNECT_S

T = TypeVar("T")
#: Token, partition and offset.
Lease = tuple[int, int, int]

STREAM = "work"
GROUP = "team"

#: What a handler does with a record, by the third part of its value. Those that fail in the end
#: do so whatever the attempt; the others may be handled in the second or third.
FATES = ("ok", "raise", "nack", "release", "slow", "hang", "term", "fail", "poison")
#: How long a slow handler takes and how long a hanging one blocks its process, in `ack_wait_s`.
_SLOW, _HANG = 1.5, 1.3
_NACKS = 2
#: Mean time in the handler, seconds.
_WORK_S = 0.003
#: The process notes when it stood still for longer.
_STALL_S, _LOOK_S = 0.4, 0.1
_RETRY_S = 0.05


@attrs.frozen
class Options:
    """What one life of a consumer is like."""

    url: str
    #: The file of its notes.
    notes: str
    seed: str
    #: shared, key or ordered.
    mode: str
    ack_wait_s: float
    max_deliveries: int
    backoff_s: list[float]
    max_in_flight: int
    batch_records: int
    #: By record, or by delivery.
    deliveries: bool
    tasks: int
    #: On SIGTERM: finish what is being handled; else cancel it.
    finish: bool
    #: How often it waits for the answer to an ack, and how often it kills itself on the way.
    confirm: float
    die: float


class Planned(Exception):
    """A handler that fails as its record says."""


class Notes:
    """The file of a life."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, *fields: object) -> None:
        """A line, with the time now in front."""
        line = f"{time.monotonic():.6f} {' '.join(map(str, fields))}\n".encode()
        assert os.write(self._file, line) == len(line)


class Consumer:
    """What the tasks of the process share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.notes = Notes(Path(options.notes))
        self.rng = random.Random(options.seed)
        self.leaving = False
        self.connected = False
        self.joined = False
        #: Round waiting for the next record, and round everything.
        self._waits: set[trio.CancelScope] = set()
        self._all = trio.CancelScope()

    async def run(self) -> None:
        """Handle records until SIGTERM."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._leave_on_signal)
            self.notes.write("started")
            nursery.start_soon(self._watch)
            with self._all:
                while not self.leaving:
                    # The daemon may be down just now: after that it is the client's business.
                    try:
                        await self._connect()
                    except streamer.ConnectionFailed:
                        if self.connected:
                            raise
                        await trio.sleep(_RETRY_S)
            nursery.cancel_scope.cancel()

    async def _connect(self) -> None:
        async with streamer.connect(self.options.url, reconnect_s=RECONNECT_S) as client:
            self.connected = True
            await self._consume(client)

    async def _consume(self, client: streamer.Client) -> None:
        options = self.options
        async with (
            client.consumer(
                STREAM,
                group=GROUP,
                mode="ordered" if options.mode == "ordered" else "shared",
                order="key" if options.mode == "key" else "none",
                ack_wait_s=options.ack_wait_s,
                max_deliveries=options.max_deliveries,
                backoff_s=tuple(options.backoff_s),
                max_in_flight=options.max_in_flight,
                batch_records=options.batch_records,
                name=Path(options.notes).stem,
            ) as consumer,
            trio.open_nursery() as nursery,
        ):
            self.joined = True
            self.notes.write("joined")
            for _ in range(options.tasks):
                nursery.start_soon(self._handle_all, consumer)

    async def _leave_on_signal(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self.leaving = True
                self.notes.write("leaving")
                for scope in self._waits:
                    scope.cancel()
                if not (self.options.finish and self.joined):
                    self._all.cancel()

    async def _watch(self) -> None:
        """Note when the process stood still: then its leases may have run out."""
        while True:
            began = time.monotonic()
            await trio.sleep(_LOOK_S)
            if time.monotonic() - began > _STALL_S:
                self.notes.write("stall", f"{began:.6f}")

    # --------------------------------------------------------------------------------- handling

    async def _handle_all(self, consumer: streamer.Consumer) -> None:
        if self.options.deliveries:
            async for delivery in self._until_leaving(aiter(consumer)):
                await self._handle_delivery(delivery)
        else:
            async for message in self._until_leaving(aiter(consumer.messages())):
                await self._handle_message(message)

    async def _until_leaving(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        while not self.leaving:
            with trio.CancelScope() as scope:
                self._waits.add(scope)
                try:
                    item = await anext(items)
                finally:
                    self._waits.discard(scope)
            if scope.cancelled_caught:
                return
            yield item

    async def _handle_message(self, message: streamer.Message) -> None:
        """One record: what leaves the block settles it, unless that was done before."""
        at = message.token, message.partition, message.offset
        try:
            async with message:
                try:
                    fate = await self._work(at, message.attempt, message.value)
                except Planned:
                    self.notes.write("nack", *at)
                    raise
                except trio.Cancelled:
                    self.notes.write("release", *at)
                    raise
                if fate in ("nack", "term", "release"):
                    await self._settle(message, fate, [at])
                elif self.rng.random() < self.options.confirm:
                    await self._settle(message, "ack", [at])
                else:
                    self.notes.write("ack", *at)
        except Planned:
            pass
        self._maybe_die()

    async def _handle_delivery(self, delivery: streamer.Delivery) -> None:
        """Several records: acked together, or as far as they went."""
        begun: list[Lease] = []
        try:
            async with delivery:
                try:
                    await self._handle_each(delivery, begun)
                except (Planned, trio.Cancelled) as error:
                    for at in begun:
                        self.notes.write("nack" if type(error) is Planned else "release", *at)
                    raise
        except Planned:
            pass
        self._maybe_die()

    async def _handle_each(self, delivery: streamer.Delivery, begun: list[Lease]) -> None:
        for index, offset in enumerate(delivery.offsets):
            at = delivery.token, delivery.partition, offset
            begun.append(at)
            fails = False
            try:
                fate = await self._work(at, delivery.attempt, delivery.values[index])
            except Planned:
                _, _, fate = parse_value(delivery.values[index])
                # The others of the delivery would fail with it, again and again.
                if fate != "fail":
                    raise
                fate, fails = "nack", True
            if fate in ("nack", "term", "release"):
                done = begun[:-1]
                if done:
                    await self._settle(delivery, "ack", done)
                begun.clear()
                await self._settle(delivery, fate, [at], "planned" if fails else "")
                rest = delivery.offsets[index + 1 :]
                if rest:
                    await _answer(delivery.release(rest))
                return
        if self.rng.random() < self.options.confirm:
            done = list(begun)
            begun.clear()
            await self._settle(delivery, "ack", done)
        else:
            for at in begun:
                self.notes.write("ack", *at)

    async def _settle(
        self,
        held: streamer.Delivery | streamer.Message,
        verb: str,
        which: Sequence[Lease],
        reason: str = "",
    ) -> None:
        """Ask for it, and wait for the answer."""
        for at in which:
            self.notes.write(verb, *at)
        given: dict[str, Any] = {}
        if isinstance(held, streamer.Delivery):
            given["offsets"] = [offset for _, _, offset in which]
        if verb == "nack":
            given.update(delay_s=self.rng.choice([None, 0.05]), reason=reason)
        elif verb == "term":
            given["reason"] = "planned"
        answer = await _answer(getattr(held, verb)(**given))
        for at in which:
            self.notes.write(answer, *at)

    async def _work(self, at: Lease, attempt: int, value: bytes) -> str:
        """What the handler itself does; the fate that is left for settling.

        Raises:
            Planned: it fails.
        """
        key, sequence, fate = parse_value(value)
        self.notes.write("begin", *at, attempt, key, sequence)
        wait_s = self.options.ack_wait_s
        if fate == "poison":
            self._die()
        if fate == "slow" and attempt == 1:
            await trio.sleep(_SLOW * wait_s)
        elif fate == "hang" and attempt == 1:
            self.notes.write("hang")
            time.sleep(_HANG * wait_s)  # noqa: ASYNC251
        else:
            await trio.sleep(self.rng.expovariate(1 / _WORK_S))
        self._maybe_die()
        if fate == "fail" or (fate == "raise" and attempt == 1):
            raise Planned(f"planned: {key} {sequence}")
        if (
            fate == "term"
            or (fate == "nack" and attempt <= _NACKS)
            or (fate == "release" and self.rng.random() < 0.5)
        ):
            return fate
        self.notes.write("end", *at)
        return "ok"

    def _maybe_die(self) -> None:
        if self.rng.random() < self.options.die:
            self._die()

    def _die(self) -> None:
        self.notes.write("die")
        os.kill(os.getpid(), signal.SIGKILL)


async def _answer(asked: Awaitable[None]) -> str:
    """Wait for what the daemon says."""
    try:
        await asked
    except streamer.LeaseLost:
        return "lost"
    except streamer.OutcomeUnknown:
        return "unknown"
    return "ok"


def main() -> None:
    trio.run(Consumer(Options(**json.loads(sys.argv[1]))).run)


if __name__ == "__main__":
    main()
