"""What has happened in the ledgers of all groups: for the journal, and for the clock."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from streamer import DeliverContext
from streamer.groups.journal import Entry, KnownProgress, done_entries
from streamer.groups.ledger import Ledger
from streamer.groups.progress import Progress
from streamer.names import DEAD
from streamer_plugins.deliver.journal import Journal
from streamer_plugins.deliver.moves import Moves
from streamer_plugins.deliver.pump import Pump


class News:
    """Every change to a ledger is noted here, on the event loop, right after it was made."""

    def __init__(self, context: DeliverContext, journal: Journal, moves: Moves) -> None:
        self._context = context
        self._journal = journal
        self._moves = moves
        self._dirty: dict[Ledger, Pump] = {}
        #: The ledgers with something that waits for a time.
        self.timed: dict[Ledger, Pump] = {}

    def note(self, pump: Pump, ledger: Ledger) -> None:
        """A ledger has news for the journal. What has died of it is a move from here on."""
        self._bury(pump, ledger)
        self.timed[ledger] = pump
        self._dirty[ledger] = pump
        self._journal.touch()

    def forget(self, ledger: Ledger) -> None:
        """Nothing of a ledger is to be heard any more."""
        self._dirty.pop(ledger, None)
        self.timed.pop(ledger, None)

    def collect(self) -> list[Entry]:
        """What the journal is to write. What died stands among the moves, and before the rest."""
        dirty, self._dirty = self._dirty, {}
        entries = [entry for ledger, pump in dirty.items() for entry in self.of(pump, ledger)]
        return self._moves.take_news() + entries

    def of(self, pump: Pump, ledger: Ledger) -> list[Entry]:
        """The news of one ledger."""
        retries, bounds = ledger.take_retry_news(), ledger.take_news()
        if pump.stream.partitions[ledger.number].in_memory:
            # Gone with the daemon, as its records are.
            return []
        return list(done_entries(pump.number, ledger.number, bounds, retries))

    def _bury(self, pump: Pump, ledger: Ledger) -> None:
        group = pump.group
        for dead in ledger.take_dead():
            self._context.events.emit(
                "dead_letter",
                f"{group.stream}, group {group.name}: records died ({dead.reason})",
                severity="warning",
                count=dead.end - dead.first,
                stream=group.stream,
                group=group.name,
                reason=dead.reason,
            )
            facts = {
                "reason": dead.reason,
                "group": group.name,
                "attempts": dead.attempts,
                "error": dead.error,
                "first_us": dead.since_us,
                "last_us": self._context.now_us(),
            }
            source = (group.stream, ledger.number, dead.first, dead.end)
            where = (f"{group.stream}{DEAD}", 0)
            self._moves.add(where, "dead", pump.number, source, facts)

    # ------------------------------------------------------------------------------------- time

    async def expire(self) -> int:
        """Let leases run out and retries come due; how many leases are out."""
        now, now_us = trio.current_time(), self._context.now_us()
        leases = 0
        for ledger, pump in list(self.timed.items()):
            leases += len(ledger.leases)
            while ledger.timers and self._expire(pump, ledger, now, now_us):
                await trio.lowlevel.checkpoint()
            if not ledger.timers:
                self.timed.pop(ledger, None)
        return leases

    def _expire(self, pump: Pump, ledger: Ledger, now: float, now_us: int) -> bool:
        """Look after timers of one partition; whether any had come to its time."""
        if ledger not in self.timed:
            # Forgotten while others had a turn.
            return False
        before = ledger.timers
        # One that runs out waits for another try: there are as many timers then.
        if not pump.group.expire(ledger, now, now_us) and ledger.timers == before:
            return False
        self.note(pump, ledger)
        pump.wake()
        return True


def progress_entries(number: int, partition: int, progress: Progress) -> Iterable[Entry]:
    """All that is known of a partition, for a snapshot."""
    yield ["at", number, partition, progress.cursor]
    failed = progress.unfinished() if isinstance(progress, Ledger | KnownProgress) else []
    yield from done_entries(number, partition, progress.done.bounds, failed)
