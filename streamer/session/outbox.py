"""What a session has to say, until its writer says it: coalesced, and bounded.

Acks of many requests become one frame, and its bytes are made when the writer is ready for them:
the slower the peer, the fewer frames. What bounds it: a request is under way until the writer
takes its answer, so answers are as many as requests may be; and whatever carries batches waits
for `room` before it is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import trio

from streamer.errors import StreamerError
from streamer.limits import KIB
from streamer.pipeline.stage import Ack
from streamer.pipeline.wakeup import Wakeup
from streamer.records import AckLevel, Receipt
from streamer.wire import frames
from streamer.wire.frames import Frame

_LEVELS = {level: number for number, level in enumerate(AckLevel)}
#: Entries in one Acks frame, where frames are large enough for so many.
_ACKS_MAX = 4096
#: The most that an entry of an Acks frame takes.
_ACK_BYTES = 32
#: What a record takes of a Results frame, at the least: its place, or a code and a word.
RESULT_BYTES = 48
#: What an error takes of that besides its message and detail: the longest code, and CBOR heads.
_ERROR_BYTES = 32
#: Some messages repeat what a peer has sent.
_MESSAGE_CHARS_MAX = 2000
#: What a frame takes besides its entries.
_ENVELOPE_BYTES = 64
#: Frames with batches are taken until they come to this: a write holds it and one frame more.
_TAKE_BYTES = 256 * KIB


class Outbox:
    """Frames to send, acks to put into frames, and the task that waits for either."""

    def __init__(
        self, bytes_max: Callable[[], int], frame_bytes: int, taken: Callable[[int], None]
    ) -> None:
        """`taken(request)` is called when the writer takes the answer to a request."""
        self._frames: deque[tuple[Frame, int, int | None]] = deque()
        self._answers: deque[tuple[int, Ack]] = deque()
        self._bytes_max = bytes_max
        self._frame_bytes = frame_bytes
        self._acks_max = min(_ACKS_MAX, (frame_bytes - _ENVELOPE_BYTES) // _ACK_BYTES)
        self._taken = taken
        self.bytes = 0
        #: Of them, what is kept free for answers that are being made.
        self.reserved = 0
        self._waiting = Wakeup()
        self._room = trio.lowlevel.ParkingLot()
        #: Called when there is room again.
        self.on_room: Callable[[], None] | None = None
        self._closing = False
        #: The last words are queued, or said: what comes after them is dropped.
        self._over = False
        #: Of many pings that wait for an answer the last one is answered: one frame at most.
        self._pong: int | None = None

    def put(self, frame: Frame, nbytes: int = 0, request: int | None = None) -> None:
        """Queue a frame, the answer to `request` if it is one; `nbytes` counts against the bound
        that `room` waits for."""
        if self._over:
            return
        self._frames.append((frame, nbytes, request))
        self.bytes += nbytes
        self._waiting.wake()

    def pong(self, token: int) -> None:
        """Queue the answer to a ping."""
        if self._over:
            return
        self._pong = token
        self._waiting.wake()

    def answer(self, request: int, ack: Ack) -> None:
        """Queue the outcomes of a request."""
        if self._over:
            return
        self._answers.append((request, ack))
        self._waiting.wake()

    def finish(self) -> None:
        """Nothing more will come: `take` ends once all is taken."""
        self._closing = True
        self._waiting.wake()

    def end_with(self, frame: Frame) -> None:
        """Say only this, whatever was queued, and nothing after it."""
        self._frames.clear()
        self._answers.clear()
        self._pong = None
        self.put(frame)
        self._over = True
        self.finish()

    @property
    def has_room(self) -> bool:
        """Whether `room` would not wait."""
        return self.bytes < self._bytes_max()

    @asynccontextmanager
    async def room(self, nbytes: int) -> AsyncGenerator[None, None]:
        """Wait until there is room, and take `nbytes` of it for as long as the block lasts: for
        what is about to be read, and queued right after."""
        while self.bytes >= self._bytes_max():
            await self._room.park()
        self.bytes += nbytes
        self.reserved += nbytes
        try:
            yield
        finally:
            self.bytes -= nbytes
            self.reserved -= nbytes
            self._room.unpark_all()

    async def take(self, grant: Callable[[], int | None]) -> list[Frame] | None:
        """What is to be sent now; None when there will be nothing more.

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
        taken = 0
        while self._frames and taken < _TAKE_BYTES:
            frame, nbytes, request = self._frames.popleft()
            ready.append(frame)
            taken += nbytes
            if request is not None:
                self._taken(request)
        self.bytes -= taken
        if self._room:
            self._room.unpark_all()
        if taken and self.on_room is not None:
            self.on_room()
        return ready

    def _answer_frames(self, limit: int | None) -> list[Frame]:
        ready: list[Frame] = []
        if limit is not None:
            ready.append(frames.Credit(limit))
        acks: list[list[int]] = []
        while self._answers:
            request, ack = self._answers.popleft()
            self._taken(request)
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
                elif all(outcome is first for outcome in outcomes):
                    assert isinstance(first, StreamerError)
                    ready.append(failed(request, first))
                else:
                    room = (self._frame_bytes - _ENVELOPE_BYTES) // len(outcomes)
                    results = [_result(outcome, room) for outcome in outcomes]
                    ready.append(frames.Results(0, request, results))
            if len(acks) >= self._acks_max:
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
    message = error.message[:_MESSAGE_CHARS_MAX]
    return frames.Failed(request, error.code, message, error.retryable, error.fatal, error.detail)


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


def _result(outcome: object, room: int) -> list[object]:
    """The entry of one record, in at most `room` bytes: an error leaves out what it must."""
    if type(outcome) is Receipt:
        entry = _ack_entry(0, outcome, 1)
        return [entry[1], entry[2], entry[4], entry[5]]
    assert isinstance(outcome, StreamerError)
    message, detail = outcome.message[:_MESSAGE_CHARS_MAX], outcome.detail
    room -= _ERROR_BYTES
    if len(message) * 4 + len(repr(detail)) * 4 > room:
        detail = {}
        message = message.encode()[: max(0, room)].decode(errors="ignore")
    return [outcome.code, message, outcome.retryable, detail]
