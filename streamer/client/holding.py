"""What a consumer holds: deliveries that wait, that were begun, and whose turn it is.

Rules: everything here is synchronous. What was not begun can be withdrawn at any time; what was
begun stays until its handler has said something of all of it, even if it is lost meanwhile: so
nobody else gets the next delivery of an ordered partition, or another one with the same keys
where their order is kept, while that handler still runs.
"""

from __future__ import annotations

from collections import deque

import trio

from streamer.client.delivery import Delivery
from streamer.client.keys import has_key_of, keys_of
from streamer.client.link import Link
from streamer.client.messages import Shelf
from streamer.client.settling import Settling
from streamer.errors import LeaseLost
from streamer.wire.frames import Verb

__all__ = ["Holding"]


class Holding:
    """The deliveries of one consumer."""

    def __init__(self, link: Link, level: int) -> None:
        self.settling = Settling(link, level, self.extend_failed)
        #: What the group's settings promise of the order.
        self.ordered = False
        self.keyed = False
        self.in_turns = False
        #: By token, what has not been settled whole.
        self.held: dict[int, Delivery] = {}
        #: What may be handed out now.
        self.ready: deque[Delivery] = deque()
        #: Tasks that wait for that.
        self.waiting = trio.lowlevel.ParkingLot()
        #: What is handed out record by record.
        self.shelf = Shelf()
        #: Of ordered groups, by partition: what is out, and what waits behind it.
        self._out: dict[int, Delivery] = {}
        self._behind: dict[int, deque[Delivery]] = {}
        #: And how many answers are awaited before it goes on.
        self._held_up: dict[int, int] = {}
        #: Where the order of keys is kept: lost, while their handlers run on.
        self._running: dict[Delivery, None] = {}
        #: And what has keys of theirs.
        self._apart: deque[Delivery] = deque()

    def __bool__(self) -> bool:
        """Whether there is something to settle, or an answer to come to that."""
        return bool(self.held) or not self.settling.idle

    @property
    def count(self) -> int:
        """Records that are held and not settled."""
        return sum(delivery.left_count for delivery in self.held.values())

    def promise(self, mode: object, order: object) -> None:
        """Take note of what the group's settings promise."""
        self.ordered = mode == "ordered"
        self.keyed = order == "key"
        self.in_turns = self.ordered or self.keyed

    def add(self, delivery: Delivery, *, hand_out: bool) -> None:
        """Hold one more; unless it is to be handed out, it is released at once."""
        self.held[delivery.token] = delivery
        if hand_out:
            self.offer(delivery)
        else:
            delivery.settle(Verb.RELEASE, delivery.left_bounds())

    def pass_on(self) -> None:
        """Wake the next who waits, if there is more: who was woken may have taken another one."""
        if self.ready and self.waiting:
            self.waiting.unpark()

    def settled(self, delivery: Delivery, verb: Verb, bounds: list[int]) -> None:
        """Some of a delivery was settled: `Delivery` says so."""
        if self.in_turns and not delivery.lost and (verb is Verb.NACK or verb is Verb.RELEASE):
            self._went_back(delivery, bounds)
        if delivery.done:
            self._gone(delivery)
        elif self.waiting and self.in_turns and delivery in self.shelf:
            self.waiting.unpark_all()
        if delivery.lost and self._apart:
            self._offer_apart()

    def _went_back(self, delivery: Delivery, bounds: list[int]) -> None:
        """Records come again, so those that are to be handled after them do, too."""
        if self.ordered:
            self._drop_behind(delivery.partition)
            if delivery.begun:
                self._hold_up(delivery.partition)
            rest = self.shelf.close(delivery)
        else:
            rest = [] if delivery.done else self.shelf.held_back(delivery, bounds)
        if rest and not delivery.done:
            delivery.settle(Verb.RELEASE, rest, quiet=True)

    def _hold_up(self, partition: int) -> None:
        """Hand out nothing more of a partition until the daemon has answered: what is on its way
        is behind the record that comes again, and will be taken back before the answer."""
        self._held_up[partition] = self._held_up.get(partition, 0) + 1

        def answered() -> None:
            self._held_up[partition] -= 1
            if not self._held_up[partition]:
                del self._held_up[partition]
                self._next_of(partition)

        self.settling.when_answered(answered)

    def _gone(self, delivery: Delivery) -> None:
        """Nothing of a delivery is left here, or will be handed out."""
        self.held.pop(delivery.token, None)
        self._running.pop(delivery, None)
        self.shelf.close(delivery)
        if self.ordered and self._out.get(delivery.partition) is delivery:
            del self._out[delivery.partition]
            self._next_of(delivery.partition)

    def _next_of(self, partition: int) -> None:
        """An ordered partition may go on."""
        behind = self._behind.get(partition)
        if behind and partition not in self._out and partition not in self._held_up:
            self.offer(behind.popleft())

    def offer(self, delivery: Delivery) -> None:
        """Have it handed out, in its turn."""
        if self.ordered:
            if delivery.partition in self._out or delivery.partition in self._held_up:
                self._behind.setdefault(delivery.partition, deque()).append(delivery)
                return
            self._out[delivery.partition] = delivery
        elif self._running and has_key_of(delivery, keys_of(self._running)):
            self._apart.append(delivery)
            return
        self.ready.append(delivery)
        self.waiting.unpark()

    def _offer_apart(self) -> None:
        """A handler has gone on with what was lost: perhaps that was waited for."""
        keys = keys_of(self._running)
        apart, self._apart = self._apart, deque()
        for delivery in apart:
            if has_key_of(delivery, keys):
                self._apart.append(delivery)
            else:
                self.ready.append(delivery)
                self.waiting.unpark()

    def _drop_behind(self, partition: int) -> None:
        behind = self._behind.pop(partition, None)
        for delivery in behind or ():
            delivery.settle(Verb.RELEASE, delivery.left_bounds(), quiet=True)

    def give_back(self, partition: int | None, token: int) -> None:
        """Release what was not begun of a partition (None: of all) with a smaller token."""
        if partition is None:
            self._withdraw_all()
        for delivery in sorted(self.held.values(), key=_newest_first):
            if delivery.token >= token or partition not in (None, delivery.partition):
                continue
            if not delivery.begun:
                self._withdraw(delivery)
                rest = delivery.left_bounds()
            else:
                rest = self.shelf.close(delivery)
            if rest:
                delivery.settle(Verb.RELEASE, rest)

    def forget_lost(self, since: float) -> None:
        """Wait no more for handlers of what came until `since` (trio's clock), and was lost: longer
        than a lease may last, nobody is kept out for them, nor may they pile up."""
        old = [delivery for delivery in self._running if delivery.since <= since]
        for delivery in old:
            del self._running[delivery]
        if old and self._apart:
            self._offer_apart()

    def give_back_old(self, since: float) -> None:
        """Release what came until `since` (trio's clock) and was not begun, before its time is
        over, which would count as an attempt: it comes again, with all of its time."""
        old = [delivery for delivery in self.held.values() if delivery.since <= since]
        if not old:
            return
        # At once: looking for each among many would take long.
        self.ready = deque(each for each in self.ready if each.since > since)
        self._apart = deque(each for each in self._apart if each.since > since)
        for delivery in sorted(old, key=_newest_first):
            if delivery.done:
                # It was behind another one.
                continue
            if delivery.begun:
                rest = self.shelf.close(delivery)
            else:
                self._withdraw(delivery)
                rest = delivery.left_bounds()
            if rest:
                delivery.settle(Verb.RELEASE, rest)
                if self.ordered:
                    self._hold_up(delivery.partition)

    def _withdraw(self, delivery: Delivery) -> None:
        """Do not hand it out."""
        for waiting in (self.ready, self._apart):
            if delivery in waiting:
                waiting.remove(delivery)
        behind = self._behind.get(delivery.partition)
        if behind and delivery in behind:
            behind.remove(delivery)

    def lose(self, delivery: Delivery, why: str) -> None:
        """It is not held any more: have none of it handed out that was not yet."""
        delivery.lost = why
        self.held.pop(delivery.token, None)
        if not delivery.begun:
            self._withdraw(delivery)
            delivery.done = True
        else:
            delivery.cut(self.shelf.close(delivery))
        if delivery.done:
            self._gone(delivery)
        elif self.keyed:
            self._running[delivery] = None

    def _withdraw_all(self) -> None:
        """As for each: looking for each among many would take long."""
        self.ready.clear()
        self._apart.clear()
        self._behind.clear()

    def lose_newer(self, partition: int, token: int, why: str) -> None:
        """As `lose`, what is of a partition and has that token or a larger one."""
        for delivery in sorted(self.held.values(), key=_newest_first):
            if delivery.partition == partition and delivery.token >= token:
                self.lose(delivery, why)

    def lose_all(self, why: str) -> None:
        """As `lose`, everything: the membership is over."""
        self._withdraw_all()
        for delivery in sorted(self.held.values(), key=_newest_first):
            self.lose(delivery, why)
        self.settling.drop(LeaseLost(f"not held any more: {why}"))

    def extend_failed(self, delivery: Delivery) -> None:
        """It could not be prolonged."""
        if not delivery.done and not delivery.lost:
            self.lose(delivery, "its time ran out")


def _newest_first(delivery: Delivery) -> int:
    """What waits behind goes first, so that it is not offered when what is before it goes."""
    return -delivery.token
