"""The producer of a run of groups, as a process: `python -m tests.faults.group_producer OPTIONS`.

OPTIONS is the JSON of `Options`. Until SIGTERM it sends records with keys, each key's in its order
and by one task, and notes what was acked (`tests.faults.group_history`). Most records are plain;
the fates of the others come by a share or, where each costs seconds, by the clock.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

import streamer
from tests.faults.group_consumer import STREAM, Notes
from tests.faults.group_history import value_of
from tests.faults.load import DELIVERY_S, RECONNECT_S

#: How many records of a hundred have a fate that costs little.
_SHARES = {"raise": 1.0, "nack": 1.0, "release": 1.0}
_TASKS = 5
_BURST = 12
#: On average: one, a burst, and what of a burst shares a partition.
_RECORDS_A_CALL = 6


@attrs.frozen
class Options:
    """What is sent."""

    url: str
    notes: str
    seed: str
    keys: int
    partitions: int
    #: Records a second, of all tasks.
    rate: float
    #: Seconds from the start when a record has such a fate, once each.
    poison_at: list[float]
    #: Mean seconds between records of such a fate.
    every_s: dict[str, float]


class Fates:
    """What is to become of the next record."""

    def __init__(self, options: Options, rng: random.Random) -> None:
        self._rng = rng
        self._every_s = options.every_s
        began = time.monotonic()
        self._due = [(began + at, "poison") for at in options.poison_at]
        self._due += [
            (began + rng.uniform(0, every_s), fate) for fate, every_s in options.every_s.items()
        ]

    def next(self) -> str:
        now = time.monotonic()
        for index, (at, fate) in enumerate(self._due):
            if at <= now:
                del self._due[index]
                if fate in self._every_s:
                    every_s = self._rng.uniform(0.5, 1.5) * self._every_s[fate]
                    self._due.append((now + every_s, fate))
                return fate
        drawn = self._rng.uniform(0, 100)
        for fate, share in _SHARES.items():
            drawn -= share
            if drawn < 0:
                return fate
        return "ok"


class Sender:
    """What the tasks of the process share."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._notes = Notes(Path(options.notes))
        self._rng = random.Random(options.seed)
        self._fates = Fates(options, self._rng)
        self._sequences: dict[str, int] = {}
        self._stopping = False

    async def run(self) -> None:
        """Send until SIGTERM, and until all of it is acked."""
        keys = [f"k{number}" for number in range(self._options.keys)]
        async with (
            streamer.connect(self._options.url, reconnect_s=RECONNECT_S) as client,
            client.producer(STREAM, delivery_timeout_s=DELIVERY_S) as producer,
            trio.open_nursery() as watching,
        ):
            await watching.start(self._stop_on_signal)
            async with trio.open_nursery() as nursery:
                for task in range(_TASKS):
                    nursery.start_soon(self._send, producer, keys[task::_TASKS])
            watching.cancel_scope.cancel()

    async def _stop_on_signal(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self._stopping = True

    async def _send(self, producer: streamer.Producer, keys: Sequence[str]) -> None:
        """In turns one at a time, several without waiting, and one batch."""
        while not self._stopping:
            await trio.sleep(self._rng.expovariate(self._options.rate / _TASKS / _RECORDS_A_CALL))
            way = self._rng.randrange(3)
            if way == 0:
                await self._send_one(producer, self._rng.choice(keys))
            elif way == 1:
                await self._post(producer, self._rng.choices(keys, k=_BURST))
            else:
                await self._send_batch(producer, self._rng.choices(keys, k=_BURST))

    def _record(self, key: str) -> tuple[int, bytes]:
        """The next record of a key: its number and value."""
        sequence = self._sequences.get(key, 0)
        self._sequences[key] = sequence + 1
        return sequence, value_of(key, sequence, self._fates.next())

    async def _send_one(self, producer: streamer.Producer, key: str) -> None:
        sequence, value = self._record(key)
        await producer.send(value, key.encode())
        self._acked([(key, sequence)])

    async def _post(self, producer: streamer.Producer, keys: Sequence[str]) -> None:
        sent = []
        for key in keys:
            sequence, value = self._record(key)
            await producer.post(value, key.encode())
            sent.append((key, sequence))
        await producer.flush()
        self._acked(sent)

    async def _send_batch(self, producer: streamer.Producer, keys: Sequence[str]) -> None:
        """Of keys that share a partition, so that neighbours share a lease."""
        count = self._options.partitions
        partition = streamer.partition_for(keys[0].encode(), count)
        together = [key for key in keys if streamer.partition_for(key.encode(), count) == partition]
        records, sent = [], []
        for key in together:
            sequence, value = self._record(key)
            records.append(streamer.Record(value, key.encode()))
            sent.append((key, sequence))
        await producer.send_batch(records)
        self._acked(sent)

    def _acked(self, sent: Sequence[tuple[str, int]]) -> None:
        for key, sequence in sent:
            self._notes.write("acked", key, sequence)


def main() -> None:
    trio.run(Sender(Options(**json.loads(sys.argv[1]))).run)


if __name__ == "__main__":
    main()
