"""`[trace]`: an endpoint that cannot be one, and one without what it needs."""

from __future__ import annotations

import pytest

from streamer.config_trace import TraceConfig, check_trace


def faults(**settings: str) -> list[str]:
    return [fault.line("x.toml") for fault in check_trace(TraceConfig(**settings))]  # type: ignore[arg-type]


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    "endpoint", ["http://localhost:4318", "https://collector.example:443/otlp/v1/traces"]
)
def test_endpoints(endpoint: str) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    assert faults(otlp_endpoint=endpoint) == []


@pytest.mark.parametrize(
    "endpoint", ["localhost:4318", "grpc://h:4317", "http://", "http://h:port", "http://h:0"]
)
def test_what_is_no_endpoint(endpoint: str) -> None:
    assert any("http://HOST:PORT or https" in line for line in faults(otlp_endpoint=endpoint))


def test_a_name_that_is_empty() -> None:
    [line] = faults(service_name=" ")
    assert "trace.service_name" in line


def test_without_the_extra_it_says_what_to_install() -> None:
    config = TraceConfig(otlp_endpoint="http://localhost:4318")
    [fault] = check_trace(config, ("streamer_not_there.sdk", "opentelemetry_not_there"))
    assert fault.line("x.toml") == (
        'x.toml: trace.otlp_endpoint: found "http://localhost:4318" without streamer_not_there.sdk '
        "and opentelemetry_not_there, allowed an endpoint where they are installed "
        "(pip install 'streamer[otel]')"
    )


def test_a_password_in_the_url_would_be_shown_to_all() -> None:
    (fault,) = faults(otlp_endpoint="https://me:secret@traces:4318")
    assert "OTEL_EXPORTER_OTLP_HEADERS" in fault
    assert "secret" not in fault
