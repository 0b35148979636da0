"""Dead letters, in a companion STREAM.dead: which are open, and what becomes of them."""

from __future__ import annotations

from typing import Any

import trio

from streamer import BadRequest, DeliverContext, Stream
from streamer.groups.letters import facts_of
from streamer.groups.progress import Progress
from streamer.groups.ranges import Ranges, pairs, size
from streamer.names import DEAD
from streamer_plugins.deliver.journal import Journal
from streamer_plugins.deliver.moves import Moves

#: Records of one request.
RECORDS_MAX = 10_000
#: How long a request waits for what it had moved.
_APPENDED_S = 10.0


class Letterbox:
    """One companion stream; a letter that was redriven or purged is done in its progress."""

    def __init__(
        self,
        number: int,
        stream: Stream,
        progress: Progress,
        context: DeliverContext,
        journal: Journal,
        moves: Moves,
    ) -> None:
        self.number = number
        self.stream = stream
        self.progress = progress
        self._context = context
        self._journal = journal
        self._moves = moves

    @property
    def open(self) -> list[int]:
        """The bounds of what is neither redriven nor purged."""
        partition, progress = self.stream.partitions[0], self.progress
        first = max(progress.cursor, partition.log.first_offset)
        if first >= partition.high_water:
            return []
        return progress.done.missing(first, partition.high_water)

    def _chosen(self, bounds: list[int]) -> Ranges:
        """Those of the named letters that are open."""
        if size(bounds) > RECORDS_MAX:
            raise BadRequest(f"{size(bounds)} dead letters, allowed are {RECORDS_MAX} a request")
        there, chosen = Ranges(self.open), Ranges()
        for first, end in pairs(bounds):
            for begin, stop in pairs(there.overlap(first, end)):
                chosen.add(begin, stop)
        return chosen

    async def redrive(self, bounds: list[int]) -> dict[str, Any]:
        """Append letters to where they came from again. It is durable that they will be; where
        they can be now, they are.

        Raises:
            BadRequest: too many.
        """
        target = await self._context.streams.ensure(self.stream.name.removesuffix(DEAD))
        # Read first: between looking what is open and taking it nothing may come.
        found = await self._moves.read(self.stream.name, 0, self._chosen(bounds))
        redriven = 0
        for first, end in self._chosen(bounds):
            for offset in range(first, end):
                record = found.get(offset)
                facts = None if record is None else facts_of(record)
                number = 0 if facts is None else facts.partition
                if number >= len(target.partitions):
                    number = 0
                self.progress.finish(offset, offset + 1, told=True)
                source = (self.stream.name, 0, offset, offset + 1)
                self._moves.add((target.name, number), "revive", self.number, source, {})
                redriven += 1
        await self._journal.durable()
        with trio.move_on_after(_APPENDED_S):
            await self._moves.settled(self.stream.name)
        return {"redriven": redriven}

    async def purge(self, bounds: list[int]) -> dict[str, Any]:
        """Have letters gone for good.

        Raises:
            BadRequest: too many.
        """
        chosen = self._chosen(bounds)
        for first, end in chosen:
            self._journal.add(["done", self.number, 0, [first, end], []])
            self.progress.finish(first, end, told=True)
        await self._journal.durable()
        return {"purged": chosen.count}
