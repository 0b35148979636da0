"""The daemon's half of one consumer group, as a script: it leases what a test tells it to, takes
down what is settled, and answers as it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamer.errors import StreamerError
from streamer.groups.ranges import Ranges, pairs, size
from streamer.groups.settings import GroupSettings
from streamer.records import Record
from streamer.wire import frames
from streamer.wire.frames import Frame, Verb


class GroupPeer:
    """Made by the fixture `peer`, for the daemon of the same test."""

    def __init__(self, daemon: Any) -> None:
        self.daemon = daemon
        daemon.other = self.handle
        self.settings = GroupSettings().to_plain()
        self.joins: list[frames.Join] = []
        self.left: list[int] = []
        self.frames: list[frames.Settle] = []
        #: Every item that came: verb, token, offsets, delay, reason.
        self.items: list[tuple[Verb, int, list[int], int | None, str]] = []
        self.hold = False
        self.held: list[Callable[[], None]] = []
        #: The error of an item, by what it says.
        self.judge: Callable[[Verb, int], StreamerError | None] = lambda *_: None
        self.refuse_join: StreamerError | None = None
        self.refuse_settle: StreamerError | None = None
        self.tokens = 0
        self.offset = 0
        #: What a lease has left.
        self.leases: dict[int, Ranges] = {}

    @property
    def session(self) -> Any:
        return self.daemon.sessions[-1]

    @property
    def subscription(self) -> int:
        return self.joins[-1].subscription

    def handle(self, session: Any, frame: Frame) -> None:
        if isinstance(frame, frames.Join):
            self.joins.append(frame)
            if self.refuse_join is not None:
                error = self.refuse_join
                session.say(
                    frames.Failed(frame.request, error.code, error.message, error.retryable, False)
                )
                return
            told = {"settings": self.settings, "partitions": 1, "member": len(self.joins)}
            session.say(frames.Reply(frame.request, told))
        elif isinstance(frame, frames.Settle):
            self.settle(session, frame)
        elif isinstance(frame, frames.Unsubscribe):
            self.left.append(frame.subscription)

    def settle(self, session: Any, frame: frames.Settle) -> None:
        self.frames.append(frame)
        failures: list[list[Any]] = []
        for index, (verb, token, ranges, delay_us, reason) in enumerate(frame.items):
            error = self.judge(Verb(verb), token)
            if error is not None:
                failures.append([index, error.code, error.message])
            left = self.leases[token]
            mine = ranges or list(left.bounds)
            if verb != Verb.EXTEND:
                for first, end in pairs(mine):
                    assert left.remove(first, end) == end - first, "settled twice"
            offsets = [n for first, end in pairs(mine) for n in range(first, end)]
            self.items.append((Verb(verb), token, offsets, delay_us, reason))
        answer: Frame = frames.Settled(frame.request, failures)
        if self.refuse_settle is not None:
            error = self.refuse_settle
            answer = frames.Failed(frame.request, error.code, error.message, False, False)
        if self.hold:
            self.held.append(lambda: session.say(answer))
        else:
            session.say(answer)

    def release(self) -> None:
        held, self.held = self.held, []
        for tell in held:
            tell()

    def verbs(self) -> list[tuple[str, list[int]]]:
        """What was settled, without extends."""
        return [(v.name.lower(), offsets) for v, _, offsets, *_ in self.items if v != Verb.EXTEND]

    # ---------------------------------------------------------------------------------- leasing

    def lease(
        self,
        count: int = 3,
        *,
        partition: int = 0,
        attempt: int = 1,
        records: list[Record] | None = None,
        ranges: list[int] | None = None,
        whole: bool = True,
        dictionary_id: int = 0,
        spoil: bool = False,
    ) -> int:
        """Lease the next records, whose values are their offsets; the token."""
        first = self.offset
        if ranges is not None and whole:
            count = ranges[-1] - first
        elif ranges is not None:
            count = size(ranges)
        if records is None:
            records = [Record(b"%d" % (first + n)) for n in range(count)]
        batch = self.daemon.codec.encode_records(records, now_us=7, dictionary_id=dictionary_id)
        if whole:
            batch = batch.placed(base_offset=first, append_time_us=1, high_water=0)
            ranges = ranges or [first, first + len(records)]
            self.offset += len(records)
        assert ranges is not None
        self.tokens += 1
        self.leases[self.tokens] = Ranges(ranges)
        blob = batch.to_bytes()
        if spoil:
            blob = blob[:-1] + bytes([blob[-1] ^ 1])
        self.session.say(
            frames.Lease(self.subscription, self.tokens, partition, attempt, ranges, whole, blob)
        )
        return self.tokens

    def revoke(self, token: int, *, partition: int = 0, lost: bool) -> None:
        self.session.say(frames.Revoke(self.subscription, partition, token, lost))

    def end(self, error: StreamerError) -> None:
        self.session.say(frames.Ended(self.subscription, error.code, error.message, {}))
