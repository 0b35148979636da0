"""`streamer lag`: how far each group is behind, in records and in age; as a check, a status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import click

from streamer_tools import running, show
from streamer_tools.asking import RECONNECT_S
from streamer_tools.exits import Exit
from streamer_tools.options import duration, json_option, natural, print_json, url_option
from streamer_tools.printing import print_rows

COLUMNS = (
    show.Column("stream", "stream"),
    show.Column("group", "group"),
    show.Column("partition", "partition"),
    show.Column("cursor", "cursor", show.figure),
    show.Column("high water", "high_water", show.figure),
    show.Column("lag", "lag", show.figure),
    show.Column("oldest", "oldest_age_s", show.age),
    show.Column("in flight", "in_flight", show.figure),
    show.Column("retrying", "retrying", show.figure),
)


@attrs.frozen
class Limits:
    """What a partition may be behind; None for as much as it likes."""

    records: int | None
    age_s: float | None

    @property
    def any(self) -> bool:
        """Whether there is something to check."""
        return self.records is not None or self.age_s is not None

    def faults(self, row: Mapping[str, Any]) -> Iterator[str]:
        """What a partition exceeds, a sentence each."""
        where = f"{row['stream']}, group {row['group']}, partition {row['partition']}"
        lag, age_s = row["lag"], row["oldest_age_s"]
        if self.records is not None and lag > self.records:
            yield f"{where}: {lag:,} records behind, allowed are {self.records:,}"
        if self.age_s is not None and age_s is not None and age_s > self.age_s:
            yield f"{where}: the oldest waits for {age_s:.1f} s, allowed are {self.age_s:g} s"


@click.command("lag")
@click.argument("stream", required=False)
@click.option("--group", help="Only this group; it must be there.")
@click.option("--max-records", type=natural, metavar="N", help="Check: at most so many behind.")
@click.option(
    "--max-age", "max_age_s", type=duration, metavar="TIME",
    help="Check: the oldest waits for at most so long (90, 10m, 2h).",
)  # fmt: skip
@url_option
@json_option
def command(
    stream: str | None,
    group: str | None,
    max_records: int | None,
    max_age_s: float | None,
    url: str,
    as_json: bool,
) -> int:
    """Show how far each group is behind, by partition, of all streams or of STREAM.

    `cursor` is the lowest offset that is neither acked nor dead; `lag` counts such records below
    `high water`, and `oldest` is the age of the first of them.

    With --max-records or --max-age it is a check: exit status 1, and a line on standard error for
    each partition that exceeds a limit; 0 where none does. (69 where no daemon can be reached.)
    """

    limits = Limits(max_records, max_age_s)
    found = running.run(_lag, url, stream, group)
    faults = [fault for row in found for fault in limits.faults(row)]
    if as_json:
        print_json(checked(found, limits))
    elif not found:
        click.echo("no groups yet", err=True)
    else:
        print_rows(COLUMNS, found)
    for fault in faults:
        click.echo(f"streamer: {fault}", err=True)
    return Exit.FAILED if faults else Exit.OK


def checked(found: Sequence[dict[str, Any]], limits: Limits) -> list[dict[str, Any]]:
    """The rows for JSON; where there are limits, each says whether it exceeds one."""
    if not limits.any:
        return list(found)
    return [row | {"exceeded": any(limits.faults(row))} for row in found]


async def _lag(url: str, stream: str | None, group: str | None) -> list[dict[str, Any]]:
    from streamer.client import connect
    from streamer.errors import UnknownGroup

    async with connect(url, name="streamer lag", reconnect_s=RECONNECT_S) as client:
        if stream is not None:
            await client.stream(stream)
        found: list[dict[str, Any]] = await client.admin("lag", {"stream": stream or ""})
    if group is not None:
        found = [row for row in found if row["group"] == group]
        if not found:
            # A check of a group that nobody has must not pass.
            where = f"stream {stream!r}" if stream is not None else "any stream"
            raise UnknownGroup(f"there is no group {group!r} of {where}")
    return found
