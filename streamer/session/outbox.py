"""What a session has to say, until its writer says it: coalesced, and bounded.

Acks of many requests become one frame, and its bytes are made when the writer is ready for them:
the slower the peer, the fewer frames. Acks and replies are bounded by the requests that a session
may have under way; deliveries wait for `room`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from streamer.errors import StreamerError
from streamer.pipeline.stage import Ack
from streamer.pipeline.wakeup import Wakeup
from streamer.records import AckLevel, Receipt
from streamer.wire import frames
from streamer.wire.frames import Frame

_LEVELS = {level: number for number, level in enumerate(AckLevel)}
#: Entries in one Acks frame; keeps it far below the frame limit.
_ACKS_MAX = 4096


class Outbox:
    """Frames to send, acks to put into frames, and the task that waits for either."""

    def __init__(self, bytes_max: int) -> None:
        self._frames: deque[tuple[Frame, int]] = deque()
        self._answers: deque[tuple[int, Ack]] = deque()
        self._bytes_max = bytes_max
        self.bytes = 0
        self._waiting = Wakeup()
        self._room = trio.lowlevel.ParkingLot()
        self._closing = False
        #: Of many pings that wait for an answer the last one is answered: one frame at most.
        self._pong: int | None = None

    def put(self, frame: Frame, nbytes: int = 0) -> None:
        """Queue a frame; `nbytes` counts against the bound that `room` waits for."""
        self._frames.append((frame, nbytes))
        self.bytes += nbytes
        self._waiting.wake()

    def pong(self, token: int) -> None:
        """Queue the answer to a ping."""
        self._pong = token
        self._waiting.wake()

    def answer(self, request: int, ack: Ack) -> None:
        """Queue the outcomes of a request."""
        self._answers.append((request, ack))
        self._waiting.wake()

    def finish(self) -> None:
        """Nothing more will come: `take` ends once all is taken."""
        self._closing = True
        self._waiting.wake()

    async def room(self) -> None:
        """Wait until a delivery may be queued."""
        while self.bytes >= self._bytes_max:
            await self._room.park()

    async def take(self, grant: Callable[[], int | None]) -> list[Frame] | None:
        """All that is to be sent now; None when there will be nothing more.

        `grant` gives the credit limit to tell with the answers, if it is worth telling.
        """
        while not self._frames and not self._answers and self._pong is None:
            if self._closing:
                return None
            await self._waiting.wait()
        ready = self._answer_frames(grant()) if self._answers else []
        if self._pong is not None:
            ready.append(frames.Pong(self._pong))
            self._pong = None
        while self._frames:
            frame, nbytes = self._frames.popleft()
            ready.append(frame)
            self.bytes -= nbytes
        if self._room:
            self._room.unpark_all()
        return ready

    def _answer_frames(self, limit: int | None) -> list[Frame]:
        ready: list[Frame] = []
        if limit is not None:
            ready.append(frames.Credit(limit))
        acks: list[list[int]] = []
        while self._answers:
            request, ack = self._answers.popleft()
            outcomes = ack.outcomes
            first = outcomes[0]
            if len(outcomes) == 1 and type(first) is Receipt:
                acks.append(_ack_entry(request, first, first.count))
            elif len(outcomes) == 1:
                assert isinstance(first, StreamerError)
                ready.append(failed(request, first))
            else:
                whole = _contiguous(ack)
                if whole is not None:
                    acks.append(_ack_entry(request, whole, len(outcomes)))
                else:
                    results = [_result(outcome) for outcome in outcomes]
                    ready.append(frames.Results(0, request, results))
            if len(acks) >= _ACKS_MAX:
                ready.append(frames.Acks(0, acks))
                acks = []
        if acks and ready and type(ready[0]) is frames.Credit:
            # The usual case: one frame says both.
            ready[0] = frames.Acks(ready[0].limit, acks)
        elif acks:
            ready.append(frames.Acks(0, acks))
        return ready


def failed(request: int | None, error: StreamerError) -> frames.Failed:
    """The frame that tells of an error; `request` None for the session's own."""
    return frames.Failed(
        request, error.code, error.message, error.retryable, error.fatal, error.detail
    )


def _ack_entry(request: int, receipt: Receipt, count: int) -> list[int]:
    return [
        request,
        receipt.partition,
        receipt.offset,
        count,
        _LEVELS[receipt.level],
        int(receipt.duplicate),
    ]


def _contiguous(ack: Ack) -> Receipt | None:
    """The first receipt, if all outcomes are receipts that follow each other."""
    first = ack.outcomes[0]
    if type(first) is not Receipt or first.offset < 0:
        return None
    for index, outcome in enumerate(ack.outcomes):
        if (
            type(outcome) is not Receipt
            or outcome.partition != first.partition
            or outcome.offset != first.offset + index
            or outcome.duplicate is not first.duplicate
        ):
            return None
    return first


def _result(outcome: object) -> list[object]:
    if type(outcome) is Receipt:
        entry = _ack_entry(0, outcome, 1)
        return [entry[1], entry[2], entry[4], entry[5]]
    assert isinstance(outcome, StreamerError)
    return [outcome.code, outcome.message, outcome.retryable, outcome.detail]
