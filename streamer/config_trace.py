"""`[trace]`: which records are followed through the daemon, and where that is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from urllib.parse import urlsplit

import attrs

from streamer.settings import Fault, setting

__all__ = ["TraceConfig", "check_trace"]

#: What the extra `otel` brings.
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@attrs.frozen
class TraceConfig:
    """What is traced besides what `streamer trace` asks for."""

    sample: float = setting(
        0.0,
        "Share of appends that are traced by chance, besides those whose traceparent asks for it.",
        min=0,
        max=1,
        reload=True,
    )
    per_second: int = setting(
        10,
        "Traces a second at most, those that a traceparent asks for and those by chance; 0 for "
        "none.",
        unit="traces",
        min=0,
        max=1000,
    )
    keep_s: float = setting(
        60.0,
        "How long a trace is kept open for the groups that handle its record.",
        unit="s",
        min=0,
        max=3600,
        reload=True,
    )
    otlp_endpoint: str = setting(
        "",
        "Collector that traces are sent to, by OTLP over HTTP: http://HOST:4318, say; without a "
        'path, /v1/traces is added. It needs the extra "otel". "" for none.',
    )
    service_name: str = setting("streamer", "What the collector calls this daemon.")


def check_trace(config: TraceConfig, packages: Sequence[str] = _PACKAGES) -> Iterator[Fault]:
    """What is wrong with it beyond the bounds of each setting; `packages` are what an endpoint
    needs."""
    endpoint = config.otlp_endpoint
    if not config.service_name.strip():
        yield Fault("trace.service_name", f'"{config.service_name}"', "a name that is not empty")
    if not endpoint:
        return
    try:
        url = urlsplit(endpoint)
        fits = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if not fits:
        allowed = 'http://HOST:PORT or https://HOST:PORT, with a path or without; "" for none'
        yield Fault("trace.otlp_endpoint", f'"{endpoint}"', allowed)
    elif url.username is not None:
        # Settings are shown to whoever may look; the library reads this from the environment.
        allowed = "none there: set OTEL_EXPORTER_OTLP_HEADERS in the daemon's environment"
        yield Fault("trace.otlp_endpoint", "a user or a password in the URL", allowed)
    missing = [name for name in packages if not _is_there(name)]
    if missing:
        yield Fault(
            "trace.otlp_endpoint",
            f'"{endpoint}" without {" and ".join(missing)}',
            "an endpoint where they are installed (pip install 'streamer[otel]')",
        )


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        # What it is part of is not there.
        return False
