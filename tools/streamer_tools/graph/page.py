"""The graph as SVG: one file that needs nothing else, readable on light and on dark.

Rules: names are those of any client, so what cannot be printed is escaped first and then what XML
gives a meaning. Texts are cut to their boxes by counting columns of a monospaced font; the whole
name is in the element's title. Colours are CSS variables that follow the reader's scheme; each bar
has its percentage beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from rich.cells import cell_len, set_cell_size

from streamer_tools.graph.model import Group, Pipeline, Stage, Stream
from streamer_tools.show import escaped
from streamer_tools.top import figures

_STYLE = """
  svg { --paper: #ffffff; --ink: #1f2328; --faint: #59636e; --line: #8c959f; --box: #f6f8fa;
        --track: #d1d9e0; --good: #1a7f37; --high: #9a6700; --full: #cf222e; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #656c76; --box: #161b22;
          --track: #30363d; --good: #3fb950; --high: #d29922; --full: #f85149; }
  }
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: var(--ink); }
  .name { font-weight: 600; } .title { font-size: 15px; font-weight: 600; }
  .faint { fill: var(--faint); } .warn { fill: var(--full); font-weight: 600; }
  .paper { fill: var(--paper); } .box { fill: var(--box); stroke: var(--line); }
  .track { fill: var(--track); } .good { fill: var(--good); } .high { fill: var(--high); }
  .full { fill: var(--full); } .arrow { fill: none; stroke: var(--line); stroke-width: 1.5; }
  .head { fill: var(--line); }
"""
#: Of a column of text, at 12 px.
_COLUMN = 7.3
_LINE = 18
_MARGIN, _GAP = 20, 34
_STAGE_W, _GLOBS_W, _STREAM_W, _GROUP_W = 150, 130, 190, 250
_BOX_H, _PLAIN_BOX_H = 168, 94
_ROW_H, _ROW_GAP = 46, 10
_TITLE_H = 40
STREAMS_MAX, GROUPS_MAX = 50, 50
LEGEND = (
    "A box is a stage, with what waits in the channel in front of it; queue: how long that took,"
    " serve: the stage itself."
)


def draw(pipelines: Sequence[Pipeline], title: str) -> str:
    """The whole file."""
    parts: list[str] = []
    top, width = float(_MARGIN), 0.0
    for pipeline in pipelines:
        drawn, height, right = _pipeline(pipeline, top)
        parts += drawn
        top, width = top + height + _MARGIN, max(width, right)
    width = max(width, cell_len(LEGEND) * _COLUMN) + _MARGIN
    parts.append(_text(_MARGIN, top + 6, LEGEND if pipelines else "no pipelines", 140, "faint"))
    top += _MARGIN
    label = escape(escaped(title), {'"': "&quot;"})
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{top:.0f}" '
            f'viewBox="0 0 {width:.0f} {top:.0f}" role="img" aria-label="{label}">',
            f"<title>{escape(escaped(title))}</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
            'markerHeight="6" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
            f'<rect class="paper" width="{width:.0f}" height="{top:.0f}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _pipeline(pipeline: Pipeline, top: float) -> tuple[list[str], float, float]:
    """A pipeline from `top` down: what draws it, its height, and where it ends at the right."""
    parts = [_headline(pipeline, top + 14)]
    top += _TITLE_H
    streams = pipeline.streams[:STREAMS_MAX]
    heights = [_stream_height(stream) for stream in streams]
    box = _BOX_H if any(_live(stage) for stage in pipeline.stages) else _PLAIN_BOX_H
    height = max(box, sum(heights) + _ROW_GAP * max(0, len(heights) - 1))
    # All that is a box stands at the top; what branches off goes down from there.
    middle = top + box / 2
    x = float(_MARGIN)
    parts += _globs(pipeline, x, middle)
    x += _GLOBS_W
    for stage in pipeline.stages:
        parts.append(_arrow(x, middle, x + _GAP, middle))
        x += _GAP
        parts += _stage(stage, x, top)
        x += _STAGE_W
    y = top
    for stream, used in zip(streams, heights, strict=True):
        parts.append(_arrow(x, middle, x + _GAP, y + _ROW_H / 2))
        parts += _stream(stream, x + _GAP, y)
        y += used + _ROW_GAP
    if len(pipeline.streams) > len(streams):
        more = f"{len(pipeline.streams) - len(streams):,} more streams"
        parts.append(_text(x + _GAP, y + 14, more, 40, "faint"))
        height += 24
    right = x + (_GAP + _STREAM_W if streams else 0)
    if any(_readers(stream) for stream in streams):
        right += _GAP + _GROUP_W
    return parts, _TITLE_H + height, right


def _headline(pipeline: Pipeline, y: float) -> str:
    shown = _text(_MARGIN, y, pipeline.name, 40, "title")
    if pipeline.state is None:
        return shown
    facts = (
        f"{pipeline.state} · {figures.rate(pipeline.records_per_s)} records/s"
        f" · append p99 {figures.seconds(pipeline.append_p99_s)}"
    )
    beside = _MARGIN + min(40, cell_len(escaped(pipeline.name))) * 9.3 + 16
    return shown + _text(beside, y, facts, 90, "faint" if pipeline.state == "running" else "warn")


def _globs(pipeline: Pipeline, x: float, middle: float) -> list[str]:
    lines = list(pipeline.globs[:6])
    if len(pipeline.globs) > 6:
        lines[5:] = [f"and {len(pipeline.globs) - 5} more"]
    height = 34 + _LINE * max(1, len(lines))
    y = middle - height / 2
    parts = [_box(x, y, _GLOBS_W, height), _text(x + 10, y + 20, "streams", 16, "faint")]
    for number, glob in enumerate(lines):
        parts.append(_text(x + 10, y + 20 + _LINE * (number + 1), glob, 15, "name"))
    return parts


def _live(stage: Stage) -> bool:
    return stage.items is not None or stage.bytes is not None


def _stage(stage: Stage, x: float, top: float) -> list[str]:
    live = _live(stage)
    parts = [
        _box(x, top, _STAGE_W, _BOX_H if live else _PLAIN_BOX_H),
        _text(x + 10, top + 20, stage.place, 18, "name"),
        _text(x + 10, top + 38, stage.stage, 18, "faint"),
    ]
    y = top + 56
    channel = (
        ("items", stage.items, stage.items_max, figures.count),
        ("bytes", stage.bytes, stage.bytes_max, figures.size),
    )
    for name, now, most, show in channel:
        told = f"{show(now)} of {show(most)} {name}" if live else f"{show(most)} {name}"
        parts.append(_text(x + 10, y, told, 18))
        if live:
            parts += _bar(figures.share(now, most), x + 10, y + 5)
        y += 30 if live else _LINE
    if live:
        parts += [
            _text(x + 10, y + 2 + number * 16, told, 18, "faint")
            for number, told in enumerate(_figures(stage))
        ]
    return parts


def _figures(stage: Stage) -> tuple[str, ...]:
    return (
        f"{figures.rate(stage.items_per_s)}/s",
        f"queue p99 {figures.seconds(stage.queueing_p99_s)}",
        f"serve p99 {figures.seconds(stage.service_p99_s)}",
    )


def _bar(share: float | None, x: float, y: float) -> list[str]:
    width = _STAGE_W - 20 - 36
    parts = [f'<rect class="track" x="{x:g}" y="{y:g}" width="{width}" height="6" rx="3"/>']
    if share:
        kind = "full" if share >= figures.FULL else "high" if share >= figures.HIGH else "good"
        filled = max(3.0, min(1.0, share) * width)
        parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{filled:.1f}" height="6" rx="3"/>'
        )
    return [*parts, _text(x + width + 6, y + 8, figures.percent(share), 4, "faint")]


def _readers(stream: Stream) -> int:
    """Boxes at the right of a stream."""
    groups = min(len(stream.groups), GROUPS_MAX) + (len(stream.groups) > GROUPS_MAX)
    return groups + (stream.dead is not None) + (stream.delayed is not None)


def _stream_height(stream: Stream) -> float:
    count = max(1, _readers(stream))
    return count * _ROW_H + (count - 1) * _ROW_GAP


def _stream(stream: Stream, x: float, y: float) -> list[str]:
    told = f"{figures.count(stream.records)} records · {figures.rate(stream.records_per_s)}/s"
    if stream.state != "open":
        told = f"{stream.state} · {told}"
    kind = "faint" if stream.state == "open" else "warn"
    parts = _row(x, y, _STREAM_W, stream.name, told, kind)
    right, middle = x + _STREAM_W, y + _ROW_H / 2
    for name, facts, kind in _described(stream):
        parts.append(_arrow(right, middle, right + _GAP, y + _ROW_H / 2))
        parts += _row(right + _GAP, y, _GROUP_W, name, facts, kind)
        y += _ROW_H + _ROW_GAP
    return parts


def _described(stream: Stream) -> list[tuple[str, str, str]]:
    """(name, facts, class) of each box at the right of a stream."""
    found = [_group(group) for group in stream.groups[:GROUPS_MAX]]
    if len(stream.groups) > GROUPS_MAX:
        found.append((f"{len(stream.groups) - GROUPS_MAX:,} more groups", "", "faint"))
    for name, records in (("dead letters", stream.dead), ("delayed", stream.delayed)):
        if records is not None:
            found.append((name, f"{figures.count(records)} records", "faint"))
    return found


def _group(group: Group) -> tuple[str, str, str]:
    facts = (
        f"{figures.many(group.members, 'member')} · lag {figures.count(group.lag)}"
        f" · {figures.seconds(group.oldest_age_s)}"
    )
    mode = "paused" if group.paused else group.mode
    return f"{group.name} ({mode})", facts, "warn" if group.paused else "faint"


# ------------------------------------------------------------------------------------ shapes


def _row(x: float, y: float, width: int, name: str, facts: str, kind: str) -> list[str]:
    columns = int((width - 20) / _COLUMN)
    return [
        _box(x, y, width, _ROW_H),
        _text(x + 10, y + 19, name, columns, "name"),
        _text(x + 10, y + 36, facts, columns, kind),
    ]


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def _text(x: float, y: float, text: str, columns: int, kind: str = "") -> str:
    """A text of at most `columns`; whole in its title, where it was cut."""
    whole = escaped(text[:400])
    shown = whole
    if cell_len(whole) > columns:
        shown = set_cell_size(whole, columns - 1).rstrip() + "…"
    hover = f"<title>{escape(whole)}</title>" if shown != whole else ""
    styled = f' class="{kind}"' if kind else ""
    return f'<text{styled} x="{x:g}" y="{y:g}">{hover}{escape(shown)}</text>'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x1 + x2) / 2
    return (
        f'<path class="arrow" marker-end="url(#head)" '
        f'd="M{x1:g} {y1:g}C{bend:g} {y1:g} {bend:g} {y2:g} {x2:g} {y2:g}"/>'
    )
