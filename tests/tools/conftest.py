"""Daemons for our commands: a real one in a subprocess, and one that answers by a script.

The real one is for what must work as a whole; the scripted one, for what a command asks and what
it makes of an answer, speaks the real frames over a Unix socket, from a thread of its own.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from streamer.errors import BadRequest, StreamerError
from streamer.limits import BatchLimits, WireLimits
from streamer.wire import frames
from streamer.wire.framing import LengthPrefixed
from streamer.wire.machine import Connection, Role
from streamer_tools.main import main
from streamer_tools.own_daemon import OwnDaemon, command_line, own_daemon

#: Far above what anything takes; only a hang gets there.
TIMEOUT_S = 60


class Started(subprocess.Popen[bytes]):
    """A command that ends with its block, also where the test has failed."""

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self.kill()
        super().__exit__(*error)


@attrs.frozen
class Shell:
    """Runs our commands against one daemon."""

    url: str

    def __call__(
        self, *arguments: str, stdin: bytes = b"", status: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; the exit status must be `status`, unless that is None."""
        result = subprocess.run(
            command_line(*arguments, "--url", self.url),
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert status is None or result.returncode == status, result
        return result

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> Started:
        """Start without waiting; pipes for output."""
        return Started(
            command_line(*arguments, "--url", self.url),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def daemon() -> Iterator[OwnDaemon]:
    """A daemon that this module's tests share; each uses streams of its own."""
    with own_daemon() as started:
        yield started


@pytest.fixture
def shell_at() -> type[Shell]:
    """Commands against a daemon at another address: `shell_at(url)`."""
    return Shell


@pytest.fixture
def shell(daemon: OwnDaemon) -> Shell:
    """Commands over the default transport."""
    return Shell(daemon.url())


class ScriptedDaemon:
    """Answers admin requests from a table; anything but a greeting and those ends the session."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix:{path}"
        #: verb: the answer, or what makes it of the arguments and may raise.
        self.answers: dict[str, Any] = {}
        #: (verb, arguments), in the order in which they came.
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def __call__(self, *arguments: str, status: int = 0, typed: str | None = None) -> Result:
        """Run a command against it in this process; `typed` is what a person answers."""
        result = CliRunner().invoke(main, [*arguments, "--url", self.url], input=typed)
        assert result.exit_code == status, (result.output, result.exception)
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        """What a command says with --json."""
        return json.loads(self(*arguments, "--json", status=status).stdout)

    def arguments_of(self, verb: str) -> dict[str, Any]:
        """The arguments of the one request with this verb."""
        [arguments] = [arguments for asked, arguments in self.asked if asked == verb]
        return arguments

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            # A tool may leave without waiting for an answer.
            with peer, suppress(ConnectionError):
                self._session(peer)

    def _session(self, peer: socket.socket) -> None:
        limits = WireLimits()
        machine = Connection(Role.SERVER, limits.frame_bytes)
        cutter = LengthPrefixed(limits.frame_bytes)
        told = {**attrs.asdict(limits), **attrs.asdict(BatchLimits())}
        while data := peer.recv(65536):
            for each in cutter.feed(data):
                frame = machine.receive(each)
                if isinstance(frame, frames.Goodbye):
                    return
                assert isinstance(frame, frames.Hello | frames.Admin), frame
                answer = (
                    frames.Welcome(1, "scripted", told, limits.window_bytes)
                    if isinstance(frame, frames.Hello)
                    else self._answer(frame)
                )
                peer.sendall(cutter.prefixed(machine.send(answer)))

    def _answer(self, frame: frames.Admin) -> frames.Frame:
        self.asked.append((frame.verb, frame.args))
        try:
            if frame.verb not in self.answers:
                raise BadRequest(f"verb {frame.verb} is not in the script")
            answer = self.answers[frame.verb]
            return frames.Reply(
                frame.request, answer(frame.args) if isinstance(answer, Callable) else answer
            )
        except StreamerError as error:
            return frames.Failed(
                frame.request, error.code, error.message, error.retryable, False, error.detail
            )


@pytest.fixture
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedDaemon]:
    """A daemon that answers by a script, and commands run against it."""
    daemon = ScriptedDaemon(tmp_path_factory.mktemp("s") / "socket")
    yield daemon
    daemon.close()
