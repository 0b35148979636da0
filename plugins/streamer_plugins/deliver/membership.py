"""One member of a group, as its session has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamer import BadRequest, Port, StreamerError
from streamer.groups.group import Member

if TYPE_CHECKING:
    from streamer_plugins.deliver.groups import Deliver
    from streamer_plugins.deliver.pump import Pump

_MIB = 1024 * 1024
#: Failures of one frame that are told with a sentence; of the others the code says enough.
_MESSAGES_MAX = 100
#: The verbs of settle items, as on the wire.
ACK, NACK, TERM, RELEASE, EXTEND = range(5)
_OUTCOMES = ("ack", "nack", "term", "release")


@attrs.frozen
class MemberOptions:
    """What a member says of itself when it joins."""

    name: str
    records_max: int
    bytes_max: int
    batch: int

    @classmethod
    def split(cls, options: dict[str, Any], name: str) -> tuple[MemberOptions, dict[str, Any]]:
        """Its own options, and the rest: what it says of the group.

        Raises:
            BadRequest: an option that it cannot have.
        """
        rest = dict(options)
        said = rest.pop("name", name)
        if type(said) is not str or len(said) > 200 or not said.isprintable():
            raise BadRequest(
                f"member name {repr(said)[:40]}, allowed is text of at most 200 characters that"
                " can be printed"
            )
        own = cls(
            said,
            _number(rest, "max_in_flight", 1000, 1, 1_000_000),
            _number(rest, "max_in_flight_bytes", 4 * _MIB, 1, 256 * _MIB),
            _number(rest, "batch_records", 0, 0, 1_000_000),
        )
        return own, rest


def _number(options: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = options.pop(name, default)
    if type(value) is not int or not low <= value <= high:
        raise BadRequest(f"option {name} is {value!r}, allowed are {low} to {high}")
    return value


class Membership:
    """See `streamer.pipeline.deliver.Membership`."""

    def __init__(self, deliver: Deliver, pump: Pump, member: Member, port: Port) -> None:
        self.pump = pump
        self.member = member
        self.port = port
        self.number = member.number
        self._deliver = deliver

    @property
    def holding(self) -> int:
        return len(self.member.leases)

    @property
    def _over(self) -> bool:
        return self.number not in self._deliver.members

    def settled(
        self, level: int, items: Sequence[Sequence[Any]], answer: Callable[[Any], None]
    ) -> None:
        deliver, group = self._deliver, self.pump.group
        now, now_us = trio.current_time(), deliver.context.now_us()
        traced = deliver.context.tracer.deliveries
        failures: list[list[Any]] = []
        changes = False
        for index, (verb, token, bounds, delay_us, reason) in enumerate(items):
            try:
                if verb == EXTEND:
                    group.extend(self.member, token, now)
                    continue
                if verb == ACK:
                    ledger = group.ack(self.member, token, bounds)
                elif verb == NACK:
                    ledger = group.nack(self.member, token, bounds, delay_us, reason, now, now_us)
                elif verb == TERM:
                    ledger = group.term(self.member, token, bounds, reason)
                elif verb == RELEASE:
                    ledger = group.release(self.member, token, bounds)
                else:
                    group.find(self.member, token, bounds)
                    raise BadRequest(f"settle verb {verb}, known are 0 to 4")
                if traced.holding:
                    traced.settled(token, bounds, _OUTCOMES[verb])
                changes |= verb != RELEASE
                deliver.news.note(self.pump, ledger)
            except StreamerError as error:
                # Of many the first ones tell: a peer that settles what is not its own by the
                # thousand is not to have as many sentences kept for it.
                message = error.message if len(failures) < _MESSAGES_MAX else ""
                failures.append([index, error.code, message])
        self.pump.tell()
        self.pump.wake()
        if level == 0 or not changes or self.pump.stream.partitions[0].in_memory:
            answer(failures)
        else:
            deliver.journal.when_durable(lambda error: answer(error or failures))

    def _tell_left(self, lost: str) -> None:
        group, member = self.pump.group, self.member
        how = f": {lost}" if lost else ""
        self._deliver.context.events.emit(
            "member_left",
            f"{member.name or member.peer} left group {group.name} of {group.stream}{how}",
            severity="warning" if lost else "info",
            stream=group.stream,
            group=group.name,
            member=self.number,
            name=member.name,
            peer=member.peer,
        )

    def woken(self) -> None:
        self.pump.wake()

    def leave(self, lost: str = "") -> None:
        if self._over:
            return
        deliver, group = self._deliver, self.pump.group
        del deliver.members[self.number]
        ledgers = {lease.ledger for lease in self.member.leases.values()}
        traced = deliver.context.tracer.deliveries
        if traced.holding:
            for token in self.member.leases:
                traced.settled(token, [], "lost" if lost else "release")
        group.leave(self.member, trio.current_time(), deliver.context.now_us(), lost=lost)
        del self.pump.ports[self.number]
        self._tell_left(lost)
        for ledger in ledgers:
            deliver.news.note(self.pump, ledger)
        self.pump.tell()
        self.pump.wake()
