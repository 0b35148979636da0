"""Admin requests: what each verb gives, and what wrong arguments get."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing
import zstandard

from streamer.batch import parse
from streamer.limits import DICTIONARIES_MAX, BatchLimits
from streamer.records import ProducerStamp
from streamer.session import inspection
from streamer.session.admin import VERBS, VERBS_OF_GROUPS
from streamer.wire import frames
from tests.site import NOW_US, Site, open_site
from tests.stages import Valve

Clock = trio.testing.MockClock

#: For each verb with arguments, some that work on the stream `s`.
GOOD: dict[str, dict[str, Any]] = {
    "stream": {"stream": "s"},
    "peek": {"stream": "s", "offset": 0},
    "producer_open": {"stream": "s", "name": "p"},
    "producer_state": {"stream": "s", "producer_id": 7},
    "dictionary": {"stream": "s"},
    "dictionary_get": {"stream": "s", "id": 5},
    "dictionary_add": {"stream": "s", "data": b"x"},
    "floor": {"stream": "s", "group": "g", "offset": 0},
    "time": {"stream": "s", "timestamp_us": 0},
    "gaps": {"stream": "s"},
}


async def test_streams(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    assert await peer.admin("streams") == []
    await peer.produce([b"a", b"b"], "orders")
    made = await peer.admin("stream", stream="made", create=True)
    assert made["partitions"][0]["next_offset"] == 0
    (first, second) = await peer.admin("streams")
    assert first == made
    assert {**second, "partitions": []} == {
        "name": "orders",
        "dictionary_id": 0,
        "pipeline": "default",
        "storage": "disk",
        "partitions": [],
    }
    (partition,) = second["partitions"]
    assert partition.pop("bytes") > 0
    assert partition == {
        "partition": 0,
        "first_offset": 0,
        "next_offset": 2,
        "high_water": 2,
        "segments": 1,
        "state": "open",
        "dropped": 0,
    }
    assert await peer.admin("stream", stream="orders") == {**second, "partitions": [
        {**partition, "bytes": (await peer.admin("streams"))[1]["partitions"][0]["bytes"]}
    ]}  # fmt: skip


async def test_a_stream_that_no_pipeline_serves_any_more_is_still_shown(
    autojump_clock: Clock,
) -> None:
    from streamer.testing.memory_files import MemoryFiles

    files = MemoryFiles()
    async with open_site(files=files) as site:
        await (await site.peer()).produce([b"a"], "old")
    async with open_site(
        {"pipelines": [{"name": "logs", "streams": ["logs-*"]}]}, files=files
    ) as site:
        peer = await site.peer()
        (old,) = await peer.admin("streams")
        assert (old["name"], old["pipeline"]) == ("old", "")
        await peer.subscribe("old")
        assert await peer.delivered(1) == [b"a"]
        refused = await peer.produce([b"b"], "old")
        assert isinstance(refused, frames.Failed)
        assert refused.code == "not_allowed"


async def test_queues_and_varz(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    pipeline, own = await peer.admin("queues")
    assert (pipeline["pipeline"], pipeline["state"]) == ("default", "running")
    assert (own["pipeline"], own["state"]) == ("streamer", "running")
    assert [stage["place"] for stage in pipeline["stages"]] == [
        "ingest",
        "propose",
        "persist",
        "ack",
    ]
    for stage in pipeline["stages"]:
        channel = stage["channel"]
        assert (channel["items"], channel["items_total"]) == (0, 1)
        assert channel["items_max"] == 1024
        assert set(channel) >= {"bytes", "bytes_max", "items_seen", "senders_waiting", "oldest_s"}
    varz = await peer.admin("varz")
    assert varz["connections"] == 1
    assert varz["streams"]["s"]["records"] == 1
    assert varz["metrics"]["session_records_in"] == 1


async def test_peek(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"] * 3)
    await peer.produce([b"b"] * 2)
    for offset, base in ((0, 0), (2, 0), (3, 3), (4, 3)):
        peeked = await peer.admin("peek", stream="s", offset=offset)
        batch = parse(peeked["batch"], BatchLimits())
        assert (peeked["offset"], batch.header.base_offset) == (offset, base)
    failed = await peer.admin("peek", stream="s", offset=5)
    assert failed.code == "offset_out_of_range"
    assert failed.detail == {"first_offset": 0, "high_water": 5}


async def test_producers(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    first = await peer.admin("producer_open", stream="s", name="p")
    assert (first["epoch"], first["sequences"]) == (0, {})
    number = first["producer_id"]
    await peer.produce([b"a", b"b"], stamp=ProducerStamp(number, 0, 0))
    assert await peer.admin("producer_state", stream="s", producer_id=number) == {"0": [0, 1, 1]}
    again = await peer.admin("producer_open", stream="s", name="p")
    assert again == {"producer_id": number, "epoch": 1, "sequences": {"0": [1, 1]}}
    fenced = await peer.produce([b"c"], stamp=ProducerStamp(number, 0, 2))
    assert isinstance(fenced, frames.Failed)
    assert (fenced.code, fenced.detail) == ("fenced", {"epoch": 1})
    assert isinstance(await peer.produce([b"c"], stamp=ProducerStamp(number, 1, 2)), frames.Acks)
    assert await peer.admin("producer_state", stream="s", producer_id=99) == {}
    assert (await peer.admin("producer_open", stream="s", name="")).code == "bad_request"
    assert (await peer.admin("producer_open", stream="s", name="x" * 201)).code == "bad_request"


async def test_dictionaries(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    assert await peer.admin("dictionary", stream="s") == {"id": 0, "data": b""}
    samples: list[Any] = [
        b'{"level": "info", "number": %d, "host": "h%d"}' % (n, n % 7) for n in range(2000)
    ]
    data = zstandard.train_dictionary(4096, samples).as_bytes()
    number = (await peer.admin("dictionary_add", stream="s", data=data))["id"]
    assert number > 0
    assert await peer.admin("dictionary", stream="s") == {"id": number, "data": data}
    assert await peer.admin("dictionary_get", stream="s", id=number) == {"id": number, "data": data}
    assert (await peer.admin("dictionary_get", stream="s", id=5)).code == "unknown_dictionary"
    await peer.send(peer.records([[b'{"level": "info", "number": 5, "host": "h2"}']]))
    await peer.expect(frames.Acks)


@pytest.mark.parametrize("data", [b"", b"no dictionary", b"\x37\xa4\x30\xec" + b"\xff" * 100])
async def test_what_is_no_dictionary_is_refused_or_does_no_harm(
    autojump_clock: Clock, site: Site, data: bytes
) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    answer = await peer.admin("dictionary_add", stream="s", data=data)
    assert isinstance(answer, frames.Failed)
    assert answer.code in ("bad_request", "bad_batch")
    await peer.send(peer.records([[b"a record to be compressed" * 10]]))
    await peer.expect(frames.Acks)


async def test_more_dictionaries_than_allowed(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    samples: list[Any] = [b"sample %d of a few" % (n % 50) for n in range(2000)]
    data = zstandard.train_dictionary(1024, samples).as_bytes()
    stream = site.daemon.streams.get("s")  # type: ignore[union-attr]
    stream.dictionaries.update(dict.fromkeys(range(1, DICTIONARIES_MAX), b""))
    await peer.admin("dictionary_add", stream="s", data=data)
    failed = await peer.admin("dictionary_add", stream="s", data=data + b"more")
    assert failed.code == "not_allowed"


async def test_a_producer_that_waits_for_a_stalled_pipeline_holds_up_no_deliveries(
    autojump_clock: Clock,
) -> None:
    valve = Valve("persist")
    async with open_site(valve.tree, registry=valve.registry) as site:
        peer, other = await site.peer(), await site.peer()
        await peer.produce([b"a"])
        await peer.subscribe(credit=1)
        assert await peer.delivered(1) == [b"a"]
        await other.produce([b"b"])
        valve.shut()
        await other.send(other.batch([b"stuck"]))
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(
            *[
                frames.Admin(100 + n, "producer_open", {"stream": "s", "name": f"p{n}"})
                for n in range(20)
            ]
        )
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(frames.Grant(1, 1 << 20))
        assert await peer.delivered(1) == [b"b"]
        valve.open()
        opened = 0
        while opened < 20:
            opened += isinstance(await peer.receive(), frames.Reply)


async def test_floors(autojump_clock: Clock) -> None:
    async with open_site({"streams": {"retention_groups": ["billing"]}}) as site:
        peer = await site.peer()
        await peer.produce([b"a"])
        args = {"stream": "s", "partition": 0, "offset": 1}
        assert await peer.admin("floor", group="billing", **args) == {}
        refused = await peer.admin("floor", group="other", **args)
        assert refused.code == "not_allowed"
        assert "billing" in refused.message


async def test_time(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    assert await peer.admin("time", stream="s", timestamp_us=NOW_US) == {"offset": 0}
    assert await peer.admin("time", stream="s", timestamp_us=NOW_US + 1) == {"offset": 1}


def test_each_verb_is_tested() -> None:
    # Those of consumer groups are tested with the stage that answers them.
    # And those that look inside in `test_inspection`.
    others = {"streams", "queues", "varz", *VERBS_OF_GROUPS, *inspection.VERBS}
    assert set(VERBS) == set(GOOD) | others


@pytest.mark.parametrize("verb", sorted(GOOD))
async def test_wrong_arguments(autojump_clock: Clock, site: Site, verb: str) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    for name, value in GOOD[verb].items():
        wrongs: tuple[Any, ...] = (None, [], 1.5, True, -1, "text", b"bytes", 7)
        for wrong in wrongs:
            if type(wrong) is type(value) and wrong != -1:
                continue
            failed = await peer.admin(verb, **{**GOOD[verb], name: wrong})
            assert isinstance(failed, frames.Failed), (name, wrong, failed)
            assert failed.code == "bad_request"
            assert f"{verb}: argument {name} must be" in failed.message
            assert not failed.fatal
        missing = {key: value for key, value in GOOD[verb].items() if key != name}
        assert f"argument {name} must be" in (await peer.admin(verb, **missing)).message
    failed = await peer.admin(verb, **GOOD[verb], colour="red")
    assert "not ['colour']" in failed.message
    if "stream" in GOOD[verb] and verb != "producer_open":
        failed = await peer.admin(verb, **{**GOOD[verb], "stream": "none"})
        assert failed.code == "unknown_stream"
    await peer.is_served()


async def test_unknown_verbs_and_long_names(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    failed = await peer.admin("drop_everything")
    assert failed.code == "bad_request"
    assert "unknown admin verb 'drop_everything', known are ['config', 'dead'," in failed.message
    for verb, args in (
        ("x" * 60_000, {}),
        ("stream", {"stream": "x" * 900_000}),
        ("streams", {"y" * 900_000: 1}),
        ("streams", {str(n): n for n in range(50_000)}),
    ):
        failed = await peer.admin(verb, **args)
        assert not failed.fatal
        assert len(failed.message) <= 2000
    await peer.is_served()


async def test_an_answer_that_does_not_fit_is_an_error_and_not_the_end(
    autojump_clock: Clock,
) -> None:
    tree = {
        "streams": {"partitions": 1000},
        "session": {"frame_bytes": "64 KiB"},
        "batch": {"batch_bytes": "32 KiB"},
    }
    async with open_site(tree) as site:
        peer = await site.peer()
        failed = await peer.admin("stream", stream="wide", create=True)
        assert failed.code == "too_large"
        assert "the answer cannot be sent" in failed.message
        await peer.admin("queues")


async def test_names_never_are_paths(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    for name in ("../x", "a/b", "..", ".", "", "nul\0byte", "x" * 201, "\n", "\u202e"):
        failed = await peer.admin("stream", stream=name, create=True)
        assert failed.code in ("bad_request", "not_allowed"), name
    for name in ("ü" * 200, "...", "a b", "%2e%2e", "CON", "~", "x" * 200):
        made = await peer.admin("stream", stream=name, create=True)
        assert made["name"] == name
    assert set(site.files.listdir("/")) == {"data"}
