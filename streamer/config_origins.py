"""Where each setting of a configuration came from, and all of them as plain values.

Rules:

- Origins travel beside the settings (`Config.origins`): they are no part of what is configured, so
  two configurations with the same settings are equal wherever these came from.
- A key is the path to a setting, with dots: `session.window_bytes`, `pipelines.NAME.persist.fsync`,
  `streams.override[0].segment_bytes`. Pipelines go by name, as people and tools name them.
- What nobody set is not noted: it is "default", and what that is stands with the field.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from streamer.settings import about, fields_of, key_text

if TYPE_CHECKING:
    from streamer.config import Config, PipelineConfig
    from streamer.config_streams import StreamsConfig

#: The origin of a setting that nobody set.
DEFAULT = "default"
#: The name of a pipeline whose table does not say it.
_UNNAMED = "default"


@attrs.frozen
class Origins:
    """The origin of each setting that somebody set, by its key."""

    file: str = ""
    noted: Mapping[str, str] = attrs.field(factory=dict)

    def of(self, key: str) -> str:
        """Where the setting came from, as a text for people; "default" where nobody set it."""
        found = self.noted.get(key)
        if found is None:
            # A setting that is a table is noted by its keys.
            inner = (at for at in self.noted if at.startswith(f"{key}."))
            found = self.noted.get(next(inner, ""), DEFAULT)
        return found

    def with_origin(self, key: str, origin: str) -> Origins:
        """The same, with another origin for one setting."""
        return attrs.evolve(self, noted={**self.noted, key: origin})

    def reloaded(self, new: Origins, keys: Iterable[str], at_us: int | None) -> Origins:
        """The same after the settings `keys` were taken over from `new`, at `at_us`
        (microseconds since 1970; None where nobody tells)."""
        noted = dict(self.noted)
        at = "" if at_us is None else f" at {_time(at_us)}"
        for key in keys:
            origin = new.of(key)
            source = f"{new.file} (default)" if origin == DEFAULT else origin
            noted[key] = f"reloaded from {source}{at}"
        return attrs.evolve(self, noted=noted)


def origins_of(tree: Mapping[str, Any], file: str, options: Iterable[str] = ()) -> Origins:
    """The origins of a tree as `tomllib` gives it; `options` are keys of `[daemon]` that the
    command line gave. The tree need not be without faults: what is not understood is left out."""
    noted: dict[str, str] = {}
    for name, section in tree.items():
        if name == "pipelines":
            _note_pipelines(section, file, noted)
        elif isinstance(section, Mapping):
            rest = dict(section)
            if name == "streams":
                _note_overrides(rest.pop("override", None), file, noted)
            path = key_text(name)
            _note(rest, path, f"{file} [{path}", "]", noted)
    for option in options:
        noted[f"daemon.{option}"] = f"--{option}"
    return Origins(file, noted)


def _note(
    table: Mapping[str, Any], prefix: str, before: str, behind: str, noted: dict[str, str]
) -> None:
    """Note all settings of a table whose name stands in an origin between two texts."""
    for name, value in table.items():
        key = f"{prefix}.{key_text(name)}"
        if isinstance(value, Mapping):
            _note(value, key, f"{before}.{key_text(name)}", behind, noted)
        else:
            noted[key] = before + behind


def _note_pipelines(pipelines: Any, file: str, noted: dict[str, str]) -> None:
    for table in _tables(pipelines):
        name = table.get("name", _UNNAMED)
        if not isinstance(name, str):
            continue
        key = f"pipelines.{key_text(name)}"
        own = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
        stages = {name: value for name, value in table.items() if name not in own}
        _note(own, key, f"{file} [[pipelines", f"]] {name}", noted)
        _note(stages, key, f"{file} [pipelines", f"] of {name}", noted)


def _note_overrides(overrides: Any, file: str, noted: dict[str, str]) -> None:
    for index, table in enumerate(_tables(overrides)):
        patterns = table.get("streams", [])
        shown = ", ".join(map(str, patterns)) if isinstance(patterns, list) else str(patterns)
        for key in table:
            where = f"streams.override[{index}].{key_text(key)}"
            noted[where] = f"{file} [[streams.override]] {shown}".rstrip()


def _tables(value: Any) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)]


# -------------------------------------------------------------------------------- all of them


def explain(config: Config) -> list[dict[str, Any]]:
    """Every setting as a map of plain values: `key`, `value`, `default`, `origin`, `help`, `unit`
    and `reload`. The default of a setting of an override is what `[streams]` says."""
    origins = config.origins
    found: list[dict[str, Any]] = []
    for field in fields_of(type(config)):
        section = getattr(config, field.name)
        if attrs.has(type(section)) and field.name != "deliver":
            found += _explained(section, field.name, origins)
    found += _overrides(config.streams, origins)
    found += _stage("deliver", config.deliver, origins)
    for pipeline in config.pipelines:
        found += _pipeline(pipeline, origins)
    return found


def _overrides(streams: StreamsConfig, origins: Origins) -> Iterator[dict[str, Any]]:
    for index, override in enumerate(streams.override):
        for field in fields_of(type(override)):
            if getattr(override, field.name) is not None:
                default = getattr(streams, field.name, ())
                key = f"streams.override[{index}].{field.name}"
                yield _doc(field, key, override, origins, default)


def _explained(owner: Any, prefix: str, origins: Origins) -> Iterator[dict[str, Any]]:
    for field in fields_of(type(owner)):
        value, key = getattr(owner, field.name), f"{prefix}.{field.name}"
        if attrs.has(type(value)):
            yield from _explained(value, key, origins)
        elif not _is_tables(value) and key != "streams.override":
            yield _doc(field, key, owner, origins, _default(field))


def _pipeline(pipeline: PipelineConfig, origins: Origins) -> Iterator[dict[str, Any]]:
    prefix = f"pipelines.{key_text(pipeline.name)}"
    stages = pipeline.stages
    for field in fields_of(type(pipeline)):
        if field.name not in stages:
            yield _doc(field, f"{prefix}.{field.name}", pipeline, origins, _default(field))
    for place, stage in stages.items():
        yield from _stage(f"{prefix}.{place}", stage, origins)


def _stage(prefix: str, stage: Any, origins: Origins) -> Iterator[dict[str, Any]]:
    """A `StageConfig` or a `DeliverConfig`."""
    from streamer.config import DEFAULT_STAGES

    key = f"{prefix}.stage"
    yield {
        "key": key,
        "value": stage.stage,
        "default": DEFAULT_STAGES[prefix.rpartition(".")[2]],
        "origin": origins.of(key),
        "help": "Which stage stands here, by its name in the entry-point group streamer.stages.",
        "unit": "",
        "reload": False,
    }
    channel = getattr(stage, "channel", None)
    if channel is not None:
        yield from _explained(channel, f"{prefix}.channel", origins)
    if attrs.has(type(stage.settings)):
        yield from _explained(stage.settings, prefix, origins)


def _doc(
    field: attrs.Attribute[Any], key: str, owner: Any, origins: Origins, default: Any
) -> dict[str, Any]:
    setting = about(field)
    return {
        "key": key,
        "value": _plain(getattr(owner, field.name)),
        "default": _plain(default),
        "origin": origins.of(key),
        "help": setting.help,
        "unit": setting.unit,
        "reload": setting.reload,
    }


def _default(field: attrs.Attribute[Any]) -> Any:
    """The field's default; None for one that has none, or makes it of the other fields."""
    default: Any = field.default
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return None if default.takes_self else default.factory()
    return default


def _is_tables(value: Any) -> bool:
    return isinstance(value, tuple | list) and any(attrs.has(type(item)) for item in value)


def _plain(value: Any) -> Any:
    """What CBOR and JSON have a form for."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    return str(value)


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
