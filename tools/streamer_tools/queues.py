"""`streamer queues`: what waits in front of each stage, against its limits.

Rules: the daemon tells totals and keeps no account of who looks; a rate is the difference of two
looks, taken here. So a single look is two, a short time apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from streamer_tools import running, show
from streamer_tools.options import is_terminal, json_option, print_json, url_option
from streamer_tools.printing import narrow_lines, print_rows

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

#: Between the two looks that make one.
_GLANCE_S = 0.25

COLUMNS = (
    show.Column("pipeline", "pipeline"),
    show.Column("state", "state"),
    show.Column("place", "place"),
    show.Column("stage", "stage"),
    show.Column("items", "items", show.figure),
    show.Column("of", "items_max", show.figure),
    show.Column("most", "items_seen", show.figure),
    show.Column("bytes", "bytes", show.size),
    show.Column("of bytes", "bytes_max", show.size),
    show.Column("most bytes", "bytes_seen", show.size),
    show.Column("waiting", "senders_waiting", show.figure),
    show.Column("items per s", "rate", show.figure),
    show.Column("bytes per s", "bytes_rate", show.size),
    show.Column("oldest", "oldest_s", show.age),
)
#: The same for a person, who has 80 columns or a few more.
BRIEF = (
    show.Column("pipeline", "pipeline_state"),
    show.Column("stage", "where"),
    show.Column("items", "items_of"),
    show.Column("most", "items_seen", show.figure),
    show.Column("bytes", "bytes_of"),
    show.Column("most", "bytes_seen", show.size),
    show.Column("wait", "senders_waiting", show.figure),
    show.Column("per s", "rate", show.figure),
    show.Column("oldest", "oldest_s", show.age),
)


@click.command("queues")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks of --watch.",
)
@url_option
@json_option
def command(watch: bool, interval_s: float, url: str, as_json: bool) -> None:
    """Show what waits in each pipeline, against its limits.

    A line for the channel in front of each stage: items and bytes that wait, the most that ever
    did, senders that wait for room, items a second, and the age of the oldest.
    """

    running.run(_show, url, watch, interval_s, as_json)


async def _show(url: str, watch: bool, interval_s: float, as_json: bool) -> None:
    import trio

    from streamer.client import connect

    rates = Rates()
    async with connect(url, name="streamer queues") as client:
        rates.look(await client.queues(), time.monotonic())
        with Display(as_json, live=watch) as display:
            await trio.sleep(min(_GLANCE_S, interval_s))
            while True:
                display.update(rates.look(await client.queues(), time.monotonic()))
                if not watch:
                    return
                await trio.sleep(interval_s)


class Rates:
    """Adds to each look what went through each channel since the last one, by the second."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[float, int, int]] = {}

    def look(self, pipelines: Sequence[Mapping[str, Any]], now: float) -> Sequence[Any]:
        """The same with `rate` (items/s) and `bytes_rate` in each channel; None the first time.

        `now` is in seconds, of a clock that only goes forward.
        """
        for pipeline in pipelines:
            for stage in pipeline["stages"]:
                key, channel = (pipeline["pipeline"], stage["place"]), stage["channel"]
                items, nbytes = channel["items_total"], channel["bytes_total"]
                then, items_then, bytes_then = self._last.get(key, (now, items, nbytes))
                self._last[key] = (now, items, nbytes)
                # Totals that fell are those of a daemon that started anew.
                known = now > then and items >= items_then
                channel["rate"] = (items - items_then) / (now - then) if known else None
                channel["bytes_rate"] = (nbytes - bytes_then) / (now - then) if known else None
        return pipelines


class Display:
    """Shows the queues' state: one live table on a terminal, else one table or line an update."""

    def __init__(self, as_json: bool, live: bool) -> None:
        self._as_json = as_json
        self._live: Any = None
        if live and not as_json and is_terminal("stdout"):
            from rich.live import Live

            self._live = Live(auto_refresh=False)

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, pipelines: Sequence[Mapping[str, Any]]) -> None:
        """Show a new state in place of the last one."""
        if self._as_json:
            print_json(pipelines)
        elif self._live is not None:
            self._live.update(_drawn(list(rows(pipelines))), refresh=True)
        else:
            print_rows(COLUMNS, list(rows(pipelines)), BRIEF)


def _drawn(table: Sequence[Mapping[str, Any]]) -> Table | Text:
    from rich.text import Text

    lines = narrow_lines(BRIEF, table)
    return show.rich_table(BRIEF, table) if lines is None else Text("\n".join(lines))


def rows(pipelines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a channel, in the order of the flow."""
    for pipeline in pipelines:
        for stage in pipeline["stages"]:
            channel = stage["channel"]
            waits = channel["items"] or channel["senders_waiting"]
            name, state = pipeline["pipeline"], pipeline["state"]
            yield {
                "pipeline": name,
                "state": state,
                # Worth its room only where something is wrong.
                "pipeline_state": name if state == "running" else f"{name} ({state})",
                "place": stage["place"],
                "stage": stage["stage"],
                **channel,
                "oldest_s": channel["oldest_s"] if waits else None,
                "where": f"{stage['place']} {stage['stage']}",
                "items_of": f"{channel['items']:,}/{channel['items_max']:,}",
                "bytes_of": f"{show.size(channel['bytes'])}/{show.size(channel['bytes_max'])}",
            }
