"""The leases of one group on one partition: what is out, what failed and comes again, what is done.

Rules:

- A record is in one place: done, leased, a retry (failed or given back), or not handed out yet.
- A lease is of one batch. Its token is its number and its fencing token: whoever settles must name
  one that is held.
- A failure is counted when it happens, and is news for the journal; a record that has failed
  `max_deliveries` times is dead: done, and on its way to the dead letters.
- A record whose last attempt ended with its consumer (session lost, time run out) is a suspect: it
  is handed out alone, so that it can take no other record along.

How the next records are chosen is what `shared`, `ordered` and `keyed` add.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from streamer.groups.letters import MAX_DELIVERIES, TERM
from streamer.groups.progress import Progress
from streamer.groups.ranges import Ranges, pairs, size
from streamer.groups.settings import GroupSettings
from streamer.groups.wheel import Wheel

if TYPE_CHECKING:
    from streamer.groups.group import Member

#: Ranges above the cursor, and retries, of one partition: above that nothing new is handed out.
DONE_RANGES_MAX = 50_000
RETRIES_MAX = 20_000
#: Ranges of one lease: they travel beside the batch, in the same frame.
RANGES_MAX = 200
#: Timers that one call looks after: 10 ms of work, then others have a turn.
EXPIRED_MAX = 1000
#: Failures that may wait for the journal before nothing more is handed out.
NEWS_MAX = 20_000
#: A reason travels, and is kept for each retry.
ERROR_CHARS_MAX = 500
_JITTER = 0.25


@attrs.define(eq=False)
class Retry:
    """Records that come again: they failed `failures` times, or were given back."""

    first: int
    end: int
    failures: int
    #: Wall clock, microseconds: when they may be handed out again.
    due_us: int
    suspect: bool
    error: str
    #: Wall clock, microseconds: when they were first handed out.
    since_us: int
    #: In the wheel until due; None once ready.
    tick: int | None = None

    def __lt__(self, other: Retry) -> bool:
        return self.first < other.first

    def to_plain(self) -> list[Any]:
        return [
            self.first,
            self.end,
            self.failures,
            self.due_us,
            self.suspect,
            self.error,
            self.since_us,
        ]


@attrs.define(eq=False)
class Lease:
    """Records of one batch that one member holds."""

    token: int
    member: Member
    ledger: Ledger
    #: The bounds of what is not settled yet.
    bounds: Sequence[int]
    nbytes: int
    failures: int
    handed_at: float
    since_us: int
    tick: int

    @property
    def count(self) -> int:
        return size(self.bounds)


@attrs.frozen
class Choice:
    """What to hand out next, of one batch."""

    bounds: list[int]
    failures: int = 0
    #: None for a first attempt.
    since_us: int | None = None
    alone: bool = False


@attrs.frozen
class Dead:
    """Records that will not be tried again."""

    first: int
    end: int
    reason: str
    attempts: int
    error: str
    since_us: int


@attrs.frozen
class Failure:
    """Why an attempt failed. `delay_s` None: as the group's backoff says."""

    error: str
    at: float
    at_us: int
    delay_s: float | None = None
    suspect: bool = False


class Ledger(Progress):
    """See the module. Offsets are of one partition; times are `trio.current_time()` seconds, or
    microseconds of the wall clock where the name says so."""

    #: Whether `choose` must be told the records' keys.
    needs_keys = False

    def __init__(
        self, number: int, settings: Callable[[], GroupSettings], cursor: int, now: float
    ) -> None:
        super().__init__(cursor)
        self.number = number
        self.leases: dict[int, Lease] = {}
        #: Retries by their first offset, whether due or not.
        self.retries: dict[int, Retry] = {}
        self.in_flight = 0
        #: Leases that ended without their member's doing: it is to be told.
        self.lost: list[Lease] = []
        self._settings = settings
        self._wheel: Wheel[Lease | Retry] = Wheel(now)
        self._retry_news: list[list[Any]] = []
        self._dead: list[Dead] = []

    # ------------------------------------------------------------------ for the kinds of ledgers

    def next_read(self, high_water: int, *, alone: bool) -> int | None:
        """The offset from which on to read for the next hand-out; None if there is nothing now.
        `alone`: a suspect."""
        raise NotImplementedError

    def choose(
        self, first: int, end: int, keys: Sequence[bytes | None] | None, room: int, *, alone: bool
    ) -> Choice | None:
        """What of the batch [first, end) to hand out next, at most `room` records; None if
        nothing."""
        raise NotImplementedError

    def _ready(self, retry: Retry) -> None:
        """A retry may be handed out from now on."""
        raise NotImplementedError

    def _freed(self, bounds: Sequence[int]) -> None:
        """Records of a lease are done."""

    def _came_back(self, lease: Lease, bounds: Sequence[int]) -> None:
        """Records of a lease are retries now."""

    def _pieces(self, bounds: Sequence[int]) -> Iterable[tuple[int, int]]:
        """How retries are cut."""
        return pairs(bounds)

    @property
    def has_suspects(self) -> bool:
        """Whether a suspect may be handed out now."""
        raise NotImplementedError

    @property
    def _may_go_on(self) -> bool:
        """Whether what was never handed out may be now: memory is bounded."""
        return len(self.done) < DONE_RANGES_MAX and len(self.retries) < RETRIES_MAX

    # ------------------------------------------------------------------------------- handing out

    def lease(
        self, token: int, member: Member, choice: Choice, nbytes: int, now: float, now_us: int
    ) -> Lease:
        """Hand out what was chosen."""
        since_us = now_us if choice.since_us is None else choice.since_us
        # A tuple: the collector need not look at it, where there are a million.
        bounds = tuple(choice.bounds)
        lease = Lease(token, member, self, bounds, nbytes, choice.failures, now, since_us, 0)
        lease.tick = self._wheel.add(lease, self._until(lease, now))
        self.leases[token] = lease
        count = size(choice.bounds)
        self.in_flight += count
        member.took(lease, count, alone=choice.alone)
        return lease

    def extend(self, lease: Lease, now: float) -> None:
        """Have a lease last `ack_wait_s` from now, within its longest time."""
        self._wheel.discard(lease, lease.tick)
        lease.tick = self._wheel.add(lease, self._until(lease, now))

    def _until(self, lease: Lease, now: float) -> float:
        settings = self._settings()
        return min(now + settings.ack_wait_s, lease.handed_at + settings.lease_max_s)

    # ---------------------------------------------------------------------------------- settling

    def ack(self, lease: Lease, bounds: Sequence[int]) -> int:
        """Records of a lease are done; how many."""
        count = self._cut(lease, bounds)
        for first, end in pairs(bounds):
            self.finish(first, end)
        self._freed(bounds)
        return count

    def fail(
        self, lease: Lease, bounds: Sequence[int], failure: Failure, rng: random.Random
    ) -> int:
        """An attempt at records of a lease failed; how many of them are dead now."""
        bounds = self._take_back(lease, bounds)
        failures = lease.failures + 1
        limit = self._settings().max_deliveries
        if limit and failures >= limit:
            self._bury(lease, bounds, MAX_DELIVERIES, failures, failure.error)
            return size(bounds)
        delay_s = self._pause(failures, rng) if failure.delay_s is None else failure.delay_s
        due_us = failure.at_us + round(delay_s * 1_000_000)
        error = failure.error[:ERROR_CHARS_MAX]
        history = (failures, due_us, failure.suspect, error, lease.since_us)
        self._retry_news += ([first, end, *history] for first, end in pairs(bounds))
        for first, end in self._pieces(bounds):
            self._wait(Retry(first, end, *history), failure.at, delay_s)
        self._came_back(lease, bounds)
        return 0

    def term(self, lease: Lease, bounds: Sequence[int], reason: str) -> int:
        """Records of a lease are dead at their member's word; how many."""
        count = self._cut(lease, bounds)
        self._bury(lease, bounds, TERM, lease.failures + 1, reason)
        return count

    def release(self, lease: Lease, bounds: Sequence[int]) -> None:
        """Records of a lease are given back, without counting."""
        bounds = self._take_back(lease, bounds)
        for first, end in self._pieces(bounds):
            self._wait(Retry(first, end, lease.failures, 0, False, "", lease.since_us), 0.0, 0.0)
        self._came_back(lease, bounds)

    def _take_back(self, lease: Lease, bounds: Sequence[int]) -> Sequence[int]:
        """Take records off a lease that are not done; which of them are still there: what
        retention has removed meanwhile is done with."""
        self._cut(lease, bounds)
        if bounds[0] >= self.cursor:
            return bounds
        all_of_it = Ranges(bounds)
        self._freed(all_of_it.overlap(0, self.cursor))
        return all_of_it.overlap(self.cursor, bounds[-1])

    def _bury(
        self, lease: Lease, bounds: Sequence[int], reason: str, attempts: int, error: str
    ) -> None:
        for first, end in pairs(bounds):
            self.finish(first, end, told=True)
            self._dead.append(
                Dead(first, end, reason, attempts, error[:ERROR_CHARS_MAX], lease.since_us)
            )
        self._freed(bounds)

    def _pause(self, failures: int, rng: random.Random) -> float:
        backoff_s = self._settings().backoff_s
        pause = backoff_s[min(failures, len(backoff_s)) - 1]
        return pause * (1 - _JITTER + 2 * _JITTER * rng.random())

    def _wait(self, retry: Retry, now: float, delay_s: float) -> None:
        self.retries[retry.first] = retry
        if delay_s > 0:
            retry.tick = self._wheel.add(retry, now + delay_s)
        else:
            self._ready(retry)

    def _cut(self, lease: Lease, bounds: Sequence[int]) -> int:
        """Take records off a lease; how many. One without any is over."""
        count, before = size(bounds), lease.count
        if count == before:
            nbytes = lease.nbytes
            self._wheel.discard(lease, lease.tick)
            del self.leases[lease.token]
            lease.bounds = ()
        else:
            nbytes = lease.nbytes * count // before
            lease.bounds = tuple(_without(lease.bounds, bounds))
        lease.nbytes -= nbytes
        self.in_flight -= count
        lease.member.gave(lease, count, nbytes)
        return count

    def recall(self) -> None:
        """End all leases: the group goes on elsewhere."""
        for lease in list(self.leases.values()):
            self._drop(lease)

    def _drop(self, lease: Lease) -> None:
        """End a lease that its member has not ended."""
        self._cut(lease, lease.bounds)
        self.lost.append(lease)

    # -------------------------------------------------------------------------------------- time

    def expired(self, now: float) -> list[Lease]:
        """Leases that have run out, to be failed; retries that are due become ready. Not all at
        once where they are many: see `EXPIRED_MAX`."""
        found: list[Lease] = []
        for item in self._wheel.expired(now, EXPIRED_MAX):
            if isinstance(item, Lease):
                found.append(item)
            else:
                item.tick = None
                self._ready(item)
        return found

    @property
    def retrying(self) -> int:
        """How many records have failed and come again."""
        retries = self.retries.values()
        return sum(retry.end - retry.first for retry in retries if retry.failures)

    @property
    def news(self) -> int:
        """How many failures the journal has not taken yet."""
        return len(self._retry_news)

    @property
    def timers(self) -> int:
        """How many wait for a time."""
        return self._wheel.count

    # --------------------------------------------------------------------------------- otherwise

    def skip_to(self, offset: int) -> int:
        """Retention has removed all below `offset`: that is done, though what is out may still be
        settled; how many records were not done before."""
        lost = self.finish(self.cursor, offset) if offset > self.cursor else 0
        for first in [first for first in self.retries if first < offset]:
            retry = self.retries.pop(first)
            if retry.end > offset:
                retry.first = offset
                self.retries[offset] = retry
            elif retry.tick is not None:
                self._wheel.discard(retry, retry.tick)
        return lost

    def take_retry_news(self) -> list[list[Any]]:
        """What failed since it was last taken, as the journal keeps it."""
        news, self._retry_news = self._retry_news, []
        return news

    def take_dead(self) -> list[Dead]:
        """What died since it was last taken."""
        dead, self._dead = self._dead, []
        return dead

    def load(self, done: list[int], retries: list[list[Any]], now: float, now_us: int) -> None:
        """What the journal knows: the bounds of what is done, and what has failed and is not."""
        for first, end in pairs(done):
            self.finish(first, end, told=True)
        for first, end, *rest in retries:
            for begin, stop in self._pieces([first, end]):
                retry = Retry(begin, stop, *rest)
                self._wait(retry, now, max(0, retry.due_us - now_us) / 1_000_000)

    def unfinished(self) -> list[list[Any]]:
        """For a snapshot: what has failed before and is not done, as the journal keeps it."""
        found = [retry.to_plain() for retry in self.retries.values() if retry.failures]
        for lease in self.leases.values():
            if lease.failures:
                history = [lease.failures, 0, lease.member.alone, "", lease.since_us]
                found += ([first, end, *history] for first, end in pairs(lease.bounds))
        return found


def _without(bounds: Sequence[int], less: Sequence[int]) -> list[int]:
    left = Ranges(bounds)
    for first, end in pairs(less):
        left.remove(first, end)
    return left.bounds
