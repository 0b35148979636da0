"""What producers handed over and were told, and what readers saw: the judge of a run with faults.

Every record has a value that names its producer and its number there, so a log can be judged by
itself. What must hold, whatever happened to the daemon (the guarantees of the README):

- G1: each acked record is in the log, at the offset that it was acked with.
- G3: no record is there twice, a producer's records are in its order, and none is missing before
  one that was acked.
- G4: what any reader was ever given is in the final log, at the same offset, with the same bytes.
- Nothing is in the log that nobody handed over, and offsets have no gaps.

Synchronous and without I/O. `test_ledger.py` shows that each fault is noticed.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import attrs

#: A partition of the stream, and an offset there.
Place = tuple[int, int]

#: A run with one real fault can have a million of them: the first ones tell.
_PROBLEMS_MAX = 20


def value_of(producer: str, number: int, padding: bytes) -> bytes:
    """The value of a producer's record `number`."""
    return b"%s|%d|%s" % (producer.encode(), number, padding)


def parse_value(value: bytes) -> tuple[str, int] | None:
    """Who handed a value over, and its number there; None if it is no value of ours."""
    parts = value.split(b"|", 2)
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    return parts[0].decode("utf-8", "replace"), int(parts[1])


@attrs.define
class Handed:
    """One producer's side: numbers from 0 on, below `sent` handed over, below `acked` acked."""

    sent: int = 0
    acked: int = 0
    #: Where each record was acked, if that was told. Kept densely: there are millions.
    partitions: array[int] = attrs.Factory(lambda: array("i"))
    offsets: array[int] = attrs.Factory(lambda: array("q"))

    def place(self, number: int) -> Place | None:
        if number >= len(self.offsets) or self.offsets[number] < 0:
            return None
        return self.partitions[number], self.offsets[number]


class Seen:
    """What one reader of one partition was given, from `first` on: a fingerprint a record."""

    def __init__(self, ledger: Ledger, name: str, partition: int, first: int = 0) -> None:
        self._ledger = ledger
        self.name = name
        self.partition = partition
        self.first = first
        self._fingerprints = array("q")
        self.problems: list[str] = []

    @property
    def next(self) -> int:
        return self.first + len(self._fingerprints)

    def add(self, base_offset: int, values: Sequence[bytes]) -> None:
        """Take note of a batch, which must follow the one before."""
        if self._ledger.frozen:
            return
        if base_offset != self.next:
            self.problems.append(
                f"G4: reader {self.name} got offset {base_offset} after {self.next - 1}"
            )
            self.first, self._fingerprints = base_offset, array("q")
        self._fingerprints.extend(map(hash, values))

    def judge(self, log: Sequence[bytes]) -> list[str]:
        """What differs from the final log of the partition."""
        problems = list(self.problems)
        if self.next > len(log):
            problems.append(
                f"G4: reader {self.name} saw partition {self.partition} up to offset "
                f"{self.next - 1}, the log ends at {len(log) - 1}"
            )
        for offset, known in enumerate(self._fingerprints, self.first):
            if offset < len(log) and hash(log[offset]) != known:
                problems.append(
                    f"G4: offset {offset} of partition {self.partition} changed since reader "
                    f"{self.name} saw it, to {log[offset][:60]!r}"
                )
                if len(problems) > _PROBLEMS_MAX:
                    break
        return problems


class Ledger:
    """All of a run. `first`: records of each partition before that offset are none of it."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        #: What is told from now on does not count: the disk has failed, and it may be false.
        self.frozen = False
        self.producers: dict[str, Handed] = {}
        self.readers: list[Seen] = []
        #: Acks that said that the record had been there before.
        self.duplicates = 0
        self.problems: list[str] = []

    @property
    def acked(self) -> int:
        return sum(handed.acked for handed in self.producers.values())

    def handed(self, producer: str) -> Handed:
        """The side of a producer that may be new."""
        return self.producers.setdefault(producer, Handed())

    def sent(self, producer: str, count: int) -> None:
        """`count` further records are being handed over."""
        self.handed(producer).sent += count

    def acked_at(self, producer: str, first: int, partition: int, offset: int, count: int) -> None:
        """Records `first` to before `first + count` were acked, from `offset` on.

        An offset of -1 was not told: the records have to be there all the same.
        """
        if self.frozen:
            return
        handed = self.handed(producer)
        missing = first + count - len(handed.offsets)
        if missing > 0:
            handed.partitions.extend([partition] * missing)
            handed.offsets.extend([-1] * missing)
        for index in range(count if offset >= 0 else 0):
            number = first + index
            handed.partitions[number], handed.offsets[number] = partition, offset + index
        handed.acked = max(handed.acked, first + count)

    def reader(self, name: str, partition: int, first: int = 0) -> Seen:
        """A new reader's notes."""
        seen = Seen(self, name, partition, first)
        self.readers.append(seen)
        return seen

    # ------------------------------------------------------------------------------- judgement

    def judge(self, log: Sequence[Sequence[bytes]], *, settled: bool = True) -> list[str]:
        """What is wrong with the final log, given as the values of each partition from offset 0.

        `settled`: everything handed over has been acked. Otherwise what was not may be there or
        not, in order.
        """
        problems = list(self.problems)
        where = self._places(log, problems)
        for name, handed in self.producers.items():
            self._judge_producer(name, handed, where.get(name, {}), settled, problems)
            if len(problems) > _PROBLEMS_MAX:
                break
        for seen in self.readers:
            problems += seen.judge(log[seen.partition])
        return problems[:_PROBLEMS_MAX]

    def _places(
        self, log: Sequence[Sequence[bytes]], problems: list[str]
    ) -> dict[str, dict[int, Place]]:
        """Where each producer's records are; notes what is there twice, or in the wrong order."""
        where: dict[str, dict[int, Place]] = {name: {} for name in self.producers}
        for partition, values in enumerate(log):
            last: dict[str, int] = {}
            for offset, value in enumerate(values):
                if offset < self.first:
                    continue
                parsed = parse_value(value)
                if parsed is None or parsed[0] not in where:
                    problems.append(f"a record of nobody at {partition}/{offset}: {value[:60]!r}")
                    continue
                name, number = parsed
                known = where[name].setdefault(number, (partition, offset))
                if known != (partition, offset):
                    problems.append(
                        f"G3: {name} {number} is at {known} and at {(partition, offset)}"
                    )
                elif last.get(name, -1) > number:
                    problems.append(
                        f"G3: {name} {number} at {partition}/{offset} comes after {last[name]}"
                    )
                last[name] = max(last.get(name, -1), number)
                if len(problems) > _PROBLEMS_MAX:
                    return where
        return where

    def _judge_producer(
        self,
        name: str,
        handed: Handed,
        places: dict[int, Place],
        settled: bool,
        problems: list[str],
    ) -> None:
        if settled and handed.acked < handed.sent:
            problems.append(f"G11: {name}: {handed.sent} handed over, {handed.acked} acked")
        if places and max(places) >= handed.sent:
            problems.append(f"{name} {max(places)} was never handed over, only {handed.sent} were")
        found_up_to = max(handed.acked, max(places, default=-1) + 1)
        for number in range(found_up_to):
            place, told = places.get(number), handed.place(number)
            if place is None:
                what = "G1: acked" if number < handed.acked else "G3: skipped"
                problems.append(f"{what}, and not in the log: {name} {number}, acked at {told}")
            elif told is not None and told != place:
                problems.append(f"G1: {name} {number} was acked at {told} and is at {place}")
            if len(problems) > _PROBLEMS_MAX:
                return
