"""Short texts for figures: at most six columns, so that columns stay narrow and do not move.

Rules: a value that is missing, or is not a number (a daemon of another version), is `-`. Sizes are
in powers of 1024, counts in powers of 1000. A share is told by a percentage beside its bar, so that
no colour and no block character is needed to read it.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from rich.text import Text

from streamer_tools import show

NONE = "-"
#: Shares from which on a bar is told to be high, and to be (almost) full.
HIGH, FULL = 0.5, 0.8
_EIGHTHS = " ▏▎▍▌▋▊▉"
_COUNTS = ("", "k", "M", "G", "T", "P", "E")
_SIZES = ("", "K", "M", "G", "T", "P", "E")


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str:
    """`0`, `9,999`, `12.4k`, `1.23M`."""
    if not is_number(value):
        return NONE
    if abs(value) < 10_000:
        return f"{value:,.0f}"
    return _scaled(value, 1000, _COUNTS)


def many(value: Any, noun: str) -> str:
    """`1 member`, `12 members`, `- members`."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def rate(value: Any) -> str:
    """Something a second: `0`, `0.3`, `12`, `12.4k`."""
    if is_number(value) and 0 < abs(value) < 9.95:
        return f"{value:.1f}" if abs(value) >= 0.05 else "<0.1"
    return count(value)


def size(value: Any) -> str:
    """Bytes: `0`, `512`, `340K`, `1.9M`."""
    if not is_number(value):
        return NONE
    return f"{value:.0f}" if abs(value) < 1000 else _scaled(value, 1024, _SIZES)


def full_size(value: Any) -> str:
    """Bytes with their unit, where there is room: `512 B`, `1.9 MiB`."""
    short = size(value)
    if short == NONE:
        return NONE
    return f"{short[:-1]} {short[-1]}iB" if short[-1].isalpha() else f"{short} B"


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= 999.5 and power < len(units) - 1:
        value, power = value / base, power + 1
    if base == 1024:
        return f"{value:.{0 if abs(value) >= 9.95 or value == int(value) else 1}f}{units[power]}"
    return f"{value:.0f}{units[power]}" if abs(value) >= 99.95 else f"{value:.3g}{units[power]}"


def seconds(value: Any) -> str:
    """A latency or an age: `0`, `480us`, `1.2ms`, `3.4s`, `5m`, `2.1h`, `12d`."""
    if not is_number(value) or value < 0:
        return NONE
    if value < 0.0009995:
        return f"{value * 1e6:.0f}us" if value else "0"
    if value < 0.9995:
        ms = value * 1e3
        return f"{ms:.1f}ms" if ms < 9.95 else f"{ms:.0f}ms"
    if value < 99.5:
        return f"{value:.1f}s" if value < 9.95 else f"{value:.0f}s"
    if value < 5_970:
        return f"{value / 60:.0f}m"
    return f"{value / 3600:.1f}h" if value < 172_800 else f"{value / 86_400:.0f}d"


def span(value: Any) -> str:
    """How long something has been so, in two units: `12 s`, `5 min 10 s`, `2 h 13 min`, `3 d`."""
    if not is_number(value) or value < 0:
        return NONE
    whole = int(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def of_count(latency: Any, name: str) -> Any:
    """One number of a latency document; None where nothing was measured."""
    if not isinstance(latency, dict) or not latency.get("count"):
        return None
    return latency.get(name)


def pair(latency: Any) -> str:
    """The median and the 99th percentile of a latency document: `0.4/1.2ms`."""
    low, high = (seconds(of_count(latency, name)) for name in ("p50_s", "p99_s"))
    if low == high:
        return low
    for unit in ("us", "ms"):
        if low.endswith(unit) and high.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low}/{high}"


def share(used: Any, limit: Any) -> float | None:
    """Which share of a limit is used; None where that is not known."""
    if not is_number(used) or not is_number(limit) or limit <= 0:
        return None
    return max(0.0, used / limit)


def percent(value: Any) -> str:
    """A share as `0%`, `<1%`, `31%`, `120%`; never `100%` before it is full."""
    if not is_number(value):
        return NONE
    if 0 < value < 0.01:
        return "<1%"
    return f"{min(value, 9.99) * 100:.0f}%" if value >= 1 else f"{min(99, round(value * 100))}%"


def styled(text: str, style: str = "") -> Text:
    """A text in a style; added to another, it keeps that to itself, unlike a `Text`."""
    return Text.assemble((text, style))


def bar(value: float | None, width: int) -> Text:
    """A bar of `width` columns for a share; what is above the limit is a full one."""
    if value is None:
        return Text(" " * width)
    eighths = round(min(1.0, value) * width * 8)
    if value > 0 and width:
        eighths = max(1, eighths)
    full = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return Text.assemble((full, level(value)), ("·" * (width - len(full)), "dim"))


def level(value: float | None) -> str:
    """The style of a share of a limit."""
    if value is None:
        return ""
    return "bold red" if value >= FULL else "yellow" if value >= HIGH else "green"


def clock(at_us: Any) -> str:
    """The time of day in UTC, as all commands tell it: `14:03:22`."""
    found = show.clock(int(at_us)) if is_number(at_us) else NONE
    return found[:8] if ":" in found else NONE
