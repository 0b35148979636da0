"""What a stage is given besides its config: the world as far as it may touch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import structlog

from streamer.limits import BatchLimits
from streamer.observe.events import Events
from streamer.pipeline.disk import Disk
from streamer.pipeline.flow import Flow
from streamer.pipeline.stage import Append
from streamer.pipeline.streams import Streams
from streamer.stats import Stats


@attrs.frozen
class Decision:
    """A limit that a stage has changed by itself."""

    #: Microseconds since 1970 UTC.
    at_us: int
    decision: str
    #: A sentence with the figures that it came from.
    reason: str
    before: float
    after: float


@attrs.frozen
class StageDetail:
    """What a stage tells those who look."""

    summary: str
    figures: dict[str, float]
    #: The newest ones, oldest first.
    decisions: tuple[Decision, ...] = ()

    def doc(self) -> dict[str, Any]:
        """As plain values."""
        return attrs.asdict(self)


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
    #: What people are told as it happens.
    events: Events
    #: `show(place, detail)`: have `detail()` called when somebody looks at the stage.
    show: Callable[[str, Callable[[], StageDetail]], None]
