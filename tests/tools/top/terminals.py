"""A terminal for tests: reads what is written to it, and can have a program in front of it.

Rules: it knows the sequences that `top` sends and no others; one that it does not know fails the
test. What a wide character covers is an empty cell, as on a real screen.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len

#: Far above what anything takes; only a hang gets there.
TIMEOUT_S = 60.0
_SEQUENCE = re.compile(r"\x1b\[(\?)?([0-9;]*)([A-Za-z])")
#: Who begins a session and opens a terminal has it: Ctrl-C and Ctrl-Z are signals to it.
_ON_TERMINAL = 'exec <"$0" >"$0"; exec "$@"'
_MODES = {"1049": "other", "25": "cursor", "7": "wraps"}


class Screen:
    """A screen, and what modes it is in."""

    def __init__(self, width: int, height: int) -> None:
        self.modes = {"other": False, "cursor": True, "wraps": True}
        self.resize(width, height)
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.cells = [[" "] * width for _ in range(height)]
        self._row = self._column = 0

    def feed(self, data: bytes) -> None:
        text = self._open + self._text.decode(data)
        self._open = ""
        while text:
            if text[0] == "\x1b":
                found = _SEQUENCE.match(text)
                if found is None and "\x1b" in text[1:]:
                    # Ctrl-C has the kernel drop what was under way, also half of a sequence.
                    text = text[text.index("\x1b", 1) :]
                    continue
                if found is None:
                    assert len(text) < 20, f"not a sequence: {text[:40]!r}"
                    self._open = text
                    return
                self._obey(bool(found[1]), found[2], found[3])
                text = text[found.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _obey(self, private: bool, numbers: str, final: str) -> None:
        if private:
            assert final in "hl", final
            self.modes[_MODES[numbers]] = final == "h"
        elif final == "H":
            row, _, column = numbers.partition(";")
            self._row, self._column = int(row) - 1, int(column) - 1
        elif final == "G":
            self._column = int(numbers) - 1
        elif final == "J":
            assert numbers == "2"
            self.cells = [[" "] * self.width for _ in range(self.height)]
        else:
            assert final == "m", f"sequence with {final!r}"

    def _put(self, character: str) -> None:
        if not self.modes["other"] and self.modes["wraps"]:
            return
        assert character.isprintable(), f"{character!r} reaches the terminal"
        columns = cell_len(character)
        if not columns or self._row >= self.height:
            return
        for number in range(columns):
            if self._column + number < self.width:
                here = self.cells[self._row]
                here[self._column + number] = "" if number else character
        self._column += columns

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(
        self, command: Sequence[str], width: int = 80, height: int = 24, **environment: str
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.screen = Screen(width, height)
        #: Bytes that came.
        self.count = 0
        self._set_size(width, height)
        self.modes_before = termios.tcgetattr(self.slave)
        surroundings = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
        self.process = subprocess.Popen(
            ["sh", "-c", _ON_TERMINAL, os.ttyname(self.slave), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**surroundings, "TERM": "xterm-256color", **environment},
        )

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, width: int, height: int) -> None:
        self.screen.resize(width, height)
        self._set_size(width, height)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def pump(self, wait_s: float = 0.05) -> bool:
        """Take in what comes within a moment; whether something did."""
        if not select.select([self.master], [], [], wait_s)[0]:
            return False
        data = os.read(self.master, 65536)
        self.count += len(data)
        self.screen.feed(data)
        return True

    def until(self, *texts: str, without: str = "\0") -> str:
        """Wait until all of these are on the screen, and that other is not; the screen."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            self.pump()
            shown = self.screen.text
            if all(text in shown for text in texts) and without not in shown:
                return shown
            assert self.process.poll() is None, self.error()
        raise AssertionError(f"{texts} did not come:\n{self.screen.text}")

    def ended(self) -> int:
        """The exit status, once it has one."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen.text
            self.pump()
        while self.pump():
            pass
        return self.process.returncode

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def is_as_before(self) -> bool:
        """Whether the terminal is as the program found it."""
        plain = {"other": False, "cursor": True, "wraps": True}
        return termios.tcgetattr(self.slave) == self.modes_before and self.screen.modes == plain

    def state(self) -> str:
        """What the kernel says of the process: R, S, T (stopped), Z."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)
