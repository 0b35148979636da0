"""A real daemon in one directory, to be killed and started again there.

Rules: its addresses stay the same over restarts, so that clients find it again by themselves. It
logs JSON to a file beside its data, over all its lives. Waiting here is polling, with deadlines
far above what anything takes: a process has no event that we could wait for, but its end.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import attrs
import trio

from streamer_tools.own_daemon import ADDRESSES_FILE, command_line

#: Only a hang gets there.
PATIENCE_S = 60.0
_POLL_S = 0.003
#: Below the ports that the system gives to outgoing connections: one of those, trying to reach
#: a daemon that is down, could connect to itself and keep its port.
_PORTS = range(20_000, 32_000)


@attrs.define(eq=False)
class RealDaemon:
    """One data directory and the process that serves it, if one does."""

    home: Path
    data: Path
    socket: Path
    port: int
    config: Path | None
    environment: Mapping[str, str]
    process: trio.Process | None = None
    #: Seconds from the last `spawn` to being ready.
    start_s: float = 0.0
    _spawned_at: float = 0.0

    @property
    def urls(self) -> tuple[str, str]:
        """Where it listens: a Unix socket, and WebSocket."""
        return f"unix:{self.socket}", f"ws://127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        return self.urls[0]

    @property
    def log(self) -> Path:
        return self.home / "daemon.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # -------------------------------------------------------------------------------- starting

    async def spawn(self) -> None:
        """Start the process, without waiting for anything."""
        assert not self.running, "one process at a time"
        with suppress(FileNotFoundError):
            (self.data / ADDRESSES_FILE).unlink()
        command = command_line(
            "run", "--json", "--data", str(self.data), "--http", "127.0.0.1:0",
            *(part for url in self.urls for part in ("--listen", url)),
            *(("--config", str(self.config)) if self.config else ()),
        )  # fmt: skip
        self._spawned_at = trio.current_time()
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                command,
                stdin=-3,  # DEVNULL
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Wait until it serves.

        Raises:
            AssertionError: it ended, or is not ready in good time; with the end of its log.
        """
        with trio.move_on_after(PATIENCE_S):
            while True:
                if (self.data / ADDRESSES_FILE).exists():
                    self.start_s = trio.current_time() - self._spawned_at
                    return
                if not self.running:
                    break
                await trio.sleep(_POLL_S)
        status = self.process.returncode if self.process else None
        raise AssertionError(f"not ready, exit status {status}:\n" + self.log_end())

    async def start(self) -> None:
        """`spawn`, and wait until it is ready."""
        await self.spawn()
        await self.ready()

    async def listening(self) -> None:
        """Wait until the Unix socket takes connections.

        Raises:
            AssertionError: the daemon has ended.
        """
        while self.running:
            with suppress(OSError):
                await (await trio.open_unix_socket(self.socket)).aclose()
                return
            await trio.sleep(_POLL_S)
        raise AssertionError("it ended:\n" + self.log_end())

    async def lock_taken(self) -> bool:
        """Wait until the process has the directory's lock, that is: until recovery begins.

        False if it is ready or has ended before that was noticed.
        """
        while self.running and not (self.data / ADDRESSES_FILE).exists():
            with suppress(FileNotFoundError):
                if (self.data / "lock").read_text() == f"{self.pid}\n":
                    return True
            await trio.sleep(0.001)
        return False

    # ----------------------------------------------------------------------------------- ending

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self, within_s: float = PATIENCE_S) -> int:
        """Wait for its end: the exit status.

        Raises:
            trio.TooSlowError: it still runs.
        """
        assert self.process is not None
        with trio.fail_after(within_s):
            return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self.process is not None:
            with trio.CancelScope(shield=True):
                self.process.kill()
                await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    # ----------------------------------------------------------------------------------- looking

    def events(self) -> list[dict[str, Any]]:
        """Its log; what is no event (a traceback of the interpreter, say) has only `text`."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"text": line})
        return found

    def errors(self) -> list[dict[str, Any]]:
        """What it logged as an error, and what is no log at all."""
        return [event for event in self.events() if event.get("level", "error") == "error"]

    def log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    async def get(self, page: str) -> tuple[int, dict[str, Any]]:
        """A page of its HTTP port: status and JSON body."""
        http = json.loads((self.data / ADDRESSES_FILE).read_bytes())["http"]
        return await trio.to_thread.run_sync(_get, f"{http}{page}")

    def rss_bytes(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def segments(self, stream: str, partition: int = 0) -> list[Path]:
        """The segment files of a partition, oldest first. For names that are plain words."""
        return sorted((self.data / "streams" / stream / str(partition)).glob("*.log"))


def _get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@asynccontextmanager
async def real_daemon(
    home: Path,
    config: str = "",
    *,
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[RealDaemon, None]:
    """A daemon that is not started yet, with the text of a config file; killed at the end.

    `home` gets its log, and its data unless that goes elsewhere.
    """
    # The path of a Unix socket has at most 107 bytes, so it does not go below `home`.
    runtime = Path(tempfile.mkdtemp(prefix="streamer-"))
    path = home / "streamer.toml" if config else None
    if path is not None:
        path.write_text(config)
    daemon = RealDaemon(
        home,
        data or home / "data",
        runtime / "socket",
        free_port(),
        path,
        dict(environment or {}),
    )
    try:
        yield daemon
    finally:
        await daemon.kill()
        shutil.rmtree(runtime, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens at now, and that no outgoing connection is given."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no free port among 200 of {_PORTS}")


async def command(
    *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> Any:
    """Run one of our commands to its end: its `subprocess.CompletedProcess`."""
    with trio.fail_after(PATIENCE_S):
        return await trio.run_process(
            command_line(*arguments),
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )


def flip_byte(path: Path, position: int) -> None:
    """Change one byte of a file, as a bad disk would."""
    with path.open("r+b") as file:
        file.seek(position)
        found = file.read(1)
        file.seek(position)
        file.write(bytes([found[0] ^ 0xFF]))


__all__: Sequence[str] = (
    "PATIENCE_S",
    "RealDaemon",
    "command",
    "flip_byte",
    "free_port",
    "real_daemon",
)
