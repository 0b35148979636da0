"""Settings of one thing, and where they came from, out of what the daemon tells of all."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.config_load import parse_toml, structure_config
from streamer.config_origins import explain
from streamer.pipeline.registry import Registry
from streamer_tools.describe import settings
from streamer_tools.describe.sheet import Fact

TEXT = b"""
[streams]
retention_s = 60
[[streams.override]]
streams = ["audit-*"]
segment_bytes = "128 MiB"
[[streams.override]]
streams = ["*"]
producers = 7
[[pipelines]]
name = "bulk lot"
[pipelines.persist]
fsync = "never"
"""


@pytest.fixture(scope="module")
def docs() -> list[dict[str, Any]]:
    config = structure_config(parse_toml(TEXT, "f"), Registry.installed(), "f.toml")
    return explain(config)


def test_the_first_override_that_matches_counts(docs: list[dict[str, Any]]) -> None:
    audit = {fact.name: fact for fact in settings.facts(settings.of_stream(docs, "audit-1"))}
    assert audit["segment_bytes"] == Fact(
        "segment_bytes", "128 MiB (default 64 MiB)", "f.toml [[streams.override]] audit-*"
    )
    assert audit["retention_s"] == Fact("retention_s", "60 s (default 0 s)", "f.toml [streams]")
    assert audit["producers"] == Fact("producers", "10,000", "default")
    assert "auto_create" not in audit
    other = {fact.name: fact for fact in settings.facts(settings.of_stream(docs, "other"))}
    assert list(other) == list(audit)
    assert other["producers"].note == "f.toml [[streams.override]] *"
    assert other["segment_bytes"].note == "default"


def test_a_pipeline_has_those_of_its_name(docs: list[dict[str, Any]]) -> None:
    found = settings.under(docs, 'pipelines."bulk lot".')
    by_name = {fact.name: fact for fact in settings.facts(found)}
    assert by_name["persist.fsync"] == Fact(
        "persist.fsync", "never (default group)", "f.toml [pipelines.persist] of bulk lot"
    )
    assert settings.under(docs, "pipelines.x.") == []


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "", "-"), (True, "", "true"), ([], "", "[]"), (["a", "b"], "", "[a, b]"),
        (0, "bytes", "0"), (1 << 20, "bytes", "1 MiB"), (0.005, "s", "0.005 s"),
        (10_000, "records", "10,000"), ("", "", '""'), ("x", "", "x"),
    ],
)  # fmt: skip
def test_a_value_as_people_read_it(value: Any, unit: str, text: str) -> None:
    assert settings.text(value, unit) == text
