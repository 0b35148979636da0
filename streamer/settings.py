"""Settings classes: from TOML tables to `attrs.frozen` objects, with every fault in one go.

Rules:

- A settings class is `attrs.frozen`, and each field has a default. `setting()` says in the field's
  metadata what it means and what is allowed; checks, reference and suggestions all read that.
- Nothing is converted silently: a number in quotes, 1 for true, or an unknown key is a fault.
- All faults are collected. A fault says what was found and what is allowed, not just "invalid".
- A stage outside this repository uses the same two names: `setting` and `attrs.frozen`.
"""

from __future__ import annotations

import difflib
import enum
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar, Union

import attrs
import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

T = TypeVar("T")

_METADATA = "streamer.setting"
#: The metadata of a field that comes along with the settings of a class, and can be set nowhere.
BESIDE: Mapping[str, None] = {_METADATA: None}
_SIZE = re.compile(r"(\d+) ?(B|KiB|MiB|GiB|TiB)")
_SIZE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FOUND_CHARS_MAX = 80


@attrs.frozen
class Setting:
    """What a setting means and what it may be."""

    help: str
    #: "s", "bytes", or what else is counted. A setting in bytes may be given as "4 MiB".
    unit: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    #: Whether SIGHUP changes it in a running daemon.
    reload: bool = False


def setting(
    default: T,
    help: str,
    *,
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    choices: Iterable[str] = (),
    reload: bool = False,
) -> T:
    """A field of a settings class, with its default, its help and its bounds (both included)."""
    about = Setting(help, unit, min, max, tuple(choices), reload)
    field: T = attrs.field(default=default, metadata={_METADATA: about})
    return field


def about(field: attrs.Attribute[Any]) -> Setting:
    """The `Setting` of a field; an empty one for a field that was made without `setting()`."""
    found = field.metadata.get(_METADATA)
    return found if isinstance(found, Setting) else Setting(help="")


def fields_of(cls: type) -> list[attrs.Attribute[Any]]:
    """The fields of a settings class that can be set: all but those `BESIDE` them."""
    return [field for field in attrs.fields(cls) if field.metadata.get(_METADATA, ()) is not None]


@attrs.frozen
class Fault:
    """One thing that is wrong with a configuration."""

    key: str
    found: str
    allowed: str
    suggestion: str | None = None

    def line(self, file: str) -> str:
        hint = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        key = f" {self.key}:" if self.key else ""
        return f"{file}:{key} found {self.found}, allowed {self.allowed}{hint}"

    def under(self, key: str) -> Fault:
        """The same fault seen from one level further out."""
        joint = "" if not self.key or self.key.startswith("[") else "."
        return attrs.evolve(self, key=f"{key}{joint}{self.key}")


class Faulty(Exception):
    """A value cannot be used; keys of the faults are relative to it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.line("config") for fault in faults))
        self.faults = faults


def faulty(found: str, allowed: str, suggestion: str | None = None) -> Faulty:
    return Faulty([Fault("", found, allowed, suggestion)])


def show(value: Any) -> str:
    """A TOML value as a fault shows it: short, on one line, with its type visible."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _FOUND_CHARS_MAX else text[: _FOUND_CHARS_MAX - 3] + "..."


def key_text(key: str) -> str:
    """A key as TOML writes it: in quotes, with escapes, if it is not a plain word."""
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def unknown_keys(given: Iterable[str], known: Iterable[str]) -> list[Fault]:
    """A fault for each key that is not known."""
    names = list(known)
    allowed = ", ".join(names) or "no keys"
    return [
        Fault(key_text(key), "an unknown key", allowed, nearest(key, names))
        for key in given
        if key not in names
    ]


# ------------------------------------------------------------------------------- one value


def allowed_text(kind: Any, about: Setting) -> str:
    """What a setting of that type may be, in words."""
    choices = about.choices or _choices(kind)
    if choices:
        return _either([json.dumps(choice) for choice in choices])
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    text = words.get(kind, "a value")
    if kind in (int, float):
        if about.unit == "bytes":
            text += ' of bytes or a size as "4 MiB"'
        elif about.unit:
            text += f" ({about.unit})"
        low, high = number_text(about.min, about), number_text(about.max, about)
        if low and high:
            text += f" from {low} to {high}"
        elif low or high:
            text += f" of at least {low}" if low else f" of at most {high}"
    return text


def number_text(value: float | None, about: Setting) -> str:
    """A number as people read it: sizes in the largest unit that fits."""
    if value is None:
        return ""
    if about.unit == "bytes" and value and not value % 1024:
        unit = max(
            (name for name in _SIZE_UNITS if not value % _SIZE_UNITS[name]),
            key=_SIZE_UNITS.__getitem__,
        )
        return f"{int(value) // _SIZE_UNITS[unit]} {unit}"
    return f"{int(value)}" if value == int(value) else f"{value:g}"


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _choices(kind: Any) -> tuple[str, ...]:
    if typing.get_origin(kind) is Literal:
        return tuple(typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return tuple(str(member.value) for member in kind)
    return ()


def _checked(value: Any, kind: Any, about: Setting) -> Any:
    """A scalar of exactly the type `kind`, within the bounds of `about`."""
    choices = about.choices or _choices(kind)
    if choices and value not in choices:
        suggestion = nearest(value, choices) if isinstance(value, str) else None
        shown = json.dumps(suggestion) if suggestion else None
        raise faulty(show(value), allowed_text(kind, about), shown)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if choices:
        return value
    given = value
    if kind is int and about.unit == "bytes" and isinstance(value, str):
        size = _SIZE.fullmatch(value)
        if size:
            value = int(size[1]) * _SIZE_UNITS[size[2]]
    if kind is float and type(value) is int:
        value = float(value)
    fits = type(value) is kind and not (kind is float and not math.isfinite(value))
    if fits and kind in (int, float):
        fits = (about.min is None or value >= about.min) and (
            about.max is None or value <= about.max
        )
    if not fits:
        raise faulty(show(given), allowed_text(kind, about))
    return value


# --------------------------------------------------------------------------------- the tree


def new_converter() -> cattrs.Converter:
    """A converter for settings classes; `Faulty` is what its `structure()` raises."""
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    plain = Setting(help="")
    for kind in (int, float, bool, str):
        converter.register_structure_hook(kind, lambda value, kind: _checked(value, kind, plain))
    converter.register_structure_hook_func(
        lambda kind: bool(_choices(kind)), lambda value, kind: _checked(value, kind, plain)
    )
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) in (tuple, list),
        lambda kind: _list_hook(kind, converter),
    )
    converter.register_structure_hook_factory(attrs.has, lambda kind: _class_hook(kind, converter))
    return converter


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind)


def _list_hook(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    item_kind = typing.get_args(kind)[0]
    make = typing.get_origin(kind)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise faulty(show(value), "a list")
        items, faults = [], []
        for index, item in enumerate(value):
            try:
                items.append(converter.structure(item, item_kind))
            except Faulty as error:
                faults += [fault.under(f"[{index}]") for fault in error.faults]
        if faults:
            raise Faulty(faults)
        return make(items)

    return structure


def _class_hook(cls: type, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    attrs.resolve_types(cls)
    overrides: dict[str, Any] = {
        field.name: override(struct_hook=_field_hook(field, converter)) for field in fields_of(cls)
    }
    for field in attrs.fields(cls):
        overrides.setdefault(field.name, override(omit=True))
    build: Callable[[Any, Any], Any] = make_dict_structure_fn(cls, converter, **overrides)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise faulty(show(value), "a table")
        try:
            return build(value, cls)
        except BaseValidationError as error:
            raise Faulty(list(_flatten(error))) from None

    return structure


def _field_hook(
    field: attrs.Attribute[Any], converter: cattrs.Converter
) -> Callable[[Any, Any], Any]:
    setting_about = about(field)
    kind = _not_none(field.type)

    def structure(value: Any, _: Any) -> Any:
        if kind in (int, float, bool, str) or _choices(kind):
            return _checked(value, kind, setting_about)
        return converter.structure(value, kind)

    return structure


def _not_none(kind: Any) -> Any:
    """`int` of `int | None`: TOML has no null, so None is only ever a default."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in typing.get_args(kind) if part is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return kind


def _flatten(error: BaseException, key: str = "") -> Iterator[Fault]:
    """Each fault in cattrs' tree of exceptions, under its key."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from (
                fault.under(key) if key else fault for fault in _flatten(inner, _key(inner))
            )
    elif isinstance(error, Faulty):
        yield from (fault.under(key) for fault in error.faults) if key else error.faults
    elif isinstance(error, ForbiddenExtraKeysError):
        yield from unknown_keys(
            sorted(error.extra_fields), [field.name for field in fields_of(error.cl)]
        )
    elif isinstance(error, KeyError):
        yield Fault(key, "nothing", "a value: it has no default")
    else:
        # A stage's settings class may check by itself, in a validator.
        yield Fault(key, "a value that does not do", str(error) or type(error).__name__)


def _key(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return note.name
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""


@attrs.frozen
class Described:
    """A setting of a class, for references and for tests of examples."""

    key: str
    type: Any
    default: Any
    setting: Setting


def describe(cls: type, prefix: str = "") -> Iterator[Described]:
    """Every setting of a settings class, those of its tables included, in their order."""
    attrs.resolve_types(cls)
    for field in fields_of(cls):
        kind = _not_none(field.type)
        default = field.default
        item = typing.get_args(kind)[0] if _origin(kind) in (tuple, list) else None
        if attrs.has(kind):
            yield from describe(kind, f"{prefix}{field.name}.")
        elif item is not None and attrs.has(item):
            yield from describe(item, f"{prefix}{field.name}[].")
        else:
            yield Described(f"{prefix}{field.name}", kind, default, about(field))
