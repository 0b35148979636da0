"""A real daemon in a subprocess, one for each test module, and our commands run against it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import attrs
import pytest

from streamer_tools.own_daemon import OwnDaemon, command_line, own_daemon

#: Far above what anything takes; only a hang gets there.
TIMEOUT_S = 60


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

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start without waiting; pipes for output."""
        return subprocess.Popen(
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
