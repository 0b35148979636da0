"""The graph as text of at most 80 columns.

Rules: each line is made to fit; a name that does not is cut with an ellipsis. What waits in front
of a stage stands in its box, against both limits. Long lists are cut, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from streamer_tools.graph.model import Group, Pipeline, Stage, Stream
from streamer_tools.top import figures
from streamer_tools.top.figures import styled
from streamer_tools.top.table import aligned, clean

WIDTH = 80
#: A box within its borders; four boxes and the arrows between them are 78 columns.
_INNER = 16
_BOXES = 4
_ARROW = "─►"
STREAMS_MAX, GROUPS_MAX = 20, 12


def draw(pipelines: Sequence[Pipeline]) -> list[Text]:
    """The lines of all pipelines."""
    if not pipelines:
        return [Text("no pipelines")]
    lines: list[Text] = []
    for pipeline in pipelines:
        lines += [*([Text()] if lines else []), *_pipeline(pipeline)]
    return [_fitted(line) for line in lines]


def _fitted(line: Text) -> Text:
    if cell_len(line.plain) > WIDTH:
        line = aligned(line, WIDTH)
    line.rstrip()
    return line


def _pipeline(pipeline: Pipeline) -> list[Text]:
    lines = [_title(pipeline)]
    globs = clean(", ".join(pipeline.globs) or "no streams")
    lines += [styled("  streams ", "dim") + globs, Text("  │"), Text("  ▼")]
    for begin in range(0, len(pipeline.stages), _BOXES):
        row = pipeline.stages[begin : begin + _BOXES]
        # From the last of them back to the left, where the next row or the streams begin.
        back = (len(row) - 1) * (_INNER + 2 + len(_ARROW)) + _INNER // 2 - 2
        lines += [*_boxes(row), Text(f"  ┌{'─' * back}┘")]
    return lines + _readers(pipeline)


def _title(pipeline: Pipeline) -> Text:
    line = styled("pipeline ", "dim") + clean(pipeline.name, "bold")
    if pipeline.state is None:
        return line
    style = "green" if pipeline.state == "running" else "bold yellow"
    line = line + Text("  ") + clean(pipeline.state, style)
    line = line + Text(f"  {figures.rate(pipeline.records_per_s)} records/s")
    return line + Text(f"  append p99 {figures.seconds(pipeline.append_p99_s)}")


def _boxes(stages: Sequence[Stage]) -> list[Text]:
    """Stages side by side, an arrow from each to the next."""
    boxes = [_box(stage) for stage in stages]
    lines = []
    for row in range(len(boxes[0])):
        gap = Text(_ARROW if row == 2 else " " * len(_ARROW))
        lines.append(gap.join([box[row] for box in boxes]))
    return lines


def _box(stage: Stage) -> list[Text]:
    title = clean(stage.place, "bold")
    title.truncate(_INNER - 4, overflow="ellipsis")
    rule = "─" * (_INNER - 3 - cell_len(title.plain))
    lines = [Text("┌─ ") + title + Text(f" {rule}┐")]
    for content in _contents(stage):
        lines.append(Text("│ ") + aligned(content, _INNER - 1) + Text("│"))
    return [*lines, Text(f"└{'─' * _INNER}┘")]


def _contents(stage: Stage) -> list[Text]:
    """What stands in a box: as many lines for each stage."""
    room = _INNER - 1
    if stage.items is None and stage.bytes is None:
        return [
            clean(stage.stage),
            Text(f"{figures.count(stage.items_max)} items"),
            Text(f"{figures.size(stage.bytes_max)} bytes"),
        ]
    shares = [
        figures.share(stage.items, stage.items_max), figures.share(stage.bytes, stage.bytes_max)
    ]  # fmt: skip
    fill = max((share for share in shares if share is not None), default=None)
    bar = figures.bar(fill, room - 6) + Text(f" {figures.percent(fill):>4} ")
    return [
        clean(stage.stage),
        bar,
        _of(figures.count(stage.items), figures.count(stage.items_max), "items", room),
        _of(figures.size(stage.bytes), figures.size(stage.bytes_max), "bytes", room),
        Text(f"{figures.rate(stage.items_per_s)}/s"),
        styled("queue p99 ", "dim") + Text(figures.seconds(stage.queueing_p99_s)),
        styled("serve p99 ", "dim") + Text(figures.seconds(stage.service_p99_s)),
    ]


def _of(now: str, most: str, unit: str, room: int) -> Text:
    shown = Text(f"{now}/{most}")
    return shown + styled(f" {unit}", "dim") if len(shown.plain) + 1 + len(unit) <= room else shown


def _readers(pipeline: Pipeline) -> list[Text]:
    """The streams below the last box, and below each who reads it."""
    if not pipeline.streams:
        return [Text("  └─► ") + styled(pipeline.no_streams, "dim")]
    lines = []
    shown = pipeline.streams[:STREAMS_MAX]
    left = len(pipeline.streams) - len(shown)
    for number, stream in enumerate(shown):
        last = number == len(shown) - 1 and not left
        lines.append(Text(f"  {'└' if last else '├'}─► ") + _stream(stream))
        bar = "   " if last else "  │"
        children = _children(stream)
        for place, child in enumerate(children):
            corner = "└" if place == len(children) - 1 else "├"
            lines.append(Text(f"{bar}    {corner}─► ") + child)
    if left:
        lines.append(Text("  └─► ") + styled(f"{left:,} more streams; --json has all", "dim"))
    return lines


def _stream(stream: Stream) -> Text:
    line = aligned(clean(stream.name, "bold"), 32)
    line = line + Text(f" {figures.count(stream.records):>7} records")
    line = line + Text(f" {figures.rate(stream.records_per_s):>7}/s")
    if stream.state != "open":
        line = line + Text("  ") + clean(f"({stream.state})", "bold yellow")
    return line


def _children(stream: Stream) -> list[Text]:
    lines = [_group(group) for group in stream.groups[:GROUPS_MAX]]
    left = len(stream.groups) - GROUPS_MAX
    if left > 0:
        lines.append(styled(f"{left:,} more groups; --json has all", "dim"))
    for label, records in (("dead letters", stream.dead), ("delayed", stream.delayed)):
        if records is not None:
            line = aligned(styled(label, "dim"), 28)
            lines.append(line + Text(f"{figures.count(records):>7} records"))
    return lines


def _group(group: Group) -> Text:
    name = clean(group.name)
    name.truncate(18, overflow="ellipsis")
    line = aligned(styled("group ", "dim") + name, 24)
    mode = clean("paused", "bold yellow") if group.paused else clean(group.mode)
    line = line + Text(" ") + aligned(mode, 7)
    line = line + Text(f" {figures.many(group.members, 'member'):>11}")
    line = line + styled(" lag ", "dim") + Text(f"{figures.count(group.lag):>6}")
    return line + styled("  oldest ", "dim") + Text(figures.seconds(group.oldest_age_s))
