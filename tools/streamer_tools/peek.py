"""`streamer peek`: one record, and the batch it lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamer_tools import running, show
from streamer_tools.asking import RECONNECT_S
from streamer_tools.options import json_option, natural, print_json, url_option

if TYPE_CHECKING:
    from streamer.batch import Batch
    from streamer.client import ReceivedBatch


@click.command("peek")
@click.argument("stream")
@click.argument("partition", type=natural)
@click.argument("offset", type=natural)
@url_option
@json_option
def command(stream: str, partition: int, offset: int, url: str, as_json: bool) -> None:
    """Show the record at OFFSET of a PARTITION, and the batch that it is in.

    Nothing is consumed. Control characters of the value are escaped; --json has all of it.
    """

    received = running.run(_peek, url, stream, partition, offset)
    batch, record = received.batch, received.records[offset - received.base_offset]
    shown = {"stream": stream, **show.record_json(record, partition, offset)}
    if as_json:
        print_json(shown | {"batch": batch_json(batch)})
        return
    lines = {
        "stream": show.printable(stream.encode()),
        "partition": partition,
        "offset": offset,
        "time": show.moment(record.timestamp_us or 0),
        "key": None if record.key is None else show.printable(record.key),
        "headers": None if not record.headers else show.headers_json(record.headers),
        "deliver at": record.deliver_at_us and show.moment(record.deliver_at_us),
        "batch": _batch_text(batch),
        "producer": _producer_text(batch),
        "appended": show.moment(batch.header.append_time_us),
        "size": f"{len(record.value):,} bytes",
        "value": show.printable(record.value),
    }
    for name, value in lines.items():
        if value is not None:
            click.echo(f"{name:<11}{value}")


async def _peek(url: str, stream: str, partition: int, offset: int) -> ReceivedBatch:
    from streamer.client import connect

    async with connect(url, name="streamer peek", reconnect_s=RECONNECT_S) as client:
        return await client.peek(stream, offset, partition)


def batch_json(batch: Batch) -> dict[str, Any]:
    """The batch's header, for JSON."""
    header = batch.header
    return {
        "base_offset": header.base_offset,
        "count": header.count,
        "bytes": header.length,
        "raw_bytes": header.raw_length,
        "codec": "zstd" if header.codec else "none",
        "dictionary_id": header.dictionary_id,
        "append_time_us": header.append_time_us,
        "base_timestamp_us": header.base_timestamp_us,
        "max_timestamp_us": header.max_timestamp_us,
        "producer_id": header.producer_id,
        "epoch": header.epoch,
        "sequence": header.sequence,
        "grouped": header.grouped,
        "crc32c": f"{header.crc:08x}",
    }


def _batch_text(batch: Batch) -> str:
    header = batch.header
    text = (
        f"offsets {header.base_offset} to {header.next_offset - 1} ({header.count} records), "
        f"{show.size(header.length)} on disk, header included; "
    )
    if not header.codec:
        return text + "not compressed"
    text += f"{show.size(header.raw_length)} before zstd"
    return text + (f" with dictionary {header.dictionary_id:08x}" if header.dictionary_id else "")


def _producer_text(batch: Batch) -> str | None:
    header = batch.header
    if header.grouped:
        return "several: the daemon grouped single records"
    if not header.producer_id:
        return None
    return f"{header.producer_id}, epoch {header.epoch}, sequence {header.sequence}"
