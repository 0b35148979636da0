"""What groups, moves and schedules leave behind, as entries of the stream `__groups`, and back.

An entry is a list that begins with its kind. Entries say what is so from now on and not what to
do, so an entry that is there twice in a row does no harm: the journal may write again what it does
not know to be written. A snapshot is all entries that make the state anew, between `begin` and
`end`; what comes after `end` goes on from it, and a snapshot without an end never was: a start
begins with its `term`, so a second one within a snapshot tells that the first start wrote no end.

Retention removes what is before a snapshot by whole segments, so a log may begin with entries of
groups and targets that nobody made: those mean nothing, as the snapshot after them says all.

The entries:

    ["term", term, numbers]                            a start of the daemon: tokens grow with it;
                                                       and how many groups there ever were
    ["group", id, stream, name, settings, paused]      made, or changed
    ["at", id, partition, cursor]                      begins there, and forgets what it knew
    ["done", id, partition, bounds, retries]           done since the last one; failed since then
    ["gone", id]
    ["target", stream, partition, producer]            whose sequences begin at 0
    ["move", stream, partition, move]                  see `Move`; its records are done where they
                                                       come from, by this very entry
    ["moved", stream, partition, sequence]             all below that are appended
    ["schedule", schedule] and ["unscheduled", name]
    ["begin"] and ["end"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from streamer import cbor
from streamer.errors import StorageDamaged, StreamerError
from streamer.groups.progress import Progress
from streamer.groups.ranges import Ranges, pairs
from streamer.groups.schedules import Schedule
from streamer.groups.settings import GroupSettings

Entry = list[Any]

#: Deep enough for a schedule's or a move's map in an entry.
_DEPTH_MAX = 6
#: Of one entry, and what of it a retry takes besides its error, at the most.
_ENTRY_BYTES = 64 * 1024
_RETRY_BYTES = 64
_BOUNDS_MAX = _ENTRY_BYTES // 16 // 2 * 2
#: Where the error stands in a retry.
_ERROR = 5


@attrs.frozen
class Move:
    """Records that are to be appended elsewhere, exactly once, from `sequence` of its target on.

    `kind` says what becomes of them on the way: dead, delayed, revive (out of the dead letters) or
    fire (a schedule's; `facts` has the record, and the schedule after it). They come from
    [first, end) of `stream` and `partition`; `group` is the one whose records they were.
    """

    sequence: int
    kind: str
    group: int
    stream: str
    partition: int
    first: int
    end: int
    facts: dict[str, Any]

    @property
    def count(self) -> int:
        return self.end - self.first

    def rest(self, taken: int) -> Move:
        """It without its first `taken` records, of more than that."""
        if not taken:
            return self
        return attrs.evolve(self, sequence=self.sequence + taken, first=self.first + taken)

    def to_plain(self) -> list[Any]:
        return list(attrs.astuple(self, recurse=False))


@attrs.define
class KnownTarget:
    """Where moves go, as the journal has it."""

    producer: int
    next_sequence: int = 0
    moves: list[Move] = attrs.Factory(list)


class KnownProgress(Progress):
    """What of a partition is done, and what has failed, as the journal has it."""

    def __init__(self, cursor: int = 0) -> None:
        super().__init__(cursor)
        self._failed: list[list[Any]] = []

    def failed(self, retries: Iterable[list[Any]]) -> None:
        for first, end, failures, due_us, suspect, error, since_us in retries:
            # Looked at now: what is no retry is damage here, and not only where it is used.
            numbers = (first, end, failures, due_us, since_us)
            if not all(type(number) is int for number in numbers) or first >= end:
                raise ValueError(f"a retry of {numbers}")
            self._failed.append([*numbers[:4], suspect, error, since_us])

    def unfinished(self) -> list[list[Any]]:
        """The newest failure of each record that is not done, in pieces."""
        covered = self.done.copy()
        covered.add(0, self.cursor) if self.cursor else None
        found: list[list[Any]] = []
        for first, end, *rest in reversed(self._failed):
            found += ([*piece, *rest] for piece in pairs(covered.missing(first, end)))
            covered.add(first, end)
        return found


@attrs.define
class KnownGroup:
    """A group as the journal has it."""

    number: int
    stream: str
    name: str
    settings: GroupSettings
    paused: bool
    partitions: dict[int, KnownProgress] = attrs.Factory(dict)

    def to_entry(self) -> Entry:
        return group_entry(self.number, self.stream, self.name, self.settings, self.paused)

    def partition(self, number: int) -> KnownProgress:
        return self.partitions.setdefault(number, KnownProgress())


@attrs.define
class Known:
    """All that the journal says."""

    term: int = 0
    #: The highest number that a group ever had: they are not given again.
    numbers: int = 0
    groups: dict[int, KnownGroup] = attrs.Factory(dict)
    targets: dict[tuple[str, int], KnownTarget] = attrs.Factory(dict)
    schedules: dict[str, Schedule] = attrs.Factory(dict)


class Replay:
    """Takes entries in their order; `known` is what they come to."""

    def __init__(self) -> None:
        self.known = Known()
        #: A snapshot that has not come to its end.
        self._snapshot: Known | None = None

    def take(self, value: bytes) -> None:
        """The next record of the journal.

        Raises:
            StorageDamaged: it is no entry.
        """
        try:
            entry = cbor.loads(value, _DEPTH_MAX)
            kind, *rest = entry
            if kind == "term" and self._snapshot is not None and self._snapshot.term:
                # The snapshot's own is its first: this is a start after a crash in its middle.
                self._snapshot = None
            if kind == "begin":
                self._snapshot = Known()
            elif kind == "end":
                self.known = self._snapshot or self.known
                self._snapshot = None
            else:
                # Where a snapshot is under way, nothing else is written before its end.
                _TAKE[kind](self._snapshot or self.known, *rest)
        except StorageDamaged:
            raise
        except (StreamerError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise StorageDamaged(f"the journal of groups has no entry there: {error!r}") from error

    def finish(self) -> Known:
        """All has been taken."""
        self._snapshot = None
        return self.known


def _group(
    known: Known, number: int, stream: str, name: str, settings: dict[str, Any], paused: bool
) -> None:
    known.numbers = max(known.numbers, number)
    group = known.groups.get(number)
    if group is None:
        group = known.groups[number] = KnownGroup(
            number, stream, name, GroupSettings.of(settings), paused
        )
    group.settings, group.paused = GroupSettings.of(settings), paused


def _at(known: Known, number: int, partition: int, cursor: int) -> None:
    group = known.groups.get(number)
    if group is not None:
        group.partitions[partition] = KnownProgress(cursor)


def _done(
    known: Known, number: int, partition: int, bounds: list[int], retries: list[list[Any]]
) -> None:
    group = known.groups.get(number)
    if group is None:
        # Deleted, and what was on its way for it means nothing; or of before a snapshot.
        return
    progress = group.partition(partition)
    progress.failed(retries)
    for first, end in pairs(bounds):
        progress.finish(first, end, told=True)


def _gone(known: Known, number: int) -> None:
    known.groups.pop(number, None)


def _target(known: Known, stream: str, partition: int, producer: int) -> None:
    target = known.targets.setdefault((stream, partition), KnownTarget(producer))
    if target.producer != producer:
        # What waits goes under the new name.
        moves, sequence = [], 0
        for move in target.moves:
            moves.append(attrs.evolve(move, sequence=sequence))
            sequence += move.count
        known.targets[stream, partition] = KnownTarget(producer, sequence, moves)


def _move(known: Known, stream: str, partition: int, plain: list[Any]) -> None:
    move, target = Move(*plain), known.targets.get((stream, partition))
    if target is None:
        return
    if move.kind != "fire":
        _done(known, move.group, move.partition, [move.first, move.end], [])
    else:
        _advance(known, move.facts["schedule"])
    if move.sequence < target.next_sequence:
        # Written a second time.
        return
    target.moves.append(move)
    target.next_sequence = move.sequence + move.count


def _advance(known: Known, fired: dict[str, Any]) -> None:
    """A schedule has fired. One that was removed meanwhile stays so, and one that was replaced,
    which goes on with its count, as it is."""
    now = known.schedules.get(fired["name"])
    if now is not None and now.fired < fired["fired"]:
        _schedule(known, fired)


def _moved(known: Known, stream: str, partition: int, sequence: int) -> None:
    target = known.targets.get((stream, partition))
    if target is None:
        return
    target.moves = [
        move.rest(max(0, sequence - move.sequence))
        for move in target.moves
        if move.sequence + move.count > sequence
    ]
    target.next_sequence = max(target.next_sequence, sequence)


def _schedule(known: Known, plain: dict[str, Any]) -> None:
    schedule = Schedule.from_plain(plain)
    known.schedules[schedule.name] = schedule


def _unscheduled(known: Known, name: str) -> None:
    known.schedules.pop(name, None)


def _term(known: Known, term: int, numbers: int = 0) -> None:
    known.term = max(known.term, term)
    known.numbers = max(known.numbers, numbers)


_TAKE: dict[str, Callable[..., None]] = {
    "term": _term,
    "group": _group,
    "at": _at,
    "done": _done,
    "gone": _gone,
    "target": _target,
    "move": _move,
    "moved": _moved,
    "schedule": _schedule,
    "unscheduled": _unscheduled,
}


def encode(entry: Entry) -> bytes:
    """The entry as the value of a record."""
    return cbor.dumps(entry)


def group_entry(
    number: int, stream: str, name: str, settings: GroupSettings, paused: bool
) -> Entry:
    """A group as it is now."""
    return ["group", number, stream, name, settings.to_plain(), paused]


def done_entries(
    group: int, partition: int, bounds: list[int], retries: list[list[Any]]
) -> Iterator[Entry]:
    """What is done of a partition and what has failed, as entries of a bounded size: each is a
    record. Failures stand first, as what has failed may be done since."""
    piece: list[list[Any]] = []
    room = _ENTRY_BYTES
    for retry in retries:
        nbytes = _RETRY_BYTES + len(str(retry[_ERROR]).encode())
        if piece and nbytes > room:
            yield ["done", group, partition, [], piece]
            piece, room = [], _ENTRY_BYTES
        piece.append(retry)
        room -= nbytes
    if piece:
        yield ["done", group, partition, [], piece]
    for at in range(0, len(bounds), _BOUNDS_MAX):
        yield ["done", group, partition, bounds[at : at + _BOUNDS_MAX], []]


__all__ = [
    "Entry",
    "Known",
    "KnownGroup",
    "KnownTarget",
    "Move",
    "Ranges",
    "Replay",
    "done_entries",
    "encode",
    "group_entry",
]
