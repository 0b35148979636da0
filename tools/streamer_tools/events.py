"""`streamer events`: what happened in a daemon, and what happens.

Rules: the daemon keeps the newest thousand, so that one who looks later still sees them; what was
missed is said. With `--follow` a daemon that is restarted is found again: its numbers begin anew,
and that is said too. Which run of the daemon it is, is told by its process and its start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools import running, show
from streamer_tools.options import json_option, url_option
from streamer_tools.printing import Printer, line_width
from streamer_tools.when import us, when

if TYPE_CHECKING:
    from streamer.client import Client

SEVERITIES = ("info", "warning", "error")
_LIMIT = 500
_WAIT_MS = 5000
#: Between two attempts to find a daemon that was lost.
_AGAIN_S = 0.5
#: Two starts that are closer are one: clocks of the same machine, read one after the other.
_SAME_START_US = 3_000_000


@click.command("events")
@click.option("--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--kind", "kinds", multiple=True, metavar="K", help="Only these; several times.")
@click.option(
    "--severity", type=click.Choice(SEVERITIES), default="info", show_default=True,
    help="Only these, and what is worse.",
)  # fmt: skip
@click.option("--since", metavar="TIME", help="Only later ones: so long ago (10m), or ISO 8601.")
@url_option
@json_option
def command(
    follow: bool, kinds: tuple[str, ...], severity: str, since: str | None, url: str, as_json: bool
) -> None:
    """Show what happened in the daemon: sessions, groups, recoveries, dead letters and the like.

    A line an event: time, severity, kind, how often within a second if more than once, what. The
    daemon keeps the newest 1,000. With --follow it goes on with what happens, also after the
    daemon was restarted, which a line on standard error says.
    """

    since_us = None if since is None else us(when(since, datetime.now(UTC)))
    wanted = Wanted(frozenset(kinds), SEVERITIES.index(severity), since_us)
    shown = running.run(_events, url, wanted, follow, as_json)
    if not shown and not follow and not as_json:
        click.echo("no events", err=True)


@attrs.frozen
class Wanted:
    """Which events are shown."""

    kinds: frozenset[str] = frozenset()
    #: The lowest severity, as its place in `SEVERITIES`.
    severity: int = 0
    since_us: int | None = None

    def takes(self, event: Mapping[str, Any]) -> bool:
        """Whether that is one of them; a severity that is not known here is the worst."""
        severity = event.get("severity")
        rank = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
        return (
            (not self.kinds or event.get("kind") in self.kinds)
            and rank >= self.severity
            and (self.since_us is None or (event.get("at_us") or 0) >= self.since_us)
        )


@attrs.define
class Position:
    """Where in a daemon's events one is, and of which run of it they are."""

    after: int = 0
    #: (process, start in microseconds) of the run; None before the first.
    run: tuple[int, int] | None = None
    connected: bool = False

    def reached(self, overview: Mapping[str, Any]) -> str | None:
        """Take note of the daemon that answers; what to say where it is not the same run."""
        uptime_us = round((overview.get("uptime_s") or 0) * 1e6)
        start_us = (overview.get("server_time_us") or 0) - uptime_us
        before, self.run = self.run, (overview.get("pid") or 0, start_us)
        self.connected = True
        if before is None:
            return None
        same = before[0] == self.run[0] and abs(before[1] - start_us) < _SAME_START_US
        if same:
            return "streamer: connected again"
        self.after = 0
        return "streamer: the daemon was restarted; its events begin anew"

    def take(self, answer: Mapping[str, Any]) -> str | None:
        """Take note of an answer; what to say where events were missed."""
        self.after = answer["next"]
        missed = answer.get("missed") or 0
        if not missed:
            return None
        return f"streamer: {missed:,} events were missed: more came than the daemon keeps"


async def _events(url: str, wanted: Wanted, follow: bool, as_json: bool) -> int:
    """How many were shown."""
    import trio

    from streamer.client import connect
    from streamer.errors import ConnectionFailed, StreamerError

    shower, position = Shower(Printer(), wanted, as_json), Position()
    while True:
        try:
            # Not made again by itself: it must be seen that it was lost.
            async with connect(url, name="streamer events", reconnect_s=0) as client:
                await _read(client, url, position, follow, shower)
                return shower.shown
        except* StreamerError as group:
            lost = group.split(ConnectionFailed)[1] is None
            if not follow or position.run is None or not lost:
                raise
        if position.connected:
            position.connected = False
            click.echo(f"streamer: the daemon at {url} is gone; waiting for it", err=True)
        await trio.sleep(_AGAIN_S)


async def _read(client: Client, url: str, position: Position, follow: bool, shower: Shower) -> None:
    from streamer_tools.asking import asked

    if follow:
        said = position.reached(await asked(client, url, "overview", {}))
        if said is not None:
            click.echo(said, err=True)
    while True:
        args = {"after": position.after, "limit": _LIMIT, "wait_ms": _WAIT_MS if follow else 0}
        answer = await asked(client, url, "events", args)
        said = position.take(answer)
        if said is not None:
            click.echo(said, err=True)
        events = answer.get("events") or []
        await shower.show(events)
        if not follow and not events:
            return


class Shower:
    """Puts events on standard output, and counts them."""

    def __init__(self, printer: Printer, wanted: Wanted, as_json: bool) -> None:
        self.shown = 0
        self._printer = printer
        self._wanted = wanted
        self._as_json = as_json

    async def show(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Show those that are wanted."""
        mine = [event for event in events if self._wanted.takes(event)]
        if self._as_json:
            await self._printer.whole("".join(json.dumps(e) + "\n" for e in mine).encode())
        else:
            await self._printer.lines(line(event, line_width()) for event in mine)
        self.shown += len(mine)


def line(event: Mapping[str, Any], width: int | None) -> str:
    """An event on one line: of a terminal if there is a `width`, else bare and whole."""
    count = event.get("count", 1)
    text = show.escaped(event.get("text") or "-")
    kind, severity = show.escaped(event.get("kind", "-")), event.get("severity", "-")
    times = f"  (x{count:,})" if count > 1 else ""
    if width is None:
        at = show.moment(event.get("at_us"))
        return f"{at}  {severity:<7}  {kind:<18}  {count}  {text}"
    if width < 72:
        mark = "" if severity == "info" else f"{severity}: "
        return f"{show.clock(event.get('at_us'))[:8]}  {mark}{text}{times}"
    return f"{show.clock(event.get('at_us'))}  {severity:<7}  {kind:<18}  {text}{times}"
