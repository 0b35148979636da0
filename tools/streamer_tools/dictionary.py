"""`streamer dict train`: a zstd dictionary from a stream's own records.

Rules: small batches are where zstd has nothing to look back at, so a sample is what such a batch
holds: the payload of one record. Records that the dictionary was not trained on are kept aside to
measure what it is worth, and it is stored only if it helps there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from streamer_tools import running, show
from streamer_tools.exits import Exit, Told
from streamer_tools.options import json_option, nbytes, print_json, url_option
from streamer_tools.printing import print_rows

#: zstd needs many samples for each byte of dictionary; below this it refuses or learns nothing.
_SAMPLES_MIN = 100
#: One in so many is kept aside to measure with.
_HELD_BACK = 5
_BATCH_RECORDS = (1, 10, 100)


@click.group("dict")
def command() -> None:
    """Compression dictionaries of streams."""


@command.command("train")
@click.argument("stream")
@click.option(
    "--samples",
    type=click.IntRange(min=_SAMPLES_MIN),
    default=20_000,
    show_default=True,
    help="Train on the first so many records.",
)
@click.option(
    "--size",
    "dictionary_bytes",
    type=nbytes,
    default="16k",
    show_default=True,
    help="Size of the dictionary.",
)
@click.option("--dry-run", is_flag=True, help="Measure only: store nothing.")
@url_option
@json_option
def train(
    stream: str, samples: int, dictionary_bytes: int, dry_run: bool, url: str, as_json: bool
) -> None:
    """Train a dictionary on STREAM's records and store it with the stream.

    `produce`, and producers that ask for it (dictionary=True), compress with it from then on; what
    is there stays readable. Its worth is measured on records that it was not trained on, and one
    that is worth nothing is not stored.
    """

    values = running.run(_sample, url, stream, samples)
    if len(values) < _SAMPLES_MIN:
        raise Told(
            Exit.FAILED, f"{stream} has {len(values)} records; training takes {_SAMPLES_MIN}"
        )
    data, worth = trained(values, dictionary_bytes)
    found: dict[str, Any] = {
        "stream": stream,
        "samples": len(values),
        "bytes": len(data),
        "bytes_per_record": worth,
        "id": None,
    }
    helps = worth["1"]["with"] < worth["1"]["without"]
    if helps and not dry_run:
        from streamer_tools.asking import ask

        found["id"] = ask(url, "dictionary_add", stream=stream, data=data)["id"]
    if as_json:
        print_json(found)
    else:
        _tell(found, helps)


async def _sample(url: str, stream: str, count: int) -> list[bytes]:
    from streamer.client import connect

    values: list[bytes] = []
    async with connect(url, name="streamer dict train") as client:
        # A reader would wait for a stream that is not there, or find it empty.
        await client.stream(stream)
        async with client.reader(stream, start="earliest", follow=False) as reader:
            async for batch in reader:
                values += batch.values
                if len(values) >= count:
                    break
    return values[:count]


def trained(
    values: Sequence[bytes], dictionary_bytes: int
) -> tuple[bytes, dict[str, dict[str, float]]]:
    """A dictionary from four fifths of the values, and its worth on the rest.

    The worth is bytes on disk a record, for batches of 1, 10 and 100 records, with the dictionary
    and without.

    Raises:
        Told: the values are too few or too short to learn anything from.
    """
    import zstandard

    from streamer import cbor

    held_back = list(values[::_HELD_BACK])
    samples: list[bytes | bytearray | memoryview] = [
        cbor.dumps([[value]]) for number, value in enumerate(values) if number % _HELD_BACK
    ]
    try:
        data = zstandard.train_dictionary(dictionary_bytes, samples).as_bytes()
    except zstandard.ZstdError as error:
        raise Told(
            Exit.FAILED, f"zstd learns nothing from these {len(samples)} records: {error}"
        ) from error
    return data, {
        str(records): {
            "without": _bytes_per_record(held_back, records, None),
            "with": _bytes_per_record(held_back, records, data),
        }
        for records in _BATCH_RECORDS
    }


def _bytes_per_record(values: Sequence[bytes], records: int, data: bytes | None) -> float:
    from streamer.batch import Codec

    codec = Codec(dictionaries={1: data} if data else {})
    batches = [
        codec.encode_values(values[at : at + records], now_us=0, dictionary_id=1 if data else 0)
        for at in range(0, len(values), records)
    ]
    return round(sum(batch.nbytes for batch in batches) / len(values), 1)


def _tell(found: dict[str, Any], helps: bool) -> None:
    click.echo(f"{found['stream']}: {found['bytes']:,} bytes from {found['samples']:,} records")
    columns = [show.Column(title, title) for title in ("batch of", "without", "with")]
    rows = [
        {"batch of": int(records), **worth} for records, worth in found["bytes_per_record"].items()
    ]
    click.echo("bytes on disk a record, headers included:")
    print_rows(columns, rows)
    if found["id"] is not None:
        click.echo(f"stored as {found['id']:08x}")
    else:
        click.echo("not stored" + ("" if helps else ": it is worth nothing"))
