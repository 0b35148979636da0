"""What the storage tests share: a kit that makes batches, appends and reads, and a model of a
partition's life."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import pytest

from streamer.batch import Batch, Codec, parse_placed, read_header
from streamer.errors import (
    Aborted,
    DiskFull,
    PartitionDamaged,
    PartitionStopped,
    StorageError,
    StreamerError,
)
from streamer.limits import BatchLimits
from streamer.records import ProducerStamp, Record
from streamer.storage.files import Files
from streamer.storage.partition import AppendPlan, Entry, LogSettings, LogState, PartitionLog
from streamer.testing.memory_files import MemoryFiles, ProcessDied

PATH = "/data/p"


class Kit:
    """Makes batches, appends them and reads them back, with every check that there is."""

    path = PATH
    limits = BatchLimits()
    #: For batches whose records are in them byte for byte.
    uncompressed = Codec(limits=BatchLimits(ratio=1))

    def __init__(self) -> None:
        self.codec = Codec()
        self.now_us = 1_000_000

    def open(
        self,
        files: Files,
        *,
        path: str = PATH,
        segment_bytes: int = 2000,
        index_bytes: int = 300,
        retention_bytes: int | None = None,
        retention_s: float | None = None,
        producers: int = 10,
        checkpoint_records: int = 100_000,
        rewrite_whole_bytes: int = 0,
    ) -> PartitionLog:
        settings = LogSettings(
            segment_bytes,
            index_bytes,
            retention_bytes,
            retention_s,
            producers,
            checkpoint_records,
            rewrite_whole_bytes,
        )
        return PartitionLog.open(files, path, settings, self.codec)

    def batch(
        self,
        values: Sequence[bytes],
        *,
        at: int,
        high_water: int = 0,
        stamp: ProducerStamp | None = None,
        now_us: int | None = None,
        timestamp_us: int | None = None,
    ) -> Batch:
        """A placed batch."""
        now_us = self.now_us if now_us is None else now_us
        stamped_us = now_us if timestamp_us is None else timestamp_us
        batch = self.codec.encode_values(values, now_us=stamped_us, stamp=stamp)
        return batch.placed(base_offset=at, append_time_us=now_us, high_water=high_water)

    def entry(
        self,
        log: PartitionLog,
        values: Sequence[bytes],
        *,
        at: int | None = None,
        stamp: ProducerStamp | None = None,
        timestamp_us: int | None = None,
    ) -> Entry:
        at = log.next_offset if at is None else at
        batch = self.batch(
            values,
            at=at,
            high_water=log.durable_offset,
            stamp=stamp,
            timestamp_us=timestamp_us,
        )
        return Entry(batch, [] if stamp is None else [(stamp, len(values), at)])

    def grouped(
        self, log: PartitionLog, records: Sequence[tuple[bytes, ProducerStamp | None]]
    ) -> Entry:
        """One batch of several producers' records, as ingest makes them."""
        stamps = [stamp for _, stamp in records]
        batch = self.codec.encode_records(
            [Record(value) for value, _ in records], now_us=self.now_us, stamps=stamps
        ).placed(
            base_offset=log.next_offset,
            append_time_us=self.now_us,
            high_water=log.durable_offset,
        )
        runs = [(s, 1, log.next_offset + n) for n, s in enumerate(stamps) if s is not None]
        return Entry(batch, runs)

    def commit(self, log: PartitionLog, entries: Sequence[Entry], *, sync: bool = True) -> None:
        """Append as the persist stage does: what goes wrong is given back to the log."""
        plan = log.plan_append(entries)
        self.run(log, plan, sync=sync)

    def run(self, log: PartitionLog, plan: AppendPlan, *, sync: bool = True) -> None:
        try:
            plan.run(sync)
        except StreamerError as error:
            log.failed(plan, error)
            raise
        log.committed(plan)

    def append(
        self,
        log: PartitionLog,
        *groups: Sequence[bytes],
        sync: bool = True,
        stamp: ProducerStamp | None = None,
    ) -> None:
        """One commit of a batch for each group of values."""
        entries, at = [], log.next_offset
        for values in groups:
            entries.append(self.entry(log, values, at=at, stamp=stamp))
            at += len(values)
            if stamp is not None:
                stamp = ProducerStamp(stamp.producer_id, stamp.epoch, stamp.sequence + len(values))
        self.commit(log, entries, sync=sync)

    def close(self, log: PartitionLog) -> None:
        log.plan_close().run()

    # ------------------------------------------------------------------------------------ read

    def values(self, blob: bytes, first_offset: int) -> dict[int, bytes]:
        """Decode a result, every check made again by the batch module."""
        found: dict[int, bytes] = {}
        at, expected = 0, first_offset
        while at < len(blob):
            header = read_header(blob, self.limits, at)
            batch = parse_placed(blob[at : at + header.length], self.limits)
            assert batch.header.base_offset == expected
            found.update(enumerate(self.codec.decode(batch).values, expected))
            at += header.length
            expected = header.next_offset
        return found

    def read(self, log: PartitionLog, *, bytes_max: int = 500) -> list[bytes]:
        """Every value of the log, which has no damage."""
        found, skipped = self.read_whole_parts(log, bytes_max=bytes_max)
        assert not skipped
        assert list(found) == list(range(log.first_offset, log.high_water))
        return list(found.values())

    def read_whole_parts(
        self, log: PartitionLog, *, bytes_max: int = 500
    ) -> tuple[dict[int, bytes], list[tuple[int, int]]]:
        """Every value that can be read, by offset, and the ranges that cannot."""
        found: dict[int, bytes] = {}
        skipped: list[tuple[int, int]] = []
        offset = log.first_offset
        while (plan := log.plan_read(offset, bytes_max)) is not None:
            try:
                result = plan.run()
            except PartitionDamaged as error:
                first, behind = error.detail["first"], error.detail["next"]
                assert first <= offset < behind <= log.high_water
                skipped.append((first, behind))
                offset = behind
                continue
            assert result.first_offset <= offset < result.next_offset <= log.high_water
            values = self.values(result.blob, result.first_offset)
            assert len(values) == result.next_offset - result.first_offset
            found.update(values)
            offset = result.next_offset
        return found, skipped


@attrs.frozen
class Written:
    """A batch of the model."""

    values: tuple[bytes, ...]
    stamps: tuple[ProducerStamp | None, ...]


class Restart(Exception):
    """The process has ended: by itself after a fault, or it was killed."""


class Life:
    """A partition's life over many processes with faults, watched by a model that is a list.

    What the model holds against the log, after whatever happened:

    - what was committed with a sync is there, at its offset, and stays (G1, G2, G4);
    - what was committed without one survives the process, and after a power cut it is there up to
      some batch, with no gap before it;
    - what was refused for want of room is nowhere, ever;
    - what failed in another way is there whole or not at all, and only at the end;
    - the producer table says of each producer what the log says;
    - no fault but damage to bytes makes a log refuse writes after a restart.

    The steps raise `Restart` where the process ends.
    """

    Restart = Restart

    def __init__(self, kit: Kit, files: MemoryFiles, **settings: Any) -> None:
        self.kit = kit
        self.files = files
        # Whatever is above a partition is the data directory's affair.
        files.make_dir(os.path.dirname(kit.path))
        self.settings = settings
        #: Committed batches, oldest first, all offsets from 0 on; the first `durable` of them are
        #: promised to survive everything.
        self.content: list[Written] = []
        self.durable = 0
        #: Under way when the process ended: there or not.
        self.maybe: list[Written] = []
        #: Other ends that the log may have while a recovery is unfinished, for want of room: what
        #: was cut off in the cache alone is still on the disk, and a power cut brings it back.
        self.ghosts: list[list[Written]] = []
        self.first_offset_max = 0
        self.sequences: dict[int, int] = {}
        self.number = 0
        self.power_cuts = 0
        self.log: PartitionLog | None = None

    # ------------------------------------------------------------------------------------ steps

    def start(self) -> None:
        """A new process opens the partition, and the model looks at what it finds."""
        try:
            log = self.kit.open(self.files.process(), **self.settings)
        except (StorageError, ProcessDied) as error:
            raise Restart from error
        assert log.state is LogState.OPEN, log.damage
        assert log.next_offset == log.high_water or log.durable_offset == log.high_water
        self._match(log)
        self.log = log
        self.check()

    def _match(self, log: PartitionLog) -> None:
        """Which batches are there? They become the model's content."""
        ends = [self.maybe, *self.ghosts]
        counts = [_count([*self.content, *end], log.next_offset) for end in ends]
        fits = [n for n, count in enumerate(counts) if count is not None]
        assert fits, "a batch is there in part"
        end, count = ends[fits[0]], counts[fits[0]]
        assert count is not None
        assert count >= self.durable, f"{self.durable - count} durable batches are gone"
        if not self.power_cuts:
            assert count >= len(self.content), "a committed batch has not survived its process"
        taken = max(0, count - len(self.content))
        if count != len(self.content):
            ends = [end[taken:]] if taken else []
        self.ghosts = ends
        self.content, self.maybe = [*self.content, *end][:count], []
        # The rest of an unfinished recovery may still be lost.
        if log.durable_offset == log.next_offset:
            self.durable = count
            self.ghosts = []
        self.power_cuts = 0
        self.sequences = {}
        for written in self.content:
            for stamp in written.stamps:
                if stamp is not None:
                    self.sequences[stamp.producer_id] = stamp.sequence + 1

    def append(self, *sizes: int, sync: bool = True, producer: int = 1) -> None:
        """Commit a batch for each size."""
        entries, new = self._entries(sizes, producer)
        self._commit(entries, new, sync)

    def append_grouped(self, producers: Sequence[int], *, sync: bool = True) -> None:
        """Commit one batch with a record of each producer; 0 is one without a stamp."""
        assert self.log is not None
        records = []
        for producer in producers:
            stamp = self._stamp(producer) if producer else None
            records.append((self._value(), stamp))
        entry = self.kit.grouped(self.log, records)
        new = Written(tuple(value for value, _ in records), tuple(s for _, s in records))
        self._commit([entry], [new], sync)

    def _entries(self, sizes: Sequence[int], producer: int) -> tuple[list[Entry], list[Written]]:
        assert self.log is not None
        entries, new, at = [], [], self.log.next_offset
        for size in sizes:
            values = [self._value() for _ in range(size)]
            stamps = [self._stamp(producer) for _ in range(size)]
            entries.append(self.kit.entry(self.log, values, at=at, stamp=stamps[0]))
            new.append(Written(tuple(values), tuple(stamps)))
            at += size
        return entries, new

    def _value(self) -> bytes:
        self.number += 1
        # No two alike, and some that do not compress.
        return b"%d " % self.number + random.Random(self.number).randbytes(self.number % 3 * 40)

    def _stamp(self, producer: int) -> ProducerStamp:
        sequence = self.sequences.get(producer, 0)
        self.sequences[producer] = sequence + 1
        return ProducerStamp(producer, 0, sequence)

    def _commit(self, entries: list[Entry], new: list[Written], sync: bool) -> None:
        log = self.log
        assert log is not None
        before = dict(self.sequences)
        try:
            self.kit.commit(log, entries, sync=sync)
        except (DiskFull, Aborted):
            self._after_refusal(new)
            return
        except (PartitionStopped, ProcessDied) as error:
            self.maybe = new
            raise Restart from error
        assert before == self.sequences
        self.content += new
        # No append comes before the recovery is finished.
        self.ghosts = []
        self._note_durable()
        self.check_end()

    def _after_refusal(self, new: list[Written]) -> None:
        for written in new:
            for stamp in written.stamps:
                if stamp is not None:
                    self.sequences[stamp.producer_id] -= 1
        self._note_durable()
        self.check()

    def _note_durable(self) -> None:
        assert self.log is not None
        offset = 0
        for count, written in enumerate(self.content, 1):
            offset += len(written.values)
            if offset <= self.log.durable_offset:
                self.durable = max(self.durable, count)

    def sync(self) -> None:
        assert self.log is not None
        plan = self.log.plan_sync()
        if plan is None:
            return
        try:
            plan.run()
        except (DiskFull, Aborted) as error:
            self.log.failed(plan, error)
            return
        except (PartitionStopped, ProcessDied) as error:
            if isinstance(error, PartitionStopped):
                self.log.failed(plan, error)
            raise Restart from error
        self.log.synced(plan)
        assert self.log.durable_offset == self.log.next_offset
        self._note_durable()

    def retain(self, floor: int | None) -> None:
        assert self.log is not None
        plan = self.log.plan_retention(self.kit.now_us, floor)
        if plan is None:
            return
        allowed = plan.candidates[-1].end_offset
        self.first_offset_max = max(self.first_offset_max, allowed)
        assert floor is None or allowed <= floor
        try:
            plan.run()
        except StorageError:
            pass
        except ProcessDied as error:
            raise Restart from error
        self.log.retained(plan)
        self.check()

    def close(self) -> None:
        """A clean end, if nothing comes between."""
        assert self.log is not None
        # A recovery that had no room is not finished by closing.
        whole = self.log.high_water == self.log.next_offset
        plan, self.log = self.log.plan_close(), None
        try:
            plan.run()
        except (PartitionStopped, ProcessDied) as error:
            raise Restart from error
        if whole:
            self.durable = len(self.content)

    def kill(self) -> None:
        self.log = None
        self.files.kill()

    def power_cut(self, rng: random.Random) -> None:
        self.log = None
        self.power_cuts += 1
        self.files.power_cut(rng)

    # ----------------------------------------------------------------------------------- checks

    def check(self) -> None:
        """Everything that can be read is what the model says."""
        log = self.log
        assert log is not None
        try:
            found = self.kit.read(log)
        except (Aborted, ProcessDied, StorageError) as error:
            raise Restart from error
        assert log.first_offset <= self.first_offset_max
        values = [value for written in self.content for value in written.values]
        assert found == values[log.first_offset : log.high_water]
        assert log.next_offset == len(values)
        self.check_end()

    def check_end(self) -> None:
        log = self.log
        assert log is not None
        last: dict[int, tuple[int, int, int]] = {}
        offset = 0
        for written in self.content:
            for stamp in written.stamps:
                if stamp is not None:
                    last[stamp.producer_id] = (stamp.epoch, stamp.sequence, offset)
                offset += 1
        assert log.next_offset == offset
        for producer, known in last.items():
            if known[2] >= log.first_offset:
                assert log.producers.last(producer) == known


def _count(batches: Sequence[Written], end_offset: int) -> int | None:
    """How many of the batches are there where the log ends so; None if it cannot."""
    offset, count = 0, 0
    while offset < end_offset and count < len(batches):
        offset += len(batches[count].values)
        count += 1
    return count if offset == end_offset else None


@pytest.fixture
def make_life(kit: Kit) -> Callable[..., Life]:
    """`make_life(files, **settings)`."""
    return partial(Life, kit)


@pytest.fixture
def kit() -> Kit:
    return Kit()


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()
