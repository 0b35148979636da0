"""SVG in small: axes that find their ticks, and elements whose texts are escaped.

Rules: a drawing has a view box and no size, so that it fills what it is put into; it is made for a
width of about 480, where its text is readable on a phone. Colours are classes: the page decides
them, for light and for dark. No library: what plots need is a scale and a few shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

import attrs

#: Width of all drawings, in user units; text is 13 of them high.
WIDTH = 480
_TICKS = 5


def element(tag: str, *children: str, **attributes: object) -> str:
    """An element; `class_` is class, and underscores in other names are hyphens.

    Children are markup already; attributes are escaped, and those that are None are left out.
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{shown}>{''.join(children)}</{tag}>" if children else f"<{tag}{shown}/>"


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str = "label") -> str:
    """A line of text; `y` is its base line."""
    return element("text", escape(content), x=x, y=y, text_anchor=anchor, class_=class_)


def title(content: str) -> str:
    """What a pointer that rests on the element is told."""
    return element("title", escape(content))


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float] | None], class_: str, *children: str) -> str:
    """A line through points; None breaks it."""
    steps, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        steps.append(f"{pen}{_text(float(point[0]))} {_text(float(point[1]))}")
        pen = "L"
    return element("path", *children, d=" ".join(steps), class_=class_)


def drawing(height: float, label: str, parts: Sequence[str]) -> str:
    """A drawing of `WIDTH` by `height`, with a label for those who do not see it."""
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDTH} {_text(float(height))}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


@attrs.frozen
class Axis:
    """Values from `low` to `high` onto positions from `start` to `end`, evenly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, log: bool = False) -> Axis:
        """An axis that holds all values: from 0 to a round number, or between powers of ten in
        steps of 1, 2, 5."""
        known = [value for value in values if math.isfinite(value)]
        high = max(known, default=1.0)
        if not log:
            return cls(0.0, _round_up(high) if high > 0 else 1.0, start, end)
        positive = [value for value in known if value > 0] or [1.0]
        low, high = _round_down(min(positive)), _round_up(max(positive))
        return cls(low, high if high > low else low * 10, start, end, log=True)

    def place(self, value: float) -> float:
        """Where a value lies; what is outside lies at the end that is nearer."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values along the axis, about five of them."""
        if not self.log:
            step = _round_up((self.high - self.low) / _TICKS, _TICK_STEPS)
            count = int((self.high - self.low) / step + 1e-9)
            return [self.low + step * number for number in range(count + 1)]
        decades = math.log10(self.high / self.low)
        steps = next(steps for most, steps in _LOG_TICKS if decades <= most)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [step * 10.0**power for power in powers for step in steps]
        return [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]


#: Where an axis may end, and how far ticks may be apart, times a power of ten.
_ENDS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
#: Ticks of a logarithmic axis: up to so many decades, these in each.
_LOG_TICKS = (
    (0.5, (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)),
    (1.0, (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)),
    (2.0, (1.0, 2.0, 5.0)),
    (3.0, (1.0, 3.0)),
    (math.inf, (1.0,)),
)


def _round_up(value: float, steps: Sequence[float] = _ENDS) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in steps if step * power >= value * 0.9999)


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in reversed(_ENDS) if step * power <= value * 1.0001)


def short(value: float) -> str:
    """A number for an axis: 1.5M, 20k, 300, 0.25."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9999:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
