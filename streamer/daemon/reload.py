"""What a changed configuration changes in a running daemon: the settings marked `reload`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from streamer.config import Config
from streamer.settings import about, fields_of


@attrs.frozen
class Reload:
    """A configuration to go on with, and which changed keys are in it and which are not."""

    config: Config
    applied: Sequence[str]
    refused: Sequence[str]


def reload_config(old: Config, new: Config, at_us: int | None = None) -> Reload:
    """Take from `new` what may change in a running daemon, keep the rest of `old`.

    `at_us` is when, in microseconds since 1970, for the origins of what was taken.
    """
    applied: list[str] = []
    refused: list[str] = []
    merged = _merge(old, new, "", applied, refused)
    origins = old.origins.reloaded(new.origins, applied, at_us)
    return Reload(attrs.evolve(merged, origins=origins), applied, refused)


def _merge(old: Any, new: Any, prefix: str, applied: list[str], refused: list[str]) -> Any:
    changes: dict[str, Any] = {}
    for field in fields_of(type(old)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        key = f"{prefix}{field.name}"
        if before == after:
            continue
        if attrs.has(type(before)) and type(before) is type(after):
            changes[field.name] = _merge(before, after, f"{key}.", applied, refused)
        elif about(field).reload:
            changes[field.name] = after
            applied.append(key)
        else:
            refused.append(key)
    return attrs.evolve(old, **changes)
