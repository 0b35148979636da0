"""The verb `gaps`: a piece at a time, and what it says of a log that is not whole."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

from streamer.errors import OffsetOutOfRange
from streamer.storage import survey
from streamer.testing.memory_files import MemoryFiles
from tests.site import NOW_US, Peer, Site, open_site, passing_us

Clock = trio.testing.MockClock
LOG = "/data/streams/s/0/00000000000000000000.log"


async def all_of(peer: Peer, **args: Any) -> dict[str, Any]:
    """The pieces of a partition as one answer."""
    found = await peer.admin("gaps", stream="s", **args)
    while found["next"] is not None:
        more = await peer.admin(
            "gaps", **{**args, "stream": "s", "offset": found["next"], "last_us": found["last_us"]}
        )
        for key in ("damage", "silences"):
            more[key] = found[key] + more[key]
        more["records"] += found["records"]
        found = more
    return found


async def test_a_whole_log(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a", b"b"])
    await peer.produce([b"c"])
    found = await peer.admin("gaps", stream="s")
    assert found.pop("bytes") > 0
    assert found == {
        "first_offset": 0,
        "high_water": 3,
        "dropped": 0,
        "state": "open",
        "next": None,
        "last_us": NOW_US,
        "batches": 2,
        "records": 3,
        "damage": [],
        "silences": [],
        "known": [],
    }
    at_the_end = await peer.admin("gaps", stream="s", offset=3, last_us=7)
    assert (at_the_end["next"], at_the_end["records"], at_the_end["last_us"]) == (None, 0, 7)
    beyond = await peer.admin("gaps", stream="s", offset=4)
    assert beyond.code == "offset_out_of_range"
    assert (await peer.admin("gaps", stream="s", partition=1)).code == "unknown_partition"


@pytest.mark.parametrize("check", [False, True])
async def test_damage_is_told_and_noted(autojump_clock: Clock, check: bool) -> None:
    files = MemoryFiles()
    async with open_site(files=files) as site:
        peer = await site.peer()
        for number in range(5):
            await peer.produce([bytes([number]) * 100])
        files.flip_bit(LOG, files.size(LOG) // 5 + (110 if check else 10))
        if check:
            assert (await all_of(peer))["damage"] == []
        found = await all_of(peer, check=check)
        [damage] = found["damage"]
        assert (damage["first"], damage["next"]) == (1, 2)
        assert "offsets 1 to 1 are not whole" in damage["reason"]
        assert (found["records"], found["state"]) == (4, "damaged")
        # It is known from now on, and nothing is written behind it.
        assert [(each["first"], each["next"]) for each in found["known"]] == [(1, 2)]
        assert (await peer.admin("stream", stream="s"))["partitions"][0]["state"] == "damaged"


@pytest.mark.parametrize("storage", ["disk", "memory"])
async def test_silences_go_on_from_piece_to_piece(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    monkeypatch.setattr(survey, "BATCHES_MAX", 1)
    tree = {"streams": {"storage": storage}}
    async with open_site(tree, now_us=passing_us) as site:
        peer = await site.peer()
        for pause_s in (1, 5, 2, 7):
            await trio.sleep(pause_s)
            await peer.produce([b"a"])
        found = await all_of(peer, silence_us=3_000_000)
        assert [silence["offset"] for silence in found["silences"]] == [1, 3]
        for silence, pause_s in zip(found["silences"], (5, 7), strict=True):
            assert silence["to_us"] - silence["from_us"] == pytest.approx(pause_s * 1e6, rel=0.01)
        assert (await all_of(peer))["silences"] == []


async def test_what_retention_takes_away_is_no_silence(autojump_clock: Clock) -> None:
    tree = {"streams": {"storage": "memory", "memory_bytes": "64 KiB"}}
    async with open_site(tree) as site:
        peer = await site.peer()
        for number in range(5):
            await peer.produce([random.Random(number).randbytes(40_000)])
        log = site.daemon.streams.get("s").partitions[0].log
        found = await peer.admin("gaps", stream="s", last_us=1, silence_us=1000)
        assert found["first_offset"] == found["dropped"] == log.first_offset
        assert found["silences"] == []


async def test_what_is_just_being_removed_is_asked_for_again(
    autojump_clock: Clock, site: Site
) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    partition = site.daemon.streams.get("s").partitions[0]
    run, times = partition.run, []

    async def removed_at_first(job: Any) -> Any:
        times.append(trio.current_time())
        if len(times) == 1:
            raise OffsetOutOfRange("offset 0 has been removed")
        return await run(job)

    partition.run = removed_at_first
    found = await peer.admin("gaps", stream="s")
    assert (found["next"], found["records"]) == (0, 0)
    found = await peer.admin("gaps", stream="s", offset=found["next"])
    assert (found["next"], found["records"]) == (None, 1)
    assert times[1] > times[0]
