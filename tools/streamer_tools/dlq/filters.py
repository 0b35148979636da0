"""Which dead letters are meant: the options that all verbs share, and what they let through."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from streamer_tools.options import duration, natural

if TYPE_CHECKING:
    from streamer.client import DeadLetter

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--reason", type=click.Choice(["max_deliveries", "term", "unknown"]),
        help="max_deliveries: attempts used up; term: a consumer said so.",
    ),
    click.option("--error", metavar="TEXT", help="The last error has this in it."),
    click.option("--group", metavar="NAME", help="They died in this group."),
    click.option(
        "--older-than", "older_s", type=duration, metavar="TIME",
        help="They died at least so long ago (10m, 2h, 3d).",
    ),
    click.option(
        "--newer-than", "newer_s", type=duration, metavar="TIME",
        help="They died at most so long ago.",
    ),
    click.option("--count", type=natural, metavar="N", help="The first so many of these."),
)  # fmt: skip


@attrs.frozen
class Filters:
    """What a dead letter must be like; None for no matter."""

    reason: str | None = None
    error: str | None = None
    group: str | None = None
    #: Seconds since it died: at least, and at most.
    older_s: float | None = None
    newer_s: float | None = None
    #: Of those that are like it, so many.
    count: int | None = None

    def match(self, letter: DeadLetter, now_us: int) -> bool:
        """Whether a letter is meant, at a time in microseconds since 1970; `count` aside."""
        age_s = (now_us - letter.last_us) / 1e6
        return (
            self.reason in (None, letter.reason)
            and self.group in (None, letter.group)
            and (self.error is None or self.error in letter.error)
            and (self.older_s is None or age_s >= self.older_s)
            and (self.newer_s is None or age_s <= self.newer_s)
        )


def filter_options(command: _Command) -> _Command:
    """The options that make `Filters`, by the names of its fields."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
