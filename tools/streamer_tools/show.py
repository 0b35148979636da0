"""How values look to a person: figures, bytes, records, tables.

Rules: on a terminal a table is drawn by `rich`, with units; anywhere else it is bare values in
columns without blanks, a row a line, so that `awk` can read it. `rich` is imported only for a
terminal. Names and texts are those of any client: what cannot be printed is escaped in every cell.
What an older or newer daemon does not tell is `-`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import attrs
import click

from streamer_tools.options import is_terminal

if TYPE_CHECKING:
    from rich.table import Table

    from streamer.records import Record


def size(nbytes: float | None) -> str:
    """A number of bytes with a unit: `-`, `512 B`, `1.5 KiB`, `64 MiB`."""
    if nbytes is None:
        return "-"
    units = iter(("KiB", "MiB", "GiB", "TiB"))
    unit = "B"
    while abs(nbytes) >= 1024 and unit != "TiB":
        nbytes, unit = nbytes / 1024, next(units)
    return f"{nbytes:.0f} {unit}" if nbytes == int(nbytes) else f"{nbytes:.1f} {unit}"


def figure(number: float | None) -> str:
    """A count or rate: whole with thousands separators, or with three digits where it is small."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"


def age(seconds: float | None) -> str:
    """How old something is: `-`, `12 ms`, `3.4 s`, `5 min`, `2.1 h`."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def took(seconds: float | None) -> str:
    """How long something took, to three digits: `-`, `480 us`, `1.25 ms`, `23.4 s`."""
    if seconds is None:
        return "-"
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else age(max(1.0, seconds))


def moment(timestamp_us: int | None) -> str:
    """A time in microseconds since 1970 as ISO 8601 in UTC; the bare number if it is too far."""
    if timestamp_us is None:
        return "-"
    try:
        return datetime.fromtimestamp(timestamp_us / 1e6, UTC).isoformat(timespec="microseconds")
    except (OverflowError, ValueError, OSError):
        return str(timestamp_us)


def clock(timestamp_us: int | None) -> str:
    """The time of day of it in UTC, to the millisecond; the bare number if it is too far."""
    found = moment(timestamp_us)
    return found[11:23] if found[10:11] == "T" else found


def as_text(name: str, data: bytes) -> dict[str, str]:
    """`{name: text}`, or `{name_base64: ...}` for bytes that are no UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def record_json(record: Record, partition: int, offset: int) -> dict[str, Any]:
    """One record as a map for JSON; fields that it has not are left out."""
    shown: dict[str, Any] = {"partition": partition, "offset": offset}
    if record.timestamp_us is not None:
        shown["timestamp_us"] = record.timestamp_us
    if record.deliver_at_us is not None:
        shown["deliver_at_us"] = record.deliver_at_us
    if record.key is not None:
        shown |= as_text("key", record.key)
    if record.headers:
        shown["headers"] = headers_json(record.headers)
    return shown | as_text("value", record.value)


def headers_json(headers: Mapping[str, bytes]) -> dict[str, Any]:
    """Headers as a map for JSON; a value that is no UTF-8 becomes `{"base64": ...}`."""
    shown: dict[str, Any] = {}
    for name, data in headers.items():
        try:
            shown[name] = data.decode()
        except UnicodeDecodeError:
            shown[name] = {"base64": base64.b64encode(data).decode()}
    return shown


def escaped(text: str) -> str:
    """A text that cannot act on a terminal: control characters and their kind as in `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(data: bytes, width: int = 2000) -> str:
    """A value as text for a terminal: control characters and foreign bytes are escaped."""
    shown = escaped(data[:width].decode(errors="backslashreplace"))
    return shown + (f"... ({len(data):,} bytes)" if len(data) > width else "")


@attrs.frozen
class Column:
    """A column of a table: its title, the key of its value in a row, how a person reads it."""

    title: str
    key: str
    human: Callable[[Any], str] = str


def plain_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """Bare values in columns, two spaces apart; numbers to the right, `-` where there is none."""
    cells = [[column.title.replace(" ", "_") for column in columns]]
    cells += [[plain(row.get(column.key)) for column in columns] for row in rows]
    widths = [max(len(line[number]) for line in cells) for number in range(len(columns))]
    right = [_numeric(column, rows) for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )


def rich_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Table:
    """The same for a person, as a `rich` table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for column in columns:
        justify: Literal["left", "right"] = "right" if _numeric(column, rows) else "left"
        table.add_column(column.title, justify=justify, no_wrap=True)
    for row in rows:
        values = [row.get(column.key) for column in columns]
        table.add_row(*[
            Text("-" if value is None else escaped(column.human(value)))
            for column, value in zip(columns, values, strict=True)
        ])  # fmt: skip
    return table


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    brief: Sequence[Column] | None = None,
) -> None:
    """A table on standard output, drawn on a terminal (with the `brief` columns) or plain."""
    if is_terminal("stdout"):
        from rich.console import Console

        Console().print(rich_table(brief or columns, rows))
    else:
        click.echo(plain_table(columns, rows))


def plain(value: Any) -> str:
    """A value as a cell of a plain table: without blanks, `-` for none."""
    if value is None or value == "":
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else escaped(str(value)).replace(" ", "_")


def _numeric(column: Column, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row.get(column.key) for row in rows]
    return any(isinstance(value, int | float) for value in values) and not any(
        isinstance(value, str) for value in values
    )
