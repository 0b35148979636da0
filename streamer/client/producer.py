"""The producer: takes records in, and bounds how many it holds.

Rules:

- Room is taken before a record is: `send` and `post` wait while the buffer is full, and whoever is
  cancelled there has handed nothing over. Nothing is ever dropped to make room.
- Once a record is in, its outcome stays with the producer: a `send` that is cancelled while it
  waits for its ack tells nobody, but the record goes out, and if it fails `flush` says so.
- `post` is the fast path: while its batch has room it appends to a list and returns, without a
  checkpoint; it yields to other tasks once a batch.
- What is in goes to the partition's `Line`, which orders, sends and settles it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs
import trio

from streamer.batch import Codec
from streamer.client.checks import RECORD_BYTES, measure, size_of
from streamer.client.delays import DELAYED, Later, due_us
from streamer.client.line import Line
from streamer.client.link import Link
from streamer.client.pending import WHOLE, Extras, Flush, Pending
from streamer.client.requests import fresh
from streamer.client.room import Room
from streamer.errors import BadRequest, UnknownPartition
from streamer.limits import KIB, MIB
from streamer.records import Lane, Receipt, Record
from streamer.wire.partitioner import partition_for

__all__ = ["Committed", "Producer", "ProducerSettings"]

#: What a batch takes besides its records.
_BATCH_BYTES = 4 * KIB
_LANES = (Lane.NORMAL, Lane.HIGH)


@attrs.frozen
class Committed:
    """The last record of a producer that a partition has committed."""

    sequence: int
    offset: int


@attrs.frozen
class ProducerSettings:
    """How a producer collects and what it may hold; bytes and seconds."""

    lane: Lane = Lane.NORMAL
    linger_s: float = 0.0
    batch_records: int = 1000
    batch_bytes: int = 512 * KIB
    buffer_bytes: int = 32 * MIB
    #: Requests under way at once in each partition.
    in_flight: int = 16
    delivery_timeout_s: float = 120.0

    def check(self) -> None:
        """Raises BadRequest: a setting that cannot work."""
        for name in ("batch_records", "batch_bytes", "buffer_bytes", "in_flight"):
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} is {getattr(self, name)}, it must be at least 1")
        # The daemon remembers 64 ranges of a producer: what is resent must be among them.
        if self.in_flight > 64:
            raise BadRequest(f"in_flight is {self.in_flight}, allowed are at most 64")
        if self.linger_s < 0 or self.delivery_timeout_s <= 0:
            raise BadRequest("linger_s must be 0 or more, delivery_timeout_s above 0")


class Producer:
    """Appends to one stream. Made by `Client.producer`; any number of tasks may share it."""

    def __init__(
        self,
        link: Link,
        stream: str,
        partitions: int,
        settings: ProducerSettings,
        codec: Codec,
        *,
        producer_id: int,
        epoch: int = 0,
        committed: Mapping[int, Committed] | None = None,
        name: str | None = None,
        partition: int | None = None,
        dictionary_id: int = 0,
        later: Later | None = None,
    ) -> None:
        limits = link.batch_limits
        self.link = link
        self.stream = stream
        self.name = name
        self.codec = codec
        self.dictionary_id = dictionary_id
        self.in_flight = settings.in_flight
        self.delivery_timeout_s = settings.delivery_timeout_s
        self.urgent = settings.lane is Lane.HIGH
        self.lane_number = _LANES.index(settings.lane)
        #: Why nothing more can be sent.
        self.failure: Exception | None = None
        self._linger_s = settings.linger_s
        self._batch_records = min(settings.batch_records, limits.records)
        self._batch_bytes = min(settings.batch_bytes, limits.batch_bytes - _BATCH_BYTES)
        self._limits = limits
        self._room = Room(settings.buffer_bytes)
        self._fixed = partition
        #: Takes what is delayed; None for a producer that is one itself.
        self._later = later
        self._lines: list[Line] = []
        for number in range(partitions):
            line = Line(self, number, producer_id, epoch)
            last = (committed or {}).get(number)
            if last is not None:
                line.sequence = last.sequence + 1
                line.committed = (last.sequence, last.offset)
            self._lines.append(line)
            link.add(line)
        #: Where records without a key go, until their batch is sealed.
        self._current = partition or 0
        #: The fast path: what is added to, and the room for it, which has been taken from
        #: `_room` already. It is open while there is room.
        self._budget = 0
        self._pending: Pending
        self._values: list[bytes]
        self._unheard: Exception | None = None
        self._unheard_records = 0
        self._flushing: dict[Flush, None] = {}

    # -------------------------------------------------------------------------------- public

    async def post(
        self,
        value: bytes,
        key: bytes | None = None,
        # Before the star, as defaults of keywords cost ten times as much, on every record.
        delay_s: float | None = None,
        deliver_at: datetime | None = None,
        *,
        timestamp_us: int | None = None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> None:
        """Hand over one record, to be sent soon; `flush`, or leaving the producer, checks it.

        With a delay it goes where `send` says. Waits while the buffer is full. It yields to other
        tasks only then and once a batch, so it is no checkpoint otherwise. Cancelled, the record
        was not taken.

        Raises:
            TooLarge, BadRequest, UnknownPartition: the record cannot be appended so.
            StreamerError: the producer has failed before.
        """
        if (
            type(value) is bytes
            and (budget := self._budget - len(value) - RECORD_BYTES) >= 0
            and key is None
            and timestamp_us is None
            and headers is None
            and partition is None
            and delay_s is None
            and deliver_at is None
        ):
            values = self._values
            values.append(value)
            self._budget = budget
            if len(values) < self._batch_records:
                return
            self._seal(self._pending.line)
        elif delay_s is None and deliver_at is None:
            extras = key, timestamp_us, headers, None
            pending, _ = await self._take(value, extras, partition, None)
            if not pending.count:
                return
        else:
            due = self._due_us(delay_s, deliver_at, partition, None)
            later = await self._open_later()
            pending, _ = await later._take(value, (key, timestamp_us, headers, due), None, None)
            if not pending.count:
                return
        # Sealed just now: once a batch, everybody else has a turn.
        await trio.lowlevel.checkpoint()

    async def send(
        self,
        value: bytes,
        key: bytes | None = None,
        # Before the star, as defaults of keywords cost ten times as much, on every record.
        delay_s: float | None = None,
        deliver_at: datetime | None = None,
        *,
        timestamp_us: int | None = None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
        expected_offset: int | None = None,
    ) -> Receipt:
        """Append one record; its receipt, once it is acked.

        With `delay_s` (0 to 366 days) or `deliver_at` (with its zone) it waits in STREAM.delayed,
        which the receipt then names, and comes to the stream when it is due.

        `expected_offset` appends only if it gets that offset. A lone record goes out at once;
        those that come while others are under way share requests.

        Cancelled while it waits for room, the record was not taken; later, it stays with the
        producer, and its failure, if it fails, with the next `flush`.

        Raises:
            OffsetConflict: the partition does not go on at `expected_offset`.
            TooLarge, BadRequest, UnknownPartition: the record cannot be appended so.
            OutcomeUnknown: it may have been appended or not; the producer is at its end.
            StreamerError: why it was not appended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if (
            type(value) is bytes
            and (budget := self._budget - len(value) - RECORD_BYTES) >= 0
            and key is None
            and timestamp_us is None
            and headers is None
            and partition is None
            and expected_offset is None
            and delay_s is None
            and deliver_at is None
        ):
            pending = self._pending
            index = len(pending.values)
            pending.values.append(value)
            self._budget = budget
            self._added(pending)
        elif delay_s is None and deliver_at is None:
            extras = key, timestamp_us, headers, None
            pending, index = await self._take(value, extras, partition, expected_offset, hurry=True)
        else:
            due = self._due_us(delay_s, deliver_at, partition, expected_offset)
            later = await self._open_later()
            pending, index = await later._take(
                value, (key, timestamp_us, headers, due), None, None, hurry=True
            )
        return await pending.wait(index)

    async def send_batch(
        self,
        values: Sequence[bytes] | Sequence[Record],
        *,
        partition: int | None = None,
        expected_offset: int | None = None,
    ) -> Receipt:
        """Append records as one atomic batch, all or nothing; its receipt, once it is acked.

        The receipt has the offset of the first and the count. Cancellation and errors are as
        for `send`.

        Raises:
            BadRequest: no records, keys that belong to several partitions, or records that are to
                be delivered later, which go one by one.
            TooLarge: more than one batch holds.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        plain, size, keys = measure(values, self._limits)
        if not plain and not self.stream.endswith(DELAYED):
            self._check_not_delayed(values)  # type: ignore[arg-type]
        line = self._line_of_all(keys, partition)
        await self._take_room(size)
        self._seal(line)
        pending = self._open_pending(line)
        pending.expected = expected_offset
        pending.nbytes = size
        if plain:
            pending.values = list(values)  # type: ignore[arg-type]
        else:
            pending.records = list(values)  # type: ignore[arg-type]
        self.seal(line)
        line.activate()
        return await pending.wait(WHOLE)

    async def flush(self) -> None:
        """Wait until all that has been handed over is acked.

        Raises:
            StreamerError: the first failure, since the last flush, of a record that no `send`
                was waiting for; its notes say how many failed.
        """
        delayed = await self._later.flush() if self._later is not None else None
        await self._flush()
        if delayed is not None:
            raise delayed

    async def _flush(self) -> None:
        flush = Flush()
        for line in self._lines:
            self._seal(line)
            for pending in line.unanswered():
                if not pending.done:
                    pending.flushes.append(flush)
                    flush.left += 1
        self._flushing[flush] = None
        try:
            await flush.wait()
        finally:
            del self._flushing[flush]
        if self._unheard is not None:
            # Who flushes at the same time is told as well.
            for each in (flush, *self._flushing):
                each.error = each.error or self._unheard
                each.count += self._unheard_records
            self._unheard, self._unheard_records = None, 0
        error, count = flush.error, flush.count
        if error is not None:
            error = fresh(error)
            error.add_note(f"{count} records to {self.stream!r} were not acked")
            raise error

    def committed(self, partition: int = 0) -> Committed | None:
        """The last record of this producer that the partition is known to have committed.

        For a producer with a name that includes what an earlier run of it has committed: a
        program whose n-th record has sequence n (from 0) goes on at `sequence + 1`.
        """
        last = self._lines[partition].committed
        return None if last is None else Committed(*last)

    @property
    def partitions(self) -> int:
        """How many partitions the stream has."""
        return len(self._lines)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of records that are in and not acked."""
        return self._room.nbytes - self._room.free - self._budget

    # ------------------------------------------------------------------------------ for later

    def _due_us(
        self,
        delay_s: float | None,
        deliver_at: datetime | None,
        partition: int | None,
        expected: int | None,
    ) -> int:
        """When it is due. Raises BadRequest: it cannot be delayed so."""
        if partition is not None or self._fixed is not None or expected is not None:
            raise BadRequest("what is delayed has no partition and no offset before it is due")
        if self._later is None:
            raise BadRequest(f"stream {self.stream!r} is where what is delayed waits already")
        return due_us(self.link.now_us(), delay_s, deliver_at)

    async def _open_later(self) -> Producer:
        self._check()
        assert self._later is not None, "looked at by `_due_us`"
        return await self._later.open()

    def _check_not_delayed(self, records: Sequence[Record]) -> None:
        if any(record.deliver_at_us is not None for record in records):
            raise BadRequest(
                "records with deliver_at_us in a batch: what is to be delivered later goes one by "
                "one, by send or post with delay_s or deliver_at"
            )

    # --------------------------------------------------------------------------- taking records

    async def _take(
        self,
        value: bytes,
        extras: Extras,
        partition: int | None,
        expected: int | None,
        *,
        hurry: bool = False,
    ) -> tuple[Pending, int]:
        """Take one record, once there is room: where it is now, and its index there."""
        size = size_of(value, extras, self._limits)
        await self._take_room(size)
        try:
            pending = self._place(size, extras[0], partition, expected)
        except BaseException:
            self.release(size)
            raise
        pending.nbytes += size
        index = pending.add(value, extras)
        if hurry and not index and pending.line.lone and not self._linger_s:
            # It may be refused before this task waits: that is heard by it all the same.
            pending.awaited = 1
            self.link.hurry(pending.line)
        else:
            self._added(pending)
        return pending, index

    def _line(self, key: bytes | None, partition: int | None) -> Line:
        """Where a record goes: as asked, else by its key, else along with the last one."""
        if partition is None:
            partition = self._fixed
        if partition is not None:
            if not 0 <= partition < len(self._lines):
                raise UnknownPartition(
                    f"stream {self.stream!r} has partitions 0 to {len(self._lines) - 1}, "
                    f"not {partition}"
                )
            return self._lines[partition]
        if key is None or len(self._lines) == 1:
            return self._lines[self._current]
        return self._lines[partition_for(key, len(self._lines))]

    def _line_of_all(self, keys: set[bytes | None], partition: int | None) -> Line:
        keyed = keys - {None}
        if not keyed:
            return self._line(None, partition)
        lines = {self._line(key, partition) for key in keyed}
        if len(lines) > 1:
            numbers = sorted(line.partition for line in lines)
            raise BadRequest(
                f"the keys of this batch belong to partitions {numbers}, and a batch is atomic "
                "in one: give the partition, or a batch for each"
            )
        return lines.pop()

    def _place(
        self, size: int, key: bytes | None, partition: int | None, expected: int | None
    ) -> Pending:
        """What a record of that size is added to; seals what it does not fit into."""
        self._check()
        while True:
            # Asked again each time: without a key, sealing moves on to the next partition.
            line = self._line(key, partition)
            pending = line.open
            if pending is None:
                pending = self._open_pending(line)
                pending.expected = expected
                return pending
            self._reclaim(line)
            if expected is None and pending.nbytes + size <= self._batch_bytes:
                return pending
            self._seal(line)

    def _open_pending(self, line: Line) -> Pending:
        now = trio.current_time()
        pending = Pending(line, self.link.now_us(), now + self.delivery_timeout_s)
        line.open = pending
        line.watch(pending.deadline)
        if self._linger_s:
            pending.linger_until = now + self._linger_s
            line.watch_linger(pending.linger_until)
        return pending

    def _added(self, pending: Pending) -> None:
        """A record was added: go on collecting, or send."""
        line, count = pending.line, len(pending.values)
        if (
            count >= self._batch_records
            or pending.expected is not None
            or (not self._budget and pending.nbytes >= self._batch_bytes)
        ):
            self._seal(line)
            return
        if not line.listed and (count == 1 or count >= line.under_way):
            line.activate()
        if not self._budget:
            self._allow_fast(line, pending)

    # ------------------------------------------------------------------------------- fast path

    def _allow_fast(self, line: Line, pending: Pending) -> None:
        """Let records without anything but a value be added to `pending` at once.

        The room for them is taken in advance, and counted with what they are added to.
        """
        if line.partition != self._current or pending.extras or self._room.crowded:
            return
        budget = min(self._batch_bytes - pending.nbytes, self._room.free)
        if budget > 0 and self._room.take_now(budget):
            self._pending, self._values = pending, pending.values
            self._budget = budget
            pending.nbytes += budget

    def _reclaim(self, line: Line) -> None:
        """Close the fast path if it leads to that line, and take back what it has not used."""
        if self._budget and self._pending.line is line:
            unused, self._budget = self._budget, 0
            self._pending.nbytes -= unused
            self._room.give(unused)
            # Its records are not to stay here for as long as nothing follows them.
            self._values = []

    def _seal(self, line: Line) -> None:
        """Seal what is collecting, if anything is, and have it sent."""
        if line.open is not None:
            self.seal(line)
            line.activate()

    def seal(self, line: Line) -> None:
        """Add nothing more to what is collecting in a line."""
        pending = line.open
        assert pending is not None, "only what collects can be sealed"
        self._reclaim(line)
        if line.partition == self._current and self._fixed is None:
            # Records without a key take turns by batches, not one by one.
            self._current = (self._current + 1) % len(self._lines)
        pending.count = len(pending.values) or len(pending.records)
        line.open = None
        line.ready.append(pending)

    # ------------------------------------------------------------------------------------ room

    async def _take_room(self, size: int) -> None:
        """Wait until there is room for `size` bytes, and take it. Cancelled, it has taken none."""
        self._check()
        room = self._room
        if room.take_now(size):
            return
        if self._budget:
            self._reclaim(self._pending.line)
            if room.take_now(size):
                return
        if self._linger_s:
            # No time to wait for more when there is no room for more.
            for line in self._lines:
                self._seal(line)
        await room.take(size)
        if self.failure is not None:
            # It failed after room was given and before this task ran.
            self.release(size)
            self._check()

    def release(self, nbytes: int) -> None:
        """Give room back: a request is done."""
        self._room.give(nbytes)

    # ------------------------------------------------------------------------------------- end

    def _check(self) -> None:
        if self.failure is not None:
            raise fresh(self.failure)

    def new_id(self) -> int:
        """A producer id that nobody else has."""
        return self.link.new_producer_id()

    def unheard(self, error: Exception, count: int) -> None:
        """Records failed that no task waits for."""
        if self._unheard is None:
            self._unheard = error
        self._unheard_records += count

    def fail(self, error: Exception) -> None:
        """Answer everything with `error`, and refuse everything from now on."""
        if self.failure is not None:
            return
        self.failure = error
        if self._budget:
            self._reclaim(self._pending.line)
        for line in self._lines:
            line.abandon(error)
        self._room.fail(error)

    def close(self) -> None:
        """Give up what is not acked; nothing goes out any more."""
        if self._later is not None:
            self._later.close()
        self.fail(trio.ClosedResourceError("this producer is closed"))
        for line in self._lines:
            self.link.remove(line)
