"""The plots of a report: bars, ranges, curves, time lines, ratios. Documents' figures to SVG.

Rules: what is a share of something starts at zero; latencies are on a logarithm, since their tail
is what matters. Every point says its figure to a pointer that rests on it, and no figure is in a
plot alone: the page has tables. Ranges are smallest to largest of the repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from streamer_tools.bench.svg import WIDTH, Axis, drawing, element, line, path, short, text, title

_ROW = 26.0
_TOP = 10.0
_BOTTOM = 44.0
_RIGHT = 16.0
_LEFT = 52.0
_HEIGHT = 250.0
#: Names of rows take so much of the width for each character, and at most that much.
_CHARACTER = 7.6
_NAME_MAX = 200.0
#: Above this ratio of the largest to the smallest, ranges are on a logarithm.
_LOG_ABOVE = 20.0


@attrs.frozen
class Row:
    """A row of bars or ranges: its value, and the range of the repeats where there is one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    class_: str = "main"


@attrs.frozen
class Curve:
    """A line of a plot; None in it is a gap."""

    name: str
    points: Sequence[tuple[float, float] | None]
    class_: str


def bars(rows: Sequence[Row], unit: str, label: str) -> str:
    """A bar a row, from zero, with its figure at its end."""
    left = _names_width(rows)
    axis = Axis.over([row.value for row in rows], left, WIDTH - 70)
    parts = _grid_x(axis, _TOP, _TOP + _ROW * len(rows), unit)
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number
        length = max(axis.place(row.value) - left, 1.0)
        told = title(f"{row.name}: {row.value:,.4g} {unit}")
        parts += [
            text(left - 8, y + 18, row.name, anchor="end"),
            element("rect", told, x=left, y=y + 5, width=length, height=_ROW - 10, rx=2,
                    class_=f"bar {row.class_}"),
            text(left + length + 6, y + 18, _figure(row.value), class_="label strong"),
        ]  # fmt: skip
    return drawing(_TOP + _ROW * len(rows) + _BOTTOM - 8, label, parts)


def ranges(rows: Sequence[Row], unit: str, label: str) -> str:
    """A dot a row, on the line from its smallest to its largest."""
    left = _names_width(rows)
    values = [v for row in rows for v in (row.value, row.low, row.high) if v is not None and v > 0]
    log = max(values, default=1) > _LOG_ABOVE * min(values, default=1)
    axis = Axis.over(values, left, WIDTH - 64, log=log)
    parts = _grid_x(axis, _TOP, _TOP + _ROW * len(rows), unit)
    for number, row in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        x, told = axis.place(row.value), f"{row.name}: {row.value:,.4g} {unit}"
        if row.low is not None and row.high is not None:
            told += f", repeats {row.low:,.4g} to {row.high:,.4g}"
            low, high = axis.place(row.low), axis.place(row.high)
            parts.append(line(low, y, high, y, f"range {row.class_}"))
        parts += [
            text(left - 8, y + 5, row.name, anchor="end"),
            element("circle", title(told), cx=x, cy=y, r=5, class_=f"dot {row.class_}"),
            text(WIDTH - 4, y + 5, _figure(row.value), anchor="end", class_="label strong"),
        ]
    return drawing(_TOP + _ROW * len(rows) + _BOTTOM - 8, label, parts)


def percentiles(curves: Sequence[Curve], label: str) -> str:
    """Latency over the share of operations that were quicker, HDR style: x is 1/(1-p)."""
    points = [point for curve in curves for point in curve.points if point]
    # What lies beyond the last point is one operation.
    x_axis = Axis(1.0, max([10.0, *(1 / max(1 - p, 1e-7) for p, _ in points)]),
                  _LEFT, WIDTH - _RIGHT, log=True)  # fmt: skip
    y_axis = Axis.over([ms for _, ms in points], _HEIGHT - _BOTTOM, _TOP, log=True)
    parts = _grid_y(y_axis, "ms")
    for share, name in ((0.0, "0"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"),
                        (0.9999, "99.99 %"), (0.99999, "99.999 %")):  # fmt: skip
        if 1 / (1 - share) <= x_axis.high * 1.0001:
            x = x_axis.place(1 / (1 - share))
            parts.append(line(x, _TOP, x, _HEIGHT - _BOTTOM, "grid"))
            parts.append(text(x, _HEIGHT - _BOTTOM + 18, name, anchor=_anchor(x)))
    parts.append(text(WIDTH - _RIGHT, _HEIGHT - 6, "share that was quicker", anchor="end"))
    for curve in curves:
        placed = [
            None if p is None else (x_axis.place(1 / max(1 - p[0], 1e-7)), y_axis.place(p[1]))
            for p in curve.points
        ]
        parts.append(path(placed, f"curve {curve.class_}", title(curve.name)))
        parts += _marks(curve, placed)
    return drawing(_HEIGHT, label, parts)


def _marks(curve: Curve, placed: Sequence[tuple[float, float] | None]) -> list[str]:
    """Invisible places along a curve that say their figures."""
    return [
        element("circle", title(f"{curve.name}: {p[0]:.5%} within {p[1]:,.4g} ms"),
                cx=at[0], cy=at[1], r=6, class_="hit")
        for p, at in zip(curve.points, placed, strict=True)
        if p is not None and at is not None and "faint" not in curve.class_
    ]  # fmt: skip


def over_time(curves: Sequence[Curve], unit: str, label: str, *, log: bool, seconds: float) -> str:
    """Figures over the seconds of a run."""
    values = [point[1] for curve in curves for point in curve.points if point]
    x_axis = Axis(0.0, max(seconds, 1e-6), _LEFT, WIDTH - _RIGHT)
    y_axis = Axis.over(values, _HEIGHT - _BOTTOM, _TOP, log=log)
    parts = _grid_y(y_axis, unit)
    ticks = Axis.over([seconds], 0, 1).ticks()
    for tick in [tick for tick in ticks if tick <= seconds * 1.0001]:
        x = x_axis.place(tick)
        parts.append(line(x, _TOP, x, _HEIGHT - _BOTTOM, "grid"))
        parts.append(text(x, _HEIGHT - _BOTTOM + 18, f"{tick:g}", anchor=_anchor(x)))
    parts.append(text(WIDTH - _RIGHT, _HEIGHT - 6, "seconds of the run", anchor="end"))
    for curve in curves:
        placed = [
            None if p is None else (x_axis.place(p[0]), y_axis.place(p[1])) for p in curve.points
        ]
        parts.append(path(placed, f"curve {curve.class_}", title(curve.name)))
    return drawing(_HEIGHT, label, parts)


def ratios(rows: Sequence[Mapping[str, Any]], label: str) -> str:
    """Rows of a comparison as bars from 1: to the right more, to the left less, on a logarithm."""
    shown = [row for row in rows if row["ratio"]]
    named = [Row(f"{row['case']} {row['figure']}".strip(), row["ratio"]) for row in shown]
    left = _names_width(named)
    reach = max([1.25, *(max(row.value, 1 / row.value) for row in named)])
    axis = Axis(1 / reach, reach, left + 4, WIDTH - 64, log=True)
    bottom = _TOP + _ROW * len(shown)
    middle = axis.place(1.0)
    parts = [line(middle, _TOP, middle, bottom, "axis")]
    for x, name in ((axis.start, f"{1 / reach:.2g}×"), (middle, "1×"), (axis.end, f"{reach:.3g}×")):
        parts.append(text(x, bottom + 18, name, anchor="middle"))
    for number, (row, source) in enumerate(zip(named, shown, strict=True)):
        y, x = _TOP + _ROW * number, axis.place(row.value)
        class_ = {"better": "good", "worse": "bad"}.get(source["says"], "neutral")
        told = title(
            f"{row.name}: {source['before']:,.4g} before, {source['now']:,.4g} now: "
            f"{source['says']}"
        )
        parts += [
            text(left - 8, y + 18, row.name, anchor="end"),
            element("rect", told, x=min(x, middle), y=y + 5, width=max(abs(x - middle), 1.5),
                    height=_ROW - 10, rx=2, class_=f"bar {class_}"),
            text(WIDTH - 4, y + 18, f"{row.value:.3f}×", anchor="end", class_="label strong"),
        ]  # fmt: skip
    return drawing(bottom + 26, label, parts)


def _anchor(x: float) -> str:
    """How a text stands at x, so that neither edge cuts it off."""
    if x <= _LEFT + 4:
        return "start"
    return "end" if x > WIDTH - 40 else "middle"


def _names_width(rows: Sequence[Row]) -> float:
    return min(max((len(row.name) * _CHARACTER for row in rows), default=0) + 10, _NAME_MAX)


def _grid_x(axis: Axis, top: float, bottom: float, unit: str) -> list[str]:
    parts = []
    for tick in axis.ticks():
        x = axis.place(tick)
        parts.append(line(x, top, x, bottom, "grid"))
        parts.append(text(x, bottom + 16, short(tick), anchor="middle"))
    parts.append(text(axis.end, bottom + 32, unit, anchor="end"))
    return parts


def _grid_y(axis: Axis, unit: str) -> list[str]:
    parts = []
    for tick in axis.ticks():
        y = axis.place(tick)
        parts.append(line(_LEFT, y, WIDTH - _RIGHT, y, "grid"))
        parts.append(text(_LEFT - 8, y + 4, short(tick), anchor="end"))
    parts.append(text(4, _HEIGHT - 6, unit))
    return parts


def _figure(value: float) -> str:
    if value >= 100_000:
        return short(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
