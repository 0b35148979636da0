"""The requests of one producer to one partition: their order, their sequences, and what becomes
of them when something goes wrong.

Rules:

- Requests go out in the order in which they were filled, and each takes its sequences when it
  goes out: they follow each other without a gap, whatever failed before.
- A failure holds the line: nothing more goes out until everything under way has been answered.
  Then it is decided (`_settle`), in order, what is told to the program and what goes again.
- What may have been appended without our knowing (`uncertain`) keeps its sequences and goes again
  under them until it is answered: the daemon knows it by them. It is never skipped; if it cannot
  be settled in time, its producer ends.
- What was certainly not appended and is not to be tried again leaves no hole: those behind it
  move up.
- What collects while requests are under way goes once it is as much as they are, or they are
  answered. So a lone record goes at once, and many callers group by themselves.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from streamer.client.pending import Pending
from streamer.errors import (
    Aborted,
    BadBatch,
    Fenced,
    OffsetConflict,
    OutcomeUnknown,
    OutOfSequence,
    ProducerUnknown,
    Refused,
    StreamerError,
    TimedOut,
)
from streamer.records import AckLevel, ProducerStamp
from streamer.wire import frames
from streamer.wire.frames import Frame

if TYPE_CHECKING:
    from streamer.client.producer import Producer

#: Refusals that the daemon gives only to what it does not know as a duplicate.
_KNOWN_NEW = (BadBatch, OffsetConflict, OutOfSequence)
_BACKOFF_S = 0.02
_BACKOFF_MAX_S = 1.0


class ConnectionLost(StreamerError):
    """The answer did not come before the connection ended. Never leaves the client."""


#: What these hit may go again at once: they say nothing of the daemon's health.
_NO_WAIT = (ConnectionLost, OutOfSequence, ProducerUnknown)


class Line:
    """One partition's requests. Synchronous: it decides, the link and the tasks do."""

    def __init__(self, producer: Producer, partition: int, producer_id: int, epoch: int) -> None:
        self.producer = producer
        self.stream = producer.stream
        self.partition = partition
        self.producer_id = producer_id
        self.epoch = epoch
        #: Of the next record to go out.
        self.sequence = 0
        #: Sequence and offset of the last record that is known to be committed.
        self.committed: tuple[int, int] | None = None
        self.level = AckLevel.ACCEPTED
        #: Collecting.
        self.open: Pending | None = None
        #: Sealed, and to be sent (again), in order.
        self.ready: deque[Pending] = deque()
        #: Sent over this connection, by request.
        self.in_flight: dict[int, Pending] = {}
        #: Answered with an error, until all that is in flight has been answered.
        self.broken: list[Pending] = []
        #: Records in flight.
        self.under_way = 0
        #: Records in the request that was answered last.
        self.answered_count = 1
        self.listed = False
        self._held_until = 0.0
        self._attempts = 0
        self._timed = False
        self._linger_timed = False

    # ------------------------------------------------------------------------------- sending

    def next_frame(self, request: int) -> tuple[Pending, Frame] | None:
        """The next request that may go out now, stamped; None if there is none."""
        producer = self.producer
        if producer.failure or self.broken or len(self.in_flight) >= producer.in_flight:
            return None
        if self._held_until and trio.current_time() < self._held_until:
            return None
        while True:
            if not self.ready:
                if not self._may_seal():
                    return None
                producer.seal(self)
            pending = self.ready.popleft()
            try:
                frame = self._frame(pending, request)
            except StreamerError as error:
                # It takes no sequence, so those behind it do not notice.
                pending.fail(error)
                continue
            pending.request = request
            self.in_flight[request] = pending
            self.under_way += pending.count
            return pending, frame

    def _may_seal(self) -> bool:
        """Whether what is collecting should wait no longer."""
        pending = self.open
        if pending is None:
            return False
        if pending.linger_until and trio.current_time() < pending.linger_until:
            return False
        if not self.in_flight or self.producer.urgent:
            return True
        return len(pending.values) >= self.under_way

    def _frame(self, pending: Pending, request: int) -> Frame:
        producer, sequence = self.producer, self.sequence
        if pending.uncertain:
            # The daemon knows it, if it does, by the sequences that it went out with.
            sequence = pending.sequence
        stamp = None
        if self.producer_id:
            stamp = ProducerStamp(self.producer_id, self.epoch, sequence)
        frame: Frame
        if pending.count == 1:
            frame = frames.ProduceRecords(
                request,
                self.stream,
                self.partition,
                pending.expected,
                producer.lane_number,
                self.producer_id,
                self.epoch,
                sequence if stamp else 0,
                [pending.row()],
            )
        else:
            batch = pending.encoded(producer.codec, stamp, producer.dictionary_id)
            frame = frames.Produce(
                request,
                self.stream,
                self.partition,
                pending.expected,
                producer.lane_number,
                batch.to_bytes(),
            )
        pending.sequence = sequence
        self.sequence = max(self.sequence, sequence + pending.count)
        return frame

    def activate(self) -> None:
        """Have the link ask for the next frame, if there may be one."""
        if not self.listed and (self.ready or self.open is not None):
            self.producer.link.activate(self)

    @property
    def lone(self) -> bool:
        """Whether a record that comes now has no company, and had none the last time."""
        return self.answered_count == 1 and not (self.in_flight or self.ready or self.listed)

    def unanswered(self) -> list[Pending]:
        """All that is sealed and not done."""
        return [*self.in_flight.values(), *self.broken, *self.ready]

    # ------------------------------------------------------------------------------- answers

    def _answered(self, pending: Pending) -> None:
        if self.in_flight.pop(pending.request, None) is not None:
            self.under_way -= pending.count
            self.answered_count = pending.count

    def acked(self, pending: Pending, offset: int, level: AckLevel) -> None:
        """A request was appended."""
        self._answered(pending)
        self.level = level
        self._attempts = 0
        last = pending.sequence + pending.count - 1
        if offset >= 0 and (self.committed is None or last > self.committed[0]):
            self.committed = (last, offset + pending.count - 1)
        if self.broken and not self.in_flight:
            self._settle()
        elif self.ready or self.open is not None:
            self.activate()

    def refused(self, pending: Pending, error: Exception) -> None:
        """A request was answered with an error."""
        self._answered(pending)
        if pending.done or pending in self.broken:
            return
        pending.error = error
        self.broken.append(pending)
        if not self.in_flight:
            self._settle()

    def lost(self) -> None:
        """The connection ended: nothing that is in flight will be answered."""
        if not self.in_flight:
            return
        for pending in self.in_flight.values():
            if not pending.done:
                pending.error = ConnectionLost("the connection was lost before the answer")
                self.broken.append(pending)
        self.in_flight.clear()
        self.under_way = 0
        if self.broken:
            self._settle()

    # ------------------------------------------------------------------------------ settling

    def _settle(self) -> None:
        """All that was under way has been answered, some of it with errors: decide on those."""
        # They stay in `broken` meanwhile: if the producer ends, it answers them there.
        self.broken.sort(key=_sequence)
        again: list[Pending] = []
        moved = False
        wait = False
        known_as = self.producer_id
        now = trio.current_time()
        for index, pending in enumerate(self.broken):
            error = pending.error
            assert error is not None, "what is broken was answered with an error"
            if moved and self.producer_id:
                # Nothing behind a gap was appended, whatever was feared before.
                pending.uncertain = False
            keep = self._keep(pending, error, first=not index, behind_gap=moved)
            if keep and now >= pending.deadline:
                keep = self._give_up(pending, error)
            elif not keep and self.producer.failure is None:
                pending.fail(error)
            if self.producer.failure is not None:
                return
            if not pending.uncertain and not moved:
                # It was not appended, so its sequences are free for whatever goes out next.
                moved = True
                self.sequence = 0 if self.producer_id != known_as else pending.sequence
            if keep:
                again.append(pending)
                wait = wait or not isinstance(error, _NO_WAIT)
        self.broken = []
        for pending in again:
            if not isinstance(pending.error, _NO_WAIT):
                pending.refusal = pending.error
            pending.error = None
        self.ready.extendleft(reversed(again))
        if wait:
            self._hold(now)
        self.activate()

    def _keep(self, pending: Pending, error: Exception, *, first: bool, behind_gap: bool) -> bool:
        """Whether a request that failed with `error` goes again; takes note if it is uncertain.

        `first`: nothing before it failed with it. `behind_gap`: something before it was
        certainly not appended, so this one was not either.
        """
        if not self.producer_id:
            return self._keep_anonymous(pending, error)
        if isinstance(error, Fenced):
            self.producer.fail(error)
            return False
        if isinstance(error, (OutOfSequence, ProducerUnknown)):
            if first:
                return self._unknown_here(pending, error)
            pending.uncertain = False
            return True
        if not isinstance(error, (Refused, BadBatch)):
            pending.uncertain = not behind_gap
            if pending.accusations > 1 or not _may_pass(error):
                if pending.uncertain:
                    self._outcome_unknown(pending, error)
                return False
            return True
        if isinstance(error, _KNOWN_NEW):
            pending.uncertain = False
        if error_retryable(error):
            return True
        if pending.uncertain:
            # It may be in the log since an earlier connection, and this was not looked at.
            self._outcome_unknown(pending, error)
        return False

    def _keep_anonymous(self, pending: Pending, error: Exception) -> bool:
        """As `_keep`, where the daemon does not know what it has seen before."""
        certain = isinstance(error, (Refused, BadBatch))
        if not certain and not isinstance(error, OutcomeUnknown):
            pending.uncertain = True
        passes = isinstance(error, ConnectionLost) or error.retryable  # type: ignore[attr-defined]
        if passes and pending.accusations < 2:
            return True
        if pending.uncertain:
            self._outcome_unknown(pending, error)
        return False

    def _unknown_here(self, pending: Pending, error: Exception) -> bool:
        """The partition does not remember what this producer has been told is committed.

        A producer that is too old to be remembered goes on as a new one, and so does one whose
        last records were only ever in memory. Everything else is a loss, and is said.
        """
        forgotten = isinstance(error, ProducerUnknown) and not pending.uncertain
        promised = self.level is not AckLevel.ACCEPTED or self.committed is None
        if self.producer.name is None and (forgotten or not promised):
            self.producer_id = self.producer.new_id()
            pending.uncertain = False
            return True
        if isinstance(error, ProducerUnknown) and pending.uncertain:
            self._outcome_unknown(pending, error)
        else:
            self.producer.fail(error)
        return False

    def _give_up(self, pending: Pending, error: Exception) -> bool:
        """Its time is over; it does not go again."""
        if pending.uncertain:
            self._outcome_unknown(pending, error)
        else:
            pending.fail(error)
        return False

    def _outcome_unknown(self, pending: Pending, error: Exception) -> None:
        """Nobody will know about this request, so nothing can follow it: the producer ends.

        Without idempotence nothing depends on it, unless it still takes up the connection.
        """
        unknown = OutcomeUnknown(
            f"{pending.count} records from sequence {pending.sequence} of partition "
            f"{self.partition} on may have been appended or not: {error}"
        )
        unknown.__cause__ = error
        pending.fail(unknown)
        if self.producer_id or pending.request in self.in_flight:
            self.producer.fail(unknown)

    def _hold(self, now: float) -> None:
        """Send nothing for a while: what failed may do better then."""
        link = self.producer.link
        delay = min(_BACKOFF_MAX_S, _BACKOFF_S * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 30)
        self._held_until = now + delay * (0.5 + link.rng.random() / 2)
        link.timers.at(self._held_until, self._resume)

    def _resume(self) -> None:
        if trio.current_time() >= self._held_until:
            self._held_until = 0.0
            self.activate()

    # ----------------------------------------------------------------------------- deadlines

    def watch(self, deadline: float) -> None:
        """See to it that what is not answered by its deadline is given up."""
        if not self._timed:
            self._timed = True
            self.producer.link.timers.at(deadline, self._look)

    def watch_linger(self, until: float) -> None:
        """See to it that what collects goes out once it has lingered."""
        if not self._linger_timed:
            self._linger_timed = True
            self.producer.link.timers.at(until, self._lingered)

    def _lingered(self) -> None:
        self._linger_timed = False
        if self.open is not None and self.open.linger_until > trio.current_time():
            self.watch_linger(self.open.linger_until)
        else:
            self.activate()

    def _look(self) -> None:
        self._timed = False
        now = trio.current_time()
        if self.producer.failure is not None:
            return
        oldest = min(self.in_flight.values(), key=_deadline, default=None)
        if oldest is not None and oldest.deadline <= now:
            self._outcome_unknown(
                oldest, TimedOut(f"no answer within {self.producer.delivery_timeout_s} s")
            )
            return
        if self.open is not None and self.open.deadline <= now:
            self.producer.seal(self)
        while not self.in_flight and self.ready and self.ready[0].deadline <= now:
            pending = self.ready.popleft()
            late = TimedOut(f"could not be sent within {self.producer.delivery_timeout_s} s")
            self._give_up(pending, pending.refusal or late)
            if self.producer.failure is not None:
                return
        left = [p.deadline for p in self.unanswered()]
        if self.open is not None:
            left.append(self.open.deadline)
        if left:
            self.watch(max(min(left), now + _BACKOFF_S))

    def failed(self, error: Exception) -> None:
        """There will be no connection any more."""
        self.producer.fail(error)

    def abandon(self, error: Exception) -> None:
        """Answer all with `error`; what may have been appended is told so."""
        if self.open is not None:
            self.producer.seal(self)
        left = self.unanswered()
        sent = set(map(id, self.in_flight.values()))
        self.ready.clear()
        self.broken = []
        for pending in left:
            answer = pending.error
            known = answer is None or isinstance(answer, (Refused, BadBatch))
            if pending.uncertain or id(pending) in sent or not known:
                unknown = OutcomeUnknown(f"not answered, it may have been appended: {error}")
                unknown.__cause__ = error
                pending.fail(unknown)
            elif isinstance(error, OutcomeUnknown):
                pending.fail(Aborted(f"not sent, as one before it is not settled: {error}"))
            else:
                pending.fail(error)


def error_retryable(error: Exception) -> bool:
    """Refused for certain, and worth another try."""
    return isinstance(error, Refused) and error.retryable


def _may_pass(error: Exception) -> bool:
    """Whether what says nothing of the records may be another thing the next time."""
    return type(error) is not StreamerError


def _sequence(pending: Pending) -> int:
    return pending.sequence


def _deadline(pending: Pending) -> float:
    return pending.deadline
