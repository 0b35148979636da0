"""Positions and sizes as texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from streamer_tools.options import duration, nbytes, position


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("0", 0),
        ("12345", 12345),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_positions(text: str, expected: object) -> None:
    assert position(text) == expected


def test_a_zone_is_kept() -> None:
    moment = position("2026-01-02T03:04:05+02:00")
    assert isinstance(moment, datetime)
    assert moment.utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize("text", ["", "-1", "soon", "1.5", "Earliest"])
def test_what_is_no_position_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(click.BadParameter, match="earliest, latest, an offset, an ISO 8601 time"):
        position(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("4096", 4096), ("64k", 65536), ("16M", 2**24), ("2GiB", 2**31)]
)
def test_sizes(text: str, expected: int) -> None:
    assert nbytes(text) == expected


@pytest.mark.parametrize("text", ["", "k", "-1", "1x", "1kk"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no number of bytes"):
        nbytes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", 10), ("1.5", 1.5), ("500ms", 0.5), ("10s", 10), ("90m", 5400), ("2h", 7200),
        ("1h30m", 5400), ("3d", 259200), ("0", 0),
    ],
)  # fmt: skip
def test_durations(text: str, expected: float) -> None:
    assert duration(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "-1", "s", "1w", "1 h", "h1", "1e3", "inf", "9" * 200])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time such as"):
        duration(text)


def test_a_duration_has_an_end() -> None:
    with pytest.raises(click.BadParameter, match="36600 days"):
        duration("36601d")
