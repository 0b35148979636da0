"""What a program may do wrong, or a daemon's limits forbid: told at once, to whom it concerns."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import gc
import weakref
from datetime import datetime

import pytest
import trio
import trio.testing

from streamer.client.connect import Client
from streamer.client.pending import Pending
from streamer.errors import (
    BadRequest,
    NotAllowed,
    OutcomeUnknown,
    ProtocolError,
    StreamerError,
    TooLarge,
)
from streamer.limits import BatchLimits, WireLimits
from streamer.records import Record
from streamer.wire import frames

idle = trio.testing.wait_all_tasks_blocked


# ------------------------------------------------------------------------------ refused here


async def test_a_send_that_is_refused_here_is_told(daemon, client) -> None:
    async with client.producer("s") as producer:
        with trio.fail_after(5):
            with pytest.raises(TooLarge):
                await producer.send(bytes(2**20), key=bytes(2**16))
            with pytest.raises(BadRequest, match="no text"):
                await producer.send(b"a", headers={"\ud800": b""})
            for expected in (-1, 2**70, "x", True):
                with pytest.raises(BadRequest, match="expected"):
                    await producer.send(b"a", expected_offset=expected)  # type: ignore[arg-type]
                with pytest.raises(BadRequest, match="expected"):
                    await producer.send_batch([b"a", b"b"], expected_offset=expected)  # type: ignore[arg-type]
            assert (await producer.send(b"b")).offset == 0
        # The flush on leaving has nothing to tell: everybody was told.
    assert daemon.dialled == 1


async def test_a_reader_that_cannot_be(daemon, client) -> None:
    with trio.fail_after(5):
        for partition, start, credit in (
            (-1, "earliest", 1),
            (0, 2**64, 1),
            (0, "earliest", 2**63),
            (2**63, 0, 1),
        ):
            with pytest.raises(BadRequest):
                async with client.reader("s", partition, start, credit_bytes=credit):
                    pass
    assert daemon.dialled == 1
    assert not client._link._session.subscribers


async def test_a_bad_posted_record_does_not_fail_its_neighbours(daemon, client) -> None:
    async with client.producer("s") as producer:
        await producer.post(b"a")
        with pytest.raises(BadRequest, match="no text"):
            await producer.post(b"b", headers={"\udfff": b""})
        await producer.post(b"c")
        for due in (-1, 2**63, "x"):
            with pytest.raises(BadRequest, match="deliver_at_us"):
                await producer.send_batch([Record(b"x", deliver_at_us=due)])  # type: ignore[arg-type]
    assert daemon.values("s") == [b"a", b"c"]


async def test_a_time_without_a_zone(client) -> None:
    with pytest.raises(BadRequest, match="no time zone"):
        await client.offset_at("s", datetime(2026, 1, 1))


# ---------------------------------------------------------------------------- accused of a fault


async def test_what_ends_two_sessions_is_not_sent_again(daemon, client) -> None:
    fault = frames.Failed(None, "protocol", "field is not int", False, True, {})
    original = daemon.admin

    def admin(verb: str, args: dict[str, object]) -> object:
        if verb != "bad":
            return original(verb, args)
        daemon.sessions[-1].say(fault)
        raise _NeverAnswered

    class _NeverAnswered(Exception):
        pass

    handle = type(daemon.sessions[0])._handle

    async def handled(self: object, frame: frames.Frame, nbytes: int) -> None:
        try:
            await handle(self, frame, nbytes)
        except _NeverAnswered:
            await idle()
            self.scope.cancel()  # type: ignore[attr-defined]

    type(daemon.sessions[0])._handle = handled
    daemon.admin = admin
    try:
        with pytest.raises(ProtocolError, match="field is not int"):
            await client.admin("bad")
    finally:
        type(daemon.sessions[0])._handle = handle
    assert sum(isinstance(f, frames.Admin) for f in daemon.seen) == 2
    daemon.admin = original
    assert await client.streams() == []


@pytest.mark.parametrize("idempotent", [True, False])
async def test_an_append_that_ends_two_sessions(daemon, client, idempotent) -> None:
    with trio.fail_after(50), pytest.raises(OutcomeUnknown, match="you broke it"):
        async with client.producer("s", idempotent=idempotent) as producer:

            def fatal(_: frames.Frame) -> str:
                session = daemon.sessions[-1]
                session.say(frames.Failed(None, "protocol", "you broke it", False, True, {}))
                return "silence"

            daemon.script = fatal
            await producer.send(b"a")
    assert len(daemon.produced()) == 2


# ---------------------------------------------------------------------------- after the block


@pytest.mark.parametrize("how", ["cancelled", "raised", "crashed"])
async def test_after_the_block_nobody_waits(daemon, how) -> None:
    kept: list[Client] = []

    async def block() -> None:
        async with daemon.connect() as client:
            kept.append(client)
            if how == "raised":
                raise KeyError
            if how == "crashed":
                client._link.timers.at(0.0, crash.now)
            await trio.sleep_forever()

    class Crash:
        def now(self) -> None:
            raise ZeroDivisionError

    crash = Crash()
    with trio.move_on_after(1):
        try:
            await block()
        except* (KeyError, ZeroDivisionError):
            pass
    with trio.fail_after(5):
        for call in (kept[0].streams, lambda: kept[0].fetch("s", 0, 0)):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        with pytest.raises(trio.ClosedResourceError):
            async with kept[0].reader("s"):
                pass
        with pytest.raises(trio.ClosedResourceError):
            async with kept[0].producer("s"):
                pass


async def test_an_error_in_a_cancelled_scope_comes_out(daemon) -> None:
    with trio.CancelScope() as scope, pytest.raises(KeyError, match="mine"):
        async with daemon.connect() as client, client.producer("s") as producer:
            await producer.post(b"a")
            scope.cancel()
            raise KeyError("mine")


# -------------------------------------------------------------------------------- the limits


async def test_subscriptions_wait_for_their_turn(daemon) -> None:
    daemon.limits = WireLimits(requests=5, subscriptions=100)
    most = 0
    readers = 0

    async def read() -> None:
        nonlocal most, readers
        async with client.reader("s") as reader:
            readers += 1
            assert (await anext(reader)).values == [b"a"]

    async with daemon.connect() as client, client.producer("s") as producer:
        session = client._link._session
        gather = client._link._writer._gather

        def gathered(given: object) -> list[bytes]:
            nonlocal most
            data = gather(given)  # type: ignore[arg-type]
            most = max(most, len(session.requests))
            return data

        client._link._writer._gather = gathered  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(read)
            await producer.send(b"a")
    assert readers == 60
    assert most == 5
    assert daemon.dialled == 1


async def test_the_limits_are_told(daemon) -> None:
    daemon.limits = WireLimits(requests=7)
    async with daemon.connect() as client:
        batch, wire = client.limits
    assert (batch, wire) == (BatchLimits(), WireLimits(requests=7))


# -------------------------------------------------------------------------- outcomes and flags


async def test_without_idempotence_what_may_be_there_is_told_so(daemon, client) -> None:
    async with client.producer("s", idempotent=False) as producer:
        script = iter(["drop after", NotAllowed("not any more")])
        daemon.script = lambda _: next(script, None)
        with pytest.raises(OutcomeUnknown, match="not any more"):
            await producer.send(b"a")
        assert (await producer.send(b"b")).offset == 1
    async with client.producer("s", idempotent=False, delivery_timeout_s=5) as producer:
        daemon.script = lambda _: "drop after"
        daemon.down = True
        with pytest.raises(OutcomeUnknown, match=r"could not be sent|was lost"):
            await producer.send(b"c")


@pytest.mark.parametrize("retryable", [True, False])
async def test_an_unknown_code_goes_by_its_flags(daemon, client, retryable) -> None:
    class NotThought(StreamerError):
        pass

    NotThought.code = "not_thought_of_yet"
    NotThought.retryable = retryable
    script = iter([NotThought("a new one")])
    daemon.script = lambda _: next(script, None)
    if retryable:
        async with client.producer("s") as producer:
            assert (await producer.send(b"a")).offset == 0
    else:
        with pytest.raises(OutcomeUnknown, match="a new one"):
            async with client.producer("s") as producer:
                await producer.send(b"a")
    assert len(daemon.produced()) == 1 + retryable


async def test_two_flushes_both_see_the_failure(daemon, client) -> None:
    told: list[type] = []

    async def flush() -> None:
        try:
            await producer.flush()
        except NotAllowed as error:
            told.append(type(error))

    async with client.producer("s") as producer:
        daemon.script = lambda _: NotAllowed("no")
        await producer.post(b"a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flush)
            nursery.start_soon(flush)
        await producer.flush()
    assert told == [NotAllowed] * 2


# --------------------------------------------------------------------------------- what stays


async def test_a_closed_producer_does_not_stay(daemon, client) -> None:
    async with client.producer("s", linger_s=60) as producer:
        await producer.send_batch([b"a", b"b"])
        await producer.post(b"c")
    gone = weakref.ref(producer)
    del producer
    await idle()
    gc.collect()
    assert gone() is None
    assert not [found for found in gc.get_objects() if isinstance(found, Pending) and found.values]


async def test_one_linger_timer_a_line(daemon, client) -> None:
    async with client.producer("s", linger_s=60, batch_records=2) as producer:
        for _ in range(100):
            await producer.post(b"a")
        # One for the linger, one for the deadlines.
        assert len(client._link.timers._heap) == 2
        await producer.post(b"last")
        await trio.sleep(61)
        assert len(daemon.values("s")) == 101
