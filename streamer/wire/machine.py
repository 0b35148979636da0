"""What a session may say, when: the states and the one place where an illegal move fails.

Rules: what is legal stands in `MOVES`, keyed by who sends and by the state of the session as it
is known on this side; nothing else in the program decides it. `CROSSING` is the one exception: a
frame may arrive that its sender may no longer send, because it was on its way when we spoke. The
tables in `PROTOCOL.md` are rendered from these two and compared by a test.

A failed receive is the peer's fault and ends the session; a refused send is ours and changes
nothing; a send that broke off ends the session, as part of a frame may be out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from streamer.errors import (
    FrameTooLarge,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    UnsupportedVersion,
)
from streamer.wire import frames
from streamer.wire.frames import Frame

__all__ = ["CROSSING", "MOVES", "Connection", "Fatal", "Role", "State"]


class Role(enum.Enum):
    """Which end of the session this is; a daemon is always the server."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> Role:
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT


class State(enum.Enum):
    """How far a session has come, as seen from one side."""

    #: Nothing was said yet; the client speaks first.
    GREETING = "greeting"
    #: The client said hello and waits for its welcome.
    GREETED = "greeted"
    OPEN = "open"
    #: The server said goodbye: it answers what is under way and takes nothing new.
    LEAVING = "leaving"
    #: The client said goodbye (perhaps the server too): answers are all that is still to come.
    LEFT = "left"
    #: Over: nothing may be said or heard any more.
    CLOSED = "closed"
    #: The peer broke the rules, or a write broke off. A server may still say which rule.
    ERROR = "error"


class Fatal:
    """Stands in the tables for a `Failed` frame whose `fatal` is true: the last frame there is."""


Move = type[Frame] | type[Fatal]

_REQUESTS: tuple[Move, ...] = (
    frames.Produce,
    frames.ProduceRecords,
    frames.Subscribe,
    frames.Fetch,
    frames.Admin,
    frames.Join,
    # No request by itself: it goes right before one.
    frames.Trace,
)
#: What a client says about what is already under way.
_UPKEEP: tuple[Move, ...] = (
    frames.Grant,
    frames.Unsubscribe,
    frames.Settle,
    frames.Ping,
    frames.Pong,
)
_ANSWERS: tuple[Move, ...] = (
    frames.Acks,
    frames.Failed,
    frames.Credit,
    frames.Results,
    frames.Deliver,
    frames.Ended,
    frames.Fetched,
    frames.Reply,
    frames.Lease,
    frames.Settled,
    frames.Revoke,
    frames.Ping,
    frames.Pong,
)


def _row(stay: State, moves: tuple[Move, ...], **goes: Move) -> Mapping[Move, State]:
    """A row of the table: `moves` that change nothing, and by state the move that goes there."""
    return {**dict.fromkeys(moves, stay), **{move: State[to] for to, move in goes.items()}}


_C, _S = Role.CLIENT, Role.SERVER

#: (who sends, state) -> {frame type: the state after it}. A pair that is absent allows nothing.
MOVES: Mapping[tuple[Role, State], Mapping[Move, State]] = {
    (_C, State.GREETING): _row(State.GREETING, (), GREETED=frames.Hello),
    (_S, State.GREETING): _row(State.GREETING, (), CLOSED=Fatal),
    (_S, State.GREETED): _row(State.GREETED, (), OPEN=frames.Welcome, CLOSED=Fatal),
    (_C, State.OPEN): _row(State.OPEN, (*_REQUESTS, *_UPKEEP), LEFT=frames.Goodbye),
    (_S, State.OPEN): _row(State.OPEN, _ANSWERS, LEAVING=frames.Goodbye, CLOSED=Fatal),
    (_C, State.LEAVING): _row(State.LEAVING, _UPKEEP, LEFT=frames.Goodbye),
    (_S, State.LEAVING): _row(State.LEAVING, _ANSWERS, CLOSED=Fatal),
    (_C, State.LEFT): _row(State.LEFT, _UPKEEP),
    (_S, State.LEFT): _row(State.LEFT, (*_ANSWERS, frames.Goodbye), CLOSED=Fatal),
    (_S, State.ERROR): _row(State.ERROR, (), CLOSED=Fatal),
}

#: What may arrive although its sender may no longer send it: it crossed our own frame. Requests
#: that cross the server's goodbye are answered, with `draining`.
CROSSING: Mapping[tuple[Role, State], Mapping[Move, State]] = {
    (_C, State.LEAVING): _row(State.LEAVING, _REQUESTS),
}

_NOTHING: Mapping[Move, State] = {}


class Connection:
    """One session's protocol, from one side. Bytes go in and come out; it does no I/O.

    `frame_bytes` is the largest frame that this side takes. A client sends up to what the
    server's welcome allows.
    """

    def __init__(self, role: Role, frame_bytes: int) -> None:
        self.role = role
        self._peer = role.peer
        self.state = State.GREETING
        self.frame_bytes = frame_bytes
        self._frame_bytes_peer = frame_bytes
        self._write_broke = False

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        # The rows of the tables that hold now: looked up for each state and not for each frame.
        self._state = state
        peer = (self._peer, state)
        self._ours = MOVES.get((self.role, state), _NOTHING)
        self._theirs = {**CROSSING.get(peer, _NOTHING), **MOVES.get(peer, _NOTHING)}

    def __repr__(self) -> str:
        return f"<Connection {self.role.value} {self.state.value}>"

    def receive(self, data: bytes) -> Frame:
        """Take one whole frame from the peer.

        Raises:
            RemoteProtocolError: not a frame, or one that may not come now.
            FrameTooLarge: longer than this side, or its kind of frame, allows.
            UnsupportedVersion: the peer speaks no version that this side speaks.

        After any of them the state is ERROR (or stays CLOSED).
        """
        try:
            if len(data) > self.frame_bytes:
                raise FrameTooLarge(f"frame of {len(data)} bytes, allowed are {self.frame_bytes}")
            frame = frames.decode(data)
            state = self._next(frame, self._theirs, self._peer, RemoteProtocolError)
            self._greeting(frame)
        except ProtocolError:
            if self.state is not State.CLOSED:
                self.state = State.ERROR
            raise
        if state is not self._state:
            self.state = state
        return frame

    def send(self, frame: Frame) -> bytes:
        """The bytes of a frame that this side may send now.

        Raises:
            LocalProtocolError: it may not be sent now, or is too long. Nothing has changed.
        """
        if self._write_broke:
            raise LocalProtocolError("a write broke off: nothing may follow it")
        state = self._next(frame, self._ours, self.role, LocalProtocolError)
        data = frames.encode(frame)
        allowed = frames.bytes_max(type(frame), self._frame_bytes_peer)
        if len(data) > allowed:
            raise LocalProtocolError(
                f"{type(frame).__name__} frame of {len(data)} bytes, allowed are {allowed}"
            )
        if state is not self._state:
            self.state = state
        return data

    def send_failed(self) -> None:
        """A write was cancelled or broke: part of a frame may be out, so nothing may follow."""
        self._write_broke = True
        if self.state is not State.CLOSED:
            self.state = State.ERROR

    def closed(self) -> None:
        """The transport is closed, by either side."""
        self.state = State.CLOSED

    def _next(
        self, frame: Frame, row: Mapping[Move, State], sender: Role, error: type[ProtocolError]
    ) -> State:
        """The state after `frame`, or `error`: the one place where illegal moves fail."""
        move: Move = type(frame)
        if move is frames.Failed and frame.fatal:  # type: ignore[attr-defined]
            move = Fatal
        state = row.get(move)
        if state is None:
            raise error(
                f"{move.__name__} frame from the {sender.value} in state {self._state.value}"
            )
        return state

    def _greeting(self, frame: Frame) -> None:
        """What the two greetings say besides that they were said."""
        version = frames.PROTOCOL_VERSION
        if type(frame) is frames.Hello:
            if version not in frame.versions:
                raise UnsupportedVersion(
                    f"protocol versions {frame.versions[:8]} offered, known is {version}"
                )
        elif type(frame) is frames.Welcome:
            if frame.version != version:
                raise UnsupportedVersion(
                    f"protocol version {frame.version} chosen, known is {version}"
                )
            self._frame_bytes_peer = frame.limits.get("frame_bytes", self._frame_bytes_peer)
