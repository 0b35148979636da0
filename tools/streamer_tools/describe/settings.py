"""Settings of one thing, out of what the verb `config` tells: value, default, origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from streamer_tools import show
from streamer_tools.describe.sheet import Fact

Docs = Sequence[Mapping[str, Any]]

#: What `[streams]` has that is of all streams together, and no stream's own.
_OF_ALL_STREAMS = frozenset({"auto_create", "streams_max"})


def under(docs: Docs, *prefixes: str) -> list[dict[str, Any]]:
    """The settings whose keys begin so, with the keys as they are below the prefix."""
    return [
        {**doc, "name": doc["key"].removeprefix(prefix)}
        for prefix in prefixes
        for doc in docs
        if doc["key"].startswith(prefix)
    ]


def of_stream(docs: Docs, stream: str) -> list[dict[str, Any]]:
    """How a stream is kept: as the first override that matches says, else as `[streams]`."""
    by_key = {doc["key"]: doc for doc in docs}
    found = []
    override = _override(by_key, stream)
    for doc in under(docs, "streams."):
        name = doc["name"]
        if "[" in name or "." in name or name in _OF_ALL_STREAMS:
            continue
        own = by_key.get(f"{override}.{name}") if override else None
        found.append(doc if own is None else {**own, "name": name})
    return found


def _override(by_key: Mapping[str, Mapping[str, Any]], stream: str) -> str | None:
    index = 0
    while (doc := by_key.get(f"streams.override[{index}].streams")) is not None:
        if any(fnmatchcase(stream, pattern) for pattern in doc["value"]):
            return f"streams.override[{index}]"
        index += 1
    return None


def facts(found: Iterable[Mapping[str, Any]]) -> list[Fact]:
    """A line for each setting: its value, the default where it differs, where it came from."""
    lines = []
    for doc in found:
        value, default = (text(doc.get(key), doc.get("unit", "")) for key in ("value", "default"))
        if value != default and doc.get("origin") != "default":
            value += f" (default {default})"
        note = doc.get("origin", "-")
        lines.append(Fact(doc["name"], value, note))
    return lines


def text(value: Any, unit: str) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, int | float):
        if unit == "bytes":
            return show.size(value) if value else "0"
        number = f"{value:,}" if isinstance(value, int) else f"{value:g}"
        return f"{number} s" if unit == "s" else number
    return str(value) or '""'


def plain(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same for JSON."""
    return [{key: value for key, value in doc.items() if key != "name"} for doc in found]
