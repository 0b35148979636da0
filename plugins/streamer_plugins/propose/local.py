"""Propose: orders and admits, on one machine.

The contract, which a replicated log will fill in the same place: take a group, give each of its
records an offset or a refusal, and pass on what must be made durable. Rules:

- Admission is per record for what the daemon groups, and per batch for what a producer encoded:
  one bad record never fails its neighbours, and a batch is all or nothing.
- Offsets follow each other without gaps. They are given before the write, against what is already
  under way; if that fails, everything on top of it is refused and its offsets are given again.
- A duplicate is answered with its original offset, after the original's commit.
- What waits past its deadline before it is proposed was not appended, and is told so; after that
  the outcome is unknown, and is told so too.
"""

from __future__ import annotations

import attrs
import trio

from streamer import (
    HEADER_BYTES,
    Append,
    BadRequest,
    Batch,
    Entry,
    Fenced,
    Group,
    OffsetConflict,
    OutcomeUnknown,
    Partition,
    ProducerStamp,
    Proposal,
    Receiver,
    Record,
    Sender,
    Stage,
    StageContext,
    StagePlugin,
    Stream,
    StreamerError,
    TimedOut,
    TooLarge,
    Waiter,
    partition_for,
    setting,
)

#: What a batch of one record takes besides the record: header, CBOR, a name and length a header.
_BATCH_ROOM_BYTES = HEADER_BYTES + 1024
#: What each header takes besides its name and value: two lengths of at most five bytes.
_HEADER_ROOM_BYTES = 10


@attrs.frozen
class LocalConfig:
    """Settings of the stage `local`."""

    propose_timeout_s: float = setting(
        30.0, "longest time from taking in to the ack", unit="s", min=0.01, max=3600.0
    )


@attrs.define(eq=False)
class _Pending:
    """The admitted records of one partition, until they become a batch."""

    partition: Partition
    records: list[Record] = attrs.Factory(list)
    stamps: list[ProducerStamp | None] = attrs.Factory(list)
    waiters: list[Waiter] = attrs.Factory(list)

    def split(self, half: int, boundary: int) -> tuple[_Pending, _Pending]:
        """Two halves: records from `half` on, and who waits for an offset from `boundary` on."""
        return (
            _Pending(
                self.partition,
                self.records[:half],
                self.stamps[:half],
                [waiter for waiter in self.waiters if waiter.offset < boundary],
            ),
            _Pending(
                self.partition,
                self.records[half:],
                self.stamps[half:],
                [waiter for waiter in self.waiters if waiter.offset >= boundary],
            ),
        )


class _Propose:
    def __init__(self, config: LocalConfig, context: StageContext) -> None:
        self._timeout_s = config.propose_timeout_s
        limits = context.limits
        #: No record of this size can be above any limit.
        self._small_bytes = min(
            limits.value_bytes, limits.key_bytes, limits.batch_bytes - _BATCH_ROOM_BYTES
        )
        self._context = context
        #: Which partition takes the records without a key: another one for each group.
        self._turn = 0
        stats, name = context.stats, context.pipeline
        self._proposals = stats.counter("propose_batches", "batches proposed", pipeline=name)
        self._records = stats.counter("propose_records", "records proposed", pipeline=name)
        self._duplicates = stats.counter("propose_duplicates", "appends known", pipeline=name)
        self._refused = stats.counter("propose_refused", "appends refused", pipeline=name)
        self._late = stats.counter("propose_timeouts", "proposals past deadline", pipeline=name)

    # ------------------------------------------------------------------------------- admission

    async def propose(self, group: Group) -> list[Proposal]:
        """Admit a group; what is to be made durable, in order. Refusals are answered at once."""
        try:
            stream = await self._context.streams.ensure(group.stream)
        except StreamerError as error:
            for append in group.appends:
                self._refuse(append, error)
            return []
        self._turn += 1
        proposals: list[Proposal] = []
        pending: dict[int, _Pending] = {}
        oldest = trio.current_time() - self._timeout_s
        for append in group.appends:
            try:
                if append.ack.done:
                    continue
                if append.accepted_at < oldest:
                    raise self._too_late(append)
                if append.batch is not None:
                    proposals.append(self._admit_batch(stream, append, append.batch, group))
                else:
                    self._admit_records(stream, append, pending)
            except StreamerError as error:
                self._refuse(append, error)
        for part in pending.values():
            proposals += self._encode(stream, part, group)
        return proposals

    def _refuse(self, append: Append, error: StreamerError) -> None:
        self._refused.value += 1
        append.ack.resolve_all(error)

    def _check_named(self, stream: Stream, append: Append) -> None:
        """Sequences are of one partition: sent again, it must not come to another."""
        if append.partition is None and len(stream.partitions) > 1:
            raise BadRequest(
                f"an append with a sequence names its partition, {stream.name!r} has "
                f"{len(stream.partitions)}"
            )

    def _partition(self, stream: Stream, append: Append, key: bytes | None) -> Partition:
        """The partition that was asked for, else by the key, else each in its turn."""
        if append.partition is not None:
            return stream.partition(append.partition)
        count = len(stream.partitions)
        if count == 1:
            return stream.partitions[0]
        if key is not None:
            return stream.partitions[partition_for(key, count)]
        return stream.partitions[self._turn % count]

    def _admit_batch(self, stream: Stream, append: Append, batch: Batch, group: Group) -> Proposal:
        header = batch.header
        if header.producer_id:
            self._check_named(stream, append)
        if header.dictionary_id and header.dictionary_id not in stream.dictionaries:
            # Checked here, so that nothing is stored that no consumer could read.
            stream.codec.require_dictionary(header.dictionary_id)
        partition = self._partition(stream, append, None)
        stamp = None
        if header.producer_id:
            stamp = ProducerStamp(header.producer_id, header.epoch, header.sequence)
        offset = self._known(stream, partition, stamp, batch.count, append.expected)
        if offset is not None:
            waiter = Waiter(append.ack, 0, offset, batch.count, duplicate=True)
            return self._proposal(partition, None, [waiter], batch.nbytes, group)
        append.proposed = True
        waiter = Waiter(append.ack, 0, partition.next_offset, batch.count)
        stamps = [(stamp, batch.count, partition.next_offset)] if stamp else []
        return self._place(partition, batch, stamps, [waiter], group)

    def _admit_records(self, stream: Stream, append: Append, pending: dict[int, _Pending]) -> None:
        expected = append.expected
        if append.stamp is not None:
            self._check_named(stream, append)
        for index, record in enumerate(append.records):
            try:
                self._check_size(record)
                partition = self._partition(stream, append, record.key)
                part = pending.get(partition.number)
                if part is None:
                    part = pending[partition.number] = _Pending(partition)
                self._admit_record(stream, part, append, index, record, expected)
            except StreamerError as error:
                self._refused.value += 1
                append.ack.resolve(index, error)
            else:
                # The rest of the request follows the record that met the expectation.
                expected = None

    def _admit_record(
        self,
        stream: Stream,
        part: _Pending,
        append: Append,
        index: int,
        record: Record,
        expected: int | None,
    ) -> None:
        partition, stamp = part.partition, append.stamp
        if stamp is not None and index:
            stamp = ProducerStamp(stamp.producer_id, stamp.epoch, stamp.sequence + index)
        offset = self._known(stream, partition, stamp, 1, expected)
        if offset is not None:
            part.waiters.append(Waiter(append.ack, index, offset, 1, duplicate=True))
            return
        offset = partition.next_offset
        if stamp is not None:
            partition.proposed.record(stamp, 1, offset)
        partition.next_offset = offset + 1
        append.proposed = True
        part.records.append(record)
        part.stamps.append(stamp)
        part.waiters.append(Waiter(append.ack, index, offset, 1))

    def _known(
        self,
        stream: Stream,
        partition: Partition,
        stamp: ProducerStamp | None,
        count: int,
        expected: int | None,
    ) -> int | None:
        """None for something new, else the offset at which it was appended before.

        Raises:
            Fenced, OutOfSequence, ProducerUnknown: the stamp does not follow the last one.
            OffsetConflict: it is new, and not where it was expected to be.
        """
        if stamp is not None:
            newest = stream.epochs.get(stamp.producer_id, 0)
            if stamp.epoch < newest:
                raise Fenced(
                    f"producer {stamp.producer_id} of epoch {stamp.epoch}, epoch {newest} has "
                    "taken over",
                    epoch=newest,
                )
            duplicate = partition.proposed.check(stamp, count)
            if duplicate is not None:
                self._duplicates.value += 1
                return duplicate.offset
        if expected is not None and expected != partition.next_offset:
            raise OffsetConflict(
                f"expected offset {expected}, partition {partition.number} of "
                f"{partition.stream!r} goes on at {partition.next_offset}",
                next_offset=partition.next_offset,
            )
        partition.log.check_writable()
        return None

    def _check_size(self, record: Record) -> None:
        """Refuse a record that is too large, even in a batch of its own."""
        if record.nbytes <= self._small_bytes and record.headers is None:
            return
        limits = self._context.limits
        headers = record.headers or {}
        for what, found, allowed in (
            ("value", len(record.value), limits.value_bytes),
            ("key", len(record.key or b""), limits.key_bytes),
            ("headers", sum(len(k) + len(v) for k, v in headers.items()), limits.headers_bytes),
            (
                "record",
                record.nbytes + _BATCH_ROOM_BYTES + _HEADER_ROOM_BYTES * len(headers),
                limits.batch_bytes,
            ),
        ):
            if found > allowed:
                raise TooLarge(f"{what} of {found} bytes, allowed are {allowed}")
        if len(headers) > limits.headers:
            raise TooLarge(f"{len(headers)} headers, allowed are {limits.headers}")

    # -------------------------------------------------------------------------------- placing

    def _encode(self, stream: Stream, part: _Pending, group: Group) -> list[Proposal]:
        """Make the admitted records of one partition one batch."""
        if part.records:
            first = part.partition.next_offset - len(part.records)
            return self._encode_from(stream, part, first, group)
        if part.waiters:
            return [self._proposal(part.partition, None, part.waiters, 0, group)]
        return []

    def _encode_from(
        self, stream: Stream, part: _Pending, first: int, group: Group
    ) -> list[Proposal]:
        # The stamp of a lone record stands in the header, those of several in a column.
        alone = len(part.records) == 1
        try:
            batch = stream.codec.encode_records(
                part.records,
                now_us=self._context.now_us(),
                stamp=part.stamps[0] if alone else None,
                stamps=None if alone else part.stamps,
                dictionary_id=stream.meta.dictionary_id,
            )
        except TooLarge:
            assert not alone, "a record that was admitted fits into a batch of its own"
            # Records that do not compress: each half is a batch, each record fits alone.
            half = len(part.records) // 2
            front, back = part.split(half, first + half)
            return [
                *self._encode_from(stream, front, first, group),
                *self._encode_from(stream, back, first + half, group),
            ]
        stamps = [
            (stamp, 1, first + index)
            for index, stamp in enumerate(part.stamps)
            if stamp is not None
        ]
        return [self._placed(part.partition, batch, first, stamps, part.waiters, group)]

    def _place(
        self,
        partition: Partition,
        batch: Batch,
        stamps: list[tuple[ProducerStamp, int, int]],
        waiters: list[Waiter],
        group: Group,
    ) -> Proposal:
        first = partition.next_offset
        partition.next_offset = first + batch.count
        for stamp, count, offset in stamps:
            partition.proposed.record(stamp, count, offset)
        return self._placed(partition, batch, first, stamps, waiters, group)

    def _placed(
        self,
        partition: Partition,
        batch: Batch,
        first: int,
        stamps: list[tuple[ProducerStamp, int, int]],
        waiters: list[Waiter],
        group: Group,
    ) -> Proposal:
        placed = batch.placed(
            base_offset=first,
            append_time_us=self._context.now_us(),
            # Not the high-water mark: below fsync = "group" that is not on the disk yet.
            high_water=partition.log.durable_offset,
        )
        self._proposals.value += 1
        self._records.value += batch.count
        return self._proposal(partition, Entry(placed, stamps), waiters, batch.nbytes, group)

    def _proposal(
        self,
        partition: Partition,
        entry: Entry | None,
        waiters: list[Waiter],
        nbytes: int,
        group: Group,
    ) -> Proposal:
        group.ticket.hold()
        return Proposal(
            partition,
            partition.generation,
            entry,
            waiters,
            nbytes,
            group.appends[0].accepted_at,
            group.taken_at,
            group.ticket,
        )

    # ------------------------------------------------------------------------------- deadlines

    async def watch_deadlines(self) -> None:
        """Answer what has waited too long, wherever it waits; runs until it is cancelled."""
        while True:
            await trio.sleep(min(1.0, self._timeout_s / 10))
            oldest = trio.current_time() - self._timeout_s
            for append in [*self._context.under_way()]:
                if append.accepted_at >= oldest:
                    break
                if not append.ack.done:
                    self._late.value += 1
                    append.ack.resolve_all(self._too_late(append))

    def _too_late(self, append: Append) -> StreamerError:
        if append.proposed:
            return OutcomeUnknown(
                f"no commit within {self._timeout_s} s: it may yet be appended or not"
            )
        # Certain, as what is answered is not proposed any more.
        return TimedOut(f"waited {self._timeout_s} s to be proposed, not appended")


def make(config: LocalConfig, context: StageContext) -> Stage:
    async def run(receive: Receiver[Group], send: Sender[Proposal]) -> None:
        propose = _Propose(config, context)
        with receive, send:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(propose.watch_deadlines)
                async for group in receive:
                    for proposal in await propose.propose(group):
                        await send.send(proposal)
                    group.ticket.release()
                nursery.cancel_scope.cancel()

    return run


STAGE = StagePlugin(name="local", place="propose", config=LocalConfig, factory=make)
