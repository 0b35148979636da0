"""The reader: batches of one partition, in order, from a position on.

Rules:

- It asks for a window of bytes and gives back what the program is done with, so what waits here
  is bounded by the window and one frame. A batch is done with when the next one is asked for.
- It knows its position, so after a reconnect it goes on at exactly the next record; what was
  waiting here then is dropped, and comes again.
- A batch is checked when it is handed out, and decompressed when its records are asked for.
- Offsets follow each other: a gap is an error, never passed over in silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal, Self

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from streamer.batch import Batch, Codec, parse_placed, read_header
from streamer.client.link import Link
from streamer.client.received import ReceivedBatch
from streamer.client.requests import Request, fresh
from streamer.errors import (
    BadRequest,
    OffsetOutOfRange,
    RemoteProtocolError,
    StreamerError,
)
from streamer.limits import MIB, OFFSET_MAX
from streamer.wire import frames
from streamer.wire.credit import GrantWindow
from streamer.wire.frames import Frame, Start

__all__ = ["Position", "Reader", "ReceivedBatch", "start_of"]

#: Where to begin: an offset, a time, or one end of the log.
Position = Literal["earliest", "latest"] | int | datetime

#: Batches that are handed out without letting other tasks run.
_BATCHES_IN_A_ROW = 16
_RETRY_S = 0.1


class _Subscribing(Request):
    """The answer to a Subscribe frame: from where, or why not."""

    __slots__ = ("number", "reader")

    def __init__(self, reader: Reader, number: int) -> None:
        self.reader = reader
        self.number = number

    def answered(self, frame: Frame) -> None:
        self.reader.subscribed(self.number, frame)

    def refused(self, error: StreamerError) -> None:
        self.reader.not_subscribed(self.number, error)

    def lost(self) -> None:
        """The reader subscribes again by itself."""

    def accused(self, error: StreamerError) -> None:
        self.reader.accused(self.number, error)


class Reader:
    """Made by `Client.reader`. An async iterator of `ReceivedBatch`, for one task at a time."""

    def __init__(
        self,
        link: Link,
        codec: Codec,
        fetch_dictionary: Callable[[int], Awaitable[None]],
        stream: str,
        partition: int,
        start: Position,
        *,
        follow: bool,
        credit_bytes: int = 4 * MIB,
    ) -> None:
        self.stream = stream
        self.partition = partition
        #: The partition's high-water mark, as last told.
        self.high_water = 0
        self._link = link
        self._codec = codec
        self._fetch_dictionary = fetch_dictionary
        self._start, self._start_value = start_of(start)
        self._from_us = self._start_value if self._start is Start.TIME else None
        self._follow = follow
        self._credit_bytes = credit_bytes
        #: The next offset to hand out; None until the daemon has said where it begins.
        self._position: int | None = None
        self._end: int | None = None
        self._number = 0
        self._window = GrantWindow(credit_bytes)
        self._blobs: deque[frames.Deliver] = deque()
        self._blob_at = 0
        self._handed_out = 0
        self._in_a_row = 0
        self._error: Exception | None = None
        self._retry = False
        self._accusations = 0
        self._closed = False
        self._task: Task | None = None

    # -------------------------------------------------------------------------------- public

    @property
    def position(self) -> int | None:
        """The next offset that will be handed out; None until it is known."""
        return self._position

    @property
    def lag(self) -> int:
        """How many records there are that have not been handed out, as far as is known."""
        return 0 if self._position is None else max(0, self.high_water - self._position)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedBatch:
        """The next batch. Cancelled, none was taken.

        Raises:
            PartitionDamaged: the records from `detail["first"]` to before `detail["next"]` are
                damaged: `seek(detail["next"])` goes on behind them.
            OffsetOutOfRange: the position is not kept any more, or not there yet.
            StreamerError: why there is nothing more; `ConnectionFailed` among others.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._give_back()
        while True:
            if self._ended():
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            if not self._blobs:
                self._in_a_row = 0
                await self._wait()
                continue
            if self._in_a_row >= _BATCHES_IN_A_ROW:
                self._in_a_row = 0
                await trio.lowlevel.checkpoint()
                continue
            batch = self._peek()
            dictionary_id = batch.header.dictionary_id
            if dictionary_id and dictionary_id not in self._codec.dictionaries:
                await self._fetch_dictionary(dictionary_id)
                continue
            received = self._take(batch)
            if received is not None:
                self._in_a_row += 1
                return received

    def seek(self, offset: int) -> None:
        """Go on at `offset`, also after an error.

        Raises:
            BadRequest: it is no offset.
            ConnectionFailed: there is no connection any more.
        """
        self._start, self._start_value = start_of(offset)
        self._check()
        self._from_us = None
        self._link.drop_subscription(self._number)
        self._number = 0
        self._blobs.clear()
        self._blob_at = self._handed_out = 0
        self._position = offset
        self._error = None
        self._accusations = 0
        if self._link.connected:
            self.connected()

    def close(self) -> None:
        """Have no more delivered."""
        self._closed = True
        self._link.unsubscribe(self, self._number)
        self._blobs.clear()
        self._wake()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this reader is closed")
        self._link.check()

    async def opened(self) -> None:
        """Wait until the daemon has said where it begins.

        Raises:
            StreamerError: why it cannot.
        """
        while self._position is None:
            await self._wait()

    # --------------------------------------------------------------------------- handing out

    def _ended(self) -> bool:
        return self._end is not None and self._position is not None and self._position >= self._end

    def _peek(self) -> Batch:
        """The next batch that came, whole and checked; it is not taken yet."""
        blob, at = self._blobs[0].batches, self._blob_at
        limits = self._codec.limits
        end = at + read_header(blob, limits, at).length
        return parse_placed(memoryview(blob)[at:end], limits)

    def _take(self, batch: Batch) -> ReceivedBatch | None:
        """Take what `_peek` gave; None if all of it is before the position."""
        header, frame = batch.header, self._blobs[0]
        self._blob_at += header.length
        if self._blob_at >= len(frame.batches):
            self._blobs.popleft()
            self._blob_at = 0
        self._handed_out += header.length
        position = self._position
        assert position is not None, "nothing is delivered before it is said from where"
        if header.base_offset > position:
            raise OffsetOutOfRange(
                f"offsets {position} to {header.base_offset - 1} were not delivered",
                first=position,
                next=header.base_offset,
            )
        skip = position - header.base_offset
        received = ReceivedBatch(
            self.stream, self.partition, batch, 0, frame.high_water, self._codec
        )
        if self._from_us is not None:
            skip = max(skip, self._before(received, self._from_us))
        if skip >= header.count:
            self._position = max(position, header.next_offset)
            self._give_back()
            return None
        received._skip = skip
        self._from_us = None
        self._position = header.next_offset
        return received

    def _before(self, received: ReceivedBatch, from_us: int) -> int:
        """How many records at the front of a batch are from before a time."""
        header = received.header
        if header.base_timestamp_us >= from_us:
            return 0
        deltas = received._decoded().timestamp_deltas_us or [0] * header.count
        earliest = from_us - header.base_timestamp_us
        return next((n for n, delta in enumerate(deltas) if delta >= earliest), header.count)

    def _give_back(self) -> None:
        """What was handed out is done with: let the daemon send as much again."""
        if self._handed_out:
            self._window.completed(self._handed_out)
            self._handed_out = 0
            limit = self._window.limit(self._credit_bytes)
            if limit is not None:
                self._link.grant(self._number, limit)

    async def _wait(self) -> None:
        """Wait until something may have come, or raise what is wrong."""
        self._check()
        if self._error is not None:
            raise fresh(self._error)
        if self._retry:
            await trio.sleep(_RETRY_S)
            if self._retry and self._link.connected:
                self.connected()
            return
        assert self._task is None, "two tasks iterate over one reader"
        self._task = trio.lowlevel.current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._task = None
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    # --------------------------------------------------------------------- called by the link

    def connected(self) -> None:
        """There is a connection: subscribe where it stands."""
        self._retry = False
        if self._error is not None:
            return
        self._blobs.clear()
        self._blob_at = self._handed_out = 0
        self._window = GrantWindow(self._credit_bytes)
        start, value = self._start, self._start_value
        if self._position is not None:
            start, value = Start.OFFSET, self._position
        self._number = self._link.next_number()
        request = self._link.next_number()
        frame = frames.Subscribe(
            request,
            self._number,
            self.stream,
            self.partition,
            start,
            value,
            self._credit_bytes,
        )
        self._link.open_subscription(self, _Subscribing(self, self._number), frame)

    def subscribed(self, number: int, frame: Frame) -> None:
        """The daemon says from where on it delivers."""
        if number != self._number:
            return
        told = frame.result if isinstance(frame, frames.Reply) else None
        if not isinstance(told, dict) or not {"offset", "high_water"} <= told.keys():
            raise RemoteProtocolError("the answer to a subscription does not say from where")
        self._accusations = 0
        self.high_water = told["high_water"]
        if self._position is None:
            self._position = told["offset"]
        if self._end is None and not self._follow:
            self._end = self.high_water
        self._wake()

    def not_subscribed(self, number: int, error: StreamerError) -> None:
        if number == self._number:
            self._link.drop_subscription(number)
            self.ended(error)

    def accused(self, number: int, error: StreamerError) -> None:
        """The daemon ended the session while it was asked to subscribe: once is let pass."""
        self._accusations += 1
        if self._accusations > 1:
            self.not_subscribed(number, error)

    def delivered(self, frame: frames.Deliver) -> None:
        if frame.subscription != self._number:
            return
        self._window.received(len(frame.batches))
        self.high_water = frame.high_water
        if frame.batches:
            self._blobs.append(frame)
            self._wake()

    def ended(self, error: StreamerError) -> None:
        """The daemon ended the subscription; what came before is still handed out."""
        if error.retryable:
            self._retry = True
        else:
            self._error = error
        self._wake()

    def failed(self, error: Exception) -> None:
        """There will be no connection any more."""
        self._wake()


def start_of(position: Position) -> tuple[Start, int]:
    """The position as a Subscribe frame has it.

    Raises:
        BadRequest: it is none.
    """
    if position == "earliest":
        return Start.EARLIEST, 0
    if position == "latest":
        return Start.LATEST, 0
    if isinstance(position, datetime):
        if position.tzinfo is None:
            raise BadRequest(f"start {position.isoformat()} has no time zone")
        return Start.TIME, max(0, round(position.timestamp() * 1_000_000))
    if type(position) is int and 0 <= position <= OFFSET_MAX:
        return Start.OFFSET, position
    raise BadRequest(
        f"start {position!r}, it must be 'earliest', 'latest', an offset or a datetime"
    )
