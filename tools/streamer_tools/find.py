"""`streamer find`: records by key, time, content, header or producer.

Rules: reading goes through ordinary readers, one partition after the other: what waits is bounded
by their credit, and the daemon does for it what it does for any reader. A time is looked up in the
daemon's index; a batch is decompressed only if its header does not already rule it out. Damage is
passed over, and said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import attrs
import click

from streamer_tools import running, show
from streamer_tools.asking import RECONNECT_S
from streamer_tools.exits import Exit
from streamer_tools.options import json_option, natural, url_option
from streamer_tools.printing import Printer, Progress, interrupted
from streamer_tools.when import span, us

if TYPE_CHECKING:
    from streamer.client import Client, ReceivedBatch
    from streamer.client.reader import Reader
    from streamer.records import Record

#: Clocks of producers disagree, and records may be late: reading ends after so many batches in a
#: row that are wholly so much later.
_LATE_US = 60_000_000
_LATE_BATCHES = 64
#: Records that are written at once, and count as found from then on.
_WRITTEN_MAX = 500


@click.command("find")
@click.argument("stream")
@click.option("--key", metavar="K", help="Records with this key: only its partition is read.")
@click.option(
    "--time", "time_span", metavar="FROM[..TO]",
    help="Records of that time: so long ago (10m), now, or ISO 8601 (UTC where it names no zone).",
)  # fmt: skip
@click.option("--contains", metavar="TEXT", help="Records with this in their value.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME[=VALUE]", help="Records with this header."
)
@click.option("--producer", type=natural, metavar="ID", help="Records of this producer.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N records.")
@click.option("--partition", type=natural, help="Only this one.")
@click.option("--all-partitions", is_flag=True, help="With --key: read them all.")
@click.option("--values", is_flag=True, help="Write the values alone, whole, a line each.")
@url_option
@json_option
def command(
    stream: str,
    key: str | None,
    time_span: str | None,
    contains: str | None,
    headers: tuple[str, ...],
    producer: int | None,
    limit: int | None,
    partition: int | None,
    all_partitions: bool,
    values: bool,
    url: str,
    as_json: bool,
) -> int:
    """Find the records of STREAM that meet every condition given.

    A line a record: partition, offset, time, key, value. A terminal shows as much as fits; --json
    writes a JSON object a record, whole.

    --key reads the partition that keys go to (--all-partitions: for records that were sent to a
    partition by number). --time asks the daemon's time index where to begin; with a TO, it ends
    after 64 batches in a row that are more than a minute later.

    Exit status 1 where none was found, as grep. Damage is passed over, with a line on standard
    error. After Ctrl-C a line says how far it came.
    """

    begin, end = (None, None) if time_span is None else span(time_span, datetime.now(UTC))
    wanted = Wanted(
        None if key is None else key.encode(),
        None if begin is None else us(begin),
        None if end is None else us(end),
        None if contains is None else contains.encode(),
        tuple(map(_header, headers)),
        producer,
    )
    if values and as_json:
        raise click.UsageError("--values and --json are two ways to write the same")
    search = Search(wanted, limit, Progress(), Printer(), as_json, values)
    try:
        running.run(search.run, url, stream, partition, all_partitions)
    except BaseException as error:
        search.progress.clear()
        if interrupted(error):
            click.echo(f"streamer: {show.escaped(search.sentence())}", err=True)
        raise
    if search.found:
        return Exit.OK
    click.echo(f"streamer: no such records in {show.escaped(stream)}", err=True)
    return Exit.FAILED


def _header(text: str) -> tuple[str, bytes | None]:
    """`NAME` (any value) or `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    return name, value.encode() if equals else None


@attrs.frozen
class Wanted:
    """What a record must be; None for any. Times in microseconds, the end not included."""

    key: bytes | None = None
    from_us: int | None = None
    to_us: int | None = None
    contains: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    producer: int | None = None

    def may_be_in(self, batch: ReceivedBatch) -> bool:
        """Whether the header leaves it open."""
        header = batch.header
        if self.from_us is not None and header.max_timestamp_us < self.from_us:
            return False
        if self.to_us is not None and header.base_timestamp_us >= self.to_us:
            return False
        # Of a batch that the daemon grouped, the header names no producer.
        return self.producer is None or header.grouped or header.producer_id == self.producer

    def takes(self, record: Record) -> bool:
        """Whether it is one, as far as the record tells."""
        at_us = record.timestamp_us or 0
        return (
            (self.key is None or record.key == self.key)
            and (self.from_us is None or at_us >= self.from_us)
            and (self.to_us is None or at_us < self.to_us)
            and (self.contains is None or self.contains in record.value)
            and all(_has(record, name, value) for name, value in self.headers)
        )

    def found_in(self, batch: ReceivedBatch) -> Iterator[tuple[int, Record]]:
        """(offset, record) of each in a batch.

        Raises:
            BadBatch: it is not what its header says.
        """
        if not self.may_be_in(batch) or not self._has_any(batch):
            return
        producers = batch.producers if self.producer is not None else None
        for index, record in enumerate(batch.records):
            mine = producers is None or producers[index] == self.producer
            if mine and self.takes(record):
                yield batch.base_offset + index, record

    def _has_any(self, batch: ReceivedBatch) -> bool:
        """Most batches have none, and making records of them takes the most time."""
        if self.key is not None and self.key not in (batch.keys or ()):
            return False
        text = self.contains
        return text is None or any(text in value for value in batch.values)

    def is_past(self, batch: ReceivedBatch) -> bool:
        """Whether all of a batch is from well after the end."""
        return self.to_us is not None and batch.header.base_timestamp_us > self.to_us + _LATE_US


def _has(record: Record, name: str, value: bytes | None) -> bool:
    found = (record.headers or {}).get(name)
    return found is not None and value in (None, found)


@attrs.define
class Search:
    """One search: what was found so far, and where it is."""

    wanted: Wanted
    limit: int | None
    progress: Progress
    printer: Printer
    as_json: bool
    values: bool
    found: int = 0
    partition: int | None = None
    offset: int = 0
    end: int = 0

    @property
    def full(self) -> bool:
        return self.limit is not None and self.found >= self.limit

    def sentence(self) -> str:
        """How far it came."""
        if self.partition is None:
            return "stopped before the first record"
        return (
            f"stopped in partition {self.partition} at offset {self.offset:,} of {self.end:,};"
            f" found {self.found:,} so far"
        )

    async def run(self, url: str, stream: str, partition: int | None, all_partitions: bool) -> None:
        """Read what there is to be read, and show what is found."""
        from streamer.client import connect

        async with connect(url, name="streamer find", reconnect_s=RECONNECT_S) as client:
            count = len((await client.stream(stream)).partitions)
            for number in self._partitions(stream, count, partition, all_partitions):
                await self._read(client, stream, number)
                if self.full:
                    break
        self.progress.clear()

    def _partitions(
        self, stream: str, count: int, partition: int | None, all_partitions: bool
    ) -> Sequence[int]:
        from streamer.errors import UnknownPartition
        from streamer.wire.partitioner import partition_for

        if partition is not None:
            if partition >= count:
                raise UnknownPartition(
                    f"stream {stream!r} has partitions 0 to {count - 1}, not {partition}"
                )
            return [partition]
        if self.wanted.key is not None and not all_partitions:
            return [partition_for(self.wanted.key, count)]
        return range(count)

    async def _read(self, client: Client, stream: str, number: int) -> None:
        self.partition, self.offset = number, 0
        start, late = await self._start(client, stream, number), 0
        async with client.reader(stream, number, start, follow=False) as reader:
            while not self.full and late < _LATE_BATCHES:
                batch = await self._next(reader)
                if batch is None:
                    return
                late = late + 1 if self.wanted.is_past(batch) else 0
                self.offset, self.end = batch.base_offset, reader.high_water
                await self._look(batch)
                self.offset = batch.next_offset
                self._show_progress(stream)

    async def _start(self, client: Client, stream: str, number: int) -> Literal["earliest"] | int:
        from_us = self.wanted.from_us
        if from_us is None:
            return "earliest"
        args = {"stream": stream, "partition": number, "timestamp_us": max(0, from_us)}
        offset: int = (await client.admin("time", args))["offset"]
        return offset

    async def _next(self, reader: Reader) -> ReceivedBatch | None:
        """The next batch that can be read; None at the end."""
        from streamer.errors import StreamerError

        while True:
            try:
                return await anext(reader)
            except StopAsyncIteration:
                return None
            except StreamerError as error:
                # Damage says what to pass over, and retention what is left; else there is no
                # going on.
                behind = error.detail.get("next", error.detail.get("first_offset"))
                if type(behind) is not int or behind <= self.offset:
                    raise
                self._tell(reader.partition, error.message)
                if behind >= reader.high_water:
                    return None
                self.offset = behind
                reader.seek(behind)

    async def _look(self, batch: ReceivedBatch) -> None:
        from streamer.errors import BadBatch

        try:
            found = list(self.wanted.found_in(batch))
        except BadBatch as error:
            offsets = f"offsets {batch.base_offset} to {batch.next_offset - 1}"
            self._tell(batch.partition, f"{offsets} cannot be read: {error.message}")
            return
        if self.limit is not None:
            found = found[: self.limit - self.found]
        for at in range(0, len(found), _WRITTEN_MAX):
            some = found[at : at + _WRITTEN_MAX]
            self.progress.clear()
            await self._write(batch.partition, some)
            self.found += len(some)
            self.offset = some[-1][0] + 1

    async def _write(self, partition: int, found: Sequence[tuple[int, Record]]) -> None:
        if self.values:
            await self.printer.whole(b"".join(record.value + b"\n" for _, record in found))
        elif self.as_json:
            text = "".join(
                json.dumps(show.record_json(record, partition, offset)) + "\n"
                for offset, record in found
            )
            await self.printer.whole(text.encode())
        else:
            width = self.printer.width
            await self.printer.lines(line(partition, *each, width) for each in found)

    def _tell(self, partition: int, message: str) -> None:
        self.progress.clear()
        click.echo(f"streamer: partition {partition}: {show.escaped(message)}", err=True)

    def _show_progress(self, stream: str) -> None:
        share = self.offset / max(1, self.end)
        self.progress.update(
            f"{show.escaped(stream)}: partition {self.partition}, {share:.0%}, offset"
            f" {self.offset:,}, found {self.found:,}"
        )


def line(partition: int, offset: int, record: Record, width: int | None) -> str:
    """A record on one line: of a terminal if there is a `width`, else bare."""
    at_us = record.timestamp_us or 0
    key = "-" if record.key is None else show.printable(record.key, 200)
    value = show.printable(record.value)
    if width is None:
        parts = partition, offset, show.moment(at_us), key.replace(" ", "\\x20"), value
        return "  ".join(map(str, parts))
    if width < 72:
        return f"{partition}  {offset}  {show.clock(at_us)[:8]}  {key}  {value}"
    return f"{partition}  {offset:>8}  {show.moment(at_us)[:23]}  {key}  {value}"
