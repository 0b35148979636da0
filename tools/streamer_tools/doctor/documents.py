"""What the checks look at: the daemon's answers, gathered within one deadline.

Rules: what was not answered is None, with the reason beside it, and the checks say what that means.
A probe of a disk that hangs holds up nothing else: the questions are asked at the same time. An
older daemon that does not know a question is a reason like any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs

#: Verbs, in the order of their worth.
_ASKED = ("overview", "sessions", "probe")


@attrs.define
class Documents:
    """All that is known of a daemon."""

    url: str
    #: Of this program.
    version: str
    #: What the daemon calls itself; "" until it was reached.
    server: str = ""
    #: Why it was not reached, in words; "" if it was.
    unreached: str = ""
    connect_s: float | None = None
    ping_s: float | None = None
    overview: Mapping[str, Any] | None = None
    sessions: list[dict[str, Any]] | None = None
    probe: Mapping[str, Any] | None = None
    #: The daemon's wall clock less ours, and how far off that may be.
    clock_off_s: float | None = None
    clock_error_s: float = 0.0
    #: By verb, why it has no answer.
    failed: dict[str, str] = attrs.field(factory=dict)
    #: Verbs that were not answered in time.
    late: set[str] = attrs.field(factory=set)

    def at(self, *path: str) -> Any:
        """A value of the overview; None where the daemon does not tell it."""
        found: Any = self.overview
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def rows(self, name: str) -> list[dict[str, Any]]:
        """A list of the overview; empty where the daemon does not tell it."""
        found = self.at(name)
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    def why_not(self, verb: str) -> str:
        """Why there is no answer."""
        return self.failed.get(verb, "the daemon does not tell")


async def gather(url: str, version: str, timeout_s: float) -> Documents:
    """Ask the daemon at `url` for all of it; returns after `timeout_s` at the latest."""
    import trio

    found = Documents(url, version)
    with trio.move_on_after(timeout_s) as scope:
        await _gather(found)
    if scope.cancelled_caught:
        late = f"no answer within {timeout_s:g} s"
        if not found.server:
            found.unreached = f"{url}: {late}"
        found.late = {verb for verb in _ASKED if getattr(found, verb) is None} - found.failed.keys()
        found.failed |= dict.fromkeys(found.late, late)
    return found


async def _gather(found: Documents) -> None:
    import trio

    from streamer.client import connect
    from streamer.errors import StreamerError

    began = time.perf_counter()
    try:
        async with connect(found.url, reconnect_s=0) as client:
            found.connect_s = time.perf_counter() - began
            found.server = client.server_name
            found.ping_s = await _ping(client)
            async with trio.open_nursery() as nursery:
                for verb in _ASKED:
                    nursery.start_soon(_ask, client, verb, found)
    except* StreamerError as group:
        if not found.server:
            found.unreached = _first(group).message
    except* OSError as group:
        if not found.server:
            found.unreached = str(_first(group))


async def _ping(client: Any) -> float:
    """Seconds for a small question; that it is refused by an older daemon is an answer as well."""
    from streamer.errors import Refused

    began = time.perf_counter()
    with suppress(Refused):
        await client.admin("events", {"after": 0, "limit": 1, "wait_ms": 0})
    return time.perf_counter() - began


async def _ask(client: Any, verb: str, found: Documents) -> None:
    from streamer.errors import StreamerError

    began = time.time()
    try:
        answer = await client.admin(verb)
    except StreamerError as error:
        unknown = "unknown admin verb" in error.message
        who = found.server or "the daemon"
        found.failed[verb] = f"{who} does not know `{verb}`" if unknown else error.message
        return
    setattr(found, verb, answer)
    if verb == "probe" and isinstance(answer, Mapping) and answer.get("time_us") is not None:
        # It was read when the probe had ended, so half a round trip ago.
        way_s = (found.ping_s or 0.0) / 2
        found.clock_off_s = answer["time_us"] / 1e6 - (time.time() - way_s)
        found.clock_error_s = min(way_s, time.time() - began)


def _first(group: BaseException) -> Any:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
