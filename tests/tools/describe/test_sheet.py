"""How a description looks, and which names are near."""

from __future__ import annotations

import pytest

from streamer_tools import show
from streamer_tools.describe.sheet import (
    Fact,
    Part,
    fact,
    fact_lines,
    latency,
    print_parts,
    unknown,
)
from streamer_tools.exits import Exit

FACTS = [Fact("a", "1", "default"), Fact("long name", "12 MiB", "file.toml [x]"), Fact("c", "d")]


def test_facts_stand_in_columns() -> None:
    assert list(fact_lines(FACTS, None)) == [
        "  a          1       default",
        "  long name  12 MiB  file.toml [x]",
        "  c          d",
    ]


def test_on_a_narrow_terminal_a_note_goes_below() -> None:
    assert list(fact_lines(FACTS, 30)) == [
        "  a          1       default",
        "  long name  12 MiB",
        "      file.toml [x]",
        "  c          d",
    ]


def test_a_long_value_does_not_move_the_others() -> None:
    lines = list(fact_lines([Fact("a", "1", "n"), Fact("b", "x" * 50, "m")], None))
    assert lines == ["  a  1  n", "  b  " + "x" * 50 + "  m"]


def test_names_cannot_act_on_the_terminal() -> None:
    [line] = fact_lines([Fact("\x1b", "\x1b", "\x1b")], None)
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), ("", "-"), ([], "-"), (True, "yes"), (False, "no"), (["a", "b"], "a, b"),
        (1200, "1,200"), (0.5, "0.5"), (0, "0"), ("x", "x"),
    ],
)  # fmt: skip
def test_a_fact_of_a_value(value: object, text: str) -> None:
    assert fact("n", value).value == text


def test_parts_without_anything_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (show.Column("x", "x"),)
    print_parts(
        [
            Part("one", [Fact("a", "1")]),
            Part("nothing"),
            Part("two\x1b", columns=columns, rows=[{"x": 3}]),
        ]
    )
    assert capsys.readouterr().out == "one\n  a  1\n\ntwo\\x1b\nx\n3\n"


def test_a_latency_in_words() -> None:
    found = {"count": 1200, "p50_s": 0.001, "p95_s": 0.01, "p99_s": 1.5, "max_s": 2.0}
    assert latency(found) == "p50 1 ms, p95 10 ms, p99 1.5 s, p99.9 -, max 2.0 s (of 1,200)"
    assert latency(None) == latency({}) == latency({"count": 0}) == "-"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("ordrs", ["orders", "jobs", "orders.dead"], "near are: orders, orders.dead"),
        ("ill", ["billing-eu", "shipping"], "near are: billing-eu"),
        ("zzz", ["b", "a"], "there are: a, b"),
        ("zzz", [f"a{n:02}" for n in range(12)], "a09 and 2 more"),
        ("x", [], "there are none"),
    ],
)
def test_near_names_are_named(name: str, known: list[str], hint: str) -> None:
    error = unknown("stream", name, known)
    assert error.status is Exit.FAILED
    assert error.lines[0].startswith(f"there is no stream {name!r}; ")
    assert error.lines[0].endswith(hint)
