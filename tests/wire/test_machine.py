"""The session's states: the tables, each illegal move, and two honest peers in any order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamer import cbor
from streamer.errors import (
    FrameTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
    UnsupportedVersion,
)
from streamer.limits import KIB, MIB
from streamer.wire import frames
from streamer.wire.frames import FRAMES, Frame
from streamer.wire.machine import CROSSING, MOVES, Connection, Fatal, Role, State

C, S = Role.CLIENT, Role.SERVER
FRAME_BYTES = MIB
HELLO = frames.Hello([1], "a client")
WELCOME = frames.Welcome(1, "a daemon", {"frame_bytes": FRAME_BYTES}, 1000)
FATAL = frames.Failed(None, "protocol", "no", False, True)
GOODBYE = frames.Goodbye("draining", "going down")
#: A frame for every move of the tables.
SAMPLES: Mapping[Any, Frame] = {
    frames.Hello: HELLO,
    frames.Welcome: WELCOME,
    frames.Produce: frames.Produce(1, "s", 0, None, 0, b"batch"),
    frames.ProduceRecords: frames.ProduceRecords(1, "s", None, None, 0, 0, 0, 0, [[b"value"]]),
    frames.Acks: frames.Acks(0, [[1, 0, 0, 1, 1, 0]]),
    frames.Failed: frames.Failed(1, "disk_full", "no room", True, False),
    Fatal: FATAL,
    frames.Credit: frames.Credit(5),
    frames.Results: frames.Results(0, 1, [[0, 0, 1, 0]]),
    frames.Subscribe: frames.Subscribe(1, 1, "s", 0, 0, 0, 100),
    frames.Deliver: frames.Deliver(1, 5, b"batches"),
    frames.Ended: frames.Ended(1, "offset_out_of_range", "gone"),
    frames.Grant: frames.Grant(1, 200),
    frames.Unsubscribe: frames.Unsubscribe(1),
    frames.Fetch: frames.Fetch(1, "s", 0, 0, 0, 100),
    frames.Fetched: frames.Fetched(1, 0, 0, b""),
    frames.Admin: frames.Admin(1, "streams"),
    frames.Reply: frames.Reply(1, {}),
    frames.Ping: frames.Ping(1),
    frames.Pong: frames.Pong(1),
    frames.Goodbye: GOODBYE,
    frames.Join: frames.Join(1, 2, "s", "g"),
    frames.Lease: frames.Lease(2, 7, 0, 1, [0, 1], True, b"batch"),
    frames.Settle: frames.Settle(2, 2, 1, [[0, 7, [], None, ""]]),
    frames.Settled: frames.Settled(2, []),
    frames.Revoke: frames.Revoke(2, 0, 8, False),
    frames.Trace: frames.Trace(1, [[0, "00-..."]]),
}
REQUESTS = (
    frames.Produce, frames.ProduceRecords, frames.Subscribe, frames.Fetch, frames.Admin,
    frames.Join, frames.Trace,
)  # fmt: skip


def test_there_is_a_sample_of_every_frame() -> None:
    assert set(SAMPLES) == {*FRAMES, Fatal}


def connection(role: Role, state: State) -> Connection:
    """A connection that went the way to `state`."""
    steps: dict[State, tuple[Frame | str, ...]] = {
        State.GREETING: (),
        State.GREETED: (HELLO,),
        State.OPEN: (HELLO, WELCOME),
        State.LEAVING: (HELLO, WELCOME, frames.Goodbye("server", "")),
        State.LEFT: (HELLO, WELCOME, frames.Goodbye("client", "")),
        State.CLOSED: ("closed",),
        State.ERROR: ("garbage",),
    }
    found = Connection(role, FRAME_BYTES)
    for step in steps[state]:
        if step == "closed":
            found.closed()
        elif step == "garbage":
            with pytest.raises(RemoteProtocolError):
                found.receive(b"garbage")
        else:
            assert isinstance(step, Frame)
            by = C if step is HELLO or getattr(step, "code", "") == "client" else S
            if by is role:
                found.send(step)
            else:
                assert found.receive(frames.encode(step)) == step
    assert found.state is state
    return found


CASES = list(itertools.product(Role, State, SAMPLES))


def _id(value: Any) -> str:
    return value.value if isinstance(value, Role | State) else value.__name__


@pytest.mark.parametrize(("role", "state", "move"), CASES, ids=_id)
def test_sending_follows_the_table(role: Role, state: State, move: Any) -> None:
    here, frame = connection(role, state), SAMPLES[move]
    wanted = MOVES.get((role, state), {}).get(move)
    if wanted is None:
        with pytest.raises(LocalProtocolError, match=f"from the {role.value} in state"):
            here.send(frame)
        assert here.state is state
    else:
        assert here.send(frame) == frames.encode(frame)
        assert here.state is wanted


@pytest.mark.parametrize(("role", "state", "move"), CASES, ids=_id)
def test_receiving_follows_the_tables(role: Role, state: State, move: Any) -> None:
    here, data = connection(role, state), frames.encode(SAMPLES[move])
    where = (role.peer, state)
    wanted = {**CROSSING.get(where, {}), **MOVES.get(where, {})}.get(move)
    if wanted is None:
        with pytest.raises(RemoteProtocolError, match=f"from the {role.peer.value} in state"):
            here.receive(data)
        assert here.state is (State.CLOSED if state is State.CLOSED else State.ERROR)
    else:
        assert here.receive(data) == SAMPLES[move]
        assert here.state is wanted


def test_the_tables_allow_what_the_protocol_says() -> None:
    """Stated once more, in the words of the protocol, apart from the tables."""
    may = {where: set(row) for where, row in MOVES.items()}
    assert may[C, State.GREETING] == {frames.Hello}
    assert (C, State.GREETED) not in may
    assert may[S, State.GREETED] == {frames.Welcome, Fatal}
    for state in State:
        asks = may.get((C, state), set()) & set(REQUESTS)
        assert asks == (set(REQUESTS) if state is State.OPEN else set())
        if state is not State.CLOSED:
            assert Fatal in may[S, state]
        assert Fatal not in may.get((C, state), set())
    answers = may[S, State.OPEN] - {frames.Goodbye}
    assert answers == may[S, State.LEAVING] == may[S, State.LEFT] - {frames.Goodbye}
    assert not any((role, State.CLOSED) in may for role in Role)
    # Every frame has a sender, and only pings and goodbyes have two.
    sent = {role: set().union(*(row for (r, _), row in may.items() if r is role)) for role in Role}
    assert sent[C] | sent[S] == set(SAMPLES)
    assert sent[C] & sent[S] == {frames.Ping, frames.Pong, frames.Goodbye}


def test_repr_tells_where_it_is() -> None:
    assert repr(connection(C, State.OPEN)) == "<Connection client open>"


# ------------------------------------------------------------------------------------ greeting


@pytest.mark.parametrize("versions", [[], [2], [0, 7, 2**63 - 1], list(range(2, 2000))])
def test_a_server_refuses_versions_that_it_does_not_speak(versions: list[int]) -> None:
    server = connection(S, State.GREETING)
    with pytest.raises(UnsupportedVersion, match="known is 1") as caught:
        server.receive(frames.encode(frames.Hello(versions, "x")))
    assert len(str(caught.value)) < 300
    assert server.state is State.ERROR
    assert server.send(frames.Failed(None, "unsupported_version", "text", False, True))


def test_a_server_takes_a_client_of_many_versions() -> None:
    server = connection(S, State.GREETING)
    server.receive(frames.encode(frames.Hello([3, 2, 1], "x")))
    assert server.state is State.GREETED


def test_a_client_refuses_a_version_that_it_did_not_offer() -> None:
    client = connection(C, State.GREETED)
    with pytest.raises(UnsupportedVersion, match="version 2 chosen"):
        client.receive(frames.encode(frames.Welcome(2, "x", {}, 0)))
    assert client.state is State.ERROR


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("role", Role)
def test_after_an_error_a_server_says_why_and_no_more(role: Role) -> None:
    here = connection(role, State.ERROR)
    with pytest.raises(RemoteProtocolError):
        here.receive(frames.encode(frames.Ping(1)))
    with pytest.raises(LocalProtocolError):
        here.send(frames.Ping(1))
    if role is S:
        here.send(FATAL)
        assert here.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        here.send(FATAL)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", State)
def test_after_a_broken_write_nothing_may_follow(role: Role, state: State) -> None:
    here = connection(role, state)
    here.send_failed()
    assert here.state is (State.CLOSED if state is State.CLOSED else State.ERROR)
    for frame in SAMPLES.values():
        with pytest.raises(LocalProtocolError, match="broke off"):
            here.send(frame)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", State)
def test_a_closed_transport_ends_it_from_anywhere(role: Role, state: State) -> None:
    here = connection(role, state)
    here.closed()
    assert here.state is State.CLOSED


def test_a_frame_above_the_limit() -> None:
    server = Connection(S, 100)
    with pytest.raises(FrameTooLarge, match="frame of 101 bytes, allowed are 100"):
        server.receive(bytes(101))
    assert server.state is State.ERROR
    long = frames.Hello([1], "x" * 100)
    with pytest.raises(LocalProtocolError, match="allowed are 100"):
        Connection(C, 100).send(long)


def test_a_client_sends_what_the_server_takes() -> None:
    client = Connection(C, 10 * MIB)
    client.send(HELLO)
    client.receive(frames.encode(frames.Welcome(1, "x", {"frame_bytes": 200 * KIB}, 0)))
    fits = frames.Produce(1, "s", 0, None, 0, bytes(199 * KIB))
    assert client.send(fits)
    with pytest.raises(LocalProtocolError, match="allowed are 204800"):
        client.send(frames.Produce(1, "s", 0, None, 0, bytes(200 * KIB)))
    with pytest.raises(LocalProtocolError, match="allowed are 65536"):
        client.send(frames.Subscribe(1, 1, "s" * 65_536, 0, 0, 0, 1))
    assert client.state is State.OPEN
    # What it takes itself is its own limit.
    assert client.receive(frames.encode(frames.Deliver(1, 1, bytes(5 * MIB))))


def test_a_welcome_without_limits_keeps_ones_own() -> None:
    client = Connection(C, 1000)
    client.send(HELLO)
    client.receive(frames.encode(frames.Welcome(1, "x", {}, 0)))
    with pytest.raises(LocalProtocolError, match="allowed are 1000"):
        client.send(frames.Produce(1, "s", 0, None, 0, bytes(1000)))


def test_what_cannot_be_encoded_changes_nothing() -> None:
    client = connection(C, State.OPEN)
    with pytest.raises(LocalProtocolError):
        client.send(frames.Goodbye("\ud800", ""))
    assert client.state is State.OPEN
    assert client.send(frames.Ping(1))


# -------------------------------------------------------------------------------- any order


class TwoPeers(RuleBasedStateMachine):
    """Two peers that send only what they may, over a transport that delays as it likes.

    Whatever they choose and whatever crosses, neither ever sees the other break a rule.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends = {role: Connection(role, FRAME_BYTES) for role in Role}
        self.wires: dict[Role, list[bytes]] = {role: [] for role in Role}
        self.goodbyes: set[Role] = set()

    @initialize(greeted=st.booleans())
    def they_may_have_greeted(self, greeted: bool) -> None:
        if greeted:
            self.ends[S].receive(self.ends[C].send(HELLO))
            self.ends[C].receive(self.ends[S].send(WELCOME))

    @rule(role=st.sampled_from(Role), move=st.sampled_from(list(SAMPLES)))
    def someone_sends(self, role: Role, move: Any) -> None:
        end = self.ends[role]
        before = end.state
        try:
            data = end.send(SAMPLES[move])
        except LocalProtocolError:
            assert end.state is before
            return
        assert not (role is C and C in self.goodbyes and move in REQUESTS)
        self.goodbyes |= {role} if move is frames.Goodbye else set()
        self.wires[role].append(data)

    @rule(
        role=st.sampled_from(Role), move=st.sampled_from([frames.Hello, frames.Welcome, *REQUESTS])
    )
    def someone_sends_what_matters(self, role: Role, move: Any) -> None:
        self.someone_sends(role, move)

    @precondition(lambda self: any(self.wires.values()))
    @rule(role=st.sampled_from(Role))
    def something_arrives(self, role: Role) -> None:
        wire, end = self.wires[role.peer], self.ends[role]
        if not wire:
            return
        data = wire.pop(0)
        # Once it is over nobody reads any more.
        if end.state is not State.CLOSED:
            assert frames.encode(end.receive(data)) == data

    @invariant()
    def nobody_is_in_error(self) -> None:
        for end in self.ends.values():
            assert end.state is not State.ERROR

    @invariant()
    def goodbyes_are_known_to_who_said_them(self) -> None:
        for role in self.goodbyes:
            assert self.ends[role].state not in (State.GREETING, State.GREETED, State.OPEN)


TestTwoPeers = TwoPeers.TestCase


@pytest.mark.parametrize("first", [C, S])
def test_goodbyes_that_cross(first: Role) -> None:
    client, server = connection(C, State.OPEN), connection(S, State.OPEN)
    said = {C: client.send(GOODBYE), S: server.send(GOODBYE)}
    for role in (first, first.peer):
        (client if role is S else server).receive(said[role])
    assert client.state is State.LEFT
    assert server.state is State.LEFT
    client.receive(server.send(frames.Acks(0, [])))


def test_a_request_that_crosses_a_goodbye_is_heard() -> None:
    client, server = connection(C, State.OPEN), connection(S, State.OPEN)
    request = client.send(SAMPLES[frames.Produce])
    goodbye = server.send(GOODBYE)
    assert server.receive(request) == SAMPLES[frames.Produce]
    client.receive(server.send(frames.Failed(1, "draining", "going down", True, False)))
    client.receive(goodbye)
    with pytest.raises(LocalProtocolError):
        client.send(SAMPLES[frames.Produce])


@pytest.mark.parametrize("state", [State.OPEN, State.LEAVING, State.LEFT])
def test_what_is_held_can_be_settled_until_the_end(state: State) -> None:
    """Whoever said goodbye: a lease that was handed out is settled, and that is answered."""
    client, server = connection(C, state), connection(S, state)
    assert server.receive(client.send(SAMPLES[frames.Settle])) == SAMPLES[frames.Settle]
    for answer in (frames.Settled, frames.Revoke, frames.Lease):
        assert client.receive(server.send(SAMPLES[answer])) == SAMPLES[answer]
    server.receive(client.send(frames.Unsubscribe(2)))
    assert client.state is server.state is state


def test_hello_may_carry_what_this_version_does_not_know() -> None:
    data = cbor.dumps([1, [1, 2], "x", {"compression": {"deep": [1, None, 1.5]}}])
    assert connection(S, State.GREETING).receive(data)
