"""SIGKILL, many times: at any moment under load, at a segment's roll, at an ack, at start-up.

    python -m tests.faults.crash --cycles 1000 [--seed N] [--home DIR] [--fsync interval]

Several producers and a reader of each partition ride through all of it, over WebSocket and a Unix
socket. At the end everything must be acked, and the ledger judges (`tests.faults.ledger`). It
prints its seed, which fixes what is killed when as far as clocks allow, and its figures as JSON;
exit status 1 where something is wrong, and then the directory is left for a look.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

import streamer
from streamer.storage.files import RealFiles
from streamer.storage.verify import Finding, verify_directory
from tests.faults.daemon import PATIENCE_S, RealDaemon, real_daemon
from tests.faults.load import Load, clients, read_log

STREAM = "crash"
PARTITIONS = 2

#: The smallest segments there can be, so that many are rolled.
CONFIG = f"""
[batch]
batch_bytes = "64 KiB"

[streams]
partitions = {PARTITIONS}
segment_bytes = "64 KiB"
index_bytes = "4 KiB"

[[pipelines]]
[pipelines.persist]
fsync = "{{fsync}}"
"""

_SAMPLES = 2000

#: When a cycle kills, and how often.
_MOMENTS = {"any": 4, "roll": 3, "ack": 2, "start": 2, "recovery": 3}
#: How often a write is made to look as if it had been under way: the kernel seldom obliges.
_TEAR = 0.25
#: Importing Python takes most of a start.
_START_S = 0.5
_RECOVERY_S = 0.015
_LOAD_S = 0.5


@attrs.define
class Outcome:
    """What a run came to."""

    problems: list[str]
    figures: dict[str, Any]


@attrs.define(eq=False)
class _Run:
    daemon: RealDaemon
    load: Load
    rng: random.Random
    kills: Counter[str] = attrs.Factory(Counter)
    torn: int = 0
    starts_s: list[float] = attrs.Factory(list)
    #: From ready to the first answer: clients have to notice that it is back.
    resumes_s: list[float] = attrs.Factory(list)

    async def cycle(self) -> None:
        """Start the daemon, and kill it."""
        moment = self.rng.choices([*_MOMENTS], [*_MOMENTS.values()])[0]
        self.kills[moment] += 1
        if moment in ("start", "recovery"):
            await self._kill_starting(moment)
            return
        await self.serve()
        with trio.move_on_after(5):
            if moment == "any":
                await trio.sleep(self.rng.uniform(0, _LOAD_S))
            elif moment == "ack":
                await trio.sleep(self.rng.uniform(0, _LOAD_S / 2))
                await self.load.next_answer()
            else:
                await self._rolled()
        await self.daemon.kill()
        if self.rng.random() < _TEAR:
            self._tear()

    def _tear(self) -> None:
        """Leave part of a write behind, as a kill in the middle of a large one does."""
        partition = self.rng.randrange(PARTITIONS)
        last = self.daemon.segments(STREAM, partition)[-1]
        begun = last.read_bytes()[: self.rng.randint(1, 3000)]
        with last.open("ab") as file:
            file.write(self.rng.choice([begun, begun[::-1]]))
        self.torn += 1

    async def _kill_starting(self, moment: str) -> None:
        daemon = self.daemon
        await daemon.spawn()
        if moment == "start":
            await trio.sleep(self.rng.uniform(0, _START_S))
        elif await daemon.lock_taken():
            await trio.sleep(self.rng.uniform(0, _RECOVERY_S))
        await daemon.kill()

    async def _rolled(self) -> None:
        """Wait until a segment was begun, and a moment longer."""
        before = self._segments()
        while True:
            if self._segments() > before:
                break
            await trio.sleep(0.0005)
        await trio.sleep(self.rng.choice([0, self.rng.uniform(0, 0.003)]))

    def _segments(self) -> int:
        return sum(len(self.daemon.segments(STREAM, number)) for number in range(PARTITIONS))

    async def serve(self) -> None:
        """Start the daemon, and wait until a producer has been answered."""
        await self.daemon.start()
        self.starts_s.append(self.daemon.start_s)
        before, began = self.load.answers, trio.current_time()
        with trio.fail_after(PATIENCE_S):
            while self.load.answers == before:
                await self.load.next_answer()
        self.resumes_s.append(trio.current_time() - began)


async def run(
    home: Path,
    cycles: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
    *,
    fsync: str = "group",
) -> Outcome:
    """The whole of it, in the directory `home`. What was written survives its process, so
    without a sync nothing else is to be seen.

    Raises:
        ExceptionGroup: a client gave up, or the daemon did not come back.
    """
    tell(f"seed {seed}, {cycles} cycles in {home}")
    load = Load(STREAM, PARTITIONS, random.Random(f"load {seed}"))
    async with real_daemon(home, CONFIG.format(fsync=fsync)) as daemon:
        of = _Run(daemon, load, random.Random(f"kills {seed}"))
        await daemon.start()
        async with (
            clients([daemon.urls[0], daemon.urls[1], daemon.urls[0]]) as found,
            trio.open_nursery() as readers,
        ):
            unix, websocket, watching = found
            # From here on what the daemon groups can only be read back with a dictionary.
            await unix.stream(STREAM, create=True)
            await unix.train_dictionary(STREAM, load.values("sample", 0, _SAMPLES))
            for partition in range(PARTITIONS):
                client = (watching, websocket)[partition % 2]
                readers.start_soon(load.follow, client, f"reader-{partition}", partition)
            async with trio.open_nursery() as producers:
                _start_producers(load, unix, websocket, producers)
                await daemon.kill()
                for number in range(1, cycles + 1):
                    await of.cycle()
                    if number % 50 == 0:
                        tell(f"{number} cycles, {load.ledger.acked} records acked")
                    if load.ledger.problems:
                        break
                await of.serve()
                load.stop()
            log = await read_log(watching, STREAM, PARTITIONS)
            with trio.fail_after(PATIENCE_S):
                await load.caught_up([len(values) for values in log])
            readers.cancel_scope.cancel()
        status = await daemon.stop()
    return _outcome(of, log, status, seed)


def _start_producers(
    load: Load, unix: streamer.Client, websocket: streamer.Client, nursery: trio.Nursery
) -> None:
    nursery.start_soon(load.send, unix, "send-unix")
    nursery.start_soon(load.send, websocket, "send-ws")
    nursery.start_soon(load.send_together, websocket, "together-ws", 4)
    nursery.start_soon(partial(load.send_together, unix, "dictionary", 2, dictionary=True))
    nursery.start_soon(load.compare_and_set, unix, "compare-unix", 0)
    nursery.start_soon(load.compare_and_set, websocket, "compare-ws", 1)
    nursery.start_soon(load.send_batches, unix, "batch-unix")
    nursery.start_soon(load.send_batches, websocket, "batch-ws")
    nursery.start_soon(load.post, unix, "post-unix", 0)
    nursery.start_soon(load.post, websocket, "post-ws", 1)
    nursery.start_soon(load.resume, unix, "resume-unix", 1)
    nursery.start_soon(load.resume, websocket, "resume-ws", 0)


def _outcome(of: _Run, log: list[list[bytes]], status: int, seed: int) -> Outcome:
    daemon, ledger = of.daemon, of.load.ledger
    problems = ledger.judge(log)
    if status:
        problems.append(f"exit status {status} after SIGTERM")
    problems += [f"the daemon logged {error}" for error in daemon.errors()[:5]]
    findings = [
        found for found in verify_directory(RealFiles(), str(daemon.data))
        if isinstance(found, Finding)
    ]  # fmt: skip
    problems += [f"verify: {found}" for found in findings]
    events = Counter(event.get("event") for event in daemon.events())
    figures = {
        "seed": seed,
        "kills": dict(of.kills),
        "records_acked": ledger.acked,
        "records_in_log": sum(map(len, log)),
        "duplicates_told": ledger.duplicates,
        "writes_torn": of.torn,
        "torn_tails_cut": events["torn tail cut"],
        "segments": sum(len(daemon.segments(STREAM, n)) for n in range(PARTITIONS)),
        "start_s": _spread(of.starts_s),
        "first_answer_s": _spread(of.resumes_s),
        "problems": len(problems),
    }
    return Outcome(problems, figures)


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.crash", description="SIGKILL cycles")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--home", type=Path)
    parser.add_argument("--fsync", default="group", choices=["group", "interval", "never"])
    given = parser.parse_args()
    home: Path = given.home or Path(tempfile.mkdtemp(prefix="streamer-crash-"))
    home.mkdir(parents=True, exist_ok=True)

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    outcome = trio.run(partial(run, home, given.cycles, given.seed, tell, fsync=given.fsync))
    for problem in outcome.problems:
        tell(problem)
    sys.stdout.write(json.dumps(outcome.figures, indent=2) + "\n")
    if outcome.problems:
        tell(f"left in {home}")
        return 1
    if not given.home:
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
