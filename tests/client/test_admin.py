"""Calls that ask: thin, waiting for a connection, told apart when the answer was lost."""

# ruff: noqa: PT012  (an error often comes out of the block, not of a statement in it)

from __future__ import annotations

import pytest
import trio
import trio.testing

import streamer
from streamer.client.admin import PartitionInfo, StreamInfo
from streamer.errors import (
    BadRequest,
    ConnectionFailed,
    Draining,
    OutcomeUnknown,
    TooLarge,
)


async def test_streams(daemon, client) -> None:
    assert await client.streams() == []
    async with client.producer("s") as producer:
        await producer.send(b"a")
    info = await client.stream("s")
    assert info == StreamInfo("s", "main", 0, [PartitionInfo(0, 0, 1, 1, 0, 1, "open")])
    assert await client.streams() == [info]
    assert client.server_name == "fake"
    assert client.connected


async def test_what_a_newer_daemon_tells_of_a_partition_besides_is_passed_over(daemon) -> None:
    async with daemon.connect() as client:
        async with client.producer("s") as producer:
            await producer.send(b"a")
        tells = client.admin

        async def newer(verb: str, args: object = None) -> object:
            answer = await tells(verb, args)
            answer["partitions"][0]["replicas"] = 3
            return answer

        client.admin = newer
        assert (await client.stream("s")).partitions == [PartitionInfo(0, 0, 1, 1, 0, 1, "open")]


async def test_refusals_are_raised(client) -> None:
    with pytest.raises(BadRequest, match="unknown verb"):
        await client.admin("nothing")
    with pytest.raises(Draining):
        await client.admin("draining")


async def test_what_cannot_be_sent_is_told_and_harms_nobody(client) -> None:
    with pytest.raises(TooLarge):
        await client.admin("stream", {"stream": bytes(2_000_000)})
    with pytest.raises(BadRequest):
        await client.admin("stream", {"stream": 2**70})
    for partition, offset in ((-1, 0), (0, -1), (0, 2**64)):
        with pytest.raises(BadRequest, match="is not int"):
            await client.fetch("s", partition, offset)
    assert await client.streams() == []


async def test_a_lost_answer(daemon, client) -> None:
    original = daemon.admin
    lost = []

    def admin(verb: str, args: dict[str, object]) -> object:
        if not lost:
            lost.append(verb)
            daemon.drop()
        return original(verb, args)

    daemon.admin = admin
    # Asked again over the next connection.
    assert await client.streams() == []
    lost.clear()
    daemon.partition("s")
    # Not asked again: a second time would add a second one.
    with pytest.raises(OutcomeUnknown):
        await client.dictionary_add("s", b"x")


async def test_fetch(daemon, client) -> None:
    async with client.producer("s") as producer:
        await producer.send_batch([b"a", b"b"])
    with pytest.raises(ConnectionFailed):
        # The daemon in memory knows no fetch, and says nothing.
        async with daemon.connect(idle_s=1, reconnect_s=1) as other:
            daemon.mute = True
            daemon.refuse = ConnectionFailed("no more")
            await other.fetch("s", 0, 0)


async def test_more_calls_than_requests_are_allowed(daemon) -> None:
    daemon.limits = type(daemon.limits)(requests=2)
    async with daemon.connect() as client, trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(client.streams)


async def test_addresses(tmp_path) -> None:
    for url in ("http://x", "ws://", "tcp://host", "unix:", "nonsense", "ws://a:b"):
        with pytest.raises(BadRequest, match="it is ws://HOST:PORT"):
            async with streamer.connect(url):
                pass
    for url in (f"unix:{tmp_path}/none", "tcp://127.0.0.1:1", "ws://127.0.0.1:1"):
        with pytest.raises(ConnectionFailed, match="no daemon answers at"):
            async with streamer.connect(url):
                pass
