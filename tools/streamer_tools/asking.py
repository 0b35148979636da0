"""Questions: one to a daemon (connect, ask, leave), and one to the person at the terminal."""

from __future__ import annotations

import sys
from typing import Any

import click
import trio

from streamer_tools.exits import Exit, Told


def ask(url: str, verb: str, **arguments: Any) -> Any:
    """The daemon's answer to an admin request.

    Raises:
        ConnectionFailed: no daemon answers at `url`.
        StreamerError: it refused.
    """
    return trio.run(_ask, url, verb, arguments)


async def _ask(url: str, verb: str, arguments: dict[str, Any]) -> Any:
    from streamer.client import connect

    async with connect(url) as client:
        return await client.admin(verb, arguments)


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
