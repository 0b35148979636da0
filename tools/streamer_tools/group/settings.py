"""The settings of a group as options: which there are, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from streamer_tools.options import duration, natural

_Command = TypeVar("_Command", bound=Callable[..., Any])


def pauses(text: str) -> list[float]:
    """Seconds before attempt 2, 3 and so on, of `1,5,30` or `1s,30s,10m`.

    Raises:
        click.BadParameter: a part is no time.
    """
    return [duration(part.strip()) for part in text.split(",")]


_CHANGEABLE = (
    click.option(
        "--ack-wait", "ack_wait_s", type=duration, metavar="TIME",
        help="How long a delivery is held before it is given to another [new group: 30s]",
    ),
    click.option(
        "--lease-max", "lease_max_s", type=duration, metavar="TIME",
        help="The longest that one delivery can be prolonged to [new group: 1h]",
    ),
    click.option(
        "--max-deliveries", type=natural, metavar="N",
        help="Attempts before a record is dead; 0 for no limit [new group: 5]",
    ),
    click.option(
        "--backoff", "backoff_s", type=pauses, metavar="TIME,...",
        help="Pauses before attempt 2, 3, ...; the last repeats [new group: 1,5,30]",
    ),
)  # fmt: skip
_FIXED = (
    click.option(
        "--mode", type=click.Choice(["shared", "ordered"]),
        help="shared: any member takes the next; ordered: a partition has one member"
        " [new group: shared]",
    ),
    click.option(
        "--order", type=click.Choice(["none", "key"]),
        help="key: records of a key are never out at two members at once [new group: none]",
    ),
    click.option(
        "--start", type=click.Choice(["earliest", "latest"]),
        help="Where a new group begins [new group: earliest]",
    ),
)  # fmt: skip


def _with(options: tuple[Callable[[Any], Any], ...], command: _Command) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def changeable_options(command: _Command) -> _Command:
    """What can be changed later; each is None where it was not named."""
    return _with(_CHANGEABLE, command)


def all_options(command: _Command) -> _Command:
    """What a new group can be told; each is None where it was not named."""
    return _with((*_FIXED, *_CHANGEABLE), command)


def named(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that were named, as they go to the daemon."""
    return {name: value for name, value in settings.items() if value is not None}
