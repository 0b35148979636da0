"""The account of records and leases, and what must be so whenever a group is compared with it; see
`group_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamer.groups.group import Member
from streamer.groups.ledger import Ledger
from streamer.groups.ordered import OrderedLedger
from streamer.groups.ranges import Ranges
from streamer.groups.wheel import TICK_S

if TYPE_CHECKING:
    from tests.groups.group_model import World

RECORD_BYTES = 10


@attrs.define(eq=False)
class Row:
    """What is known of one record. `state` is new, out, again or done."""

    offset: int
    key: bytes | None
    state: str = "new"
    failures: int = 0
    suspect: bool = False
    #: When it comes again: not before the one, and a tick after the other at the latest.
    due: tuple[float, float] = (0.0, 0.0)
    token: int = -1
    #: What a start will find.
    kept_done: bool = False
    kept: tuple[int, bool, tuple[float, float]] = (0, False, (0.0, 0.0))

    def back(self, failures: int, due: tuple[float, float], *, suspect: bool = False) -> None:
        self.state, self.failures, self.due, self.suspect = "again", failures, due, suspect

    def keep(self, *, done: bool) -> None:
        self.kept_done = done
        self.kept = (self.failures, self.suspect, self.due)


@attrs.define(eq=False)
class Out:
    """A lease as it should be."""

    member: int
    partition: int
    rows: list[Row]
    handed_at: float
    deadline: float


def bounds_of(rows: list[Row]) -> list[int]:
    found = Ranges()
    for row in rows:
        found.add(row.offset, row.offset + 1)
    return found.bounds


def check(world: World) -> None:
    """The group and the account agree."""
    group = world.group
    leases = [lease for ledger in group.ledgers for lease in ledger.leases.values()]
    for ledger in group.ledgers:
        _check_ledger(world, ledger)
    for member in group.members.values():
        held = [lease for lease in leases if lease.member is member]
        assert member.leases == {lease.token: lease for lease in held}
        assert member.in_flight == sum(lease.count for lease in held) <= member.records_max
        assert member.in_flight_bytes == RECORD_BYTES * member.in_flight
        if member.alone:
            assert member.in_flight == 1
            assert member.room == 0
    _check_owners(world)


def _check_ledger(world: World, ledger: Ledger) -> None:
    rows = world.rows[ledger.number]
    outs = {token: out for token, out in world.out.items() if out.partition == ledger.number}
    assert {token: list(lease.bounds) for token, lease in ledger.leases.items()} == {
        token: bounds_of(out.rows) for token, out in outs.items()
    }
    assert ledger.in_flight == sum(len(out.rows) for out in outs.values())
    again = [row for row in rows if row.state == "again"]
    assert ledger.retrying == sum(row.failures > 0 for row in again)
    found = Ranges()
    for first, retry in ledger.retries.items():
        assert first == retry.first < retry.end
        found.add(retry.first, retry.end)
        for row in rows[first : retry.end]:
            assert (row.failures, row.suspect) == (retry.failures, retry.suspect)
            if retry.tick is not None:
                assert row.due[1] > world.now - 2 * TICK_S, "it is never made ready"
    assert found.bounds == bounds_of(again)
    for row in rows:
        assert ledger.is_done(row.offset) == world.is_done(ledger.number, row.offset)
    waiting = sum(retry.tick is not None for retry in ledger.retries.values())
    assert ledger.timers == len(outs) + waiting


def _check_owners(world: World) -> None:
    group = world.group
    counts = dict.fromkeys(group.members, 0)
    ledgers = [each for each in group.ledgers if isinstance(each, OrderedLedger)]
    for ledger in ledgers:
        assert (ledger.owner is None) == (not group.members), "nobody owns it"
        assert all(lease.member is ledger.owner for lease in ledger.leases.values())
        assert ledger.leases or not ledger.moving
        if ledger.owner is not None:
            counts[ledger.owner.number] += 1
    if ledgers and counts and not any(ledger.moving for ledger in ledgers):
        assert max(counts.values()) - min(counts.values()) <= 1


def check_order(all_rows: list[Row], ledger: Ledger, member: Member, rows: list[Row]) -> None:
    """Those rows of a partition may go out now."""
    if isinstance(ledger, OrderedLedger):
        assert ledger.owner is member
        assert not ledger.moving
        waiting = [row for row in all_rows if row.state in ("new", "again")]
        assert rows == waiting[: len(rows)]
        assert all(row.offset < rows[0].offset for row in all_rows if row.state == "out")
    elif ledger.needs_keys:
        for row in rows:
            if row.key is not None:
                before = [each for each in all_rows[: row.offset] if each.key == row.key]
                assert all(each in rows or each.state == "done" for each in before)


def check_nothing_is_left(world: World) -> None:
    """What could go out has gone out."""
    group = world.group
    for ledger in group.ledgers:
        members = list(group.members.values())
        if isinstance(ledger, OrderedLedger) and ledger.owner is not None:
            members = [ledger.owner]
        for row in _what_may_go(world, ledger):
            if row.suspect:
                assert all(member.leases for member in members)
            else:
                assert not any(member.room > 0 for member in members)


def _what_may_go(world: World, ledger: Ledger) -> list[Row]:
    """What is due so long that the ledger must know it."""
    all_rows = world.rows[ledger.number]
    found = [row for row in all_rows if row.state in ("new", "again")]
    out = [row for row in all_rows if row.state == "out"]
    if isinstance(ledger, OrderedLedger):
        behind = bool(found and out and out[-1].offset > found[0].offset)
        found = [] if ledger.moving or behind else found[:1]
    elif ledger.needs_keys:
        found = [row for row in found if row.key is None or _is_first(all_rows, row)]
    return [row for row in found if row.due[1] <= world.now - 2 * TICK_S]


def _is_first(all_rows: list[Row], row: Row) -> bool:
    """Nothing of its key is out, or stands before it."""
    same = [each for each in all_rows if each.key == row.key and each.state != "done"]
    return same[0] is row and not any(each.state == "out" for each in same)
