"""What a check found, and how monitoring systems want to be told.

The words, the codes and the first line are those of monitoring plug-ins (Nagios, Icinga, Sensu and
their kin): `LEVEL - what is wrong | figures`, and 0, 1, 2 or 3 as the exit status.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import attrs


class Level(enum.IntEnum):
    """How it is; the number is the exit status."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


#: From the worst: not to know is worse than all well, and better than to know that it is not.
_WORST_FIRST = (Level.CRITICAL, Level.WARNING, Level.UNKNOWN, Level.OK)
#: Names in the first line; a pager shows about as much.
_NAMED_MAX = 3


@attrs.frozen
class Figure:
    """A number for graphs, with its thresholds; the unit is "s", "B", "%" or "" (a count)."""

    name: str
    value: float
    unit: str = ""
    warning: float | None = None
    critical: float | None = None
    #: Whether less is worse.
    falling: bool = False

    def perfdata(self) -> str:
        """As plug-ins write it: `disk_free=12.5%;10:;5:`."""
        bounds = [self._bound(self.warning), self._bound(self.critical)]
        text = f"{self.name}={_number(self.value)}{self.unit};{bounds[0]};{bounds[1]}"
        return text.rstrip(";")

    def _bound(self, value: float | None) -> str:
        return "" if value is None else f"{_number(value)}{':' if self.falling else ''}"


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


@attrs.frozen
class Finding:
    """What one check says; `advice` is what to do, where something is to be done."""

    level: Level
    text: str
    advice: str = ""
    figures: tuple[Figure, ...] = ()


@attrs.frozen
class Result:
    """A check's name and what it found."""

    name: str
    finding: Finding

    @property
    def line(self) -> str:
        finding = self.finding
        advice = f"; {finding.advice}" if finding.advice else ""
        return f"{finding.level.name:<8}  {self.name:<9} {finding.text}{advice}"


def worst(levels: Iterable[Level]) -> Level:
    """Of all of them; OK of none."""
    return min(levels, key=_WORST_FIRST.index, default=Level.OK)


def summary(results: Sequence[Result]) -> str:
    """The first line: the level, what is behind it, and all figures."""
    level = worst(result.finding.level for result in results)
    bad = sorted(
        (result for result in results if result.finding.level is not Level.OK),
        key=lambda result: _WORST_FIRST.index(result.finding.level),
    )
    if bad:
        named = "; ".join(f"{each.name}: {each.finding.text}" for each in bad[:_NAMED_MAX])
        more = f"; and {len(bad) - _NAMED_MAX} more" if len(bad) > _NAMED_MAX else ""
        text = f"{named}{more}"
    else:
        text = f"{len(results)} checks passed"
    figures = " ".join(f.perfdata() for result in results for f in result.finding.figures)
    # What follows the bar is read by a program.
    text = text.replace("|", "/")
    return f"{level.name} - {text}" + (f" | {figures}" if figures else "")
