"""A group beside a plain account of every record, checked against each other after each step.

`World` is the log, the journal, the clock and the members; what a record is, and how often it has
failed, is kept here in the plainest way and compared with what the group believes. It hands out as
the shell does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from streamer.errors import BadRequest, LeaseLost
from streamer.groups.group import DELAY_US_MAX, Group, Member
from streamer.groups.journal import KnownProgress
from streamer.groups.ledger import Choice, Lease, Ledger
from streamer.groups.ranges import pairs
from streamer.groups.settings import GroupSettings
from streamer.groups.wheel import TICK_S
from tests.groups.group_checks import (
    RECORD_BYTES,
    Out,
    Row,
    bounds_of,
    check,
    check_nothing_is_left,
    check_order,
)

EPOCH_US = 1_700_000_000_000_000
#: A time in floating point, there and back.
_EPSILON_S = 1e-5


class World:
    """See the module."""

    def __init__(self, settings: GroupSettings, partitions: int, seed: int) -> None:
        self.settings = settings
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.rows: list[list[Row]] = [[] for _ in range(partitions)]
        self.batches: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
        #: Where the log begins now, as far as the group was told.
        self.log_start = [0] * partitions
        self.journal = [KnownProgress() for _ in range(partitions)]
        self.out: dict[int, Out] = {}
        self.token = 0
        self.numbers = 0
        self.dead: set[tuple[int, int]] = set()
        self.group = self._new_group()

    def _new_group(self) -> Group:
        cursors = [known.cursor for known in self.journal]
        return Group("orders", "billing", self.settings, cursors, self.now, self.rng)

    @property
    def now_us(self) -> int:
        return EPOCH_US + round(self.now * 1_000_000)

    # --------------------------------------------------------------------------------- the steps

    def append(self, partition: int, keys: list[bytes | None]) -> None:
        rows = self.rows[partition]
        first = len(rows)
        rows += [Row(first + index, key) for index, key in enumerate(keys)]
        self.batches[partition].append((first, len(rows)))

    def join(self, records_max: int, batch_records: int) -> Member:
        self.numbers += 1
        member = Member(self.numbers, "", "", records_max, 200, batch_records)
        self.group.join(member)
        return member

    def leave(self, member: Member, *, lost: str = "") -> None:
        held = [(token, out) for token, out in self.out.items() if out.member == member.number]
        self.group.leave(member, self.now, self.now_us, lost=lost)
        for token, _ in sorted(held, key=lambda each: each[1].rows[0].offset):
            if lost:
                self._failed(token, suspect=True)
            else:
                self._released(token)

    def settle(self, verb: str, lease: Lease, picked: list[int], delay_us: int | None) -> None:
        """`picked`: which of its records, by index; none for all."""
        out = self.out[lease.token]
        rows = [out.rows[index] for index in picked] or out.rows
        bounds = bounds_of(rows) if picked else []
        self._call(verb, lease.member, lease.token, bounds, delay_us)
        if verb == "ack":
            self._take_off(lease.token, rows, "done")
        elif verb == "term":
            self._die(lease.token, rows)
        elif verb == "release":
            self._released(lease.token, rows)
        elif verb == "nack":
            self._failed(lease.token, rows, delay_us=delay_us)
        else:
            last = out.handed_at + self.settings.lease_max_s
            out.deadline = min(self.now + self.settings.ack_wait_s, last)

    def settle_wrongly(self, verb: str, member: Member, token: int, bounds: list[int]) -> None:
        """What is not held is refused; that nothing changed, `check` sees."""
        with pytest.raises(LeaseLost):
            self._call(verb, member, token, bounds, None)

    def nack_absurdly(self, lease: Lease) -> None:
        for delay_us in (DELAY_US_MAX + 1, -1):
            with pytest.raises(BadRequest):
                self._call("nack", lease.member, lease.token, [], delay_us)

    def _call(
        self, verb: str, member: Member, token: int, bounds: list[int], delay_us: int | None
    ) -> None:
        group = self.group
        if verb == "nack":
            group.nack(member, token, bounds, delay_us, "no", self.now, self.now_us)
        elif verb == "term":
            group.term(member, token, bounds, "bad")
        elif verb == "extend":
            group.extend(member, token, self.now)
        else:
            settle = group.ack if verb == "ack" else group.release
            settle(member, token, bounds)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for ledger in self.group.ledgers:
            before = set(ledger.leases)
            self.group.expire(ledger, self.now, self.now_us)
            gone = [
                token
                for token, out in self.out.items()
                if out.partition == ledger.number
                and out.deadline <= self.now + _EPSILON_S
                # Ready within a tick: either is right.
                and (token not in ledger.leases or out.deadline <= self.now - TICK_S - _EPSILON_S)
            ]
            assert before - set(ledger.leases) <= set(gone) or self.group.ordered, "it was early"
            for token in sorted(gone, key=lambda token: self.out[token].rows[0].offset):
                if token in self.out:
                    self._failed(token, suspect=True)

    def retain(self, partition: int, offset: int) -> None:
        """Retention removes all below an offset."""
        rows = [row for row in self.rows[partition][:offset] if row.state != "done"]
        lost = sum(not self.is_done(partition, row.offset) for row in rows)
        self.log_start[partition] = max(self.log_start[partition], offset)
        assert self.group.ledgers[partition].skip_to(offset) == lost
        for row in rows:
            if row.state != "out":
                row.state = "done"

    def seek(self, partition: int, offset: int) -> None:
        """The group goes on elsewhere, as far as the log has it."""
        offset = max(offset, self.log_start[partition])
        self.flush()
        for token in [token for token, out in self.out.items() if out.partition == partition]:
            self._take_off(token, self.out[token].rows, "new")
        for row in self.rows[partition]:
            row.state = "done" if row.offset < offset else "new"
            row.failures, row.suspect, row.due = 0, False, (0.0, 0.0)
            row.keep(done=row.state == "done")
            self.dead.discard((partition, row.offset))
        self.group.ledgers[partition].recall()
        self.group.replace(self.group.new_ledger(partition, offset, self.now))
        self.journal[partition] = KnownProgress(offset)

    def flush(self) -> None:
        """The journal takes all news."""
        for ledger, known in zip(self.group.ledgers, self.journal, strict=True):
            news = ledger.take_news()
            known.failed(ledger.take_retry_news())
            for first, end in pairs(news):
                known.finish(first, end, told=True)
            for dead in ledger.take_dead():
                for offset in range(dead.first, dead.end):
                    row = self.rows[ledger.number][offset]
                    assert row.state == "done"
                    assert dead.attempts == row.failures
                    assert (ledger.number, offset) not in self.dead
                    self.dead.add((ledger.number, offset))
                known.finish(dead.first, dead.end, told=True)
        self._keep()

    def snapshot(self) -> None:
        """The journal begins anew with what is so now; news that it was not given stay news."""
        self.flush()
        for number, ledger in enumerate(self.group.ledgers):
            known = self.journal[number] = KnownProgress(ledger.cursor)
            for first, end in ledger.done:
                known.finish(first, end, told=True)
            known.failed(ledger.unfinished())

    def _keep(self) -> None:
        for number, known in enumerate(self.journal):
            for row in self.rows[number]:
                row.keep(done=self.is_done(number, row.offset))
                assert known.is_done(row.offset) == row.kept_done

    def restart(self) -> None:
        """The daemon dies, and comes back with what the journal has."""
        self.group = self._new_group()
        for ledger, known in zip(self.group.ledgers, self.journal, strict=True):
            ledger.load(known.done.bounds, known.unfinished(), self.now, self.now_us)
        for out in self.out.values():
            for row in out.rows:
                row.token = -1
        self.out.clear()
        for row in self._all():
            row.failures, row.suspect, row.due = row.kept
            row.state = "done" if row.kept_done else "again" if row.failures else "new"
        starts, self.log_start = self.log_start, [0] * len(self.rows)
        for number, start in enumerate(starts):
            self.retain(number, start)

    def _all(self) -> Iterator[Row]:
        for rows in self.rows:
            yield from rows

    # ------------------------------------------------------------------------- what should happen

    def is_done(self, partition: int, offset: int) -> bool:
        """What is out and was removed meanwhile counts as done already."""
        return self.rows[partition][offset].state == "done" or offset < self.log_start[partition]

    def _take_off(self, token: int, rows: list[Row], state: str) -> None:
        out = self.out[token]
        for row in rows:
            assert row.token == token
            row.state, row.token = state, -1
            if row.offset < self.log_start[out.partition]:
                row.state = "done"
        out.rows = [row for row in out.rows if row.token == token]
        if not out.rows:
            del self.out[token]

    def _released(self, token: int, rows: list[Row] | None = None) -> None:
        if token in self.out:
            self._come_back(token, rows, lambda row: row.back(row.failures, (0.0, 0.0)))

    def _failed(
        self,
        token: int,
        rows: list[Row] | None = None,
        *,
        suspect: bool = False,
        delay_us: int | None = None,
    ) -> None:
        if token not in self.out:
            return
        rows = self.out[token].rows if rows is None else rows
        failures = rows[0].failures + 1
        if failures >= self.settings.max_deliveries > 0:
            self._die(token, rows)
            return
        pauses = self.settings.backoff_s
        pause = pauses[min(failures, len(pauses)) - 1]
        due = (self.now + 0.75 * pause, self.now + 1.25 * pause)
        if delay_us is not None:
            due = (self.now + delay_us / 1e6,) * 2
        self._come_back(token, rows, lambda row: row.back(failures, due, suspect=suspect))

    def _come_back(self, token: int, rows: list[Row] | None, back: Callable[[Row], None]) -> None:
        out = self.out[token]
        rows = out.rows if rows is None else rows
        self._take_off(token, rows, "again")
        rows = [row for row in rows if row.state == "again"]
        for row in rows:
            back(row)
        if rows and self.group.ordered:
            self._take_back_behind(out, rows[0].offset)

    def _take_back_behind(self, own: Out, offset: int) -> None:
        for token, out in list(self.out.items()):
            behind = out.partition == own.partition and out.rows[0].offset > offset
            if out is not own and behind:
                rows = out.rows
                self._take_off(token, rows, "again")
                for row in rows:
                    row.back(row.failures, (0.0, 0.0))

    def _die(self, token: int, rows: list[Row]) -> None:
        self._take_off(token, rows, "done")
        for row in rows:
            row.failures += 1

    # ------------------------------------------------------------------------------- handing out

    def hand_out(self, most: int = 1_000) -> int:
        """As the shell does; how many leases."""
        group, count, moved = self.group, 0, True
        while moved and count < most and not group.paused:
            moved = False
            if not any(ledger.has_suspects for ledger in group.ledgers):
                # Before and not after: who was kept for one may be the only one with room.
                group.unreserve()
            for ledger in group.ledgers:
                if ledger.has_suspects:
                    member = group.for_suspect(ledger, lambda _: True)
                    if member is not None and self._hand_out_of(ledger, member, alone=True):
                        moved, count = True, count + 1
                for member in group.candidates(ledger, lambda member: True)[:1]:
                    if self._hand_out_of(ledger, member, alone=False):
                        moved, count = True, count + 1
        for ledger in group.ledgers:
            ledger.lost.clear()
        group.moves.clear()
        if not moved and not group.paused:
            check_nothing_is_left(self)
        return count

    def _hand_out_of(self, ledger: Ledger, member: Member, *, alone: bool) -> bool:
        number = ledger.number
        while (offset := ledger.next_read(len(self.rows[number]), alone=alone)) is not None:
            first, end = next(each for each in self.batches[number] if each[0] <= offset < each[1])
            assert offset >= self.log_start[number]
            keys = [row.key for row in self.rows[number][first:end]] if ledger.needs_keys else None
            choice = ledger.choose(first, end, keys, member.room or 1, alone=alone)
            if choice is not None:
                self._lease(ledger, member, choice, (first, end), alone=alone)
                return True
            # Nothing of that batch may go out yet: the next one is looked at.
            again = ledger.next_read(len(self.rows[number]), alone=alone)
            assert again is None or again > offset
        return False

    def hand_out_of_batch(self, ledger: Ledger, index: int) -> None:
        """What was next when its batch was read need not be so any more."""
        number = ledger.number
        if not self.batches[number] or self.group.paused:
            return
        first, end = self.batches[number][index % len(self.batches[number])]
        keys = [row.key for row in self.rows[number][first:end]] if ledger.needs_keys else None
        for _ in range(3):
            for member in self.group.candidates(ledger, lambda member: True)[:1]:
                choice = ledger.choose(first, end, keys, member.room, alone=False)
                if choice is not None:
                    self._lease(ledger, member, choice, (first, end), alone=False)

    def _lease(
        self, ledger: Ledger, member: Member, choice: Choice, batch: tuple[int, int], *, alone: bool
    ) -> None:
        number = ledger.number
        all_rows = self.rows[number]
        rows = [all_rows[at] for first, end in pairs(choice.bounds) for at in range(first, end)]
        assert rows
        assert batch[0] <= rows[0].offset <= rows[-1].offset < batch[1]
        assert choice.alone is alone
        for row in rows:
            assert row.state in ("new", "again")
            assert row.failures == choice.failures
            assert row.due[0] <= self.now + _EPSILON_S, "too early"
            assert row.suspect is alone
            assert not self.settings.max_deliveries or row.failures < self.settings.max_deliveries
        if alone:
            assert len(rows) == 1
            assert not member.leases
        else:
            assert len(rows) <= member.room
        check_order(self.rows[number], ledger, member, rows)
        self.token += 1
        nbytes = RECORD_BYTES * len(rows)
        ledger.lease(self.token, member, choice, nbytes, self.now, self.now_us)
        wait_s = min(self.settings.ack_wait_s, self.settings.lease_max_s)
        out = Out(member.number, number, rows, self.now, self.now + wait_s)
        self.out[self.token] = out
        for row in rows:
            row.state, row.token = "out", self.token

    def finish(self) -> None:
        """All members ack all, and time passes: then everything is done."""
        self.group.paused = False
        if not self.group.members:
            self.join(100, 0)
        for _ in range(4 * sum(map(len, self.rows)) + 20):
            self.hand_out()
            check(self)
            for token, out in list(self.out.items()):
                self.settle("ack", self.group.ledgers[out.partition].leases[token], [], None)
            self.pass_time(1.0 if self.out else max(1.3 * max(self.settings.backoff_s), 61))
            check(self)
            if all(row.state == "done" for row in self._all()):
                break
        assert all(row.state == "done" for row in self._all()), "something is stuck"
        assert [ledger.cursor for ledger in self.group.ledgers] == [*map(len, self.rows)]
        assert not any(ledger.timers or ledger.done for ledger in self.group.ledgers)
        self.flush()
