"""What is seen of one row when it is opened: all that the daemon tells of it, as lines.

Rules: what the overview has is shown at once; what only the row's own verb tells follows when it is
there. A row that is gone says so. Facts flow into as many lines as the width needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from streamer_tools.top import figures
from streamer_tools.top.figures import styled
from streamer_tools.top.lists import in_unit
from streamer_tools.top.scene import ROWS, Document, Id, Scene, at, maps
from streamer_tools.top.table import Column, Row, clean, fit, number_cell, row_line, title_line

Fact = tuple[str, Any]
Lines = list[Text]

#: What is asked for what is opened: {view: (verb, names of the id's parts)}.
VERBS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "groups": ("group", ("stream", "group")),
    "streams": ("stream", ("stream",)),
    "sessions": ("session", ("session",)),
}
_INDENT = 2
#: Columns from which on a limit is told with the most that was ever seen.
_WIDE = 60


def detail_lines(scene: Scene, view: str, opened: Id, width: int) -> Lines:
    """All lines of what is opened; none is wider than `width`."""
    row = next((row for row in ROWS[view](scene) if row["id"] == opened), None)
    name = " / ".join(str(part) for part in opened)
    if row is None:
        return [clean(f"{name}: not there any more", "bold")]
    answer = scene.answer if scene.answer and scene.answer.of == (view, opened) else None
    lines = _DETAILS[view](row, answer.document if answer else None, width)
    if view in VERBS and answer is None:
        lines.append(styled("asking ...", "dim"))
    elif answer is not None and answer.fault:
        lines.append(clean(answer.fault, "bold red"))
    return lines


def facts(found: Sequence[Fact], width: int, indent: int = _INDENT) -> Lines:
    """`label value` pairs, as many in a line as fit."""
    lines: Lines = []
    line = Text(" " * indent)
    for label, value in found:
        shown = value if isinstance(value, Text) else clean(value)
        pair = styled(f"{label} ", "dim") + shown
        gap = "" if cell_len(line.plain) == indent else "   "
        if gap and cell_len(line.plain) + len(gap) + cell_len(pair.plain) > width:
            lines.append(line)
            line, gap = Text(" " * indent), ""
        line = line + Text(gap) + pair
    return [*lines, line] if line.plain.strip() else lines


def heading(text: str) -> Text:
    return clean(text, "bold underline")


def table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Lines:
    """A small table, indented; its titles first."""
    fitted = fit(columns, rows, width - _INDENT)
    lines = [title_line(fitted, "", False), *(row_line(fitted, row) for row in rows)]
    return [Text(" " * _INDENT) + line for line in lines]


def text_column(title: str, key: str, least: int, most: int, drop: int = 0) -> Column:
    return Column(title, lambda row, _: clean(row.get(key)), least, most, drop, right=False)


def number_column(
    title: str, key: str, show: Callable[[Any], str] = figures.count, least: int = 7, drop: int = 0
) -> Column:
    return Column(title, number_cell(lambda row: row.get(key), show), least, drop=drop)


def id_column(title: str, key: str, least: int, drop: int = 0) -> Column:
    """A number that is a name: 0 is as good as any."""
    return Column(title, lambda row, _: Text(figures.count(row.get(key))), least, drop=drop)


# --------------------------------------------------------------------------------- pipelines


def latency(name: str, document: Any) -> list[Fact]:
    """All percentiles of a latency."""
    if not isinstance(document, Mapping) or not document.get("count"):
        return [(name, None)]
    labels = (("p50_s", f"{name} p50"), ("p95_s", "p95"), ("p99_s", "p99"), ("p999_s", "p99.9"),
              ("max_s", "max"))  # fmt: skip
    return [(label, figures.seconds(document.get(key))) for key, label in labels]


def _pipeline(row: Row, _: Document | None, width: int) -> Lines:
    globs = row.get("streams")
    rates = row.get("rates")
    lines = [heading(f"pipeline {row.get('name', '-')}")]
    lines += facts(
        [
            ("state", row.get("state")),
            ("streams", ", ".join(map(str, globs)) if isinstance(globs, list) else None),
            ("records/s", figures.rate(at(rates, "records"))),
            ("bytes/s", figures.full_size(at(rates, "bytes"))),
            ("batches/s", figures.rate(at(rates, "batches"))),
            ("oldest", figures.seconds(row.get("oldest_s") or None)),
        ],
        width,
    )
    lines += facts(latency("append", row.get("append")), width)
    if row.get("last_error"):
        lines += facts([("last error", clean(row["last_error"], "bold yellow"))], width)
    for stage in row["rows"]:
        lines += [Text(""), *_stage(stage, width)]
    return lines


def _stage(stage: Row, width: int) -> Lines:
    channel = stage.get("channel")
    lines = [clean(f"{stage.get('place', '-')}: {stage.get('stage', '-')}", "bold")]
    lines.append(_limit("items", channel, "items", figures.count, width))
    lines.append(_limit("bytes", channel, "bytes", figures.size, width))
    lines += facts(
        [
            ("per s", f"{figures.rate(stage.get('items_per_s'))} items"),
            ("and", f"{figures.full_size(stage.get('bytes_per_s'))}"),
            ("oldest", figures.seconds(at(channel, "oldest_s") or None)),
            ("senders waiting", figures.count(at(channel, "senders_waiting"))),
        ],
        width,
    )
    lines += facts(latency("queueing", stage.get("queueing")), width)
    lines += facts(latency("service ", stage.get("service")), width)
    return lines + _decided(stage.get("detail"), width)


def _limit(label: str, channel: Any, key: str, show: Callable[[Any], str], width: int) -> Text:
    now, most = at(channel, key), at(channel, f"{key}_max")
    share = figures.share(now, most)
    told = f"{figures.percent(share):>4} {show(now):>6} of {show(most):<5}"
    if width >= _WIDE:
        told = f"{told} most {show(at(channel, f'{key}_seen'))}"
    room = max(4, min(40, width - len(told) - 10))
    return styled(f"  {label} ", "dim") + figures.bar(share, room) + Text(f" {told}")


def _decided(detail: Any, width: int) -> Lines:
    """What a stage tells of itself: the adaptive limits, and why they are what they are."""
    if not isinstance(detail, Mapping):
        return []
    lines = wrapped(detail.get("summary"), width)
    told = detail.get("figures")
    if isinstance(told, Mapping):
        lines += facts([_with_unit(str(name), value) for name, value in told.items()], width)
    decisions = maps(detail.get("decisions"))
    for each in sorted(decisions, key=lambda each: -_number(each.get("at_us")))[:20]:
        moved = " → ".join(
            _figure(each.get(name, each.get(other)))
            for name, other in (("before", "from"), ("after", "to"))
        )
        line = styled(f"  {figures.clock(each.get('at_us'))} ", "dim")
        line = line + clean(f"{each.get('decision', '-')!s:<7} {moved:<15} ", "bold")
        reason = clean(each.get("reason"))
        if cell_len(line.plain) + cell_len(reason.plain) <= width:
            lines.append(line + reason)
        else:
            lines += [line, *wrapped(each.get("reason"), width, 2 * _INDENT)]
    return lines


def _with_unit(name: str, value: Any) -> Fact:
    """A figure whose name ends in its unit."""
    for unit, show in (("_s", figures.seconds), ("_bytes", figures.full_size)):
        if name.endswith(unit):
            return (name.removesuffix(unit), show(value))
    return (name, _figure(value))


def _number(value: Any) -> float:
    return value if figures.is_number(value) else 0.0


def _figure(value: Any) -> str:
    if not figures.is_number(value):
        return figures.NONE if value is None else str(value)
    return figures.count(value) if value == int(value) else f"{value:.4g}"


# ------------------------------------------------------------------------------------ groups

MEMBERS = (
    id_column("member", "member", 6),
    text_column("name", "name", 10, 32),
    text_column("peer", "peer", 15, 30, drop=3),
    number_column("out", "in_flight", least=6),
    number_column("of", "max_in_flight", least=6, drop=1),
    number_column("bytes", "in_flight_bytes", figures.size, least=6, drop=4),
    number_column("oldest", "oldest_s", figures.seconds, least=6),
    text_column("owns", "owns", 6, 30, drop=2),
)
PARTITIONS = (
    id_column("part", "partition", 4),
    number_column("cursor", "cursor", least=7),
    number_column("end", "high_water", least=7, drop=3),
    number_column("lag", "lag", least=6),
    number_column("oldest", "oldest_age_s", figures.seconds, least=6),
    number_column("out", "in_flight", least=6, drop=1),
    number_column("retry", "retrying", least=5, drop=4),
    id_column("owner", "owner", 6, drop=5),
    text_column("fault", "fault", 5, 60, drop=2),
)


def _group(row: Row, answer: Document | None, width: int) -> Lines:
    lines = [heading(f"group {row.get('group', '-')} of stream {row.get('stream', '-')}")]
    told: list[Fact] = [
        ("mode", f"{row.get('mode', '-')}, order {row.get('order', '-')}"),
        ("lag", figures.count(row.get("lag"))),
        ("oldest", figures.seconds(row.get("oldest_age_s"))),
        ("out", figures.count(row.get("in_flight"))),
        ("retrying", figures.count(row.get("retrying"))),
        ("acked", figures.count(row.get("acked"))),
        ("delivered again", figures.count(row.get("redelivered"))),
        ("dead", figures.count(row.get("dead"))),
    ]
    if row.get("paused") is True:
        told.insert(0, ("state", clean("paused", "bold yellow")))
    settings = at(answer, "settings")
    if isinstance(settings, Mapping):
        told += [
            ("ack wait", figures.seconds(settings.get("ack_wait_s"))),
            ("prolonged to", figures.seconds(settings.get("lease_max_s"))),
            ("attempts", figures.count(settings.get("max_deliveries") or None)),
        ]
    lines += facts(told, width)
    if answer is None:
        return lines
    members = maps(answer.get("member_list"))
    lines += [Text(""), heading(figures.many(len(members), "member"))]
    if members:
        lines += table(MEMBERS, [{**each, "owns": _owned(each)} for each in members], width)
    partitions = maps(answer.get("partition_list"))
    lines += [Text(""), heading(figures.many(len(partitions), "partition"))]
    return lines + table(PARTITIONS, partitions, width)


def _owned(member: Document) -> str | None:
    owned = member.get("partitions")
    return ",".join(map(str, owned)) if isinstance(owned, list) and owned else None


# ----------------------------------------------------------------------------------- streams

PLACES = (
    id_column("part", "partition", 4),
    text_column("state", "state", 7, 10),
    number_column("first", "first_offset", least=7, drop=2),
    number_column("end", "high_water", least=7),
    number_column("not yet", "pending", least=7, drop=3),
    number_column("bytes", "bytes", figures.size, least=6),
    number_column("segments", "segments", least=8, drop=1),
    number_column("dropped", "dropped", least=7, drop=4),
)


def _stream(row: Row, answer: Document | None, width: int) -> Lines:
    lines = [heading(f"stream {row.get('name', '-')}")]
    lines += facts(
        [
            ("state", row.get("state")),
            ("pipeline", row.get("pipeline")),
            ("kept", row.get("storage")),
            ("records", figures.count(row.get("records"))),
            ("bytes", figures.full_size(row.get("bytes"))),
            ("records/s", figures.rate(row.get("records_per_s"))),
            ("dropped", figures.count(row.get("dropped"))),
        ],
        width,
    )
    if answer is None:
        return lines
    rows: list[dict[str, Any]] = []
    for each in maps(answer.get("partitions")):
        placed, durable = each.get("next_offset"), each.get("high_water")
        rows.append({**each, "pending": None})
        if figures.is_number(placed) and figures.is_number(durable):
            rows[-1]["pending"] = placed - durable
    lines += [Text(""), heading(figures.many(len(rows), "partition"))]
    return lines + table(PLACES, rows, width)


# ---------------------------------------------------------------------------------- sessions

_SIZES = ("under_way_bytes", "window_bytes", "outbox_bytes", "bytes_in", "bytes_out")


def _session(row: Row, answer: Document | None, width: int) -> Lines:
    lines = [heading(f"session {row.get('session', '-')} {row.get('name') or ''}".rstrip())]
    document = answer or row
    wrong = [name for name in ("slow", "leaving") if document.get(name) is True]
    told: list[Fact] = [("state", clean(", ".join(wrong), "bold yellow"))] if wrong else []
    told += [(name, document.get(name)) for name in ("peer", "transport")]
    told += [(name.removesuffix("_s"), figures.seconds(document.get(name)))
             for name in ("age_s", "heard_s")]  # fmt: skip
    told += [(name, figures.count(document.get(name)))
             for name in ("requests", "records_in", "subscriptions", "memberships")]  # fmt: skip
    told += [(name.removesuffix("_bytes"), figures.full_size(document.get(name)))
             for name in _SIZES]  # fmt: skip
    labels = {"records_in": "records in", "under_way": "under way", "bytes_in": "in",
              "bytes_out": "out"}  # fmt: skip
    lines += facts([(labels.get(label, label), value) for label, value in told], width)
    share = figures.share(document.get("under_way_bytes"), document.get("window_bytes"))
    room = max(4, min(40, width - 20))
    lines.append(
        styled("  window ", "dim")
        + figures.bar(share, room)
        + Text(f" {figures.percent(share):>4}")
    )
    for title, key in (("subscribed to", "subscribed"), ("member of", "member_of")):
        entries = at(answer, key)
        if isinstance(entries, list) and entries:
            lines += [Text(""), heading(f"{title} {len(entries)}")]
            lines += [line for each in entries for line in _entry(each, width)]
    return lines


def _entry(entry: Any, width: int) -> Lines:
    if not isinstance(entry, Mapping):
        return [Text("  ") + clean(entry)]
    return facts([(str(name), value) for name, value in entry.items()], width)


# ------------------------------------------------------------------------------------ events


def _event(row: Row, _: Document | None, width: int) -> Lines:
    lines = [heading(f"{row.get('kind', '-')}")]
    lines += facts(
        [
            ("at", f"{figures.clock(row.get('at_us'))} UTC"),
            ("level", row.get("severity")),
            ("times", figures.count(row.get("count"))),
            ("number", row.get("seq")),
        ],
        width,
    )
    lines += [Text(""), *wrapped(row.get("text"), width)]
    found = row.get("facts")
    if isinstance(found, Mapping) and found:
        lines.append(Text(""))
        for name, value in found.items():
            shown = in_unit(value, "s") if str(name).endswith("_s") else value
            lines += facts([(str(name), shown)], width)
    return lines


def wrapped(value: Any, width: int, indent: int = _INDENT) -> Lines:
    """A long text over as many lines as it needs, cut between words where there are any."""
    lines: Lines = []
    for line in clean(value).wrap(Console(width=1000), max(1, width - indent), overflow="fold"):
        line.rstrip()
        lines.append(Text(" " * indent) + line)
    return lines


_DETAILS: Mapping[str, Callable[[Row, Document | None, int], Lines]] = {
    "pipelines": _pipeline,
    "groups": _group,
    "streams": _stream,
    "sessions": _session,
    "events": _event,
}
