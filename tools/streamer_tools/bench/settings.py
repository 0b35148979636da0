"""Options of the command line from a benchmark's settings class, and back.

Rules: the class says all of it, by `streamer.setting`: help, unit, bounds, choices. A field in unit
"s" is an option that takes a time and loses its `_s`; one in unit "bytes" takes a size. Tuples are
one option with commas.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import click

from streamer.settings import Described, describe, number_text
from streamer_tools.options import duration, nbytes


def options(cls: type) -> list[click.Option]:
    """An option for each field of a settings class, in their order."""
    return [_option(each) for each in describe(cls)]


def make(cls: type, given: dict[str, Any]) -> Any:
    """The settings object of what the options gave."""
    return cls(**{each.key: given[each.key] for each in describe(cls)})


def _option(each: Described) -> click.Option:
    name = each.key.removesuffix("_s") if each.setting.unit == "s" else each.key
    flag = f"--{name.replace('_', '-')}"
    about = each.setting
    unit = f" ({about.unit})" if about.unit not in ("", "s", "bytes") else ""
    help_text = about.help[:1].upper() + about.help[1:] + unit + "."
    shared: dict[str, Any] = {"default": each.default, "help": help_text}
    if each.type is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", each.key], show_default=True, **shared)
    if typing.get_origin(each.type) is tuple:
        one = _kind(typing.get_args(each.type)[0], each)
        shared["default"] = ",".join(_shown(value, each) for value in each.default)
        return click.Option(
            [flag, each.key], type=_several(one), metavar="A,B,...", show_default=True, **shared
        )
    kind = _kind(each.type, each)
    if each.setting.unit == "s" and each.default is not None:
        # As a text, which click reads and shows.
        shared["default"] = _shown(each.default, each)
    return click.Option(
        [flag, each.key],
        type=kind,
        metavar=_metavar(each),
        show_default=each.default is not None,
        **shared,
    )


def _kind(kind: Any, each: Described) -> Any:
    about = each.setting
    choices = about.choices or (
        typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    )
    if choices:
        return click.Choice(choices)
    if kind is int and about.unit == "bytes":
        return _within(nbytes, each)
    if kind is float and about.unit == "s":
        return _within(duration, each)
    bounded = about.min is not None or about.max is not None
    if kind is int:
        return click.IntRange(_whole(about.min), _whole(about.max)) if bounded else click.INT
    if kind is float:
        return click.FloatRange(about.min, about.max) if bounded else click.FLOAT
    return click.STRING


def _metavar(each: Described) -> str | None:
    return {"s": "TIME", "bytes": "SIZE"}.get(each.setting.unit)


def _shown(value: Any, each: Described) -> str:
    if each.setting.unit == "s":
        return f"{value * 1000:g}ms" if 0 < value < 1 else f"{value:g}s"
    return str(value)


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def _within(read: Callable[[str], float], each: Described) -> Callable[[Any], Any]:
    """A function that reads a text and keeps to the bounds of a setting."""
    about = each.setting
    low, high = number_text(about.min, about), number_text(about.max, about)

    def convert(value: Any) -> Any:
        found = read(value) if isinstance(value, str) else value
        if about.min is not None and found < about.min:
            raise click.BadParameter(f"{value} is below {low}, which is the least")
        if about.max is not None and found > about.max:
            raise click.BadParameter(f"{value} is above {high}, which is the most")
        return found

    return convert


def _several(one: Any) -> Callable[[Any], Any]:
    """A function that reads values with commas between them."""
    kind = click.types.convert_type(one)

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(kind.convert(part.strip(), None, None) for part in value.split(","))

    return convert
