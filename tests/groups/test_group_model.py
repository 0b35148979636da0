"""Groups of every kind against a plain account of each record, whatever hypothesis does to them."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.groups.ledger import Lease
from streamer.groups.ranges import size
from streamer.groups.settings import GroupSettings
from tests.groups.group_checks import check
from tests.groups.group_model import World

VERBS = ["ack", "nack", "term", "release", "extend"]

numbers = st.integers(0, 7)
masks = st.sampled_from([0, 0, 1, 2, 6, 0xFFFE]) | st.integers(0, 2**16 - 1)
keys = st.sampled_from([None, b"a", b"b", b"c"])
delays = st.none() | st.sampled_from([0, 50_000, 400_000, 3_000_000])
steps = st.one_of(
    st.tuples(st.just("append"), numbers, st.lists(keys, min_size=1, max_size=6)),
    st.tuples(st.just("append"), numbers, st.lists(keys, min_size=1, max_size=6)),
    st.tuples(st.just("join"), st.sampled_from([1, 3, 100]), st.sampled_from([0, 0, 1, 2])),
    st.tuples(st.just("leave"), numbers, st.sampled_from(["", "lost"])),
    st.tuples(st.just("hand out"), st.sampled_from([1, 2, 1000])),
    st.tuples(st.just("hand out"), st.sampled_from([1, 2, 1000])),
    st.tuples(st.just("hand out of"), numbers, numbers),
    st.tuples(st.just("settle"), st.sampled_from(VERBS), numbers, masks, delays),
    st.tuples(st.just("settle"), st.sampled_from(["ack", "nack"]), numbers, masks, delays),
    st.tuples(st.just("wrong"), st.sampled_from(VERBS), numbers, numbers),
    st.tuples(st.just("time"), st.sampled_from([0.03, 0.1, 0.7, 1.7, 5.0, 120.0])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("snapshot")),
    st.tuples(st.just("retain"), numbers, st.integers(0, 40)),
    st.tuples(st.just("seek"), numbers, st.integers(0, 40)),
    st.tuples(st.just("pause"), st.booleans()),
)


def lease_at(world: World, index: int) -> Lease | None:
    """Some lease, chosen by a number."""
    if not world.out:
        return None
    token = list(world.out)[index % len(world.out)]
    return world.group.ledgers[world.out[token].partition].leases[token]


def picked_of(lease: Lease, mask: int) -> list[int]:
    """Some of its records, by index, chosen by the bits of a number; none for all."""
    return [at for at in range(size(lease.bounds)) if mask >> at % 16 & 1]


def take(world: World, step: tuple[Any, ...]) -> None:
    kind, *arguments = step
    group, partitions = world.group, len(world.rows)
    if kind == "append":
        world.append(arguments[0] % partitions, arguments[1])
    elif kind == "join":
        world.join(*arguments)
    elif kind == "leave" and group.members:
        member = list(group.members.values())[arguments[0] % len(group.members)]
        world.leave(member, lost=arguments[1])
    elif kind == "hand out":
        world.hand_out(arguments[0])
    elif kind == "hand out of":
        world.hand_out_of_batch(group.ledgers[arguments[0] % partitions], arguments[1])
    elif kind == "settle":
        verb, index, mask, delay_us = arguments
        lease = lease_at(world, index)
        if lease is not None:
            picked = [] if verb == "extend" else picked_of(lease, mask)
            world.settle(verb, lease, picked, delay_us)
    elif kind == "wrong" and group.members:
        wrong(world, *arguments)
    elif kind == "time":
        world.pass_time(arguments[0])
    elif kind == "restart":
        world.restart()
    elif kind == "flush":
        world.flush()
    elif kind == "snapshot":
        world.snapshot()
    elif kind in ("retain", "seek"):
        number = arguments[0] % partitions
        offset = min(arguments[1], len(world.rows[number]))
        world.retain(number, offset) if kind == "retain" else world.seek(number, offset)
    elif kind == "pause":
        group.paused = arguments[0]


def wrong(world: World, verb: str, member_index: int, index: int) -> None:
    """Settle what is another's, what was never handed out, and what the lease does not hold."""
    member = list(world.group.members.values())[member_index % len(world.group.members)]
    lease = lease_at(world, index)
    token = world.token - index
    if lease is None or token not in member.leases:
        world.settle_wrongly(verb, member, token, [])
    if lease is None:
        return
    if lease.member is not member:
        world.settle_wrongly(verb, member, lease.token, [])
    if verb != "extend":
        last = lease.bounds[-1]
        world.settle_wrongly(verb, lease.member, lease.token, [last - 1, last + 1])
    world.nack_absurdly(lease)


SHARED, KEYED, ORDERED = ("shared", "none"), ("shared", "key"), ("ordered", "none")
NO_KEYS = [None] * 4


def plan_of(kind: tuple[str, str], *plan: tuple[Any, ...]) -> Any:
    """One partition and one member, that has room for one record in the order of keys."""
    return example(
        kind=kind,
        plan=[("join", 1 if kind is KEYED else 100, 0), *plan],
        logs=[],
        members=0,
        seed=0,
        partitions=1,
        max_deliveries=5,
        waits=(30.0, 60.0),
        backoff_s=(1.0,),
    )


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from([SHARED, KEYED, ORDERED]),
    plan=st.integers(0, 60).flatmap(lambda size: st.lists(steps, min_size=size, max_size=size)),
    logs=st.lists(st.lists(keys, min_size=1, max_size=8), max_size=4),
    members=st.integers(0, 3),
    seed=st.integers(0, 2**16),
    partitions=st.integers(1, 3),
    max_deliveries=st.sampled_from([0, 1, 2, 5]),
    waits=st.sampled_from([(2.0, 4.0), (1.0, 0.5), (30.0, 60.0)]),
    backoff_s=st.sampled_from([(0.0,), (1.0,), (0.2, 1.0, 3.0)]),
)
# Retention takes a retry that its key waits for.
@plan_of(
    KEYED,
    ("append", 0, [b"a", b"a"]),
    ("hand out", 1000),
    ("settle", "nack", 0, 0, 3_000_000),
    ("retain", 0, 1),
)
# A part of a lease comes back: what is left of it was handed out a second time.
@plan_of(
    ORDERED,
    ("append", 0, NO_KEYS),
    ("hand out", 1000),
    ("settle", "nack", 0, 2, 0),
    ("hand out", 1000),
)
# The same, where the batch was read before.
@plan_of(
    ORDERED,
    ("append", 0, NO_KEYS),
    ("hand out", 1000),
    ("settle", "nack", 0, 2, 0),
    ("hand out of", 0, 0),
)
# What waits for its next attempt is not new after a start.
@plan_of(
    SHARED,
    ("append", 0, NO_KEYS),
    ("hand out", 1000),
    ("settle", "nack", 0, 2, 3_000_000),
    ("flush",),
    ("restart",),
    ("join", 100, 0),
    ("hand out", 1000),
)
# A failure was lost to the journal where the front of it went out again before it was taken.
@plan_of(
    SHARED,
    ("append", 0, NO_KEYS),
    ("hand out", 1000),
    ("settle", "nack", 0, 0, 0),
    ("join", 3, 0),
    ("leave", 0, ""),
    ("hand out", 1),
    ("flush",),
    ("restart",),
)
# The next suspect went out in the place of the first.
@plan_of(
    SHARED,
    ("append", 0, NO_KEYS),
    ("hand out", 1000),
    ("leave", 0, "lost"),
    ("join", 100, 0),
    ("time", 5.0),
    ("hand out", 1000),
)
# Retention took the suspect that a member was kept for.
@plan_of(
    SHARED,
    ("append", 0, [None]),
    ("hand out", 1000),
    ("leave", 0, "lost"),
    ("append", 0, NO_KEYS),
    ("join", 3, 0),
    ("hand out", 1000),
    ("time", 5.0),
    ("hand out", 1000),
    ("retain", 0, 1),
)
def test_a_group_is_what_its_account_says(
    kind: tuple[str, str],
    plan: list[tuple[Any, ...]],
    logs: list[list[bytes | None]],
    members: int,
    seed: int,
    partitions: int,
    max_deliveries: int,
    waits: tuple[float, float],
    backoff_s: tuple[float, ...],
) -> None:
    told = GroupSettings(
        mode=kind[0],
        order=kind[1],
        ack_wait_s=waits[0],
        lease_max_s=waits[1],
        max_deliveries=max_deliveries,
        backoff_s=backoff_s,
    )
    world = World(told, partitions, seed)
    for number, batch in enumerate(logs):
        world.append(number % partitions, batch)
    for _ in range(members):
        world.join(100, 0)
    if members:
        world.hand_out()
    for step in plan:
        take(world, step)
        check(world)
    world.finish()
