"""Options and arguments that several commands share, and how their texts are read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import click

DEFAULT_URL = "ws://127.0.0.1:4440"

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
#: Longer ones are in nobody's interest, and seconds stay exact.
_DURATION_MAX_S = 100 * 366 * 86400.0

_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}

#: The largest offset (`limits.OFFSET_MAX`, which `--help` does not import).
_NATURAL_MAX = 2**63 - 1

#: A partition, an offset or a count.
natural = click.IntRange(0, _NATURAL_MAX)

#: Where a reader starts.
Position = Literal["earliest", "latest"] | int | datetime


def checked_url(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """The callback of an option that takes an address; None stays None.

    Raises:
        click.BadParameter: it is no address.
    """
    from streamer.addresses import FORMS, parse

    try:
        if url is not None:
            parse(url)
    except ValueError as error:
        raise click.BadParameter(f"{url!r}: {error}; it is {FORMS}") from error
    return url


def url_option(command: _Command) -> _Command:
    """`--url`: the daemon's address."""
    return click.option(
        "--url",
        envvar="STREAMER_URL",
        default=DEFAULT_URL,
        show_default=True,
        callback=checked_url,
        metavar="URL",
        help="The daemon: ws://HOST:PORT, tcp://HOST:PORT or unix:PATH (or STREAMER_URL).",
    )(command)


def json_option(command: _Command) -> _Command:
    """`--json`: JSON on standard output, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")(command)


def print_json(value: Any) -> None:
    """One line of JSON."""
    click.echo(json.dumps(value, default=str))


def is_terminal(name: Literal["stdin", "stdout", "stderr"]) -> bool:
    """Whether the standard file is a terminal; a closed one is none."""
    file = getattr(sys, name)
    return file is not None and bool(file.isatty())


def position(text: str) -> Position:
    """`earliest`, `latest`, an offset, or a time in ISO 8601 (UTC where it names no zone).

    Raises:
        click.BadParameter: it is none of them.
    """
    if text == "earliest" or text == "latest":
        return text  # type: ignore[return-value]
    if text.isdecimal():
        # Longer than any offset, and Python refuses to read 5,000 digits.
        if len(text) > 100 or int(text) > _NATURAL_MAX:
            raise click.BadParameter(f"the largest offset is {_NATURAL_MAX}")
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is none of: earliest, latest, an offset, an ISO 8601 time"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def nbytes(text: str) -> int:
    """A number of bytes, as `4096`, `64k` or `16M` (powers of 1024).

    Raises:
        click.BadParameter: it is none.
    """
    digits = text.lower().removesuffix("b").removesuffix("i")
    number, unit = (digits[:-1], digits[-1:]) if digits[-1:] in _UNITS else (digits, "")
    if not number.isdecimal():
        raise click.BadParameter(f"{text!r} is no number of bytes such as 4096, 64k or 16M")
    return int(number) * _UNITS.get(unit, 1)


def duration(text: str) -> float:
    """Seconds, of a time such as `10s`, `90m`, `2h`, `1h30m` or `3d`; a bare number is seconds.

    Raises:
        click.BadParameter: it is none, or more than a hundred years.
    """
    wrong = click.BadParameter(f"{text!r} is no time such as 500ms, 10s, 90m, 2h, 1h30m or 3d")
    if len(text) > 100:
        raise wrong
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        seconds = float(text)
    elif re.fullmatch(f"(?:{_PART})+", text, re.ASCII):
        parts = re.findall(_PART, text, re.ASCII)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    else:
        raise wrong
    if seconds > _DURATION_MAX_S:
        raise click.BadParameter(f"{text!r} is more than 36600 days, which is the most")
    return seconds
