"""The streams beside streams: STREAM.dead and STREAM.delayed, each with a progress of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from streamer import DeliverContext, Stream, names
from streamer.groups.journal import Entry, group_entry
from streamer.groups.progress import Progress
from streamer.groups.settings import GroupSettings
from streamer_plugins.deliver.delayed import Delayed
from streamer_plugins.deliver.journal import Journal
from streamer_plugins.deliver.letterbox import Letterbox
from streamer_plugins.deliver.moves import Moves
from streamer_plugins.deliver.news import progress_entries

#: In the settings of the daemon's own streams: who holds them.
HOLD = "$streamer"
#: In the journal they are groups of these names, which no group can have.
_DEAD, _DELAYED = "$dead", "$delayed"
NAMES = (_DEAD, _DELAYED)


class Companions:
    """All of them. `new_number` gives the next number of a group in the journal."""

    def __init__(
        self,
        context: DeliverContext,
        nursery: trio.Nursery,
        journal: Journal,
        moves: Moves,
        *,
        new_number: Callable[[], int],
        entries_max: int,
    ) -> None:
        self.letterboxes: dict[str, Letterbox] = {}
        self.delayed: dict[str, Delayed] = {}
        self._context = context
        self._nursery = nursery
        self._journal = journal
        self._moves = moves
        self._new_number = new_number
        self._entries_max = entries_max

    def opened(self, stream: Stream) -> None:
        """A stream is there: one of ours is looked after from now on."""
        name = stream.name
        if name.endswith(names.DEAD) and name not in self.letterboxes:
            self._make(stream, _DEAD)
        elif name.endswith(names.DELAYED) and name not in self.delayed:
            self._make(stream, _DELAYED)

    def _make(self, stream: Stream, name: str) -> None:
        number = self._new_number()
        self._journal.add(_entry(number, stream, name))
        self.load(stream, name, number, Progress())

    def load(self, stream: Stream, name: str, number: int, known: Progress) -> None:
        """One as the journal has it."""
        progress = Progress(known.cursor)
        progress.done = known.done.copy()
        stream.holders[HOLD] = lambda _: self._needed(stream.name, progress)
        if name == _DEAD:
            self.letterboxes[stream.name] = Letterbox(
                number, stream, progress, self._context, self._journal, self._moves
            )
            return
        found = self.delayed[stream.name] = Delayed(
            number, stream, progress, self._context, self._moves, self._entries_max
        )
        self._context.stats.gauge(
            "delayed_waiting",
            "records that wait for their time",
            lambda: found.index.waiting,
            stream=stream.name,
        )
        self._nursery.start_soon(found.run)

    def _needed(self, stream: str, progress: Progress) -> int:
        """The lowest offset that is still to be read."""
        return min(progress.cursor, self._moves.lowest(stream, 0, progress.cursor))

    def snapshot(self) -> Iterable[Entry]:
        """Entries that make them anew."""
        for name, of_kind in ((_DEAD, self.letterboxes), (_DELAYED, self.delayed)):
            for own in of_kind.values():
                yield _entry(own.number, own.stream, name)
                yield from progress_entries(own.number, 0, own.progress)

    def close(self) -> None:
        for found in self.delayed.values():
            found.close()


def _entry(number: int, stream: Stream, name: str) -> Entry:
    return group_entry(number, stream.name, name, GroupSettings(), False)
