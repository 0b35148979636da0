"""Verbs for people who look inside: overview, sessions, events, taps, traces, settings.

What they show is made by others; here it is asked for, and waited for where an answer may take
its time. Nobody waits longer than `WAIT_MS_MAX`, nor while the daemon goes down.
"""

from __future__ import annotations

from typing import Any, Protocol

from streamer.errors import BadRequest
from streamer.observe.events import EVENTS_MAX, Events
from streamer.observe.taps import Taps
from streamer.observe.traces import ARM_COUNT_MAX, Tracer

Args = dict[str, Any]

WAIT_MS_MAX = 10_000
_TRACES_MAX = 100
#: To make one ready takes the square of its length at the worst: eight seconds for 20 KB.
_GLOB_CHARS_MAX = 500


class Inspected(Protocol):
    """The daemon, as those see it who look inside; every document is of plain values."""

    events: Events
    taps: Taps
    tracer: Tracer

    def overview(self) -> dict[str, Any]: ...
    def history(self) -> dict[str, Any]: ...
    def sessions(self) -> list[dict[str, Any]]: ...
    def config(self) -> list[dict[str, Any]]: ...
    async def probe(self) -> dict[str, Any]: ...


async def overview(inspected: Inspected, _: Args) -> Any:
    return inspected.overview()


async def history(inspected: Inspected, _: Args) -> Any:
    return inspected.history()


async def sessions(inspected: Inspected, _: Args) -> Any:
    return inspected.sessions()


async def session(inspected: Inspected, args: Args) -> Any:
    for found in inspected.sessions():
        if found["session"] == args["session"]:
            return found
    raise BadRequest(f"there is no session {args['session']}")


async def config(inspected: Inspected, _: Args) -> Any:
    return inspected.config()


async def probe(inspected: Inspected, _: Args) -> Any:
    return await inspected.probe()


async def events(inspected: Inspected, args: Args) -> Any:
    limit = _bounded(args, "limit", 1, EVENTS_MAX)
    return await inspected.events.after(args["after"], limit, _wait_s(args))


async def tap(inspected: Inspected, args: Args) -> Any:
    taps = inspected.taps
    wait_s = _wait_s(args)
    opened = taps.open(args["id"], _glob(args, "glob"), args["rate"], args["values"])
    items = await opened.take(wait_s)
    return {
        "points": taps.matched(opened),
        "seen": opened.seen,
        "shown": opened.shown,
        "items": items,
    }


async def trace_next(inspected: Inspected, args: Args) -> Any:
    count, stream = _bounded(args, "count", 0, ARM_COUNT_MAX), _glob(args, "stream")
    if not count:
        inspected.tracer.disarm(stream)
        return {"armed": 0}
    return {"armed": inspected.tracer.arm(stream, count)}


async def traces(inspected: Inspected, args: Args) -> Any:
    tracer, after = inspected.tracer, args["after"]
    limit = _bounded(args, "limit", 0, _TRACES_MAX)
    wait_s = _wait_s(args)
    if limit:
        await tracer.wait(after, wait_s, trace_id=args["id"])
    return tracer.docs(trace_id=args["id"], after=after, limit=limit)


def _glob(args: Args, name: str) -> str:
    glob: str = args[name]
    if len(glob) > _GLOB_CHARS_MAX:
        raise BadRequest(
            f"argument {name} has {len(glob)} characters, allowed are {_GLOB_CHARS_MAX}"
        )
    return glob


def _wait_s(args: Args) -> float:
    return _bounded(args, "wait_ms", 0, WAIT_MS_MAX) / 1000


def _bounded(args: Args, name: str, low: int, high: int) -> int:
    value: int = args[name]
    if not low <= value <= high:
        raise BadRequest(f"argument {name} is {value}, allowed are {low} to {high}")
    return value


#: Long waits, by the verbs that may wait: they hold up no room for replies meanwhile.
_WAIT = {"wait_ms": (int, 0)}

#: verb -> (handler, {argument: (type, default)}), as in `admin`.
VERBS: dict[str, tuple[Any, dict[str, tuple[type, Any]]]] = {
    "overview": (overview, {}),
    "history": (history, {}),
    "sessions": (sessions, {}),
    "session": (session, {"session": (int, None)}),
    "events": (events, {"after": (int, 0), "limit": (int, 100), **_WAIT}),
    "tap": (
        tap,
        {
            "id": (str, None),
            "glob": (str, None),
            "rate": (int, 10),
            "values": (bool, False),
            **_WAIT,
        },
    ),
    "trace_next": (trace_next, {"stream": (str, None), "count": (int, 1)}),
    "traces": (traces, {"id": (str, ""), "after": (int, 0), "limit": (int, 20), **_WAIT}),
    "config": (config, {}),
    "probe": (probe, {}),
}
