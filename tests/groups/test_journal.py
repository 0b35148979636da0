"""The journal's entries and what they come to."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import cbor
from streamer.errors import StorageDamaged
from streamer.groups.journal import Entry, Known, Move, Replay, done_entries, encode
from streamer.groups.schedules import Schedule
from streamer.groups.settings import GroupSettings

SETTINGS = GroupSettings().to_plain()
GROUP: Entry = ["group", 1, "s", "g", SETTINGS, False]
TARGET: Entry = ["target", "s.dead", 0, 77]
RETRY = [3, 5, 2, 1000, True, "why", 900]
SCHEDULE = Schedule("n", "s", "* * * * *", "UTC", b"v", next_us=60_000_000)


def replayed(*entries: Entry) -> Known:
    replay = Replay()
    for entry in entries:
        replay.take(encode(entry))
    return replay.finish()


def plain(known: Known) -> Any:
    """All of it, to be compared."""
    groups = {
        number: (
            group.stream,
            group.name,
            group.settings,
            group.paused,
            {
                partition: (each.cursor, each.done.bounds, sorted(each.unfinished()))
                for partition, each in group.partitions.items()
            },
        )
        for number, group in known.groups.items()
    }
    targets = {
        where: (target.producer, target.next_sequence, target.moves)
        for where, target in known.targets.items()
    }
    return known.term, groups, targets, known.schedules


def move(sequence: int, first: int, end: int, kind: str = "dead", group: int = 1) -> Entry:
    return ["move", "s.dead", 0, Move(sequence, kind, group, "s", 0, first, end, {}).to_plain()]


# ---------------------------------------------------------------------------------- each entry


def test_nothing() -> None:
    assert plain(replayed()) == (0, {}, {}, {})


def test_term() -> None:
    assert replayed(["term", 3], ["term", 5], ["term", 4]).term == 5


def test_a_group_and_its_progress() -> None:
    known = replayed(
        GROUP,
        ["at", 1, 0, 10],
        ["done", 1, 0, [10, 12, 20, 22], [[13, 15, 1, 1000, False, "no", 900]]],
        ["done", 1, 0, [14, 15], [[13, 14, 2, 2000, True, "again", 900]]],
        ["done", 1, 3, [0, 4], []],
    )
    group = known.groups[1]
    assert (group.stream, group.name, group.paused) == ("s", "g", False)
    progress = group.partition(0)
    assert (progress.cursor, progress.done.bounds) == (12, [14, 15, 20, 22])
    assert progress.unfinished() == [[13, 14, 2, 2000, True, "again", 900]]
    assert group.partition(3).cursor == 4
    assert group.partition(9).cursor == 0


def test_a_group_that_was_changed() -> None:
    edited = {**SETTINGS, "max_deliveries": 9}
    known = replayed(GROUP, ["at", 1, 0, 5], ["group", 1, "s", "g", edited, True])
    group = known.groups[1]
    assert (group.settings.max_deliveries, group.paused) == (9, True)
    assert group.partition(0).cursor == 5


def test_a_seek_forgets() -> None:
    known = replayed(GROUP, ["done", 1, 0, [0, 3, 5, 9], [RETRY]], ["at", 1, 0, 4])
    progress = known.groups[1].partition(0)
    assert (progress.cursor, progress.done.bounds, progress.unfinished()) == (4, [], [])


def test_a_group_that_is_gone() -> None:
    known = replayed(GROUP, ["gone", 1], ["done", 1, 0, [0, 5], []], ["at", 1, 0, 3])
    assert known.groups == {}
    assert replayed(["gone", 1]).groups == {}


def test_moves() -> None:
    known = replayed(GROUP, TARGET, move(0, 4, 6), move(2, 0, 1), ["moved", "s.dead", 0, 1])
    target = known.targets["s.dead", 0]
    assert (target.producer, target.next_sequence) == (77, 3)
    # What is appended of a move in part is left out of it.
    assert [(each.sequence, each.first, each.end) for each in target.moves] == [
        (1, 5, 6),
        (2, 0, 1),
    ]
    progress = known.groups[1].partition(0)
    assert (progress.cursor, progress.done.bounds) == (1, [4, 6])
    known = replayed(TARGET, move(0, 4, 6), ["moved", "s.dead", 0, 2])
    assert (known.targets["s.dead", 0].moves, known.targets["s.dead", 0].next_sequence) == ([], 2)


def test_a_fired_schedule_is_done_nowhere() -> None:
    after = attrs.evolve(SCHEDULE, next_us=120_000_000, last_us=60_000_000, fired=1)
    facts = {"record": {"value": b"v"}, "schedule": after.to_plain()}
    fire = Move(0, "fire", 0, "", 0, 0, 1, facts)
    entry: Entry = ["move", "s.dead", 0, fire.to_plain()]
    known = replayed(TARGET, ["schedule", SCHEDULE.to_plain()], entry)
    assert known.targets["s.dead", 0].moves == [fire]
    assert known.groups == {}
    assert known.schedules == {"n": after}
    # One that was removed meanwhile stays so; one that was replaced stays as it is.
    assert replayed(TARGET, entry).schedules == {}
    replaced = attrs.evolve(after, value=b"new")
    known = replayed(TARGET, ["schedule", replaced.to_plain()], entry)
    assert known.schedules == {"n": replaced}


def test_a_target_with_another_producer_begins_anew() -> None:
    known = replayed(
        TARGET,
        move(0, 0, 2),
        move(2, 2, 5),
        move(5, 7, 8),
        ["moved", "s.dead", 0, 3],
        ["target", "s.dead", 0, 88],
        # Written again, and one more.
        move(0, 3, 5),
        move(2, 7, 8),
        move(3, 9, 10),
    )
    target = known.targets["s.dead", 0]
    assert (target.producer, target.next_sequence) == (88, 4)
    assert [(each.sequence, each.first) for each in target.moves] == [(0, 3), (2, 7), (3, 9)]


def test_schedules() -> None:
    assert replayed(["schedule", SCHEDULE.to_plain()]).schedules == {"n": SCHEDULE}
    known = replayed(
        ["schedule", SCHEDULE.to_plain()], ["unscheduled", "n"], ["unscheduled", "never"]
    )
    assert known.schedules == {}


# ------------------------------------------------------------------------------------ snapshots


def test_a_snapshot_says_all() -> None:
    known = replayed(
        GROUP,
        ["schedule", SCHEDULE.to_plain()],
        ["begin"],
        ["term", 2],
        ["group", 2, "s", "h", SETTINGS, True],
        ["end"],
        ["done", 2, 0, [0, 3], []],
    )
    assert list(known.groups) == [2]
    assert known.groups[2].partition(0).cursor == 3
    assert (known.term, known.schedules) == (2, {})


def test_a_snapshot_without_an_end_never_was() -> None:
    entries: list[Entry] = [["term", 1], GROUP, ["begin"], ["term", 1], ["at", 1, 0, 99]]
    assert list(replayed(*entries).groups) == [1]
    # A start after it goes on from what was before it.
    known = replayed(*entries, ["term", 2], ["done", 1, 0, [0, 7], []])
    assert (known.term, known.groups[1].partition(0).cursor) == (2, 7)
    # And its own snapshot is one.
    known = replayed(*entries, ["term", 2], ["begin"], ["term", 2], ["end"], ["term", 3])
    assert (known.term, known.groups) == (3, {})


def test_a_log_that_begins_in_the_middle() -> None:
    """Retention has taken what the first entries speak of; a snapshot follows."""
    known = replayed(
        ["at", 5, 0, 7],
        ["done", 5, 0, [1, 2], []],
        move(4, 0, 1),
        ["moved", "s.dead", 0, 5],
        ["unscheduled", "n"],
        ["gone", 5],
        ["begin"],
        ["term", 1],
        GROUP,
        ["end"],
    )
    assert plain(known) == plain(replayed(["term", 1], GROUP))


def test_an_end_without_a_begin_does_no_harm() -> None:
    assert list(replayed(GROUP, ["end"]).groups) == [1]


# --------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        cbor.dumps([]),
        cbor.dumps("term"),
        cbor.dumps(5),
        cbor.dumps(["never"]),
        cbor.dumps([["term"], 1]),
        cbor.dumps(["term"]),
        cbor.dumps(["term", "x"]),
        cbor.dumps(["group", 1, "s", "g", {"mode": "exclusive"}, False]),
        cbor.dumps(["group", 1, "s", "g", 5, False]),
        cbor.dumps(["group", 1, "s"]),
        cbor.dumps(["done", 1, 0, [1], []]),
        cbor.dumps(["done", 1, 0, 7, []]),
        cbor.dumps(["done", 1, 0, [], [[1, 2]]]),
        cbor.dumps(["done", 1, 0, [], [["a", "b", 1, 1, False, "", 1]]]),
        cbor.dumps(["move", "s.dead", 0, [1, 2]]),
        cbor.dumps(["schedule", {}]),
        cbor.dumps(["schedule", 3]),
    ],
    ids=repr,
)
def test_what_is_no_entry(value: bytes) -> None:
    replay = Replay()
    replay.take(encode(GROUP))
    replay.take(encode(TARGET))
    with pytest.raises(StorageDamaged):
        replay.take(value)


def test_entries_are_of_a_bounded_size() -> None:
    """Each is the value of a record; what they say together is all of it."""
    bounds = list(range(1 << 62, (1 << 62) + 100_000, 2))
    retries = [[n, n + 1, 3, 1 << 60, True, "\U0001f4a3" * (n % 500), 1 << 60] for n in range(3000)]
    entries = list(done_entries(1, 2, bounds, retries))
    assert max(len(encode(entry)) for entry in entries) < 70_000
    assert [bound for entry in entries for bound in entry[3]] == bounds
    assert [retry for entry in entries for retry in entry[4]] == retries
    assert list(done_entries(1, 2, [], [])) == []


# ----------------------------------------------------------------------------------- hypothesis

_numbers = st.integers(1, 3)
_spans = st.tuples(st.integers(0, 30), st.integers(1, 5)).map(lambda p: [p[0], p[0] + p[1]])
_retries = st.tuples(_spans, st.integers(1, 4), st.booleans()).map(
    lambda p: [*p[0], p[1], 1000 * p[1], p[2], "why", 900]
)


@st.composite
def lives(draw: st.DrawFn) -> list[Entry]:
    """What a daemon may write, without snapshots."""
    entries: list[Entry] = [["term", 1], ["target", "s.dead", 0, 5]]
    sequence, there = 0, set()
    for _ in range(draw(st.integers(0, 25))):
        number = draw(_numbers)
        kind = draw(st.sampled_from(["group", "at", "done", "done", "gone", "move", "moved"]))
        if kind == "group" or number not in there:
            entries.append(["group", number, "s", f"g{number}", SETTINGS, draw(st.booleans())])
            there.add(number)
        elif kind == "at":
            entries.append(["at", number, 0, draw(st.integers(0, 30))])
        elif kind == "done":
            retries = draw(st.lists(_retries, max_size=2))
            entries.append(["done", number, 0, draw(_spans), retries])
        elif kind == "gone":
            entries.append(["gone", number])
            there.discard(number)
        elif kind == "move":
            first, end = draw(_spans)
            entries.append(move(sequence, first, end, group=number))
            sequence += end - first
        else:
            entries.append(["moved", "s.dead", 0, draw(st.integers(0, sequence))])
    return entries


def snapshot(known: Known) -> list[Entry]:
    """The state as the stage writes it."""
    entries: list[Entry] = [["begin"], ["term", known.term]]
    for number, group in known.groups.items():
        settings = group.settings.to_plain()
        entries.append(["group", number, group.stream, group.name, settings, group.paused])
        for partition, progress in group.partitions.items():
            entries.append(["at", number, partition, progress.cursor])
            entries.append(["done", number, partition, progress.done.bounds, []])
            entries.append(["done", number, partition, [], progress.unfinished()])
    for where, target in known.targets.items():
        entries.append(["target", *where, target.producer])
        first = target.moves[0].sequence if target.moves else target.next_sequence
        entries.append(["moved", *where, first])
        for each in target.moves:
            entries.append(["move", *where, [*each.to_plain()[:2], 0, *each.to_plain()[3:]]])
    return [*entries, ["end"]]


def without_groups(known: Any) -> Any:
    """A snapshot's moves name no group: what they are done in is in it."""
    term, groups, targets, schedules = known
    found = {
        where: (
            producer,
            following,
            [[*each.to_plain()[:2], *each.to_plain()[3:]] for each in all_],
        )
        for where, (producer, following, all_) in targets.items()
    }
    return term, groups, found, schedules


@given(lives(), lives())
def test_a_snapshot_replays_to_the_same(before: list[Entry], torn: list[Entry]) -> None:
    known = replayed(*before)
    state = without_groups(plain(known))
    assert without_groups(plain(replayed(*before, *snapshot(known)))) == state
    assert without_groups(plain(replayed(*snapshot(known)))) == state
    assert without_groups(plain(replayed(*torn, *snapshot(known)))) == state
    # Without its end it says nothing.
    part = snapshot(known)[:-1]
    assert without_groups(plain(replayed(*before, *part))) == state
    assert without_groups(plain(replayed(*before, *part, ["term", 1]))) == state


@given(lives(), st.data())
def test_twice_in_a_row_is_once(entries: list[Entry], data: st.DataObject) -> None:
    """The journal writes an entry again when it does not know whether it was written."""
    at = data.draw(st.integers(0, len(entries) - 1))
    once = plain(replayed(*entries))
    assert plain(replayed(*entries[: at + 1], *entries[at:])) == once
