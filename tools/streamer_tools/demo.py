"""`streamer demo`: a log file through a daemon of its own, and the queues while it is under load.

Rules: it shows what a user would do, by the commands a user has: `produce`, `consume` and `queues`
do the work. The bytes that come back are compared with the file, and a difference is a failure.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import time
from itertools import cycle
from pathlib import Path

import click

from streamer_tools import running
from streamer_tools.exits import Exit, Told
from streamer_tools.options import is_terminal, json_option, print_json

_STREAM = "demo"
#: Between two looks at the queues: on a terminal, and where each is printed below the last.
_LIVE_S = 0.25
_PRINTED_S = 2.0


@click.command("demo")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--seconds",
    "load_s",
    type=click.FloatRange(min=0),
    default=4.0,
    show_default=True,
    help="How long to keep the daemon busy for the live table.",
)
@json_option
def command(file: str, load_s: float, as_json: bool) -> None:
    """Send a log file through a daemon of its own, compare what comes back, watch its queues."""

    from streamer_tools.own_daemon import own_daemon

    say = _silent if as_json else click.echo
    say("starting a daemon in a temporary directory")
    with own_daemon() as daemon:
        url = daemon.url()
        say(f"$ streamer produce {_STREAM} {file}")
        produced = _streamer(url, "produce", "--json", _STREAM, file)
        say(produced.decode().rstrip())
        say(f"$ streamer consume {_STREAM} | cmp - {file}")
        found, expected = _streamer(url, "consume", _STREAM), Path(file).read_bytes()
        if found != expected:
            raise Told(Exit.FAILED, f"{len(found)} bytes came back that are not those of {file}")
        digest = hashlib.sha256(found).hexdigest()
        say(f"the same {len(found):,} bytes came back, sha256 {digest[:16]}...")
        sent = 0
        if load_s:
            say(f"$ streamer queues --watch   # while the file is sent again for {load_s:g} s")
            sent = running.run(_load, url, Path(file).read_bytes().splitlines(), load_s, as_json)
            say(f"{sent:,} records sent and received meanwhile")
    if as_json:
        print_json(
            {"file": file, "bytes": len(found), "sha256": digest, "records_under_load": sent}
        )


def _silent(text: str) -> None:
    pass


def _streamer(url: str, *arguments: str) -> bytes:
    """Run one of our commands as a user would, and take what it prints."""
    from streamer_tools.own_daemon import command_line

    with tempfile.TemporaryFile() as out:
        command = command_line(*arguments, "--url", url)
        status = subprocess.run(command, stdout=out, check=False).returncode
        if status:
            raise Told(Exit(status), f"{arguments[0]} ended with status {status}")
        out.seek(0)
        return out.read()


async def _load(url: str, lines: list[bytes], load_s: float, as_json: bool) -> int:
    """Send the lines again and again while a reader takes them and a table shows the queues."""
    import trio

    from streamer.client import connect

    stream = f"{_STREAM}-load"
    sent = received = 0
    expected: int | None = None
    complete = trio.Event()

    async with connect(url) as client, connect(url) as other:
        await client.stream(stream, create=True)

        async def receive() -> None:
            nonlocal received
            async with other.reader(stream) as reader:
                async for batch in reader:
                    received += batch.count
                    if expected is not None and received >= expected:
                        complete.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            if not as_json:
                nursery.start_soon(_watch, url)
            async with client.producer(stream) as producer:
                with trio.move_on_after(load_s):
                    for value in cycle(lines):
                        await producer.post(value)
                        sent += 1
            # The reader says so itself, unless it had everything before the last was counted.
            expected = sent
            if received < expected:
                await complete.wait()
            nursery.cancel_scope.cancel()
    return sent


async def _watch(url: str) -> None:
    import trio

    from streamer.client import connect
    from streamer_tools.queues import Display, Rates

    interval_s = _LIVE_S if is_terminal("stdout") else _PRINTED_S
    rates = Rates()
    async with connect(url) as client:
        with Display(as_json=False, live=True) as display:
            while True:
                display.update(rates.look(await client.queues(), time.monotonic()))
                await trio.sleep(interval_s)
