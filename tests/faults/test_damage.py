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
        for stream in ("sealed", "active", "sound"):
            async with client.producer(stream) as producer:
                for batch in range(BATCHES):
                    await producer.send_batch(values_of(batch))


async def read_whole(
    client: streamer.Client, stream: str
) -> tuple[dict[int, bytes], list[tuple[int, int]]]:
    """Every record that is served, by its offset, and the ranges that are named as damaged."""
    served: dict[int, bytes] = {}
    damaged: list[tuple[int, int]] = []
    async with client.reader(stream, start="earliest", follow=False) as reader:
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


async def refused(client: streamer.Client, stream: str) -> PartitionDamaged:
    """Append until that is refused: older segments are looked through while it serves."""
    with trio.fail_after(PATIENCE_S):
        async with client.producer(stream) as producer:
            while True:
                try:
                    await producer.send(b"one more")
                except PartitionDamaged as error:
                    return error
                await trio.sleep(0.02)


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_flipped_byte_is_named_and_never_served(tmp_path: Path, end: str) -> None:
    """In a sealed segment and in the one that is written to, before the last commit."""
    async with real_daemon(tmp_path, CONFIG) as daemon:
        await daemon.start()
        await fill(daemon)
        await (daemon.stop() if end == "stopped" else daemon.kill())
        files = [path for stream in ("sealed", "active") for path in daemon.segments(stream)]
        assert len(files) > 4
        hurt = {"sealed": daemon.segments("sealed")[0], "active": daemon.segments("active")[-1]}
        for file in hurt.values():
            flip_byte(file, file.stat().st_size // 2)
        before = {path: path.read_bytes() for path in files}
        ranges = await named_by_verify(daemon, hurt)

        await daemon.start()
        async with streamer.connect(daemon.unix) as client:
            for stream, damaged in ranges.items():
                await _refuses_writes_and_serves_what_is_whole(client, stream, damaged)
            async with client.producer("sound") as producer:
                assert (await producer.send(b"goes on")).offset == BATCHES * RECORDS
        status, health = await daemon.get("/healthz")
        assert status == 200
        for stream in hurt:
            assert any(f"{stream!r} is damaged" in reason for reason in health["reasons"])
        assert await daemon.stop() == Exit.OK
        for path, data in before.items():
            assert path.read_bytes().startswith(data), "nothing was cut or changed"


async def named_by_verify(daemon: RealDaemon, hurt: dict[str, Path]) -> dict[str, tuple[int, int]]:
    """The offsets that `streamer verify` names, once it is right about the bytes."""
    result = await command("verify", "--json", str(daemon.data))
    assert result.returncode == Exit.FAILED
    findings = json.loads(result.stdout)["findings"]
    assert sorted(finding["stream"] for finding in findings) == ["active", "sealed"]
    said = await command("verify", str(daemon.data))
    assert said.returncode == Exit.FAILED
    lines = said.stdout.decode().splitlines()
    ranges = {}
    for finding in findings:
        file = hurt[finding["stream"]]
        position = file.stat().st_size // 2
        assert (finding["kind"], finding["file"]) == ("damage", str(file))
        assert finding["position"] <= position < finding["position"] + finding["nbytes"]
        first, behind = finding["first_offset"], finding["next_offset"]
        assert behind - first == RECORDS
        assert any(
            line.startswith("damage") and f"{file}" in line
            and f"offsets {first} to {behind - 1}" in line
            for line in lines
        )  # fmt: skip
        ranges[finding["stream"]] = first, behind
    return ranges


async def _refuses_writes_and_serves_what_is_whole(
    client: streamer.Client, stream: str, damaged: tuple[int, int]
) -> None:
    first, behind = damaged
    error = await refused(client, stream)
    assert "damaged" in str(error)
    assert error.detail == {"first": first, "next": behind}
    served, named = await read_whole(client, stream)
    assert named == [damaged]
    expected = {
        offset: value
        for batch in range(BATCHES)
        for offset, value in enumerate(values_of(batch), batch * RECORDS)
        if not first <= offset < behind
    }
    assert {offset: served.get(offset) for offset in expected} == expected
    assert set(served.values()) <= {*expected.values(), b"one more"}
