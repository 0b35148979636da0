"""What keeps the deliver stage running: crashes, slow starts, ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from streamer.errors import DiskFull, PipelineDown
from streamer.pipeline.deliver import Joined
from streamer.pipeline.delivering import Delivering

Clock = trio.testing.MockClock


class Fake:
    """A stage that starts, fails and ends as it is told to."""

    def __init__(self) -> None:
        self.made = 0
        self.made_again = trio.Event()
        self.starts_after_s = 0.0
        self.cannot_start: Exception | None = None
        self.sick: list[str] | Exception = []
        self.closed = 0
        self._fault = trio.Event()
        self._closing = trio.Event()
        self._error: Exception = RuntimeError("broken")

    def make(self) -> Fake:
        self.made += 1
        self.made_again.set()
        self._fault, self._closing = trio.Event(), trio.Event()
        return self

    def fail(self, error: Exception) -> None:
        self.made_again = trio.Event()
        self._error = error
        self._fault.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.sleep(self.starts_after_s)
        if self.cannot_start is not None:
            raise self.cannot_start
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._break)
            await self._closing.wait()
            nursery.cancel_scope.cancel()

    async def _break(self) -> None:
        await self._fault.wait()
        raise self._error

    def close(self) -> None:
        self.closed += 1
        self._closing.set()

    def join(
        self, port: Any, stream: str, group: str, options: Mapping[str, Any], answer: Any
    ) -> None:
        answer(DiskFull(f"{stream} {group} {dict(options)}"))

    async def ask(self, verb: str, args: dict[str, Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return [verb, args]

    def health(self) -> list[str]:
        if isinstance(self.sick, Exception):
            raise self.sick
        return self.sick


def joined(delivering: Delivering) -> Joined:
    found: list[Joined] = []
    delivering.join(None, "s", "g", {"a": 1}, found.append)  # type: ignore[arg-type]
    (answer,) = found
    return answer


@pytest.fixture(autouse=True)
def logs() -> Any:
    with structlog.testing.capture_logs() as found:
        yield found


async def test_all_goes_to_the_stage(autojump_clock: Clock) -> None:
    fake = Fake()
    delivering = Delivering(fake.make)
    async with trio.open_nursery() as nursery:
        await nursery.start(delivering.run)
        assert isinstance(joined(delivering), DiskFull)
        assert await delivering.ask("lag", {"stream": ""}) == ["lag", {"stream": ""}]
        assert delivering.health() == []
        fake.sick = ["it has a cold"]
        assert delivering.health() == ["it has a cold"]
        fake.sick = KeyError("cold")
        (reason,) = delivering.health()
        assert reason == "the health of consumer groups is unknown: KeyError: 'cold'"
        delivering.close()
    assert (fake.made, fake.closed) == (1, 1)


async def test_a_crash_ends_nothing_else(autojump_clock: Clock) -> None:
    fake = Fake()
    delivering = Delivering(fake.make)
    async with trio.open_nursery() as nursery:
        await nursery.start(delivering.run)
        pauses = []
        for number in range(1, 9):
            fake.fail(ValueError(f"fault {number}"))
            await trio.sleep(0.1)
            assert isinstance(joined(delivering), PipelineDown)
            with pytest.raises(PipelineDown):
                await delivering.ask("lag", {})
            assert f"fault {number}" in delivering.down
            assert delivering.health() == []
            down_at = trio.current_time()
            with trio.fail_after(40.0):
                await fake.made_again.wait()
            pauses.append(trio.current_time() - down_at)
            await trio.sleep(0.1)
            assert delivering.down == ""
        assert pauses[0] < 1.0
        assert pauses == sorted(pauses)
        assert 25.0 < pauses[-1] <= 31.0
        # Once it has gone well for long, the pause is short again.
        await trio.sleep(60.0)
        fake.fail(ValueError("late"))
        await trio.sleep(1.0)
        assert delivering.down == ""
        delivering.close()


async def test_a_first_start_that_fails(autojump_clock: Clock) -> None:
    fake = Fake()
    fake.cannot_start = ValueError("not yet")
    delivering = Delivering(fake.make)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(1.0):
            await nursery.start(delivering.run)
        assert "not yet" in delivering.down
        assert isinstance(joined(delivering), PipelineDown)
        fake.cannot_start = None
        await trio.sleep(5.0)
        assert delivering.down == ""
        delivering.close()


async def test_a_start_that_takes_long(autojump_clock: Clock) -> None:
    """The daemon does not wait for it."""
    fake = Fake()
    fake.starts_after_s = 100.0
    delivering = Delivering(fake.make)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60.0):
            await nursery.start(delivering.run)
        assert isinstance(joined(delivering), PipelineDown)
        await trio.sleep(101.0)
        assert isinstance(joined(delivering), DiskFull)
        delivering.close()
    assert fake.made == 1


@pytest.mark.parametrize("when_s", [0.0, 0.1, 50.0])
async def test_closed_whenever(autojump_clock: Clock, when_s: float) -> None:
    """While it starts, while it waits for another start, or at once: it ends."""
    for fails, starts_after_s in ((True, 0.0), (False, 100.0), (False, 0.0)):
        fake = Fake()
        fake.starts_after_s = starts_after_s
        if fails:
            fake.cannot_start = ValueError("never")
        delivering = Delivering(fake.make)
        with trio.fail_after(when_s + 60.0):
            async with trio.open_nursery() as nursery:
                await nursery.start(delivering.run)
                await trio.sleep(when_s)
                delivering.close()
        made = fake.made
        await trio.sleep(100.0)
        assert fake.made == made
