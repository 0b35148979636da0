"""The producer when things go wrong: connections, refusals, deadlines, cancellation."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
import trio.testing

from streamer.client.producer import Committed
from streamer.errors import (
    Aborted,
    ConnectionFailed,
    DiskFull,
    Draining,
    Fenced,
    NotAllowed,
    OffsetConflict,
    OutcomeUnknown,
    OutOfSequence,
    PartitionStopped,
    ProducerUnknown,
    StreamerError,
    TimedOut,
)
from streamer.wire import frames

idle = trio.testing.wait_all_tasks_blocked


def once(number: int, verdict: object) -> Callable[[frames.Frame], object]:
    """A script that treats the n-th request to append (from 0) differently."""
    seen = iter(range(10_000))
    return lambda _: verdict if next(seen) == number else None


def from_to(first: int, end: int, verdict: object) -> Callable[[frames.Frame], object]:
    seen = iter(range(10_000))
    return lambda _: verdict if first <= next(seen) < end else None


# ------------------------------------------------------------------------------------ connections


@pytest.mark.parametrize("verdict", ["drop", "drop after"])
@pytest.mark.parametrize("number", range(6))
async def test_a_lost_connection_loses_and_repeats_nothing(daemon, client, verdict, number) -> None:
    daemon.script = once(number, verdict)
    values = [b"%d" % n for n in range(60)]
    async with client.producer("s", batch_records=10) as producer:
        for value in values:
            await producer.post(value)
    assert daemon.values("s") == values
    assert daemon.dialled == 2


async def test_a_resent_record_gets_its_first_offset(daemon, client) -> None:
    daemon.script = once(1, "drop after")
    async with client.producer("s") as producer:
        await producer.send(b"a")
        receipt = await producer.send(b"b")
        assert (receipt.offset, receipt.duplicate) == (1, True)
        receipt = await producer.send(b"c")
        assert (receipt.offset, receipt.duplicate) == (2, False)
    assert daemon.values("s") == [b"a", b"b", b"c"]


async def test_calls_wait_for_the_next_connection(daemon, client) -> None:
    async with client.producer("s") as producer:
        daemon.down = True
        daemon.drop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(producer.send, b"a")
            nursery.start_soon(producer.send_batch, [b"b", b"c"])
            nursery.start_soon(client.streams)
            await trio.sleep(20)
            assert not client.connected
            daemon.down = False
    assert sorted(daemon.values("s")) == [b"a", b"b", b"c"]


async def test_pauses_grow_and_end(daemon) -> None:
    times: list[float] = []
    dial = daemon.dial

    async def noted(nursery: trio.Nursery) -> object:
        times.append(trio.current_time())
        return await dial(nursery)

    daemon.dial = noted
    async with daemon.connect(reconnect_s=30.0) as client, client.producer("s") as producer:
        await producer.send(b"a")
        daemon.down = True
        daemon.drop()
        await idle()
        with pytest.raises(ConnectionFailed, match=r"no connection for 30\.0 s, last: nobody"):
            await producer.send(b"b")
        pauses = [b - a for a, b in pairwise(times[1:])]
        assert all(0.025 <= pause <= 2.0 for pause in pauses)
        assert pauses[0] <= 0.1 < 0.9 < pauses[-2]
        assert 29.9 <= times[-1] - times[1] <= 30.1
        for call in (producer.send(b"c"), producer.post(b"c"), client.streams()):
            with pytest.raises(ConnectionFailed):
                await call
        with pytest.raises(ConnectionFailed):
            async with client.reader("s"):
                pass


async def test_what_was_under_way_when_all_ended_is_of_unknown_outcome(daemon) -> None:
    async with daemon.connect(reconnect_s=5) as client:
        with pytest.raises(OutcomeUnknown):
            async with client.producer("s") as producer:
                daemon.script = lambda _: "silence"
                results: dict[str, BaseException] = {}

                async def send(value: str) -> None:
                    try:
                        await producer.send(value.encode())
                    except StreamerError as error:
                        results[value] = error

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send, "under way")
                    await idle()
                    nursery.start_soon(send, "waiting")
                    nursery.start_soon(send, "too")
                    await producer.post(b"posted")
                    daemon.down = True
                    await trio.sleep(0.1)
                    daemon.drop()
                assert isinstance(results["under way"], OutcomeUnknown)
                assert isinstance(results["under way"].__cause__, ConnectionFailed)
                assert isinstance(results["waiting"], OutcomeUnknown | ConnectionFailed)


async def test_the_first_connection_is_tried_once(daemon) -> None:
    daemon.down = True
    with pytest.raises(ConnectionFailed, match="nobody answers"):
        async with daemon.connect():
            pass
    assert daemon.dialled == 1
    daemon.down = False
    daemon.refuse = NotAllowed("not you")
    with pytest.raises(NotAllowed, match="not you"):
        async with daemon.connect():
            pass


async def test_a_daemon_that_does_not_greet(daemon) -> None:
    async def dial(nursery: trio.Nursery) -> object:
        await trio.sleep_forever()

    daemon.dial = dial
    with pytest.raises(ConnectionFailed, match=r"at .*: no welcome within 5 s"):
        async with daemon.connect():
            pass


async def test_a_daemon_that_breaks_the_rules_is_not_tried_for_ever(daemon) -> None:
    async with daemon.connect(reconnect_s=10) as client, client.producer("s") as producer:
        await producer.send(b"a")
        # An ack of something else.
        daemon.level = 0
        original = type(daemon.sessions[0]).apply

        def wrong(self: object, frame: frames.Frame) -> frames.Frame:
            answer = original(self, frame)  # type: ignore[arg-type]
            answer.acks[0][0] += 1000  # type: ignore[attr-defined]
            return answer

        type(daemon.sessions[0]).apply = wrong  # type: ignore[method-assign]
        try:
            with pytest.raises(OutcomeUnknown, match="not under way"):
                await producer.send(b"b")
        finally:
            type(daemon.sessions[0]).apply = original  # type: ignore[method-assign]
    assert trio.current_time() < 30


async def test_goodbye_moves_on_to_the_next_connection(daemon, client) -> None:
    daemon.hold = True
    async with client.producer("s") as producer, trio.open_nursery() as nursery:
        nursery.start_soon(producer.send, b"a")
        await idle()
        daemon.goodbye()
        await idle()
        nursery.start_soon(producer.send, b"b")
        await idle()
        assert len(daemon.produced()) == 1
        daemon.hold = False
        daemon.release()
    assert daemon.values("s") == [b"a", b"b"]
    assert daemon.dialled == 2
    assert [f.sequence for f in daemon.produced()] == [0, 1]


async def test_silence_is_probed_and_ends_the_connection(daemon) -> None:
    async with daemon.connect(idle_s=10) as client, client.producer("s") as producer:
        daemon.script = once(0, "silence")
        with trio.move_on_after(45):
            await producer.send(b"a")
        # It answered the pings, so it is alive; the record stays with the producer.
        assert daemon.dialled == 1
        assert sum(isinstance(f, frames.Ping) for f in daemon.seen) == 4
        daemon.mute = True
        await trio.sleep(25)
        assert daemon.dialled == 2
        daemon.mute = False
    assert daemon.values("s") == [b"a"]


async def test_nobody_is_probed_when_nothing_is_awaited(daemon, client) -> None:
    daemon.mute = True
    await trio.sleep(1000)
    assert daemon.dialled == 1
    assert not any(isinstance(f, frames.Ping) for f in daemon.seen)


async def test_pings_are_answered(daemon, client) -> None:
    daemon.sessions[0].say(frames.Ping(7))
    await idle()
    assert daemon.seen[-1] == frames.Pong(7)


async def test_what_answers_nothing_we_asked(daemon, client) -> None:
    for wrong in (
        frames.Reply(999, {}),
        frames.Acks(0, [[999, 0, 0, 1, 1, 0]]),
        frames.Failed(999, "refused", "no", False, False, {}),
        frames.Credit(1 << 40),
        frames.Deliver(999, 0, b""),
        frames.Ended(999, "refused", "no", {}),
    ):
        before = daemon.dialled
        daemon.sessions[-1].say(wrong)
        await trio.sleep(1)
        # What is about a subscription may be late; credit is always welcome.
        late = isinstance(wrong, frames.Credit | frames.Deliver | frames.Ended)
        assert daemon.dialled == before + (not late)


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("error", [DiskFull, Aborted, TimedOut, Draining])
async def test_what_may_go_better_is_tried_again_in_order(daemon, client, error) -> None:
    daemon.script = from_to(2, 12, error("not now"))
    values = [b"%d" % n for n in range(100)]
    async with client.producer("s", batch_records=10) as producer:
        for value in values:
            await producer.post(value)
        receipt = await producer.send(b"last")
        assert receipt.offset == 100
    assert daemon.values("s") == [*values, b"last"]
    assert trio.current_time() > 0.02


async def test_what_cannot_go_better_is_told_and_those_behind_move_up(daemon, client) -> None:
    daemon.script = once(1, NotAllowed("no"))
    results: list[object] = []

    async def send(number: int) -> None:
        try:
            results.append((await producer.send_batch([b"%d" % number] * 2)).offset)
        except StreamerError as error:
            results.append(type(error))

    async with client.producer("s") as producer, trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(send, number)
            await trio.lowlevel.checkpoint()
    assert sorted(results, key=str) == [0, 2, 4, 6, NotAllowed]
    assert len(daemon.values("s")) == 8
    sequences = [int.from_bytes(f.batch[56:64], "little") for f in daemon.produced()]
    assert sequences == [0, 2, 4, 6, 8, 2, 4, 6]


async def test_single_records_behind_a_refused_one_move_up(daemon, client) -> None:
    async with client.producer("s") as producer:
        daemon.hold = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, OffsetConflict, producer.send(b"no", expected_offset=5))
            await idle()
            nursery.start_soon(producer.send, b"yes")
            await idle()
            assert len(daemon.produced()) == 2
            daemon.hold = False
            daemon.release()
        assert producer.committed() == Committed(0, 0)
    assert daemon.values("s") == [b"yes"]


async def test_flush_tells_what_failed_of_the_posted(daemon, client) -> None:
    async with client.producer("s", batch_records=10) as producer:
        daemon.script = from_to(1, 3, NotAllowed("no"))
        for n in range(30):
            await producer.post(b"%d" % n)
        with pytest.raises(NotAllowed) as caught:
            await producer.flush()
        assert "records to 's' were not acked" in caught.value.__notes__[0]
        # Told once.
        await producer.flush()
        assert producer.buffered_bytes == 0
    with pytest.raises(NotAllowed):
        async with client.producer("s") as producer:
            daemon.script = lambda _: NotAllowed("no")
            await producer.post(b"")
    with pytest.raises(KeyError) as other:
        async with client.producer("s") as producer:
            await producer.post(b"")
            raise KeyError
    assert "NotAllowed" in other.value.__notes__[0]


async def test_an_unknown_outcome_is_settled_by_asking_again(daemon, client) -> None:
    daemon.script = once(1, OutcomeUnknown("who knows"))
    async with client.producer("s") as producer:
        for n in range(3):
            assert (await producer.send(b"%d" % n)).offset == n
    assert [f.sequence for f in daemon.produced()] == [0, 1, 1, 2]

    def appended_but_unknown(frame: frames.Frame) -> object:
        if len(daemon.produced()) == 6:
            daemon.sessions[-1].apply(frame)
            return OutcomeUnknown("who knows")
        return None

    daemon.script = appended_but_unknown
    async with client.producer("s") as producer:
        receipts = [await producer.send(b"%d" % n) for n in range(3, 6)]
    assert [r.offset for r in receipts] == [3, 4, 5]
    assert [r.duplicate for r in receipts] == [False, True, False]
    assert daemon.values("s") == [b"%d" % n for n in range(6)]


async def test_without_idempotence_an_unknown_outcome_is_told(daemon, client) -> None:
    daemon.script = once(0, OutcomeUnknown("who knows"))
    async with client.producer("s", idempotent=False) as producer:
        with pytest.raises(OutcomeUnknown):
            await producer.send(b"a")
        assert (await producer.send(b"b")).offset == 0
        daemon.script = once(0, "drop after")
        # Sent again, and there twice: that is what was asked for.
        assert (await producer.send(b"c")).offset == 2
        daemon.script = once(0, DiskFull("not now"))
        assert (await producer.send(b"d")).offset == 3
    assert daemon.values("s") == [b"b", b"c", b"c", b"d"]


async def test_those_behind_a_gap_move_up_whatever_was_feared(daemon, client) -> None:
    """Both may have been appended, until it turns out that the first was not."""
    async with client.producer("s") as producer:
        await producer.send(b"a")
        daemon.script = lambda _: "silence"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, OffsetConflict, producer.send(b"no", expected_offset=9))
            await idle()
            nursery.start_soon(producer.send, b"b")
            await idle()
            assert len(daemon.produced()) == 3
            script = iter([None, Aborted("not tried")])
            daemon.script = lambda _: next(script, None)
            daemon.drop()
    assert daemon.values("s") == [b"a", b"b"]
    assert [f.sequence for f in daemon.produced()] == [0, 1, 2, 1, 2, 1]


# -------------------------------------------------------------------------------------- deadlines


async def test_what_is_refused_for_too_long_is_given_up(daemon, client) -> None:
    daemon.script = lambda _: DiskFull("not now")
    began = trio.current_time()
    async with client.producer("s", delivery_timeout_s=10) as producer:
        with pytest.raises(DiskFull):
            await producer.send(b"a")
        assert 10 <= trio.current_time() - began <= 12
        daemon.script = lambda _: None
        # It left no hole.
        assert (await producer.send(b"b")).offset == 0
    assert daemon.produced()[-1].sequence == 0


async def test_what_cannot_be_sent_for_too_long_is_given_up(daemon, client) -> None:
    async with client.producer("s", delivery_timeout_s=10) as producer:
        daemon.down = True
        daemon.drop()
        await idle()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, TimedOut, producer.send(b"a"))
            nursery.start_soon(expect, TimedOut, producer.send_batch([b"a", b"b"]))
        assert 10 <= trio.current_time() - began <= 11
        await producer.post(b"c")
        daemon.down = False
        await trio.sleep(3)
    assert daemon.values("s") == [b"c"]


async def test_what_is_not_answered_for_too_long_ends_the_producer(daemon, client) -> None:
    daemon.script = from_to(1, 10, "silence")
    with pytest.raises(OutcomeUnknown):
        async with client.producer("s", delivery_timeout_s=10) as producer:
            await producer.send(b"a")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect, OutcomeUnknown, producer.send(b"b"))
                await idle()
                nursery.start_soon(expect, OutcomeUnknown, producer.send(b"sent"))
                await idle()
                nursery.start_soon(expect, Aborted, producer.send(b"waits"))
            await producer.send(b"c")
    assert trio.current_time() < 12


async def test_an_uncertain_one_that_runs_out_of_time_ends_the_producer(daemon, client) -> None:
    async with client.producer("s", delivery_timeout_s=10) as producer:
        daemon.script = once(0, "drop after")
        daemon.down = True
        with pytest.raises(OutcomeUnknown):
            await producer.send(b"a")
        with pytest.raises(OutcomeUnknown):
            await producer.send(b"b")


async def test_a_refusal_of_what_may_be_there_is_of_unknown_outcome(daemon, client) -> None:
    """The daemon refused the second try for a reason that says nothing about the first."""
    async with client.producer("s") as producer:
        script = iter(["drop after", PartitionStopped("stopped")])
        daemon.script = lambda _: next(script, None)
        with pytest.raises(OutcomeUnknown):
            await producer.send(b"a")


# -------------------------------------------------------------------------------------- identities


async def test_a_fenced_producer_ends(daemon, client) -> None:
    async with client.producer("s", name="one") as old:
        await old.send(b"a")
        async with client.producer("s", name="one") as new:
            with pytest.raises(Fenced):
                await old.send(b"b")
            with pytest.raises(Fenced):
                await old.send(b"c")
            with pytest.raises(Fenced):
                await old.post(b"d")
            await new.send(b"e")
    assert daemon.values("s") == [b"a", b"e"]


async def test_a_forgotten_producer_goes_on_as_a_new_one(daemon, client) -> None:
    async with client.producer("s") as producer:
        await producer.send(b"a")
        daemon.partition("s").producers.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(producer.send, b"b")
            nursery.start_soon(producer.send_batch, [b"b", b"b"])
        await producer.send(b"c")
    assert daemon.values("s") == [b"a", b"b", b"b", b"b", b"c"]
    assert len({f.producer_id for f in daemon.produced() if hasattr(f, "producer_id")}) == 2


async def test_a_forgotten_producer_with_a_name_is_told(daemon, client) -> None:
    async with client.producer("s", name="n") as producer:
        await producer.send(b"a")
        daemon.partition("s").producers.clear()
        with pytest.raises(ProducerUnknown):
            await producer.send(b"b")


async def test_lost_records_are_told_if_they_were_promised(daemon, client) -> None:
    def lose_the_last() -> None:
        stored = daemon.partition("s")
        batch = stored.batches.pop()
        stored.next_offset -= batch.count
        [(producer_id, (epoch, following, ranges))] = stored.producers.items()
        stored.producers[producer_id] = (epoch, following - batch.count, ranges)

    async with client.producer("s") as producer:
        await producer.send(b"a")
        await producer.send(b"b")
        lose_the_last()
        with pytest.raises(OutOfSequence):
            await producer.send(b"c")
    daemon.streams.clear()
    daemon.level = 0
    async with client.producer("s") as producer:
        await producer.send(b"a")
        await producer.send(b"b")
        lose_the_last()
        assert (await producer.send(b"c")).offset == 1
    assert daemon.values("s") == [b"a", b"c"]


# ----------------------------------------------------------------------------------- cancellation


async def test_a_cancelled_send_stays_with_the_producer(daemon, client) -> None:
    daemon.hold = True
    async with client.producer("s") as producer:
        with trio.move_on_after(1) as scope:
            await producer.send(b"a")
        assert scope.cancelled_caught
        daemon.hold = False
        daemon.release()
        await producer.flush()
        assert daemon.values("s") == [b"a"]
        daemon.script = lambda _: NotAllowed("no")
        with trio.CancelScope() as scope:
            scope.cancel()
            await producer.send(b"never entered")
        await producer.flush()
        daemon.hold = True
        with trio.move_on_after(1):
            await producer.send_batch([b"b", b"c"])
        daemon.release()
        with pytest.raises(NotAllowed) as caught:
            await producer.flush()
        assert caught.value.__notes__ == ["2 records to 's' were not acked"]


async def test_who_was_given_room_by_a_producer_that_then_failed(daemon, client) -> None:
    daemon.hold = True
    async with client.producer("s", buffer_bytes=100) as producer, trio.open_nursery() as nursery:
        nursery.start_soon(expect, OutcomeUnknown, producer.send(bytes(80)))
        await idle()
        nursery.start_soon(expect, Fenced, producer.send_batch([bytes(40), bytes(1)]))
        nursery.start_soon(expect, Fenced, producer.send(bytes(40)))
        nursery.start_soon(expect, Fenced, producer.send(bytes(40)))
        await idle()
        # Nobody runs in between.
        producer.release(60)
        producer.fail(Fenced("a newer one"))
    assert len(daemon.values("s")) == 1


async def test_a_cancelled_flush_and_a_cancelled_call(daemon, client) -> None:
    daemon.hold = True
    async with client.producer("s") as producer:
        await producer.post(b"a")
        with trio.move_on_after(1):
            await producer.flush()
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.streams()
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(producer.flush)
                nursery.start_soon(producer.flush)
        daemon.hold = False
        daemon.release()
    assert daemon.values("s") == [b"a"]


async def test_leaving_the_client_fails_what_still_waits(daemon) -> None:
    daemon.hold = True

    async def outlives(client: object, results: list[type]) -> None:
        try:
            async with client.producer("s") as producer:  # type: ignore[attr-defined]
                await producer.send(b"a")
        except (StreamerError, trio.ClosedResourceError) as error:
            results.append(type(error))

    results: list[type] = []
    async with trio.open_nursery() as nursery:
        async with daemon.connect() as client:
            nursery.start_soon(outlives, client, results)
            await idle()
        with pytest.raises(trio.ClosedResourceError):
            await client.streams()
    assert results == [OutcomeUnknown]


# ------------------------------------------------------------------------------- all of it at once


@pytest.mark.parametrize("seed", range(60))
async def test_any_mixture_loses_and_repeats_nothing(daemon, seed) -> None:
    rng = random.Random(seed)
    daemon.partitions = rng.choice([1, 1, 3])
    faults = rng.choice([0.02, 0.1, 0.3])
    passing: list[object] = [DiskFull("x"), Aborted("x"), TimedOut("x")]
    # Not together: what may have been appended before and is then refused for good is of an
    # outcome that nobody knows, and has a test of its own.
    final = rng.random() < 0.3
    choices = [NotAllowed("x")] if final else ["drop", "drop after", OutcomeUnknown("x")]
    choices += passing[: rng.choice([0, 3])]
    daemon.script = lambda _: rng.choice(choices) if rng.random() < faults else None
    acked: dict[bytes, tuple[int, int]] = {}
    refused: set[bytes] = set()
    order: dict[int, list[bytes]] = {}

    async def work(worker: int) -> None:
        for turn in range(rng.randrange(5, 40)):
            values = [b"%d-%d-%d" % (worker, turn, n) for n in range(rng.choice([1, 1, 1, 4]))]
            partition = worker % daemon.partitions
            try:
                if len(values) > 1:
                    receipt = await producer.send_batch(values, partition=partition)
                elif rng.random() < 0.3:
                    receipt = None
                    await producer.post(values[0], partition=partition)
                else:
                    receipt = await producer.send(values[0], partition=partition)
            except NotAllowed:
                refused.update(values)
                continue
            order.setdefault(worker, []).extend(values)
            if receipt is not None:
                for n, value in enumerate(values):
                    acked[value] = (partition, receipt.offset + n)
            if rng.random() < 0.2:
                await trio.sleep(rng.random() / 20)

    async with daemon.connect() as client:
        producing = client.producer(
            "s",
            batch_records=rng.choice([1, 3, 1000]),
            buffer_bytes=rng.choice([100, 100_000]),
            in_flight=rng.choice([1, 4, 16]),
            linger_s=rng.choice([0, 0, 0.01]),
        )
        try:
            async with producing as producer, trio.open_nursery() as nursery:
                for worker in range(rng.choice([1, 5, 30])):
                    nursery.start_soon(work, worker)
        except NotAllowed:
            assert final
        assert producer.buffered_bytes == 0
    logs = [daemon.values("s", p) for p in range(daemon.partitions)]
    stored = [value for log in logs for value in log]
    assert len(stored) == len(set(stored))
    assert refused.isdisjoint(stored)
    for value, (partition, offset) in acked.items():
        assert logs[partition][offset] == value
    for worker, values in order.items():
        mine = [v for v in logs[worker % daemon.partitions] if v.startswith(b"%d-" % worker)]
        assert mine == ([v for v in values if v in set(mine)] if final else values)


async def expect(error: type[Exception], call: object) -> None:
    with pytest.raises(error):
        await call  # type: ignore[misc]
