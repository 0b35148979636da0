"""What is known of the daemon at one moment, in a form that every view can read.

Rules: a document comes from a daemon of any version: what is not there, or of another kind than
expected, is read as missing, and nothing here raises for it. Rows carry `id`, which stays the same
from look to look, so that what is chosen stays chosen when the order changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from streamer_tools.top.figures import is_number, share

Document = Mapping[str, Any]
Link = Literal["fresh", "silent", "refused", "gone"]
#: What a row is known by, within its view.
Id = tuple[str | int, ...]

#: At most so many events are kept to look at.
EVENTS_MAX = 500


@attrs.frozen
class Answer:
    """What a verb answered for what was opened: a document, or why there is none."""

    of: tuple[str, Id]
    document: Document | None = None
    fault: str = ""


@attrs.frozen
class Scene:
    """All that the screen is drawn from, besides what the person wants to see."""

    url: str
    document: Document = attrs.field(factory=dict)
    #: Newest first.
    events: Sequence[Document] = ()
    #: Events that had left the daemon before they were seen.
    missed: int = 0
    answer: Answer | None = None
    #: A second, of what the daemon only counts: {(view, id): {name: rate}}.
    rates: Mapping[tuple[str, Id], Mapping[str, float]] = attrs.field(factory=dict)
    #: `fresh`; `silent` while an answer is late; `refused` with its reason in `fault`; `gone` while
    #: there is no connection.
    link: Link = "fresh"
    fault: str = ""
    #: Age of the document, where it is not fresh.
    stale_s: float = 0.0


def at(document: Any, *path: str) -> Any:
    """What is at a path of keys; None where there is nothing."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def maps(value: Any) -> list[Document]:
    """The maps in a list; none where it is no list."""
    if not isinstance(value, list | tuple):
        return []
    return [each for each in value if isinstance(each, Mapping)]


def _name(row: Document, key: str) -> str | int:
    value = row.get(key)
    return value if isinstance(value, str | int) else "-"


def fill(channel: Any) -> float | None:
    """How full a channel is: the larger of its shares of items and bytes."""
    shares = [
        share(at(channel, "items"), at(channel, "items_max")),
        share(at(channel, "bytes"), at(channel, "bytes_max")),
    ]
    return max((each for each in shares if each is not None), default=None)


def pipelines(scene: Scene) -> list[dict[str, Any]]:
    """A row a pipeline; `rows` has one for each of its stages."""
    found = []
    for pipeline in maps(at(scene.document, "pipelines")):
        stages = [
            {**stage, "id": (_name(pipeline, "name"), _name(stage, "place")),
             "fill": fill(at(stage, "channel"))}
            for stage in maps(pipeline.get("stages"))
        ]  # fmt: skip
        fills = [stage["fill"] for stage in stages if stage["fill"] is not None]
        found.append(
            {
                **pipeline,
                "id": (_name(pipeline, "name"),),
                "rows": stages,
                "fill": max(fills, default=None),
                "find": _find(pipeline, "name", "state", "last_error"),
            }
        )
    return found


def groups(scene: Scene) -> list[dict[str, Any]]:
    """A row a group."""
    found = []
    for row in maps(at(scene.document, "groups")):
        name = (_name(row, "stream"), _name(row, "group"))
        rates = scene.rates.get(("groups", name), {})
        find = _find(row, "stream", "group", "mode")
        found.append({**row, **rates, "id": name, "find": find})
    return found


def streams(scene: Scene) -> list[dict[str, Any]]:
    """A row a stream."""
    return [
        {**row, "id": (_name(row, "name"),), "find": _find(row, "name", "pipeline", "state")}
        for row in maps(at(scene.document, "streams"))
    ]


def sessions(scene: Scene) -> list[dict[str, Any]]:
    """A row a session that is shown."""
    found = []
    for row in maps(at(scene.document, "sessions", "shown")):
        name = (_name(row, "session"),)
        rates = scene.rates.get(("sessions", name), {})
        find = _find(row, "session", "name", "peer", "transport")
        found.append({**row, **rates, "id": name, "find": find})
    return found


def events(scene: Scene) -> list[dict[str, Any]]:
    """A row an event, the newest first."""
    return [
        {**row, "id": (_name(row, "seq"),), "find": _find(row, "kind", "severity", "text")}
        for row in scene.events
    ]


def objectives(scene: Scene) -> list[dict[str, Any]]:
    """A row a service level."""
    return [
        {**row, "id": (_name(row, "name"),), "find": _find(row, "name")}
        for row in maps(at(scene.document, "sla", "objectives"))
    ]


def _find(row: Document, *keys: str) -> str:
    """What a filter looks through."""
    return " ".join(str(row[key]) for key in keys if row.get(key) is not None).casefold()


ROWS = {
    "pipelines": pipelines,
    "groups": groups,
    "streams": streams,
    "sessions": sessions,
    "events": events,
    "sla": objectives,
}


def count(scene: Scene, view: str) -> int | None:
    """How many rows a view has, without making them; None where that says nothing."""
    if view == "events":
        return len(scene.events)
    if view == "sessions":
        total = at(scene.document, "sessions", "count")
        return int(total) if is_number(total) else 0
    return None if view == "sla" else len(maps(at(scene.document, view)))


#: What the daemon only counts: {view: {name of the rate: the counter}}.
_COUNTED = {
    "groups": {"acked_per_s": "acked", "lag_per_s": "lag"},
    "sessions": {"in_per_s": "bytes_in", "out_per_s": "bytes_out"},
}
#: The daemon looks at its groups each second or more, in its own time: that counters stood still
#: between two of our looks says nothing, for so long.
_STANDS_S = {"groups": 5.0, "sessions": 0.0}

_Rates = dict[str, float]


class Rates:
    """Makes rates of two looks, where the daemon tells totals only."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        #: When the counters of a row last changed, what they were then, and the rates since.
        self._last: dict[tuple[str, Id], tuple[float, Document, _Rates]] = {}

    def look(self, scene: Scene) -> dict[tuple[str, Id], _Rates]:
        """Rates since the look before, by the daemon's own clock; none where there is none, or
        where the daemon began anew meanwhile."""
        # Uptime goes only forward while it is the same process.
        now = at(scene.document, "uptime_s")
        if not is_number(now) or (self._at_s is not None and now < self._at_s):
            self._last = {}
        self._at_s = now if is_number(now) else None
        if self._at_s is None:
            return {}
        last, self._last = self._last, {}
        rates: dict[tuple[str, Id], _Rates] = {}
        for view, counters in _COUNTED.items():
            for row in ROWS[view](scene):
                key = (view, row["id"])
                kept = self._last[key] = _next(
                    last.get(key), self._at_s, row, counters, _STANDS_S[view]
                )
                if kept[2]:
                    rates[key] = kept[2]
        return rates


def _next(
    last: tuple[float, Document, _Rates] | None,
    now: float,
    row: Document,
    counters: Mapping[str, str],
    stands_s: float,
) -> tuple[float, Document, _Rates]:
    """What to remember of a row after this look at it."""
    if last is None:
        return now, row, {}
    then, before, _ = last
    same = all(row.get(counter) == before.get(counter) for counter in counters.values())
    if now <= then or (same and now - then < stands_s):
        return last
    grown = {
        name: (row[counter] - before[counter]) / (now - then)
        for name, counter in counters.items()
        if is_number(row.get(counter)) and is_number(before.get(counter))
    }
    return now, row, grown
