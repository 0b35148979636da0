"""What is told of records whose handler failed."""

from __future__ import annotations

import pytest

from streamer.client.verdicts import bounds_of, printable, reason_of, verdict
from streamer.wire.frames import Verb


class Mute(Exception):
    def __str__(self) -> str:
        raise TypeError("no text")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no"), "ValueError: no"),
        (Mute(), "Mute: (its text raises TypeError)"),
        (ExceptionGroup("Exceptions from Trio nursery", [ValueError("no")]), "ValueError: no"),
        (
            ExceptionGroup("a", [ExceptionGroup("b", [KeyError("k"), OSError("o")]), Mute()]),
            "KeyError: 'k'; OSError: o; Mute: (its text raises TypeError)",
        ),
    ],
)
def test_reasons(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
    assert verdict(error, [0, 1]) == (Verb.NACK, [0, 1], reason)


def test_a_reason_is_bounded() -> None:
    many = ExceptionGroup("many", [ValueError(n) for n in range(100_000)])
    assert reason_of(many).endswith("ValueError: 19")
    assert len(reason_of(ExceptionGroup("long", [ValueError("x" * 400)] * 2))) == 500
    assert printable("a\ud800") == "a?"


def test_what_is_no_failure() -> None:
    assert verdict(None, [0, 1]) == (Verb.ACK, [0, 1], "")
    assert verdict(KeyboardInterrupt(), [0, 1]) == (Verb.RELEASE, [0, 1], "")
    assert verdict(BaseExceptionGroup("", [KeyboardInterrupt()]), [0, 1])[0] is Verb.RELEASE


def test_bounds() -> None:
    assert bounds_of([3, 1, 2, 3, 7]) == [1, 4, 7, 8]
