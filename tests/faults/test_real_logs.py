"""Real system logs go in and come out byte for byte, across SIGKILLs, by our own commands."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import trio

from streamer_tools.exits import Exit
from tests.faults.daemon import RealDaemon, command

ROOT = Path(__file__).parents[2]
LOGHUB = ROOT.parent / "shared" / "data" / "loghub"
SAMPLE = ROOT / "tests" / "data" / "sample.log"


def real_logs() -> list[Path]:
    """The logs that stand beside the repository, else the project's own sample."""
    return sorted(LOGHUB.glob("*.log")) or [SAMPLE]


async def test_real_logs_survive_kills_byte_for_byte(daemon: RealDaemon) -> None:
    files = real_logs()
    await daemon.start()
    async with trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(_produce, daemon, file)
        # In the middle of it, and the commands ride through.
        while True:
            if daemon.segments(files[0].stem):
                break
            await trio.sleep(0.001)
        await daemon.kill()
        await daemon.start()
    await daemon.kill()
    assert await _verify(daemon) == {file.stem: _lines(file) for file in files}
    await daemon.start()
    async with trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(_consume, daemon, file)
    assert await daemon.stop() == Exit.OK
    assert await _verify(daemon) == {file.stem: _lines(file) for file in files}


def _lines(file: Path) -> int:
    return len(file.read_bytes().split(b"\n")) - file.read_bytes().endswith(b"\n")


async def _produce(daemon: RealDaemon, file: Path) -> None:
    done = await command("produce", "--json", file.stem, str(file), "--url", daemon.unix)
    assert done.returncode == Exit.OK, done.stderr
    assert json.loads(done.stdout)["acked"] == _lines(file)


async def _consume(daemon: RealDaemon, file: Path) -> None:
    done = await command("consume", file.stem, "--url", daemon.urls[1])
    assert done.returncode == Exit.OK, done.stderr
    assert done.stdout == await trio.to_thread.run_sync(partial(file.read_bytes))


async def _verify(daemon: RealDaemon) -> dict[str, int]:
    """Records of each stream, once nothing else is found."""
    done = await command("verify", "--json", str(daemon.data))
    assert done.returncode == Exit.OK, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    return {each["stream"]: each["records"] for each in found["partitions"]}
