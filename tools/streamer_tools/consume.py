"""`streamer consume`: a stream's values on standard output, byte for byte, one a line.

Rules: without `--follow` it ends at what was committed when it began to read. Several partitions
are read one after the other, and side by side with `--follow`; within a partition the order holds.
Nothing but values goes to standard output. With `--group` it is a member of a group:
`consume_group`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from streamer_tools import running, show
from streamer_tools.options import Position, json_option, natural, position, url_option

if TYPE_CHECKING:
    from streamer.client import Client, ReceivedBatch
    from streamer_tools.files import Output


@click.command("consume")
@click.argument("stream")
@click.option("--partition", type=natural, help="Only this one [default: all]")
@click.option(
    "--from",
    "start",
    type=position,
    metavar="POSITION",
    help="earliest, latest, an offset, or an ISO 8601 time (UTC where it names no zone)"
    " [default: earliest]",
)
@click.option("--count", type=natural, help="Stop after so many records.")
@click.option("--follow", is_flag=True, help="Wait for more at the end.")
@click.option(
    "--group", metavar="NAME", help="As a member of this group, which is made if need be."
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --group: at most so many records in a delivery.",
)
@url_option
@json_option
def command(
    stream: str,
    partition: int | None,
    start: Position | None,
    count: int | None,
    follow: bool,
    group: str | None,
    batch: int | None,
    url: str,
    as_json: bool,
) -> None:
    """Write the values of STREAM's records to standard output, one a line.

    The bytes are those that were sent; a record that `produce` marked as a file's last line
    without newline gets none, unless another record follows. --json writes a JSON object a record,
    with offset, time, key and headers; bytes that are no UTF-8 are in base64 there.

    With --group it takes what the group is given, and acks each delivery once all of it is written
    to standard output; what was not written (Ctrl-C, a reader that went away) is given back and
    counts no attempt. Without --follow it ends once the group has done, here or elsewhere, all that
    was committed when it began; until then it also takes what is newer. What others hold and what
    waits for its next attempt is waited for.
    """

    from streamer_tools.files import Output

    if group is not None:
        if partition is not None or start is not None:
            raise click.UsageError("--from and --partition are not for a group: see `group seek`")
        from streamer_tools.consume_group import GroupPrinter, consume_group

        printer = GroupPrinter(Output(), as_json, count)
        running.run(consume_group, url, stream, group, follow, batch or 0, printer)
        return
    if batch is not None:
        raise click.UsageError("--batch is for --group")
    begin = "earliest" if start is None else start
    running.run(_consume, url, stream, partition, begin, follow, Printer(Output(), as_json, count))


class Printer:
    """Puts batches on standard output until `count` records are through (None: no end)."""

    def __init__(self, output: Output, as_json: bool, count: int | None) -> None:
        import trio

        from streamer_tools.lines import LineJoiner

        #: Set when the last record that is wanted has been written.
        self.done = trio.Event()
        self._output = output
        self._as_json = as_json
        self._left = count
        self._joiner = LineJoiner()

    @property
    def full(self) -> bool:
        """Whether no further record is wanted."""
        return self._left == 0

    async def write(self, batch: ReceivedBatch) -> None:
        """Write a batch, or the part of it that is wanted. Cancelled, part of it may be out."""
        count = batch.count if self._left is None else min(self._left, batch.count)
        if not count:
            return
        # Decided before the wait below: readers of other partitions come meanwhile.
        if self._left is not None:
            self._left -= count
        last = self.full
        data = self._objects(batch, count) if self._as_json else self._lines(batch, count)
        await self._output.write(data)
        # Whoever waits for output after this one has nothing to write.
        if last:
            self.done.set()

    def _lines(self, batch: ReceivedBatch, count: int) -> bytes:
        headers = batch.headers
        return self._joiner.join(batch.values[:count], None if headers is None else headers[:count])

    def _objects(self, batch: ReceivedBatch, count: int) -> bytes:
        lines = [
            json.dumps(show.record_json(record, batch.partition, offset)) + "\n"
            for offset, record in enumerate(batch.records[:count], batch.base_offset)
        ]
        return "".join(lines).encode()


async def _consume(
    url: str,
    stream: str,
    partition: int | None,
    start: Position,
    follow: bool,
    printer: Printer,
) -> None:
    import trio

    from streamer.client import connect

    async with connect(url, name="streamer consume") as client:
        # Asked in any case: a stream that is not there is refused, not waited for.
        partitions = await _partitions(client, stream)
        if partition is not None:
            partitions = [partition]
        if not follow:
            for number in partitions:
                await _read(client, stream, number, start, False, printer)
            return
        async with trio.open_nursery() as nursery:
            for number in partitions:
                nursery.start_soon(_read, client, stream, number, start, True, printer)
            if not printer.full:
                await printer.done.wait()
            nursery.cancel_scope.cancel()


async def _partitions(client: Client, stream: str) -> list[int]:
    return [info.partition for info in (await client.stream(stream)).partitions]


async def _read(
    client: Client, stream: str, partition: int, start: Position, follow: bool, printer: Printer
) -> None:
    if printer.full:
        return
    async with client.reader(stream, partition, start, follow=follow) as reader:
        async for batch in reader:
            await printer.write(batch)
            if printer.full:
                return
