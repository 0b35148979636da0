"""Where each setting came from, and all settings as plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from streamer import cbor
from streamer.config import Config
from streamer.config_load import load_config, parse_toml, structure_config
from streamer.config_origins import Origins, explain, origins_of
from streamer.daemon.reload import reload_config
from streamer.errors import ConfigError
from streamer.pipeline.registry import Registry
from streamer.settings import about, describe

TEXT = """
[session]
window_bytes = "8 MiB"
[[streams.override]]
streams = ["audit-*", "a.b"]
segment_bytes = "128 MiB"
[deliver]
groups_max = 7
[[pipelines]]
name = "bulk lot"
streams = ["bulk-*"]
[pipelines.persist]
fsync = "never"
[pipelines.persist.channel]
items = 7
[[pipelines]]
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.installed()


def config_of(registry: Registry, text: str, options: dict[str, Any] | None = None) -> Config:
    return structure_config(parse_toml(text.encode(), "f"), registry, "f.toml", options)


def by_key(config: Config) -> dict[str, dict[str, Any]]:
    found = explain(config)
    assert len({doc["key"] for doc in found}) == len(found)
    return {doc["key"]: doc for doc in found}


def test_each_origin_names_its_table(registry: Registry) -> None:
    config = config_of(registry, TEXT, {"listen": ["unix:/x"], "data": None})
    changed = {key: doc["origin"] for key, doc in by_key(config).items()
               if doc["origin"] != "default"}  # fmt: skip
    assert changed == {
        "daemon.listen": "--listen",
        "session.window_bytes": "f.toml [session]",
        "streams.override[0].streams": "f.toml [[streams.override]] audit-*, a.b",
        "streams.override[0].segment_bytes": "f.toml [[streams.override]] audit-*, a.b",
        "deliver.groups_max": "f.toml [deliver]",
        'pipelines."bulk lot".name': "f.toml [[pipelines]] bulk lot",
        'pipelines."bulk lot".streams': "f.toml [[pipelines]] bulk lot",
        'pipelines."bulk lot".persist.fsync': "f.toml [pipelines.persist] of bulk lot",
        'pipelines."bulk lot".persist.channel.items':
            "f.toml [pipelines.persist.channel] of bulk lot",
    }  # fmt: skip


def test_a_value_stands_with_its_default_help_and_unit(registry: Registry) -> None:
    found = by_key(config_of(registry, TEXT))
    assert found["session.window_bytes"] == {
        "key": "session.window_bytes",
        "value": 8 << 20,
        "default": 4 << 20,
        "origin": "f.toml [session]",
        "help": "Credit of one session: bytes that it may have under way.",
        "unit": "bytes",
        "reload": False,
    }
    assert found["log.level"]["reload"]
    assert found["daemon.listen"]["value"] == ["ws://127.0.0.1:4440"]
    assert found["streams.override[0].segment_bytes"]["default"] == 64 << 20
    assert "streams.override[0].storage" not in found
    assert found["pipelines.default.persist.stage"]["value"] == "log"
    assert found["pipelines.default.ingest.linger_s"]["default"] == 0.005


def test_every_setting_is_explained(registry: Registry) -> None:
    config = load_config(None, registry)
    found = by_key(config)
    for described in describe(Config):
        if not described.key.startswith(("pipelines[]", "streams.override[]", "deliver.")):
            assert found[described.key]["help"] == described.setting.help
    for place, stage in config.pipelines[0].stages.items():
        for field in attrs.fields(type(stage.settings)):
            key = f"pipelines.default.{place}.{field.name}"
            assert found[key]["help"] == about(field).help
    for doc in found.values():
        assert doc["origin"] == "default"
        assert doc["value"] == doc["default"]
        assert doc["help"]


def test_it_can_be_sent_and_printed(registry: Registry) -> None:
    found = explain(config_of(registry, TEXT))
    assert cbor.loads(cbor.dumps(found)) == found
    assert json.loads(json.dumps(found)) == found


def test_origins_change_nothing_about_a_configuration(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "same.toml"
    file.write_text("[session]\nrequests = 1024\n")
    config, default = load_config(str(file), registry), load_config(None, registry)
    assert config == default
    assert config.origins != default.origins
    assert "origins" not in repr(config).replace("daemon=DaemonConfig", "").split("session=")[1]


def test_origins_cannot_be_set(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(registry, '[origins]\nfile = "x"\n')
    assert "origins: found an unknown key" in str(caught.value)
    assert "origins" not in str(caught.value).split("allowed")[1]


def test_what_a_reload_took_over_says_so(registry: Registry) -> None:
    old = config_of(registry, '[log]\nlevel = "debug"\n[daemon]\ndrain_s = 3\n')
    new = config_of(registry, "[daemon]\ndrain_s = 4\n[session]\nsessions = 600\n")
    at_us = 1_700_000_000_000_000
    outcome = reload_config(old, new, at_us)
    found = by_key(outcome.config)
    at = "2023-11-14T22:13:20Z"
    assert found["daemon.drain_s"]["origin"] == f"reloaded from f.toml [daemon] at {at}"
    assert found["log.level"]["origin"] == f"reloaded from f.toml (default) at {at}"
    assert found["session.sessions"]["origin"] == "default"
    assert "at" not in reload_config(old, new).config.origins.of("daemon.drain_s").split()


@pytest.mark.parametrize(
    "tree",
    [
        {"pipelines": 3, "streams": {"override": 3}, "x": 3},
        {"pipelines": [3, {"name": 3}], "streams": {"override": [3, {"streams": 3}]}},
        {"streams": {"override": [{"streams": [3]}]}},
    ],
)
def test_a_tree_with_faults_is_no_matter(tree: dict[str, Any]) -> None:
    assert origins_of(tree, "f").of("session.requests") == "default"


def test_a_setting_that_is_a_table_is_known_by_its_keys() -> None:
    assert origins_of({"a": {"b": {"c": 1}}}, "f").of("a.b") == "f [a.b]"
    assert Origins().with_origin("a", "--a").of("a") == "--a"
