"""The collector that finished traces go to, for as long as the daemon runs.

The library for it comes with the extra `otel`, and is loaded only where an endpoint is set. That
it is there has been checked with the configuration.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from streamer import __version__
from streamer.config import TraceConfig
from streamer.observe.traces import Tracer
from streamer.stats import Stats

__all__ = ["exporting"]

#: The longest that going down waits for a collector; less where the drain's budget is small.
_CLOSE_S = 3.0
_CLOSE_SHARE = 0.2


@asynccontextmanager
async def exporting(
    config: TraceConfig, tracer: Tracer, stats: Stats, rng: random.Random, drain_s: float
) -> AsyncGenerator[None, None]:
    """Send finished traces to the configured collector, if there is one.

    Left in order, what waits is sent within a share of `drain_s`; cancelled, it is dropped.
    """
    if not config.otlp_endpoint:
        yield
        return
    from streamer.observe.otel import OtelExporter

    exporter = OtelExporter(
        config.otlp_endpoint, config.service_name, __version__, stats=stats, rng=rng
    )
    tracer.exporter = exporter
    try:
        yield
    finally:
        tracer.exporter = None
        await exporter.close(min(_CLOSE_S, drain_s * _CLOSE_SHARE))
