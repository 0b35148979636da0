"""`streamer queues`: what waits in front of each stage, against its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from streamer_tools import show
from streamer_tools.options import is_terminal, json_option, print_json, url_option

COLUMNS = (
    show.Column("pipeline", "pipeline"),
    show.Column("place", "place"),
    show.Column("stage", "stage"),
    show.Column("items", "items", show.figure),
    show.Column("of", "items_max", show.figure),
    show.Column("most", "items_seen", show.figure),
    show.Column("bytes", "bytes", show.size),
    show.Column("of bytes", "bytes_max", show.size),
    show.Column("most bytes", "bytes_seen", show.size),
    show.Column("waiting", "senders_waiting", show.figure),
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
    import trio

    trio.run(_show, url, watch, interval_s, as_json)


async def _show(url: str, watch: bool, interval_s: float, as_json: bool) -> None:
    import trio

    from streamer.client import connect

    async with connect(url) as client:
        with Display(as_json, live=watch) as display:
            while True:
                display.update(await client.admin("queues", {}))
                if not watch:
                    return
                await trio.sleep(interval_s)


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
            self._live.update(show.rich_table(COLUMNS, list(rows(pipelines))), refresh=True)
        else:
            show.print_table(COLUMNS, list(rows(pipelines)))


def rows(pipelines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a channel, in the order of the flow."""
    for pipeline in pipelines:
        for stage in pipeline["stages"]:
            yield {
                "pipeline": pipeline["pipeline"],
                "place": stage["place"],
                "stage": stage["stage"],
                **stage["channel"],
            }
