"""`streamer top` on a real terminal, in front of a real daemon."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamer_tools.own_daemon import OwnDaemon, command_line, start
from tests.tools.top.terminals import TIMEOUT_S, Terminal

if TYPE_CHECKING:
    from conftest import Shell

Top = Callable[..., Terminal]
_RECORDS = re.compile(r"orders\s.* disk\s+1\s+([\d,.k]+)")


@pytest.fixture
def top(daemon: OwnDaemon) -> Iterator[Top]:
    """Starts `streamer top` on a terminal: `top(*arguments, url=, width=, height=)`."""
    open_: list[Terminal] = []

    def begin(*arguments: str, url: str = "", **surroundings: object) -> Terminal:
        command = command_line("top", "--url", url or daemon.url(), *arguments)
        open_.append(Terminal(command, **surroundings))  # type: ignore[arg-type]
        return open_[-1]

    yield begin
    for terminal in open_:
        terminal.close()


def test_it_shows_numbers_that_move_and_q_gives_the_terminal_back(top: Top, shell: Shell) -> None:
    shell("produce", "orders", stdin=b"a\nb\n")
    terminal = top("--interval", "200ms")
    shown = terminal.until("streamer 0.1.0", "ready", "[1 pipelines", "ingest group", "? help")
    assert "default" in shown
    assert terminal.screen.modes == {"other": True, "cursor": False, "wraps": False}
    terminal.press("3")
    terminal.until("[3 streams", "orders")
    found = _RECORDS.search(terminal.screen.text)
    assert found is not None
    assert found[1] == "2"
    shell("produce", "orders", stdin=b"c\n" * 40)
    terminal.until("orders", " 42 ")
    terminal.press("q")
    assert terminal.ended() == 0
    assert terminal.error() == ""
    assert terminal.is_as_before()


def test_keys_move_open_sort_filter_and_help(top: Top, shell: Shell) -> None:
    for group in ("billing", "search"):
        shell("group", "create", "invoices", group)
    terminal = top("--interval", "200ms")
    terminal.until("[1 pipelines")
    terminal.press("\t")
    terminal.until("[2 groups", "›invoices", "1/2")
    terminal.press("j")
    terminal.until("2/2")
    terminal.press("\r")
    terminal.until("group search of stream invoices", "0 members", "1 partition", "esc back")
    terminal.press("\x1b")
    terminal.until("›invoices", "2/2")
    terminal.press("/bill")
    terminal.until("filter: bill▏", without="search")
    terminal.press("\x1b")
    terminal.until("search", without="filter:")
    terminal.press("s")
    terminal.until("by stream ▲")
    terminal.press("p")
    terminal.until("PAUSED")
    terminal.press("p+")
    terminal.until("0.25 s", without="PAUSED")
    terminal.press("?")
    terminal.until("keys", "another view")
    terminal.press("\x1b[B?")
    terminal.until("›invoices")
    terminal.press("1\r")
    terminal.until("pipeline default", "ingest: group", "groups of at most")
    terminal.press("4\r")
    terminal.until("session", "streamer top", "window")
    terminal.press("5")
    terminal.until("session_opened")
    terminal.press("q")
    assert terminal.ended() == 0


@pytest.mark.parametrize("end", [OwnDaemon.kill, OwnDaemon.stop])
def test_the_daemon_may_go_away_and_come_back(
    tmp_path: Path, top: Top, shell_at: type, end: Callable[[OwnDaemon], object]
) -> None:
    # A Unix socket's path has at most 107 bytes.
    runtime = Path(tempfile.mkdtemp(prefix="streamer-"))
    first = start(tmp_path / "data", runtime / "socket")
    try:
        shell_at(first.url("unix"))("produce", "kept", stdin=b"a\n")
        terminal = top("--interval", "200ms", "--view", "streams", url=first.url("unix"))
        terminal.until("kept", "ready")
        end(first)
        shown = terminal.until("no daemon answers", "STALE")
        assert "kept" in shown
        terminal.press("2")
        terminal.until("[2 groups")
        second = start(tmp_path / "data", runtime / "socket")
        try:
            terminal.press("3")
            terminal.until("kept", "ready", without="STALE")
            terminal.press("q")
            assert terminal.ended() == 0
            assert terminal.is_as_before()
        finally:
            second.stop()
    finally:
        first.kill()
        shutil.rmtree(runtime)


def test_a_daemon_that_hangs_is_told_and_can_be_left(tmp_path: Path, top: Top) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="streamer-"))
    daemon = start(tmp_path / "data", runtime / "socket")
    try:
        terminal = top("--interval", "200ms", url=daemon.url("unix"))
        terminal.until("ready")
        daemon.process.send_signal(signal.SIGSTOP)
        terminal.until("the daemon does not answer", "STALE")
        daemon.process.send_signal(signal.SIGCONT)
        terminal.until("ready", without="STALE")
        terminal.press("q")
        assert terminal.ended() == 0
    finally:
        daemon.process.send_signal(signal.SIGCONT)
        daemon.stop()
        shutil.rmtree(runtime)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)],
)
def test_signals_give_the_terminal_back(top: Top, number: int, status: int) -> None:
    terminal = top()
    terminal.until("ready")
    if number == signal.SIGINT:
        terminal.press("\x03")
    else:
        terminal.process.send_signal(number)
    assert terminal.ended() == status
    assert terminal.error() == ""
    assert terminal.is_as_before()


def test_a_terminal_that_takes_nothing_holds_nothing_up(top: Top) -> None:
    terminal = top("--interval", "100ms")
    terminal.until("ready")
    # Ctrl-S: what is written stays in the kernel, until that is full or we give it free.
    terminal.press("\x13")
    terminal.press("123456" * 500)
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.ended() == 130
    assert terminal.is_as_before()


def test_a_crash_gives_the_terminal_back(daemon: OwnDaemon) -> None:
    # A view that raises is a bug, and is told as one, on the screen that was there.
    code = (
        "import sys; from streamer_tools.top import screen; from streamer_tools.main import main\n"
        "screen.help_lines = lambda width: 1 // 0\n"
        "main()"
    )
    terminal = Terminal([sys.executable, "-c", code, "top", "--url", daemon.url()])
    try:
        terminal.until("ready")
        terminal.press("?")
        assert terminal.ended() == 1
        assert "ZeroDivisionError" in terminal.error()
        assert terminal.is_as_before()
    finally:
        terminal.close()


def test_it_can_be_stopped_and_gone_on_with(top: Top) -> None:
    terminal = top("--interval", "200ms")
    terminal.until("ready")
    # Only who has a parent in another process group of its session may be stopped by the
    # terminal; in a session of its own it is stopped from outside instead.
    terminal.process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + TIMEOUT_S
    while terminal.state() != "T":
        assert time.monotonic() < deadline
    terminal.screen.resize(80, 24)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until("ready", "ingest", "? help")
    terminal.press("q")
    assert terminal.ended() == 0
    assert terminal.is_as_before()


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again(daemon: OwnDaemon) -> None:
    command = subprocess.list2cmdline(command_line("top", "--url", daemon.url()))
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], PS1="shell> ", TERM="xterm")
    try:
        _type(terminal, f"{command}; echo\n")
        terminal.until("ready", "? help")
        terminal.press("\x1a")
        _wait(terminal, lambda: not terminal.screen.modes["other"])
        assert terminal.screen.modes["cursor"]
        assert terminal.screen.modes["wraps"]
        _type(terminal, "fg\n")
        _wait(terminal, lambda: terminal.screen.modes["other"])
        terminal.until("ready", "ingest", "? help")
        terminal.press("q")
        _wait(terminal, lambda: not terminal.screen.modes["other"])
        _type(terminal, "exit\n")
        terminal.ended()
        assert terminal.screen.modes == {"other": False, "cursor": True, "wraps": True}
    finally:
        terminal.close()


def _type(terminal: Terminal, text: str) -> None:
    while terminal.pump(0.3):
        pass
    terminal.press(text)


def _wait(terminal: Terminal, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not until():
        assert time.monotonic() < deadline, terminal.screen.text
        terminal.pump()


def test_it_follows_the_size_of_the_terminal(top: Top) -> None:
    terminal = top("--interval", "200ms")
    terminal.until("ready", "queue 50/99")
    terminal.resize(40, 12)
    terminal.until("q p99", "? help", without="50/99")
    terminal.resize(30, 5)
    terminal.until("the terminal has 30 x 5,")
    terminal.resize(120, 40)
    terminal.until("queue 50/99", "? help")
    assert len(terminal.screen.lines[5]) > 100
    terminal.press("q")
    assert terminal.ended() == 0


def test_an_idle_daemon_costs_the_line_little(top: Top) -> None:
    terminal = top("--interval", "100ms", "--view", "streams")
    terminal.until("ready", "? help")
    before, began = terminal.count, time.monotonic()
    while time.monotonic() < began + 2:
        terminal.pump()
    # Twenty looks: the clock, what our own questions cost, and no whole screens.
    assert terminal.count - before < 4_000


def test_without_colours_none_are_sent(top: Top) -> None:
    terminal = top(NO_COLOR="1")
    sent = b""
    real = terminal.screen.feed

    def feed(data: bytes) -> None:
        nonlocal sent
        sent += data
        real(data)

    terminal.screen.feed = feed  # type: ignore[method-assign]
    terminal.until("ready", "? help")
    terminal.press("2q")
    terminal.ended()
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;|48;)[0-9;]*m", sent)
    assert b"\x1b[1;7m" in sent


def test_a_wrong_address_is_a_sentence_before_the_screen_is_taken(top: Top, tmp_path: Path) -> None:
    terminal = top(url=f"unix:{tmp_path / 'none'}")
    assert terminal.ended() == 69
    assert terminal.error().count("\n") == 1
    assert terminal.is_as_before()
    assert terminal.count == 0


def test_a_terminal_that_cannot_be_drawn_on_is_a_sentence(top: Top) -> None:
    terminal = top(TERM="dumb")
    assert terminal.ended() == 2
    assert "TERM is 'dumb'" in terminal.error()
