"""Requests to append: answered once each, with exact offsets, in as few frames as can be."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing

from streamer.records import ProducerStamp
from streamer.wire import frames
from tests.site import UNIX, WS, Site, open_site, values_of

Clock = trio.testing.MockClock


@pytest.mark.parametrize("url", [UNIX, WS])
async def test_a_batch_is_acked_with_its_offsets(
    autojump_clock: Clock, site: Site, url: str
) -> None:
    peer = await site.peer(url)
    assert await peer.produce([b"a", b"b"]) == frames.Acks(0, [[1, 0, 0, 2, 1, 0]])
    assert await peer.produce([b"c"]) == frames.Acks(0, [[2, 0, 2, 1, 1, 0]])
    fetched = await peer.fetch()
    assert isinstance(fetched, frames.Fetched)
    assert values_of(fetched.batches) == [b"a", b"b", b"c"]


async def test_records_in_a_row_are_one_ack(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.send(peer.records([[b"a"], [b"b", b"key"], [b"c", None, 5, {"h": b"x"}]]))
    assert await peer.receive() == frames.Acks(0, [[1, 0, 0, 3, 1, 0]])


async def test_a_single_record_is_one_ack(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    await peer.send(peer.records([[b"a"]]))
    assert await peer.receive() == frames.Acks(0, [[1, 0, 0, 1, 1, 0]])


@pytest.mark.parametrize("lane", [0, 1])
async def test_acks_of_many_requests_come_in_one_frame(
    autojump_clock: Clock, site: Site, lane: int
) -> None:
    peer = await site.peer()
    await peer.produce([b"the stream is made"])
    await peer.send(*[peer.records([[b"%d" % number]], lane=lane) for number in range(50)])
    acked: list[list[int]] = []
    several = 0
    while len(acked) < 50:
        acks = (await peer.expect(frames.Acks)).acks
        acked += acks
        several += 1
    assert [offset for _, _, offset, *_ in acked] == list(range(1, 51))
    assert [request for request, *_ in acked] == list(range(2, 52))
    assert several <= 3


async def test_each_record_has_a_result_of_its_own(autojump_clock: Clock, site: Site) -> None:
    async with open_site({"batch": {"value_bytes": 100}}) as small:
        peer = await small.peer()
        await peer.send(peer.records([[b"a"], [b"x" * 101], [b"c"]]))
        results = (await peer.expect(frames.Results)).results
        first, refused, last = results
        assert first == [0, 0, 1, 0]
        assert last == [0, 1, 1, 0]
        assert refused[0] == "too_large"
        assert "value of 101 bytes, allowed are 100" in refused[1]
        fetched = await peer.fetch()
        assert isinstance(fetched, frames.Fetched)
        assert values_of(fetched.batches) == [b"a", b"c"]


async def test_records_of_several_partitions_have_results(
    autojump_clock: Clock, site: Site
) -> None:
    async with open_site({"streams": {"partitions": 4}}) as wide:
        peer = await wide.peer()
        await peer.send(peer.records([[b"v", b"key-%d" % number] for number in range(20)]))
        results = (await peer.expect(frames.Results)).results
        by_partition: dict[int, list[int]] = {}
        for partition, offset, level, duplicate in results:
            assert (level, duplicate) == (1, 0)
            by_partition.setdefault(partition, []).append(offset)
        assert len(by_partition) > 1
        for offsets in by_partition.values():
            assert offsets == list(range(len(offsets)))


async def test_a_request_that_fails_as_a_whole_fails_once(
    autojump_clock: Clock, site: Site
) -> None:
    peer = await site.peer()
    await peer.send(peer.records([[b"a"], [b"b"], [b"c"]], partition=5))
    results = (await peer.expect(frames.Results)).results
    assert [result[0] for result in results] == ["unknown_partition"] * 3
    await peer.send(peer.records([[b"a"], [b"b"], [b"c"]], "../etc"))
    failed = await peer.expect(frames.Failed)
    assert (failed.request, failed.fatal) == (2, False)
    assert failed.code in ("bad_request", "not_allowed")
    await peer.is_served()


async def test_results_that_would_not_fit_into_a_frame_lose_words(
    autojump_clock: Clock, site: Site
) -> None:
    tree = {
        "session": {"frame_bytes": 128 * 1024, "send_queue_bytes": 128 * 1024},
        "batch": {"batch_bytes": 64 * 1024, "value_bytes": 4},
    }
    async with open_site(tree) as small:
        peer = await small.peer()
        await peer.send(peer.records([[b"fits"]] + [[b"does not fit"]] * 2000))
        first, *others = (await peer.expect(frames.Results)).results
        assert first == [0, 0, 1, 0]
        assert len(others) == 2000
        assert {other[0] for other in others} == {"too_large"}
        assert all(other[1].startswith("value of") for other in others)
        await peer.send(peer.records([[b"fits"]] * 4096))
        failed = await peer.expect(frames.Failed)
        assert failed.code == "too_large"
        assert "request of 4096 records" in failed.message
        await peer.is_served()


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (["text"], "field value"),
        ([b"v", "key"], "field key"),
        ([b"v", None, -1], "field timestamp_us"),
        ([b"v", None, None, [1]], "field headers"),
        ([b"v", None, None, {"h": "text"}], "headers map text to bytes"),
        ([b"v", None, None, None, 1.5], "field deliver_at_us"),
        ([b"v", None, None, None, None, None], "no list of 1 to 5 fields"),
        ([], "no list of 1 to 5 fields"),
    ],
)
async def test_a_record_of_another_form_fails_its_request(
    autojump_clock: Clock, site: Site, record: list[object], says: str
) -> None:
    peer = await site.peer()
    await peer.send(peer.records([[b"good"], record]))
    failed = await peer.expect(frames.Failed)
    assert failed.code == "bad_request"
    assert "record 1" in failed.message
    assert says in failed.message
    await peer.is_served()


async def test_an_unknown_lane_fails_its_request(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    answer = await peer.produce([b"a"], lane=2)
    assert isinstance(answer, frames.Failed)
    assert answer.code == "bad_request"
    await peer.is_served()


async def test_append_if(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    assert isinstance(await peer.produce([b"a"], expected=0), frames.Acks)
    conflict = await peer.produce([b"b"], expected=0)
    assert isinstance(conflict, frames.Failed)
    assert (conflict.code, conflict.detail) == ("offset_conflict", {"next_offset": 1})
    assert isinstance(await peer.produce([b"b"], expected=1), frames.Acks)


async def test_what_is_sent_again_is_there_once(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    stamp = ProducerStamp(7, 0, 0)
    first = await peer.produce([b"a", b"b"], stamp=stamp)
    again = await peer.produce([b"a", b"b"], stamp=stamp)
    assert first == frames.Acks(0, [[1, 0, 0, 2, 1, 0]])
    assert again == frames.Acks(0, [[2, 0, 0, 2, 1, 1]])
    gap = await peer.produce([b"c"], stamp=ProducerStamp(7, 0, 5))
    assert isinstance(gap, frames.Failed)
    assert gap.code == "out_of_sequence"


async def test_a_request_number_under_way_may_not_be_used_again(
    autojump_clock: Clock,
) -> None:
    async with open_site() as site:
        honest = await site.peer()
        peer = await site.peer()
        batch = peer.batch([b"a"])
        await peer.send(batch, batch)
        failed = await peer.fatal()
        assert failed.code == "protocol"
        assert "request 1 is under way already" in failed.message
        await honest.is_served()


async def test_as_many_requests_as_one_likes_one_after_the_other(
    autojump_clock: Clock,
) -> None:
    """An answer ends its request, whose number may be used again."""
    async with open_site({"session": {"requests": 4}}) as site:
        peer = await site.peer()
        for _ in range(20):
            numbers = [peer.records([[b"x"]]) for _ in range(4)]
            await peer.send(*numbers)
            acked = 0
            while acked < 4:
                acked += len((await peer.expect(frames.Acks)).acks)
        for _ in range(3):
            await peer.send(numbers[0])
            await peer.expect(frames.Acks)
            await peer.send(frames.Admin(numbers[1].request, "streams", {}))
            await peer.expect(frames.Reply)
            await peer.send(frames.Fetch(numbers[2].request, "none", 0, 2, 0, 1))
            await peer.expect(frames.Failed)


async def test_more_requests_than_allowed_end_the_session(autojump_clock: Clock) -> None:
    async with open_site({"session": {"requests": 4}}) as site:
        honest = await site.peer()
        peer = await site.peer()
        await peer.send(*[peer.batch([b"a"]) for _ in range(5)])
        failed = await peer.fatal()
        assert failed.code == "credit_exceeded"
        assert "5 requests under way, allowed are 4" in failed.message
        await honest.is_served()


async def test_a_stream_that_no_pipeline_serves(autojump_clock: Clock) -> None:
    async with open_site({"pipelines": [{"name": "logs", "streams": ["logs-*"]}]}) as site:
        peer = await site.peer()
        answer = await peer.produce([b"a"], "orders")
        assert isinstance(answer, frames.Failed)
        assert answer.code == "not_allowed"
        assert isinstance(await peer.produce([b"a"], "logs-1"), frames.Acks)
        refused = await peer.subscribe("orders")
        assert refused.code == "not_allowed"
        assert [stream["name"] for stream in await peer.admin("streams")] == ["logs-1"]


async def test_a_full_disk_is_a_retryable_error(autojump_clock: Clock, site: Site) -> None:
    peer = await site.peer()
    assert isinstance(await peer.produce([b"a"]), frames.Acks)
    site.files.capacity_bytes = site.files.used_bytes()
    full = await peer.produce([b"b"])
    assert isinstance(full, frames.Failed)
    assert (full.code, full.retryable) == ("disk_full", True)
    fetched = await peer.fetch()
    assert isinstance(fetched, frames.Fetched)
    assert values_of(fetched.batches) == [b"a"]
    other = await peer.produce([b"b"], "another")
    assert isinstance(other, frames.Failed)
    assert (other.code, other.retryable) == ("disk_full", True)
    site.files.capacity_bytes = 1 << 40
    assert await peer.produce([b"b"]) == frames.Acks(0, [[5, 0, 1, 1, 1, 0]])
    assert isinstance(await peer.produce([b"b"], "another"), frames.Acks)


async def test_a_failed_sync_stops_the_partition_and_no_other(
    autojump_clock: Clock, site: Site
) -> None:
    peer = await site.peer()
    await peer.produce([b"a"])
    await peer.produce([b"a"], "other")
    site.files.fail_next("sync", errno.EIO)
    unknown = await peer.produce([b"b"])
    assert isinstance(unknown, frames.Failed)
    assert unknown.code == "outcome_unknown"
    stopped = await peer.produce([b"c"])
    assert isinstance(stopped, frames.Failed)
    assert (stopped.code, stopped.retryable) == ("partition_stopped", False)
    assert isinstance(await peer.produce([b"b"], "other"), frames.Acks)
    assert not site.daemon.health().ok


async def test_a_bad_batch_fails_its_request_and_not_the_session(
    autojump_clock: Clock, site: Site
) -> None:
    peer = await site.peer()
    good = peer.batch([b"a" * 100]).batch
    wrong = {
        "magic": b"nope" + good[4:],
        "version": good[:3] + b"\x09" + good[4:],
        "crc": good[:-1] + bytes([good[-1] ^ 1]),
        "truncated": good[:-5],
        "empty": b"",
        "header only": good[:50],
        "trailing": good + b"more",
    }
    codes = {}
    for name, data in wrong.items():
        await peer.send(frames.Produce(next(peer.numbers), "s", None, None, 0, data))
        failed = await peer.expect(frames.Failed)
        assert not failed.fatal
        assert failed.message
        codes[name] = failed.code
    assert codes.pop("version") == "unknown_batch_version"
    assert set(codes.values()) == {"bad_batch"}
    await peer.is_served()


async def test_a_session_that_ends_leaves_no_credit_taken(
    autojump_clock: Clock, site: Site
) -> None:
    """Also one that ends by a frame that was not counted yet."""
    budget = site.budget
    for _ in range(3):
        peer = await site.peer()
        batch = peer.batch([b"x" * 1000])
        await peer.send(batch, batch)
        await peer.fatal()
    other = await site.peer()
    await other.send(other.batch([b"a"]))
    await other.stream.aclose()
    await trio.sleep(5)
    assert budget.under_way == 0
    assert budget.sessions == 0
    assert site.sessions == 0
