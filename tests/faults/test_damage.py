"""G6: bytes that went bad on the disk. They are named, never served, and nothing is cut."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import trio

import streamer
from streamer import PartitionDamaged
from streamer_tools.exits import Exit
from tests.faults.daemon import PATIENCE_S, RealDaemon, command, flip_byte, real_daemon

CONFIG = """
[batch]
batch_bytes = "64 KiB"

[streams]
segment_bytes = "64 KiB"
"""
BATCHES = 40
RECORDS = 10


def values_of(batch: int) -> list[bytes]:
    """About 4 kB that do not compress: some 16 batches fill a segment."""
    rng = random.Random(batch)
    return [rng.randbytes(400) for _ in range(RECORDS)]


async def fill(daemon: RealDaemon) -> None:
    """One commit a batch, so that later ones vouch for it."""
    async with streamer.connect(daemon.unix) as client:
        for stream in ("hurt", "sound"):
            async with client.producer(stream) as producer:
                for batch in range(BATCHES):
                    await producer.send_batch(values_of(batch))


async def read_whole(client: streamer.Client) -> tuple[dict[int, bytes], list[tuple[int, int]]]:
    """Every record that is served, by its offset, and the ranges that are named as damaged."""
    served: dict[int, bytes] = {}
    damaged: list[tuple[int, int]] = []
    async with client.reader("hurt", start="earliest", follow=False) as reader:
        while True:
            try:
                async for batch in reader:
                    served.update(enumerate(batch.values, batch.base_offset))
            except PartitionDamaged as error:
                first, behind = error.detail["first"], error.detail["next"]
                damaged.append((first, behind))
                reader.seek(behind)
            else:
                return served, damaged


async def refused(client: streamer.Client) -> PartitionDamaged:
    """Append until that is refused: a sealed segment is looked through while others are served."""
    with trio.fail_after(PATIENCE_S):
        async with client.producer("hurt") as producer:
            while True:
                try:
                    await producer.send(b"one more")
                except PartitionDamaged as error:
                    return error
                await trio.sleep(0.05)


@pytest.mark.parametrize("which", ["sealed", "active"])
@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_flipped_byte_is_named_and_never_served(
    tmp_path: Path, which: str, end: str
) -> None:
    async with real_daemon(tmp_path, CONFIG) as daemon:
        await daemon.start()
        await fill(daemon)
        await (daemon.stop() if end == "stopped" else daemon.kill())
        segments = daemon.segments("hurt")
        assert len(segments) > 2
        file = segments[0] if which == "sealed" else segments[-1]
        position = file.stat().st_size // 2
        flip_byte(file, position)
        before = {path: path.read_bytes() for path in segments}

        first, behind = await named_by_verify(daemon, file, position)

        await daemon.start()
        async with streamer.connect(daemon.unix) as client:
            error = await refused(client)
            assert "damaged" in str(error)
            assert error.detail == {"first": first, "next": behind}
            served, damaged = await read_whole(client)
            async with client.producer("sound") as producer:
                assert (await producer.send(b"goes on")).offset == BATCHES * RECORDS
        assert damaged == [(first, behind)]
        expected = {
            offset: value
            for batch in range(BATCHES)
            for offset, value in enumerate(values_of(batch), batch * RECORDS)
            if not first <= offset < behind
        }
        assert {offset: served.get(offset) for offset in expected} == expected
        assert set(served.values()) <= {*expected.values(), b"one more"}

        status, health = await daemon.get("/healthz")
        assert status == 200
        assert any("'hurt' is damaged" in reason for reason in health["reasons"])
        assert await daemon.stop() == Exit.OK
        for path, data in before.items():
            assert path.read_bytes().startswith(data), "nothing was cut or changed"


async def named_by_verify(daemon: RealDaemon, file: Path, position: int) -> tuple[int, int]:
    """The offsets that `streamer verify` names, once it is right about the bytes."""
    result = await command("verify", "--json", str(daemon.data))
    assert result.returncode == Exit.FAILED
    [finding] = json.loads(result.stdout)["findings"]
    assert finding["kind"] == "damage"
    assert (finding["stream"], finding["partition"]) == ("hurt", 0)
    assert finding["file"] == str(file)
    assert finding["position"] <= position < finding["position"] + finding["nbytes"]
    first, behind = finding["first_offset"], finding["next_offset"]
    assert behind - first == RECORDS
    said = await command("verify", str(daemon.data))
    assert said.returncode == Exit.FAILED
    [line] = [line for line in said.stdout.decode().splitlines() if line.startswith("damage")]
    assert file.name in line
    assert f"offsets {first} to {behind - 1}" in line
    return first, behind
