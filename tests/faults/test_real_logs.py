"""Real system logs go in and come out byte for byte, across SIGKILLs, by our own commands."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import trio

from streamer_tools.exits import Exit
from streamer_tools.own_daemon import command_line
from tests.faults.daemon import PATIENCE_S, RealDaemon, command

ROOT = Path(__file__).parents[2]
LOGHUB = ROOT.parent / "shared" / "data" / "loghub"
SAMPLE = ROOT / "tests" / "data" / "sample.log"


def real_logs() -> list[Path]:
    """The logs that stand beside the repository, else the project's own sample."""
    return sorted(LOGHUB.glob("*.log")) or [SAMPLE]


async def test_real_logs_survive_kills_byte_for_byte(daemon: RealDaemon) -> None:
    files = real_logs()
    await daemon.start()
    back = trio.Event()
    async with trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(_produce, daemon, file, back)
        # Half of each is on its way or in; the commands ride through what follows.
        while True:
            if all(daemon.segments(file.stem) for file in files):
                break
            await trio.sleep(0.001)
        await daemon.kill()
        back.set()
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


async def _produce(daemon: RealDaemon, file: Path, back: trio.Event) -> None:
    """Give half of a file to `produce`, and the rest when it is time."""
    data = await trio.Path(file).read_bytes()
    process = await trio.lowlevel.open_process(
        command_line("produce", "--json", file.stem, "-", "--url", daemon.unix),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send_all(data[: len(data) // 2])
        await back.wait()
        await process.stdin.send_all(data[len(data) // 2 :])
        await process.stdin.aclose()
        said = b"".join([part async for part in process.stdout])
        with trio.fail_after(PATIENCE_S):
            assert await process.wait() == Exit.OK
    finally:
        if process.poll() is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
    assert json.loads(said)["acked"] == _lines(file)


async def _consume(daemon: RealDaemon, file: Path) -> None:
    done = await command("consume", file.stem, "--url", daemon.urls[1])
    assert done.returncode == Exit.OK, done.stderr
    assert done.stdout == await trio.Path(file).read_bytes()


async def _verify(daemon: RealDaemon) -> dict[str, int]:
    """Records of each stream, once nothing else is found."""
    done = await command("verify", "--json", str(daemon.data))
    assert done.returncode == Exit.OK, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    return {
        each["stream"]: each["records"]
        for each in found["partitions"]
        if not each["stream"].startswith("__")
    }
