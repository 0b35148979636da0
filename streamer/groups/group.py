"""One group: its members, a ledger for each partition, and who gets what next.

Every method decides at once. What a member is to be told is left in `Ledger.lost` and `Group.moves`
for the shell to send.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs

from streamer.errors import BadRequest, LeaseLost
from streamer.groups.assignment import assign
from streamer.groups.keyed import KeyedLedger
from streamer.groups.ledger import Failure, Lease, Ledger
from streamer.groups.ordered import OrderedLedger
from streamer.groups.ranges import Ranges, pairs, size
from streamer.groups.settings import GroupSettings
from streamer.groups.shared import SharedLedger

#: The longest that a nack may put a record off.
DELAY_US_MAX = 366 * 86_400 * 1_000_000


@attrs.define(eq=False)
class Member:
    """One subscription of one session to a group, and what it holds."""

    number: int
    name: str
    peer: str
    records_max: int
    bytes_max: int
    #: Most records in one lease; 0 for no limit.
    batch_records: int
    leases: dict[int, Lease] = attrs.Factory(dict)
    in_flight: int = 0
    in_flight_bytes: int = 0
    #: It holds a suspect, and gets nothing else.
    alone: bool = False
    #: It is to get a suspect once it holds nothing.
    reserved: bool = False

    @property
    def room(self) -> int:
        """How many records it may get now."""
        if self.alone or self.reserved or self.in_flight_bytes >= self.bytes_max:
            return 0
        room = self.records_max - self.in_flight
        return min(room, self.batch_records) if self.batch_records else room

    @property
    def load(self) -> float:
        """How much of what it may hold it holds."""
        return self.in_flight / self.records_max

    def took(self, lease: Lease, count: int, *, alone: bool) -> None:
        self.leases[lease.token] = lease
        self.in_flight += count
        self.in_flight_bytes += lease.nbytes
        if alone:
            self.alone, self.reserved = True, False

    def gave(self, lease: Lease, count: int, nbytes: int) -> None:
        """`count` records of a lease are settled; without any left, it is over."""
        self.in_flight -= count
        self.in_flight_bytes -= nbytes
        if not lease.bounds:
            del self.leases[lease.token]
            self.alone = False


@attrs.define
class Counts:
    """What a group has done since the daemon started, in records."""

    delivered: int = 0
    redelivered: int = 0
    acked: int = 0
    failed: int = 0
    expired: int = 0
    released: int = 0
    dead: int = 0
    late: int = 0


class Group:
    """A group of a stream with so many partitions; `cursors` are where it begins."""

    def __init__(
        self,
        stream: str,
        name: str,
        settings: GroupSettings,
        cursors: Sequence[int],
        now: float,
        rng: random.Random,
    ) -> None:
        self.stream = stream
        self.name = name
        self.settings = settings
        self.paused = False
        self.counts = Counts()
        self.members: dict[int, Member] = {}
        self._rng = rng
        self.ledgers = [self.new_ledger(n, cursor, now) for n, cursor in enumerate(cursors)]
        #: Owners that are to be asked for a partition back: (member, partition).
        self.moves: list[tuple[Member, int]] = []

    @property
    def ordered(self) -> bool:
        return self.settings.mode == "ordered"

    def new_ledger(self, partition: int, cursor: int, now: float) -> Ledger:
        """A ledger of the group's kind, that knows nothing yet."""
        kind: type[Ledger] = SharedLedger
        if self.ordered:
            kind = OrderedLedger
        elif self.settings.order == "key":
            kind = KeyedLedger
        return kind(partition, lambda: self.settings, cursor, now)

    def replace(self, fresh: Ledger) -> None:
        """Go on with another ledger of a partition; nothing is out of the one before."""
        old = self.ledgers[fresh.number]
        if isinstance(old, OrderedLedger) and isinstance(fresh, OrderedLedger):
            fresh.owner = old.owner
        fresh.lost = old.lost
        self.ledgers[fresh.number] = fresh
        self.assign()

    # ----------------------------------------------------------------------------------- members

    def join(self, member: Member) -> None:
        self.members[member.number] = member
        self.assign()

    def leave(self, member: Member, now: float, now_us: int, *, lost: str = "") -> int:
        """A member is gone; how many of its records are dead now.

        `lost` says how its session ended: what it held has failed. Without, it left in order, and
        gives back what it held.
        """
        del self.members[member.number]
        dead = 0
        for lease in sorted(member.leases.values(), key=lambda lease: lease.bounds[0]):
            if not lease.bounds:
                # An ordered ledger took it back just now.
                continue
            if lost:
                dead += self._fail(lease, Failure(lost, now, now_us, suspect=True))
            else:
                self.counts.released += lease.count
                lease.ledger.release(lease, lease.bounds)
        for ledger in self.ledgers:
            # Nobody is there to be told.
            ledger.lost = [lease for lease in ledger.lost if lease.member is not member]
            if isinstance(ledger, OrderedLedger) and ledger.owner is member:
                ledger.owner, ledger.moving = None, False
        self.moves = [move for move in self.moves if move[0] is not member]
        self.assign()
        return dead

    def assign(self) -> None:
        """Give the partitions of an ordered group to its members; ask for those that move."""
        if not self.ordered:
            return
        ledgers = [ledger for ledger in self.ledgers if isinstance(ledger, OrderedLedger)]
        owners = [None if each.owner is None else each.owner.number for each in ledgers]
        wanted = assign(owners, list(self.members))
        for ledger, number in zip(ledgers, wanted, strict=True):
            member = None if number is None else self.members[number]
            if ledger.owner is member:
                ledger.moving = False
            elif ledger.owner is None or not ledger.leases:
                ledger.owner, ledger.moving = member, False
            elif not ledger.moving:
                ledger.moving = True
                self.moves.append((ledger.owner, ledger.number))

    # ------------------------------------------------------------------------------- handing out

    def candidates(self, ledger: Ledger, ready: Callable[[Member], bool]) -> list[Member]:
        """The members that may get records of a partition now, the least loaded first.
        `ready` tells whether a member's session can take more."""
        if isinstance(ledger, OrderedLedger):
            members = [] if ledger.owner is None else [ledger.owner]
        else:
            members = list(self.members.values())
        found = [member for member in members if member.room > 0 and ready(member)]
        return sorted(found, key=lambda member: member.load)

    def for_suspect(self, ledger: Ledger, ready: Callable[[Member], bool]) -> Member | None:
        """The member that gets the ledger's next suspect now. If none is idle, one is kept from
        getting more until it is. `ready` is as for `candidates`."""
        owner = ledger.owner if isinstance(ledger, OrderedLedger) else None
        members = [owner] if owner is not None else list(self.members.values())
        free = [member for member in members if not member.alone and ready(member)]
        if not free:
            return None
        best = min(free, key=lambda member: (member.in_flight, not member.reserved))
        if not best.in_flight:
            return best
        if not any(member.reserved for member in free):
            best.reserved = True
        return None

    def unreserve(self) -> None:
        """There are no suspects (any more): nobody needs to be kept for one."""
        for member in self.members.values():
            member.reserved = False

    # ---------------------------------------------------------------------------------- settling

    def find(self, member: Member, token: int, bounds: list[int]) -> tuple[Lease, Sequence[int]]:
        """The lease that a member means, and which of its records: all that are left if it names
        none.

        Raises:
            LeaseLost: it does not hold it, or those records of it.
        """
        lease = member.leases.get(token)
        if lease is None:
            self.counts.late += 1
            raise LeaseLost(
                f"delivery {token} is not held: it was settled, its time ran out or it was taken "
                "back"
            )
        if not bounds:
            return lease, lease.bounds
        held = Ranges(lease.bounds)
        found = [bound for first, end in pairs(bounds) for bound in held.overlap(first, end)]
        if size(found) != size(bounds):
            outside = size(bounds) - size(found)
            raise LeaseLost(
                f"delivery {token} holds {size(lease.bounds)} records, {outside} of those "
                "that were named are not among them"
            )
        return lease, found

    def ack(self, member: Member, token: int, bounds: list[int]) -> Ledger:
        """As what follows: the ledger that it was of. Raises LeaseLost: see `find`."""
        lease, found = self.find(member, token, bounds)
        self.counts.acked += lease.ledger.ack(lease, found)
        self._settled(lease.ledger)
        return lease.ledger

    def nack(
        self,
        member: Member,
        token: int,
        bounds: list[int],
        delay_us: int | None,
        reason: str,
        now: float,
        now_us: int,
    ) -> Ledger:
        """Raises:
        LeaseLost: see `find`. BadRequest: the delay is absurd.
        """
        lease, found = self.find(member, token, bounds)
        if delay_us is not None and not 0 <= delay_us <= DELAY_US_MAX:
            raise BadRequest(
                f"a delay of {delay_us / 86_400_000_000:g} days, allowed are 0 to 366 days"
            )
        delay_s = None if delay_us is None else delay_us / 1_000_000
        self._fail(lease, Failure(reason, now, now_us, delay_s), found)
        return lease.ledger

    def term(self, member: Member, token: int, bounds: list[int], reason: str) -> Ledger:
        lease, found = self.find(member, token, bounds)
        self.counts.dead += lease.ledger.term(lease, found, reason)
        self._settled(lease.ledger)
        return lease.ledger

    def release(self, member: Member, token: int, bounds: list[int]) -> Ledger:
        lease, found = self.find(member, token, bounds)
        self.counts.released += size(found)
        lease.ledger.release(lease, found)
        self._settled(lease.ledger)
        return lease.ledger

    def extend(self, member: Member, token: int, now: float) -> None:
        lease, _ = self.find(member, token, [])
        lease.ledger.extend(lease, now)

    def expire(self, ledger: Ledger, now: float, now_us: int) -> int:
        """Fail the leases of a partition that have run out; how many did."""
        expired = ledger.expired(now)
        error = f"no ack within {self.settings.ack_wait_s:g} s"
        # In order: an ordered ledger takes back what is behind the first, and that has not failed.
        for lease in sorted(expired, key=lambda lease: lease.bounds[0]):
            if lease.bounds:
                self.counts.expired += lease.count
                ledger.lost.append(lease)
                self._fail(lease, Failure(error, now, now_us, suspect=True))
        return len(expired)

    def _fail(self, lease: Lease, failure: Failure, bounds: Sequence[int] | None = None) -> int:
        bounds = lease.bounds if bounds is None else bounds
        self.counts.failed += size(bounds)
        dead = lease.ledger.fail(lease, bounds, failure, self._rng)
        self.counts.dead += dead
        self._settled(lease.ledger)
        return dead

    def _settled(self, ledger: Ledger) -> None:
        """A partition that is to move does so once nothing of it is out."""
        if isinstance(ledger, OrderedLedger) and ledger.moving and not ledger.leases:
            ledger.owner, ledger.moving = None, False
            self.assign()
