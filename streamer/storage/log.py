"""What the rest of the daemon asks of a partition's log, wherever its records are kept.

`partition.PartitionLog` keeps them on the disk, `memory.MemoryLog` in memory. Both decide in
synchronous methods and give out plans; who carries a plan out asks `in_memory` whether that needs
a thread, and nothing else depends on the kind of log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from streamer.errors import PartitionDamaged
from streamer.storage.partition import Entry, LogState
from streamer.storage.producers import ProducerTable
from streamer.storage.read import ReadResult
from streamer.storage.recovery import DamagedRange, RecoveryReport
from streamer.storage.scrub import Scrub
from streamer.storage.survey import Piece, Question

T_co = TypeVar("T_co", covariant=True)


class Plan(Protocol[T_co]):
    """What a log decided on, to be carried out once."""

    def run(self) -> T_co: ...


class WritePlan(Protocol):
    """An append. `run` it, then give it back to the log: `committed`, or `failed`."""

    def run(self, sync: bool) -> None: ...


class Log(Protocol):
    """One ordered log. `PartitionLog` says what each method does and raises.

    The methods that take a plan back take those that this log itself gave out.
    """

    #: What it is called in messages; the directory, if it has one.
    path: str
    state: LogState
    #: Why it takes no writes any more, if it is stopped.
    stopped_by: str
    recovery: RecoveryReport
    damage: tuple[DamagedRange, ...]
    #: The first offset behind what was written.
    next_offset: int
    #: The first offset that cannot be read yet.
    high_water: int
    #: The first offset that may not be on the disk yet; 0 where nothing ever is.
    durable_offset: int
    #: The committed view. Not to be changed from outside.
    producers: ProducerTable

    @property
    def in_memory(self) -> bool:
        """Its plans neither block nor touch the disk, and nothing survives the process."""
        ...

    @property
    def first_offset(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def segment_count(self) -> int: ...
    @property
    def dropped(self) -> int:
        """Records that had to leave for want of room, whoever still needed them."""
        ...

    def check_writable(self) -> None: ...
    def plan_append(self, entries: Sequence[Entry], /) -> WritePlan: ...
    def committed(self, plan: Any, /) -> None: ...
    def failed(self, plan: Any, error: Exception, /) -> None: ...
    def abandoned(self, reason: str, /) -> None: ...
    def note_damage(self, error: PartitionDamaged, /) -> None: ...
    def plan_sync(self) -> Plan[None] | None: ...
    def synced(self, plan: Any, /) -> None: ...
    def plan_close(self) -> Plan[None]: ...
    def plan_read(self, offset: int, bytes_max: int, /) -> Plan[ReadResult] | None: ...
    def plan_seek_time(self, timestamp_us: int, /) -> Plan[int]: ...
    def plan_scrub(self) -> Scrub | None: ...
    def plan_survey(self, question: Question, /) -> Plan[Piece] | None: ...
    def plan_retention(self, now_us: int, floor: int | None, /) -> Plan[None] | None: ...
    def retained(self, plan: Any, /) -> None: ...
