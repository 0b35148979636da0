"""Shared groups: what is due again goes first, suspects go alone, then what is new."""

from __future__ import annotations

import pytest

from tests.groups.group_kit import Kit
from tests.groups.test_ledger import held


def test_new_records_go_out_batch_by_batch_and_to_the_room_there_is() -> None:
    kit = Kit([5, 3])
    assert kit.give_all(kit.join(), 3) == [[0, 3], [3, 5], [5, 8]]


def test_what_is_due_again_goes_before_what_is_new() -> None:
    kit = Kit([4, 4, 4])
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    kit.ledger.release(two, two.bounds)
    kit.ledger.release(one, one.bounds)
    assert kit.give_all(member) == [[0, 4], [4, 8], [8, 12]]


def test_retries_of_a_batch_that_failed_as_often_go_out_together() -> None:
    kit = Kit([10])
    member = kit.join()
    lease = held(kit.give(member))
    kit.ledger.ack(lease, [5, 6])
    kit.ledger.release(lease, [0, 2])
    kit.fail(lease, [2, 4], delay_s=0.0)
    kit.ledger.release(lease, [4, 5])
    kit.ledger.release(lease, [6, 10])
    assert kit.give_all(member, 3) == [[0, 2], [2, 4], [4, 5, 6, 8], [8, 10]]


def test_a_suspect_goes_out_alone() -> None:
    kit = Kit([4, 4])
    member, other = kit.join(), kit.join()
    kit.fail(held(kit.give(member)), suspect=True, delay_s=0.0)
    assert kit.ledger.has_suspects
    assert kit.give_all(other) == [[4, 8]], "no suspects for who is not alone"
    for offset in range(4):
        lease = held(kit.give(member, alone=True))
        assert (lease.bounds, lease.failures) == ((offset, offset + 1), 1)
        assert member.room == 0
        kit.ledger.ack(lease, lease.bounds)
    assert not kit.ledger.has_suspects
    assert kit.give(member, alone=True) is None
    assert kit.ledger.cursor == 4


def test_a_batch_that_is_not_asked_for_gives_nothing() -> None:
    kit = Kit([4, 4, 4])
    member = kit.join()
    ledger = kit.ledger
    assert ledger.choose(4, 8, None, 10, alone=False) is None
    assert ledger.choose(0, 4, None, 10, alone=True) is None
    kit.fail(held(kit.give(member)), delay_s=0.0)
    assert ledger.choose(4, 8, None, 10, alone=False) is None
    kit.fail(held(kit.give(member)), delay_s=0.0, suspect=True)
    assert ledger.choose(4, 8, None, 10, alone=True) is None


def test_what_a_start_knows_is_not_new() -> None:
    kit = Kit([10, 10], cursors=[2])
    kit.ledger.load([4, 6, 12, 14], [[6, 7, 1, 0, False, "", 0]], kit.now, kit.now_us)
    member = kit.join()
    assert kit.give_all(member) == [[6, 7], [2, 4, 7, 10], [10, 12, 14, 20]]


def test_a_lease_has_so_many_ranges_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.groups.shared.RANGES_MAX", 2)
    kit = Kit([10])
    kit.ledger.load([1, 2, 3, 4, 5, 6], [], kit.now, kit.now_us)
    member = kit.join()
    first = held(kit.give(member))
    assert first.bounds == (0, 1, 2, 3)
    assert kit.give_all(member) == [[4, 5, 6, 10]]
    for lease in list(kit.ledger.leases.values()):
        kit.ledger.release(lease, lease.bounds)
    assert kit.give_all(member) == [[0, 1, 2, 3], [4, 5, 6, 10]]


def test_what_retention_takes_is_not_handed_out() -> None:
    kit = Kit([4, 4, 4])
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    kit.fail(one, suspect=True, delay_s=0.0)
    kit.fail(two, delay_s=0.0)
    kit.ledger.skip_to(6)
    assert not kit.ledger.has_suspects
    assert kit.give_all(member) == [[6, 8], [8, 12]]


def test_new_records_wait_behind_too_many_retries_and_retries_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamer.groups.ledger.RETRIES_MAX", 1)
    kit = Kit([4, 4])
    member = kit.join()
    kit.fail(held(kit.give(member)))
    assert kit.give(member) is None
    kit.wait(1.5)
    assert kit.give_all(member) == [[0, 4], [4, 8]]
