"""The statuses of a daemon that cannot go on: those of the table, and never 0."""

from __future__ import annotations

import errno

import pytest

from streamer import errors
from streamer_tools.exits import Exit
from streamer_tools.run import _status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.DirectoryLocked("held by process 7"), Exit.TEMPORARY),
        (OSError(errno.EADDRINUSE, "cannot listen at tcp://h:1"), Exit.IO),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), Exit.FAILED),
        (errors.StorageDamaged("stream.json"), Exit.IO),
    ],
)
def test_what_ends_a_daemon_has_the_status_of_the_table(error: Exception, status: Exit) -> None:
    assert _status_of(ExceptionGroup("daemon", [error])) is status
