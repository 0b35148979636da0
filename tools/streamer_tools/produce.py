"""`streamer produce`: a file's lines into a stream, a record a line.

Rules: lines go out in order, in batches, each acknowledged before the next is sent: a batch of
thousands pays for its round trip, and what was acknowledged is known at any moment. A batch is
never above what the daemon told as its limits. What a pipe brings goes out as it comes; nobody
waits for a batch to fill. Memory is bounded by one chunk and one line.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools.options import is_terminal, json_option, natural, print_json, url_option

if TYPE_CHECKING:
    from streamer.client import Producer
    from streamer.records import Receipt, Record

#: A batch of so many lines makes a round trip cheap; more only adds to the daemon's latency.
_BATCH_RECORDS = 4096
#: A batch of so many bytes likewise.
_BATCH_BYTES = 512 * 1024


@attrs.define
class Tally:
    """What has been acknowledged so far; `begin` is set once there is a daemon to send to."""

    records: int = 0
    nbytes: int = 0
    batches: int = 0
    begin: float | None = None
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
@url_option
@json_option
def command(stream: str, file: str, partition: int | None, url: str, as_json: bool) -> None:
    r"""Send the lines of FILE (or standard input) to STREAM, and say how many were acknowledged.

    A line is a record; only \n ends a line, everything else is part of it. A last line without
    newline is marked by the header streamer-no-newline, which `consume` honours: what goes in
    comes out, byte for byte. The stream is made if it is not there, also by an empty file.
    """
    import trio

    from streamer_tools.files import open_input

    tally = Tally()
    try:
        with open_input(file) as descriptor, _progress(file, descriptor) as advance:
            trio.run(_produce, url, stream, partition, descriptor, tally, advance)
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
        connect(url) as client,
        client.producer(stream, partition=partition, dictionary=True) as producer,
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
                receipt = await _send(producer, values, number)
                tally.add(receipt, sum(map(len, values)) + len(values))
                number += len(values)
            advance(len(chunk))
        last = splitter.end()
        if last is not None:
            marked = Record(last, headers={NO_NEWLINE: b""})
            tally.add(await _send(producer, [marked], splitter.number), len(last))


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
    where = ", ".join(
        f"offsets {first} to {after - 1} of partition {partition}"
        for partition, (first, after) in sorted(tally.offsets.items())
    )
    text = f"{stream}: {tally.records:,} records acknowledged"
    if tally.records:
        text += f" ({where}; {tally.level}; {tally.records / max(seconds, 1e-9):,.0f} records/s)"
    click.echo(text)


def _as_json(stream: str, tally: Tally, seconds: float) -> dict[str, Any]:
    return {
        "stream": stream,
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
