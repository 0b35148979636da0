"""The daemon's configuration: what can be set, and what each setting is when nobody sets it.

Rules:

- The defaults are those of the classes here and of the stages' own settings classes: there is no
  second list. A file that leaves a key, a table or all of it out gets them.
- Help, unit and bounds stand with the field (`streamer.settings`); what concerns two fields at
  once is in `config_checks`; reading files and the command line is in `config_load`; what is set
  for each stream is in `config_streams`.
- 0 means "none" where a bound may be absent: TOML has no null.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from streamer.config_origins import Origins
from streamer.config_sla import SlaConfig
from streamer.config_streams import StreamConfig, StreamOverride, StreamsConfig, matches
from streamer.config_trace import TraceConfig
from streamer.limits import GIB, KIB, MIB, BatchLimits, WireLimits
from streamer.names import COMPANIONS, OWN_PREFIX
from streamer.settings import BESIDE, setting

__all__ = [
    "DEFAULT_STAGES",
    "BatchConfig",
    "ChannelConfig",
    "Config",
    "ConsoleConfig",
    "DaemonConfig",
    "DeliverConfig",
    "LogConfig",
    "PipelineConfig",
    "SessionConfig",
    "SlaConfig",
    "StageConfig",
    "StreamConfig",
    "StreamOverride",
    "StreamsConfig",
    "TraceConfig",
    "matches",
]

#: Which stage stands in a place that a pipeline's table leaves out.
DEFAULT_STAGES = {
    "ingest": "group",
    "propose": "local",
    "persist": "log",
    "ack": "session",
    "deliver": "groups",
}


@attrs.frozen
class DaemonConfig:
    data: str = setting(
        "./streamer-data",
        "Directory of the logs; made if absent, locked while the daemon runs. A relative one "
        "starts where the daemon was started.",
    )
    listen: tuple[str, ...] = setting(
        ("ws://127.0.0.1:4440",),
        "Where sessions come in: ws://HOST:PORT, tcp://HOST:PORT or unix:PATH, any number of them.",
    )
    http: str = setting("127.0.0.1:4441", 'Health and metrics, as HOST:PORT; "" for none.')
    drain_s: float = setting(
        10.0,
        "Budget for going down in order: stop accepting, flush, acknowledge, close.",
        unit="s",
        min=0,
        max=3600,
        reload=True,
    )
    allow_remote: bool = setting(
        False,
        "Allow addresses that other machines can reach. There is no TLS and there are no tokens "
        "yet, so whoever can connect can read and write everything.",
    )
    origins: tuple[str, ...] = setting(
        (),
        "Web pages that may connect, by their Origin (https://example.org); programs send none "
        "and may always.",
        reload=True,
    )
    read_threads: int = setting(
        4,
        "Threads that read from the disk, for all readers and groups together; each pipeline "
        "writes in one of its own.",
        unit="threads",
        min=1,
        max=64,
    )


@attrs.frozen
class ConsoleConfig:
    """The web page on the HTTP port."""

    actions: bool = setting(
        False,
        "Let the console redrive dead letters; otherwise it only shows. Whoever can reach the "
        "HTTP port can do it then.",
        reload=True,
    )


@attrs.frozen
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Events below it are not logged.", reload=True
    )
    format: Literal["auto", "human", "json"] = setting(
        "auto", '"auto" is "human" on a terminal and "json" otherwise.', reload=True
    )


@attrs.frozen
class SessionConfig:
    sessions: int = setting(1000, "Sessions at once, in all.", unit="sessions", min=1, max=100_000)
    sessions_per_address: int = setting(
        512, "Sessions at once from one address.", unit="sessions", min=1, max=100_000
    )
    handshake_s: float = setting(
        5.0, "A peer must have greeted by then.", unit="s", min=0.1, max=600
    )
    idle_s: float = setting(
        60.0,
        "A session that says nothing for so long is asked for a sign of life, then ended.",
        unit="s",
        min=1,
        max=86_400,
    )
    send_s: float = setting(
        10.0, "A peer that takes nothing for so long is dropped.", unit="s", min=0.1, max=600
    )
    requests: int = setting(
        1024, "Requests under way in one session.", unit="requests", min=1, max=65_536
    )
    window_bytes: int = setting(
        4 * MIB,
        "Credit of one session: bytes that it may have under way.",
        unit="bytes",
        min=64 * KIB,
        max=1 * GIB,
    )
    budget_bytes: int = setting(
        64 * MIB,
        "Credit of all sessions together; when it gets short, each gets a smaller window.",
        unit="bytes",
        min=64 * KIB,
        max=64 * GIB,
    )
    frame_bytes: int = setting(
        1 * MIB + 64 * KIB,
        "The largest frame; a batch and its envelope must fit.",
        unit="bytes",
        min=8 * KIB,
        max=64 * MIB,
    )
    subscriptions: int = setting(
        100, "Subscriptions of one session.", unit="subscriptions", min=0, max=10_000
    )
    send_queue_bytes: int = setting(
        4 * MIB,
        "Bytes that may wait for one slow reader; the rest of its backlog stays in the log.",
        unit="bytes",
        min=64 * KIB,
        max=1 * GIB,
    )

    @property
    def wire_limits(self) -> WireLimits:
        """What `hello` tells a client."""
        return WireLimits(
            frame_bytes=self.frame_bytes,
            requests=self.requests,
            window_bytes=self.window_bytes,
            subscriptions=self.subscriptions,
        )


@attrs.frozen
class BatchConfig:
    """`BatchLimits` as settings, and how the daemon compresses the batches that it makes."""

    batch_bytes: int = setting(
        BatchLimits().batch_bytes,
        "The largest batch, as it is sent and stored.",
        unit="bytes",
        min=4 * KIB,
        max=32 * MIB,
    )
    raw_bytes: int = setting(
        BatchLimits().raw_bytes,
        "The largest batch when decompressed.",
        unit="bytes",
        min=4 * KIB,
        max=1 * GIB,
    )
    records: int = setting(
        BatchLimits().records, "Records in a batch.", unit="records", min=1, max=1_000_000
    )
    ratio: int = setting(
        BatchLimits().ratio,
        "How many times larger a batch may get when decompressed: logs reach 20, bombs more.",
        min=2,
        max=100_000,
    )
    value_bytes: int = setting(
        BatchLimits().value_bytes,
        "The largest value of a record.",
        unit="bytes",
        min=1,
        max=32 * MIB,
    )
    key_bytes: int = setting(
        BatchLimits().key_bytes,
        "The largest key of a record.",
        unit="bytes",
        min=1,
        max=1 * MIB,
    )
    headers_bytes: int = setting(
        BatchLimits().headers_bytes,
        "The headers of a record, names and values together.",
        unit="bytes",
        min=0,
        max=1 * MIB,
    )
    headers: int = setting(
        BatchLimits().headers, "Headers of a record.", unit="headers", min=0, max=1024
    )
    zstd_level: int = setting(
        1,
        "Level of zstd for batches that the daemon makes of single records; 1 is the fastest.",
        min=1,
        max=19,
        reload=True,
    )

    @property
    def limits(self) -> BatchLimits:
        return BatchLimits(
            **{field.name: getattr(self, field.name) for field in attrs.fields(BatchLimits)}
        )


@attrs.frozen
class ChannelConfig:
    """The channel in front of a stage; when it is full, the stage before it waits."""

    items: int = setting(
        1024, "Groups or batches that may wait.", unit="items", min=1, max=1_000_000
    )
    bytes: int = setting(
        8 * MIB,
        "Bytes that may wait; a larger item passes alone.",
        unit="bytes",
        min=4 * KIB,
        max=16 * GIB,
    )


@attrs.frozen
class StageConfig:
    """Which stage stands in a place, and what it was told."""

    stage: str
    channel: ChannelConfig
    #: An instance of the stage's own settings class.
    settings: Any


@attrs.frozen
class DeliverConfig:
    """`[deliver]`: which stage hands out to consumer groups, and what it was told."""

    stage: str
    #: An instance of the stage's own settings class.
    settings: Any


@attrs.frozen
class PipelineConfig:
    """The stages that serve some streams."""

    ingest: StageConfig
    propose: StageConfig
    persist: StageConfig
    ack: StageConfig
    name: str = setting("default", "Its name in logs, metrics and tools.")
    streams: tuple[str, ...] = setting(
        ("*",),
        "Names or globs of the streams it serves; the first pipeline that matches serves a stream.",
    )
    on_crash: Literal["restart", "stop"] = setting(
        "restart",
        'What follows the crash of a stage: "restart" the pipeline after a pause, or "stop" it '
        "and leave the others alone.",
    )
    backoff_s: float = setting(
        0.5,
        "Pause before the first restart; it doubles with each further crash.",
        unit="s",
        min=0.001,
        max=3600,
    )
    backoff_max_s: float = setting(
        30.0, "The longest pause between restarts.", unit="s", min=0.001, max=3600
    )

    @property
    def stages(self) -> dict[str, StageConfig]:
        """The stages by place, in the order of the flow."""
        return {
            "ingest": self.ingest,
            "propose": self.propose,
            "persist": self.persist,
            "ack": self.ack,
        }


@attrs.frozen
class Config:
    """All of it. `config_load` makes it; it has been checked as a whole."""

    pipelines: tuple[PipelineConfig, ...]
    deliver: DeliverConfig
    daemon: DaemonConfig = attrs.field(factory=DaemonConfig)
    console: ConsoleConfig = attrs.field(factory=ConsoleConfig)
    log: LogConfig = attrs.field(factory=LogConfig)
    session: SessionConfig = attrs.field(factory=SessionConfig)
    batch: BatchConfig = attrs.field(factory=BatchConfig)
    streams: StreamsConfig = attrs.field(factory=StreamsConfig)
    sla: SlaConfig = attrs.field(factory=SlaConfig)
    trace: TraceConfig = attrs.field(factory=TraceConfig)
    #: Where each setting came from.
    origins: Origins = attrs.field(factory=Origins, eq=False, repr=False, metadata=BESIDE)

    def pipeline_of(self, stream: str) -> PipelineConfig | None:
        """The pipeline that serves `stream`: the first one that matches. A companion that none
        matches goes with its stream; the daemon's own streams have a pipeline of their own."""
        if stream.startswith(OWN_PREFIX):
            return None
        for pipeline in self.pipelines:
            if matches(stream, pipeline.streams):
                return pipeline
        for suffix in COMPANIONS:
            if stream.endswith(suffix):
                return self.pipeline_of(stream.removesuffix(suffix))
        return None
