"""The shipped examples: each loads, durable.toml shows every setting, and the unit fits it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from streamer.config import (
    ChannelConfig,
    Config,
    PipelineConfig,
    StageConfig,
    StreamOverride,
)
from streamer.config_load import load_config
from streamer.pipeline.registry import PLACES, Registry
from streamer.settings import about, describe, fields_of

CONFIGS = Path(__file__).parents[2] / "configs"
EXAMPLES = sorted(path.name for path in CONFIGS.glob("*.toml"))
UNIT = CONFIGS / "streamer.service"
SECTIONS = ("daemon", "console", "log", "session", "batch", "streams", "sla", "trace")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.installed()


def keys_with_comments(path: Path) -> Iterator[tuple[str, str, str]]:
    """Each key of a file: its table, its name, and the comment right above it."""
    table, comment = "", ""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            comment += " " + line.lstrip("# ")
        elif line.startswith("["):
            table, comment = line.strip("[]"), ""
        elif key := re.match(r"(\w+) = ", line):
            yield table, key[1], comment.strip()
            comment = ""
        else:
            comment = ""


def test_the_examples_are_all_here() -> None:
    assert {"minimal.toml", "durable.toml"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_loads(name: str, registry: Registry) -> None:
    config = load_config(str(CONFIGS / name), registry)
    assert config.pipeline_of("any-stream") is not None
    assert not config.daemon.allow_remote


@pytest.mark.parametrize("name", ["minimal.toml", "durable.toml"])
def test_each_key_has_a_comment(name: str) -> None:
    # One table shows what may be left out; its one comment is for both of its keys.
    bare = [
        (table, key)
        for table, key, comment in keys_with_comments(CONFIGS / name)
        if not comment and table != "pipelines.ingest"
    ]
    assert not bare


def test_minimal_says_what_the_defaults_are(registry: Registry) -> None:
    assert load_config(str(CONFIGS / "minimal.toml"), registry) == load_config(None, registry)


# -------------------------------------------------------------------------------- durable.toml


@pytest.fixture(scope="module")
def durable() -> dict[str, Any]:
    return tomllib.loads((CONFIGS / "durable.toml").read_text())


def names(cls: type, *, without: tuple[str, ...] = ()) -> set[str]:
    return {field.name for field in fields_of(cls)} - set(without)


def test_durable_shows_every_setting_of_every_section(
    durable: dict[str, Any], registry: Registry
) -> None:
    assert set(durable) == names(Config)
    for section in SECTIONS:
        cls = next(
            field.type
            for field in attrs.fields(attrs.resolve_types(Config))
            if field.name == section
        )
        assert isinstance(cls, type)
        assert set(durable[section]) == names(cls), section
    own = names(registry.get_deliver(durable["deliver"]["stage"]).config)
    assert set(durable["deliver"]) == own | {"stage"}
    [override] = durable["streams"]["override"]
    assert set(override) == names(StreamOverride)


def test_durable_shows_every_setting_of_pipelines_and_stages(
    durable: dict[str, Any], registry: Registry
) -> None:
    pipeline = durable["pipelines"][-1]
    assert set(pipeline) == names(PipelineConfig)
    for place in PLACES:
        stage = pipeline[place]
        own = names(registry.get(place, stage["stage"]).config)
        assert set(stage) == own | names(StageConfig, without=("settings",)), place
        assert set(stage["channel"]) == names(ChannelConfig), place


def test_the_comments_say_what_the_classes_say(registry: Registry) -> None:
    classes: dict[str, list[type]] = {
        "streams.override": [StreamOverride],
        "pipelines": [PipelineConfig],
    }
    for field in attrs.fields(attrs.resolve_types(Config)):
        if field.name in SECTIONS and isinstance(field.type, type):
            classes[field.name] = [field.type]
    config = load_config(None, registry)
    classes["deliver"] = [type(config.deliver.settings)]
    for place, stage in config.pipelines[0].stages.items():
        classes[f"pipelines.{place}"] = [type(stage.settings)]
        classes[f"pipelines.{place}.channel"] = [ChannelConfig]
    seen = 0
    for table, key, comment in keys_with_comments(CONFIGS / "durable.toml"):
        for cls in classes[table]:
            fields = attrs.fields_dict(cls)
            if key not in fields or not comment:
                continue
            help = about(fields[key]).help.rstrip(".")
            assert help.lower() in comment.lower(), f"{table}.{key}"
            seen += 1
    assert seen > len(list(describe(Config))) - 20


def test_durable_is_durable(registry: Registry) -> None:
    config = load_config(str(CONFIGS / "durable.toml"), registry)
    for pipeline in config.pipelines:
        assert pipeline.persist.settings.fsync == "group"
    assert config.streams.retention_s == config.streams.retention_bytes == 0
    assert config.daemon.data.startswith("/")


# -------------------------------------------------------------------------------- the unit file


def unit() -> dict[str, list[str]]:
    """Settings of the unit, each with all its values (a key may come more than once)."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_the_unit_starts_checks_reloads_and_watches() -> None:
    settings = unit()
    assert settings["Type"] == ["notify"]
    assert int(settings["WatchdogSec"][0]) > 0
    assert settings["ExecStartPre"] == ["streamer check --config ${STREAMER_CONFIG}"]
    assert settings["ExecStart"] == ["streamer run --config ${STREAMER_CONFIG}"]
    assert settings["ExecReload"][-1] == "kill -HUP $MAINPID"
    assert settings["RestartPreventExitStatus"] == ["78"]
    assert settings["NoNewPrivileges"] == ["yes"]
    assert settings["ProtectSystem"] == ["strict"]


def test_the_unit_gives_durable_toml_its_directories_and_its_time(registry: Registry) -> None:
    settings, config = unit(), load_config(str(CONFIGS / "durable.toml"), registry)
    assert config.daemon.data == f"/var/lib/{settings['StateDirectory'][0]}"
    [socket] = [url for url in config.daemon.listen if url.startswith("unix:")]
    assert socket.startswith(f"unix:/run/{settings['RuntimeDirectory'][0]}/")
    assert float(settings["TimeoutStopSec"][0]) > config.daemon.drain_s + 10
    assert int(settings["LimitNOFILE"][0]) > config.session.sessions + 64


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_knows_every_key_of_the_unit(tmp_path: Path) -> None:
    # The commands are replaced: whether `streamer` is on the path of this machine is no matter.
    text = re.sub(r"^(Exec\w+)=.*$", r"\1=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    copy = tmp_path / "streamer.service"
    copy.write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in result.stderr.splitlines() if "streamer.service" in line]
    assert not complaints
