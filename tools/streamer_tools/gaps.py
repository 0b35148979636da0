"""`streamer gaps`: where a log is not whole, and what a group has left out.

Rules: the daemon looks at headers, a piece for each request (the verb `gaps`): it need not send
what lies between them, and whoever looks can stop at any piece. Reading it all through a reader
would put the whole log on the wire to learn the same. What only the bytes between headers tell was
checked as they came in, and is by the daemon after each start; `--check` does so now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools import running, show
from streamer_tools.asking import RECONNECT_S
from streamer_tools.exits import Exit
from streamer_tools.options import duration, json_option, natural, print_json, url_option
from streamer_tools.printing import Progress, interrupted, print_rows

if TYPE_CHECKING:
    from streamer.client import Client


COLUMNS = (
    show.Column("partition", "partition"),
    show.Column("kind", "kind"),
    show.Column("first", "first", show.figure),
    show.Column("last", "last", show.figure),
    show.Column("records", "records", show.figure),
    show.Column("since", "since"),
    show.Column("for", "seconds", show.age),
    show.Column("out", "out", show.figure),
    show.Column("retrying", "retrying", show.figure),
)


@click.command("gaps")
@click.argument("stream")
@click.option("--partition", type=natural, help="Only this one [default: all]")
@click.option(
    "--silence", "silence_s", type=duration, metavar="TIME",
    help="Also pauses between appends that are longer (90, 10m, 2h).",
)  # fmt: skip
@click.option("--group", metavar="NAME", help="Also what this group has not done on the way.")
@click.option("--check", is_flag=True, help="Have every byte checked, not only the headers.")
@url_option
@json_option
def command(
    stream: str,
    partition: int | None,
    silence_s: float | None,
    group: str | None,
    check: bool,
    url: str,
    as_json: bool,
) -> int:
    """Show where the log of STREAM is not whole.

    A line for each range of offsets: `retention`, removed because it was old or too much;
    `dropped`, let go by a stream in memory for want of room; `damage`, there but cannot be read.
    With --silence, `silence` where nothing was appended for so long before the record `first`;
    with --group, `not done` where a group has done later records, but not these.

    The daemon looks at headers, and names what else it knows to be damaged. --check has it read
    every byte, which takes as long as the disk does.

    Exit status 1 where there is damage: the reason is on standard error. Records that retention
    removed, silences and groups are no failure.
    """

    looker = Looker(url, round((silence_s or 0) * 1e6), check, Progress(not as_json))
    try:
        found = running.run(looker.look, stream, partition, group)
    except BaseException as error:
        looker.progress.clear()
        if interrupted(error):
            click.echo(f"streamer: stopped at {looker.at}", err=True)
        raise
    whole = not any(each["damage"] for each in found)
    if as_json:
        print_json({"stream": stream, "checked": check, "whole": whole, "partitions": found})
    else:
        _print(stream, found)
    return Exit.OK if whole else Exit.FAILED


def _print(stream: str, found: list[dict[str, Any]]) -> None:
    table = [row for each in found for row in rows(each)]
    if table:
        print_rows(COLUMNS, table, brief_columns(table))
    for line in reasons(stream, found):
        click.echo(f"streamer: {show.escaped(line)}", err=True)
    click.echo(show.escaped(summary(stream, found)), err=True)


@attrs.define
class Looker:
    """Looks over partitions, a piece for each request, and remembers where it is."""

    url: str
    silence_us: int
    check: bool
    progress: Progress
    at: str = "the beginning"

    async def look(
        self, stream: str, partition: int | None, group: str | None
    ) -> list[dict[str, Any]]:
        """What was found, a map for each partition."""
        from streamer.client import connect
        from streamer.errors import UnknownPartition

        async with connect(self.url, name="streamer gaps", reconnect_s=RECONNECT_S) as client:
            numbers = [each.partition for each in (await client.stream(stream)).partitions]
            if partition is not None and partition not in numbers:
                raise UnknownPartition(
                    f"stream {stream!r} has partitions 0 to {numbers[-1]}, not {partition}"
                )
            found = []
            for number in numbers if partition is None else [partition]:
                one = await self._partition(client, stream, number)
                if group is not None:
                    one["group"] = await self._group(client, stream, number, group)
                found.append(one)
            self.progress.clear()
            return found

    async def _partition(self, client: Client, stream: str, number: int) -> dict[str, Any]:
        from streamer_tools.asking import asked

        whole = Whole(number)
        args = {
            "stream": stream,
            "partition": number,
            "silence_us": self.silence_us,
            "check": self.check,
        }
        offset: int | None = 0
        while offset is not None:
            more = {"offset": offset, "last_us": whole.last_us}
            offset = whole.add(await asked(client, self.url, "gaps", {**args, **more}))
            if offset is not None:
                self.at = f"partition {number}, offset {offset} of {whole.high_water}"
                self.progress.update(f"{stream}: {self.at}, {whole.share(offset):.0%}")
        return whole.doc()

    async def _group(self, client: Client, stream: str, number: int, group: str) -> dict[str, Any]:
        """The holes of a group in one partition; answers in pieces are put together."""
        from streamer_tools.asking import asked

        args = {"stream": stream, "group": group, "partition": number}
        found = await asked(client, self.url, "group_holes", {**args, "offset": 0})
        more = found
        while more["next"] is not None:
            more = await asked(client, self.url, "group_holes", {**args, "offset": more["next"]})
            found["holes"] += more["holes"]
        keys = ("cursor", "done_to", "high_water", "holes")
        return {"group": group, **{key: found[key] for key in keys}}


@attrs.define
class Whole:
    """The pieces of one partition, put together."""

    partition: int
    first_offset: int = 0
    high_water: int = 0
    dropped: int = 0
    state: str = ""
    last_us: int | None = None
    batches: int = 0
    records: int = 0
    nbytes: int = 0
    damage: list[dict[str, Any]] = attrs.Factory(list)
    silences: list[dict[str, Any]] = attrs.Factory(list)

    def add(self, answer: Mapping[str, Any]) -> int | None:
        """Take an answer of the verb `gaps`; where to ask on."""
        self.first_offset, self.high_water = answer["first_offset"], answer["high_water"]
        self.dropped, self.state = answer["dropped"], answer["state"]
        self.last_us = answer["last_us"]
        self.batches += answer["batches"]
        self.records += answer["records"]
        self.nbytes += answer["bytes"]
        self.damage += answer["damage"]
        self.silences += answer["silences"]
        if answer["next"] is None:
            self._add_known(answer["known"])
        following: int | None = answer["next"]
        return following

    def _add_known(self, known: Iterable[Mapping[str, Any]]) -> None:
        """Damage that is known and was not found now: headers do not tell all of it."""
        for each in known:
            first = max(each["first"], self.first_offset)
            behind = self.high_water if each["next"] is None else each["next"]
            inside = any(first < there["next"] and there["first"] < behind for there in self.damage)
            if first < behind and not inside:
                self.damage.append({"first": first, "next": behind, "reason": each["reason"]})
        self.damage.sort(key=lambda each: each["first"])

    def share(self, offset: int) -> float:
        """How much of it is done, from 0 to 1."""
        return (offset - self.first_offset) / max(1, self.high_water - self.first_offset)

    def doc(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "partition": self.partition,
            "first_offset": self.first_offset,
            "high_water": self.high_water,
            "state": self.state,
            "batches": self.batches,
            "records": self.records,
            "bytes": self.nbytes,
            "dropped": self.dropped,
            "last_append_us": self.last_us,
            "damage": self.damage,
            "silences": self.silences,
        }


# ------------------------------------------------------------------------------------- as text


def rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each gap of a partition, by their offsets."""
    number = found["partition"]
    gone = found["first_offset"]
    if gone:
        kind = "dropped" if found["dropped"] else "retention"
        yield _range(number, kind, 0, gone)
    others = [_range(number, "damage", each["first"], each["next"]) for each in found["damage"]]
    for silence in found["silences"]:
        others.append(
            {
                "partition": number,
                "kind": "silence",
                "first": silence["offset"],
                "since": show.moment(silence["from_us"]),
                "seconds": (silence["to_us"] - silence["from_us"]) / 1e6,
            }
        )
    for hole in found.get("group", {}).get("holes", ()):
        row = _range(number, "not done", hole["first"], hole["next"])
        others.append({**row, "out": hole["out"], "retrying": hole["retrying"]})
    yield from sorted(others, key=lambda row: row["first"])


def _range(number: int, kind: str, first: int, behind: int) -> dict[str, Any]:
    return {
        "partition": number,
        "kind": kind,
        "first": first,
        "last": behind - 1,
        "records": behind - first,
    }


def brief_columns(table: Iterable[Mapping[str, Any]]) -> list[show.Column]:
    """For a terminal: the columns that have something in them."""
    used = {key for row in table for key, value in row.items() if value is not None}
    return [
        attrs.evolve(column, title="part") if column.key == "partition" else column
        for column in COLUMNS
        if column.key in used and column.key != "since"
    ]


def reasons(stream: str, found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Why damaged ranges cannot be read, a sentence each."""
    for each in found:
        for damage in each["damage"]:
            yield f"{stream}, partition {each['partition']}: {damage['reason']}"


def summary(stream: str, found: list[dict[str, Any]]) -> str:
    """What was looked at, in a sentence."""
    records, batches = (sum(each[key] for each in found) for key in ("records", "batches"))
    damaged = sum(len(each["damage"]) for each in found)
    ranges = f"{damaged} damaged range{'' if damaged == 1 else 's'}" if damaged else "no damage"
    places = f"{len(found)} partition{'' if len(found) == 1 else 's'}"
    text = f"{stream}: {places}, {records:,} records in {batches:,} batches, {ranges}"
    holes = [hole for each in found for hole in each.get("group", {}).get("holes", ())]
    if any("group" in each for each in found):
        count = sum(hole["next"] - hole["first"] for hole in holes)
        text += f"; {found[0]['group']['group']}: {count:,} records left out"
    return text
