"""`streamer tap`: what passes at points of the pipelines, as it happens.

Rules: the daemon takes so many items a second and counts the rest, so that looking slows nothing;
batches come as they are, and are decoded here. A tap ends at the daemon once nobody asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools import running, show
from streamer_tools.asking import RECONNECT_S
from streamer_tools.options import duration, json_option, url_option
from streamer_tools.printing import Printer, interrupted

if TYPE_CHECKING:
    from streamer.batch import Codec
    from streamer.client import Client
    from streamer.records import Record

#: How long the daemon waits for the first item, and how often it is asked at most.
_WAIT_MS = 2000
_PAUSE_S = 0.05
#: Records that are shown of an item.
_RECORDS_MAX = 10
#: Narrower than that, a line leaves out what is least wanted.
_NARROW = 72


@click.command("tap")
@click.argument("glob")
@click.option("--in", "direction", flag_value="in", help="Only what goes into a stage.")
@click.option("--out", "direction", flag_value="out", help="Only what a stage sends on.")
@click.option(
    "--rate", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N",
    help="Items a second that are shown; the rest is counted.",
)  # fmt: skip
@click.option("--keys", is_flag=True, help="Show the keys of the records.")
@click.option("--values", is_flag=True, help="Show the records: key, headers, value.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N items.")
@click.option("--for", "for_s", type=duration, metavar="TIME", help="Stop after so long (10, 5m).")
@click.option("--stream", metavar="GLOB", help="Only items of these streams.")
@url_option
@json_option
def command(
    glob: str,
    direction: str | None,
    rate: int,
    keys: bool,
    values: bool,
    count: int | None,
    for_s: float | None,
    stream: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Watch what passes at the points that match GLOB, until Ctrl-C.

    A point is PIPELINE/PLACE.in, what is handed to a stage; PIPELINE/PLACE.out, what it sends on;
    or deliver/STREAM/GROUP, what a group hands out. `default/*` is all of a pipeline, `*/persist`
    one stage of each. A GLOB that matches none is answered with the points there are.

    A line an item: time (UTC), point, stream with partition and offset, records, bytes, kind,
    reason.
    With --keys or --values its records are below it, the first ten, where the batch is small
    enough (64 KiB) and there is room (1 MiB a second). --rate comes before --stream.

    At the end a line on standard error says how many items passed.
    """

    wanted = glob if direction is None else f"{_bare(glob)}.{direction}"
    counts = Counts(rate)
    shower = Shower(keys or values, values, as_json)
    try:
        running.run(_tap, url, wanted, stream, count, for_s, shower, counts)
    except BaseException as error:
        if interrupted(error):
            click.echo(counts.sentence(), err=True)
        raise
    click.echo(counts.sentence(), err=True)


def _bare(glob: str) -> str:
    for direction in (".in", ".out"):
        glob = glob.removesuffix(direction)
    return glob


@attrs.define
class Counts:
    """What passed, over all the taps that it took (a daemon that was away has ended one)."""

    rate: int
    shown: int = 0
    #: Items that the daemon gave out.
    given: int = 0
    #: Those of streams that are not wanted.
    others: int = 0
    seen: int = 0
    _seen_last: int = 0

    def take(self, seen: int) -> None:
        """The daemon's count of the tap by now; one that fell is that of a new tap."""
        self.seen += seen - self._seen_last if seen >= self._seen_last else seen
        self._seen_last = seen

    def sentence(self) -> str:
        """How much was seen of it."""
        over = max(0, self.seen - self.given)
        text = f"streamer: shown {self.shown:,} of {self.seen:,} items that passed"
        if self.others:
            text += f"; {self.others:,} were of other streams"
        if over:
            text += f"; {over:,} were over the rate of {self.rate} a second"
        return text


async def _tap(
    url: str,
    glob: str,
    streams: str | None,
    count: int | None,
    for_s: float | None,
    shower: Shower,
    counts: Counts,
) -> None:
    import trio

    from streamer.client import connect
    from streamer_tools.asking import asked

    printer = Printer()
    args = {
        "id": f"tap-{secrets.token_hex(8)}",
        "glob": glob,
        "rate": counts.rate,
        "values": shower.keys,
    }
    with trio.move_on_after(float("inf") if for_s is None else for_s):
        async with connect(url, name="streamer tap", reconnect_s=RECONNECT_S) as client:
            while count is None or counts.shown < count:
                answer = await asked(client, url, "tap", {**args, "wait_ms": _WAIT_MS})
                counts.take(answer.get("seen") or 0)
                items = answer.get("items") or []
                counts.given += len(items)
                mine = [each for each in items if streams is None or of(each, streams)]
                counts.others += len(items) - len(mine)
                mine = mine[: None if count is None else count - counts.shown]
                lines: list[str] = []
                for item in mine:
                    lines += await shower.lines(
                        client, item, answer.get("points") or (), printer.width
                    )
                await printer.lines(lines)
                counts.shown += len(mine)
                await trio.sleep(_PAUSE_S)


def of(item: Mapping[str, Any], streams: str) -> bool:
    """Whether an item is of the streams of a glob."""
    return fnmatchcase(item.get("stream") or "", streams)


class Shower:
    """Makes lines of items; keeps the dictionaries that it took to read them."""

    def __init__(self, keys: bool, values: bool, as_json: bool) -> None:
        #: Whether records are wanted at all.
        self.keys = keys
        self._values = values
        self._as_json = as_json
        self._codecs: dict[str, tuple[Codec, dict[int, bytes]]] = {}

    async def lines(
        self, client: Client, item: Mapping[str, Any], points: Sequence[str], width: int | None
    ) -> list[str]:
        """An item's line, and those of its records."""
        from streamer.errors import BadBatch, UnknownDictionary

        records: Sequence[Record] | None = None
        fault = ""
        if self.keys:
            try:
                records = await self._records(client, item)
            except (BadBatch, UnknownDictionary) as error:
                records, fault = [], f"cannot be read: {error.message}"
        if self._as_json:
            return [as_json(item, records, self._values)]
        found = [plain_line(item) if width is None else line(item, points, width)]
        if records is not None:
            found += record_lines(records, item, self._values, fault)
        return found

    async def _records(self, client: Client, item: Mapping[str, Any]) -> Sequence[Record]:
        """The records of an item: of its batch, or the sample of what is not encoded yet."""
        from streamer.records import Record

        if item.get("batch") is not None:
            return await self._decoded(client, item["stream"], item["batch"])
        return [
            Record(each["value"], key=each["key"], headers=each["headers"])
            for each in item.get("sample") or ()
        ]

    async def _decoded(self, client: Client, stream: str, data: bytes) -> Sequence[Record]:
        from streamer.batch import Codec, parse, records_of

        limits = client.limits[0]
        if stream not in self._codecs:
            fresh: dict[int, bytes] = {}
            self._codecs[stream] = Codec(limits=limits, dictionaries=fresh), fresh
        codec, dictionaries = self._codecs[stream]
        batch = parse(data, limits)
        number = batch.header.dictionary_id
        if number and number not in dictionaries:
            found = await client.admin("dictionary_get", {"stream": stream, "id": number})
            dictionaries[number] = found["data"]
        return records_of(codec.decode(batch), batch.header.base_timestamp_us)


# ------------------------------------------------------------------------------------- as text


def line(item: Mapping[str, Any], points: Sequence[str], width: int) -> str:
    """An item on one line, for a terminal."""
    if width < _NARROW:
        return _narrow(item)
    room = max((len(each) for each in points), default=0)
    parts = [
        show.clock(item.get("at_us")),
        f"{item.get('point') or '-':<{room}}",
        place(item),
        f"{show.figure(item.get('records'))} rec",
        show.size(item.get("bytes")),
        item.get("kind"),
        item.get("lane") and f"{item['lane']} lane",
        item.get("reason"),
    ]
    return "  ".join(show.escaped(part) for part in parts if part)


def _narrow(item: Mapping[str, Any]) -> str:
    """The same with the pipeline, and what is below a second, left out first."""
    parts = [
        show.clock(item.get("at_us"))[:8],
        (item.get("point") or "-").rpartition("/")[2],
        place(item),
        f"{show.figure(item.get('records'))}r",
        show.size(item.get("bytes")).replace(" ", ""),
        item.get("reason") or "",
    ]
    return show.escaped(" ".join(parts).rstrip())


def place(item: Mapping[str, Any]) -> str:
    """Stream, partition and offset, as far as they are known by then."""
    text = item.get("stream") or "-"
    if item.get("partition") is not None:
        text += f"/{item['partition']}"
    if item.get("offset") is not None:
        text += f"@{item['offset']}"
    return text


def plain_line(item: Mapping[str, Any]) -> str:
    """An item as bare values, two blanks apart, `-` for what is not known."""
    names = "point", "stream", "partition", "offset", "records", "bytes", "kind", "lane", "reason"
    values = [show.moment(item.get("at_us")), *(item.get(name) for name in names)]
    return "  ".join(show.plain(value) for value in values)


def record_lines(
    records: Sequence[Record], item: Mapping[str, Any], values: bool, fault: str = ""
) -> Iterator[str]:
    """The records below an item's line, or why there are none."""
    if not records and item.get("records"):
        yield f"    ({show.escaped(fault) or 'too large, or too much in this second'})"
    for record in records[:_RECORDS_MAX]:
        key = "-" if record.key is None else show.printable(record.key)
        text = f"    {key}"
        if values:
            for name, data in (record.headers or {}).items():
                text += f"  {show.escaped(name)}={show.printable(data)}"
            text += f"  {show.printable(record.value)}"
        yield text
    rest = (item.get("records") or 0) - _RECORDS_MAX
    if records and rest > 0:
        yield f"    ... {rest:,} more"


def as_json(item: Mapping[str, Any], records: Sequence[Record] | None, values: bool) -> str:
    """An item as one line of JSON, with its records where they are wanted."""
    import json

    found = {name: value for name, value in item.items() if name not in ("batch", "sample")}
    if records is not None:
        found["shown"] = [_record_json(record, values) for record in records]
    return json.dumps(found, default=str)


def _record_json(record: Record, values: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if record.key is not None:
        found |= show.as_text("key", record.key)
    if values:
        if record.headers:
            found["headers"] = show.headers_json(record.headers)
        found |= show.as_text("value", record.value)
    return found
