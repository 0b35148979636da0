"""Fail the n-th call of a fixed script, for every n: nothing that was promised is broken (G7).

`Life` in conftest.py says what is promised, and looks after every step.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any

import pytest

from streamer.testing.memory_files import MemoryFiles

SETTINGS = {
    "segment_bytes": 900,
    "index_bytes": 200,
    "retention_bytes": 1200,
    "checkpoint_records": 4,
    "rewrite_whole_bytes": 300,
}

#: What the process does, step by step. Every kind of call is in it, and every kind of plan.
SCRIPT: list[Callable[[Any], None]] = [
    lambda life: life.append(1),
    lambda life: life.append(3, 2),
    lambda life: life.append_grouped([1, 2, 0, 2]),
    lambda life: life.append(2, sync=False),
    lambda life: life.append(1, sync=False, producer=2),
    lambda life: life.sync(),
    lambda life: life.append(5),
    lambda life: life.append(1, sync=False),
    lambda life: life.append(4, 4, sync=False),
    lambda life: life.append(1),
    lambda life: life.retain(12),
    lambda life: (life.close(), life.start()),
    lambda life: life.append(2),
    lambda life: life.append_grouped([3, 1]),
    lambda life: (life.kill(), life.start()),
    lambda life: life.append(1),
    lambda life: (life.append(3), life.append(3), life.retain(None)),
    lambda life: (life.close(), life.start()),
]


def run(life: Any, rng: random.Random | None, *, hasty: bool = False) -> None:
    """Run the script; where the process ends, the next one goes on with the next step. `rng` cuts
    the power at each end, None kills the process. With `hasty` the next one appends at once, and
    then the power is cut: a start must have made durable whatever it builds on."""
    steps = [lambda life: life.start(), *SCRIPT]
    for step in steps:
        try:
            step(life)
        except life.Restart:
            restart(life, rng)
            if hasty:
                life.append(1)
                life.power_cut(random.Random(len(life.content)))
                life.start()


def restart(life: Any, rng: random.Random | None) -> None:
    while True:
        if rng is None:
            life.kill()
        else:
            life.power_cut(rng)
        try:
            life.start()
        except life.Restart:
            continue
        return


def finish(life: Any) -> None:
    """After all faults: appends work, and all is there after a last power cut."""
    life.files.heal()
    life.files.capacity_bytes = 2**40
    rng = random.Random(1)
    life.append(1)
    life.sync()
    life.power_cut(rng)
    life.start()
    life.append(2)
    assert life.durable == len(life.content)
    life.power_cut(rng)
    life.start()
    life.close()
    life.start()


@pytest.fixture
def calls(make_life: Callable[..., Any]) -> int:
    """How many calls the script makes when nothing fails."""
    life = make_life(MemoryFiles(), **SETTINGS)
    run(life, None)
    finish(life)
    assert life.log.segment_count > 2
    assert life.log.first_offset > 0
    operations = {line.split()[0] for line in life.files.trace}
    assert operations >= {"read", "write", "sync", "create", "open", "rename", "unlink", "sync_dir"}
    return int(life.files.calls)


def at_call(life: Any, number: int) -> int:
    """The `number`th call of the script."""
    return int(life.files.calls) + number


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize("power", [False, True])
def test_the_nth_call_fails(
    make_life: Callable[..., Any], calls: int, error: int, power: bool
) -> None:
    for number in range(calls):
        life = make_life(MemoryFiles(), **SETTINGS)
        life.files.fail_call(at_call(life, number), error)
        run(life, random.Random(number) if power else None)
        finish(life)


@pytest.mark.parametrize("hasty", [False, True])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_the_process_or_the_power_ends_at_the_nth_call(
    make_life: Callable[..., Any], calls: int, seed: int | None, hasty: bool
) -> None:
    for number in range(calls):
        rng = None if seed is None else random.Random(f"{seed}/{number}")
        life = make_life(MemoryFiles(), **SETTINGS)
        life.files.die_at_call(at_call(life, number), rng)
        # Whatever the model is told: it must not believe that the cache has survived.
        life.power_cuts = seed is not None
        if seed == 3:
            life.files.write_back_with(random.Random(number))
        run(life, rng, hasty=hasty)
        finish(life)


@pytest.mark.parametrize("power", [False, True])
def test_the_disk_is_full_from_the_nth_byte_on(make_life: Callable[..., Any], power: bool) -> None:
    for capacity in range(0, 6000, 29):
        files = MemoryFiles(capacity_bytes=capacity)
        files.write_back_with(random.Random(capacity))
        life = make_life(files, **SETTINGS)
        try:
            life.start()
        except life.Restart:
            files.capacity_bytes = 2**40
            life.start()
        for step in SCRIPT:
            step(life)
        if power:
            life.power_cut(random.Random(capacity))
        else:
            life.kill()
        life.start()
        files.capacity_bytes = 2**40
        finish(life)
