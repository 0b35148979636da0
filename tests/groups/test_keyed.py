"""Shared groups in the order of keys: a key is out once, and nobody else waits for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamer.groups.keyed import KeyedLedger
from tests.groups.group_kit import Kit
from tests.groups.test_ledger import held

A, B, C = b"a", b"b", b"c"


def keyed(*batches: Sequence[bytes | None], **settings: object) -> tuple[Kit, KeyedLedger]:
    kit = Kit(batches, order="key", **settings)
    assert isinstance(kit.ledger, KeyedLedger)
    return kit, kit.ledger


def test_a_batch_goes_out_whole_if_nothing_of_its_keys_is_out() -> None:
    kit, _ = keyed([A, B, A, None])
    assert kit.give_all(kit.join()) == [[0, 4]]


def test_records_of_a_key_that_is_out_wait_and_others_do_not() -> None:
    kit, ledger = keyed([A, B], [A, None, B, C], [C])
    member = kit.join()
    lease = held(kit.give(member, 1))
    assert lease.bounds == (0, 1)
    assert kit.give_all(member) == [[1, 2], [3, 4, 5, 6]]
    ledger.ack(lease, lease.bounds)
    assert kit.give_all(member) == [[2, 3]]


def test_a_key_is_free_once_nothing_of_it_is_out() -> None:
    kit, ledger = keyed([A, A, A], [A])
    member = kit.join()
    lease = held(kit.give(member, 2))
    ledger.ack(lease, [0, 1])
    assert kit.give(member) is None
    ledger.ack(lease, [1, 2])
    assert kit.give_all(member) == [[2, 3]]


def test_a_retry_holds_up_its_key_and_no_other() -> None:
    kit, ledger = keyed([A, B], [A, B])
    member = kit.join()
    lease = held(kit.give(member))
    kit.fail(lease, [0, 1])
    ledger.ack(lease, [1, 2])
    assert kit.give_all(member) == [[3, 4]]
    kit.wait(1.5)
    again = held(kit.give(member))
    assert (again.bounds, again.failures) == ((0, 1), 1)
    assert kit.give(member) is None
    kit.fail(again, delay_s=0.0)
    assert kit.give_all(member) == [[0, 1]]


def test_a_record_that_died_frees_its_key() -> None:
    kit, ledger = keyed([A], [A], [A], max_deliveries=1)
    member = kit.join()
    kit.fail(held(kit.give(member)))
    lease = held(kit.give(member))
    ledger.term(lease, lease.bounds, "bad")
    assert held(kit.give(member)).bounds == (2, 3)


def test_what_stands_in_line_goes_out_together_if_it_failed_as_often() -> None:
    kit, ledger = keyed([A, A, A, A, A])
    member = kit.join()
    lease = held(kit.give(member, 4))
    kit.fail(lease, [2, 3], delay_s=0.0)
    ledger.release(lease, lease.bounds)
    assert held(kit.give(member, 1)).bounds == (0, 1)
    ledger.ack(next(iter(ledger.leases.values())), [0, 1])
    for expected in ([1, 2], [2, 3], [3, 5]):
        lease = held(kit.give(member))
        assert list(lease.bounds) == expected
        ledger.ack(lease, lease.bounds)


def test_of_a_batch_only_what_failed_as_often_goes_out_together() -> None:
    kit, _ = keyed([A, B, None, C])
    member = kit.join()
    lease = held(kit.give(member, 3))
    kit.fail(lease, delay_s=0.0)
    assert kit.give_all(member) == [[0, 3], [3, 4]]


def test_a_suspect_goes_out_alone_and_holds_up_its_key() -> None:
    kit, ledger = keyed([A, A, B])
    member = kit.join()
    kit.fail(held(kit.give(member, 2)), suspect=True, delay_s=0.0)
    assert ledger.has_suspects
    assert kit.give_all(member) == [[2, 3]]
    lease = held(kit.give(member, alone=True))
    assert (lease.bounds, lease.failures) == ((0, 1), 1)
    assert not ledger.has_suspects, "the next of its key waits"
    ledger.ack(lease, lease.bounds)
    assert ledger.has_suspects
    assert ledger.choose(3, 4, [A], 10, alone=True) is None
    assert held(kit.give(member, alone=True)).bounds == (1, 2)


def test_a_batch_of_which_nothing_may_go_is_passed_by() -> None:
    kit, ledger = keyed([A], [A], [B])
    member = kit.join()
    kit.give(member)
    assert ledger.next_read(3, alone=False) == 1
    assert ledger.choose(1, 2, [A], 10, alone=False) is None
    assert ledger.next_read(3, alone=False) == 2


def test_records_without_a_key_have_no_order() -> None:
    kit, ledger = keyed([None, None], [None])
    member = kit.join()
    lease = held(kit.give(member))
    kit.fail(lease, [0, 1])
    ledger.ack(lease, [1, 2])
    assert kit.give_all(member) == [[2, 3]]
    kit.wait(1.5)
    assert kit.give_all(member) == [[0, 1]]


def test_what_was_looked_at_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.groups.keyed.LOOKED_AT_MAX", 4)
    kit, ledger = keyed([A], [A, A, A, A, A, A, B])
    member = kit.join()
    lease = held(kit.give(member))
    assert kit.give(member) is None
    assert ledger.next_read(8, alone=False) is None
    ledger.ack(lease, lease.bounds)
    for expected in ([1, 5], [5, 8]):
        lease = held(kit.give(member))
        assert list(lease.bounds) == expected
        ledger.ack(lease, lease.bounds)
    assert ledger.cursor == 8


def test_a_lease_has_so_many_ranges_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.groups.keyed.RANGES_MAX", 2)
    kit, _ = keyed([A], [B, A, C, A, None, A, None])
    member = kit.join()
    kit.give(member)
    assert kit.give_all(member) == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_start_takes_up_what_has_failed_in_its_line() -> None:
    kit, ledger = keyed([A, B, A, B, None])
    ledger.load([1, 2], [[2, 5, 1, 0, False, "", 7]], kit.now, kit.now_us)
    member = kit.join()
    assert ledger.next_read(5, alone=False) == 0, "nothing is ready before it was looked at"
    lease = held(kit.give(member))
    assert (lease.bounds, lease.failures) == ((0, 1), 0)
    assert kit.give_all(member) == [[3, 5]]
    ledger.ack(lease, lease.bounds)
    assert kit.give_all(member) == [[2, 3]]


def test_retries_of_many_records_are_one_entry_of_the_journal() -> None:
    kit, ledger = keyed([A, B, C])
    kit.fail(held(kit.give(kit.join())))
    assert [news[:3] for news in ledger.take_retry_news()] == [[0, 3, 1]]


def test_retention_frees_keys() -> None:
    kit, ledger = keyed([A, B, None], [A, B, A, C])
    member = kit.join()
    lease = held(kit.give(member))
    kit.fail(lease, [1, 2], delay_s=500.0)
    assert kit.give_all(member) == [[6, 7]]
    ledger.skip_to(5)
    assert kit.give(member) is None, "a record of the key is still out"
    ledger.release(lease, lease.bounds)
    assert kit.give_all(member) == [[5, 6]]


def test_retention_frees_keys_that_are_not_out() -> None:
    kit, ledger = keyed([A, A, B], [B, A])
    member = kit.join()
    kit.fail(held(kit.give(member)), delay_s=500.0)
    assert kit.give(member) is None
    ledger.skip_to(2)
    assert kit.give_all(member) == [[4, 5]]
    ledger.skip_to(3)
    assert kit.give_all(member) == [[3, 4]]
    assert ledger.timers == 2
