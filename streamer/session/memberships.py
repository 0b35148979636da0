"""The memberships of one session in consumer groups: between its frames and the deliver stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from streamer.errors import BadRequest, StreamerError
from streamer.groups.ranges import size
from streamer.pipeline.deliver import Joined, Membership, Settled
from streamer.session.outbox import Outbox, failed
from streamer.session.service import Service
from streamer.wire import frames
from streamer.wire.frames import Frame

#: What an envelope of a lease takes besides its batch and ranges.
_ENVELOPE_BYTES = 64
#: And each bound of its ranges.
_BOUND_BYTES = 8
#: Nobody says when a lease runs out.
_LOOK_S = 0.2


class _Port:
    """One membership, as the deliver stage sees it."""

    def __init__(
        self,
        service: Service,
        outbox: Outbox,
        subscription: int,
        name: str,
        peer: str,
        over: Callable[[], None],
    ) -> None:
        self.name = name
        self.peer = peer
        self.subscription = subscription
        self.membership: Membership | None = None
        #: What it has asked to join.
        self.stream = self.group = ""
        #: The session left before the answer came.
        self.gone = False
        self._service = service
        self._outbox = outbox
        self._over = over
        # Beside those of each group, which go when their group does.
        self._leased = service.stats.counter("lease_records", "records handed to members")

    @property
    def ready(self) -> bool:
        return self._outbox.has_room and not self._service.draining

    def hand(
        self, token: int, partition: int, attempt: int, bounds: list[int], whole: bool, batch: bytes
    ) -> None:
        self._leased.value += size(bounds)
        self._outbox.put(
            frames.Lease(self.subscription, token, partition, attempt, bounds, whole, batch),
            len(batch) + len(bounds) * _BOUND_BYTES + _ENVELOPE_BYTES,
        )

    def revoke(self, partition: int, token: int, lost: bool) -> None:
        self._outbox.put(frames.Revoke(self.subscription, partition, token, lost))

    def ended(self, error: StreamerError) -> None:
        self._over()
        self._outbox.put(frames.Ended(self.subscription, error.code, error.message, error.detail))

    def woken(self) -> None:
        if self.membership is not None:
            self.membership.woken()


class Memberships:
    """All of one session. Every method decides at once."""

    def __init__(self, service: Service, outbox: Outbox) -> None:
        self._service = service
        self._outbox = outbox
        self._ports: dict[int, _Port] = {}
        self._idle = trio.lowlevel.ParkingLot()
        outbox.on_room = self._woken

    def __len__(self) -> int:
        return len(self._ports)

    def __contains__(self, subscription: int) -> bool:
        return subscription in self._ports

    def join(
        self,
        frame: frames.Join,
        name: str,
        peer: str,
        reply: Callable[[int, Frame], None],
    ) -> None:
        """Join a group; `reply(request, frame)` tells what it is, or why not."""
        number = frame.subscription
        port = _Port(self._service, self._outbox, number, name, peer, lambda: self._forget(port))
        port.stream, port.group = frame.stream, frame.group
        self._ports[number] = port

        def answer(joined: Joined) -> None:
            if isinstance(joined, StreamerError):
                self._forget(port)
                reply(frame.request, failed(frame.request, joined))
                return
            port.membership, told = joined
            if port.gone:
                port.membership.leave()
                self._forget(port)
            reply(frame.request, frames.Reply(frame.request, dict(told)))

        self._service.deliver.join(port, frame.stream, frame.group, frame.options, answer)

    def settle(self, frame: frames.Settle, reply: Callable[[int, Frame], None]) -> None:
        port = self._ports.get(frame.subscription)

        def answer(settled: Settled) -> None:
            if isinstance(settled, StreamerError):
                reply(frame.request, failed(frame.request, settled))
            else:
                failures: list[Any] = [list(each) for each in settled]
                reply(frame.request, frames.Settled(frame.request, failures))
            self._outbox_settled()

        if port is None or port.membership is None:
            answer(BadRequest(f"subscription {frame.subscription} is no member of a group"))
        elif frame.level > 1:
            answer(BadRequest(f"level {frame.level}, known are 0 (accepted) and 1 (synced)"))
        else:
            port.membership.settled(frame.level, frame.items, answer)

    def leave(self, subscription: int) -> None:
        """Leave a group in order."""
        port = self._ports.get(subscription)
        if port is None:
            return
        port.gone = True
        if port.membership is not None:
            port.membership.leave()
            self._forget(port)

    def end_all(self, lost: str = "") -> None:
        """The session is over: in order, or `lost`, and what its members hold has failed."""
        for port in list(self._ports.values()):
            port.gone = True
            if port.membership is not None:
                port.membership.leave(lost)
                self._forget(port)

    def views(self) -> list[dict[str, Any]]:
        """What people see of them."""
        return [
            {
                "subscription": number,
                "stream": port.stream,
                "group": port.group,
                "member": port.membership.number,
                "holding": port.membership.holding,
            }
            for number, port in self._ports.items()
            if port.membership is not None
        ]

    @property
    def holding(self) -> int:
        """How many leases are out to this session."""
        return sum(
            port.membership.holding for port in self._ports.values() if port.membership is not None
        )

    async def settled(self) -> None:
        """Wait until nothing is out any more."""
        while self.holding:
            with trio.move_on_after(_LOOK_S):
                await self._idle.park()

    def _outbox_settled(self) -> None:
        if self._idle and not self.holding:
            self._idle.unpark_all()

    def _woken(self) -> None:
        for port in self._ports.values():
            port.woken()

    def _forget(self, port: _Port) -> None:
        """Its number may stand for another one by now."""
        if self._ports.get(port.subscription) is port:
            del self._ports[port.subscription]
        self._outbox_settled()
