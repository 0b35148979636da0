"""Credit: how many bytes a peer may send, counted from the session's (or subscription's) start.

Rules: a limit is cumulative and never falls, so a lost or repeated one does no harm and neither
side keeps a difference. A frame may be sent while less than the limit is used: the last one may
go over it, so that a frame larger than the window still passes. Hence a receiver holds at most
its window and one frame.
"""

from __future__ import annotations

from streamer.errors import CreditExceeded

__all__ = ["GrantWindow", "SendWindow"]

#: A new limit is told once it adds this part of the window: few frames, and never a stop.
_WORTH_TELLING = 4


class SendWindow:
    """The sender's side. `limit` and `used` are bytes since the start."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = 0

    @property
    def open(self) -> bool:
        """Whether a frame, of any allowed size, may be sent now."""
        return self.used < self.limit

    def raise_limit(self, limit: int) -> None:
        """Take a limit that the peer told; one that is not higher (0, too) changes nothing."""
        self.limit = max(self.limit, limit)

    def spend(self, nbytes: int) -> None:
        """Count a frame that is being sent; ask `open` first."""
        assert self.open, "sent without credit"
        self.used += nbytes


class GrantWindow:
    """The receiver's side: what was granted, what came, and what of it is done with.

    `window_bytes` is the first grant, which the peer learns when the session (or subscription)
    begins.
    """

    def __init__(self, window_bytes: int) -> None:
        self.granted = window_bytes
        self.used = 0
        self.done = 0

    @property
    def under_way(self) -> int:
        """Bytes that came and are not done with."""
        return self.used - self.done

    def received(self, nbytes: int) -> None:
        """Count a frame that came.

        Raises:
            CreditExceeded: it came although all that was granted had been used.
        """
        if self.used >= self.granted:
            raise CreditExceeded(f"{self.used} bytes used, granted were {self.granted}")
        self.used += nbytes

    def completed(self, nbytes: int) -> None:
        """Count bytes of frames that came and no longer take room."""
        self.done += nbytes
        assert self.done <= self.used, "completed more than was received"

    def limit(self, window_now: int) -> int | None:
        """The limit to tell the peer, or None while it is not worth a frame.

        `window_now` is how many bytes may be under way from here on; it may change from call to
        call, and 0 grants nothing. A peer that has used up its grant is told as soon as all that
        it sent is done with, whatever the window.
        """
        limit = self.done + window_now
        more = limit - self.granted
        if more <= 0 or more * _WORTH_TELLING < window_now:
            return None
        self.granted = limit
        return limit
