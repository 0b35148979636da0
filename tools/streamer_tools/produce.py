"""`streamer produce`: a file's lines into a stream, a record a line.

Rules: lines go out in order, in batches, each acknowledged before the next is sent: a batch of
thousands pays for its round trip, and what was acknowledged is known at any moment. A batch is
never above what the daemon told as its limits. What a pipe brings goes out as it comes; nobody
waits for a batch to fill. Memory is bounded by one chunk and one line.

With a delay, lines go to the companion stream STREAM.delayed, each batch with the time when it is
due: they are durable at once, and the daemon moves them when their time has come.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools import running
from streamer_tools.options import (
    duration,
    is_terminal,
    json_option,
    natural,
    print_json,
    url_option,
)

if TYPE_CHECKING:
    from streamer.client import Client, Producer
    from streamer.records import Receipt, Record

#: A batch of so many lines makes a round trip cheap; more only adds to the daemon's latency.
_BATCH_RECORDS = 4096
#: A batch of so many bytes likewise.
_BATCH_BYTES = 512 * 1024
#: As for every producer: later than that is a mistake.
_DELAY_S_MAX = 366 * 86_400


@attrs.define
class Tally:
    """What has been acknowledged so far; `begin` is set once there is a daemon to send to."""

    records: int = 0
    nbytes: int = 0
    batches: int = 0
    begin: float | None = None
    #: None: they are there at once.
    delay_s: float | None = None
    #: Partition: (first offset, next offset).
    offsets: dict[int, tuple[int, int]] = attrs.field(factory=dict)
    level: str | None = None

    def add(self, receipt: Receipt, nbytes: int) -> None:
        """Count one acknowledged batch."""
        self.records += receipt.count
        self.nbytes += nbytes
        self.batches += 1
        self.level = receipt.level.value
        first, _ = self.offsets.get(receipt.partition, (receipt.offset, 0))
        self.offsets[receipt.partition] = (first, receipt.offset + receipt.count)


@click.command("produce")
@click.argument("stream")
@click.argument("file", default="-")
@click.option("--partition", type=natural, help="Into this one.")
@click.option(
    "--delay",
    "delay_s",
    type=duration,
    metavar="TIME",
    help="Have them come so long after they were sent (10s, 90m, 2h, 3d).",
)
@url_option
@json_option
def command(
    stream: str,
    file: str,
    partition: int | None,
    delay_s: float | None,
    url: str,
    as_json: bool,
) -> None:
    r"""Send the lines of FILE (or standard input) to STREAM, and say how many were acknowledged.

    A line is a record; only \n ends a line, everything else is part of it. A last line without
    newline is marked by the header streamer-no-newline, which `consume` honours: what goes in
    comes out, byte for byte. The stream is made if it is not there, also by an empty file.

    With --delay the lines are durable at once, in STREAM.delayed, and come to STREAM when they are
    due, in the order of their times and spread over its partitions.
    """

    from streamer_tools.files import open_input

    if delay_s is not None and partition is not None:
        raise click.UsageError("--partition and --delay: what is delayed has no partition yet")
    if delay_s is not None and delay_s > _DELAY_S_MAX:
        raise click.UsageError("--delay: allowed are 366 days at most")
    tally = Tally(delay_s=delay_s)
    try:
        with open_input(file) as descriptor, _progress(file, descriptor) as advance:
            running.run(_produce, url, stream, partition, descriptor, tally, advance)
    finally:
        if tally.begin is not None:
            _tell(stream, tally, time.monotonic() - tally.begin, as_json)


async def _produce(
    url: str,
    stream: str,
    partition: int | None,
    descriptor: int,
    tally: Tally,
    advance: Callable[[int], None],
) -> None:
    from streamer.client import connect
    from streamer.records import Record
    from streamer_tools.files import Input
    from streamer_tools.lines import NO_NEWLINE, LineSplitter, batched

    source = Input(descriptor)
    async with (
        connect(url, name="streamer produce") as client,
        _producer(client, stream, partition, tally.delay_s) as producer,
    ):
        tally.begin = time.monotonic()
        limits, _ = client.limits
        splitter = LineSplitter(limits.value_bytes)
        records_max = min(_BATCH_RECORDS, limits.records)
        # Half of what a batch may be, for lines that do not compress.
        bytes_max = min(_BATCH_BYTES, limits.batch_bytes // 2, limits.raw_bytes // 2)
        while chunk := await source.read():
            number = splitter.number + 1
            for values in batched(splitter.feed(chunk), records_max, bytes_max):
                receipt = await _send(producer, _due(values, tally.delay_s), number)
                tally.add(receipt, sum(map(len, values)) + len(values))
                number += len(values)
            advance(len(chunk))
        last = splitter.end()
        if last is not None:
            marked = Record(last, headers={NO_NEWLINE: b""})
            sent = _due([marked], tally.delay_s)
            tally.add(await _send(producer, sent, splitter.number), len(last))


@asynccontextmanager
async def _producer(
    client: Client, stream: str, partition: int | None, delay_s: float | None
) -> AsyncGenerator[Producer, None]:
    from streamer.client.delays import DELAYED
    from streamer.errors import BadRequest

    if delay_s is not None:
        if stream.endswith(DELAYED):
            raise BadRequest(f"stream {stream!r} is where what is delayed waits already")
        # A mistyped name is refused now, and not when they are due.
        await client.stream(stream, create=True)
        stream = stream + DELAYED
    async with client.producer(stream, partition=partition, dictionary=True) as producer:
        yield producer


def _due(values: list[bytes] | list[Record], delay_s: float | None) -> list[bytes] | list[Record]:
    """The same, as they are sent: with the time when they are due, if they are delayed."""
    from streamer.records import Record

    if delay_s is None:
        return values
    due_us = time.time_ns() // 1000 + round(delay_s * 1_000_000)
    records = [value if isinstance(value, Record) else Record(value) for value in values]
    return [attrs.evolve(record, deliver_at_us=due_us) for record in records]


async def _send(producer: Producer, values: list[bytes] | list[Record], number: int) -> Receipt:
    """Send one batch, whose first line has that number.

    Raises:
        TooLarge: it is above a limit, alone as it may be in its batch; the line is named.
    """
    from streamer.errors import TooLarge

    try:
        return await producer.send_batch(values)
    except TooLarge as error:
        sizes = [len(value if isinstance(value, bytes) else value.value) for value in values]
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        raise TooLarge(
            f"line {number + longest} has {sizes[longest]} bytes: {error.message}"
        ) from error


@contextmanager
def _progress(file: str, descriptor: int) -> Iterator[Callable[[int], None]]:
    """Calls with bytes read move a bar on the terminal, where standard error is one."""
    if not is_terminal("stderr") or (file == "-" and is_terminal("stdin")):
        yield lambda nbytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    status = os.fstat(descriptor)
    total = status.st_size if stat.S_ISREG(status.st_mode) else None
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda nbytes: progress.advance(task, nbytes)


def _tell(stream: str, tally: Tally, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(stream, tally, seconds))
        return
    of = "" if tally.delay_s is None else f" of {stream}.delayed"
    where = ", ".join(
        f"offsets {first} to {after - 1} of partition {partition}{of}"
        for partition, (first, after) in sorted(tally.offsets.items())
    )
    text = f"{stream}: {tally.records:,} records acknowledged"
    if tally.records:
        text += f" ({where}; {tally.level}; {tally.records / max(seconds, 1e-9):,.0f} records/s)"
        if tally.delay_s is not None:
            text += f", due {tally.delay_s:g} s after they were sent"
    click.echo(text)


def _as_json(stream: str, tally: Tally, seconds: float) -> dict[str, Any]:
    return {
        "stream": stream,
        **({} if tally.delay_s is None else {"delay_s": tally.delay_s}),
        "acked": tally.records,
        "bytes": tally.nbytes,
        "batches": tally.batches,
        "level": tally.level,
        "partitions": {
            str(partition): {"first_offset": first, "next_offset": after}
            for partition, (first, after) in sorted(tally.offsets.items())
        },
        "seconds": round(seconds, 6),
    }
