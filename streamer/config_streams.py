"""What can be set for streams: in `[streams]` for all, in `[[streams.override]]` for some."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import attrs

from streamer.limits import GIB, KIB, MIB, PARTITIONS_MAX
from streamer.settings import setting

_YEAR_S = 365 * 24 * 3600


@attrs.frozen
class StreamConfig:
    """How one stream is kept."""

    partitions: int = setting(
        1,
        "Partitions of a stream made on first use; with one, what goes in comes out in order.",
        unit="partitions",
        min=1,
        max=PARTITIONS_MAX,
        reload=True,
    )
    storage: Literal["disk", "memory"] = setting(
        "disk",
        'Where a stream made on first use keeps its records, for good: on the "disk", or in '
        '"memory" only, acked as accepted, with the oldest dropped when there is no room, and '
        "gone with the daemon.",
    )
    memory_bytes: int = setting(
        64 * MIB,
        "Bytes that a partition of a stream in memory keeps; the newest batch always stays.",
        unit="bytes",
        min=64 * KIB,
        max=64 * GIB,
    )
    segment_bytes: int = setting(
        64 * MIB,
        "A segment file is closed at that size; retention drops whole ones.",
        unit="bytes",
        min=64 * KIB,
        max=16 * GIB,
    )
    index_bytes: int = setting(
        64 * KIB,
        "An index entry (offset, position, time) each so many bytes of a segment.",
        unit="bytes",
        min=4 * KIB,
        max=16 * MIB,
    )
    retention_s: float = setting(
        0.0,
        "Drop segments whose newest record is older; 0 keeps them however old they are.",
        unit="s",
        min=0,
        max=10 * _YEAR_S,
    )
    retention_bytes: int = setting(
        0,
        "Drop a partition's oldest segments while it is above that size; 0 keeps all.",
        unit="bytes",
        min=0,
        max=1024 * 1024 * GIB,
    )
    retention_groups: tuple[str, ...] = setting(
        (), "Consumer groups that hold retention back: what one of them still needs is kept."
    )
    producers: int = setting(
        10_000,
        "Producers whose sequences a partition remembers, to tell duplicates; the longest silent "
        "is forgotten first.",
        unit="producers",
        min=1,
        max=10_000_000,
    )


def _as_in_streams(name: str) -> Any:
    """A field that may be left out, with the help and the bounds that it has in `[streams]`."""
    field = getattr(attrs.fields(StreamConfig), name)
    return attrs.field(default=None, metadata=field.metadata)


@attrs.frozen
class StreamOverride:
    """Other settings for some streams; what it leaves out (None) is as in `[streams]`."""

    streams: tuple[str, ...] = setting(
        (), "Names or globs of the streams it is for; the first override that matches counts."
    )
    partitions: int | None = _as_in_streams("partitions")
    storage: Literal["disk", "memory"] | None = _as_in_streams("storage")
    memory_bytes: int | None = _as_in_streams("memory_bytes")
    segment_bytes: int | None = _as_in_streams("segment_bytes")
    index_bytes: int | None = _as_in_streams("index_bytes")
    retention_s: float | None = _as_in_streams("retention_s")
    retention_bytes: int | None = _as_in_streams("retention_bytes")
    retention_groups: tuple[str, ...] | None = _as_in_streams("retention_groups")
    producers: int | None = _as_in_streams("producers")


@attrs.frozen
class StreamsConfig(StreamConfig):
    """`[streams]`: what holds for every stream that no override is for."""

    auto_create: bool = setting(
        True,
        "Make a stream when a program first names it; else only those that are there.",
        reload=True,
    )
    streams_max: int = setting(
        1000, "Streams in the data directory.", unit="streams", min=1, max=100_000
    )
    override: tuple[StreamOverride, ...] = setting((), "Other settings for some streams.")

    def of(self, name: str) -> StreamConfig:
        """The settings of the stream `name`."""
        names = [field.name for field in attrs.fields(StreamConfig)]
        chosen = {key: getattr(self, key) for key in names}
        for override in self.override:
            if matches(name, override.streams):
                own = {key: getattr(override, key) for key in names}
                chosen.update({key: value for key, value in own.items() if value is not None})
                break
        return StreamConfig(**chosen)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of `patterns` (names or globs with * ? [...]) is for `name`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
