"""From which value on a check warns, and from which it is critical: the defaults, and options.

Rules: a threshold has one name, for `--warning NAME=VALUE` and `--critical NAME=VALUE`; `none`
switches it off. Shares are given in percent, times as everywhere. A value at the threshold is
beyond it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import attrs
import click

from streamer_tools import show
from streamer_tools.doctor.findings import Figure, Level
from streamer_tools.options import duration, nbytes

Kind = Literal["time", "share", "count", "size"]
#: By kind, what a figure is multiplied by, and its unit.
_UNITS: dict[Kind, tuple[int, str]] = {
    "time": (1, "s"),
    "share": (100, "%"),
    "count": (1, ""),
    "size": (1, "B"),
}


@attrs.frozen
class Threshold:
    """Two limits of one figure; None for none."""

    kind: Kind
    warning: float | None
    critical: float | None
    help: str
    #: Whether less is worse.
    falling: bool = False

    def level(self, value: float) -> Level:
        """How a value is."""
        for level, limit in ((Level.CRITICAL, self.critical), (Level.WARNING, self.warning)):
            if limit is not None and (value <= limit if self.falling else value >= limit):
                return level
        return Level.OK

    def figure(self, name: str, value: float) -> Figure:
        """For graphs."""
        scale, unit = _UNITS[self.kind]
        warning, critical = (
            None if limit is None else limit * scale for limit in (self.warning, self.critical)
        )
        return Figure(name, value * scale, unit, warning, critical, self.falling)

    def text(self, value: float | None) -> str:
        """A limit as a person reads it."""
        if value is None:
            return "none"
        if self.kind == "time":
            return span(value)
        if self.kind == "size":
            return show.size(value)
        return f"{value:.3g}" if self.kind == "count" else percent(value)


Thresholds = Mapping[str, Threshold]

DEFAULTS: dict[str, Threshold] = {
    "ping": Threshold("time", 0.5, 2.0, "time to answer a small question"),
    "disk": Threshold("share", 0.10, 0.05, "of the disk is free", falling=True),
    "fsync": Threshold("time", 0.1, 1.0, "to write 4 KiB and sync it, the middle one of five"),
    "commit": Threshold("time", 0.25, 2.0, "p99 of persist: from taking to durable"),
    "append": Threshold("time", 0.5, 5.0, "p99 from taking an append in to its ack"),
    "clock": Threshold("time", 1.0, 30.0, "difference between the daemon's clock and ours"),
    "fds": Threshold("share", 0.80, 0.95, "of the file descriptors are in use"),
    "sessions": Threshold("share", 0.80, 0.95, "of the sessions allowed are there"),
    "memory": Threshold("size", 2.0 * 1024**3, 8.0 * 1024**3, "resident memory"),
    "fill": Threshold("share", 0.90, None, "of a channel is full"),
    "oldest": Threshold("time", 5.0, 15.0, "the oldest append without an answer"),
    "lag": Threshold("count", None, None, "records that a group is behind"),
    "lag-age": Threshold("time", 300.0, 3600.0, "the oldest record that a group has not done"),
    "dead": Threshold("count", 1, None, "dead letters since the daemon began"),
    "slow": Threshold("count", 1, None, "sessions that take less than there is for them"),
}


def span(seconds: float) -> str:
    """A time, with two digits where it is short: `0.21 ms`, `34 ms`, `2.0 s`."""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.0995 else show.age(seconds)


def percent(value: float) -> str:
    """A share, with a digit where it is small: `0.4 %`, `37 %`."""
    return f"{value * 100:.{1 if value < 0.1 else 0}f} %"


def changed(warnings: Iterable[str], criticals: Iterable[str]) -> dict[str, Threshold]:
    """The defaults with what the command line says.

    Raises:
        click.BadParameter: no such threshold, no such value, or a warning beyond the critical.
    """
    found, touched = dict(DEFAULTS), set()
    for text in warnings:
        name, limit = _parse(text)
        found[name] = attrs.evolve(found[name], warning=limit)
        touched.add(name)
    for text in criticals:
        name, limit = _parse(text)
        found[name] = attrs.evolve(found[name], critical=limit)
        touched.add(name)
    for name in sorted(touched):
        _check_order(name, found[name])
    return found


def _check_order(name: str, threshold: Threshold) -> None:
    warning, critical = threshold.warning, threshold.critical
    if warning is None or critical is None:
        return
    if (critical > warning) if threshold.falling else (critical < warning):
        side = "above" if threshold.falling else "below"
        raise click.BadParameter(
            f"{name}: critical is {threshold.text(critical)}, {side} warning "
            f"({threshold.text(warning)}), so it would never warn"
        )


def _parse(text: str) -> tuple[str, float | None]:
    name, equals, value = text.partition("=")
    if name not in DEFAULTS or not equals:
        names = ", ".join(DEFAULTS)
        raise click.BadParameter(f"{text!r} is not NAME=VALUE with NAME one of: {names}")
    if value == "none":
        return name, None
    kind = DEFAULTS[name].kind
    if kind == "time":
        return name, duration(value)
    return name, float(nbytes(value)) if kind == "size" else _number(name, kind, value)


def _number(name: str, kind: Kind, text: str) -> float:
    """A count, or a share as `10%` or `0.1`."""
    number = re.fullmatch(r"(\d+(?:\.\d+)?) ?(%?)", text, re.ASCII)
    if number is None or len(text) > 30 or (kind == "count" and number[2]):
        what = "a share such as 10%" if kind == "share" else "a number"
        raise click.BadParameter(f"{name}: {text!r} is not {what}, and not none")
    value = float(number[1]) / (100 if number[2] else 1)
    if kind == "share" and value > 1:
        raise click.BadParameter(f"{name}: {text!r} is more than all of it; 10% or 0.1 are shares")
    return value
