"""Overload, for as long as asked: the daemon's memory must stay flat, and below 150 MB.

    python -m tests.faults.soak --seconds 600 [--home DIR]

Producers send as fast as they can, in all three ways and over both transports, in processes of
their own; one peer subscribes and never reads, again whenever it is thrown out; one reader of our
client never asks for a batch; 200 sessions are idle. It prints the curve of the daemon's resident
memory and what went through, as JSON; exit status 1 where memory was not flat.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import trio

import streamer
from streamer.limits import MIB
from tests.faults.daemon import RealDaemon, real_daemon
from tests.faults.flood import STREAM, WAYS
from tests.faults.silent import hung_up, sit_idle, subscribe_and_never_read

IDLE = 200
RSS_BYTES_MAX = 150 * MIB
#: How much more the end of the curve may be than its middle. In a run of seconds caches still
#: fill; what piles up in an overload without a bound is hundreds of times as much by then.
GROWTH_BYTES_MAX = 8 * MIB
GROWTH_SHORT_BYTES_MAX = 32 * MIB
_SHORT_S = 60.0

#: Bounds what is on the disk; what is written in minutes is more than many disks have.
CONFIG = """
[streams]
segment_bytes = "16 MiB"
retention_bytes = "256 MiB"
"""
_SAMPLE_S = 0.25


@attrs.define
class Curve:
    """Resident memory over time, in bytes."""

    samples: list[tuple[float, int]] = attrs.Factory(list)

    def between(self, first: float, last: float) -> int:
        """The median between two parts (0 to 1) of the time."""
        end = self.samples[-1][0]
        chosen = [rss for at, rss in self.samples if first * end <= at <= last * end]
        return int(statistics.median(chosen))

    @property
    def peak(self) -> int:
        return max(rss for _, rss in self.samples)

    @property
    def growth(self) -> int:
        """From the second quarter, when caches are full, to the last."""
        return self.between(0.75, 1) - self.between(0.25, 0.5)

    def problems(self) -> list[str]:
        found = []
        if self.peak > RSS_BYTES_MAX:
            allowed = f"{RSS_BYTES_MAX / 1e6:.0f}"
            found.append(f"{self.peak / 1e6:.0f} MB resident, allowed are {allowed}")
        short = self.samples[-1][0] < _SHORT_S
        if self.growth > (GROWTH_SHORT_BYTES_MAX if short else GROWTH_BYTES_MAX):
            found.append(f"grew by {self.growth / 1e6:.1f} MB from the second quarter to the last")
        return found

    def figures(self) -> dict[str, Any]:
        """In MB; `curve` has ten points."""
        step = max(1, len(self.samples) // 10)
        return {
            "first_mb": round(self.samples[0][1] / 1e6, 1),
            "second_quarter_mb": round(self.between(0.25, 0.5) / 1e6, 1),
            "last_quarter_mb": round(self.between(0.75, 1) / 1e6, 1),
            "peak_mb": round(self.peak / 1e6, 1),
            "curve_mb": [round(rss / 1e6, 1) for _, rss in self.samples[::step]],
        }


async def run(
    home: Path, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> tuple[list[str], dict[str, Any]]:
    """Overload a daemon in `home` for so long: what is wrong, and the figures."""
    curve, thrown_out = Curve(), Count()
    async with real_daemon(home, CONFIG) as daemon:
        await daemon.start()
        async with streamer.connect(daemon.unix) as client, trio.open_nursery() as nursery:
            await client.stream(STREAM, create=True)
            await nursery.start(_never_ask, client)
            for _ in range(IDLE):
                await nursery.start(sit_idle, str(daemon.socket))
            nursery.start_soon(_never_read, daemon, thrown_out)
            for number, way in enumerate(WAYS):
                nursery.start_soon(_flood, way, daemon.urls[number % 2])
            problems = await _watch(daemon, curve, seconds, tell)
            _, varz = await daemon.get("/varz")
            nursery.cancel_scope.cancel()
        status = await daemon.stop()
    problems += curve.problems()
    if status:
        problems.append(f"exit status {status} after SIGTERM:\n{daemon.log_end()}")
    problems += [f"the daemon logged {error}" for error in daemon.errors()[:5]]
    records, _ = varz["metrics"]["propose_records"]
    figures = {
        "seconds": seconds,
        "records": records["value"],
        "connections": varz["connections"],
        "thrown_out": thrown_out.value,
        **curve.figures(),
    }
    return problems, figures


@attrs.define
class Count:
    value: int = 0


async def _watch(
    daemon: RealDaemon, curve: Curve, seconds: float, tell: Callable[[str], None]
) -> list[str]:
    """Sample memory, and ask for health now and then; what was wrong with that."""
    problems: list[str] = []
    began = told = trio.current_time()
    while (now := trio.current_time()) < began + seconds:
        curve.samples.append((now - began, daemon.rss_bytes()))
        if now > told + 10:
            told = now
            status, health = await daemon.get("/healthz")
            if status != 200:
                problems.append(f"after {now - began:.0f} s: {health}")
            tell(f"{now - began:.0f} s: {curve.samples[-1][1] / 1e6:.1f} MB, health {status}")
        await trio.sleep(_SAMPLE_S)
    return problems


async def _flood(way: str, url: str) -> None:
    """A producer process, ended with the scope; if it ends before, that is an error."""
    command = [sys.executable, "-m", "tests.faults.flood", way, url]
    await trio.run_process(command, check=True)
    raise AssertionError(f"the producer {way!r} ended")


async def _never_ask(
    client: streamer.Client, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """A reader that never asks for a batch."""
    async with client.reader(STREAM):
        task_status.started()
        await trio.sleep_forever()


async def _never_read(daemon: RealDaemon, thrown_out: Count) -> None:
    """A peer that takes all the credit there is and reads nothing, again and again."""
    while True:
        async with await subscribe_and_never_read(str(daemon.socket), STREAM) as peer:
            await hung_up(peer)
        thrown_out.value += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.soak", description="overload")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    home: Path = given.home or Path(tempfile.mkdtemp(prefix="streamer-soak-"))
    home.mkdir(parents=True, exist_ok=True)

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    problems, figures = trio.run(run, home, given.seconds, tell)
    for problem in problems:
        tell(problem)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if problems:
        tell(f"left in {home}")
        return 1
    if not given.home:
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
