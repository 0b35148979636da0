"""What a graph shows: pipelines with their stages, the streams they serve, and who reads those.

Rules: the same for a running daemon and for a configuration; of the latter there are limits and no
figures, which are None. A document of another version of the daemon may lack anything; what is not
there is None or left out, and nothing raises for it. A stream's companions (dead letters, what
waits for its time) stand with their stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from streamer.names import DEAD, DELAYED, OWN_PREFIX
from streamer_tools.top.figures import is_number
from streamer_tools.top.scene import at, maps

if TYPE_CHECKING:
    from streamer.config import Config


@attrs.frozen
class Stage:
    """A stage, and the channel in front of it; rates by the second, latencies in seconds."""

    place: str
    stage: str
    items: float | None = None
    items_max: float | None = None
    bytes: float | None = None
    bytes_max: float | None = None
    items_per_s: float | None = None
    queueing_p99_s: float | None = None
    service_p99_s: float | None = None


@attrs.frozen
class Group:
    """A consumer group."""

    name: str
    mode: str
    paused: bool = False
    members: float | None = None
    lag: float | None = None
    oldest_age_s: float | None = None
    dead: float | None = None


@attrs.frozen
class Stream:
    """A stream; `dead` and `delayed` are the records in its companions, None without them."""

    name: str
    state: str = "open"
    records: float | None = None
    records_per_s: float | None = None
    dead: float | None = None
    delayed: float | None = None
    groups: tuple[Group, ...] = ()


@attrs.frozen
class Pipeline:
    name: str
    #: Names and globs of the streams that it serves.
    globs: tuple[str, ...]
    stages: tuple[Stage, ...]
    streams: tuple[Stream, ...] = ()
    #: None for one that is only configured.
    state: str | None = None
    records_per_s: float | None = None
    append_p99_s: float | None = None

    @property
    def no_streams(self) -> str:
        """Why there are none."""
        if self.state is None:
            return "readers and consumer groups"
        if self.globs and all(glob.startswith(OWN_PREFIX) for glob in self.globs):
            return "the daemon's own streams"
        return "no streams yet"


def of_overview(document: Any) -> tuple[Pipeline, ...]:
    """The graph of a daemon's overview."""
    streams = _streams(maps(at(document, "streams")), maps(at(document, "groups")))
    found = []
    for row in maps(at(document, "pipelines")):
        name = _text(row.get("name"))
        globs = row.get("streams")
        found.append(
            Pipeline(
                name,
                tuple(map(str, globs)) if isinstance(globs, list | tuple) else (),
                tuple(_stage(stage) for stage in maps(row.get("stages"))),
                streams.get(name, ()),
                _text(row.get("state")),
                _number(at(row, "rates", "records")),
                _p99(row.get("append")),
            )
        )
    return tuple(found)


def of_config(config: Config) -> tuple[Pipeline, ...]:
    """The graph of a configuration: what would run."""
    return tuple(
        Pipeline(
            pipeline.name,
            pipeline.streams,
            tuple(
                Stage(
                    place,
                    stage.stage,
                    items_max=stage.channel.items,
                    bytes_max=stage.channel.bytes,
                )
                for place, stage in pipeline.stages.items()
            ),
        )
        for pipeline in config.pipelines
    )


def _stage(row: Mapping[str, Any]) -> Stage:
    channel = row.get("channel")
    return Stage(
        _text(row.get("place")),
        _text(row.get("stage")),
        items=_number(at(channel, "items")),
        items_max=_number(at(channel, "items_max")),
        bytes=_number(at(channel, "bytes")),
        bytes_max=_number(at(channel, "bytes_max")),
        items_per_s=_number(row.get("items_per_s")),
        queueing_p99_s=_p99(row.get("queueing")),
        service_p99_s=_p99(row.get("service")),
    )


def _streams(
    rows: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[Stream, ...]]:
    """Streams by the pipeline that serves them: those with groups first, then the busiest."""
    records = {_text(row.get("name")): _number(row.get("records")) for row in rows}
    found: dict[str, list[Stream]] = {}
    for row in rows:
        name = _text(row.get("name"))
        if _is_companion(name, records):
            continue
        stream = Stream(
            name,
            _text(row.get("state") or "open"),
            records[name],
            _number(row.get("records_per_s")),
            records.get(name + DEAD),
            records.get(name + DELAYED),
            tuple(_group(each) for each in groups if each.get("stream") == name),
        )
        found.setdefault(_text(row.get("pipeline")), []).append(stream)
    for streams in found.values():
        streams.sort(key=lambda each: (not each.groups, -(each.records_per_s or 0.0), each.name))
    return {pipeline: tuple(streams) for pipeline, streams in found.items()}


def _is_companion(name: str, known: Mapping[str, Any]) -> bool:
    return any(
        name.endswith(suffix) and name.removesuffix(suffix) in known for suffix in (DEAD, DELAYED)
    )


def _group(row: Mapping[str, Any]) -> Group:
    return Group(
        _text(row.get("group")),
        "by key" if row.get("order") == "key" else _text(row.get("mode")),
        row.get("paused") is True,
        _number(row.get("members")),
        _number(row.get("lag")),
        _number(row.get("oldest_age_s")),
        _number(row.get("dead")),
    )


def _p99(latency: Any) -> float | None:
    return _number(at(latency, "p99_s")) if at(latency, "count") else None


def _number(value: Any) -> float | None:
    return value if is_number(value) else None


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
