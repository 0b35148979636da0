"""What is said of a daemon that does not know what it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from streamer import __version__
from streamer.errors import BadRequest
from streamer_tools.asking import asked
from streamer_tools.exits import Exit, Told

if TYPE_CHECKING:
    from streamer.client import Client


class Older:
    """A client of a daemon that knows no verb."""

    def __init__(self, server_name: str) -> None:
        self.server_name = server_name

    async def admin(self, verb: str, arguments: dict[str, Any]) -> Any:
        raise BadRequest(f"unknown admin verb {verb!r}, known are []")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("streamer/0.0.9", f"is streamer/0.0.9 and .*, which is streamer/{__version__}"),
        ("", f"is of another version and .*, which is streamer/{__version__}"),
        # Before a release both call themselves by the same number.
        (f"streamer/{__version__}", f"which is another build of streamer/{__version__}"),
    ],
)
def test_a_daemon_of_another_version_is_named(name: str, said: str) -> None:
    with pytest.raises(Told, match=said) as caught:
        trio.run(asked, cast("Client", Older(name)), "ws://x:1", "overview", {})
    assert caught.value.status is Exit.PROTOCOL
