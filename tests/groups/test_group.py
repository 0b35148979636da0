"""A group: who may get what, what a settle counts for, and partitions that move."""

from __future__ import annotations

import pytest

from streamer.errors import BadRequest, LeaseLost
from streamer.groups.group import DELAY_US_MAX, Counts, Group, Member
from streamer.groups.keyed import KeyedLedger
from streamer.groups.ledger import Lease
from streamer.groups.ordered import OrderedLedger
from streamer.groups.shared import SharedLedger
from tests.groups.group_kit import Kit
from tests.groups.test_ledger import held


def candidates(kit: Kit, partition: int = 0) -> list[Member]:
    return kit.group.candidates(kit.group.ledgers[partition], lambda member: True)


def owners(group: Group) -> list[int | None]:
    found = []
    for ledger in group.ledgers:
        assert isinstance(ledger, OrderedLedger)
        found.append(None if ledger.owner is None else ledger.owner.number)
    return found


def nack(kit: Kit, lease: Lease, bounds: list[int] | None = None, delay_us: int | None = 0) -> None:
    kit.group.nack(lease.member, lease.token, bounds or [], delay_us, "no", kit.now, kit.now_us)


def leave(kit: Kit, member: Member, lost: str = "") -> int:
    return kit.group.leave(member, kit.now, kit.now_us, lost=lost)


# ------------------------------------------------------------------------------- members and room


def test_the_kind_of_group_decides_the_kind_of_ledgers() -> None:
    assert isinstance(Kit().ledger, SharedLedger)
    assert isinstance(Kit(order="key").ledger, KeyedLedger)
    assert isinstance(Kit(mode="ordered").ledger, OrderedLedger)
    assert not Kit().group.ordered


def test_a_member_has_room_by_records_and_bytes() -> None:
    kit = Kit([50, 60, 70])
    member = kit.join(records_max=100, bytes_max=200)
    assert member.room == 100
    kit.give(member)
    assert (member.room, member.in_flight, member.in_flight_bytes) == (50, 50, 100)
    lease = held(kit.give(member, 10))
    assert member.room == 0, "no bytes left"
    kit.group.ack(member, lease.token, [])
    assert member.room == 50


def test_a_member_may_bound_its_deliveries() -> None:
    kit = Kit([50])
    member = kit.join(records_max=12, most=10)
    assert member.room == 10
    kit.give(member, 10)
    assert member.room == 2


def test_the_least_loaded_member_comes_first_and_who_cannot_take_more_not_at_all() -> None:
    kit = Kit([10, 10])
    big, small, full = kit.join(100), kit.join(10), kit.join(1)
    kit.give(full, 1)
    kit.give(big, 5)
    assert candidates(kit) == [small, big]
    kit.give(small, 4)
    assert candidates(kit) == [big, small]
    assert kit.group.candidates(kit.ledger, lambda member: member is small) == [small]


def test_of_an_ordered_group_only_the_owner_is_a_candidate() -> None:
    kit = Kit([1], [1], mode="ordered")
    assert candidates(kit) == []
    one, two = kit.join(), kit.join()
    assert candidates(kit, 0) == [one]
    assert candidates(kit, 1) == [two]


# --------------------------------------------------------------------------------------- suspects


def test_a_suspect_is_for_an_idle_member() -> None:
    kit = Kit([1, 10])
    busy, idle = kit.join(), kit.join()
    kit.fail(held(kit.give(busy)), suspect=True, delay_s=0.0)
    kit.give(busy)
    assert kit.group.for_suspect(kit.ledger, lambda _: True) is idle
    kit.give(idle, alone=True)
    assert candidates(kit) == [busy]
    assert idle.room == 0


def test_without_an_idle_member_the_least_busy_is_reserved_until_it_is() -> None:
    kit = Kit([1, 10, 10])
    one, two = kit.join(), kit.join()
    kit.fail(held(kit.give(one)), suspect=True, delay_s=0.0)
    kit.give(one, 10)
    lease = held(kit.give(two, 3))
    assert kit.group.for_suspect(kit.ledger, lambda _: True) is None
    assert (one.reserved, two.reserved) == (False, True)
    assert candidates(kit) == [one]
    kit.group.ack(two, lease.token, [lease.bounds[0], lease.bounds[0] + 1])
    assert kit.group.for_suspect(kit.ledger, lambda _: True) is None
    kit.group.ack(two, lease.token, [])
    assert kit.group.for_suspect(kit.ledger, lambda _: True) is two
    suspect = held(kit.give(two, alone=True))
    assert (two.reserved, two.alone) == (False, True)
    assert kit.group.for_suspect(kit.ledger, lambda _: True) is None
    assert one.reserved, "the next one, were there any"
    kit.group.unreserve()
    assert not one.reserved
    kit.group.ack(two, suspect.token, [])
    assert not two.alone


def test_nobody_is_reserved_while_all_have_a_suspect() -> None:
    kit = Kit([2])
    member = kit.join()
    kit.fail(held(kit.give(member)), suspect=True, delay_s=0.0)
    kit.give(member, alone=True)
    assert kit.group.for_suspect(kit.ledger, lambda _: True) is None
    assert not member.reserved


def test_a_suspect_of_an_ordered_group_is_for_the_owner() -> None:
    kit = Kit([1], [1], mode="ordered")
    _, two = kit.join(), kit.join()
    kit.fail(held(kit.give(two, partition=1)), suspect=True, delay_s=0.0)
    assert kit.group.for_suspect(kit.group.ledgers[1], lambda _: True) is two


def test_a_lost_session_makes_suspects_of_all_that_it_held() -> None:
    kit = Kit([3, 3])
    member = kit.join()
    kit.give(member)
    lease = held(kit.give(member))
    kit.group.ack(member, lease.token, [3, 4])
    leave(kit, member, "connection lost")
    assert kit.group.members == {}
    assert kit.group.counts.failed == 5
    plain = [retry.to_plain()[:6] for retry in kit.ledger.retries.values()]
    assert [(each[0], each[1], each[2], *each[4:]) for each in plain] == [
        (0, 3, 1, True, "connection lost"),
        (4, 6, 1, True, "connection lost"),
    ]


def test_a_record_that_kills_its_members_dies_and_takes_no_other_along() -> None:
    kit = Kit([8], max_deliveries=3, backoff_s=[0.0])
    killed, dead = 0, 0
    for _ in range(100):
        member = kit.join()
        while kit.ledger.cursor != 8:
            lease = kit.give(member, alone=True) or held(kit.give(member))
            if 5 in range(lease.bounds[0], lease.bounds[1]):
                killed += 1
                dead += leave(kit, member, "lost")
                break
            kit.group.ack(member, lease.token, [])
    assert (killed, dead, kit.ledger.cursor) == (3, 1, 8)
    assert [letter.first for letter in kit.ledger.take_dead()] == [5]


# --------------------------------------------------------------------------------------- settling


def test_settles_are_counted() -> None:
    kit = Kit([10], max_deliveries=2)
    member = kit.join()
    lease = held(kit.give(member))
    kit.group.ack(member, lease.token, [0, 2])
    kit.group.term(member, lease.token, [2, 3], "bad")
    kit.group.release(member, lease.token, [3, 5])
    nack(kit, lease, [5, 6])
    nack(kit, held(kit.give(member)), [3, 4])
    nack(kit, held(kit.give(member)))
    assert kit.group.counts == Counts(acked=2, dead=3, released=2, failed=4)
    kit.wait(31)
    assert kit.group.counts.expired == 5


@pytest.mark.parametrize("verb", ["ack", "nack", "term", "release", "extend"])
def test_what_is_not_held_is_not_settled(verb: str) -> None:
    kit = Kit([10], [10])
    member, other = kit.join(), kit.join()
    lease, done = held(kit.give(member)), held(kit.give(member, partition=1))
    kit.group.ack(member, done.token, [])

    def settle(who: Member, token: int) -> None:
        if verb == "nack":
            kit.group.nack(who, token, [], None, "", kit.now, kit.now_us)
        elif verb == "extend":
            kit.group.extend(who, token, kit.now)
        else:
            getattr(kit.group, verb)(who, token, [], *["bad"] * (verb == "term"))

    for who, token in [(other, lease.token), (member, done.token), (member, 99)]:
        with pytest.raises(LeaseLost, match=f"delivery {token} is not held"):
            settle(who, token)
    assert kit.group.counts.late == 3
    assert (lease.bounds, kit.ledger.retries) == ((0, 10), {})


def test_records_that_a_lease_does_not_hold_are_not_settled_with_it() -> None:
    kit = Kit([10])
    member = kit.join()
    lease = held(kit.give(member))
    kit.group.ack(member, lease.token, [2, 4])
    with pytest.raises(LeaseLost, match="holds 8 records, 1 of those that were named"):
        kit.group.ack(member, lease.token, [0, 1, 3, 5])
    assert lease.bounds == (0, 2, 4, 10)


@pytest.mark.parametrize("delay_us", [-1, DELAY_US_MAX + 1])
def test_absurd_delays_are_refused(delay_us: int) -> None:
    kit = Kit([10])
    lease = held(kit.give(kit.join()))
    with pytest.raises(BadRequest, match="allowed are 0 to 366 days"):
        nack(kit, lease, delay_us=delay_us)
    assert lease.bounds == (0, 10)


def test_an_extended_lease_does_not_run_out() -> None:
    kit = Kit([10])
    lease = held(kit.give(member := kit.join()))
    kit.wait(29)
    kit.group.extend(member, lease.token, kit.now)
    assert kit.wait(29) == 0
    assert kit.wait(2) == 1
    assert kit.ledger.lost == [lease]
    assert [retry.error for retry in kit.ledger.retries.values()] == ["no ack within 30 s"]


def test_who_leaves_in_order_gives_back_what_it_holds() -> None:
    kit = Kit([4])
    member = kit.join()
    kit.give(member)
    assert leave(kit, member) == 0
    assert (kit.group.counts.released, kit.group.counts.failed) == (4, 0)
    assert held(kit.give(kit.join())).failures == 0


def test_settings_that_change_hold_for_what_comes() -> None:
    kit = Kit([1, 1])
    member = kit.join()
    kit.give(member)
    kit.group.settings = kit.group.settings.edited({"ack_wait_s": 5, "max_deliveries": 1})
    lease = held(kit.give(member))
    assert kit.wait(5.2) == 1
    assert lease.bounds == ()
    assert kit.group.counts.dead == 1


# ----------------------------------------------------------------------------- partitions that move


def test_partitions_with_nothing_out_move_at_once() -> None:
    kit = Kit([1], [1], mode="ordered")
    kit.join()
    assert owners(kit.group) == [1, 1]
    kit.join()
    assert owners(kit.group) == [1, 2]
    assert kit.group.moves == []


def test_a_partition_moves_when_its_owner_has_settled_what_is_out() -> None:
    kit = Kit([2, 2], [2, 2], mode="ordered")
    one = kit.join()
    leases = [held(kit.give(one, partition=partition)) for partition in (0, 1)]
    two = kit.join()
    assert kit.group.moves == [(one, 1)]
    kit.group.assign()
    assert owners(kit.group) == [1, 1]
    assert kit.give(one, partition=1) is None
    kit.group.ack(one, leases[1].token, [0, 1])
    assert owners(kit.group) == [1, 1]
    kit.group.release(one, leases[1].token, [])
    assert owners(kit.group) == [1, 2]
    assert held(kit.give(two, partition=1)).bounds == (1, 2)
    assert kit.group.moves == [(one, 1)], "asked once"


def test_a_partition_moves_when_the_leases_of_its_owner_run_out() -> None:
    kit = Kit([2], [2], mode="ordered")
    one = kit.join()
    for partition in (0, 1):
        kit.give(one, partition=partition)
    kit.join()
    kit.wait(31)
    assert owners(kit.group) == [1, 2]


def test_a_partition_stays_if_who_was_to_have_it_leaves() -> None:
    kit = Kit([2], [2, 2], mode="ordered")
    one = kit.join()
    kit.give(one, partition=1)
    two = kit.join()
    leave(kit, two)
    assert owners(kit.group) == [1, 1]
    assert not any(
        ledger.moving for ledger in kit.group.ledgers if isinstance(ledger, OrderedLedger)
    )
    assert held(kit.give(one, partition=1)).bounds == (2, 4)


def test_who_leaves_is_told_nothing_and_its_partitions_go_to_others() -> None:
    kit = Kit([2, 2], [2, 2], mode="ordered")
    one = kit.join()
    for partition in (0, 0, 1, 1):
        kit.give(one, partition=partition)
    kit.join()
    assert kit.group.moves == [(one, 1)]
    leave(kit, one, "connection lost")
    assert kit.group.moves == []
    assert [ledger.lost for ledger in kit.group.ledgers] == [[], []]
    assert owners(kit.group) == [2, 2]
    assert kit.group.counts.failed == 4, "what was behind is only taken back"


def test_a_partition_without_members_has_no_owner() -> None:
    kit = Kit([2], mode="ordered")
    member = kit.join()
    kit.give(member)
    leave(kit, member)
    assert owners(kit.group) == [None]
    assert not kit.ledger.has_suspects


def test_a_group_can_go_on_elsewhere() -> None:
    kit = Kit([2, 2], [2], mode="ordered")
    one, two = kit.join(), kit.join()
    lease = held(kit.give(one))
    kit.ledger.recall()
    kit.group.replace(kit.group.new_ledger(0, 2, kit.now))
    assert owners(kit.group) == [one.number, two.number]
    assert kit.ledger.lost == [lease], "it is still to be told"
    assert held(kit.give(one)).bounds == (2, 4)
    shared = Kit([2, 2])
    shared.group.replace(shared.group.new_ledger(0, 2, shared.now))
    assert held(shared.give(shared.join())).bounds == (2, 4)
