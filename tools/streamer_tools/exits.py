"""What a command's exit status means: the one place that says so.

Rules: the numbers are those of `sysexits.h`, so that scripts and service managers know them;
whether trying again can help is told by 69 and 75. An error that is not ours is a bug: it gets a
traceback and no number of its own. `streamer --help` and the README print `MEANINGS`. Our errors
are imported when there is one to tell: `streamer` as a whole is too much for `--help`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.errors import StreamerError


class Exit(enum.IntEnum):
    """The exit statuses of `streamer`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    IO = 74
    TEMPORARY = 75
    PROTOCOL = 76
    CONFIG = 78
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done (also when the reader of standard output went away)",
    Exit.FAILED: "failed: refused, nothing or damage was found, or a limit of a check is exceeded;"
    " the reason is on standard error",
    Exit.USAGE: "the command line is wrong",
    Exit.UNAVAILABLE: "no daemon can be reached at the address",
    Exit.IO: "a file, the disk, standard output or (run) an address could not be used",
    Exit.TEMPORARY: "refused for now (disk full, going down, directory in use): try again later",
    Exit.PROTOCOL: "the other side does not speak our protocol, or broke it",
    Exit.CONFIG: "the configuration is wrong; a line a fault on standard error",
    Exit.INTERRUPTED: "interrupted by Ctrl-C (top, consume --group: or by SIGTERM)",
}


class Told(Exception):
    """A failure whose text is ready for a person: `lines` for standard error, and its status."""

    def __init__(self, status: Exit, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.status = status
        self.lines = lines


def status_of(error: StreamerError) -> Exit:
    """The exit status for one of our own errors."""
    from streamer import errors

    if isinstance(error, errors.ConfigError):
        return Exit.CONFIG
    if isinstance(error, errors.ConnectionFailed):
        return Exit.UNAVAILABLE
    if isinstance(error, errors.ProtocolError) and not error.retryable:
        return Exit.PROTOCOL
    if error.retryable or isinstance(error, errors.DirectoryLocked):
        return Exit.TEMPORARY
    if isinstance(error, errors.StorageError):
        return Exit.IO
    return Exit.FAILED


def told(error: BaseException) -> Told | None:
    """What to say about `error`, which may be a group; None for an error that is a bug.

    Of several the first that a person can act on is told: Ctrl-C, then what a command said, then
    ours, then the system's. A group that holds anything else is a bug, and so is not told.
    """
    leaves = _leaves(error)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return Told(Exit.INTERRUPTED)
    stories = [_told_one(leaf) for leaf in leaves]
    known = [story for story in stories if story is not None]
    if len(known) < len(stories):
        return None
    return min(known, key=lambda story: story.status is Exit.IO)


def _told_one(error: BaseException) -> Told | None:
    from streamer import errors

    match error:
        case Told():
            return error
        case errors.ConfigError():
            return Told(Exit.CONFIG, *error.faults)
        case errors.StreamerError():
            return Told(status_of(error), error.message)
        case BrokenPipeError():
            return Told(Exit.OK)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return Told(Exit.IO, f"{where}{error.strerror or error}")
    return None


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
