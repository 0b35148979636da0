"""The disk thread: real threads and so the real clock; jobs are short."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from streamer.pipeline.disk import InlineDisk, PooledDisk, make_looker, open_disk


async def test_jobs_run_in_one_thread_that_ends_with_the_block() -> None:
    async with open_disk("test") as disk:
        first = await disk.run(threading.current_thread)
        second = await disk.run(threading.current_thread)
    assert first is second
    assert first is not threading.current_thread()
    assert not first.is_alive()


async def test_what_a_job_raises_comes_out_and_the_next_one_runs() -> None:
    def fail() -> None:
        raise OSError(28, "no room")

    async with open_disk("test") as disk:
        with pytest.raises(OSError, match="no room"):
            await disk.run(fail)
        assert await disk.run(lambda: 5) == 5


async def test_a_cancelled_caller_waits_for_its_job() -> None:
    go, ran = threading.Event(), []

    def job() -> None:
        go.wait()
        ran.append("job")

    async with open_disk("test") as disk, trio.open_nursery() as nursery:
        nursery.start_soon(disk.run, job)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await trio.lowlevel.cancel_shielded_checkpoint()
        assert not ran
        go.set()
    assert ran == ["job"]


async def test_a_caller_cancelled_before_its_turn_has_not_run() -> None:
    go, ran = threading.Event(), []

    async with open_disk("test") as disk, trio.open_nursery() as nursery:
        nursery.start_soon(disk.run, go.wait)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await disk.run(lambda: ran.append("second"))
        go.set()
    assert not ran


async def test_jobs_run_in_the_order_of_the_calls() -> None:
    ran: list[int] = []
    async with open_disk("test") as disk, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(disk.run, lambda number=number: ran.append(number))
            await trio.lowlevel.checkpoint()
    assert sorted(ran) == list(range(20))


@pytest.mark.parametrize("make", [InlineDisk, lambda: PooledDisk(2), make_looker])
async def test_the_other_disks_run_jobs_too(make: type[InlineDisk]) -> None:
    assert await make().run(lambda: 5) == 5
