"""How the daemon is: alive and making progress, ready for sessions, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from streamer.pipeline.runner import PipelineState
from streamer.storage.partition import LogState

if TYPE_CHECKING:
    from streamer.daemon.supervisor import Daemon
    from streamer.pipeline.streams import Streams

#: An append without an answer for so long means that the daemon makes no progress.
_STALLED_S = 15.0


@attrs.frozen
class Health:
    """How the daemon is; `reasons` are sentences for people, empty when all is well."""

    #: Alive and making progress.
    ok: bool
    #: New clients are welcome.
    ready: bool
    reasons: tuple[str, ...] = ()


def health_of(daemon: Daemon) -> Health:
    """The state of all its parts, as it is now."""
    failing = list(_of_pipelines(daemon))
    reasons: list[str] = []
    if daemon.streams is not None:
        for grave, reason in _of_streams(daemon.streams):
            (failing if grave else reasons).append(reason)
    if daemon.deliver is not None:
        failing += [daemon.deliver.down] if daemon.deliver.down else []
        reasons += daemon.deliver.health()
    ready = daemon.ready and not failing
    if not daemon.ready:
        reasons.append("draining" if daemon.stopping else "starting")
    return Health(ok=not failing, ready=ready, reasons=(*failing, *reasons))


def _of_pipelines(daemon: Daemon) -> Iterator[str]:
    for pipeline in daemon.pipelines:
        if pipeline.state is not PipelineState.RUNNING and not daemon.stopping:
            yield f"pipeline {pipeline.name!r} is {pipeline.state.value}: {pipeline.last_error}"
        oldest_s = pipeline.oldest_s
        if oldest_s > _STALLED_S:
            yield (
                f"pipeline {pipeline.name!r} has an append without an answer for {oldest_s:.0f} s"
            )


def _of_streams(streams: Streams) -> Iterator[tuple[bool, str]]:
    """What is wrong, and whether a restart may help: then the daemon is not well."""
    for stream in streams.all():
        for partition in stream.partitions:
            where = f"partition {partition.number} of stream {stream.name!r}"
            if partition.log.state is LogState.STOPPED:
                yield True, f"{where} takes no writes: {partition.log.stopped_by}"
            elif partition.log.state is LogState.DAMAGED:
                yield False, f"{where} is damaged and takes no writes"
    for name, error in streams.unavailable.items():
        yield False, f"stream {name!r} could not be opened: {error.message}"
