"""The verb `gaps`: a piece at a time, and what it says of a log that is not whole."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio.testing

from streamer.session import gaps as gaps_module
from streamer.testing.memory_files import MemoryFiles
from tests.site import NOW_US, Peer, Site, open_site

Clock = trio.testing.MockClock


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
        [directory] = [path for path in files.tree() if path.endswith(".log")]
        files.flip_bit(directory, files.size(directory) // 5 + (150 if check else 10))
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


async def test_silences_go_on_from_piece_to_piece(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(memory=True) as site:
        pass
