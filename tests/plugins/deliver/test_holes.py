"""What of a group is not done while later records are."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from streamer.wire.frames import Verb
from streamer_plugins.deliver import holes as module
from streamer_plugins.deliver.holes import holes
from tests.groups.group_kit import Kit
from tests.groups.test_ledger import held
from tests.plugins.deliver.kit import admin, member, opened, produce

Clock = trio.testing.MockClock


def ranges(found: dict[str, Any]) -> list[tuple[int, int, int | None, int | None]]:
    return [(hole["first"], hole["next"], hole["out"], hole["retrying"]) for hole in found["holes"]]


def test_a_hole_says_what_becomes_of_it() -> None:
    kit = Kit([20])
    lease = held(kit.give(kit.join()))
    kit.ledger.ack(lease, [0, 2, 5, 8, 12, 14])
    kit.fail(lease, [3, 4], delay_s=100.0)
    kit.ledger.release(lease, [8, 10])
    found = holes(kit.ledger, 20, 0)
    assert ranges(found) == [(2, 5, 2, 1), (8, 12, 2, 2)]
    del found["holes"]
    # What is behind it all is no hole: it is next.
    assert found == {"cursor": 2, "high_water": 20, "done_to": 14, "next": None}
    assert holes(Kit([3]).ledger, 3, 0)["holes"] == []


def test_holes_are_told_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLES_MAX", 2)
    kit = Kit([20])
    lease = held(kit.give(kit.join()))
    for offset in range(1, 11, 2):
        kit.ledger.ack(lease, [offset, offset + 1])
    found, seen = holes(kit.ledger, 20, 0), []
    while found["next"] is not None:
        seen += ranges(found)
        found = holes(kit.ledger, 20, found["next"])
    seen += ranges(found)
    assert [first for first, *_ in seen] == [0, 2, 4, 6, 8]
    # From within a hole it is told whole, from within what is done the next one.
    assert ranges(holes(kit.ledger, 20, 4))[0][:2] == (4, 5)
    assert ranges(holes(kit.ledger, 20, 5))[0][:2] == (6, 7)
    for offset in (9, 10, 20):
        assert ranges(holes(kit.ledger, 20, offset)) == []


def test_too_many_leases_and_retries_are_not_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOOKED_MAX", 0)
    kit = Kit([20])
    lease = held(kit.give(kit.join()))
    kit.ledger.ack(lease, [5, 6])
    assert ranges(holes(kit.ledger, 20, 0)) == [(0, 5, None, 0)]
    kit.fail(lease, [3, 4], delay_s=100.0)
    assert ranges(holes(kit.ledger, 20, 0)) == [(0, 5, None, None)]


async def test_the_verb(autojump_clock: Clock) -> None:
    async with opened() as site:
        await produce(site, 6)
        one = await member(site)
        lease = await one.one(6)
        assert await one.settle([Verb.ACK, lease.token, [2, 4]]) == {}
        args = {"stream": "s", "group": "g", "partition": 0}
        found = await admin(site, "group_holes", **args)
        assert found == {
            "cursor": 0,
            "high_water": 6,
            "done_to": 4,
            "next": None,
            "holes": [{"first": 0, "next": 2, "out": 2, "retrying": 0}],
        }
        for wrong, code in (
            ({"group": "x"}, "unknown_group"),
            ({"stream": "x"}, "unknown_stream"),
            ({"partition": 1}, "unknown_partition"),
        ):
            failed = await admin(site, "group_holes", **{**args, **wrong})
            assert failed.code == code
