"""What a stage is, and the values that flow between stages.

A stage is one async callable `run(receive, send)`, made by a factory from an `attrs.frozen`
config class. It returns when its input ends, and closes its own ends. The values:

    session ── Append ──► ingest ── Group ──► propose ── Proposal ──► persist ── Commit ──► ack

An `Append` is one request of one session. Its `ack` travels with it and is resolved exactly
once for each of its records: by whichever stage knows the answer first.

Each of the four carries its times: `taken_at` is when a stage took it out of its channel, and
`began_at` when the oldest of what it was made of was taken. `traces` are those of the records in
it that somebody follows: hardly ever any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from streamer.batch import Batch
from streamer.errors import StreamerError
from streamer.records import AckLevel, Lane, ProducerStamp, Receipt, Record

if TYPE_CHECKING:
    from streamer.observe.traces import Trace
    from streamer.pipeline.channel import Receiver, Sender
    from streamer.pipeline.context import StageContext
    from streamer.pipeline.flow import Ticket
    from streamer.pipeline.partition import Partition
    from streamer.storage.partition import Entry

Outcome = Receipt | StreamerError
#: An item that no stage has taken yet, or out of a channel that is not measured.
NEVER = -1.0


class Ack:
    """The answer that an append is waiting for: one outcome a record, each given exactly once.

    `answered(ack)` is called when the last outcome is in, on the event loop and without a
    checkpoint; it must only take note (a session queues the frame and wakes its writer).
    """

    __slots__ = ("_answered", "_missing", "cost", "outcomes")

    def __init__(self, size: int, answered: Callable[[Ack], None]) -> None:
        self.outcomes: list[Outcome | None] = [None] * size
        self._missing = size
        self._answered = answered
        #: Bytes that its session has charged the budget with.
        self.cost = 0

    @property
    def done(self) -> bool:
        return not self._missing

    def resolve(self, index: int, outcome: Outcome) -> bool:
        """Give the outcome at `index`; False, and no effect, if it has one (a late answer)."""
        if self.outcomes[index] is not None:
            return False
        self.outcomes[index] = outcome
        self._missing -= 1
        if not self._missing:
            self._answered(self)
        return True

    def watch(self, look: Callable[[Ack], None]) -> None:
        """Have `look(ack)` called too, before `answered`."""
        answered = self._answered

        def both(ack: Ack) -> None:
            look(ack)
            answered(ack)

        self._answered = both

    def resolve_all(self, outcome: Outcome) -> None:
        """Give `outcome` to all that have none yet."""
        for index, known in enumerate(self.outcomes):
            if known is None:
                self.resolve(index, outcome)


@attrs.define(eq=False)
class Append:
    """One request to append: a batch that the producer encoded, or records to be grouped."""

    stream: str
    partition: int | None
    #: Append-if: the partition's next offset must be this one.
    expected: int | None
    lane: Lane
    ack: Ack
    nbytes: int
    #: `trio.current_time()` when it was taken in.
    accepted_at: float
    batch: Batch | None = None
    records: Sequence[Record] = ()
    #: The stamp of `records[0]`; the others follow it in sequence.
    stamp: ProducerStamp | None = None
    #: It has an offset, so it may come to be in the log whatever it is answered.
    proposed: bool = False
    traces: Sequence[Trace] = ()
    taken_at: float = NEVER

    @property
    def began_at(self) -> float:
        return self.accepted_at

    @property
    def count(self) -> int:
        return self.batch.count if self.batch is not None else len(self.records)


@attrs.define(eq=False)
class Group:
    """What ingest closed: one producer's batch, or the records of many appends of one stream."""

    stream: str
    appends: list[Append]
    nbytes: int
    #: What closed it: batch, records, count, bytes, linger, idle, lane, order or drain.
    reason: str
    ticket: Ticket
    taken_at: float = NEVER

    @property
    def began_at(self) -> float:
        return self.appends[0].taken_at

    @property
    def traces(self) -> Sequence[Trace]:
        return self.ticket.traces


@attrs.define(eq=False)
class Waiter:
    """Who waits for a proposal: one outcome of one ack."""

    ack: Ack
    index: int
    offset: int
    count: int
    duplicate: bool = False


@attrs.define(eq=False)
class Proposal:
    """One batch with its place in one partition, on its way to the disk.

    Without an `entry` it writes nothing, and waits for what was proposed before it: so a
    duplicate of an append that is still under way is acked after the original's commit.
    """

    partition: Partition
    #: The partition's when it was proposed; another one now says that a write before it failed.
    generation: int
    entry: Entry | None
    waiters: Sequence[Waiter]
    nbytes: int
    accepted_at: float
    #: When its group was taken in.
    began_at: float
    ticket: Ticket
    taken_at: float = NEVER

    @property
    def traces(self) -> Sequence[Trace]:
        return self.ticket.traces

    def fail(self, error: StreamerError) -> None:
        """Give `error` to every waiter that has no outcome yet."""
        for waiter in self.waiters:
            waiter.ack.resolve(waiter.index, error)


@attrs.define(eq=False)
class Commit:
    """What one commit made durable, at which level: to be acked."""

    proposals: Sequence[Proposal]
    level: AckLevel
    nbytes: int
    taken_at: float = NEVER

    @property
    def began_at(self) -> float:
        return self.proposals[0].taken_at

    @property
    def traces(self) -> Sequence[Trace]:
        return [trace for proposal in self.proposals for trace in proposal.ticket.traces]


class StageFactory(Protocol):
    """Makes a stage from its config; called once for each pipeline that names it."""

    def __call__(self, config: Any, context: StageContext, /) -> Stage: ...


#: `run(receive, send)`: ends when its input ends, and closes both.
Stage = Callable[["Receiver[Any]", "Sender[Any]"], Awaitable[None]]


@attrs.frozen
class StagePlugin:
    """What an entry point of the group `streamer.stages` names."""

    name: str
    #: Where in the flow it may stand: ingest, propose, persist or ack.
    place: str
    #: An `attrs.frozen` class; its fields are the keys of the stage's table in the config.
    config: type
    factory: StageFactory


__all__ = [
    "Ack",
    "AckLevel",
    "Append",
    "Commit",
    "Group",
    "Outcome",
    "Proposal",
    "Stage",
    "StageFactory",
    "StagePlugin",
    "Waiter",
]
