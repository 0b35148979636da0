"""Hostile consumers: each is bounded and answered clearly, and an honest member is served.

Every test ends with an honest member that is given all that the hostile one has not done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from streamer import cbor
from streamer.limits import KIB, MIB
from streamer.testing.memory_files import MemoryFiles
from streamer.wire import frames
from streamer.wire.frames import Verb
from tests.session.members import (
    ACK_WAIT_S,
    DELIVERIES_MAX,
    PATIENCE_S,
    Member,
    all_is_served,
    member,
    produce,
)
from tests.site import UNIX, WS, Site, open_site, until_broken

Clock = trio.testing.MockClock
both = pytest.mark.parametrize("url", [UNIX, WS])

#: More than any delay that makes sense, in microseconds.
ABSURD_US = 1000 * 366 * 86_400_000_000


# ------------------------------------------------------------------------------------- who is idle


@both
async def test_one_that_never_acks(autojump_clock: Clock, site: Site, url: str) -> None:
    values = await produce(site, 100)
    async with member(site, url, max_in_flight=7) as hostile:
        await hostile.leased(7)
        await trio.testing.wait_all_tasks_blocked()
        group = await (await site.peer()).admin("group", stream="s", group="g")
        assert group["in_flight"] == 7
        await all_is_served(site, values, deadly=7 * DELIVERIES_MAX)


async def test_one_that_never_reads(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 200, 50 * KIB)
    async with member(site, max_in_flight_bytes=1 << 28):
        await trio.testing.wait_all_tasks_blocked()
        group = await (await site.peer()).admin("group", stream="s", group="g")
        # What its session takes before it is read from, and not all that it asked for.
        assert 0 < group["member_list"][0]["in_flight_bytes"] <= 6 * MIB
        await all_is_served(site, values, deadly=len(values))


async def test_one_with_a_handler_of_ten_minutes(autojump_clock: Clock, site: Site) -> None:
    """Slow is not dead: it keeps what it holds, and nobody waits for it."""
    values = await produce(site, 20)
    async with (
        site.client() as client,
        client.consumer("s", group="g", ack_wait_s=2.0, max_in_flight=10) as slow,
    ):
        delivery = await anext(slow)
        async with delivery, trio.open_nursery() as nursery:
            nursery.start_soon(served, site, [v for v in values if v not in delivery.values])
            await trio.sleep(600)
        await slow.flush()
        assert (slow.statistics().acked, slow.statistics().late) == (len(delivery), 0)
    group = await (await site.peer()).admin("group", stream="s", group="g")
    assert (group["lag"], group["redelivered"]) == (0, 0)


async def served(site: Site, values: Sequence[bytes]) -> None:
    """A member is given all of these, within seconds."""
    left = set(values)
    async with site.client() as client, client.consumer("s", group="g") as consumer:
        with trio.fail_after(PATIENCE_S):
            async for message in consumer.messages():
                async with message:
                    left.remove(message.value)
                if not left:
                    return


async def test_one_that_extends_for_ever(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    async with member(site, lease_max_s=10.0, max_in_flight=10) as hostile:
        [lease] = await hostile.leased(10)
        began = trio.current_time()
        failed: dict[int, str] = {}
        while not failed:
            await trio.sleep(1.0)
            failed = await hostile.settle([Verb.EXTEND, lease.token])
        assert failed == {0: "lease_lost"}
        assert 10.0 <= trio.current_time() - began <= 12.0
        hostile.peer.stream.reset()
        await all_is_served(site, values, deadly=10)


async def test_one_that_comes_and_goes(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    hostile = Member(await site.peer())
    for _ in range(300):
        assert not isinstance(await hostile.join(), frames.Failed)
        await hostile.peer.send(frames.Unsubscribe(1))
    await trio.testing.wait_all_tasks_blocked()
    group = await (await site.peer()).admin("group", stream="s", group="g")
    assert (group["members"], group["in_flight"]) == (0, 0)
    # Giving back does not count.
    await all_is_served(site, values)


# ------------------------------------------------------------------------- what they do not hold


async def test_an_ack_of_what_it_does_not_hold(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 20)
    async with member(site, max_in_flight=10) as other, member(site, max_in_flight=10) as hostile:
        [theirs], [own] = await other.leased(10), await hostile.leased(10)
        verbs = [Verb.ACK, Verb.NACK, Verb.TERM, Verb.RELEASE, Verb.EXTEND]
        wrong = [[verb, token] for verb in verbs for token in (theirs.token, 10**15, 0)]
        failed = await hostile.settle(*wrong, [Verb.ACK, own.token])
        assert failed == dict.fromkeys(range(len(wrong)), "lease_lost"), "the last one counts"
        assert await hostile.settle([Verb.ACK, own.token]) == {0: "lease_lost"}
        assert await other.settle([Verb.RELEASE, theirs.token]) == {}
        group = await (await site.peer()).admin("group", stream="s", group="g")
        assert (group["acked"], group["dead"], group["retrying"]) == (10, 0, 0)
    await all_is_served(site, values[10:] if own.ranges[0] == 0 else values[:10])


async def test_an_ack_with_an_old_token(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    async with member(site, max_in_flight=10) as hostile:
        [lease] = await hostile.leased(10)
        await trio.sleep(2 * ACK_WAIT_S)
        assert await hostile.settle([Verb.ACK, lease.token]) == {0: "lease_lost"}
        assert {each.attempt for each in hostile.leases[1:]} <= {2}
        assert all(each.token > lease.token for each in hostile.leases[1:])
    await all_is_served(site, values)


async def test_a_token_from_before_a_restart(autojump_clock: Clock) -> None:
    files = MemoryFiles()
    async with open_site(files=files) as site:
        values = await produce(site, 10)
        hostile = Member(await site.peer())
        await hostile.join()
        [before] = await hostile.leased(10)
    async with open_site(files=files) as site:
        async with member(site) as hostile:
            # It has not given them back, so they failed, and come one by one.
            [lease] = await hostile.leased(1)
            assert lease.attempt == 2
            assert lease.token > before.token
            assert await hostile.settle([Verb.ACK, before.token]) == {0: "lease_lost"}
        await all_is_served(site, values)


@pytest.mark.parametrize("ranges", [[0, 11], [10, 20], [5, 6, 9, 11], [2**62, 2**62 + 5]])
async def test_a_settle_outside_the_lease(
    autojump_clock: Clock, site: Site, ranges: list[int]
) -> None:
    values = await produce(site, 20)
    async with member(site, max_in_flight=10) as hostile:
        [lease] = await hostile.leased(10)
        assert lease.ranges == [0, 10]
        for verb in (Verb.ACK, Verb.NACK, Verb.TERM, Verb.RELEASE):
            failed = await hostile.settle([verb, lease.token, ranges])
            assert failed[0] in ("bad_request", "lease_lost")
        # Nothing of it counted.
        assert await hostile.settle([Verb.RELEASE, lease.token, [0, 10]]) == {}
    await all_is_served(site, values)


# ----------------------------------------------------------------------------- what makes no sense


@pytest.mark.parametrize("delay_us", [366 * 86_400_000_000 + 1, ABSURD_US, 2**63 - 1])
async def test_a_nack_with_an_absurd_delay(
    autojump_clock: Clock, site: Site, delay_us: int
) -> None:
    values = await produce(site, 10)
    async with member(site) as hostile:
        [lease] = await hostile.leased(10)
        failed = await hostile.settle([Verb.NACK, lease.token, [], delay_us])
        assert failed == {0: "bad_request"}
        # It still holds it.
        assert await hostile.settle([Verb.NACK, lease.token, [], 500_000]) == {}
    await all_is_served(site, values)


@pytest.mark.parametrize("verb", [5, 99, 2**40])
async def test_an_unknown_verb(autojump_clock: Clock, site: Site, verb: int) -> None:
    values = await produce(site, 10)
    async with member(site) as hostile:
        [lease] = await hostile.leased(10)
        failed = await hostile.settle([verb, lease.token], [Verb.RELEASE, lease.token])
        assert failed == {0: "bad_request"}
    await all_is_served(site, values)


async def test_an_unknown_level(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    async with member(site) as hostile:
        [lease] = await hostile.leased(10)
        answer = await hostile.settle([Verb.ACK, lease.token], level=7)
        assert isinstance(answer, frames.Failed)
        assert (answer.code, answer.fatal) == ("bad_request", False)
        assert await hostile.settle([Verb.RELEASE, lease.token]) == {}
    await all_is_served(site, values)


async def test_an_unknown_subscription(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    async with member(site) as hostile:
        [lease] = await hostile.leased(10)
        answer = await hostile.settle([Verb.ACK, lease.token], subscription=77)
        assert isinstance(answer, frames.Failed)
        assert (answer.code, answer.fatal) == ("bad_request", False)
        await hostile.peer.send(frames.Unsubscribe(77))
        assert await hostile.settle([Verb.RELEASE, lease.token]) == {}
    await all_is_served(site, values)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "exclusive"},
        {"mode": 1},
        {"order": "random"},
        {"mode": "ordered", "order": "key"},
        {"ack_wait_s": 0.0},
        {"ack_wait_s": -1},
        {"ack_wait_s": 1e300},
        {"ack_wait_s": "2"},
        {"lease_max_s": 0},
        {"max_deliveries": -1},
        {"max_deliveries": 2**62},
        {"max_deliveries": True},
        {"backoff_s": []},
        {"backoff_s": [1.0] * 1000},
        {"backoff_s": ["1"]},
        {"backoff_s": 1},
        {"start": "middle"},
        {"max_in_flight": 0},
        {"max_in_flight": -1},
        {"max_in_flight": "many"},
        {"max_in_flight_bytes": 0},
        {"max_in_flight_bytes": 1.5},
        {"batch_records": -1},
        {"name": 7},
        {"name": "x" * 10_000},
        {"colour": "blue"},
    ],
    ids=lambda options: repr(options)[:40],
)
async def test_a_join_with_bad_options(
    autojump_clock: Clock, site: Site, options: dict[str, Any]
) -> None:
    values = await produce(site, 10)
    hostile = Member(await site.peer())
    answer = await hostile.join(**options)
    assert isinstance(answer, frames.Failed), answer
    assert (answer.code, answer.fatal) == ("bad_request", False)
    assert next(reversed(options)).split("_")[0] in answer.message
    assert len(answer.message) < 500
    # It has left nothing behind: the name and the subscription are free.
    assert not isinstance(await hostile.join(), frames.Failed)
    hostile.peer.stream.reset()
    await all_is_served(site, values)


@pytest.mark.parametrize("group", ["", "x" * 10_000, "a\nb", "\x00"])
async def test_a_bad_name_of_a_group(autojump_clock: Clock, site: Site, group: str) -> None:
    values = await produce(site, 10)
    hostile = Member(await site.peer(), group)
    answer = await hostile.join()
    assert isinstance(answer, frames.Failed)
    assert (answer.code, answer.fatal) == ("bad_request", False)
    assert not isinstance(await Member(hostile.peer).join(), frames.Failed)
    hostile.peer.stream.reset()
    await all_is_served(site, values)


@pytest.mark.parametrize("stream", ["../etc", "__groups", ""])
async def test_a_join_of_no_stream_for_groups(
    autojump_clock: Clock, site: Site, stream: str
) -> None:
    values = await produce(site, 10)
    hostile = Member(await site.peer())
    answer = await hostile.join(stream)
    assert isinstance(answer, frames.Failed)
    assert answer.code in ("unknown_stream", "bad_request", "not_allowed")
    assert not answer.fatal
    assert not isinstance(await hostile.join(), frames.Failed)
    hostile.peer.stream.reset()
    await all_is_served(site, values)


async def test_a_join_that_disagrees(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    async with member(site, max_in_flight=1):
        hostile = Member(await site.peer())
        answer = await hostile.join(mode="ordered")
        assert isinstance(answer, frames.Failed)
        assert answer.code == "group_conflict"
        assert "mode is 'shared'" in answer.message
        await hostile.peer.stream.aclose()
    await all_is_served(site, values)


async def test_a_subscription_that_is_taken(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    async with member(site) as hostile:
        [lease] = await hostile.leased(10)
        answer = await Member(hostile.peer, "other").join()
        assert isinstance(answer, frames.Failed)
        assert answer.code == "bad_request"
        assert await hostile.settle([Verb.RELEASE, lease.token]) == {}
    await all_is_served(site, values)


async def test_more_subscriptions_than_allowed(autojump_clock: Clock, site: Site) -> None:
    values = await produce(site, 10)
    peer = await site.peer()
    answers = [
        await Member(peer, f"g{number}", number).join(max_in_flight=1) for number in range(1, 103)
    ]
    assert {type(answer) for answer in answers[:100]} == {dict}
    assert [answer.code for answer in answers[100:]] == ["not_allowed"] * 2
    peer.stream.reset()
    await all_is_served_in(site, values)


async def all_is_served_in(site: Site, values: Sequence[bytes]) -> None:
    """As `all_is_served`, where the honest member's group is new."""
    async with site.client() as client, client.consumer("s", group="g") as consumer:
        seen: set[bytes] = set()
        with trio.fail_after(PATIENCE_S):
            async for message in consumer.messages():
                async with message:
                    seen.add(message.value)
                if seen == set(values):
                    return


@pytest.mark.parametrize(
    "items",
    [
        [],
        [[0, 1, [], None, ""]] * 4097,
        [[0, 1, [5, 5], None, ""]],
        [[0, 1, [5, 4], None, ""]],
        [[0, 1, [5], None, ""]],
        [[0, 1, [3, 4, 1, 2], None, ""]],
        [[0, -1, [], None, ""]],
        [[0, 1, [], -5, ""]],
        [[0, 1, [], None]],
        ["ack"],
    ],
)  # fmt: skip
async def test_a_settle_that_is_no_settle(
    autojump_clock: Clock, site: Site, items: list[Any]
) -> None:
    values = await produce(site, 10)
    hostile = Member(await site.peer())
    await hostile.join(max_in_flight=1)
    await hostile.leased(1)
    await hostile.peer.transport.send(cbor.dumps([frames.Settle.TYPE, 9, 1, 1, items]))
    last = await hostile.peer.fatal()
    assert last.code == "protocol"
    await all_is_served(site, values)


async def test_settles_without_end(autojump_clock: Clock, site: Site) -> None:
    """Whoever asks without reading the answers is bounded as with any other request."""
    values = await produce(site, 10)
    async with member(site) as hostile:
        await hostile.leased(10)
        row = [0, 10**9, [], None, "x" * 100]

        async def settle() -> None:
            number = next(hostile.peer.numbers)
            await hostile.peer.send(frames.Settle(number, 1, 1, [row] * 20))

        with trio.fail_after(300):
            await until_broken(settle)
        assert site.budget.under_way <= 64 << 20
    await all_is_served(site, values, deadly=10)
