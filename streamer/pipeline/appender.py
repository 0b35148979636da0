"""Appends that the daemon makes itself, through the same stages as everybody's."""

from __future__ import annotations

from collections.abc import Callable

import trio

from streamer.batch import Batch
from streamer.errors import Aborted
from streamer.observe.trace import Marks
from streamer.observe.traces import Tracer
from streamer.pipeline.runner import Pipeline
from streamer.pipeline.stage import Ack, Append
from streamer.records import Lane, Receipt


class Appender:
    """`pipeline_of(stream)` gives the pipeline that serves a stream, or raises; `tracer` follows
    records that belong to traces."""

    def __init__(
        self, pipeline_of: Callable[[str], Pipeline], tracer: Tracer | None = None
    ) -> None:
        self.pipeline_of = pipeline_of
        self._tracer = tracer

    async def append(self, stream: str, partition: int, batch: Batch, marks: Marks = ()) -> Receipt:
        """Append one batch; its receipt. `marks` tell which of its records belong to traces.

        Cancelled, it may be appended or not.

        Raises:
            StreamerError: why not; `OutcomeUnknown` if nobody knows.
        """
        pipeline = self.pipeline_of(stream)
        done = trio.Event()
        ack = Ack(1, lambda _: done.set())
        append = Append(
            stream,
            partition,
            None,
            Lane.NORMAL,
            ack,
            batch.nbytes,
            trio.current_time(),
            batch=batch,
        )
        if marks and self._tracer is not None:
            self._tracer.begin(append, "streamer", marks)
        pipeline.expect(append)
        try:
            await pipeline.send(append)
        except BaseException:
            # It was not taken, and nobody is to answer for it.
            ack.resolve_all(Aborted("it was not taken in"))
            raise
        await done.wait()
        (outcome,) = ack.outcomes
        if isinstance(outcome, Receipt):
            return outcome
        assert outcome is not None, "an ack that is done has an outcome"
        raise outcome
