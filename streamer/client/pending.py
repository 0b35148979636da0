"""What one append request carries, from the first record in it to its answer.

Rules: it is filled in order and never again once it is sealed; it is encoded when it is first
sent, and from then on only its stamp changes; it is answered exactly once, with receipts or with
an error, and tells everybody who waits for it: one task a record at most, and flushes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from streamer.batch import Batch, Codec
from streamer.client.requests import Request, fresh
from streamer.errors import RemoteProtocolError, StreamerError
from streamer.observe.trace import marks_of
from streamer.records import AckLevel, ProducerStamp, Receipt, Record
from streamer.wire.shapes import PARENTS_MAX

if TYPE_CHECKING:
    from streamer.client.line import Line

#: Key, timestamp, headers and time to deliver at of a record that has any.
Extras = tuple[bytes | None, int | None, Mapping[str, bytes] | None, int | None]
PLAIN: Extras = (None, None, None, None)
#: Stands for all records of a request, where others have the index of one.
WHOLE = -1


class Flush:
    """Counts down the requests that one `flush` waits for."""

    __slots__ = ("count", "error", "left", "task")

    def __init__(self) -> None:
        self.left = 0
        #: What it is to raise, and of how many records.
        self.error: Exception | None = None
        self.count = 0
        self.task: Task | None = None

    def answered(self) -> None:
        self.left -= 1
        if not self.left and self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None

    async def wait(self) -> None:
        if not self.left:
            await trio.lowlevel.checkpoint()
            return
        self.task = trio.lowlevel.current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self.task = None
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class Pending(Request):
    """Records of one partition that are appended together."""

    __slots__ = (
        "_now_us",
        "accusations",
        "awaited",
        "batch",
        "count",
        "deadline",
        "done",
        "error",
        "expected",
        "extras",
        "failure",
        "flushes",
        "line",
        "linger_until",
        "nbytes",
        "parents",
        "records",
        "refusal",
        "request",
        "sequence",
        "uncertain",
        "values",
        "waiters",
    )

    def __init__(self, line: Line, now_us: int, deadline: float) -> None:
        self.line = line
        self._now_us = now_us
        #: When it is given up.
        self.deadline = deadline
        self.linger_until = 0.0
        #: Exactly one of the first two is filled; `extras` is as long as `values`, or empty.
        self.values: list[bytes] = []
        self.records: list[Record] = []
        self.extras: list[Extras] = []
        self.expected: int | None = None
        #: Set when it is sealed.
        self.count = 0
        #: Room that it takes in the producer's buffer.
        self.nbytes = 0
        self.batch: Batch | None = None
        #: Known once it is encoded.
        self.parents: Sequence[tuple[int, str]] = ()
        #: Of the first record, since it was first sent; -1 before.
        self.sequence = -1
        self.request = 0
        #: It has been sent, and may have been appended, without our knowing.
        self.uncertain = False
        #: What it was answered with, until it is decided what becomes of it.
        self.error: Exception | None = None
        #: Why it has to go again.
        self.refusal: Exception | None = None
        #: Sessions that the daemon ended over something that was under way with it.
        self.accusations = 0
        self.done = False
        #: What everybody was answered with, for a task that comes to wait after that.
        self.failure: Exception | None = None
        #: Tasks that are about to wait, but do not yet.
        self.awaited = 0
        self.waiters: dict[Task, int] = {}
        self.flushes: list[Flush] = []

    # ------------------------------------------------------------------------------- filling

    def add(self, value: bytes, extras: Extras) -> int:
        """Take one more record; its index."""
        index = len(self.values)
        if extras != PLAIN or self.extras:
            if len(self.extras) < index:
                self.extras = [PLAIN] * index
            self.extras.append(extras)
        self.values.append(value)
        return index

    async def wait(self, index: int) -> Receipt:
        """The receipt of the record at `index`, or of all of them (`WHOLE`).

        Cancelled, the records stay with the producer.
        """
        if self.failure is not None:
            # Refused here, before anything was sent.
            await trio.lowlevel.checkpoint()
            raise fresh(self.failure)
        task = trio.lowlevel.current_task()
        self.awaited = 0
        self.waiters[task] = index

        def abort(_: RaiseCancelT) -> Abort:
            del self.waiters[task]
            return Abort.SUCCEEDED

        receipt: Receipt = await trio.lowlevel.wait_task_rescheduled(abort)
        return receipt

    # ------------------------------------------------------------------------------ encoding

    def row(self) -> list[Any]:
        """The only record, as a ProduceRecords frame has it."""
        if self.records:
            record = self.records[0]
            headers = dict(record.headers) if record.headers else None
            row = [record.value, record.key, record.timestamp_us, headers, record.deliver_at_us]
        elif self.extras:
            key, timestamp_us, mapping, due_us = self.extras[0]
            row = [self.values[0], key, timestamp_us, dict(mapping) if mapping else None, due_us]
        else:
            return [self.values[0]]
        while row[-1] is None:
            row.pop()
        return row

    def encoded(self, codec: Codec, stamp: ProducerStamp | None, dictionary_id: int) -> Batch:
        """The batch under `stamp`; the payload is encoded once.

        Raises:
            TooLarge: it does not fit into a batch.
        """
        batch = self.batch
        if batch is None:
            batch = self._encode(codec, stamp, dictionary_id)
            # From here on the batch is what is kept.
            self.values, self.records, self.extras = [], [], []
        elif stamp is not None and (stamp.producer_id, stamp.sequence) != (
            batch.header.producer_id,
            batch.header.sequence,
        ):
            batch = batch.stamped(stamp)
        self.batch = batch
        return batch

    def _encode(self, codec: Codec, stamp: ProducerStamp | None, dictionary_id: int) -> Batch:
        now_us = self._now_us
        if self.extras:
            records = [
                Record(value, *extras)
                for value, extras in zip(self.values, self.extras, strict=True)
            ]
        elif self.records:
            records = self.records
        else:
            return codec.encode_values(
                self.values, now_us=now_us, stamp=stamp, dictionary_id=dictionary_id
            )
        self.parents = marks_of(records, PARENTS_MAX)
        return codec.encode_records(
            records, now_us=now_us, stamp=stamp, dictionary_id=dictionary_id
        )

    # ------------------------------------------------------------------------------- answers

    def acked(
        self, partition: int, offset: int, count: int, level: AckLevel, duplicate: bool
    ) -> None:
        if partition != self.line.partition or count != self.count:
            raise RemoteProtocolError(
                f"an ack of {count} records in partition {partition}, sent were {self.count} "
                f"to {self.line.partition}"
            )
        self.line.acked(self, offset, level)
        if self.done:
            return
        self.done = True
        stream, wake = self.line.stream, trio.lowlevel.reschedule
        for task, index in self.waiters.items():
            if index == WHOLE:
                receipt = Receipt(stream, partition, offset, count, level, duplicate)
            else:
                at = offset + index if offset >= 0 else offset
                receipt = Receipt(stream, partition, at, 1, level, duplicate)
            wake(task, outcome.Value(receipt))
        self._finish()

    def fail(self, error: Exception) -> None:
        """Answer everybody with `error`. Records that nobody waits for go to the next flush."""
        if self.done:
            return
        self.done = True
        self.failure = error
        heard = len(self.waiters) + self.awaited
        for task, index in self.waiters.items():
            if index == WHOLE:
                heard = self.count
            trio.lowlevel.reschedule(task, outcome.Error(fresh(error)))
        if heard < self.count:
            self.line.producer.unheard(error, self.count - heard)
        self._finish()

    def _finish(self) -> None:
        self.waiters = {}
        # Timers and tracebacks may keep this for a while, and it is not sent any more.
        self.values, self.records, self.extras, self.batch = [], [], [], None
        self.line.producer.release(self.nbytes)
        for flush in self.flushes:
            flush.answered()
        self.flushes = []

    def refused(self, error: StreamerError) -> None:
        self.line.refused(self, error)

    def lost(self) -> None:
        """Its line is told, once for all that it has under way."""

    def accused(self, error: StreamerError) -> None:
        self.accusations += 1
        if self.accusations > 1:
            self.line.refused(self, error)
