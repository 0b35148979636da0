"""The daemon as one nest of scopes: what is opened first is closed last.

    http ( storage ( pipelines ( sessions ( listeners ) ) ) )

Going down is leaving the nest from the inside: listeners stop accepting, sessions answer what is
under way, pipelines drain, logs close with their markers. One budget (`drain_s`) covers all of
it, a part each; what is not done by its deadline is cancelled, and said.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import structlog
import trio

from streamer import __version__
from streamer.addresses import Address, parse
from streamer.config import (
    DEFAULT_STAGES,
    ChannelConfig,
    Config,
    PipelineConfig,
    StageConfig,
)
from streamer.daemon.console import console_routes, inside_of
from streamer.daemon.gauges import register_gauges
from streamer.daemon.health import Health, health_of
from streamer.daemon.http import build_app, serve_http
from streamer.daemon.inspector import Inspector
from streamer.daemon.sampler import Sampler
from streamer.daemon.stream_settings import settings_of
from streamer.daemon.tracing import exporting
from streamer.daemon.varz import collect_varz
from streamer.errors import NotAllowed
from streamer.names import OWN_PREFIX
from streamer.observe.events import Events
from streamer.observe.sla import Sla, sla_metrics
from streamer.observe.taps import Taps
from streamer.observe.traces import Tracer
from streamer.pipeline.appender import Appender
from streamer.pipeline.deliver import DeliverContext, Deliverer
from streamer.pipeline.delivering import Delivering
from streamer.pipeline.disk import Disk, PooledDisk, make_looker, open_disk
from streamer.pipeline.partition import TailCache
from streamer.pipeline.registry import Registry
from streamer.pipeline.runner import DiskOpener, Pipeline, PipelineState
from streamer.pipeline.streams import Streams
from streamer.session.listeners import Listener, Sessions, open_listeners
from streamer.session.service import Budget, Service
from streamer.stats import Stats
from streamer.storage.directory import DataDirectory
from streamer.storage.files import Files, RealFiles

#: Shares of the drain budget: sessions, groups, pipelines; the rest is for closing the logs.
_SESSIONS_SHARE = 0.5
_DELIVER_SHARE = 0.05
_PIPELINES_SHARE = 0.4
_HOUSEKEEPING_S = 10.0
_TAIL_CACHE_BYTES = 16 * 1024 * 1024
#: Serves the daemon's own streams, beside whatever the config names.
_OWN_PIPELINE = "streamer"

_log = structlog.get_logger("streamer.daemon")


def wall_clock_us() -> int:
    """Microseconds since 1970 UTC: for what people read and for retention, never for order."""
    return time.time_ns() // 1000


@attrs.frozen
class World:
    """What the daemon touches outside itself; a simulation brings its own."""

    files: Files = attrs.Factory(RealFiles)
    open_disk: DiskOpener = open_disk
    #: Given how many threads may read at once.
    make_readers: Callable[[int], Disk] = PooledDisk
    #: For one who looks at the disk itself: nobody waits for it where that hangs.
    make_looker: Callable[[], Disk] = make_looker
    now_us: Callable[[], int] = wall_clock_us
    open_listeners: Callable[[Address], Awaitable[Sequence[Listener]]] = open_listeners
    rng: random.Random = attrs.Factory(random.Random)


class Daemon:
    """One daemon. `run` returns after `stop` and the drain; cancelling it stops at once."""

    def __init__(self, config: Config, registry: Registry, world: World | None = None) -> None:
        self.config = config
        self.stats = Stats()
        self.data_path = os.path.abspath(config.daemon.data)
        #: Where it listens once `run` has started, with the ports that the system gave.
        self.addresses: list[Address] = []
        self.http_address = ""
        self.started_at = 0.0
        self.ready = False
        self.streams: Streams | None = None
        self.pipelines: list[Pipeline] = []
        self.deliver: Delivering | None = None
        self.sessions: Sessions | None = None
        self._registry = registry
        self._world = world or World()
        self.files = self._world.files
        self.now_us = self._world.now_us
        self.events = Events(self.now_us)
        self.taps = Taps(self.now_us)
        self.tracer = Tracer(
            self.stats,
            self.now_us,
            self._world.rng,
            sample=config.trace.sample,
            per_second=config.trace.per_second,
            keep_s=config.trace.keep_s,
        )
        self.sla = Sla(config.sla, trio.current_time)
        sla_metrics(self.stats, self.sla)
        self.sampler = Sampler(self, _OWN_PIPELINE, self._world.make_looker())
        register_gauges(self)
        self.inspector = Inspector(
            self, self.events, self.taps, self.tracer, self._world.make_looker()
        )
        self._stop = trio.Event()
        self._done = False

    def stop(self) -> None:
        """Begin to go down, within the drain budget."""
        self._stop.set()

    @property
    def serving(self) -> bool:
        """Whether it was cut off before it had gone down in order."""
        return not self._done

    def apply(self, config: Config) -> None:
        """Go on with another configuration; only what is marked `reload` in it may differ."""
        self.config = config
        self.sla.apply(config.sla)
        sla_metrics(self.stats, self.sla)
        self.events.emit("config_reloaded", "the configuration was read again")
        self.tracer.configure(sample=config.trace.sample, keep_s=config.trace.keep_s)
        if self.sessions is not None:
            self.sessions.origins = config.daemon.origins
        if self.streams is not None:
            self.streams.set_level(config.batch.zstd_level)

    # -------------------------------------------------------------------------------- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`; started once peers can connect.

        Raises:
            DirectoryLocked: another daemon is at work in the data directory.
            OSError: an address cannot be bound.
        """
        self.started_at = trio.current_time()
        async with self._traces_sent(), self._serving_http(), self._opened_streams() as streams:
            self.pipelines = self._make_pipelines(streams)
            self.deliver = Delivering(partial(self._make_deliverer, streams))
            async with trio.open_nursery() as pipelines_nursery:
                for pipeline in self.pipelines:
                    await pipelines_nursery.start(pipeline.run)
                async with trio.open_nursery() as deliver_nursery:
                    await deliver_nursery.start(self.deliver.run)
                    async with trio.open_nursery() as sessions_nursery:
                        await self._serve_sessions(streams, sessions_nursery, task_status)
                        await self._drain_sessions(sessions_nursery)
                    self._drain_deliver(deliver_nursery)
                self._drain_pipelines(pipelines_nursery)
            self._say_cut_off()
        self._done = True
        _log.info("stopped")

    async def _serve_sessions(
        self, streams: Streams, nursery: trio.Nursery, task_status: trio.TaskStatus[None]
    ) -> None:
        """Accept sessions until `stop`."""
        config = self.config.session
        self.sessions = Sessions(
            self._make_service(streams),
            nursery,
            sessions_max=config.sessions,
            sessions_per_address=config.sessions_per_address,
            origins=self.config.daemon.origins,
        )
        async with trio.open_nursery() as listeners_nursery:
            await self._listen(self.sessions, listeners_nursery)
            listeners_nursery.start_soon(self._keep_house, streams)
            listeners_nursery.start_soon(self.sampler.run)
            listeners_nursery.start_soon(streams.scrub)
            await self._write_addresses()
            self.ready = True
            served = [each for each in streams.all() if not each.name.startswith(OWN_PREFIX)]
            self.events.emit("serving", f"serving, with {len(served)} streams")
            _log.info(
                "serving",
                listen=[str(address) for address in self.addresses],
                http=self.http_address or None,
                data=self.config.daemon.data,
                streams=len(streams.all()),
            )
            task_status.started()
            await self._stop.wait()
            self.ready = False
            self.events.emit("draining", "going down")
            self.events.close()
            self.taps.close()
            self.tracer.close()
            listeners_nursery.cancel_scope.cancel()

    async def _listen(self, sessions: Sessions, nursery: trio.Nursery) -> None:
        for url in self.config.daemon.listen:
            for listener in await self._world.open_listeners(parse(url)):
                self.addresses.append(listener.address)
                nursery.start_soon(self._accept, sessions, listener)

    async def _accept(self, sessions: Sessions, listener: Listener) -> None:
        try:
            await sessions.accept(listener)
        finally:
            await trio.aclose_forcefully(listener)

    async def _drain_sessions(self, nursery: trio.Nursery) -> None:
        assert self.sessions is not None
        _log.info("draining", sessions=len(self.sessions), budget_s=self.config.daemon.drain_s)
        with trio.move_on_after(self.config.daemon.drain_s * _SESSIONS_SHARE) as scope:
            await self.sessions.drain()
            await self.sessions.ended()
        if scope.cancelled_caught:
            _log.warning("sessions cut off", sessions=len(self.sessions))
        nursery.cancel_scope.cancel()

    def _drain_deliver(self, nursery: trio.Nursery) -> None:
        nursery.cancel_scope.deadline = (
            trio.current_time() + self.config.daemon.drain_s * _DELIVER_SHARE
        )
        assert self.deliver is not None
        self.deliver.close()

    def _drain_pipelines(self, nursery: trio.Nursery) -> None:
        """Close the heads; the nursery ends by itself, or at its deadline."""
        nursery.cancel_scope.deadline = (
            trio.current_time() + self.config.daemon.drain_s * _PIPELINES_SHARE
        )
        for pipeline in self.pipelines:
            pipeline.close()

    def _say_cut_off(self) -> None:
        """Whose drain did not end in time."""
        if self.deliver is not None and not self.deliver.drained:
            _log.warning("consumer groups cut off: what they decided last may not be durable")
        ended = (PipelineState.DRAINED, PipelineState.STOPPED)
        for pipeline in self.pipelines:
            if pipeline.state not in ended:
                _log.warning("pipeline cut off", pipeline=pipeline.name, oldest_s=pipeline.oldest_s)

    # ------------------------------------------------------------------------------- the parts

    def _traces_sent(self) -> AbstractAsyncContextManager[None]:
        config = self.config
        return exporting(
            config.trace, self.tracer, self.stats, self._world.rng, config.daemon.drain_s
        )

    @asynccontextmanager
    async def _opened_streams(self) -> AsyncGenerator[Streams, None]:
        world, config = self._world, self.config
        readers = world.make_readers(config.daemon.read_threads)
        directory = await readers.run(partial(DataDirectory.open, world.files, self.data_path))
        try:
            streams = Streams(
                directory,
                settings=lambda name: settings_of(self.config, name),
                streams_max=config.streams.streams_max,
                limits=config.batch.limits,
                level=config.batch.zstd_level,
                disk=readers,
                cache=TailCache(_TAIL_CACHE_BYTES),
                events=self.events,
            )
            self.streams = streams
            await streams.open_all()
            yield streams
            await streams.close()
        finally:
            # Without the markers of `close` the next start recovers, and loses nothing.
            directory.close()

    def _make_pipelines(self, streams: Streams) -> list[Pipeline]:
        """Those of the config, and one for the daemon's own streams."""
        own = PipelineConfig(
            ingest=self._default_stage("ingest"),
            propose=self._default_stage("propose"),
            persist=self._default_stage("persist"),
            ack=self._default_stage("ack"),
            name=_OWN_PIPELINE,
            streams=(f"{OWN_PREFIX}*",),
        )
        return [
            Pipeline(
                pipeline,
                registry=self._registry,
                streams=streams,
                limits=self.config.batch.limits,
                stats=self.stats,
                open_disk=self._world.open_disk,
                now_us=self._world.now_us,
                events=self.events,
                taps=self.taps,
                serves=partial(self._serves, pipeline.name),
            )
            for pipeline in (*self.config.pipelines, own)
        ]

    def _default_stage(self, place: str) -> StageConfig:
        name = DEFAULT_STAGES[place]
        return StageConfig(name, ChannelConfig(), self._registry.get(place, name).config())

    def _make_deliverer(self, streams: Streams) -> Deliverer:
        config = self.config.deliver
        context = DeliverContext(
            streams=streams,
            limits=self.config.batch.limits,
            stats=self.stats,
            events=self.events,
            taps=self.taps,
            tracer=self.tracer,
            appender=Appender(self._pipeline_of, self.tracer),
            now_us=self._world.now_us,
            log=structlog.get_logger("streamer.deliver"),
            rng=self._world.rng,
        )
        return self._registry.get_deliver(config.stage).factory(config.settings, context)

    def _pipeline_of(self, stream: str) -> Pipeline:
        name = self.pipeline_name(stream)
        for pipeline in self.pipelines:
            if pipeline.name == name:
                return pipeline
        raise NotAllowed(f"no pipeline serves a stream of the name {stream!r}")

    def _serves(self, pipeline: str, stream: str) -> bool:
        """Whether that pipeline is the one: the first that matches serves a stream."""
        return self.pipeline_name(stream) == pipeline

    def _make_service(self, streams: Streams) -> Service:
        session = self.config.session
        assert self.deliver is not None
        return Service(
            streams=streams,
            pipelines=self.pipelines,
            limits=attrs.evolve(session.wire_limits, traces=self.config.trace.per_second),
            batch_limits=self.config.batch.limits,
            stats=self.stats,
            budget=Budget(session.budget_bytes),
            server_name=f"streamer/{__version__}",
            handshake_s=session.handshake_s,
            idle_s=session.idle_s,
            send_s=session.send_s,
            send_queue_bytes=session.send_queue_bytes,
            varz=self.varz,
            deliver=self.deliver,
            inspected=self.inspector,
        )

    @asynccontextmanager
    async def _serving_http(self) -> AsyncGenerator[None, None]:
        """Health, metrics and the console, from before the recovery until after the drain."""
        if not self.config.daemon.http:
            yield
            return
        console = console_routes(inside_of(self))
        app = build_app(stats=self.stats, health=self.health, varz=self.varz, console=console)
        closing = trio.Event()
        async with trio.open_nursery() as nursery:
            self.http_address = await nursery.start(
                partial(serve_http, self.config.daemon.http, app, shutdown=closing.wait)
            )
            yield
            closing.set()

    async def _write_addresses(self) -> None:
        """Tell programs on this machine where to connect, port 0 resolved."""
        text = json.dumps(
            {"listen": [str(address) for address in self.addresses], "http": self.http_address}
        )
        path = f"{self.data_path}/addresses.json"
        write = partial(_replace_or_remove, self._world.files, path, text.encode())
        try:
            await self._world.make_readers(1).run(write)
        except OSError as error:
            # A full disk, say: what is on it can be read all the same.
            _log.warning("addresses not written", path=path, error=str(error))

    async def _keep_house(self, streams: Streams) -> None:
        while True:
            await trio.sleep(_HOUSEKEEPING_S)
            await streams.retain(self._world.now_us())

    # ----------------------------------------------------------------------------- for people

    def health(self) -> Health:
        """Alive and making progress? Ready for sessions? And why not."""
        return health_of(self)

    @property
    def stopping(self) -> bool:
        """Whether it goes down, or has."""
        return self._stop.is_set()

    def varz(self) -> dict[str, Any]:
        return collect_varz(self)

    def pipeline_name(self, stream: str) -> str:
        """The name of the pipeline that serves a stream; empty if none does."""
        if stream.startswith(OWN_PREFIX):
            return _OWN_PIPELINE
        found = self.config.pipeline_of(stream)
        return "" if found is None else found.name


def _replace_or_remove(files: Files, path: str, data: bytes) -> None:
    """Have `data` at `path`, or at least nothing that is out of date."""
    try:
        files.replace(path, data)
    except OSError:
        with suppress(OSError):
            files.unlink(path)
        raise
