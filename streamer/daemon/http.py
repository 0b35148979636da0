"""Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics` (Prometheus), `/varz` (JSON).

Rules:

- What is here reads and never changes anything, and what it shows it is given as callables: it
  knows no daemon. They are called on the event loop and must not block.
- `/healthz` is 200 only while the daemon is alive *and makes progress*; who restarts it on 503 is
  right to. `/readyz` says whether new clients are welcome.
- The HTTP server is a guest. It has small limits, its failure is logged and it is started again,
  and nothing of it can end the daemon.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, cast

import attrs
import hypercorn
import hypercorn.trio
import structlog
import trio
from hypercorn.typing import Framework
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from streamer import addresses
from streamer.daemon.health import Health
from streamer.stats import Counter, Gauge, Latency, Stats
from streamer.stats import Metric as Series

PREFIX = "streamer_"
#: A client that takes nothing of an answer for so long is dropped by the kernel. Hypercorn shields
#: its writes from cancellation, so without this one such client would hold up going down for ever.
_SEND_MS_MAX = 5_000
_RESTART_S = 1.0

_log = structlog.get_logger("streamer.http")


def build_app(
    *,
    stats: Stats,
    health: Callable[[], Health],
    varz: Callable[[], dict[str, Any]],
    console: Sequence[Route] = (),
) -> Starlette:
    """The four pages as an ASGI application, and with its routes the console: a browser that asks
    for `/` is sent there."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    collector = StatsCollector(stats)

    async def healthz(_request: Request) -> Response:
        state = health()
        return _json(attrs.asdict(state), 200 if state.ok else 503)

    async def readyz(_request: Request) -> Response:
        state = health()
        return _json(attrs.asdict(state), 200 if state.ok and state.ready else 503)

    async def metrics(_request: Request) -> Response:
        parts = [generate_latest(registry)]
        for family in collector.collect():
            parts.append(generate_latest(_Only(family)))
            # Four thousand series take 50 ms, which is too long to hold the loop in one go.
            await trio.lowlevel.checkpoint()
        return Response(b"".join(parts), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    async def varz_page(_request: Request) -> Response:
        return _json(varz(), 200)

    async def index(request: Request) -> Response:
        if console and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/console")
        paths = [*pages, *(["/console"] if console else [])]
        return Response("".join(f"{path}\n" for path in paths[1:]), media_type="text/plain")

    pages = {
        "/": index,
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": metrics,
        "/varz": varz_page,
    }
    return Starlette(
        routes=[
            *(Route(path, page, methods=["GET"]) for path, page in pages.items()),
            *console,
        ],
        max_body_size=0,
    )


def _json(content: dict[str, Any], status: int) -> Response:
    body = json.dumps(content, indent=2, default=str) + "\n"
    headers = {"cache-control": "no-store"}
    return Response(body, status, headers=headers, media_type="application/json")


async def serve_http(
    bind: str,
    app: Starlette,
    *,
    shutdown: Callable[[], Awaitable[None]] = trio.sleep_forever,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` at `bind` (HOST:PORT, port 0 for any free one) until `shutdown()` returns.

    Started with the URL once it listens. Requests under way get two seconds to end; cancelling
    ends them sooner, but for an answer that is being written (see `_SEND_MS_MAX`).

    Raises:
        OSError: it cannot listen there, in words.
    """
    with _listen(bind) as listener:
        host, port = listener.getsockname()[:2]
        task_status.started(f"http://{addresses.host_port(host, port)}")
        while True:
            try:
                await hypercorn.trio.serve(
                    cast(Framework, app), _settings(listener), shutdown_trigger=shutdown
                )
                return
            except Exception as error:
                # Hypercorn lets an odd connection end the whole server; ours is more than that.
                _log.exception("http server failed", error=error, restart_s=_RESTART_S)
            await trio.sleep(_RESTART_S)


def _listen(bind: str) -> socket.socket:
    host, port = addresses.parse_host_port(bind)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {bind}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit these.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SEND_MS_MAX)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {bind}: {error.strerror}") from error
    return listener


def _settings(listener: socket.socket) -> hypercorn.Config:
    """Hypercorn's settings; it closes the copy of the listener that it is given."""
    settings = hypercorn.Config()
    settings.bind = [f"fd://{os.dup(listener.fileno())}"]
    settings.accesslog = None
    settings.errorlog = logging.getLogger("hypercorn.error")
    settings.graceful_timeout = 2.0
    settings.shutdown_timeout = 2.0
    settings.keep_alive_timeout = 10.0
    settings.h11_max_incomplete_size = 16 * 1024
    settings.websocket_max_message_size = 1024
    settings.include_server_header = False
    return settings


class StatsCollector(Collector):
    """Shows `Stats` to Prometheus: latencies as summaries, their longest as a gauge beside them."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """The families of one name after the other; `Stats` may change in between."""
        for name, series in itertools.groupby(self._stats.metrics(), lambda metric: metric.name):
            yield from _families(PREFIX + name, list(series))


def _families(name: str, series: Sequence[Series]) -> Iterator[Metric]:
    """What Prometheus calls the series of one name; they are of one kind."""
    help = series[0].help
    match series[0].kind:
        case "counter":
            family: Metric = CounterMetricFamily(name, help)
        case "gauge":
            family = GaugeMetricFamily(name, help)
        case "latency":
            family = SummaryMetricFamily(name, help)
        case "info":
            family = InfoMetricFamily(name, help)
    longest_name = name.removesuffix("_seconds") + "_longest_seconds"
    longest = GaugeMetricFamily(longest_name, f"{help} (longest)")
    for _, _, _, labels, value in series:
        if isinstance(value, Counter):
            family.add_sample(f"{name}_total", labels, value.value)
        elif isinstance(value, Gauge):
            family.add_sample(name, labels, _read(name, value))
        elif isinstance(value, Latency):
            seen = value.summary()
            for quantile, seconds in seen.quantiles().items():
                family.add_sample(name, {**labels, "quantile": f"{quantile:g}"}, seconds)
            family.add_sample(f"{name}_count", labels, value.count)
            family.add_sample(f"{name}_sum", labels, value.total_s)
            longest.add_sample(longest_name, labels, seen.max_s)
        else:
            family.add_sample(f"{name}_info", labels, 1)
    yield family
    if longest.samples:
        yield longest


def _read(name: str, gauge: Gauge) -> float:
    """A gauge of a plugin that fails is not a number; it must not take the page along."""
    try:
        return float(gauge.read())
    except Exception as error:
        _log.exception("gauge failed", gauge=name, error=error)
        return math.nan


class _Only(Collector):
    """One family, as the encoder wants it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
