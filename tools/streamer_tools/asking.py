"""Questions: one to a daemon (connect, ask, leave), and one to the person at the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from streamer_tools import running
from streamer_tools.exits import Exit, Told

if TYPE_CHECKING:
    from streamer.client import Client

#: How long a daemon may be away while somebody waits for an answer.
RECONNECT_S = 5.0


def ask(url: str, verb: str, **arguments: Any) -> Any:
    """The daemon's answer to an admin request.

    Raises:
        ConnectionFailed: no daemon answers at `url`.
        StreamerError: it refused.
    """

    return running.run(_ask, url, verb, arguments)


async def _ask(url: str, verb: str, arguments: dict[str, Any]) -> Any:
    from streamer.client import connect

    async with connect(url, name="streamer", reconnect_s=RECONNECT_S) as client:
        return await asked(client, url, verb, arguments)


async def asked(client: Client, url: str, verb: str, arguments: dict[str, Any]) -> Any:
    """The answer of a daemon that may be older than this tool.

    Raises:
        Told: the daemon does not know the verb, or not these arguments.
        StreamerError: it refused.
    """
    from streamer import __version__
    from streamer.errors import BadRequest

    try:
        return await client.admin(verb, arguments)
    except BadRequest as error:
        if not error.message.startswith(("unknown admin verb", f"{verb}: takes [")):
            raise
        daemon, tool = client.server_name or "of another version", f"streamer/{__version__}"
        # Before a release both may call themselves by the same number.
        which = f"another build of {tool}" if daemon == tool else tool
        raise Told(
            Exit.PROTOCOL,
            f"the daemon at {url} is {daemon} and does not know {verb!r} as this tool does,"
            f" which is {which}",
        ) from error


def confirm(question: str) -> None:
    """Ask before something that cannot be undone; anything but y or yes is a no.

    Raises:
        Told: the answer is no, or there is nobody to answer.
    """
    click.echo(f"{question} [y/N] ", err=True, nl=False)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer:
        click.echo(err=True)
        raise Told(Exit.FAILED, "nothing was changed: nobody answered; --yes goes without asking")
    if answer.strip().lower() not in ("y", "yes"):
        raise Told(Exit.FAILED, "nothing was changed")


def yes_option(command: Any) -> Any:
    """`--yes`: do not ask."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)
