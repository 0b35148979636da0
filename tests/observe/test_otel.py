"""Traces at a collector: a real HTTP server that takes OTLP, and what it is like without one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

import streamer
from streamer.observe.trace import Trace
from streamer.stats import Stats
from streamer_tools.own_daemon import own_daemon

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from streamer.observe import otel
from streamer.observe.otel import OtelExporter, traces_url

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
CALLER = bytes.fromhex("00f067aa0ba902b7")
ROOT = bytes(range(8))
WALL_US = 1_700_000_000_000_000
WALL_NS = WALL_US * 1000


class Collector:
    """Takes OTLP over HTTP until it is closed."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.status = 200
        #: Requests are answered while it is set.
        self.answers = threading.Event()
        self.answers.set()
        #: A request was answered.
        self.asked = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.answers.wait(10)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.paths.append(self.path)
                status = collector.status
                if status == 200:
                    collector.requests.append(ExportTraceServiceRequest.FromString(body))
                collector.asked.set()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def exporter(endpoint: str, stats: Stats | None = None) -> OtelExporter:
    return OtelExporter(
        endpoint, "shop", "1.2.3", stats=stats or Stats(time.monotonic), rng=Random(1), delay_s=0.01
    )


async def sent() -> None:
    """Wait until the library's threads are through with what they had."""
    for thread in threading.enumerate():
        if thread.name.startswith("OtelBatch"):
            await trio.to_thread.run_sync(thread.join, 20)


def finished(**more: Any) -> Trace:
    trace = Trace(TRACE, CALLER, ROOT, stream="orders", began=50.0, began_us=WALL_US, **more)
    trace.span("default/ingest", "queueing", 50.0, 50.25)
    trace.span("default/ingest", "service", 50.25, 50.5)
    trace.ended, trace.outcome, trace.partition, trace.offset = 51.0, "synced", 2, 7
    return trace


def attributes(span: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


async def test_a_trace_arrives_as_a_tree(collector: Collector) -> None:
    otlp = exporter(collector.url)
    trace = finished(session="a client", records=3, nbytes=120)
    otlp.trace(trace)
    trace.span("deliver/orders/mail", "delivery", 51.0, 52.0, attempt=1, member="m")
    trace.span("deliver/orders/mail", "handling", 52.0, 54.0, attempt=1, member="m", outcome="ack")
    for span in trace.spans[2:]:
        otlp.span(trace, span)
    await otlp.close(5)
    assert set(collector.paths) == {"/v1/traces"}
    root, *children = sorted(collector.spans, key=lambda span: span.parent_span_id != CALLER)
    assert (root.trace_id, root.span_id, root.parent_span_id) == (TRACE, ROOT, CALLER)
    assert (root.name, root.kind) == ("append orders", Span.SPAN_KIND_SERVER)
    assert root.start_time_unix_nano == WALL_NS
    assert root.end_time_unix_nano == WALL_NS + 1_000_000_000
    assert attributes(root) == {
        "messaging.system": "streamer",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "2",
        "messaging.operation.name": "append",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 3,
        "streamer.append.bytes": 120,
        "streamer.offset": 7,
        "streamer.outcome": "synced",
        "streamer.session": "a client",
    }
    assert {each.trace_id for each in children} == {TRACE}
    assert {each.parent_span_id for each in children} == {ROOT}
    assert len({each.span_id for each in children}) == 4
    internal, consumer = Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_CONSUMER
    found = {
        each.name: (each.kind, each.start_time_unix_nano - WALL_NS, each.end_time_unix_nano)
        for each in children
    }
    second = 1_000_000_000
    assert found == {
        "queueing default/ingest": (internal, 0, WALL_NS + second // 4),
        "service default/ingest": (internal, second // 4, WALL_NS + second // 2),
        "delivery deliver/orders/mail": (internal, second, WALL_NS + 2 * second),
        "process orders": (consumer, 2 * second, WALL_NS + 4 * second),
    }
    [handled] = [attributes(each) for each in children if each.kind == consumer]
    assert handled["messaging.consumer.group.name"] == "mail"
    assert handled["messaging.operation.type"] == "process"
    assert (handled["streamer.attempt"], handled["streamer.outcome"]) == (1, "ack")
    [resource] = {str(each.resource) for r in collector.requests for each in r.resource_spans}
    for text in ("service.name", "shop", "service.version", "1.2.3"):
        assert text in resource


async def test_without_a_caller_it_is_a_root_and_an_error_is_one(collector: Collector) -> None:
    trace = finished()
    trace.parent_id, trace.offset = None, None
    trace.outcome, trace.error = "timed_out", "waited 30 s"
    otlp = exporter(collector.url)
    otlp.trace(trace)
    await otlp.close(5)
    [root] = [span for span in collector.spans if span.span_id == ROOT]
    assert root.parent_span_id == b""
    assert (root.status.code, root.status.message) == (Status.STATUS_CODE_ERROR, "waited 30 s")
    assert attributes(root)["error.type"] == "timed_out"


async def test_a_dead_collector_costs_a_count(collector: Collector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    # Nobody listens there any more.
    stats = Stats(time.monotonic)
    otlp = exporter(f"http://127.0.0.1:{port}", stats)
    otlp.trace(finished())
    began = time.monotonic()
    await otlp.close(0.5)
    assert time.monotonic() - began < 3
    await sent()
    values = {each.name: each.value.read() for each in stats.metrics() if each.kind == "gauge"}  # type: ignore[union-attr]
    assert values == {"trace_spans_exported": 0, "trace_spans_dropped": 3}


async def test_one_that_refuses_and_is_well_again(collector: Collector) -> None:
    otlp = exporter(collector.url)
    collector.status = 400
    otlp.trace(finished())
    assert await trio.to_thread.run_sync(collector.asked.wait, 10)
    collector.status = 200
    otlp.trace(finished())
    await otlp.close(5)
    assert (otlp.dropped, len(collector.spans)) == (3, 3)


async def test_one_that_hangs_holds_nothing_up(collector: Collector) -> None:
    collector.answers.clear()
    otlp = exporter(collector.url)
    began = time.monotonic()
    for _ in range(otel._QUEUE_MAX):
        otlp.trace(finished())
    assert time.monotonic() - began < 5
    # Three spans each: two of three found no room.
    assert otlp.dropped == 2 * otel._QUEUE_MAX
    await otlp.close(0.2)
    assert time.monotonic() - began < 6
    collector.answers.set()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
    ],
)
def test_where_traces_go(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


# ------------------------------------------------------------------------------- a real daemon


def configured(directory: Path, endpoint: str) -> tuple[str, str]:
    path = directory / "streamer.toml"
    path.write_text(f'[trace]\notlp_endpoint = "{endpoint}"\nservice_name = "shop"\n')
    return "--config", str(path)


async def produce(url: str) -> None:
    parent = f"00-{TRACE.hex()}-{CALLER.hex()}-01".encode()
    async with streamer.connect(url) as client, client.producer("orders") as producer:
        await producer.send(b"value", headers={"traceparent": parent})
        async with client.consumer("orders", group="mail") as consumer:
            async for message in consumer.messages():
                await message.ack()
                break


def test_what_a_daemon_has_traced_is_sent_before_it_ends(
    collector: Collector, tmp_path: Path
) -> None:
    with own_daemon(arguments=configured(tmp_path, collector.url)) as daemon:
        trio.run(produce, daemon.url())
        assert daemon.stop() == 0
    spans = {span.name: span for span in collector.spans}
    root = spans["append orders"]
    assert (root.trace_id, root.parent_span_id) == (TRACE, CALLER)
    for place in ("ingest", "propose", "persist", "ack"):
        for kind in ("queueing", "service"):
            assert spans[f"{kind} default/{place}"].parent_span_id == root.span_id
    assert spans["process orders"].kind == Span.SPAN_KIND_CONSUMER
    # The times of a trace fit together, and are those of now.
    assert abs(root.start_time_unix_nano / 1e9 - time.time()) < 60
    for span in spans.values():
        assert span.start_time_unix_nano >= root.start_time_unix_nano
        assert span.end_time_unix_nano >= span.start_time_unix_nano


def test_a_daemon_ends_in_time_without_its_collector(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    arguments = configured(tmp_path, f"http://127.0.0.1:{port}")
    with own_daemon(arguments=arguments) as daemon:
        trio.run(produce, daemon.url())
        began = time.monotonic()
        assert daemon.stop() == 0
        # A share of the drain's ten seconds, and not the minute that the library would take.
        assert time.monotonic() - began < 10
        assert "traces not exported" in daemon.log.read_text()
