"""The process round the daemon: signals, reloads, exit statuses.

`_main` runs in this process, with real signals, files and a Unix socket; the clock is real and the
bounds are short. Whole processes are in `tests/faults`.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from streamer.config import Config
from streamer.config_load import structure_config
from streamer.daemon.logs import Logs
from streamer.daemon.main import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_STOPPED_AT_ONCE,
    _main,
    run_daemon,
)
from streamer.daemon.notify import Notifier
from streamer.errors import ConfigError, DirectoryLocked
from streamer.pipeline.registry import Registry
from streamer.transport import RawTransport
from streamer.wire import frames
from tests.site import Peer

REGISTRY = Registry.installed()
PATIENCE_S = 15.0


class Recorder(Notifier):
    """What the service manager is told."""

    def __init__(self) -> None:
        super().__init__(None)
        self.told: list[str] = []

    def _send(self, state: str, status: str) -> bool:
        self.told.append(state.partition("\n")[0] or status)
        return True


class Process:
    """`_main`, as if it were a process of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree: dict[str, Any] = {
            "daemon": {"data": f"{path}/data", "listen": [f"unix:{path}/sock"], "http": ""},
            "log": {"format": "json"},
        }
        self.out = io.StringIO()
        self.notifier = Recorder()
        self.status: int | None = None
        self.load: Callable[[], Config] = lambda: structure_config(self.tree, REGISTRY, "x.toml")

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [found for found in self.events if found["event"] == event]

    async def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for a line of the log."""
        with trio.fail_after(PATIENCE_S):
            while len(self.logged(event)) < count:  # noqa: ASYNC110 - a log has no event
                await trio.sleep(0.005)
        return self.logged(event)

    def signal(self, number: signal.Signals) -> None:
        os.kill(os.getpid(), number)

    async def run(self) -> None:
        config = self.load()
        with Logs(config.log, self.out) as logs:
            self.status = await _main(config, self.load, lambda _: 74, logs, self.notifier)

    async def peer(self) -> Peer:
        stream = await trio.open_unix_socket(f"{self.path}/sock")
        peer = Peer(RawTransport(stream, 1 << 21), stream)
        await peer.greet()
        return peer


@asynccontextmanager
async def started(path: Path) -> AsyncGenerator[Process, None]:
    """A process that serves; leaving waits for its end."""
    process = Process(path)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run)
            await process.until("serving")
            yield process


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


# --------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(tmp_path: Path, number: signal.Signals) -> None:
    async with started(tmp_path) as process:
        peer = await process.peer()
        assert isinstance(await peer.produce([b"a"]), frames.Acks)
        process.signal(number)
        assert [type(frame) for frame in await peer.ended()] == [frames.Goodbye]
    assert process.status == EXIT_OK
    assert process.logged("going down")[0]["signal"] == number.name
    assert process.logged("stopped")
    assert process.notifier.told == ["READY=1", "STOPPING=1"]
    assert not (tmp_path / "sock").exists()


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    async with started(tmp_path) as process:
        peer = await process.peer()
        assert isinstance(await peer.produce([b"acked"]), frames.Acks)
        # A connection that has not greeted holds the drain up for its handshake.
        silent = await trio.open_unix_socket(f"{tmp_path}/sock")
        await trio.sleep(0.05)
        process.signal(signal.SIGTERM)
        await process.until("draining")
        process.signal(signal.SIGTERM)
        began = trio.current_time()
    assert trio.current_time() - began < 3
    assert process.status == EXIT_STOPPED_AT_ONCE
    assert process.logged("stopping at once")
    assert not process.logged("stopped")
    await silent.aclose()
    await peer.stream.aclose()
    # The directory is free, and what was acked is there.
    async with started(tmp_path) as again:
        peer = await again.peer()
        fetched = await peer.fetch()
        assert isinstance(fetched, frames.Fetched)
        assert fetched.high_water == 1
        again.signal(signal.SIGTERM)
        await peer.ended()
    assert again.status == EXIT_OK


async def test_a_hangup_reads_the_configuration_again(tmp_path: Path) -> None:
    async with started(tmp_path) as process:
        process.tree["streams"] = {"auto_create": False, "producers": 7}
        process.tree["log"]["level"] = "debug"
        process.signal(signal.SIGHUP)
        await process.until("configuration read again")
        changed = {line["key"] for line in process.logged("setting changed")}
        assert changed == {"streams.auto_create", "log.level"}
        (refused,) = process.logged("setting needs a restart")
        assert (refused["key"], refused["level"]) == ("streams.producers", "warning")
        peer = await process.peer()
        answer = await peer.produce([b"a"], "new")
        assert isinstance(answer, frames.Failed)
        assert answer.code == "unknown_stream"
        # Faults leave everything as it is, and are named, each.
        process.tree["streams"] = {"auto_create": "yes", "produsers": 1}
        process.signal(signal.SIGHUP)
        await process.until("configuration not taken over", 2)
        faults = [line["fault"] for line in process.logged("configuration not taken over")]
        assert any("x.toml: streams.auto_create" in fault for fault in faults)
        assert any("produsers" in fault for fault in faults)
        # The level that was taken over is in force: it goes on from there.
        process.tree["streams"] = {"auto_create": True, "producers": 7}
        process.signal(signal.SIGHUP)
        await process.until("configuration read again", 2)
        assert isinstance(await peer.produce([b"a"], "new"), frames.Acks)
        process.signal(signal.SIGTERM)
        await peer.ended()
    assert process.status == EXIT_OK
    assert process.notifier.told == [
        "READY=1",
        *["RELOADING=1", "READY=1"] * 3,
        "STOPPING=1",
    ]


async def test_a_hangup_while_it_goes_down_changes_nothing(tmp_path: Path) -> None:
    async with started(tmp_path) as process:
        silent = await trio.open_unix_socket(f"{tmp_path}/sock")
        await trio.sleep(0.05)
        process.signal(signal.SIGTERM)
        await process.until("draining")
        process.signal(signal.SIGHUP)
        await process.until("not serving now, configuration not read again")
        await silent.aclose()
    assert process.status == EXIT_OK
    assert process.notifier.told == ["READY=1", "STOPPING=1"]


# ------------------------------------------------------------------------------------- the end


async def test_what_keeps_it_from_starting_is_one_line_and_a_status(tmp_path: Path) -> None:
    async with started(tmp_path) as process:
        other = Process(tmp_path)
        other.tree["daemon"]["listen"] = [f"unix:{tmp_path}/other"]
        # The first one's logs are in force meanwhile, which is all the same here.
        with Logs(other.load().log, other.out) as logs:
            groups: list[BaseException] = []

            def status_of(group: BaseException) -> int:
                groups.append(group)
                return 75

            status = await _main(other.load(), other.load, status_of, logs, other.notifier)
        assert status == 75
        (line,) = other.events
        assert (line["event"], line["level"]) == ("cannot go on", "error")
        assert str(os.getpid()) in line["error"]
        assert isinstance(groups[0], ExceptionGroup)
        assert groups[0].subgroup(DirectoryLocked) is not None
        assert other.notifier.told == []
        process.signal(signal.SIGTERM)
    assert process.status == EXIT_OK


async def test_a_bug_is_a_traceback_and_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)
    config = process.load()

    def broken(_self: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("streamer.daemon.supervisor.Daemon._opened_streams", broken)
    with Logs(config.log, process.out) as logs, trio.fail_after(PATIENCE_S):
        status = await _main(config, process.load, lambda _: 74, logs, process.notifier)
    assert status == EXIT_FAILED
    (line,) = process.logged("the daemon failed")
    assert "ZeroDivisionError: a bug" in json.dumps(line)


def test_a_wrong_configuration_is_raised_before_anything_is_done(tmp_path: Path) -> None:
    def load() -> Config:
        raise ConfigError(["x.toml: a fault"])

    with pytest.raises(ConfigError):
        run_daemon(load, lambda _: 1)
    assert list(tmp_path.iterdir()) == []


def test_it_does_not_run_without_its_assertions() -> None:
    code = (
        "import sys; from streamer.daemon.main import run_daemon;"
        "sys.exit(run_daemon(lambda: None, lambda _: 1))"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_FAILED
    assert "does not run under python -O" in done.stderr
