"""What a changed configuration changes in a running daemon, and what needs a restart."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from streamer.config import Config
from streamer.config_load import structure_config
from streamer.config_sla import SlaConfig
from streamer.daemon.reload import reload_config
from streamer.pipeline.registry import Registry
from streamer.settings import about

SLA = [field.name for field in attrs.fields(SlaConfig)]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.installed()


def config_of(registry: Registry, **tree: Any) -> Config:
    return structure_config(tree, registry)


def test_nothing_changed(registry: Registry) -> None:
    old = config_of(registry)
    outcome = reload_config(old, config_of(registry))
    assert (list(outcome.applied), list(outcome.refused)) == ([], [])
    assert outcome.config == old


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"daemon": {"drain_s": 3.0}}, "daemon.drain_s"),
        ({"daemon": {"origins": ["https://example.org"]}}, "daemon.origins"),
        ({"log": {"level": "debug"}}, "log.level"),
        ({"log": {"format": "json"}}, "log.format"),
        ({"batch": {"zstd_level": 3}}, "batch.zstd_level"),
        ({"streams": {"partitions": 4}}, "streams.partitions"),
        ({"streams": {"auto_create": False}}, "streams.auto_create"),
        ({"console": {"actions": True}}, "console.actions"),
        ({"trace": {"sample": 0.5}}, "trace.sample"),
        ({"trace": {"keep_s": 5.0}}, "trace.keep_s"),
        *(({"sla": {key: 0.9 if key != "window_s" else 600.0}}, f"sla.{key}") for key in SLA),
    ],
)
def test_what_is_taken_over(registry: Registry, tree: dict[str, Any], key: str) -> None:
    new = config_of(registry, **tree)
    outcome = reload_config(config_of(registry), new)
    assert (list(outcome.applied), list(outcome.refused)) == ([key], [])
    assert outcome.config == new


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"daemon": {"data": "/elsewhere"}}, "daemon.data"),
        ({"daemon": {"listen": ["unix:/x"]}}, "daemon.listen"),
        ({"daemon": {"http": ""}}, "daemon.http"),
        ({"session": {"sessions": 600}}, "session.sessions"),
        ({"batch": {"records": 5}}, "batch.records"),
        ({"streams": {"producers": 5}}, "streams.producers"),
        ({"streams": {"override": [{"streams": ["x"], "partitions": 2}]}}, "streams.override"),
        ({"trace": {"per_second": 5}}, "trace.per_second"),
        ({"pipelines": [{"name": "other"}]}, "pipelines"),
        ({"pipelines": [{"persist": {"fsync": "never"}}]}, "pipelines"),
    ],
)
def test_what_needs_a_restart(registry: Registry, tree: dict[str, Any], key: str) -> None:
    old = config_of(registry)
    outcome = reload_config(old, config_of(registry, **tree))
    assert (list(outcome.applied), list(outcome.refused)) == ([], [key])
    assert outcome.config == old


def test_both_at_once(registry: Registry) -> None:
    old = config_of(registry)
    new = config_of(
        registry,
        daemon={"drain_s": 3.0, "http": ""},
        streams={"partitions": 4, "producers": 5},
        log={"level": "error"},
    )
    outcome = reload_config(old, new)
    assert set(outcome.applied) == {"daemon.drain_s", "streams.partitions", "log.level"}
    assert set(outcome.refused) == {"daemon.http", "streams.producers"}
    assert outcome.config.daemon == attrs.evolve(old.daemon, drain_s=3.0)
    assert outcome.config.streams == attrs.evolve(old.streams, partitions=4)
    # The next reload starts from what was taken over.
    again = reload_config(outcome.config, new)
    assert list(again.applied) == []
    assert set(again.refused) == set(outcome.refused)


def test_every_key_that_can_be_reloaded_is_tested() -> None:
    found = set()
    for section in attrs.fields(attrs.resolve_types(Config)):
        if isinstance(section.type, type) and attrs.has(section.type):
            found |= {
                f"{section.name}.{field.name}"
                for field in attrs.fields(section.type)
                if about(field).reload
            }
    assert found == {
        "daemon.drain_s",
        "daemon.origins",
        "log.level",
        "log.format",
        "batch.zstd_level",
        "streams.partitions",
        "streams.auto_create",
        "console.actions",
        "trace.sample",
        "trace.keep_s",
        *(f"sla.{key}" for key in SLA),
    }
