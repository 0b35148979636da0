"""Propose: offsets without gaps, admission record by record, idempotence, deadlines, retraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from streamer import (
    Ack,
    Append,
    BatchLimits,
    Codec,
    Fenced,
    Group,
    Lane,
    OffsetConflict,
    OutcomeUnknown,
    OutOfSequence,
    ProducerStamp,
    ProducerUnknown,
    Proposal,
    Record,
    StageContext,
    TimedOut,
    TooLarge,
    UnknownDictionary,
    UnknownPartition,
    partition_for,
)
from streamer.batch import parse_placed
from streamer.pipeline.channel import open_channel
from streamer.storage.partition import LogState
from streamer.testing.stage_checks import check_stage, open_context, run_stage
from streamer_plugins.propose.local import STAGE, LocalConfig


def append_of(
    records: Sequence[Record] = (),
    *,
    stamp: ProducerStamp | None = None,
    expected: int | None = None,
    partition: int | None = None,
    **more: Any,
) -> Append:
    return Append(
        "s",
        partition,
        expected,
        Lane.NORMAL,
        Ack(max(1, len(records)), lambda _: None),
        100,
        trio.current_time(),
        records=records,
        stamp=stamp,
        **more,
    )


def batch_of(
    count: int, *, stamp: ProducerStamp | None = None, expected: int | None = None
) -> Append:
    batch = Codec().encode_values([b"v"] * count, now_us=1, stamp=stamp)
    return append_of(batch=batch, expected=expected)


def single(value: bytes = b"v", **more: Any) -> Append:
    return append_of([Record(value)], **more)


def group_of(context: StageContext, *appends: Append) -> Group:
    return Group("s", list(appends), 100 * len(appends), "batch", context.flow.enter())


async def propose(context: StageContext, *appends: Append) -> list[Proposal]:
    """One group of records, or one group for each batch."""
    if appends[0].batch is None:
        groups = [group_of(context, *appends)]
    else:
        groups = [group_of(context, append) for append in appends]
    return await run_stage(STAGE, context, groups)


def offsets(proposals: Sequence[Proposal]) -> list[tuple[int, int]]:
    return [(p.entry.batch.header.base_offset, p.entry.batch.count) for p in proposals if p.entry]


def outcome(append: Append, index: int = 0) -> Any:
    return append.ack.outcomes[index]


async def test_offsets_follow_each_other_without_gaps() -> None:
    async with open_context() as context:
        first = await propose(context, batch_of(3), batch_of(2))
        second = await propose(context, single(), single())
        assert offsets([*first, *second]) == [(0, 3), (3, 2), (5, 2)]
        assert [w.offset for w in second[0].waiters] == [5, 6]


async def test_a_producers_batch_keeps_its_payload() -> None:
    async with open_context() as context:
        append = batch_of(3)
        (proposal,) = await propose(context, append)
        assert append.batch is not None
        assert proposal.entry is not None
        assert proposal.entry.batch.payload is append.batch.payload
        parse_placed(proposal.entry.batch.to_bytes(), context.limits)


async def test_one_bad_record_never_fails_its_neighbours() -> None:
    async with open_context() as context:
        huge = Record(b"x" * (context.limits.value_bytes + 1))
        key = Record(b"v", key=b"k" * (context.limits.key_bytes + 1))
        many = Record(b"v", headers={str(n): b"" for n in range(65)})
        fat = Record(b"v", headers={"h": b"x" * 70_000})
        append = append_of([Record(b"a"), huge, key, many, fat, Record(b"b")])
        (proposal,) = await propose(context, append)
        assert offsets([proposal]) == [(0, 2)]
        assert [w.index for w in proposal.waiters] == [0, 5]
        for index in (1, 2, 3, 4):
            assert isinstance(outcome(append, index), TooLarge)


async def test_records_that_do_not_compress_are_split_into_batches_that_fit() -> None:
    import random

    async with open_context() as context:
        noise = random.Random(1).randbytes
        appends = [single(noise(300_000)) for _ in range(5)]
        proposals = await propose(context, *appends)
        placed = offsets(proposals)
        assert [offset for offset, _ in placed] == sorted(offset for offset, _ in placed)
        assert sum(count for _, count in placed) == 5
        assert len(placed) > 1
        for proposal in proposals:
            assert proposal.entry is not None
            header = proposal.entry.batch.header
            for waiter in proposal.waiters:
                assert header.base_offset <= waiter.offset < header.next_offset


async def test_append_if_is_compare_and_set() -> None:
    async with open_context() as context:
        await propose(context, batch_of(3))
        good, late = batch_of(1, expected=3), batch_of(1, expected=3)
        assert offsets(await propose(context, good, late)) == [(3, 1)]
        assert isinstance(outcome(late), OffsetConflict)
        assert outcome(late).detail == {"next_offset": 4}
        records = append_of([Record(b"a"), Record(b"b")], expected=4)
        assert offsets(await propose(context, records)) == [(4, 2)]
        refused = append_of([Record(b"a")], expected=4)
        assert await propose(context, refused) == []
        assert isinstance(outcome(refused), OffsetConflict)


async def test_partitions_are_given_by_key_explicitly_or_in_turn() -> None:
    async with open_context(partitions=4) as context:
        by_key = [append_of([Record(b"v", key=b"key %d" % n)]) for n in range(20)]
        for proposal in await propose(context, *by_key):
            for waiter in proposal.waiters:
                (append,) = [a for a in by_key if a.ack is waiter.ack]
                key = append.records[0].key
                assert key is not None
                assert partition_for(key, 4) == proposal.partition.number
        (chosen,) = await propose(context, single(partition=3))
        assert chosen.partition.number == 3
        # Without a key a group stays together, and the groups take turns.
        groups = [group_of(context, single(), single()) for _ in range(4)]
        proposals = await run_stage(STAGE, context, groups)
        assert sorted(p.partition.number for p in proposals) == [0, 1, 2, 3]
        assert [len(p.waiters) for p in proposals] == [2, 2, 2, 2]
        wrong = single(partition=4)
        assert await propose(context, wrong) == []
        assert isinstance(outcome(wrong), UnknownPartition)


async def test_a_duplicate_waits_for_the_original_and_gets_its_offset() -> None:
    async with open_context() as context:
        stamp = ProducerStamp(7, 0, 0)
        original, again = batch_of(3, stamp=stamp), batch_of(3, stamp=stamp)
        first, second = await propose(context, original, again)
        assert first.entry is not None
        assert second.entry is None
        (waiter,) = second.waiters
        assert (waiter.offset, waiter.count, waiter.duplicate) == (0, 3, True)
        assert outcome(again) is None


async def test_duplicates_within_a_group_of_records_do_not_touch_their_neighbours() -> None:
    async with open_context() as context:
        appends = [
            single(stamp=ProducerStamp(7, 0, 0)),
            single(stamp=ProducerStamp(7, 0, 0)),
            single(stamp=ProducerStamp(8, 0, 0)),
            single(stamp=ProducerStamp(7, 0, 5)),
            single(stamp=ProducerStamp(9, 0, 5)),
        ]
        (proposal,) = await propose(context, *appends)
        assert offsets([proposal]) == [(0, 2)]
        assert [(w.offset, w.duplicate) for w in proposal.waiters] == [
            (0, False),
            (0, True),
            (1, False),
        ]
        assert isinstance(outcome(appends[3]), OutOfSequence)
        assert isinstance(outcome(appends[4]), ProducerUnknown)


async def test_an_older_epoch_is_fenced() -> None:
    async with open_context() as context:
        await propose(context, batch_of(1, stamp=ProducerStamp(7, 2, 0)))
        old = batch_of(1, stamp=ProducerStamp(7, 1, 1))
        assert await propose(context, old) == []
        assert isinstance(outcome(old), Fenced)


async def test_a_named_producer_is_fenced_as_soon_as_it_is_opened_again() -> None:
    async with open_context() as context:
        stream = await context.streams.ensure("s")
        assert await context.streams.open_producer(stream, "loader", 7) == (7, 0)
        await propose(context, batch_of(1, stamp=ProducerStamp(7, 0, 0)))
        assert await context.streams.open_producer(stream, "loader", 99) == (7, 1)
        old = batch_of(1, stamp=ProducerStamp(7, 0, 1))
        assert await propose(context, old) == []
        assert isinstance(outcome(old), Fenced)
        assert offsets(await propose(context, batch_of(1, stamp=ProducerStamp(7, 1, 1)))) == [
            (1, 1)
        ]


async def test_an_unknown_dictionary_is_refused() -> None:
    async with open_context() as context:
        sample = [b'{"user": %d, "path": "/a/b/c"}' % n for n in range(2000)]
        import zstandard

        data = zstandard.train_dictionary(1024, sample).as_bytes()
        codec = Codec(dictionaries={5: data})
        batch = codec.encode_values(sample[:3], now_us=1, dictionary_id=5)
        append = append_of(batch=batch)
        assert await propose(context, append) == []
        assert isinstance(outcome(append), UnknownDictionary)


async def test_what_waited_too_long_was_not_appended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_context() as context:
        append = single()
        await trio.sleep(31)
        assert await propose(context, append) == []
        assert isinstance(outcome(append), TimedOut)


async def test_what_is_proposed_too_long_has_an_unknown_outcome(
    autojump_clock: trio.testing.MockClock,
) -> None:
    proposed, stuck = single(), single()
    under_way = [proposed, stuck]
    async with open_context(under_way=under_way) as context, trio.open_nursery() as nursery:
        head, receive = open_channel(10, 1000)
        send, out = open_channel(1, 1000)
        stage = STAGE.factory(LocalConfig(propose_timeout_s=5.0), context)
        nursery.start_soon(stage, receive, send)
        await head.send(group_of(context, proposed))
        await wait_all_tasks_blocked()
        assert outcome(proposed) is None
        await trio.sleep(6)
        assert isinstance(outcome(proposed), OutcomeUnknown)
        # What has no offset yet was certainly not appended, and will not be.
        assert isinstance(outcome(stuck), TimedOut)
        await head.send(group_of(context, stuck))
        head.close()
        assert [len(proposal.waiters) async for proposal in out] == [1]


async def test_a_sequence_needs_a_named_partition_where_there_are_several() -> None:
    async with open_context(partitions=2) as context:
        for append in (
            batch_of(1, stamp=ProducerStamp(7, 0, 0)),
            single(stamp=ProducerStamp(8, 0, 0)),
        ):
            assert await propose(context, append) == []
            assert outcome(append).code == "bad_request"


async def test_a_lone_record_of_many_headers_is_refused_before_it_is_encoded() -> None:
    limits = BatchLimits(headers=1024, batch_bytes=4096)
    async with open_context(limits=limits) as context:
        many = single()
        many.records = [Record(b"v" * 100, headers={f"{n:03}": b"" for n in range(600)})]
        assert await propose(context, single(), many) != []
        assert isinstance(outcome(many), TooLarge)


async def test_retracting_gives_offsets_and_sequences_again() -> None:
    async with open_context() as context:
        stamp = ProducerStamp(7, 0, 0)
        (proposal,) = await propose(context, batch_of(3, stamp=stamp))
        proposal.partition.retract()
        (again,) = await propose(context, batch_of(3, stamp=stamp))
        assert again.entry is not None
        assert offsets([again]) == [(0, 3)]
        assert again.generation == proposal.generation + 1


async def test_a_stopped_partition_refuses_at_once() -> None:
    async with open_context() as context:
        stream = await context.streams.ensure("s")
        stream.partitions[0].log.state = LogState.STOPPED
        append = single()
        assert await propose(context, append) == []
        assert outcome(append).code == "partition_stopped"


async def test_it_passes_the_checks_of_every_stage(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await check_stage(STAGE)


def test_the_timeout_is_bounded() -> None:
    from streamer.settings import Faulty, new_converter

    with pytest.raises(Faulty):
        new_converter().structure({"propose_timeout_s": 0}, LocalConfig)
