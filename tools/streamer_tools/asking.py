"""One question to a daemon: connect, ask, leave."""

from __future__ import annotations

from typing import Any

import trio


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
