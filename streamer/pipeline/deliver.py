"""The place `deliver`: what hands records out to consumer groups, as a plugin.

A deliver stage has no channel in front of it: its input is the log, below the high-water marks, at
its own speed; so it never holds up an ack of a producer. There is one for the daemon, beside the
pipelines. Sessions call it directly; every call but `run` and `ask` decides at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import structlog
import trio

from streamer.errors import StreamerError
from streamer.limits import BatchLimits
from streamer.observe.events import Events
from streamer.observe.taps import Taps
from streamer.observe.traces import Tracer
from streamer.pipeline.streams import Streams
from streamer.stats import Stats

if TYPE_CHECKING:
    from streamer.pipeline.appender import Appender


class Port(Protocol):
    """A member's session, as the deliver stage sees it."""

    name: str
    peer: str

    @property
    def ready(self) -> bool:
        """Whether the session takes more: its peer reads what it is sent."""

    def hand(
        self, token: int, partition: int, attempt: int, bounds: list[int], whole: bool, batch: bytes
    ) -> None:
        """Send a lease."""

    def revoke(self, partition: int, token: int, lost: bool) -> None:
        """Ask leases of a partition with smaller tokens back; or, `lost`, tell that those with
        this token or a larger one are gone."""

    def ended(self, error: StreamerError) -> None:
        """The membership is over; the stage has forgotten it."""


class Membership(Protocol):
    """What a port is given when it has joined."""

    #: A number that no other member of the daemon has.
    number: int

    @property
    def holding(self) -> int:
        """How many leases it has out."""

    def settled(
        self, level: int, items: Sequence[Sequence[Any]], answer: Callable[[Settled], None]
    ) -> None:
        """What became of leases: items as in a `Settle` frame. `answer` is called once they are as
        durable as `level` (0 accepted, 1 synced) says, with those that did not count."""

    def woken(self) -> None:
        """The port is ready again."""

    def leave(self, lost: str = "") -> None:
        """It is over: in order, or because the session was `lost` (that says how)."""


#: [index, code, message] of the items that did not count, or why nobody knows.
Settled = Sequence[Sequence[Any]] | StreamerError
#: The membership and what the group is like, or why not.
Joined = tuple[Membership, Mapping[str, Any]] | StreamerError


class Deliverer(Protocol):
    """What a factory of the place `deliver` makes."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `close`; started once the state is loaded. Raises where it cannot go on."""

    def close(self) -> None:
        """Hand out nothing more, and have `run` return once all that is known is durable."""

    def join(
        self,
        port: Port,
        stream: str,
        group: str,
        options: Mapping[str, Any],
        answer: Callable[[Joined], None],
    ) -> None:
        """Become a member; `answer` is called once."""

    async def ask(self, verb: str, args: dict[str, Any]) -> Any:
        """Answer an admin request about groups."""

    def health(self) -> list[str]:
        """What is wrong with some of it, while the rest goes on."""

    def varz(self) -> Any:
        """What `/varz` shows of it: plain values."""


@attrs.frozen(eq=False)
class DeliverContext:
    """What a deliver stage is given besides its config."""

    streams: Streams
    limits: BatchLimits
    stats: Stats
    #: What people are told as it happens.
    events: Events
    #: Where people look at what is handed out.
    taps: Taps
    #: Who follows records: told where one is handed out, and what became of it.
    tracer: Tracer
    #: Appends through the pipelines, as a session does.
    appender: Appender
    #: Wall clock, microseconds since 1970 UTC.
    now_us: Callable[[], int]
    log: structlog.stdlib.BoundLogger
    rng: random.Random


class DelivererFactory(Protocol):
    """Makes a deliver stage from its config; again after a crash."""

    def __call__(self, config: Any, context: DeliverContext, /) -> Deliverer: ...


@attrs.frozen
class DeliverPlugin:
    """What an entry point of the group `streamer.stages` names, for this place."""

    name: str
    #: An `attrs.frozen` class; its fields are the keys of the table `[deliver]`.
    config: type
    factory: DelivererFactory
    place: str = "deliver"
