"""The judge of a run of consumer groups with faults: what is wrong with a history.

    python -m tests.faults.group_judge DIR

looks at a run again. What must hold, whatever was killed when (RELIABILITY.md, G5):

- Each record that was acked to the producer was handled, or is a dead letter; nothing is left.
- None is handled twice, but where the attempt before had failed: a nack or a release, its consumer
  or the daemon killed, or its process standing still for so long that the lease ran out. What the
  daemon confirmed as acked is never handed out again.
- Where keys are in order (`ordered`, and `shared` by key): a key's records are handled in order,
  and never two at a time, but by somebody whose lease was gone.
- Attempts count up, and never above the limit. Tokens grow. Dead letters died for a reason that
  the handlers gave: what kills its consumer takes nobody along.

A kill or a standstill excuses only what it can have caused: the windows below. Synchronous and
pure; `test_group_judge.py` shows that each fault is noticed.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from tests.faults.group_history import Death, Entry, Handling, History, Place, Stall, read_history

#: From asking for an ack until it counts, if nothing is wrong.
ACK_S = 1.0
#: From the daemon's end until a client has noticed and lets go of what it had.
NOTICE_S = 0.5
#: What waited at a client may still be begun so long after the standstill that cost its lease.
STALE_S = 2.0
#: Parts of `ack_wait_s`: renewals come earlier than that, and a lease lasts longer than that.
_STALL_MIN, _LEASE_MIN = 0.5, 0.3
#: The fates that lead to the dead letters.
DOOMED = frozenset({"fail", "poison", "term"})

#: A run with one real fault can have thousands: the first ones tell.
_PROBLEMS_MAX = 20


@attrs.define
class Verdict:
    """What a run came to."""

    problems: list[str]
    #: Handlings beyond the first of a record, by what excused them.
    again: Counter[str]
    #: Seconds from a handler's standstill or death to the next begin of its record.
    redelivered_s: list[float]


def judge(history: History) -> Verdict:
    """All that is wrong, the first of it, in a stable order."""
    case = _Case(history)
    checks = [
        case.ends, case.log, case.coverage, case.repeats, case.tokens, case.attempts, case.deaths,
        *([case.order, case.overlaps] if history.settings.mode != "shared" else []),
    ]  # fmt: skip
    problems = list(itertools.islice((text for check in checks for text in check()), _PROBLEMS_MAX))
    return Verdict(problems, case.again, case.redelivered_s)


class _Case:
    """One history, taken apart."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.settings = history.settings
        self.handlings = history.handlings()
        self.entries = {entry.place: entry for entry in history.log}
        self.dead = {death.place: death for death in history.dead}
        self.again: Counter[str] = Counter()
        self.redelivered_s: list[float] = []
        #: When the first record of each lease was begun: the others were held from then on.
        self._held_since: dict[int, float] = {}
        for handling in itertools.chain.from_iterable(self.handlings.values()):
            since = self._held_since.get(handling.token, handling.begin)
            self._held_since[handling.token] = min(since, handling.begin)
        self._gone_back: dict[tuple[str, int], list[Handling]] = {}
        for life in history.lives.values():
            for handling in life.handlings:
                if handling.asked in ("nack", "release"):
                    self._gone_back.setdefault((life.name, handling.partition), []).append(handling)

    # -------------------------------------------------------------------------------- excuses

    def lost(self, handling: Handling, until: float) -> str:
        """Why its lease may have been gone by then, without its doing; "" if it cannot have."""
        life = self.history.lives[handling.life]
        if life.death is not None and life.death <= until:
            return "consumer killed"
        since = self._held_since[handling.token] - NOTICE_S
        if any(since <= at <= until for at in self.history.daemon_kills):
            return "daemon killed"
        if any(self._stalled(handling, until, stall) for stall in life.stalls):
            return "lapse"
        if any(self._stalled(handling, until, stall) for stall in self.history.stalls):
            return "machine stood still"
        return ""

    def _stalled(self, handling: Handling, until: float, stall: Stall) -> bool:
        since, to = stall
        wait_s = self.settings.ack_wait_s
        return (
            to - since >= _STALL_MIN * wait_s
            and to >= handling.begin - STALE_S
            and since + _LEASE_MIN * wait_s <= until
        )

    def _excuse(self, first: Handling, again: Handling) -> str:
        """Why a record was handed out once more; "" if there is no reason."""
        asked_at = first.asked_at
        if asked_at is not None and first.asked in ("nack", "release") and asked_at <= again.begin:
            return first.asked
        until = again.begin
        if asked_at is not None and first.asked in ("ack", "term"):
            if first.answer == "ok":
                return ""
            # What was asked for long before counts, whoever is killed now.
            until = min(until, asked_at + ACK_S)
        return self.lost(first, until) or self._revoked(first, until)

    def _revoked(self, handling: Handling, until: float) -> str:
        """An ordered group goes back to what failed, and takes back what came after."""
        if self.settings.mode != "ordered":
            return ""
        for back in self._gone_back.get((handling.life, handling.partition), []):
            assert back.asked_at is not None
            if back.offset < handling.offset and handling.begin - STALE_S < back.asked_at <= until:
                return "earlier record failed"
        return ""

    def _stale(self, handling: Handling) -> bool:
        """It was handed out again later, and was not its consumer's any more when it began."""
        last = self.handlings[handling.place][-1]
        return last is not handling and bool(self.lost(handling, handling.begin))

    # --------------------------------------------------------------------------------- checks

    def ends(self) -> Iterator[str]:
        """How processes ended, and what is left."""
        for name, life in self.history.lives.items():
            yield from life.problems
            # SIGKILL is ours; everybody else left in order.
            if life.status not in (0, -9) or (life.status == -9 and life.death is None):
                yield f"{name} ended with status {life.status}"
        for left in self.history.left:
            if any(count for name, count in left.items() if name != "partition"):
                yield f"not drained: {left}"

    def log(self) -> Iterator[str]:
        """The stream has what was acked, once, and each key in order."""
        last: dict[str, Entry] = {}
        found = set()
        for entry in sorted(self.history.log, key=lambda entry: entry.place):
            before = last.get(entry.key)
            if before is not None and (before.partition, before.sequence + 1) != (
                entry.partition, entry.sequence,
            ):  # fmt: skip
                yield f"key out of order in the log: {entry} after {before}"
            last[entry.key] = entry
            found.add((entry.key, entry.sequence))
        for key, sequence in sorted(self.history.acked - found):
            yield f"acked, and not in the log: {key} {sequence}"

    def coverage(self) -> Iterator[str]:
        """Everything was handled or is dead, and nobody handled what is not there."""
        for place, handlings in self.handlings.items():
            entry = self.entries.get(place)
            if entry is None:
                yield f"handled, and not in the log: {handlings[0]}"
                continue
            if place not in self.dead and all(handling.end is None for handling in handlings):
                yield f"neither handled nor dead: {entry}, begun {len(handlings)} times"
            for handling in handlings:
                if (handling.key, handling.sequence) != (entry.key, entry.sequence):
                    yield f"something else than {entry} was handed out: {handling}"

    def repeats(self) -> Iterator[str]:
        """Each further handling has a reason."""
        for first, again in self._pairs():
            why = self._excuse(first, again)
            if not why:
                asked = f"{first.asked or 'nothing'} asked at {first.asked_at}"
                answered = f", answered {first.answer}" if first.answer else ""
                yield f"handled again without a reason: {first} ({asked}{answered}); {again}"
                continue
            self.again[why] += 1
            death = self.history.lives[first.life].death
            if why == "consumer killed" and death is not None:
                self.redelivered_s.append(again.begin - death)

    def tokens(self) -> Iterator[str]:
        """A token is one lease: one life, partition and attempt; later ones are larger."""
        leases: dict[int, tuple[str, int, int]] = {}
        for handling in itertools.chain.from_iterable(self.handlings.values()):
            lease = handling.life, handling.partition, handling.attempt
            if leases.setdefault(handling.token, lease) != lease:
                yield f"token of another lease {leases[handling.token]}: {handling}"
        for first, again in self._pairs():
            if first.begin > again.begin and not self.lost(first, first.begin):
                yield f"the smaller token came later: {first}; {again}"

    def attempts(self) -> Iterator[str]:
        """They count up with each failure, up to the limit."""
        limit = self.settings.max_deliveries
        for handling in itertools.chain.from_iterable(self.handlings.values()):
            if not 1 <= handling.attempt <= limit:
                yield f"attempt above {limit} or below 1: {handling}"
        for first, again in self._pairs():
            if again.attempt < first.attempt + self._counted(first, again):
                yield f"a failure was not counted: {first}; {again}"

    def _counted(self, first: Handling, again: Handling) -> bool:
        """Whether its end must have been counted: the daemon lived to see it."""
        if first.asked == "nack":
            return first.answer == "ok"
        life = self.history.lives[first.life]
        if self._excuse(first, again) != "consumer killed" or life.leaving is not None:
            return False
        assert life.death is not None
        if self._revoked(first, again.begin) or any(
            self._stalled(first, again.begin, stall) for stall in life.stalls
        ):
            # It had lost that before it died.
            return False
        if self.settings.mode == "ordered" and any(
            (each.partition, each.answer != "ok") == (first.partition, True)
            and each.offset < first.offset
            for each in life.handlings
        ):
            # The daemon may not have heard of the ack before it: then that one has failed, and what
            # stands behind it goes back uncounted.
            return False
        since = self._held_since[first.token] - STALE_S
        return not any(since <= at <= again.begin for at in self.history.daemon_kills)

    def deaths(self) -> Iterator[str]:
        """Dead letters: once each, for a reason that the handlers gave, and not done besides."""
        for place, count in Counter(death.place for death in self.history.dead).items():
            if count > 1:
                yield f"dead {count} times: {self.dead[place]}"
        for place, death in self.dead.items():
            entry = self.entries.get(place)
            if entry is None or (entry.key, entry.sequence) != (death.key, death.sequence):
                yield f"a dead letter of nobody: {death}, in the log is {entry}"
                continue
            yield from self._death(entry, death, self.handlings[place])
        for entry in self.history.log:
            if entry.fate in DOOMED and entry.place not in self.dead:
                yield f"not dead: {entry}"

    def _death(self, entry: Entry, death: Death, handlings: list[Handling]) -> Iterator[str]:
        for handling in handlings:
            if handling.asked == "ack" and handling.answer == "ok":
                yield f"done and dead: {death}; {handling}"
        last = handlings[-1] if handlings else None
        if last is not None and last.asked == "ack" and last.answer != "ok":
            assert last.asked_at is not None
            if not self.lost(last, last.asked_at + ACK_S) and not self._revoked(
                last, last.asked_at + ACK_S
            ):
                yield f"done, it seems, and dead: {death}; {last}"
        if death.reason == "term":
            if not any(handling.asked == "term" for handling in handlings):
                yield f"nobody asked for this death: {death}"
        elif death.reason != "max_deliveries":
            yield f"dead for an unknown reason: {death}"
        else:
            yield from self._used_up(entry, death, handlings)

    def _used_up(self, entry: Entry, death: Death, handlings: list[Handling]) -> Iterator[str]:
        limit = self.settings.max_deliveries
        if death.attempts != limit:
            yield f"dead after {death.attempts} attempts, allowed are {limit}: {death}"
        begun = {handling.attempt for handling in handlings}
        # A first attempt, or one after a nack, may be lost with its consumer before it begins; the
        # next one is handed out alone, so there is nobody else to be killed by.
        lost = [attempt for attempt in range(1, limit + 1) if attempt not in begun]
        if any(after - before == 1 for before, after in itertools.pairwise(lost)):
            yield f"dead, but begun in attempts {sorted(begun)} only: {entry}, {death}"
        last = handlings[-1] if handlings else None
        said = last is not None and last.answer == "ok" and last.attempt == limit
        if said and "planned" not in death.error:
            yield f"the last error is not what the handler said: {death}"

    def order(self) -> Iterator[str]:
        """A record of a key is begun only once the one before was handled, or had died."""
        for before, entry in self._neighbours():
            ends = [handling.end for handling in self.handlings[before.place] if handling.end]
            done_at = min(ends, default=None)
            for handling in self.handlings[entry.place]:
                if done_at is not None and done_at <= handling.begin:
                    continue
                if before.place in self.dead and self._over(before.place, handling.begin):
                    continue
                if not self._stale(handling):
                    yield f"before {before} was done: {handling}"

    def _over(self, place: Place, at: float) -> bool:
        """None of its handlings begins after that, but by somebody who did not hold it."""
        return all(
            handling.begin < at or self._stale(handling) for handling in self.handlings[place]
        )

    def overlaps(self) -> Iterator[str]:
        """Two handlers of a key at a time: one of them did not hold it any more."""
        by_key: dict[str, list[Handling]] = {}
        for handling in itertools.chain.from_iterable(self.handlings.values()):
            by_key.setdefault(handling.key, []).append(handling)
        for handlings in by_key.values():
            handlings.sort(key=lambda handling: handling.begin)
            running: list[Handling] = []
            for handling in handlings:
                running = [other for other in running if self._over_at(other) > handling.begin]
                for other in running:
                    # A lease has one handler at a time: that is the consumer's own work.
                    older = min(other, handling, key=lambda one: one.token)
                    if other.token == handling.token or not self.lost(older, handling.begin):
                        yield f"two handlers of one key at a time: {other}; {handling}"
                running.append(handling)

    def _over_at(self, handling: Handling) -> float:
        if handling.over is not None:
            return handling.over
        life = self.history.lives[handling.life]
        ends = [at for at in (life.death, life.exit) if at is not None]
        return min(ends, default=float("inf"))

    # ------------------------------------------------------------------------------ iterators

    def _pairs(self) -> Iterable[tuple[Handling, Handling]]:
        """Each two handlings of a record that follow each other, by token."""
        for handlings in self.handlings.values():
            yield from itertools.pairwise(handlings)

    def _neighbours(self) -> Iterable[tuple[Entry, Entry]]:
        """Each two records of a key that follow each other."""
        by_key: dict[str, list[Entry]] = {}
        for entry in sorted(self.history.log, key=lambda entry: entry.sequence):
            by_key.setdefault(entry.key, []).append(entry)
        for entries in by_key.values():
            yield from itertools.pairwise(entries)


def main() -> int:
    verdict = judge(read_history(Path(sys.argv[1])))
    for problem in verdict.problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
