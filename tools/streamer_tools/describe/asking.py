"""One connection for a description: what it is made of is asked for over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools import running
from streamer_tools.asking import RECONNECT_S
from streamer_tools.describe.sheet import Part, print_parts
from streamer_tools.options import print_json

if TYPE_CHECKING:
    from streamer.client import Client


@attrs.define
class Asker:
    """Asks one daemon; what is asked twice is answered once."""

    client: Client
    url: str
    _known: dict[str, Any] = attrs.Factory(dict)

    async def __call__(self, verb: str, **arguments: Any) -> Any:
        """The answer of a verb.

        Raises:
            Told: the daemon does not know the verb.
            StreamerError: it refused.
        """
        from streamer_tools.asking import asked

        key = f"{verb} {sorted(arguments.items())}"
        if key not in self._known:
            self._known[key] = await asked(self.client, self.url, verb, arguments)
        return self._known[key]

    async def maybe(self, verb: str, **arguments: Any) -> Any:
        """As a call; None where the daemon refuses (what answers may not be there)."""
        from streamer.errors import ConnectionFailed, StreamerError

        try:
            return await self(verb, **arguments)
        except ConnectionFailed:
            raise
        except StreamerError:
            return None


def describe(
    url: str,
    names: Sequence[str],
    collect: Callable[[Asker, str], Awaitable[list[dict[str, Any]]]],
    parts: Callable[[dict[str, Any]], list[Part]],
    as_json: bool,
) -> None:
    """Collect the documents of all names, then print them: nothing, if one is unknown."""

    async def run() -> list[dict[str, Any]]:
        from streamer.client import connect

        async with connect(url, name="streamer describe", reconnect_s=RECONNECT_S) as client:
            asker = Asker(client, url)
            return [document for name in names for document in await collect(asker, name)]

    for number, document in enumerate(running.run(run)):
        if as_json:
            print_json(document)
        else:
            if number:
                click.echo()
            print_parts(parts(document))
