"""What a stage is given besides its config: the world as far as it may touch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
import structlog

from streamer.limits import BatchLimits
from streamer.pipeline.disk import Disk
from streamer.pipeline.flow import Flow
from streamer.pipeline.stage import Append
from streamer.pipeline.streams import Streams
from streamer.stats import Stats


@attrs.frozen(eq=False)
class StageContext:
    """Shared by the stages of one pipeline. Time that orders or bounds is `trio.current_time()`."""

    pipeline: str
    streams: Streams
    limits: BatchLimits
    stats: Stats
    flow: Flow
    #: The pipeline's own disk thread: for persist.
    disk: Disk
    #: Wall clock, microseconds since 1970 UTC; only for what people read, and for retention.
    now_us: Callable[[], int]
    log: structlog.stdlib.BoundLogger
    #: The appends that have no answer yet, wherever they are, oldest first (some may have one).
    under_way: Callable[[], Iterable[Append]]
