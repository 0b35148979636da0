"""Finished traces as OpenTelemetry spans, sent to a collector by OTLP over HTTP.

Imported only where `[trace] otlp_endpoint` is set: it needs the extra `otel`. Rules:

- The event loop makes a span's values and puts them into the library's queue, no more; encoding
  and sending is done by the thread of the library's `BatchSpanProcessor`.
- What a collector does not take is dropped and counted, and so is what does not fit into the
  queue. A collector that is dead is said once, and again when it is back.
- Spans are made as values (`ReadableSpan`) and not by a tracer of the library: ids, times and
  parents are those of our trace, and no sampler of the environment decides again.

A trace is one span of kind SERVER for the append, whose parent is the caller's; under it one of
kind INTERNAL for each wait and each stage, and one of kind CONSUMER for each handling by a group.
Attributes are those of the conventions for messaging where there are any.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from random import Random
from urllib.parse import urlsplit

import structlog
import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from streamer.observe.trace import Span, Trace
from streamer.stats import Stats

__all__ = ["OtelExporter"]

#: Spans that wait for the collector; 50 traces and more.
_QUEUE_MAX = 2048
_BATCH_MAX = 256
#: One request; the library tries again within it.
_TIMEOUT_S = 5.0
_SCOPE = "streamer"
_TRACES_PATH = "/v1/traces"

Value = str | int | float | bool


class OtelExporter:
    """Sends traces to one collector; see `traces.Exporter`. `close` ends it."""

    def __init__(
        self,
        endpoint: str,
        service: str,
        version: str,
        *,
        stats: Stats,
        rng: Random,
        delay_s: float = 1.0,
    ) -> None:
        """`endpoint` is the collector's URL, to which /v1/traces is added where it has no path;
        `delay_s` how long spans wait for company."""
        self.endpoint = traces_url(endpoint)
        self._rng = rng
        self._log = structlog.get_logger("streamer.traces")
        # What it says of a collector that does not answer, over and over, we say once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._resource = Resource.create({"service.name": service, "service.version": version})
        self._scope = InstrumentationScope(_SCOPE, version)
        self._counting = _Counting(OTLPSpanExporter(endpoint=self.endpoint, timeout=_TIMEOUT_S))
        self._processor = BatchSpanProcessor(
            self._counting,
            max_queue_size=_QUEUE_MAX,
            schedule_delay_millis=delay_s * 1000,
            max_export_batch_size=_BATCH_MAX,
        )
        self._handed = 0
        self._unfit = 0
        self._said_failing = False
        stats.gauge(
            "trace_spans_exported", "spans that a collector took", lambda: self._counting.taken
        )
        stats.gauge("trace_spans_dropped", "spans that no collector took", lambda: self.dropped)

    @property
    def dropped(self) -> int:
        """Spans that were not taken, or did not fit into the queue."""
        return self._counting.failed + self._unfit

    def trace(self, trace: Trace) -> None:
        """Hand on a finished trace."""
        self._say()
        self._put(self._root(trace))
        for span in trace.spans:
            self._put(self._child(trace, span))

    def span(self, trace: Trace, span: Span) -> None:
        """Hand on a span that came later."""
        self._put(self._child(trace, span))

    async def close(self, deadline_s: float) -> None:
        """Send what waits, for at most so long; what is left then is dropped."""
        with trio.move_on_after(deadline_s) as scope:
            await trio.to_thread.run_sync(self._processor.shutdown, abandon_on_cancel=True)
        if scope.cancelled_caught:
            # Its thread is a daemon's, and ends with the process.
            self._counting.stop()
        left = self._handed - self._counting.done
        if left or self._counting.failing:
            self._log.warning(
                "traces not exported", endpoint=self.endpoint, spans=left + self.dropped
            )

    def _say(self) -> None:
        failing = self._counting.failing
        if failing != self._said_failing:
            self._said_failing = failing
            if failing:
                self._log.warning("the collector takes no traces", endpoint=self.endpoint)
            else:
                self._log.info("the collector takes traces again", endpoint=self.endpoint)

    def _put(self, span: ReadableSpan) -> None:
        # The library would drop the oldest instead, and write a line for each.
        if self._handed - self._counting.done >= _QUEUE_MAX:
            self._unfit += 1
            return
        self._handed += 1
        self._processor.on_end(span)

    # --------------------------------------------------------------------------------- spans

    def _root(self, trace: Trace) -> ReadableSpan:
        parent = None
        if trace.parent_id is not None:
            parent = _context(trace.trace_id, trace.parent_id, remote=True)
        about = _about(trace)
        about["messaging.operation.name"] = "append"
        about["messaging.operation.type"] = "send"
        about["streamer.append.bytes"] = trace.nbytes
        about["streamer.session"] = trace.session
        about["streamer.outcome"] = trace.outcome
        if trace.records > 1:
            about["messaging.batch.message_count"] = trace.records
        status = Status(StatusCode.UNSET)
        if trace.error:
            about["error.type"] = trace.outcome
            status = Status(StatusCode.ERROR, trace.error)
        return self._span(
            trace,
            f"append {trace.stream}",
            SpanKind.SERVER,
            _context(trace.trace_id, trace.span_id, remote=False),
            parent,
            (trace.began, trace.ended if trace.ended is not None else trace.began),
            about,
            status,
        )

    def _child(self, trace: Trace, span: Span) -> ReadableSpan:
        about = _about(trace)
        about["streamer.kind"] = span.kind
        for name, fact in span.facts.items():
            about[f"streamer.{name}"] = fact if isinstance(fact, Value) else str(fact)
        kind, name = SpanKind.INTERNAL, f"{span.kind} {span.name}"
        if span.kind in ("delivery", "handling"):
            about["messaging.consumer.group.name"] = span.name.rpartition("/")[2]
        if span.kind == "handling":
            kind, name = SpanKind.CONSUMER, f"process {trace.stream}"
            about["messaging.operation.name"] = about["messaging.operation.type"] = "process"
        return self._span(
            trace,
            name,
            kind,
            _context(trace.trace_id, self._rng.randbytes(8), remote=False),
            _context(trace.trace_id, trace.span_id, remote=False),
            (span.start, span.end),
            about,
            Status(StatusCode.UNSET),
        )

    def _span(
        self,
        trace: Trace,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        times: tuple[float, float],
        about: dict[str, Value],
        status: Status,
    ) -> ReadableSpan:
        start, end = (
            trace.began_us * 1000 + int((time - trace.began) * 1_000_000_000) for time in times
        )
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            about,
            kind=kind,
            status=status,
            start_time=start,
            end_time=end,
            instrumentation_scope=self._scope,
        )


class _Counting(SpanExporter):
    """Counts what the exporter behind it did; used by the processor's thread, read by ours."""

    def __init__(self, behind: OTLPSpanExporter) -> None:
        self.taken = 0
        self.failed = 0
        #: The last request was not taken.
        self.failing = False
        self._behind = behind
        self._stopped = False

    @property
    def done(self) -> int:
        return self.taken + self.failed

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            if not self._stopped:
                result = self._behind.export(spans)
        finally:
            self.failing = result is not SpanExportResult.SUCCESS
            if self.failing:
                self.failed += len(spans)
            else:
                self.taken += len(spans)
        return result

    def stop(self) -> None:
        """Try no more, and break off what is being tried."""
        self._stopped = True
        self._behind.shutdown()  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        if not self._stopped:
            self.stop()


def traces_url(endpoint: str) -> str:
    """Where the collector takes traces: /v1/traces, unless the endpoint names a path."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _TRACES_PATH


def _about(trace: Trace) -> dict[str, Value]:
    about: dict[str, Value] = {
        "messaging.system": "streamer",
        "messaging.destination.name": trace.stream,
    }
    if trace.partition is not None:
        about["messaging.destination.partition.id"] = str(trace.partition)
    if trace.offset is not None:
        about["streamer.offset"] = trace.offset
    return about


def _context(trace_id: bytes, span_id: bytes, *, remote: bool) -> SpanContext:
    return SpanContext(
        int.from_bytes(trace_id),
        int.from_bytes(span_id),
        is_remote=remote,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
