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
from streamer.limits import MIB
from tests.faults.daemon import RealDaemon, real_daemon
from tests.faults.ledger import Ledger
from tests.faults.load import Load, clients, read_log
from tests.faults.mounts import Ext4, Unavailable, ext4

_DISK_BYTES = 256 * MIB
#: One stream for so many cuts: what is read after each cut grows with it.
_CUTS_PER_STREAM = 10
_LOAD_S = 0.5
#: How often a second cut hits the start after the first one, and what recovery takes.
_CUT_STARTING = 0.4
_RECOVERY_S = 0.02

CONFIG = """
[batch]
batch_bytes = "64 KiB"

[streams]
segment_bytes = "{segment_kib} KiB"

[[pipelines]]
[pipelines.persist]
fsync = "{fsync}"
"""


@attrs.define
class Outcome:
    """What the cuts came to."""

    cuts: int = 0
    cuts_starting: int = 0
    acked: int = 0
    #: Cuts after which something that was acked before was gone, or something else was wrong.
    bad_cuts: int = 0
    torn_tails: int = 0
    problems: list[str] = attrs.Factory(list)

    def figures(self) -> dict[str, Any]:
        return {
            "cuts": self.cuts,
            "cuts_while_recovering": self.cuts_starting,
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
        # A roll syncs whatever the policy says, so a rehearsal that must lose has none.
        config = CONFIG.format(fsync=fsync, segment_kib=64 if fsync == "group" else 64 * 1024)
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
    load = Load("cut", 1, random.Random(rng.random()), pause_s=0.001)
    before: list[bytes] = []
    await daemon.start()
    for number in range(cuts):
        try:
            await _cut(daemon, disk, load, rng, number)
        finally:
            await daemon.kill()
        disk.unmount()
        disk.mount()
        if rng.random() < _CUT_STARTING:
            await _cut_starting(daemon, disk, rng)
            outcome.cuts_starting += 1
        await daemon.start()
        async with streamer.connect(daemon.unix) as client:
            [after] = await read_log(client, load.stream, 1)
        problems = load.ledger.judge([after], settled=False)
        if after[: len(before)] != before:
            problems.append(f"G4: of {len(before)} records before the cut some are not the same")
        outcome.cuts += 1
        outcome.problems += problems
        outcome.bad_cuts += bool(problems)
        if problems:
            # What is gone stays gone: the next cuts are to be judged by themselves.
            outcome.acked += load.ledger.acked
            load.ledger = Ledger(first=len(after))
        before = after
    outcome.acked += load.ledger.acked
    await daemon.kill()
    shutil.rmtree(daemon.data)


async def _cut(daemon: RealDaemon, disk: Ext4, load: Load, rng: random.Random, number: int) -> None:
    """Load the daemon, and cut the power: the ledger has what was known just before."""
    load.ledger.frozen = False
    async with clients(daemon.urls) as (unix, websocket), trio.open_nursery() as nursery:
        nursery.start_soon(load.send, unix, f"send-{number}")
        nursery.start_soon(load.send_together, websocket, f"together-{number}", 4)
        nursery.start_soon(load.send_batches, websocket, f"batch-{number}")
        nursery.start_soon(load.post, unix, f"post-{number}", 0)
        nursery.start_soon(load.follow, websocket, f"reader-{number}", 0)
        await load.next_answer()
        await trio.sleep(rng.uniform(0, _LOAD_S))
        # Nobody else runs between these two lines.
        load.ledger.frozen = True
        disk.cut_power()
        nursery.cancel_scope.cancel()


async def _cut_starting(daemon: RealDaemon, disk: Ext4, rng: random.Random) -> None:
    """A second cut, while the daemon recovers from the first: it writes the tail again."""
    await daemon.spawn()
    if await daemon.lock_taken():
        await trio.sleep(rng.uniform(0, _RECOVERY_S))
    disk.cut_power()
    await daemon.kill()
    disk.unmount()
    disk.mount()


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
        sys.exit(f"not possible here: {group.exceptions[0]}")
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
