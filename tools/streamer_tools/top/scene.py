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
    #: `fresh`; `silent` while an answer is late; `gone` while there is no connection.
    link: Literal["fresh", "silent", "gone"] = "fresh"
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

#: What the daemon only counts: {view: {name of the rate: the counter}}.
_COUNTED = {
    "groups": {"acked_per_s": "acked", "lag_per_s": "lag"},
    "sessions": {"in_per_s": "bytes_in", "out_per_s": "bytes_out"},
}


class Rates:
    """Makes rates of two looks, where the daemon tells totals only."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._last: dict[tuple[str, Id], Document] = {}

    def look(self, scene: Scene) -> dict[tuple[str, Id], dict[str, float]]:
        """Rates since the look before, by the daemon's own clock; none where there is none, or
        where the daemon began anew meanwhile."""
        # Uptime goes only forward while it is the same process.
        now = at(scene.document, "uptime_s")
        before, self._at_s = self._at_s, now if is_number(now) else None
        last, self._last = self._last, {}
        rates: dict[tuple[str, Id], dict[str, float]] = {}
        for view, counters in _COUNTED.items():
            for row in ROWS[view](scene):
                key = (view, row["id"])
                self._last[key] = row
                if self._at_s is None or before is None or self._at_s <= before or key not in last:
                    continue
                passed_s = self._at_s - before
                rates[key] = {
                    name: (row[counter] - last[key][counter]) / passed_s
                    for name, counter in counters.items()
                    if is_number(row.get(counter)) and is_number(last[key].get(counter))
                }
        return rates
