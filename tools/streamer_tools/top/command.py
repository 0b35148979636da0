"""`streamer top`: pipelines, groups, streams and sessions of a daemon, live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer_tools import running
from streamer_tools.options import duration, json_option, url_option

if TYPE_CHECKING:
    from streamer_tools.top.state import State

#: As in `state`; a test holds the two against each other, as importing that takes time.
VIEWS = ("pipelines", "groups", "streams", "sessions", "events", "sla")
_INTERVAL_S = (0.1, 3600.0)


def _interval(_: click.Context, __: click.Parameter, text: str) -> float:
    seconds = duration(text)
    low, high = _INTERVAL_S
    if not low <= seconds <= high:
        raise click.BadParameter(f"{text!r} is not within 100ms to 1h")
    return seconds


@click.command("top")
@click.option(
    "--interval",
    "interval_s",
    default="1s",
    show_default=True,
    metavar="TIME",
    callback=_interval,
    help="Time between two looks: 500ms, 2s.",
)
@click.option("--once", is_flag=True, help="Print one look and end; works in a pipe.")
@click.option("--view", type=click.Choice(VIEWS), help="Begin with this view; --once: only it.")
@click.option("--sort", "sort", metavar="COLUMN", help="Sort by the column of that title.")
@click.option("--filter", "text", default="", metavar="TEXT", help="Only what has TEXT in a name.")
@url_option
@json_option
def command(
    interval_s: float,
    once: bool,
    view: str | None,
    sort: str | None,
    text: str,
    url: str,
    as_json: bool,
) -> int:
    """Watch a daemon live: pipelines and their channels, groups, streams, sessions, events.

    Keys: tab or 1 to 6 for another view, arrows to move, enter to open, / to filter, s to sort, p
    to pause, ? for all of them, q to quit. With --json, a line of JSON a look, and no terminal is
    needed.
    """

    from streamer_tools.top import once as looks

    state = _state(view, sort, text, interval_s)
    if as_json:
        running.run(looks.documents, url, interval_s, once)
        return 0
    if once:
        running.run(looks.look_once, url, state, VIEWS if view is None else (view,))
        return 0
    from streamer_tools.top import live, terminal

    terminal.check()
    return running.run(live.run, url, state)


def _state(view: str | None, sort: str | None, text: str, interval_s: float) -> State:
    from streamer_tools.top.lists import largest_first, sorts
    from streamer_tools.top.state import Place, State

    places = {each: Place() for each in VIEWS}
    if sort is not None:
        having = [each for each in VIEWS if sort in sorts(each)]
        if not having:
            known = sorted({name for each in VIEWS for name in sorts(each)})
            raise click.BadParameter(
                f"{sort!r} is no column, those are: {', '.join(known)}", param_hint="--sort"
            )
        for each in having:
            places[each] = Place(sort=sort, reverse=sort in largest_first(each))
        view = view or having[0]
    return State(view=view or VIEWS[0], places=places, filter=text, interval_s=interval_s)
