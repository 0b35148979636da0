"""Leases: what is out, what failed and comes again, what is dead, and what the journal is told."""

from __future__ import annotations

import random

import attrs
import pytest

from streamer.groups.ledger import ERROR_CHARS_MAX, Dead, Lease, Ledger
from streamer.groups.settings import GroupSettings
from tests.groups.group_kit import EPOCH_US, Kit


def held(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def test_a_lease_is_counted_until_it_is_settled() -> None:
    kit = Kit([10])
    member = kit.join()
    lease = held(kit.give(member))
    assert (lease.count, kit.ledger.in_flight, kit.ledger.timers) == (10, 10, 1)
    assert kit.ledger.ack(lease, [0, 4, 6, 7]) == 5
    assert lease.bounds == (4, 6, 7, 10)
    assert (kit.ledger.in_flight, member.in_flight, member.in_flight_bytes) == (5, 5, 50)
    assert (kit.ledger.cursor, kit.ledger.done.bounds) == (4, [6, 7])
    assert kit.ledger.ack(lease, lease.bounds) == 5
    assert (kit.ledger.in_flight, member.in_flight, member.in_flight_bytes) == (0, 0, 0)
    assert (kit.ledger.cursor, kit.ledger.leases, kit.ledger.timers) == (10, {}, 0)


def test_a_failure_is_counted_and_comes_again_after_its_pause() -> None:
    kit = Kit([10], backoff_s=[1.0, 5.0])
    member = kit.join()
    lease = held(kit.give(member))
    assert kit.fail(lease, [3, 5]) == 0
    assert lease.bounds == (0, 3, 5, 10)
    kit.wait(0.7)
    assert kit.give(member) is None
    kit.wait(0.7)
    again = held(kit.give(member))
    assert (again.bounds, again.failures, again.since_us) == ((3, 5), 1, lease.since_us)
    kit.fail(again)
    kit.wait(3.7)
    assert kit.give(member) is None
    kit.wait(2.7)
    assert held(kit.give(member)).failures == 2


def test_the_last_pause_repeats_and_has_jitter() -> None:
    kit = Kit([1], backoff_s=[1.0, 2.0], max_deliveries=0)
    member = kit.join()
    waits = set()
    for _ in range(40):
        began = kit.now_us
        kit.fail(held(kit.give(member)))
        (_, _, _, due_us, *_), *_ = kit.ledger.take_retry_news()
        waits.add((due_us - began) / 1e6)
        kit.wait(2.6)
    waits.remove(min(waits))
    assert len(waits) > 30
    assert 1.5 <= min(waits) < 1.7
    assert 2.3 < max(waits) <= 2.5


def test_a_member_may_name_the_pause() -> None:
    kit = Kit([2])
    member = kit.join()
    lease = held(kit.give(member))
    kit.fail(lease, [0, 1], delay_s=0.0)
    kit.fail(lease, [1, 2], delay_s=60.0)
    assert held(kit.give(member)).bounds == (0, 1)
    kit.wait(59.9)
    assert kit.give(member) is None


def test_after_its_last_delivery_a_record_is_dead() -> None:
    kit = Kit([4], max_deliveries=2, backoff_s=[0.0])
    member = kit.join()
    first = held(kit.give(member))
    kit.ledger.ack(first, [0, 2])
    kit.fail(first)
    assert kit.ledger.take_dead() == []
    kit.wait(5)
    assert kit.fail(held(kit.give(member)), error="x" * 1000) == 2
    assert kit.ledger.cursor == 4
    assert kit.ledger.take_dead() == [
        Dead(2, 4, "max_deliveries", 2, "x" * ERROR_CHARS_MAX, first.since_us)
    ]
    assert kit.ledger.take_dead() == []
    assert kit.ledger.take_news() == [0, 2], "the move of the dead says that they are done"


def test_a_record_may_be_dead_at_its_members_word() -> None:
    kit = Kit([4])
    lease = held(kit.give(kit.join()))
    assert kit.ledger.term(lease, [1, 2], "bad") == 1
    assert kit.ledger.take_dead() == [Dead(1, 2, "term", 1, "bad", lease.since_us)]
    assert lease.count == 3


def test_what_is_given_back_comes_again_without_counting() -> None:
    kit = Kit([4], backoff_s=[0.0])
    member = kit.join()
    kit.fail(held(kit.give(member)))
    lease = held(kit.give(member))
    kit.ledger.take_retry_news()
    kit.ledger.release(lease, [0, 3])
    again = held(kit.give(member))
    assert (again.bounds, again.failures, again.since_us) == ((0, 3), 1, lease.since_us)
    assert kit.ledger.take_retry_news() == []


def test_a_failure_is_news_as_it_was_even_if_it_goes_out_again_in_parts() -> None:
    kit = Kit([10])
    member = kit.join()
    kit.fail(held(kit.give(member)), delay_s=0.0, suspect=False)
    kit.fail(held(kit.give(member, 4)), delay_s=1.0)
    assert [news[:3] for news in kit.ledger.take_retry_news()] == [[0, 10, 1], [0, 4, 2]]
    assert kit.ledger.take_retry_news() == []


def test_a_lease_lasts_until_its_time_runs_out() -> None:
    kit = Kit([4], ack_wait_s=10, lease_max_s=25)
    lease = held(kit.give(kit.join()))
    assert kit.wait(9.9) == 0
    kit.ledger.extend(lease, kit.now)
    assert kit.wait(9.9) == 0
    kit.ledger.extend(lease, kit.now)
    assert kit.wait(5.1) == 0
    assert kit.wait(0.2) == 1, "it may not last longer than lease_max_s"
    assert kit.ledger.leases == {}


def test_a_lease_lasts_no_longer_than_it_may_at_all() -> None:
    kit = Kit([4], ack_wait_s=10, lease_max_s=2)
    kit.give(kit.join())
    assert kit.wait(2.2) == 1


def test_what_waits_for_its_time_is_counted() -> None:
    kit = Kit([1, 1])
    lease, _ = held(kit.give(member := kit.join())), kit.give(member)
    kit.fail(lease)
    assert (kit.ledger.timers, kit.ledger.retrying) == (2, 1)
    kit.wait(1.5)
    assert kit.ledger.timers == 1


def test_all_leases_can_be_recalled() -> None:
    kit = Kit([2, 2])
    member = kit.join()
    leases = [kit.give(member), kit.give(member)]
    kit.ledger.recall()
    assert kit.ledger.lost == leases
    assert (kit.ledger.leases, kit.ledger.timers, member.leases, member.in_flight) == ({}, 0, {}, 0)


def test_retention_takes_what_was_not_done() -> None:
    kit = Kit([10])
    member = kit.join()
    kit.ledger.ack(held(kit.give(member, 10)), [2, 4, 7, 9])
    assert kit.ledger.skip_to(8) == 8 - 3
    assert kit.ledger.cursor == 9
    assert kit.ledger.skip_to(5) == 0
    assert kit.ledger.take_news() == [0, 9]


def test_retention_takes_retries_and_leaves_the_others_their_pause() -> None:
    kit = Kit([10, 10])
    member = kit.join()
    one, two = held(kit.give(member)), held(kit.give(member))
    kit.fail(one, [0, 2])
    kit.fail(one, delay_s=0.0)
    kit.fail(two, delay_s=5.0)
    kit.ledger.skip_to(15)
    assert [(retry.first, retry.end) for retry in kit.ledger.retries.values()] == [(15, 20)]
    assert kit.ledger.timers == 1
    assert kit.give(member) is None
    kit.wait(5.1)
    assert held(kit.give(member)).bounds == (15, 20)


@pytest.mark.parametrize("verb", ["fail", "release"])
def test_what_retention_took_while_it_was_out_does_not_come_again(verb: str) -> None:
    kit = Kit([10], backoff_s=[0.0])
    member = kit.join()
    lease = held(kit.give(member))
    kit.ledger.skip_to(5)
    if verb == "fail":
        assert kit.fail(lease) == 0
    else:
        kit.ledger.release(lease, lease.bounds)
    again = held(kit.give(member))
    assert again.bounds == (5, 10)
    kit.ledger.skip_to(10)
    kit.ledger.release(again, again.bounds)
    assert kit.ledger.retries == {}
    assert kit.give(member) is None


def test_what_retention_took_is_not_buried() -> None:
    kit = Kit([10], max_deliveries=1)
    lease = held(kit.give(kit.join()))
    kit.ledger.skip_to(5)
    assert kit.fail(lease) == 5
    assert [(dead.first, dead.end) for dead in kit.ledger.take_dead()] == [(5, 10)]


def test_a_start_goes_on_from_what_the_journal_has() -> None:
    kit = Kit([10], cursors=[3])
    now_us = kit.now_us
    retries = [[4, 6, 2, now_us + 2_000_000, False, "no", 7], [8, 9, 1, now_us - 5, False, "", 8]]
    kit.ledger.load([6, 8], retries, kit.now, now_us)
    member = kit.join()
    assert (kit.ledger.cursor, kit.ledger.done.bounds) == (3, [6, 8])
    assert kit.ledger.take_news() == []
    assert [kit.give(member), kit.give(member), kit.give(member)] == [
        *kit.ledger.leases.values(),
        None,
    ]
    assert [(lease.bounds, lease.failures) for lease in kit.ledger.leases.values()] == [
        ((8, 9), 1),
        ((3, 4, 9, 10), 0),
    ]
    kit.wait(2.1)
    again = held(kit.give(member))
    assert (again.bounds, again.failures, again.since_us) == ((4, 6), 2, 7)


def test_a_snapshot_has_what_failed_and_is_not_done() -> None:
    kit = Kit([4, 4, 4])
    member = kit.join()
    one, two, _ = (held(kit.give(member)) for _ in range(3))
    kit.fail(one, [1, 3], suspect=True, delay_s=2.0)
    kit.fail(two, delay_s=0.0)
    kit.ledger.release(one, one.bounds)
    kit.give(member)
    again = held(kit.give(member))
    assert (again.bounds, again.failures) == ((4, 8), 1)
    kit.ledger.ack(again, [5, 7])
    since_us = EPOCH_US + 1_000_000_000
    assert kit.ledger.unfinished() == [
        [1, 3, 1, since_us + 2_000_000, True, "no", since_us],
        [4, 5, 1, 0, False, "", since_us],
        [7, 8, 1, 0, False, "", since_us],
    ]


def test_a_snapshot_remembers_that_what_is_out_alone_is_a_suspect() -> None:
    kit = Kit([4])
    member = kit.join()
    kit.fail(held(kit.give(member)), suspect=True, delay_s=0.0)
    assert held(kit.give(member, alone=True)).bounds == (0, 1)
    assert [(first, end, suspect) for first, end, _, _, suspect, *_ in kit.ledger.unfinished()] == [
        (1, 4, True),
        (0, 1, True),
    ]


def test_nothing_new_goes_out_where_too_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.groups.ledger.DONE_RANGES_MAX", 2)
    kit = Kit([6, 6])
    member = kit.join()
    lease = held(kit.give(member))
    kit.ledger.ack(lease, [1, 2, 3, 4])
    assert kit.give(member) is None
    kit.ledger.ack(lease, [0, 1])
    assert held(kit.give(member)).bounds == (6, 12)


def test_what_a_kind_of_ledger_must_add() -> None:
    kit = Kit([1])
    ledger = Ledger(0, GroupSettings, 0, 0.0)
    lease = held(kit.give(kit.join()))
    with pytest.raises(NotImplementedError):
        ledger.next_read(1, alone=False)
    with pytest.raises(NotImplementedError):
        ledger.choose(0, 1, None, 1, alone=False)
    with pytest.raises(NotImplementedError):
        _ = ledger.has_suspects
    lease.ledger, ledger.leases = ledger, {lease.token: lease}
    with pytest.raises(NotImplementedError):
        ledger.release(lease, lease.bounds)


def test_retries_sort_by_their_offsets() -> None:
    kit = Kit([4, 4])
    member = kit.join()
    for lease in (held(kit.give(member)), held(kit.give(member))):
        kit.fail(lease)
    one, two = kit.ledger.retries.values()
    assert one < two
    assert attrs.evolve(one, first=9) > two


def test_pauses_are_of_the_generator_that_is_passed() -> None:
    due = []
    for _ in range(2):
        kit = Kit([1])
        kit.rng = random.Random(5)
        kit.fail(held(kit.give(kit.join())))
        due.append(kit.ledger.take_retry_news()[0][3])
    assert due[0] == due[1]
