"""What the configuration says of a stream, by its name."""

from __future__ import annotations

from streamer.config import Config
from streamer.names import COMPANIONS, OWN_PREFIX
from streamer.pipeline.streams import StreamSettings
from streamer.storage.partition import LogSettings

_OWN_SEGMENT_BYTES = 16 * 1024 * 1024


def settings_of(config: Config, name: str) -> StreamSettings:
    """The settings of the stream `name`, which need not exist."""
    if name.startswith(OWN_PREFIX) or name.endswith(COMPANIONS):
        return _own(config, name)
    found = config.streams.of(name)
    return StreamSettings(
        partitions=found.partitions,
        auto_create=config.streams.auto_create,
        retention_groups=found.retention_groups,
        storage=found.storage,
        log=LogSettings(
            segment_bytes=found.segment_bytes,
            index_bytes=found.index_bytes,
            retention_bytes=found.retention_bytes or None,
            retention_s=found.retention_s or None,
            producers=found.producers,
            limits=config.batch.limits,
            memory_bytes=found.memory_bytes,
        ),
    )


def _own(config: Config, name: str) -> StreamSettings:
    """Of the daemon's own streams, and of companions: what is still needed is kept, however old
    or much it is, and the rest is not."""
    found = config.streams.of(name)
    return StreamSettings(
        retention_groups=("$streamer",),
        log=LogSettings(
            segment_bytes=min(found.segment_bytes, _OWN_SEGMENT_BYTES),
            index_bytes=found.index_bytes,
            retention_bytes=1,
            producers=found.producers,
            limits=config.batch.limits,
        ),
    )
