"""Credit: a sender never stands still for ever, a receiver never holds more than it granted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamer.errors import CreditExceeded
from streamer.wire.credit import GrantWindow, SendWindow

FRAME_BYTES_MAX = 300


def test_a_frame_may_go_while_any_credit_is_left() -> None:
    window = SendWindow(100)
    window.spend(99)
    assert window.open
    window.spend(5000)
    assert not window.open
    window.raise_limit(5099)
    assert not window.open
    window.raise_limit(5100)
    assert window.open


def test_a_limit_never_falls() -> None:
    window = SendWindow()
    assert not window.open
    for told in (100, 0, 50, 100):
        window.raise_limit(told)
        assert window.limit == 100


def test_sending_without_credit_is_a_programmers_error() -> None:
    with pytest.raises(AssertionError):
        SendWindow().spend(1)


def test_what_comes_without_credit_is_refused() -> None:
    window = GrantWindow(100)
    window.received(99)
    window.received(1000)
    with pytest.raises(CreditExceeded, match="1099 bytes used, granted were 100"):
        window.received(1)
    assert (window.used, window.under_way) == (1099, 1099)
    with pytest.raises(CreditExceeded):
        GrantWindow(0).received(1)


def test_completing_more_than_came_is_a_programmers_error() -> None:
    window = GrantWindow(100)
    window.received(10)
    with pytest.raises(AssertionError):
        window.completed(11)


def test_a_limit_is_told_when_it_adds_a_quarter() -> None:
    window = GrantWindow(100)
    assert window.limit(100) is None
    window.received(24)
    window.completed(24)
    assert window.limit(100) is None
    window.received(1)
    window.completed(1)
    assert window.limit(100) == 125
    assert window.limit(100) is None


@given(st.integers(0, 1000))
def test_a_smaller_window_takes_nothing_back(window_now: int) -> None:
    window = GrantWindow(1000)
    assert window.limit(window_now) is None
    assert window.granted == 1000


class Flow(RuleBasedStateMachine):
    """A sender and a receiver, with frames and limits on their way between them."""

    def __init__(self) -> None:
        super().__init__()
        self.send = SendWindow(400)
        self.grant = GrantWindow(400)
        self.window_now = 400
        self.frames: list[int] = []
        self.at_work: list[int] = []
        self.limits: list[int] = []

    @precondition(lambda self: self.send.open)
    @rule(nbytes=st.integers(1, FRAME_BYTES_MAX))
    def frame_goes(self, nbytes: int) -> None:
        self.send.spend(nbytes)
        self.frames.append(nbytes)

    @precondition(lambda self: self.frames)
    @rule()
    def frame_comes(self) -> None:
        nbytes = self.frames.pop(0)
        self.grant.received(nbytes)
        self.at_work.append(nbytes)

    @precondition(lambda self: self.at_work)
    @rule(pick=st.integers(0, 100))
    def work_is_done(self, pick: int) -> None:
        self.grant.completed(self.at_work.pop(pick % len(self.at_work)))

    @rule()
    def limit_goes(self) -> None:
        limit = self.grant.limit(self.window_now)
        if limit is not None:
            self.limits.append(limit)

    @precondition(lambda self: self.limits)
    @rule(pick=st.integers(0, 100), again=st.booleans())
    def limit_comes(self, pick: int, again: bool) -> None:
        """In any order, and more than once: a limit is cumulative."""
        limit = self.limits[pick % len(self.limits)]
        if not again:
            self.limits.remove(limit)
        self.send.raise_limit(limit)

    @rule(window=st.integers(0, 1000))
    def window_changes(self, window: int) -> None:
        self.window_now = window

    @invariant()
    def the_receiver_holds_a_window_and_a_frame_at_most(self) -> None:
        assert self.grant.under_way == sum(self.at_work)
        assert self.grant.used < self.grant.granted + FRAME_BYTES_MAX
        assert self.send.limit <= self.grant.granted

    def teardown(self) -> None:
        """Once all is done and there is any window, the sender may go on."""
        while self.frames:
            self.frame_comes()
        while self.at_work:
            self.work_is_done(0)
        self.window_now = max(1, self.window_now)
        self.limit_goes()
        for limit in self.limits:
            self.send.raise_limit(limit)
        assert self.send.open


TestFlow = Flow.TestCase
