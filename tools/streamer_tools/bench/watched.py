"""`watched`: what it costs to look: `produce` with everybody looking, and without.

Rules: who looks are the real programs: `streamer top` in a terminal of its own, three
`streamer tap` (one of them with values), and the console: in a headless browser where one is named,
else the requests that its page makes. They are started before the watch, are up when it begins, and
it is a failure if one is gone when it ends. Both cases share a daemon and take turns. All of them
run on the same cores as the daemon and the client, so what they burn is part of what is found.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import attrs
import trio

from streamer import connect, setting
from streamer_tools.bench.contract import Benchmark, Case, Run, Target, Workbench
from streamer_tools.bench.workloads.sending import ProduceSettings, open_produce
from streamer_tools.exits import Exit, Told
from streamer_tools.own_daemon import command_line

_ALONE, _WATCHED = "alone", "watched"
_TAPS = (("default/*",), ("default/persist", "--values"), ("default/ingest", "--keys"))
#: For programs to come up, the browser being the slowest.
_UP_S = 4.0
_BROWSER = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@attrs.frozen
class WatchedSettings(ProduceSettings):
    """Settings of `watched`."""

    records: int = setting(6_000_000, "records of a run", min=1)
    browser: str = setting("", "a Chromium to open the console in; without, its requests are made")
    watched: bool = setting(False, "whether somebody looks; each run is made both ways")


def plan(settings: WatchedSettings, _: Workbench) -> Sequence[Case]:
    """Both ways, in turns."""
    return [
        Case(_ALONE, attrs.evolve(settings, watched=False)),
        Case(_WATCHED, attrs.evolve(settings, watched=True)),
    ]


@asynccontextmanager
async def open_watched(settings: WatchedSettings, target: Target) -> AsyncGenerator[Run, None]:
    """As `produce`, with or without those who look."""
    async with open_produce(settings, target) as produce:
        if not settings.watched:
            yield produce
            return
        http = await _http(target.url)
        with ExitStack() as stack:
            stack.enter_context(_in_a_terminal(["top", "--url", target.url]))
            for arguments in _TAPS:
                stack.enter_context(_quiet(command_line("tap", *arguments, "--url", target.url)))
            if settings.browser:
                stack.enter_context(_browser(settings.browser, f"{http}/console"))
            else:
                stack.enter_context(_quiet([sys.executable, "-c", _PAGE, http]))
            await trio.sleep(_UP_S)
            yield produce


async def _http(url: str) -> str:
    async with connect(url) as client:
        found: str = (await client.admin("overview"))["http"]
    return found


#: What the page asks for, once a second, and of history and events what is new: a program of its
#: own, as the browser would be.
_PAGE = """
import json, sys, time, urllib.request

def get(path):
    with urllib.request.urlopen(sys.argv[1] + path, timeout=10) as answer:
        return json.loads(answer.read())

at_us = next_event = 0
while True:
    get("/api/overview")
    at_us = max([at_us, *get(f"/api/history?after_us={at_us}")["fine"]["at_us"]])
    next_event = get(f"/api/events?after={next_event}")["next"]
    time.sleep(1.0)
"""


@contextmanager
def _quiet(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
        _still(process.poll() is None, command)
    finally:
        _end(process)


@contextmanager
def _in_a_terminal(arguments: Sequence[str]) -> Iterator[None]:
    """A command in a terminal of 80 columns whose screen goes nowhere."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = command_line(*arguments)
        os.environ.update(TERM="xterm", COLUMNS="80", LINES="24")
        os.execv(command[0], command)
    drain = subprocess.Popen(["cat"], stdin=terminal, stdout=subprocess.DEVNULL)
    try:
        yield
        _still(os.waitpid(pid, os.WNOHANG)[0] == 0, arguments)
    finally:
        with suppress(OSError):
            os.write(terminal, b"q")
        os.close(terminal)
        _end(drain)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, 15)
            os.waitpid(pid, 0)


@contextmanager
def _browser(program: str, url: str) -> Iterator[None]:
    home = tempfile.mkdtemp(prefix="streamer-browser-")
    # A page that is shot would end at once: so it is left open, with a port for a debugger.
    command = [program, *_BROWSER, f"--user-data-dir={home}", "--remote-debugging-port=0", url]
    try:
        with _quiet(command):
            yield
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _still(running: bool, command: Sequence[str]) -> None:
    if not running:
        raise Told(Exit.FAILED, f"it ended before the run did: {' '.join(command)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def conclude(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What looking costs."""
    rates = {case["name"]: case["median"]["records_per_s"] for case in document["cases"]}
    share = rates[_WATCHED] / rates[_ALONE]
    return {
        "watched_share": share,
        "conclusion": [
            f"with top, three taps and the console open it is {share:.1%} of what it is without: "
            f"{rates[_WATCHED]:,.0f} records/s, and {rates[_ALONE]:,.0f}"
        ],
    }


BENCHMARK = Benchmark(
    "watched",
    "What it costs to look: produce with top, three taps and the console.",
    WatchedSettings,
    open_watched,
    plan=plan,
    conclude=conclude,
    repeats=5,
)
