"""The terminal: its modes, its size, what is read from and written to it.

Rules:

- Whatever is changed is put back when the block is left, whichever way: the modes of the line, the
  screen that was there, the cursor. Only SIGKILL leaves it as it is.
- Keys come one by one, without echo; Ctrl-C and Ctrl-Z stay signals.
- Writing must not hold up the program where the terminal takes nothing (Ctrl-S, a dead line), so it
  goes through a descriptor of our own that does not block; that of the shell stays as it is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio

from streamer_tools.exits import Exit, Told
from streamer_tools.options import is_terminal

#: The other screen, no cursor, no wrapping; and the way back.
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[0m\x1b[2J"
_LEAVE = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
#: For the way back to be taken by a terminal that takes nothing.
_LEAVE_S = 0.5
_SIZE = (80, 24)


def check() -> None:
    """That there is a terminal to draw on.

    Raises:
        Told: there is none, or it cannot be drawn on.
    """
    advice = "--once prints one look"
    for name in ("stdin", "stdout"):
        if not is_terminal(name):
            where = {"stdin": "standard input", "stdout": "standard output"}[name]
            raise Told(Exit.USAGE, f"top is drawn on a terminal, and {where} is none; {advice}")
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        raise Told(
            Exit.USAGE,
            f"TERM is {os.environ.get('TERM', '')!r}: nothing can be drawn on such a terminal;"
            f" {advice}",
        )
    try:
        import termios  # noqa: F401
    except ImportError as error:
        raise Told(Exit.USAGE, f"this system has no termios to draw with; {advice}") from error


class Terminal:
    """The terminal of standard input and output, while it is ours. Made by `taken`."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._output = sys.stdout.fileno()
        self._own: int | None = None
        self._before: list[Any] | None = None

    def enter(self) -> None:
        """Take it: modes, screen, cursor."""
        import termios

        if self._own is None:
            self._own = _opened_again(self._output)
        if self._before is None:
            self._before = termios.tcgetattr(self._input)
        modes = termios.tcgetattr(self._input)
        modes[3] &= ~(termios.ECHO | termios.ICANON)
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._input, termios.TCSADRAIN, modes)
        self._write_now(_ENTER)

    def leave(self) -> None:
        """Give it back as it was. Does nothing where it is not ours."""
        import termios

        before, self._before = self._before, None
        if before is None:
            return
        with suppress(termios.error):
            # Held by Ctrl-S, it would keep the screen that we drew. Only what was held by the
            # first of these calls is let go by the second.
            termios.tcflow(self._input, termios.TCOOFF)
            termios.tcflow(self._input, termios.TCOON)
        self._write_now(_LEAVE)
        # It may be gone altogether, and then there is nothing to put back.
        with suppress(termios.error):
            termios.tcsetattr(self._input, termios.TCSANOW, before)

    def close(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            os.close(own)

    def size(self) -> tuple[int, int]:
        """Columns and lines; of a terminal that does not know, 80 and 24."""
        try:
            columns, lines = os.get_terminal_size(self._output)
        except OSError:
            return _SIZE
        return columns or _SIZE[0], lines or _SIZE[1]

    async def read(self) -> bytes:
        """What was typed; nothing at its end. A cancelled read has taken nothing."""
        await trio.lowlevel.wait_readable(self._input)
        try:
            return os.read(self._input, 4096)
        except OSError:
            # The line was hung up.
            return b""

    async def write(self, data: bytes) -> None:
        """Write all of it. Cancelled, part of it may have been.

        Raises:
            OSError: the terminal is gone.
        """
        if self._own is None:
            os.write(self._output, data)
            return
        while data:
            try:
                data = data[os.write(self._own, data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._own)

    def _write_now(self, data: bytes) -> None:
        """As `write`, without trio, and not for long."""
        import select

        fd = self._output if self._own is None else self._own
        with suppress(OSError):
            while data and select.select([], [fd], [], _LEAVE_S)[1]:
                data = data[os.write(fd, data) :]

    def suspend(self) -> None:
        """What Ctrl-Z asks for: give the terminal back, stop, and take it again afterwards."""
        self.leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            signal.raise_signal(signal.SIGTSTP)
        finally:
            signal.signal(signal.SIGTSTP, handler)
        self.enter()


def _opened_again(fd: int) -> int | None:
    """The same terminal, open once more for writing without waiting; None where that may not be
    (that of another user)."""
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None


@contextmanager
def taken() -> Iterator[Terminal]:
    """The terminal, until the block is left."""
    terminal = Terminal()
    try:
        terminal.enter()
        yield terminal
    finally:
        terminal.leave()
        terminal.close()
