"""The judge notices each fault that it is there to notice: else its silence would mean nothing."""

from __future__ import annotations

import pytest

from tests.faults.ledger import Ledger, parse_value, value_of


def log_of(*names: str) -> list[bytes]:
    """Values such as `a0`: producer a, number 0."""
    return [value_of(name[0], int(name[1:]), b"pad|ding") for name in names]


@pytest.fixture
def ledger() -> Ledger:
    """Producer a has had 0 to 2 acked at 0, 1, 3 of partition 0; b has had 0 acked at 2."""
    ledger = Ledger()
    ledger.sent("a", 3)
    ledger.acked_at("a", 0, 0, 0, 2)
    ledger.acked_at("a", 2, 0, 3, 1)
    ledger.sent("b", 1)
    ledger.acked_at("b", 0, 0, 2, 1)
    ledger.reader("r", 0).add(0, log_of("a0", "a1"))
    return ledger


RIGHT = ("a0", "a1", "b0", "a2")


def test_a_value_names_its_producer_and_number() -> None:
    assert parse_value(value_of("p-1", 42, b"|0|")) == ("p-1", 42)
    assert parse_value(b"something else") is None


def test_what_is_right_is_right(ledger: Ledger) -> None:
    assert ledger.judge([log_of(*RIGHT)]) == []
    assert ledger.acked == 4


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        (("a0", "a1", "b0"), "G1: acked, and not in the log: a 2"),
        (("a0", "a1", "a2"), "G1: acked, and not in the log: b 0"),
        (("a0", "a1", "b0", "a2", "a1"), "G3: a 1 is at"),
        (("a0", "a1", "a2", "b0"), "G1: a 2 was acked at (0, 3) and is at (0, 2)"),
        (("a0", "a2", "b0", "a1"), "G3: a 1 at 0/3 comes after 2"),
        (("a0", "a2", "b0", "a1"), "G4: offset 1 of partition 0 changed"),
        (("a0",), "saw partition 0 up to offset 1, the log ends at 0"),
        (("a0", "a1", "b0", "a2", "x0"), "a record of nobody at 0/4"),
        (("a0", "a1", "b0", "a2", "a3"), "a 3 was never handed over"),
    ],
)
def test_each_fault_is_noticed(ledger: Ledger, log: tuple[str, ...], problem: str) -> None:
    assert any(problem in found for found in ledger.judge([log_of(*log)]))


def test_what_was_not_acked_is_noticed_where_everything_should_be(ledger: Ledger) -> None:
    ledger.sent("a", 1)
    assert ledger.judge([log_of(*RIGHT)]) == ["G11: a: 4 handed over, 3 acked"]
    assert ledger.judge([log_of(*RIGHT)], settled=False) == []
    assert ledger.judge([log_of(*RIGHT, "a3")], settled=False) == []


def test_a_hole_before_what_was_not_acked_is_noticed(ledger: Ledger) -> None:
    ledger.sent("a", 2)
    found = ledger.judge([log_of(*RIGHT, "a4")], settled=False)
    assert found == ["G3: skipped, and not in the log: a 3, acked at None"]


def test_an_ack_without_an_offset_still_counts(ledger: Ledger) -> None:
    ledger.sent("a", 1)
    ledger.acked_at("a", 0, 0, -1, 4)
    assert ledger.judge([log_of(*RIGHT, "a3")]) == []
    [problem] = ledger.judge([log_of(*RIGHT)])
    assert problem.startswith("G1: acked, and not in the log: a 3")


def test_a_reader_that_skips_is_noticed(ledger: Ledger) -> None:
    ledger.readers[0].add(3, log_of("a2"))
    assert "G4: reader r got offset 3 after 1" in ledger.judge([log_of(*RIGHT)])
