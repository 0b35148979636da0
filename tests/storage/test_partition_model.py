"""A log against a list, under whatever hypothesis does to it; the list is `Life` in conftest.py."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.testing.memory_files import MemoryFiles

OPERATIONS = ["write", "sync", "sync_dir", "create", "open", "rename", "unlink", "truncate", "read"]

sizes = st.lists(st.integers(1, 6), min_size=1, max_size=4)
seeds = st.integers(0, 2**16)
steps = st.one_of(
    st.tuples(st.just("append"), sizes, st.booleans(), st.integers(1, 3)),
    st.tuples(st.just("append"), sizes, st.just(True), st.integers(1, 3)),
    st.tuples(st.just("group"), st.lists(st.integers(0, 3), min_size=1, max_size=8), st.booleans()),
    st.tuples(st.just("sync")),
    st.tuples(st.just("retain"), st.none() | st.integers(0, 60)),
    st.tuples(st.just("close")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("power"), seeds),
    st.tuples(st.just("evict")),
    st.tuples(
        st.just("fail"),
        st.sampled_from(OPERATIONS),
        st.sampled_from([errno.EIO, errno.ENOSPC, errno.EMFILE]),
    ),
    st.tuples(st.just("die"), st.integers(0, 40), st.none() | seeds),
    st.tuples(st.just("capacity"), st.integers(0, 3000)),
    st.tuples(st.just("room")),
    st.tuples(st.just("write back"), seeds),
)


def take(life: Any, step: tuple[Any, ...]) -> None:
    kind, *arguments = step
    files = life.files
    if kind == "append":
        life.append(*arguments[0], sync=arguments[1], producer=arguments[2])
    elif kind == "group":
        life.append_grouped(arguments[0], sync=arguments[1])
    elif kind == "sync":
        life.sync()
    elif kind == "retain":
        life.retain(arguments[0])
    elif kind == "close":
        life.close()
        life.start()
    elif kind == "kill":
        life.kill()
        life.start()
    elif kind == "power":
        life.power_cut(random.Random(arguments[0]))
        life.start()
    elif kind == "evict":
        files.evict()
        # After a failed sync, what was only in the cache may be gone with its process.
        life.power_cuts += 1
        life.check()
    elif kind == "fail":
        files.fail_next(arguments[0], arguments[1])
    elif kind == "die":
        number, seed = arguments
        life.dies_by_power = life.dies_by_power or seed is not None
        files.die_at_call(files.calls + number, None if seed is None else random.Random(seed))
    elif kind == "write back":
        files.write_back_with(random.Random(arguments[0]))
    elif kind == "capacity":
        files.capacity_bytes = files.used_bytes() + arguments[0]
    else:
        files.capacity_bytes = 2**40


def restart(life: Any, seed: int) -> None:
    """Begin again, whatever it takes: with faults armed it may take several processes."""
    for attempt in range(1000):
        # A planned death may have cut the power, so the cache is not known to have survived.
        life.power_cuts += life.dies_by_power
        if attempt % 2:
            life.power_cut(random.Random(f"{seed}/{attempt}"))
        else:
            life.kill()
        if attempt > 20:
            life.files.heal()
            life.files.capacity_bytes = 2**40
        try:
            life.start()
        except life.Restart:
            continue
        return


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    plan=st.lists(steps, max_size=40),
    seed=seeds,
    segment_bytes=st.sampled_from([1, 700, 3000, 10**6]),
    index_bytes=st.sampled_from([1, 300, 10**6]),
    retention_bytes=st.sampled_from([0, 1000]),
    checkpoint_records=st.sampled_from([1, 7, 1000]),
    rewrite_whole_bytes=st.sampled_from([0, 600, 10**6]),
)
@example(
    plan=[("append", [3, 3], True, 1), ("fail", "sync", errno.EIO), ("append", [1], True, 1)],
    seed=0,
    segment_bytes=1,
    index_bytes=1,
    retention_bytes=0,
    checkpoint_records=1,
    rewrite_whole_bytes=0,
)
# A sync fails, the next process has no room to write the tail again, and its pages leave the cache
# before it has: what was appended behind them was lost with them at the next start.
@example(
    plan=[
        ("group", [3, 3, 1, 2, 0, 2, 0, 2], False),
        ("fail", "sync", errno.ENOSPC),
        ("capacity", 158),
        ("append", [6, 6], True, 1),
        ("evict",),
        ("room",),
        ("append", [3, 5, 2, 3], True, 2),
    ],
    seed=40244,
    segment_bytes=3000,
    index_bytes=300,
    retention_bytes=1000,
    checkpoint_records=1000,
    rewrite_whole_bytes=0,
)
# What a full disk took of the first append is cut off, and that sync fails: the file is empty in
# the cache and not on the disk, and a power cut brought back what a start had said was not there.
@example(
    plan=[
        ("write back", 3),
        ("capacity", 300),
        ("fail", "sync", errno.EIO),
        ("append", [1, 1, 1, 1], True, 1),
        ("room",),
        ("power", 4),
    ],
    seed=0,
    segment_bytes=10**6,
    index_bytes=300,
    retention_bytes=0,
    checkpoint_records=1000,
    rewrite_whole_bytes=0,
)
# The same with a next start that has no room to write the tail again: until it is written, what was
# cut off in the cache alone may come back. That is no fault of the log, the model did not know it.
@example(
    plan=[
        ("die", 1, None),
        ("group", [3, 2, 1], False),
        ("die", 29, 38511),
        ("fail", "sync", errno.ENOSPC),
        ("append", [1, 2, 6], False, 3),
        ("write back", 47798),
        ("sync",),
        ("group", [0, 3, 1], False),
        ("close",),
        ("capacity", 229),
        ("fail", "sync", errno.ENOSPC),
        ("append", [1, 2, 5, 1], False, 1),
        ("die", 0, 37948),
        ("group", [1, 2, 2], False),
    ],
    seed=8922,
    segment_bytes=3000,
    index_bytes=1,
    retention_bytes=0,
    checkpoint_records=7,
    rewrite_whole_bytes=600,
)
def test_a_log_is_a_list(
    make_life: Callable[..., Any], plan: list[tuple[Any, ...]], seed: int, **sizes: int
) -> None:
    life = make_life(MemoryFiles(), **sizes)
    life.dies_by_power = False
    life.start()
    for step in plan:
        try:
            take(life, step)
        except life.Restart:
            restart(life, seed)
    life.files.heal()
    life.files.capacity_bytes = 2**40
    life.kill()
    life.power_cuts += life.dies_by_power
    life.start()
    life.append(2)
    life.sync()
    life.power_cut(random.Random(seed))
    life.start()
    life.close()
    life.start()
