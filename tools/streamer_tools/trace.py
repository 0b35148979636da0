"""`streamer trace`: where the time of a record went, through the stages and to its readers.

Rules: the daemon traces what it is asked to and no more, so asking is all that this does: it arms
the next appends of a stream, and takes back what it armed and did not get. A trace is shown when
its append is answered, and once more when those who read the stream have handled the record.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools import running, show
from streamer_tools.exits import Exit, Told
from streamer_tools.options import duration, json_option, print_json, url_option
from streamer_tools.printing import Printer
from streamer_tools.waterfall import (
    ASCII,
    BLOCKS,
    length,
    longest,
    pipeline,
    place,
    readers,
    waterfall,
)

if TYPE_CHECKING:
    from streamer.client import Client

#: How long one question waits for an answer.
_WAIT_S = 2.0
_LIMIT = 100
#: Where standard output is no terminal and COLUMNS is not set.
_WIDTH = 80
#: The list has room for whole ids from here on.
_WIDE = 110
_ID_CHARS = 8
#: A daemon that was restarted knows nothing of what was armed.
_RECONNECT_S = 0.5
#: What a group has to have done before a trace is over.
_OVER = frozenset({"ack", "term"})

COLUMNS = (
    show.Column("began", "began_us", show.clock),
    show.Column("trace", "trace_id"),
    show.Column("record", "place"),
    show.Column("outcome", "outcome"),
    show.Column("total", "total_s", length),
    show.Column("longest", "longest"),
)

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]


@click.command("trace")
@click.argument("stream", required=False)
@click.option(
    "--count", type=click.IntRange(1, 100), default=1, show_default=True, metavar="N",
    help="How many appends.",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=duration, default="30s", show_default=True, metavar="TIME",
    help="How long to wait for them (10, 5m).",
)  # fmt: skip
@click.option(
    "--deliveries", "deliveries_s", type=duration, default="5s", show_default=True,
    metavar="TIME", help="How long to wait for groups to handle them; 0 for not at all.",
)  # fmt: skip
@click.option("--id", "trace_id", metavar="TRACE_ID", help="Show a trace that is kept.")
@click.option("--list", "listed", is_flag=True, help="List the traces that are kept.")
@url_option
@json_option
def command(
    stream: str | None,
    count: int,
    timeout_s: float,
    deliveries_s: float,
    trace_id: str | None,
    listed: bool,
    url: str,
    as_json: bool,
) -> None:
    """Follow the next append to STREAM (a name or a glob) through the daemon.

    Each place is a row: how long the record waited in front of it (queueing), how long it was at
    work on it (service), and both as a bar; then the same for the groups that handle the record.
    Exit status 1 where fewer than --count came within --timeout.

    The daemon keeps the newest 256 traces: also those of records with a W3C `traceparent` header
    that says sampled, and those by chance ([trace] in the configuration). --list lists them, --id
    shows one, by its id or how that begins.
    """

    if sum((stream is not None, trace_id is not None, listed)) != 1:
        raise click.UsageError("one of STREAM, --id and --list is needed")
    if trace_id is not None and not _is_id(trace_id):
        raise click.BadParameter(
            f"{trace_id!r} is no trace id: 32 hexadecimal digits, or the first of them",
            param_hint="--id",
        )
    running.run(_trace, url, Wanted(stream, count, timeout_s, deliveries_s), trace_id, as_json)


def _is_id(text: str) -> bool:
    return 0 < len(text) <= 32 and all(digit in "0123456789abcdef" for digit in text.lower())


@attrs.frozen
class Wanted:
    """What is to be followed."""

    #: None for what is kept.
    stream: str | None
    count: int
    timeout_s: float
    deliveries_s: float


async def _trace(url: str, wanted: Wanted, trace_id: str | None, as_json: bool) -> None:
    from streamer.client import connect
    from streamer_tools.asking import asked

    async with connect(url, name="streamer trace", reconnect_s=_RECONNECT_S) as client:

        async def ask(verb: str, arguments: dict[str, Any]) -> Any:
            return await asked(client, url, verb, arguments)

        if wanted.stream is not None:
            await Follower(ask, client, wanted, Output(as_json)).run(wanted.stream)
        else:
            await _kept(ask, trace_id, as_json)


async def _kept(ask: Ask, trace_id: str | None, as_json: bool) -> None:
    """Show the traces that the daemon keeps: all in a list, or those with an id."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        arguments = {"id": (trace_id or "").lower(), "after": after, "limit": _LIMIT}
        answer = await ask("traces", arguments)
        found += answer["traces"]
        after = answer["next"]
        if len(answer["traces"]) < _LIMIT:
            break
    # One that something was added to meanwhile has come twice.
    docs = list({doc.get("span_id") or doc["seq"]: doc for doc in found}.values())
    if trace_id is not None and not docs:
        raise Told(Exit.FAILED, f"the daemon keeps no trace whose id begins with {trace_id}")
    if as_json:
        print_json(docs)
    elif trace_id is not None:
        output = Output(False)
        for doc in docs:
            await output.show(doc)
    elif docs:
        rows = [doc | {"place": place(doc), "longest": longest(doc)} for doc in docs]
        show.print_table(COLUMNS, rows, _brief(_width()))
    else:
        click.echo("no traces are kept", err=True)


def _brief(width: int) -> list[show.Column]:
    """The columns that there is room for; an id is told by how it begins."""
    began, trace, *rest = COLUMNS
    if width >= _WIDE:
        return [began, trace, *rest]
    short = attrs.evolve(trace, human=lambda text: str(text)[:_ID_CHARS])
    if width >= _WIDTH:
        return [began, short, *rest]
    record, _, total, _ = rest
    return [short, record, total]


def _width() -> int:
    import shutil

    return max(20, shutil.get_terminal_size((_WIDTH, 24)).columns)


def _signs() -> str:
    """Bars as the standard output can have them."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII
    return BLOCKS


class Output:
    """Shows traces, a blank line between them; as JSON all of them at the end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._printer = Printer()
        self._any = False

    async def show(self, doc: Mapping[str, Any]) -> None:
        """Show all of one."""
        await self._lines(waterfall(doc, _width(), _signs()))

    async def answered(self, doc: Mapping[str, Any]) -> None:
        """Show one whose append was answered just now."""
        await self._lines(pipeline(doc, _width(), _signs()))

    async def handled(self, doc: Mapping[str, Any]) -> None:
        """Show what readers did with it since."""
        await self._lines(readers(doc, _width(), _signs()))

    async def _lines(self, lines: Sequence[str]) -> None:
        if lines and not self._as_json:
            await self._printer.lines([""] * self._any + [*lines])
            self._any = True

    def finish(self, docs: Sequence[Mapping[str, Any]]) -> None:
        """They are all that came."""
        if self._as_json:
            print_json(list(docs))


class Follower:
    """Arms the appends of a stream, and shows what becomes of them."""

    def __init__(self, ask: Ask, client: Client, wanted: Wanted, output: Output) -> None:
        self._ask = ask
        self._client = client
        self._wanted = wanted
        self._output = output
        #: By what tells traces apart.
        self._docs: dict[Any, dict[str, Any]] = {}
        #: Those that were shown, with the number that they had.
        self._shown: dict[Any, int] = {}
        self._after = 0

    async def run(self, stream: str) -> None:
        """Follow as many appends as are wanted.

        Raises:
            Told: fewer came within the time.
        """
        import trio

        wanted = self._wanted
        self._after = (await self._ask("traces", {"limit": 0}))["next"]
        await self._ask("trace_next", {"stream": stream, "count": wanted.count})
        try:
            with trio.move_on_after(wanted.timeout_s):
                while len(self._docs) < wanted.count:
                    await self._take(stream, more=True)
                    for key in [key for key in self._docs if key not in self._shown]:
                        await self._output.answered(self._docs[key])
                        # Of what came with it already nothing was shown.
                        self._shown[key] = 0
        finally:
            # Also where somebody has had enough of waiting.
            with trio.move_on_after(1) as scope:
                scope.shield = True
                if len(self._docs) < wanted.count:
                    await self._ask("trace_next", {"stream": stream, "count": 0})
        await self._deliveries(stream)
        self._output.finish(list(self._docs.values()))
        if len(self._docs) < wanted.count:
            which = f"{len(self._docs)} of {wanted.count} appends" if self._docs else "no append"
            raise Told(
                Exit.FAILED, f"{which} to {stream!r} came within {show.age(wanted.timeout_s)}"
            )

    async def _take(self, stream: str, *, more: bool) -> None:
        """Wait for what is new of our traces; `more`: there may be further ones."""
        wait_ms = round(_WAIT_S * 1000)
        arguments = {"after": self._after, "limit": _LIMIT, "wait_ms": wait_ms}
        answer = await self._ask("traces", arguments)
        self._after = answer["next"]
        for doc in answer["traces"]:
            key = doc.get("span_id") or (doc["trace_id"], doc.get("began_us"))
            full = not more or len(self._docs) >= self._wanted.count
            if key in self._docs or (not full and fnmatchcase(doc["stream"], stream)):
                self._docs[key] = doc

    async def _deliveries(self, stream: str) -> None:
        """Wait until the groups have handled the records, and show them again."""
        import trio

        if not self._docs or not self._wanted.deliveries_s:
            return
        groups = await self._groups()
        with trio.move_on_after(self._wanted.deliveries_s):
            while True:
                for key, doc in list(self._docs.items()):
                    if not self._shown[key] and _handled(doc, groups):
                        self._shown[key] = doc["seq"]
                        await self._output.handled(doc)
                if all(_handled(doc, groups) for doc in self._docs.values()):
                    return
                await self._take(stream, more=False)
        for key, doc in list(self._docs.items()):
            if doc["seq"] != self._shown[key]:
                await self._output.handled(doc)

    async def _groups(self) -> set[tuple[str, str]]:
        """Those that have members: (stream, group)."""
        from streamer.errors import StreamerError

        try:
            rows = await self._client.admin("groups")
        except StreamerError:
            # They are down: nobody will handle it.
            return set()
        return {(row["stream"], row["group"]) for row in rows if row.get("members")}


def _handled(doc: Mapping[str, Any], groups: set[tuple[str, str]]) -> bool:
    """Whether each group of its stream is through with the record."""
    over = {
        span["name"]
        for span in doc.get("spans") or ()
        if (span.get("facts") or {}).get("outcome") in _OVER
    }
    return doc.get("offset") is None or all(
        f"deliver/{stream}/{group}" in over for stream, group in groups if stream == doc["stream"]
    )
