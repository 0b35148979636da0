"""Power cuts on a real ext4, many times: nothing acked may be gone after one.

    python -m tests.faults.power --cuts 200 [--seed N] [--control]

The file system is on a loop mount, and the power cut is the shutdown ioctl without a flush of the
journal: what has not been synced is gone, as after a real cut on a disk that keeps its promises.
Needs root. Rules:

- What counts is what was acked before the ioctl was called. A sync that runs at that moment may
  return success falsely, which no real power cut lets anybody see.
- `--control` runs the same with `fsync = "never"`, and must lose records: a rehearsal in which
  nothing can be lost shows nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import trio

import streamer
from streamer.errors import StreamerError
from streamer.limits import MIB
from tests.faults.daemon import RealDaemon, real_daemon
from tests.faults.load import Load, clients, read_log
from tests.faults.mounts import Ext4, Unavailable, ext4

_DISK_BYTES = 256 * MIB
#: One stream for so many cuts: what is read after each cut grows with it.
_CUTS_PER_STREAM = 10
_LOAD_S = 0.5

CONFIG = """
[batch]
batch_bytes = "64 KiB"

[streams]
segment_bytes = "64 KiB"
index_bytes = "4 KiB"

[[pipelines]]
[pipelines.persist]
fsync = "{fsync}"
"""


@attrs.define
class Outcome:
    """What the cuts came to."""

    cuts: int = 0
    acked: int = 0
    #: Cuts after which something that was acked before was gone, or something else was wrong.
    bad_cuts: int = 0
    torn_tails: int = 0
    problems: list[str] = attrs.Factory(list)

    def figures(self) -> dict[str, Any]:
        return {
            "cuts": self.cuts,
            "records_acked_before_cuts": self.acked,
            "bad_cuts": self.bad_cuts,
            "torn_tails_cut": self.torn_tails,
        }


async def run(
    home: Path,
    cuts: int,
    seed: int,
    *,
    fsync: str = "group",
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Cut the power so often.

    Raises:
        Unavailable: this machine cannot do that.
    """
    tell(f"seed {seed}, {cuts} cuts in {home}")
    rng = random.Random(f"cuts {seed}")
    outcome = Outcome()
    with ExitStack() as stack:
        disk = stack.enter_context(ext4(home, _DISK_BYTES))
        config = CONFIG.format(fsync=fsync)
        async with real_daemon(home, config, data=disk.path / "data") as daemon:
            while outcome.cuts < cuts:
                left = min(cuts - outcome.cuts, _CUTS_PER_STREAM)
                await _cuts_of_one_stream(daemon, disk, rng, left, outcome)
                tell(json.dumps(outcome.figures()))
        events = [event.get("event") for event in daemon.events()]
        outcome.torn_tails = events.count("torn tail cut")
    return outcome


async def _cuts_of_one_stream(
    daemon: RealDaemon, disk: Ext4, rng: random.Random, cuts: int, outcome: Outcome
) -> None:
    """Starts and ends without a daemon, on an empty directory."""
    log: list[bytes] = []
    stream = f"cut-{outcome.cuts}"
    await daemon.start()
    for _ in range(cuts):
        load = Load(stream, 1, random.Random(rng.random()), pause_s=0.001)
        try:
            judged = await _one_cut(daemon, disk, rng, load)
        finally:
            await daemon.kill()
        disk.unmount()
        disk.mount()
        await daemon.start()
        async with streamer.connect(daemon.unix) as client:
            after = await read_log(client, stream, 1)
        outcome.cuts += 1
        outcome.acked += judged.ledger.acked
        problems = _judge(judged, log, after[0])
        outcome.problems += problems
        outcome.bad_cuts += bool(problems)
        log = after[0]
    await daemon.kill()
    shutil.rmtree(daemon.data)


async def _one_cut(daemon: RealDaemon, disk: Ext4, rng: random.Random, load: Load) -> Load:
    """Load the daemon and cut the power: what was known just before."""
    async with clients(daemon.urls) as (unix, websocket), trio.open_nursery() as nursery:
        names = [f"{load.rng.getrandbits(40):x}" for _ in range(4)]
        nursery.start_soon(load.send, unix, names[0])
        nursery.start_soon(load.send_together, websocket, names[1], 4)
        nursery.start_soon(load.send_batches, websocket, names[2])
        nursery.start_soon(load.post, unix, names[3], 0)
        await load.next_answer()
        await trio.sleep(rng.uniform(0, _LOAD_S))
        # No checkpoint from here to the cut: no ack can be read in between.
        disk.cut_power()
        known = load.frozen()
        nursery.cancel_scope.cancel()
    return known


def _judge(load: Load, before: list[bytes], after: list[bytes]) -> list[str]:
    """What of this cut's acks, and of what was there before it, is not there."""
    problems = []
    if after[: len(before)] != before:
        problems.append(f"G4: of {len(before)} records before the cut some are gone or changed")
    return problems + load.ledger.judge([after], settled=False, others=len(before))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.power", description="power cuts")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--control", action="store_true", help="without fsync; must lose")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="streamer-power-"))

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    fsync = "never" if given.control else "group"
    try:
        outcome = trio.run(_main, home, given.cuts, given.seed, fsync, tell)
    except* Unavailable as group:
        sys.exit(f"not possible here: {group.exceptions}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for problem in outcome.problems[:20]:
        tell(problem)
    sys.stdout.write(json.dumps(outcome.figures(), indent=2) + "\n")
    if given.control:
        return 0 if outcome.bad_cuts * 2 >= outcome.cuts else 1
    return 1 if outcome.bad_cuts else 0


async def _main(
    home: Path, cuts: int, seed: int, fsync: str, tell: Callable[[str], None]
) -> Outcome:
    return await run(home, cuts, seed, fsync=fsync, tell=tell)


if __name__ == "__main__":
    sys.exit(main())


__all__ = ["Outcome", "StreamerError", "run"]
