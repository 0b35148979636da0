"""How figures, bytes, records and tables look."""

from __future__ import annotations

import json

import pytest

from streamer.records import Record
from streamer_tools import show


def test_sizes_have_units() -> None:
    assert show.size(0) == "0 B"
    assert show.size(1023) == "1023 B"
    assert show.size(1536) == "1.5 KiB"
    assert show.size(64 * 1024**2) == "64 MiB"
    assert show.size(3 * 1024**4) == "3 TiB"


def test_ages_have_units() -> None:
    assert show.age(None) == "-"
    assert show.age(0.0123) == "12 ms"
    assert show.age(3.44) == "3.4 s"
    assert show.age(300) == "5 min"
    assert show.age(7600) == "2.1 h"


def test_figures() -> None:
    assert show.figure(1234567) == "1,234,567"
    assert show.figure(0) == "0"
    assert show.figure(0.12345) == "0.123"


def test_what_a_daemon_of_another_version_does_not_tell_is_a_dash() -> None:
    for human in (show.size, show.figure, show.age, show.took, show.moment, show.clock):
        assert human(None) == "-"


def test_moments_are_utc() -> None:
    assert show.moment(1_700_000_000_123_456) == "2023-11-14T22:13:20.123456+00:00"
    assert show.moment(2**62) == str(2**62)


def test_bytes_that_are_no_text_become_base64() -> None:
    record = Record(b"\xff", key=b"k", timestamp_us=5, headers={"a": b"x", "b": b"\xfe"})
    shown = show.record_json(record, 1, 7)
    assert shown == {
        "partition": 1,
        "offset": 7,
        "timestamp_us": 5,
        "key": "k",
        "headers": {"a": "x", "b": {"base64": "/g=="}},
        "value_base64": "/w==",
    }
    json.dumps(shown)


def test_a_value_cannot_write_to_the_terminal() -> None:
    assert show.printable(b"a\x1b[31mb\r\n\xff\xc3\xa9") == "a\\x1b[31mb\\r\\n\\xff\xe9"
    assert show.printable(b"x" * 3000).endswith("... (3,000 bytes)")


@pytest.mark.parametrize("name", ["\x1b[31mred\nx", "a\rb", "\u202ename", "\x9b2J", "a\x00"])
def test_no_cell_of_a_table_can_write_to_the_terminal(name: str) -> None:
    from rich.console import Console

    columns = [show.Column("name", "name"), show.Column("count", "count", show.figure)]
    rows = [{"name": name, "count": 5}]
    plain = show.plain_table(columns, rows)
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(show.rich_table(columns, rows))
    for text in (plain, captured.get()):
        assert all(line.isprintable() for line in text.split("\n"))
        assert show.escaped(name) in text
    assert plain.count("\n") == 1


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert show.escaped("worker März \\ 1") == "worker März \\ 1"
    assert show.escaped("\udc80") == "\\udc80"


COLUMNS = [
    show.Column("stream", "name"),
    show.Column("on disk", "bytes", show.size),
    show.Column("oldest", "oldest_s", show.age),
]
ROWS = [
    {"name": "a", "bytes": 5, "oldest_s": None},
    {"name": "two words", "bytes": 1536, "oldest_s": 0.25},
]


def test_a_plain_table_has_bare_values_and_no_blanks_in_them() -> None:
    assert show.plain_table(COLUMNS, ROWS).splitlines() == [
        "stream     on_disk  oldest",
        "a                5       -",
        "two_words     1536    0.25",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert show.plain_table(COLUMNS, []) == "stream  on_disk  oldest"


def test_a_drawn_table_has_units() -> None:
    from rich.console import Console

    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(show.rich_table(COLUMNS, ROWS))
    assert "1.5 KiB" in captured.get()
    assert "250 ms" in captured.get()
    assert "two words" in captured.get()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0.0, "0 us"), (0.000_031, "31 us"), (0.000_9999, "1 ms"),
        (0.00125, "1.25 ms"), (0.0234, "23.4 ms"), (0.9999, "1.0 s"), (23.42, "23.4 s"),
    ],
)  # fmt: skip
def test_took(seconds: float | None, text: str) -> None:
    assert show.took(seconds) == text
