"""Small file systems of our own, for faults that only a file system can have. They need root.

Whoever may not mount gets `Unavailable` with the reason, and skips. Everything here is a few
system calls and short commands, so it blocks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

#: Ends a file system at once, as a power cut does: what the journal has not got is gone.
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


class Unavailable(Exception):
    """This machine, or this user, cannot do that; the text says what."""


def _run(*command: str) -> None:
    # Not every root has the administrator's programs in its path.
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise Unavailable(f"there is no {command[0]} here")
    done = subprocess.run([program, *command[1:]], capture_output=True, check=False, text=True)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")


def _unmount(path: Path) -> None:
    # Lazily: what a test left open must not keep the rest from being cleaned up.
    subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


@contextmanager
def tmpfs(path: Path, nbytes: int) -> Iterator[None]:
    """A file system in memory at `path`, which takes `nbytes`.

    Raises:
        Unavailable: it cannot be mounted.
    """
    _need_root()
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(path))
    try:
        yield
    finally:
        _unmount(path)


@attrs.frozen
class Ext4:
    """A real ext4 in a file."""

    image: Path
    path: Path

    def mount(self) -> None:
        """Mount it; what its journal has is played back.

        Raises:
            Unavailable: it cannot be.
        """
        _run("mount", "-o", "loop", str(self.image), str(self.path))

    def unmount(self) -> None:
        """Unmount it; nothing may be open there.

        Raises:
            Unavailable: something is.
        """
        _run("umount", str(self.path))

    def cut_power(self) -> None:
        """From now on nothing more reaches the disk, and every write fails.

        Raises:
            Unavailable: this kernel cannot do that.
        """
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        except OSError as error:
            raise Unavailable(f"the shutdown ioctl failed: {error.strerror}") from error
        finally:
            os.close(fd)


@contextmanager
def ext4(home: Path, nbytes: int) -> Iterator[Ext4]:
    """A mounted ext4 of `nbytes`, in a file below `home`.

    Raises:
        Unavailable: it cannot be made or mounted.
    """
    _need_root()
    disk = Ext4(home / "ext4.image", home / "mounted")
    disk.path.mkdir(parents=True, exist_ok=True)
    with disk.image.open("wb") as image:
        image.truncate(nbytes)
    _run("mkfs.ext4", "-q", "-F", str(disk.image))
    disk.mount()
    try:
        yield disk
    finally:
        _unmount(disk.path)
        with suppress(OSError):
            disk.image.unlink()


def _need_root() -> None:
    if os.geteuid():
        raise Unavailable("only root may mount")
