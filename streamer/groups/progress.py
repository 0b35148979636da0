"""What of one partition is done: all below the cursor, and ranges above it."""

from __future__ import annotations

from streamer.groups.ranges import Ranges


class Progress:
    """The done offsets of one reader of one partition, and which of them are news.

    News are what the journal has not been given yet; `take_news` gives them, and a crash before
    they are durable loses them: what they were is delivered again.
    """

    def __init__(self, cursor: int = 0) -> None:
        #: The lowest offset that is not done.
        self.cursor = cursor
        #: Done above the cursor.
        self.done = Ranges()
        self._news = Ranges()

    def finish(self, first: int, end: int, *, told: bool = False) -> int:
        """[first, end) is done; how many of it were not yet. `told`: the journal knows it from
        elsewhere (a move of the same records), so it is no news."""
        if not told:
            self._news.add(first, end)
        first = max(first, self.cursor)
        if first >= end:
            return 0
        done = self.done
        if first == self.cursor and not done:
            self.cursor = end
            return end - first
        new = done.add(first, end)
        if done.bounds[0] <= self.cursor:
            self.cursor = done.bounds[1]
            del done.bounds[:2]
        return new

    def is_done(self, offset: int) -> bool:
        return offset < self.cursor or offset in self.done

    def take_news(self) -> list[int]:
        """The bounds of what was done since they were last taken."""
        news, self._news = self._news, Ranges()
        return news.bounds
