"""The values between stages: an ack is answered exactly once, a ticket counts its holders."""

from __future__ import annotations

import trio

from streamer.errors import Aborted, OutcomeUnknown
from streamer.pipeline.flow import Flow
from streamer.pipeline.stage import Ack
from streamer.records import AckLevel, Receipt

RECEIPT = Receipt("s", 0, 7, 1, AckLevel.SYNCED)


def test_an_ack_answers_once_all_its_outcomes_are_in() -> None:
    answered: list[Ack] = []
    ack = Ack(2, answered.append)
    assert ack.resolve(1, RECEIPT)
    assert not answered
    assert not ack.done
    assert ack.resolve(0, RECEIPT)
    assert answered == [ack]
    assert ack.done


def test_the_first_outcome_stays_and_a_late_one_has_no_effect() -> None:
    answered: list[Ack] = []
    ack = Ack(1, answered.append)
    late = OutcomeUnknown("late")
    assert ack.resolve(0, late)
    assert not ack.resolve(0, RECEIPT)
    assert ack.outcomes == [late]
    assert len(answered) == 1


def test_resolve_all_gives_the_rest() -> None:
    answered: list[Ack] = []
    ack = Ack(3, answered.append)
    ack.resolve(1, RECEIPT)
    error = Aborted("no")
    ack.resolve_all(error)
    assert ack.outcomes == [error, RECEIPT, error]
    ack.resolve_all(RECEIPT)
    assert len(answered) == 1


def test_who_watches_an_ack_is_told_before_the_one_who_waits() -> None:
    told: list[str] = []
    ack = Ack(2, lambda _: told.append("answered"))
    ack.watch(lambda seen: told.append(f"watched {seen.done}"))
    ack.resolve(0, RECEIPT)
    assert told == []
    ack.resolve(1, RECEIPT)
    assert told == ["watched True", "answered"]


async def test_a_group_is_under_way_until_its_last_holder_lets_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    flow = Flow()
    seen: list[float] = []
    flow.on_done = seen.append
    ticket = flow.enter()
    ticket.hold()
    assert flow.in_flight == 1
    await trio.sleep(2)
    ticket.release()
    assert flow.in_flight == 1
    await trio.sleep(1)
    ticket.release()
    assert flow.in_flight == 0
    assert seen == [3.0]
