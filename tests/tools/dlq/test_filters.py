"""Which dead letters are meant."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from streamer.client import DeadLetter
from streamer.records import Record
from streamer_tools.dlq.filters import Filters, filter_options

NOW_US = 1_800_000_000_000_000
LETTER = DeadLetter(
    partition=0, offset=7, record=Record(b"value", key=b"k"), reason="max_deliveries",
    group="billing", source_stream="orders", source_partition=2, source_offset=1234, attempts=5,
    error="KeyError: 'user'", first_us=NOW_US - 100_000_000, last_us=NOW_US - 60_000_000,
    redriven=0,
)  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"reason": "max_deliveries"},
        {"error": "KeyError"},
        {"error": "'user'"},
        {"group": "billing"},
        {"older_s": 60},
        {"newer_s": 60},
        {"older_s": 59, "newer_s": 61, "group": "billing", "error": "Key"},
        {"count": 0},
    ],
)
def test_what_is_let_through(given: dict[str, Any]) -> None:
    assert Filters(**given).match(LETTER, NOW_US)


@pytest.mark.parametrize(
    "given",
    [
        {"reason": "term"},
        {"error": "keyerror"},
        {"group": "bill"},
        {"older_s": 61},
        {"newer_s": 59},
        {"error": "KeyError", "group": "other"},
    ],
)
def test_what_is_not(given: dict[str, Any]) -> None:
    assert not Filters(**given).match(LETTER, NOW_US)


def test_the_options_are_the_fields() -> None:
    import click

    @click.command
    @filter_options
    def command(**given: Any) -> None:
        pass

    assert {param.name for param in command.params} == {
        field.name for field in attrs.fields(Filters)
    }
