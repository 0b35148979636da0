"""Ordered groups: one owner, in order, and back to what failed."""

from __future__ import annotations

import pytest

from streamer.groups.ordered import OrderedLedger
from tests.groups.group_kit import Kit
from tests.groups.test_ledger import held


def ordered(*batches: int, **settings: object) -> tuple[Kit, OrderedLedger]:
    kit = Kit(batches, mode="ordered", **settings)
    assert isinstance(kit.ledger, OrderedLedger)
    return kit, kit.ledger


def test_batches_go_out_in_their_order() -> None:
    kit, _ = ordered(4, 4)
    assert kit.give_all(kit.join(), 3) == [[0, 3], [3, 4], [4, 7], [7, 8]]


def test_nothing_goes_out_without_an_owner_or_while_it_moves() -> None:
    kit, ledger = ordered(4)
    assert ledger.next_read(4, alone=False) is None
    kit.join()
    assert ledger.next_read(4, alone=False) == 0
    ledger.moving = True
    assert ledger.next_read(4, alone=False) is None
    assert not ledger.has_suspects


def test_what_is_behind_a_failed_record_comes_again_after_it() -> None:
    kit, ledger = ordered(4, 4, 4)
    member = kit.join()
    one, two, three = (held(kit.give(member)) for _ in range(3))
    kit.fail(two)
    assert (one.bounds, two.bounds, three.bounds) == ((0, 4), (), ())
    assert ledger.lost == [three], "who failed it knows"
    assert kit.give(member) is None, "it waits"
    kit.wait(1.5)
    again, behind = held(kit.give(member)), held(kit.give(member))
    assert (again.bounds, again.failures) == ((4, 8), 1)
    assert (behind.bounds, behind.failures, behind.since_us) == ((8, 12), 0, three.since_us)


def test_the_rest_of_a_lease_that_failed_in_parts_is_waited_for() -> None:
    kit, ledger = ordered(10, 4)
    member = kit.join()
    lease, behind = held(kit.give(member)), held(kit.give(member))
    kit.fail(lease, [4, 6], delay_s=0.0, suspect=True)
    assert lease.bounds == (0, 4, 6, 10)
    assert ledger.lost == [behind]
    assert kit.give(member) is None
    assert ledger.choose(0, 10, None, 10, alone=False) is None, "though its batch was read before"
    assert not ledger.has_suspects
    ledger.ack(lease, [6, 9])
    assert not ledger.has_suspects
    ledger.release(lease, [9, 10])
    assert ledger.has_suspects, "what is before it may be out"
    for offset in (4, 5):
        assert held(kit.give(member, alone=True)).bounds == (offset, offset + 1)
    assert kit.give_all(member) == [[9, 10], [10, 14]]


def test_what_is_given_back_comes_first_again() -> None:
    kit, ledger = ordered(4, 4)
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    ledger.ack(one, [0, 1, 2, 3])
    ledger.release(one, one.bounds)
    assert ledger.lost == [two]
    assert kit.give_all(member) == [[1, 2], [3, 4], [4, 8]]


def test_the_dead_hold_up_nothing() -> None:
    kit, ledger = ordered(4, 4, max_deliveries=1)
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    kit.fail(one)
    ledger.term(two, [5, 6], "bad")
    assert two.bounds == (4, 5, 6, 8)
    assert ledger.lost == []


def test_a_suspect_goes_out_alone_and_in_its_turn() -> None:
    kit, ledger = ordered(3, 3)
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    kit.fail(two, suspect=True, delay_s=0.0)
    ledger.release(one, one.bounds)
    assert not ledger.has_suspects, "it is not its turn"
    assert kit.give(member, alone=True) is None
    kit.give(member)
    assert ledger.has_suspects
    assert kit.give(member) is None
    assert ledger.choose(3, 6, None, 10, alone=False) is None
    for offset in (3, 4, 5):
        assert held(kit.give(member, alone=True)).bounds == (offset, offset + 1)
    assert ledger.choose(6, 7, None, 10, alone=True) is None


def test_a_batch_that_is_not_its_turn_gives_nothing() -> None:
    kit, ledger = ordered(3, 3)
    kit.join()
    assert ledger.choose(3, 6, None, 10, alone=False) is None


def test_what_is_known_to_be_done_or_to_have_failed_stands_where_it_is() -> None:
    kit, ledger = ordered(12)
    retries = [[5, 6, 1, 0, False, "", 0], [8, 9, 2, kit.now_us + 2_000_000, True, "", 0]]
    ledger.load([0, 1, 3, 4], retries, kit.now, kit.now_us)
    member = kit.join()
    assert kit.give_all(member) == [[1, 3], [4, 5], [5, 6], [6, 8]]
    kit.wait(2.1)
    assert held(kit.give(member, alone=True)).bounds == (8, 9)
    assert kit.give_all(member) == [[9, 12]]


def test_of_leases_that_run_out_together_the_first_has_failed() -> None:
    kit, ledger = ordered(2, 2)
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    kit.wait(10.0)
    ledger.extend(one, kit.now)
    kit.wait(31.0)
    assert ledger.lost == [one, two], "the second stood in the wheel before the first"
    assert [news[:3] for news in ledger.take_retry_news()] == [[0, 2, 1]]


def test_too_many_retries_hold_up_what_is_new_and_not_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamer.groups.ledger.RETRIES_MAX", 2)
    kit, ledger = ordered(2, 2, 2)
    member = kit.join()
    one, _ = held(kit.give(member)), kit.give(member)
    ledger.release(one, one.bounds)
    assert len(ledger.retries) == 2
    assert kit.give_all(member) == [[0, 2], [2, 4], [4, 6]]


def test_retention_moves_where_it_stands() -> None:
    kit, ledger = ordered(4, 4)
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    ledger.release(two, two.bounds)
    ledger.skip_to(6)
    assert kit.give_all(member) == [[6, 8]]
    ledger.release(one, one.bounds)
    assert ledger.lost == [], "what is gone is nothing to go back to"
