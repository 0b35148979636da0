"""A daemon of one's own: a real subprocess in a directory of its own, for bench, demo and tests.

Rules: the kernel chooses the ports; the daemon is ready when it has written `addresses.json` into
its data directory. It is a session of its own, so Ctrl-C reaches only us and leaving the `with`
block ends it: SIGTERM first, SIGKILL where that takes too long.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from streamer_tools.exits import Exit, Told

ADDRESSES_FILE = "addresses.json"

#: Start-up opens a log and binds ports; a busy machine may take a while to import Python.
_READY_S = 30.0
#: Longer than the daemon's own budget for draining.
_STOP_S = 30.0
_POLL_S = 0.01


@attrs.frozen
class OwnDaemon:
    """A running daemon: its process and where it listens."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path
    listen: tuple[str, ...]
    http: str | None

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, transport: str = "ws") -> str:
        """The address for a transport: ws, tcp or unix."""
        prefix = "unix:" if transport == "unix" else f"{transport}://"
        return next(url for url in self.listen if url.startswith(prefix))

    def stop(self) -> int:
        """SIGTERM, and its exit status once it has drained."""
        self.process.terminate()
        return self.process.wait(_STOP_S)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def command_line(*arguments: str) -> list[str]:
    """What runs `streamer` with these arguments and this interpreter, installed or not."""
    return [sys.executable, "-m", "streamer_tools", *arguments]


def start(data: Path, socket: Path, arguments: Sequence[str] = ()) -> OwnDaemon:
    """Start a daemon on `data` and wait until it is ready.

    `arguments` are further ones of `streamer run`; the caller ends it by `stop` or `kill`.

    Raises:
        Told: it did not start; the text has the end of its log.
    """
    data.mkdir(parents=True, exist_ok=True)
    addresses = data / ADDRESSES_FILE
    addresses.unlink(missing_ok=True)
    log = data.parent / f"{data.name}.log"
    command = command_line(
        "run", "--data", str(data), "--listen", "ws://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0",
        "--listen", f"unix:{socket}", "--http", "127.0.0.1:0", *arguments,
    )  # fmt: skip
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
    try:
        found = _wait_ready(process, addresses, log)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return OwnDaemon(process, data, log, tuple(found["listen"]), found.get("http"))


def _wait_ready(process: subprocess.Popen[bytes], addresses: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ValueError):
            found: dict[str, Any] = json.loads(addresses.read_bytes())
            return found
        if process.poll() is not None:
            raise Told(
                Exit.FAILED, f"the daemon ended with status {process.returncode}", *_end(log)
            )
        time.sleep(_POLL_S)
    raise Told(Exit.FAILED, f"the daemon was not ready within {_READY_S:.0f} s", *_end(log))


def _end(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-20:]


@contextmanager
def own_daemon(parent: Path | None = None, arguments: Sequence[str] = ()) -> Iterator[OwnDaemon]:
    """A daemon in a new directory under `parent` (the system's temporary one), removed at the end.

    Its log is beside its data until then. Raises `Told` if it does not start.
    """
    home = Path(tempfile.mkdtemp(prefix="streamer-", dir=parent))
    # A Unix socket's path has at most 107 bytes, so it does not go below an unknown parent.
    runtime = Path(tempfile.mkdtemp(prefix="streamer-"))
    try:
        with _terminated_as_interrupted():
            daemon = start(home / "data", runtime / "socket", arguments)
            try:
                yield daemon
            finally:
                _end_process(daemon.process)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(runtime, ignore_errors=True)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM as Ctrl-C, which trio knows how to deliver: else the daemon would outlive us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started behind a shell without job control. SIGTERM is to end it all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
