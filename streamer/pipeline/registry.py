"""Which stages there are: an object that is passed in, never a global.

Rules: names come from the entry-point group `streamer.stages`; only a name that the config uses
is imported, so that an installed plugin nobody named has no say. A plugin has the daemon's rights:
naming it is the permission. Two packages that offer the same name are refused, not ranked.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import attrs

from streamer.errors import StreamerError
from streamer.pipeline.deliver import DeliverPlugin
from streamer.pipeline.stage import StagePlugin
from streamer.settings import nearest

GROUP = "streamer.stages"
#: The places in the flow, in their order.
PLACES = ("ingest", "propose", "persist", "ack")
#: Beside the flow.
DELIVER = "deliver"


class UnknownStage(StreamerError):
    """No stage of that name can stand in that place.

    `found`, `allowed` and `suggestion` are the parts of a config fault.
    """

    code = "unknown_stage"

    def __init__(self, found: str, allowed: str, suggestion: str | None = None) -> None:
        hint = f" (did you mean {suggestion}?)" if suggestion else ""
        super().__init__(f"found {found}, allowed {allowed}{hint}")
        self.found = found
        self.allowed = allowed
        self.suggestion = suggestion


Plugin: TypeAlias = StagePlugin | DeliverPlugin
Loader = Callable[[], Plugin]


class Registry:
    """Stages by name. Immutable: `with_stages` and `without` give a new one."""

    def __init__(self, loaders: Mapping[str, Loader]) -> None:
        self._loaders = dict(loaders)

    @classmethod
    def installed(cls) -> Registry:
        """The stages of all installed packages; reads their names, imports none of them."""
        found: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for entry in importlib.metadata.entry_points(group=GROUP):
            found.setdefault(entry.name, []).append(entry)
        return cls({name: _EntryPoints(name, tuple(entries)) for name, entries in found.items()})

    @property
    def names(self) -> list[str]:
        """Known names, sorted, whichever place they are for."""
        return sorted(self._loaders)

    def with_stages(self, *plugins: Plugin) -> Registry:
        """This registry and `plugins`, which take the place of stages of the same name."""
        return Registry({**self._loaders, **{plugin.name: _Ready(plugin) for plugin in plugins}})

    def without(self, *names: str) -> Registry:
        """This registry less `names`."""
        return Registry({name: load for name, load in self._loaders.items() if name not in names})

    def get(self, place: str, name: str) -> StagePlugin:
        """The stage `name` for a place in the flow, imported now if it was not yet.

        Raises:
            UnknownStage: nobody offers it, it is for another place, or it cannot be imported.
        """
        assert place in PLACES, place
        plugin = self._get(place, name)
        assert isinstance(plugin, StagePlugin), "only one kind stands in the flow"
        return plugin

    def get_deliver(self, name: str) -> DeliverPlugin:
        """As `get`, for the place beside the flow."""
        plugin = self._get(DELIVER, name)
        assert isinstance(plugin, DeliverPlugin), "only one kind delivers"
        return plugin

    def _get(self, place: str, name: str) -> Plugin:
        load = self._loaders.get(name)
        if load is None:
            raise UnknownStage(
                f'stage "{name}"',
                f"one of the installed stages {_list(self.names)}",
                nearest(name, self.names),
            )
        plugin = load()
        if plugin.place != place:
            raise UnknownStage(
                f'stage "{name}", which is for {plugin.place}', f"a stage for {place}"
            )
        return plugin


@attrs.frozen
class _Ready:
    plugin: Plugin

    def __call__(self) -> Plugin:
        return self.plugin


@attrs.frozen
class _EntryPoints:
    name: str
    entries: tuple[importlib.metadata.EntryPoint, ...]

    def __call__(self) -> Plugin:
        offers = sorted({entry.value for entry in self.entries})
        if len(offers) > 1:
            raise UnknownStage(
                f'stage "{self.name}" in more than one package: {", ".join(offers)}',
                "one package for a name",
            )
        try:
            plugin = self.entries[0].load()
        except Exception as error:
            # Whatever an import of foreign code raises, the operator needs the same two facts.
            raise UnknownStage(
                f'stage "{self.name}", but {offers[0]} fails with {type(error).__name__}: {error}',
                "a stage that can be imported",
            ) from error
        if not isinstance(plugin, StagePlugin | DeliverPlugin):
            raise UnknownStage(
                f'stage "{self.name}", but {offers[0]} is no StagePlugin', "a StagePlugin"
            )
        return plugin


def _list(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "(none)"
