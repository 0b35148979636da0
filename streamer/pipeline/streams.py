"""All streams of the data directory, open: the one thing that pipelines and sessions share.

Streams are made on first use where the settings allow it. Whatever touches the disk runs through
a `Disk`; changes to a stream's metadata are made one at a time, on the disk first and in memory
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import structlog
import trio

from streamer.batch import Codec
from streamer.errors import (
    BadRequest,
    NotAllowed,
    OffsetOutOfRange,
    StorageError,
    StreamerError,
    UnknownPartition,
    UnknownStream,
)
from streamer.limits import DICTIONARIES_MAX, BatchLimits
from streamer.observe.events import Events, Severity
from streamer.pipeline.disk import Disk
from streamer.pipeline.partition import Partition, TailCache
from streamer.storage.directory import DataDirectory, Storage, StreamMeta, check_stream_name
from streamer.storage.partition import LogSettings
from streamer.wire.frames import Start

T = TypeVar("T")
_log = structlog.get_logger("streamer.streams")
#: How much longer than a step of a scrub the pause after it is: steps hold the interpreter.
_SCRUB_PAUSE = 9.0


@attrs.frozen
class StreamSettings:
    """What the config says of one stream."""

    partitions: int = 1
    log: LogSettings = attrs.Factory(LogSettings)
    #: May it be made by the first program that names it?
    auto_create: bool = True
    #: Groups whose floors hold retention back, whether they have set one yet or not.
    retention_groups: Sequence[str] = ()
    #: Where the records are kept if it is made now; one that is there stays where it is.
    storage: Storage = "disk"


@attrs.define(eq=False)
class Stream:
    """One open stream."""

    meta: StreamMeta
    settings: StreamSettings
    partitions: list[Partition]
    #: Shared with the stream's codec, so that a new dictionary is known at once.
    dictionaries: dict[int, bytes]
    codec: Codec
    #: The newest epoch of each named producer by its id: an older one is fenced from then on,
    #: not only once the newer one has appended.
    epochs: dict[int, int]
    #: By group, what gives the lowest offset of a partition that it still needs: it counts for
    #: retention where the settings name the group, instead of a floor that was set.
    holders: dict[str, Callable[[int], int]] = attrs.Factory(dict)
    #: What a deliver stage that crashed leaves for the next one; gone with the stream's records.
    kept: dict[str, Any] = attrs.Factory(dict)

    @property
    def name(self) -> str:
        return self.meta.name

    def partition(self, number: int) -> Partition:
        if not 0 <= number < len(self.partitions):
            raise UnknownPartition(
                f"stream {self.name!r} has partitions 0 to {len(self.partitions) - 1}, not {number}"
            )
        return self.partitions[number]

    def floor(self, partition: int) -> int | None:
        """The lowest offset that a configured group still needs; None if there is no group."""
        # Names that begin so are no group's: what they need is kept whatever the settings say.
        own = (name for name in self.holders if name.startswith("$"))
        groups = {*self.settings.retention_groups, *self.meta.floors, *own}
        return min((self._floor(group, partition) for group in groups), default=None)

    def _floor(self, group: str, partition: int) -> int:
        holder = self.holders.get(group)
        if holder is not None:
            return holder(partition)
        return self.meta.floors.get(group, {}).get(partition, 0)


class Streams:
    """The open streams by name. Made by the supervisor, closed by `close`."""

    def __init__(
        self,
        directory: DataDirectory,
        *,
        settings: Callable[[str], StreamSettings],
        streams_max: int,
        limits: BatchLimits,
        level: int,
        disk: Disk,
        cache: TailCache,
        events: Events,
    ) -> None:
        self._directory = directory
        self._events = events
        self.settings = settings
        self._streams_max = streams_max
        self._limits = limits
        self._level = level
        self._disk = disk
        self._cache = cache
        self._streams: dict[str, Stream] = {}
        #: Streams of the directory that could not be opened, and why.
        self.unavailable: dict[str, StreamerError] = {}
        #: Called with each stream that is opened from now on.
        self.opened: Callable[[Stream], None] | None = None
        self._changing = trio.Lock()

    def all(self) -> list[Stream]:
        """Every open stream, by name."""
        return [self._streams[name] for name in sorted(self._streams)]

    def has(self, name: str) -> bool:
        return name in self._streams

    def get(self, name: str) -> Stream:
        """The stream of that name.

        Raises:
            UnknownStream: there is none.
        """
        stream = self._streams.get(name)
        if stream is None:
            self._check_available(name)
            raise UnknownStream(f"there is no stream {name!r}")
        return stream

    def _check_available(self, name: str) -> None:
        error = self.unavailable.get(name)
        if error is not None:
            raise StorageError(f"stream {name!r} could not be opened: {error.message}")

    def set_level(self, level: int) -> None:
        """The zstd level of the batches that the daemon makes from now on."""
        self._level = level
        for stream in self._streams.values():
            stream.codec.set_level(level)

    async def open_all(self) -> None:
        """Recover every stream of the directory, before anything is served."""
        for name in await self._run(self._directory.streams):
            try:
                meta = await self._run(partial(self._directory.load_stream, name))
                await self._open(meta)
            except StreamerError as error:
                # The others are served; this one is neither served nor made anew.
                self.unavailable[name] = error
                self._events.emit(
                    "damaged",
                    f"stream {name} could not be opened: {error.message[:200]}",
                    severity="error",
                    stream=name,
                )
                _log.error("stream unavailable", stream=name, error=error.message)

    async def ensure(self, name: str) -> Stream:
        """The stream of that name, made if it may be made by its first use.

        Raises:
            UnknownStream: there is none, and the config does not let it be made so.
            NotAllowed: the name cannot be a stream's, or there are as many as there may be.
        """
        found = self._streams.get(name)
        if found is not None:
            return found
        self._check_available(name)
        check_stream_name(name)
        async with self._changing:
            found = self._streams.get(name)
            if found is not None:
                return found
            settings = self.settings(name)
            if not settings.auto_create:
                raise UnknownStream(f"there is no stream {name!r}, and none is made on first use")
            if len(self._streams) >= self._streams_max:
                raise NotAllowed(f"there are {len(self._streams)} streams, allowed are no more")
            meta = StreamMeta(name=name, partitions=settings.partitions, storage=settings.storage)
            try:
                await self._run(partial(self._directory.create_stream, meta))
            except NotAllowed:
                # Made before, by a call that failed at opening it (no room, say).
                meta = await self._run(partial(self._directory.load_stream, name))
            else:
                _log.info(
                    "stream made", stream=name, partitions=meta.partitions, storage=meta.storage
                )
                self._events.emit("stream_created", f"stream {name} was made", stream=name)
            return await self._open(meta)

    def _tell(
        self, kind: str, stream: str, partition: int, text: str, severity: Severity = "warning"
    ) -> None:
        text = f"{stream}, partition {partition}: {text[:200]}"
        self._events.emit(kind, text, severity=severity, stream=stream, partition=partition)

    async def _open(self, meta: StreamMeta) -> Stream:
        name, settings = meta.name, self.settings(meta.name)
        if meta.storage != settings.storage:
            _log.warning(
                "a stream stays where it was made",
                stream=name,
                storage=meta.storage,
                config=settings.storage,
            )
        dictionaries = await self._run(partial(self._directory.dictionaries, name))
        codec = Codec(level=self._level, limits=self._limits, dictionaries=dictionaries)
        partitions = []
        for number in range(meta.partitions):
            log = await self._run(
                partial(self._directory.open_partition, name, number, settings.log, codec)
            )
            for cut in log.recovery.cut:
                _log.warning("torn tail cut", stream=name, partition=number, **attrs.asdict(cut))
            if log.recovery.cut:
                self._tell("recovered", name, number, f"a torn tail was cut: {log.recovery.cut[0]}")
            for damage in log.damage:
                self._tell("damaged", name, number, f"damage: {damage}", severity="error")
                _log.error("damage", stream=name, partition=number, **attrs.asdict(damage))
            partitions.append(Partition(name, number, log, self._cache, self._disk))
        epochs = dict(meta.producers.values())
        stream = Stream(meta, settings, partitions, dictionaries, codec, epochs)
        self._streams[name] = stream
        if self.opened is not None:
            self.opened(stream)
        return stream

    async def offset_at(self, partition: Partition, timestamp_us: int) -> int:
        """The offset from which on records are of `timestamp_us` or later; the end if none is."""
        return await partition.run(partition.log.plan_seek_time(timestamp_us).run)

    async def position(self, partition: Partition, start: int, value: int, last: int) -> int:
        """The offset that a start (`wire.frames.Start`) and its value mean; one that is named is
        at most `last`.

        Raises:
            OffsetOutOfRange: an offset that is not kept any more, or not there yet.
            BadRequest: a start that is none.
        """
        log = partition.log
        if start == Start.OFFSET:
            if not log.first_offset <= value <= last:
                raise OffsetOutOfRange(
                    f"offset {value}, partition {partition.number} of {partition.stream!r} has "
                    f"{log.first_offset} to {log.high_water}",
                    first_offset=log.first_offset,
                    high_water=log.high_water,
                )
            return value
        if start == Start.TIME:
            return await self.offset_at(partition, value)
        if start == Start.EARLIEST:
            return log.first_offset
        if start == Start.LATEST:
            return log.high_water
        raise BadRequest(f"start {start}, known are {[int(s) for s in Start]}")

    # ------------------------------------------------------------------------ metadata changes

    async def _change(self, stream: Stream, **changes: Any) -> None:
        meta = attrs.evolve(stream.meta, **changes)
        await self._run(partial(self._directory.save_stream, meta))
        stream.meta = meta

    async def open_producer(self, stream: Stream, name: str, producer_id: int) -> tuple[int, int]:
        """Raise a named producer's epoch, durably; its (id, epoch). `producer_id` if it is new."""
        if not 1 <= len(name) <= 200:
            raise BadRequest(f"producer name of {len(name)} characters, allowed are 1 to 200")
        async with self._changing:
            known = dict(stream.meta.producers)
            # Re-inserted last, so that the producers that come back the least leave first.
            previous_id, epoch = known.pop(name, (producer_id, -1))
            known[name] = (previous_id, epoch + 1)
            while len(known) > stream.settings.log.producers:
                del known[next(iter(known))]
            await self._change(stream, producers=known)
            stream.epochs = dict(known.values())
            return known[name]

    async def set_floor(self, stream: Stream, group: str, partition: int, offset: int) -> None:
        """Tell that `group` needs nothing below `offset` any more, durably."""
        stream.partition(partition)
        if group not in stream.settings.retention_groups:
            raise NotAllowed(
                f"stream {stream.name!r} has no retention group {group!r} in its config, only "
                f"{list(stream.settings.retention_groups)}"
            )
        async with self._changing:
            floors = {name: dict(per) for name, per in stream.meta.floors.items()}
            floors.setdefault(group, {})[partition] = offset
            await self._change(stream, floors=floors)

    async def add_dictionary(self, stream: Stream, data: bytes) -> int:
        """Store a zstd dictionary with the stream and make it the current one; its id.

        Raises:
            NotAllowed: it has as many as it may have.
        """
        async with self._changing:
            if len(stream.dictionaries) >= DICTIONARIES_MAX:
                raise NotAllowed(
                    f"stream {stream.name!r} has {DICTIONARIES_MAX} dictionaries, allowed are no "
                    "more"
                )
            number: int = await self._run(
                partial(self._directory.add_dictionary, stream.name, data)
            )
            stream.dictionaries[number] = data
            await self._change(stream, dictionary_id=number)
            return number

    # --------------------------------------------------------------------------- house-keeping

    async def retain(self, now_us: int) -> None:
        """Remove the segments that are too old or too many, once. A partition where that fails
        is logged, and tried again the next time."""
        for stream in self.all():
            for partition in stream.partitions:
                await self._retain(partition, now_us, stream.floor(partition.number))

    async def _retain(self, partition: Partition, now_us: int, floor: int | None) -> None:
        log = partition.log
        plan = log.plan_retention(now_us, floor)
        if plan is None:
            return
        where = {"stream": partition.stream, "partition": partition.number}
        try:
            await partition.run(plan.run)
        except StreamerError as error:
            _log.error("removing segments failed", **where, error=error.message)
        before = log.first_offset
        # Also what was removed before it failed is gone.
        log.retained(plan)
        # In memory it is no event, but what goes on all the time.
        if log.first_offset > before and not log.in_memory:
            _log.info("segments removed", **where, first_offset=log.first_offset)

    async def scrub(self) -> None:
        """Look through every log for damage, once, in the background: it runs for the smaller
        part of the time. What it finds stops the writes to that partition."""
        for stream in self.all():
            for partition in stream.partitions:
                try:
                    await self._scrub(partition)
                except StreamerError as error:
                    _log.error(
                        "looking for damage failed",
                        stream=stream.name,
                        partition=partition.number,
                        error=error.message,
                    )

    async def _scrub(self, partition: Partition) -> None:
        scrub, more = partition.log.plan_scrub(), True
        while scrub is not None and more:
            began = trio.current_time()
            more, damage = await self._run(scrub.step)
            for error in damage:
                partition.note_damage(error)
            await trio.sleep(_SCRUB_PAUSE * (trio.current_time() - began))

    async def close(self) -> None:
        """Close every log, with the marker that makes the next start quick.

        Raises:
            StorageError: some could not be closed in order; the others were.
        """
        failed: list[str] = []
        for stream in self.all():
            for partition in stream.partitions:
                try:
                    await partition.run(partition.log.plan_close().run)
                except StreamerError as error:
                    failed.append(error.message)
        self._streams.clear()
        await self._run(self._directory.close)
        if failed:
            raise StorageError(f"{len(failed)} logs not closed in order: {'; '.join(failed[:3])}")

    async def _run(self, job: Callable[[], T]) -> T:
        return await self._disk.run(job)
