"""The memberships of a session: between its frames and a deliver stage that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio
import trio.testing

from streamer.errors import NotAllowed, PipelineDown
from streamer.session.memberships import Memberships
from streamer.session.outbox import Outbox
from streamer.stats import Stats
from streamer.wire import frames
from streamer.wire.frames import Frame
from tests.site import open_site

Clock = trio.testing.MockClock


class Member:
    """The stage's side of a membership."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.holding = 0
        self.left: list[str] = []
        self.woken_times = 0
        self.settles: list[tuple[int, Any, Callable[[Any], None]]] = []

    def settled(
        self, level: int, items: Sequence[Sequence[Any]], answer: Callable[[Any], None]
    ) -> None:
        self.settles.append((level, items, answer))

    def woken(self) -> None:
        self.woken_times += 1

    def leave(self, lost: str = "") -> None:
        self.left.append(lost)
        self.holding = 0


class Service:
    """What memberships use of a service, and a stage that waits to be told what to answer."""

    class limits:  # noqa: N801
        subscriptions = 3

    def __init__(self) -> None:
        self.draining = False
        self.stats = Stats()
        self.joins: list[tuple[Any, Callable[[Any], None]]] = []
        self.deliver = self

    def join(
        self,
        port: Any,
        stream: str,
        group: str,
        options: Mapping[str, Any],
        answer: Callable[[Any], None],
    ) -> None:
        self.joins.append((port, answer))


class Bench:
    def __init__(self, bytes_max: int = 1000) -> None:
        self.service = Service()
        self.outbox = Outbox(lambda: bytes_max, 1 << 20, lambda _: None)
        self.memberships = Memberships(self.service, self.outbox)  # type: ignore[arg-type]
        self.replies: list[Frame] = []

    def ask(self, subscription: int = 1, request: int = 1) -> None:
        frame = frames.Join(request, subscription, "s", "g", {})
        self.memberships.join(frame, "me", "peer", self._reply)

    def _reply(self, request: int, frame: Frame) -> None:
        self.replies.append(frame)

    def join(self, subscription: int = 1) -> tuple[Any, Member]:
        """A member; its port and the stage's side of it."""
        self.ask(subscription)
        port, answer = self.service.joins.pop()
        member = Member(subscription)
        answer((member, {"member": subscription}))
        assert self.replies.pop() == frames.Reply(1, {"member": subscription})
        return port, member

    def settle(self, subscription: int = 1, level: int = 1) -> None:
        frame = frames.Settle(9, subscription, level, [[0, 1, [], None, ""]])
        self.memberships.settle(frame, self._reply)

    async def sent(self) -> list[Frame]:
        return await self.outbox.take(lambda: None) or []


async def test_a_lease_and_what_becomes_of_it(autojump_clock: Clock) -> None:
    bench = Bench()
    port, member = bench.join()
    assert (port.name, port.peer, port.ready) == ("me", "peer", True)
    assert len(bench.memberships) == 1
    assert 1 in bench.memberships
    port.hand(5, 0, 1, [0, 3], True, b"batch")
    port.revoke(0, 6, False)
    assert await bench.sent() == [
        frames.Lease(1, 5, 0, 1, [0, 3], True, b"batch"),
        frames.Revoke(1, 0, 6, False),
    ]
    bench.settle()
    ((level, items, answer),) = member.settles
    assert (level, items) == (1, [[0, 1, [], None, ""]])
    assert bench.replies == [], "not before it is durable"
    answer([(0, "lease_lost", "gone")])
    assert bench.replies == [frames.Settled(9, [[0, "lease_lost", "gone"]])]
    bench.settle()
    member.settles[-1][2](PipelineDown("down"))
    assert isinstance(bench.replies[-1], frames.Failed)
    assert bench.replies[-1].code == "pipeline_down"


async def test_a_peer_that_does_not_read(autojump_clock: Clock) -> None:
    bench = Bench(bytes_max=1000)
    port, member = bench.join()
    handed = 0
    while port.ready:
        port.hand(handed, 0, 1, [0, 1, 2, 3] * 10, False, b"")
        handed += 1
    assert handed <= 10, "an empty batch takes room too"
    assert not member.woken_times
    await bench.sent()
    assert port.ready
    assert member.woken_times
    assert bench.outbox.bytes == 0
    bench.service.draining = True
    assert not port.ready


def test_a_join_that_is_refused_leaves_nothing() -> None:
    bench = Bench()
    bench.ask(3)
    _, answer = bench.service.joins.pop()
    assert 3 in bench.memberships, "what waits for its answer counts"
    answer(NotAllowed("no"))
    assert bench.replies[-1].code == "not_allowed"  # type: ignore[attr-defined]
    assert 3 not in bench.memberships
    bench.join(3)


async def test_numbers_and_bounds_are_those_of_all_subscriptions(autojump_clock: Clock) -> None:
    async with open_site({"session": {"subscriptions": 2}}) as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        await peer.subscribe(credit=0)
        await peer.send(frames.Join(101, 1, "s", "g"))
        assert (await peer.expect(frames.Failed)).code == "bad_request"
        await peer.send(frames.Join(102, 2, "s", "g", {"start": "latest"}))
        await peer.expect(frames.Reply)
        await peer.send(frames.Join(103, 3, "s", "g"))
        assert (await peer.expect(frames.Failed)).code == "not_allowed"
        for number, code in ((2, "bad_request"), (3, "not_allowed")):
            await peer.send(frames.Subscribe(104 + number, number, "s", 0, 2, 0, 1))
            assert (await peer.expect(frames.Failed)).code == code


def test_settles_of_no_member() -> None:
    bench = Bench()
    bench.settle(7)
    bench.ask(1)
    bench.settle(1)
    port, answer = bench.service.joins.pop()
    answer((Member(1), {}))
    bench.settle(1, level=2)
    failed = [reply for reply in bench.replies if isinstance(reply, frames.Failed)]
    assert [reply.code for reply in failed] == ["bad_request"] * 3
    assert "no member" in failed[0].message
    assert "level 2" in failed[2].message
    assert port.membership is not None


def test_left_before_the_answer() -> None:
    for leave in (
        lambda bench: bench.memberships.leave(1),
        lambda bench: bench.memberships.end_all("lost"),
    ):
        bench = Bench()
        bench.ask(1)
        _, answer = bench.service.joins.pop()
        leave(bench)
        member = Member(1)
        answer((member, {}))
        assert member.left == [""], "it holds nothing that could have failed"
        assert len(bench.memberships) == 0


def test_leaving_and_ending() -> None:
    bench = Bench()
    (_, one), (_, two), (_, three) = bench.join(1), bench.join(2), bench.join(3)
    bench.memberships.leave(1)
    bench.memberships.leave(77)
    assert one.left == [""]
    bench.join(1)
    bench.memberships.end_all("it was lost")
    assert (two.left, three.left) == (["it was lost"], ["it was lost"])
    assert one.left == [""], "it has left before"
    assert len(bench.memberships) == 0
    bench.memberships.end_all("again")
    assert two.left == ["it was lost"]


async def test_ended_by_the_stage(autojump_clock: Clock) -> None:
    bench = Bench()
    port, member = bench.join()
    port.ended(PipelineDown("down"))
    assert await bench.sent() == [frames.Ended(1, "pipeline_down", "down", {})]
    assert 1 not in bench.memberships
    bench.memberships.end_all("lost")
    assert member.left == []
    # The number stands for another one by now.
    bench.join(1)
    port.ended(PipelineDown("down"))
    assert 1 in bench.memberships


async def test_settled_waits_until_nothing_is_out(autojump_clock: Clock) -> None:
    bench = Bench()
    (_, one), (_, two) = bench.join(1), bench.join(2)
    one.holding, two.holding = 1, 1
    assert bench.memberships.holding == 2
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.memberships.settled)
        await trio.sleep(5.0)
        assert nursery.child_tasks
        bench.settle(1)
        one.holding = 0
        one.settles[0][2]([])
        await trio.sleep(5.0)
        assert nursery.child_tasks
        # Its time runs out, and nobody says so.
        two.holding = 0
    assert 10.0 <= trio.current_time() - began <= 10.5


async def test_settled_when_members_leave(autojump_clock: Clock) -> None:
    bench = Bench()
    _, one = bench.join(1)
    one.holding = 1
    with trio.fail_after(2.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.memberships.settled)
            await trio.sleep(1.0)
            bench.memberships.leave(1)
