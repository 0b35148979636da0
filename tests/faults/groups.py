"""Consumer groups under SIGKILL: consumers, the daemon, and members that come and go.

    python -m tests.faults.groups --seconds 120 [--mode shared|ordered|key] [--seed N] [--home DIR]

A producer process sends records with keys; consumer processes handle them as the records say (fail,
hang, take long, die) and are killed at random moments, leave and come back; so does the daemon.
Then everything is left in peace, must drain, and `tests.faults.group_judge` judges what the
processes have noted. It prints its seed, which fixes what is killed when as far as clocks allow,
and its figures as JSON; exit status 1 where something is wrong, and then the directory is left.
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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

import streamer
from streamer.storage.files import RealFiles
from streamer.storage.verify import Finding, verify_directory
from tests.faults.daemon import PATIENCE_S, real_daemon
from tests.faults.group_consumer import GROUP, STREAM, Notes
from tests.faults.group_history import (
    DRIVER_FILE,
    END_FILE,
    parse_value,
    read_history,
)
from tests.faults.group_judge import Verdict, judge
from tests.faults.group_members import (
    MAX_DELIVERIES,
    MODES,
    PARTITIONS,
    Plan,
    Run,
    Slot,
    gone,
    trouble,
)

#: G11: once nothing is killed any more.
DRAIN_S = 60.0

#: Small segments, so that those of the groups' journal roll too.
CONFIG = f"""
[batch]
batch_bytes = "64 KiB"

[streams]
partitions = {PARTITIONS}
segment_bytes = "64 KiB"
index_bytes = "4 KiB"
"""
_POLL_S = 0.05
_SETTLE_S = 0.3


@attrs.define
class Outcome:
    """What a run came to."""

    problems: list[str]
    figures: dict[str, Any]


async def _drained(client: streamer.Client) -> list[dict[str, int]]:
    """Wait until nothing is left to deliver; what is, after `DRAIN_S`."""
    with trio.move_on_after(DRAIN_S):
        while True:
            if not any(sum(left.values()) - left["partition"] for left in await _left(client)):
                break
            await trio.sleep(_POLL_S)
    return await _left(client)


async def _left(client: streamer.Client) -> list[dict[str, int]]:
    """What each partition still has to deliver."""
    details = await client.admin("group", {"stream": STREAM, "group": GROUP})
    names = ("partition", "lag", "in_flight", "retrying")
    return [{name: each[name] for name in names} for each in details["partition_list"]]


async def run(home: Path, plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """The whole of it, in the directory `home`.

    Raises:
        ExceptionGroup: a process could not be started, or the daemon did not come back.
    """
    tell(f"seed {plan.seed}, {plan.mode}, {plan.seconds} s in {home}")
    notes = home / "notes"
    notes.mkdir(parents=True)
    slots = [Slot(f"c{number}") for number in range(plan.consumers)]
    rng = random.Random(f"faults {plan.seed}")
    async with real_daemon(home, CONFIG) as daemon:
        of = Run(plan, daemon, notes, rng, Notes(notes / DRIVER_FILE), slots)
        await daemon.start()
        async with streamer.connect(daemon.unix, reconnect_s=PATIENCE_S) as client:
            await client.stream(STREAM, create=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(of.watch)
                drain_s, left = await _consume(of, client)
                nursery.cancel_scope.cancel()
            end = {"settings": _settings(plan), "left": left, **await _read(client)}
        status = await daemon.stop()
    (notes / END_FILE).write_text(json.dumps(end))
    verdict = judge(read_history(notes))
    return _outcome(of, verdict, end, drain_s, status)


async def _consume(of: Run, client: streamer.Client) -> tuple[float, list[dict[str, int]]]:
    """Everything that happens; how long the drain took, and what was left then."""
    try:
        async with trio.open_nursery() as consumers:
            for slot in of.slots:
                consumers.start_soon(of.keep, slot)
            await trouble(of)
            began = trio.current_time()
            left = await _drained(client)
            drain_s = trio.current_time() - began
            with trio.move_on_after(PATIENCE_S) as patience:
                of.stop_consumers()
                await gone(of.slots)
            if patience.cancelled_caught:
                of.problems.append("consumers did not leave in time after SIGTERM")
                consumers.cancel_scope.cancel()
    finally:
        for slot in of.slots:
            if slot.process is not None:
                slot.process.kill()
    return drain_s, left


def _settings(plan: Plan) -> dict[str, Any]:
    return {"mode": plan.mode, "ack_wait_s": plan.ack_wait_s, "max_deliveries": MAX_DELIVERIES}


async def _read(client: streamer.Client) -> dict[str, Any]:
    """The stream's records and the dead letters, as `group_history` keeps them."""
    log: list[tuple[int, int, str, int, str]] = []
    for number in range(PARTITIONS):
        async with client.reader(STREAM, number, "earliest", follow=False) as reader:
            async for batch in reader:
                for offset, value in enumerate(batch.values, batch.base_offset):
                    log.append((number, offset, *parse_value(value)))
    dead = await _read_dead(client)
    # The group is done with a dead letter a little before it lies where it belongs.
    while True:
        await trio.sleep(_SETTLE_S)
        count, dead = len(dead), await _read_dead(client)
        if len(dead) == count:
            break
    return {"log": log, "dead": dead}


async def _read_dead(client: streamer.Client) -> list[dict[str, Any]]:
    dead: list[dict[str, Any]] = []
    for number in range(await _partitions(client, f"{STREAM}.dead")):
        async with client.reader(f"{STREAM}.dead", number, "earliest", follow=False) as reader:
            async for batch in reader:
                dead += map(_death, batch.records)
    return dead


async def _partitions(client: streamer.Client, stream: str) -> int:
    """How many a stream has; 0 if there is none."""
    try:
        return len((await client.stream(stream)).partitions)
    except streamer.UnknownStream:
        return 0


def _death(record: streamer.Record) -> dict[str, Any]:
    """A dead letter, as `group_history` keeps it: read as it lies, so that none is hidden."""
    assert record.headers is not None
    told = json.loads(record.headers["streamer-dead"])
    key, sequence, _ = parse_value(record.value)
    found = (record.key, told["stream"], told["group"])
    assert found == (key.encode(), STREAM, GROUP), told
    names = ("partition", "offset", "reason", "attempts", "error")
    return {"key": key, "sequence": sequence, **{name: told[name] for name in names}}


def _outcome(
    of: Run, verdict: Verdict, end: dict[str, Any], drain_s: float, status: int
) -> Outcome:
    daemon = of.daemon
    problems = of.problems + verdict.problems
    if status:
        problems.append(f"exit status {status} of the daemon after SIGTERM")
    problems += [f"the daemon logged {error}" for error in daemon.errors()[:5]]
    problems += [
        f"verify: {found}"
        for found in verify_directory(RealFiles(), str(daemon.data))
        if isinstance(found, Finding)
    ]
    figures = {
        "seed": of.plan.seed,
        "mode": of.plan.mode,
        "records": len(end["log"]),
        "dead": dict(Counter(death["reason"] for death in end["dead"])),
        **of.counts,
        "lives": sum(slot.life for slot in of.slots),
        "handled_again": dict(verdict.again),
        "again_after_kill_s": _spread(verdict.redelivered_s),
        "drained_s": round(drain_s, 2),
        "problems": len(problems),
    }
    return Outcome(problems, figures)


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.groups", description="groups and SIGKILL")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--mode", default="shared", choices=MODES)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    home: Path = given.home or Path(tempfile.mkdtemp(prefix="streamer-groups-"))
    home.mkdir(parents=True, exist_ok=True)

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    plan = Plan(given.seconds, given.mode, given.seed)
    outcome = trio.run(partial(run, home, plan, tell))
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
