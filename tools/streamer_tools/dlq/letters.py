"""How a dead letter looks, in a table and in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamer_tools import show

if TYPE_CHECKING:
    from streamer.client import DeadLetter

#: Of an error in a table: its beginning says what kind it is.
_ERROR_CHARACTERS = 60

COLUMNS = (
    show.Column("partition", "partition"),
    show.Column("offset", "offset", show.figure),
    show.Column("from", "source"),
    show.Column("group", "group"),
    show.Column("reason", "reason"),
    show.Column("attempts", "attempts", show.figure),
    show.Column("died", "died"),
    show.Column("ago", "age_s", show.age),
    show.Column("redriven", "redriven", show.figure),
    show.Column("error", "error_text"),
)
#: The same for a person, who has 80 columns or a few more.
BRIEF = (
    show.Column("part", "partition"),
    show.Column("offset", "offset", show.figure),
    show.Column("from", "source"),
    show.Column("group", "group"),
    show.Column("reason", "reason"),
    show.Column("tries", "attempts", show.figure),
    show.Column("ago", "age_s", show.age),
    show.Column("error", "error_text"),
)


def row(letter: DeadLetter, now_us: int) -> dict[str, Any]:
    """A letter as a row; what it holds is left out, so many rows fit."""
    error = show.escaped(letter.error)
    if len(error) > _ERROR_CHARACTERS:
        error = error[:_ERROR_CHARACTERS] + "..."
    return {
        "partition": letter.partition,
        "offset": letter.offset,
        "source": f"{letter.source_partition}:{letter.source_offset}",
        "group": letter.group,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "died": show.moment(letter.last_us),
        "age_s": max(0.0, (now_us - letter.last_us) / 1e6),
        "redriven": letter.redriven,
        "error_text": error,
    }


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    """A letter as a map for JSON, value included; fields that it has not are left out."""
    return {
        **show.record_json(letter.record, letter.partition, letter.offset),
        "reason": letter.reason,
        "group": letter.group,
        "source_stream": letter.source_stream,
        "source_partition": letter.source_partition,
        "source_offset": letter.source_offset,
        "attempts": letter.attempts,
        "error": letter.error,
        "first_us": letter.first_us,
        "last_us": letter.last_us,
        "redriven": letter.redriven,
    }
