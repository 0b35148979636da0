"""What one session wants appended: its credit, what waits for a pipeline, its answers.

Rules: what does not fit into a pipeline waits in that pipeline's inbox, which the session's own
credit bounds, and credit is what runs out. So the session's reader never waits for a stage, and a
pipeline that stalls does not hold up what the session has for another. Every append is answered
exactly once, or the session is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio

from streamer.batch import parse
from streamer.errors import (
    BadRequest,
    ConnectionFailed,
    Draining,
    Overloaded,
    StreamerError,
    TooLarge,
)
from streamer.pipeline.runner import Pipeline
from streamer.pipeline.stage import Ack, Append
from streamer.records import Lane, ProducerStamp, Receipt
from streamer.session.outbox import RESULT_BYTES, Outbox
from streamer.session.requests import records_of
from streamer.session.service import Service
from streamer.wire import frames
from streamer.wire.credit import GrantWindow

_LANES = (Lane.NORMAL, Lane.HIGH)


class Appends:
    """Between a session's produce frames and the pipelines. Every method but the task that feeds a
    full pipeline decides at once."""

    def __init__(self, service: Service, outbox: Outbox) -> None:
        self.window = GrantWindow(service.budget.window(service.limits.window_bytes))
        #: What appends under way have charged the budget with, in bytes.
        self.charged = 0
        #: Records that came.
        self.records = 0
        self._service = service
        self._outbox = outbox
        self._tracer = service.inspected.tracer
        self._records_in = service.stats.counter("session_records_in", "records received")
        self._failed = service.stats.counter(
            "appends_failed", "batches and single records that were answered with an error"
        )
        #: Above that, the results of a request might not fit into a frame.
        self._records_max = service.limits.frame_bytes // RESULT_BYTES
        self._inboxes: dict[Pipeline, deque[Append]] = {}
        #: What the last `Trace` frame said: the request that it is about, and its parents.
        self._marks: tuple[int, Sequence[Sequence[Any]]] | None = None
        self._name = ""
        self._over = False
        self._nursery: trio.Nursery

    def begin(self, nursery: trio.Nursery, name: str) -> None:
        """The session has greeted: its tasks run in `nursery`, and `name` is what it says it is."""
        self._nursery, self._name = nursery, name

    def close(self) -> None:
        """The session is over: nobody is answered any more, and what waits is not appended."""
        self._over = True
        self._service.budget.release(self.charged)
        for inbox in self._inboxes.values():
            for append in inbox:
                append.ack.resolve_all(ConnectionFailed("its session ended"))

    def produce(self, frame: frames.Produce, nbytes: int, heard_at: float) -> None:
        """Take in a batch: a frame of `nbytes` that came at `heard_at`."""
        ack = self._accept(frame.request, 1, nbytes)
        if ack.done:
            return
        try:
            batch = parse(frame.batch, self._service.batch_limits)
            self._count(batch.count)
            append = Append(
                frame.stream,
                frame.partition,
                frame.expected,
                _lane(frame.lane),
                ack,
                len(frame.batch),
                heard_at,
                batch=batch,
            )
            self._offer(append, self._take_marks(frame.request))
        except StreamerError as error:
            ack.resolve_all(error)

    def produce_records(self, frame: frames.ProduceRecords, nbytes: int, heard_at: float) -> None:
        """Take in records that are not encoded; as `produce`."""
        ack = self._accept(frame.request, len(frame.records), nbytes)
        if ack.done:
            return
        try:
            if len(frame.records) > self._records_max:
                raise TooLarge(
                    f"request of {len(frame.records)} records, allowed are {self._records_max}"
                )
            records = records_of(frame)
            self._count(len(records))
            stamp = None
            if frame.producer_id:
                stamp = ProducerStamp(frame.producer_id, frame.epoch, frame.sequence)
            append = Append(
                frame.stream,
                frame.partition,
                frame.expected,
                _lane(frame.lane),
                ack,
                nbytes,
                heard_at,
                records=records,
                stamp=stamp,
            )
            self._offer(append)
        except StreamerError as error:
            ack.resolve_all(error)

    def trace(self, frame: frames.Trace) -> None:
        """Note the parents of records of the batch that comes next."""
        self._marks = frame.request, frame.parents

    def grant(self) -> int | None:
        """The credit limit to tell the peer, if it is worth telling."""
        return self.window.limit(self._service.budget.window(self._service.limits.window_bytes))

    def _count(self, records: int) -> None:
        self._records_in.value += records
        self.records += records

    def _accept(self, request: int, outcomes: int, nbytes: int) -> Ack:
        """Count a request against the session's credit; the ack that answers it."""
        self.window.received(nbytes)
        ack = Ack(max(1, outcomes), partial(self._answered, request, nbytes))
        try:
            cost = self._service.budget.charge(nbytes, outcomes)
        except Overloaded as error:
            ack.resolve_all(error)
        else:
            self.charged += cost
            ack.cost = cost
        return ack

    def _answered(self, request: int, nbytes: int, ack: Ack) -> None:
        if self._over:
            return
        self.window.completed(nbytes)
        self.charged -= ack.cost
        self._service.budget.release(ack.cost)
        outcomes = ack.outcomes
        if len(outcomes) > 1 or type(outcomes[0]) is not Receipt:
            for outcome in outcomes:
                if isinstance(outcome, StreamerError):
                    self._failed.value += 1
                    self._service.count_failed(outcome.code)
        self._outbox.answer(request, ack)

    def _take_marks(self, request: int) -> Sequence[Sequence[Any]]:
        """What was said of the batch of a request, right before it."""
        marks, self._marks = self._marks, None
        return marks[1] if marks is not None and marks[0] == request else ()

    def _offer(self, append: Append, marks: Sequence[Sequence[Any]] = ()) -> None:
        if self._service.draining:
            raise Draining("the daemon is going down and takes nothing new")
        pipeline = self._service.pipeline(append.stream)
        self._tracer.begin(append, self._name, marks)
        pipeline.expect(append)
        inbox = self._inboxes.get(pipeline)
        if inbox is not None:
            inbox.append(append)
            return
        try:
            pipeline.offer(append)
        except trio.WouldBlock:
            self._inboxes[pipeline] = deque([append])
            self._nursery.start_soon(self._feed, pipeline)

    async def _feed(self, pipeline: Pipeline) -> None:
        """Hand on what did not fit at once, in order, until nothing is left."""
        inbox = self._inboxes[pipeline]
        while inbox:
            append = inbox[0]
            try:
                await pipeline.send(append)
            except StreamerError as error:
                append.ack.resolve_all(error)
            # Only now, so that what comes meanwhile lines up behind it.
            inbox.popleft()
        del self._inboxes[pipeline]


def _lane(number: int) -> Lane:
    if number >= len(_LANES):
        raise BadRequest(f"lane {number}, known are 0 (normal) and 1 (high)")
    return _LANES[number]
