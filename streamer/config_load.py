"""From a TOML file, or none, and the command line to a checked `Config`, or to all its faults.

Rules: nothing here touches the network or the data directory; a file is read once, whole. A fault
names the file, or the option of the command line that gave the value.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import cattrs

from streamer.config import DEFAULT_STAGES, ChannelConfig, Config, DeliverConfig, StageConfig
from streamer.config_checks import check
from streamer.config_origins import origins_of
from streamer.errors import ConfigError
from streamer.limits import MIB
from streamer.pipeline.registry import DELIVER, PLACES, Plugin, Registry, UnknownStage
from streamer.settings import Fault, Faulty, faulty, key_text, new_converter, show, unknown_keys

#: What stands for the file in faults when there is none.
EMBEDDED = "(embedded default)"
#: A configuration is written by hand; more than this is the wrong file.
_FILE_BYTES_MAX = 4 * MIB
_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def load_config(
    path: str | None, registry: Registry, options: Mapping[str, Any] | None = None
) -> Config:
    """Read and check a configuration; `path` None gives the embedded default.

    `options` are settings of `[daemon]` given on the command line (`data`, `listen`, `http`), which
    take the place of the file's; None values are left out.

    Raises:
        ConfigError: with all faults, a line each.
    """
    if path is None:
        return structure_config({}, registry, EMBEDDED, options)
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise ConfigError([f"{path}: found {found}, allowed a readable TOML file"]) from error
    if len(data) > _FILE_BYTES_MAX:
        raise ConfigError(
            [f"{path}: found more than {_FILE_BYTES_MAX} bytes, allowed at most that many"]
        )
    return structure_config(parse_toml(data, path), registry, path, options)


def parse_toml(data: bytes, file: str) -> dict[str, Any]:
    """Decode TOML.

    Raises:
        ConfigError: it is none; the fault has line and column.
    """
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        found = f"byte 0x{data[error.start]:02x}"
        raise ConfigError([f"{file}: line {line}: found {found}, allowed UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        parts = _SYNTAX.fullmatch(str(error))
        reason = (parts[1] if parts else str(error)).rstrip(".")
        place = f" line {parts[2]} column {parts[3]}:" if parts and parts[2] else ""
        raise ConfigError([f"{file}:{place} found a fault ({reason}), allowed TOML"]) from error


def structure_config(
    tree: Mapping[str, Any],
    registry: Registry,
    file: str = "config",
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Make a `Config` of a tree as `tomllib` gives it; see `load_config`."""
    given = {key: value for key, value in (options or {}).items() if value is not None}
    origins = origins_of(tree, file, given)
    tree = _with_defaults(tree, given)
    converter = new_converter()
    converter.register_structure_hook(StageConfig, _stage_hook(registry, converter))
    converter.register_structure_hook(DeliverConfig, _deliver_hook(registry, converter))
    try:
        config = converter.structure(tree, Config)
        faults = check(config)
    except Faulty as error:
        faults = error.faults + _checks_of_the_rest(tree, error.faults, converter)
    if faults:
        raise ConfigError(list(dict.fromkeys(_line(fault, file, given) for fault in faults)))
    return attrs.evolve(config, origins=origins)


def _checks_of_the_rest(
    tree: dict[str, Any], known: list[Fault], converter: cattrs.Converter
) -> list[Fault]:
    """What the cross-checks say of a tree less its faulty keys, so that mending takes one round.

    What they say of a faulty key itself, or by it, is left out: it speaks of a default.
    """
    faulty_keys = [fault.key for fault in known]
    try:
        config = converter.structure(_pruned(tree, "", set(faulty_keys)), Config)
    except Faulty:
        return []
    return [
        fault
        for fault in check(config)
        if not any(fault.key.startswith(key) or key in fault.allowed for key in faulty_keys)
    ]


def _pruned(value: Any, path: str, without: set[str]) -> Any:
    """A copy of a tree less the keys in `without`; a faulty item takes its list along."""
    if isinstance(value, _Place):
        return _Place(value.place, _pruned(value.value, path, without))
    if isinstance(value, dict):
        inner = {key: f"{path}{'.' if path else ''}{key_text(key)}" for key in value}
        return {
            key: _pruned(item, inner[key], without)
            for key, item in value.items()
            if inner[key] not in without
            and not any(f"{inner[key]}[{index}]" in without for index in range(_length(item)))
        }
    if isinstance(value, list):
        return [_pruned(item, f"{path}[{index}]", without) for index, item in enumerate(value)]
    return value


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _line(fault: Fault, file: str, given: Mapping[str, Any]) -> str:
    for option in given:
        key = f"daemon.{option}"
        if fault.key == key or fault.key.startswith(f"{key}["):
            return attrs.evolve(fault, key="").line(f"--{option}")
    return fault.line(file)


@attrs.frozen
class _Place:
    """A stage's table, and where in the flow it stands: the type alone does not tell."""

    place: str
    value: Any


def _with_defaults(tree: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with the command line's settings, a pipeline, and a stage in each place of it."""
    whole = dict(tree)
    daemon = whole.get("daemon", {})
    if given and isinstance(daemon, dict):
        whole["daemon"] = {**daemon, **given}
    whole.setdefault("deliver", {})
    pipelines = whole.setdefault("pipelines", [{}])
    if isinstance(pipelines, list):
        whole["pipelines"] = [
            {**pipeline, **{place: _Place(place, pipeline.get(place, {})) for place in PLACES}}
            if isinstance(pipeline, dict)
            else pipeline
            for pipeline in pipelines
        ]
    return whole


def _stage_hook(
    registry: Registry, converter: cattrs.Converter
) -> Callable[[_Place, Any], StageConfig]:
    """Structure a stage's table: `stage` and `channel` are ours, the rest is the plugin's."""

    def structure(placed: _Place, _: Any) -> StageConfig:
        place, value = placed.place, placed.value
        if not isinstance(value, dict):
            raise faulty(show(value), "a table")
        faults: list[Fault] = []
        name = value.get("stage", DEFAULT_STAGES[place])
        channel = ChannelConfig()
        try:
            channel = converter.structure(value.get("channel", {}), ChannelConfig)
        except Faulty as error:
            faults += [fault.under("channel") for fault in error.faults]
        plugin = _plugin(lambda: registry.get(place, name), name, faults)
        settings = _settings(plugin, value, ["stage", "channel"], converter, faults)
        if faults:
            raise Faulty(faults)
        return StageConfig(stage=name, channel=channel, settings=settings)

    return structure


def _deliver_hook(
    registry: Registry, converter: cattrs.Converter
) -> Callable[[Any, Any], DeliverConfig]:
    """Structure `[deliver]`: as a stage's table, without a channel."""

    def structure(value: Any, _: Any) -> DeliverConfig:
        if not isinstance(value, dict):
            raise faulty(show(value), "a table")
        faults: list[Fault] = []
        name = value.get("stage", DEFAULT_STAGES[DELIVER])
        plugin = _plugin(lambda: registry.get_deliver(name), name, faults)
        settings = _settings(plugin, value, ["stage"], converter, faults)
        if faults:
            raise Faulty(faults)
        return DeliverConfig(stage=name, settings=settings)

    return structure


def _plugin(find: Callable[[], Plugin], name: Any, faults: list[Fault]) -> Plugin | None:
    if not isinstance(name, str):
        faults.append(Fault("stage", show(name), "the name of a stage, as text"))
        return None
    try:
        return find()
    except UnknownStage as error:
        faults.append(Fault("stage", error.found, error.allowed, error.suggestion))
        return None


def _settings(
    plugin: Plugin | None,
    value: dict[str, Any],
    ours: list[str],
    converter: cattrs.Converter,
    faults: list[Fault],
) -> Any:
    """An instance of the plugin's settings class; what is wrong goes to `faults`."""
    if plugin is None:
        return None
    own = [field.name for field in attrs.fields(plugin.config)]
    faults += unknown_keys(value, [*ours, *own])
    try:
        table = {key: value[key] for key in own if key in value}
        return converter.structure(table, plugin.config)
    except Faulty as error:
        faults += error.faults
        return None
