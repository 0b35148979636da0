"""Every error has a status and a sentence; a bug has neither."""

from __future__ import annotations

import errno

import pytest

from streamer import errors
from streamer_tools.exits import MEANINGS, Exit, Told, told


def test_every_status_is_explained() -> None:
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConnectionFailed("no daemon at ws://x"), Exit.UNAVAILABLE),
        (errors.RemoteProtocolError("frame is no CBOR"), Exit.PROTOCOL),
        (errors.UnsupportedVersion("version 9"), Exit.PROTOCOL),
        (errors.SessionsExhausted("100 sessions"), Exit.TEMPORARY),
        (errors.DiskFull("no room"), Exit.TEMPORARY),
        (errors.Draining("going down"), Exit.TEMPORARY),
        (errors.DirectoryLocked("held by 7"), Exit.TEMPORARY),
        (errors.StorageError("no directory"), Exit.IO),
        (errors.UnknownStream("no stream x"), Exit.FAILED),
        (errors.OutcomeUnknown("may be"), Exit.FAILED),
        (errors.ConfigError(["a: b", "c: d"]), Exit.CONFIG),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.log"), Exit.IO),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), Exit.OK),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (Told(Exit.FAILED, "damage"), Exit.FAILED),
    ],
)
def test_status_of_each_kind(error: BaseException, status: Exit) -> None:
    for raised in (error, BaseExceptionGroup("nursery", [BaseExceptionGroup("inner", [error])])):
        story = told(raised)
        assert story is not None
        assert story.status is status


def test_a_config_error_is_a_line_a_fault() -> None:
    story = told(errors.ConfigError(["a: b", "c: d"]))
    assert story is not None
    assert story.lines == ("a: b", "c: d")


def test_a_file_is_named_once() -> None:
    story = told(FileNotFoundError(errno.ENOENT, "No such file or directory", "x.log"))
    assert story is not None
    assert story.lines == ("x.log: No such file or directory",)


def test_a_bug_is_not_told_even_beside_other_errors() -> None:
    assert told(ValueError("bug")) is None
    assert told(ExceptionGroup("g", [errors.DiskFull("no room"), ValueError("bug")])) is None


def test_ctrl_c_comes_before_what_it_broke() -> None:
    group = BaseExceptionGroup("g", [errors.ConnectionFailed("gone"), KeyboardInterrupt()])
    story = told(group)
    assert story is not None
    assert story.status is Exit.INTERRUPTED


def test_our_error_comes_before_the_systems() -> None:
    story = told(ExceptionGroup("g", [OSError(errno.EIO, "I/O error"), errors.DiskFull("full")]))
    assert story is not None
    assert story.lines == ("full",)
