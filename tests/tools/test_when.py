"""Times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from streamer_tools.when import span, us, when

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("10m", NOW - timedelta(minutes=10)),
        (" 1h30m ", NOW - timedelta(minutes=90)),
        ("2d ago", NOW - timedelta(days=2)),
        ("90", NOW - timedelta(seconds=90)),
        ("2026-02-28", datetime(2026, 2, 28, tzinfo=UTC)),
        ("2026-02-28T10:00:00.5Z", datetime(2026, 2, 28, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-02-28T10:00+02:00", datetime(2026, 2, 28, 8, tzinfo=UTC)),
    ],
)
def test_a_time_is_read(text: str, moment: datetime) -> None:
    assert when(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "soon", "-3s", "10 parsecs", "2026-13-01", "9" * 200])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="none of"):
        when(text, NOW)


def test_before_the_first_year_is_refused() -> None:
    with pytest.raises(click.BadParameter):
        when("1d", datetime(1, 1, 1, tzinfo=UTC))


def test_a_span_has_two_ends_or_one() -> None:
    assert span("1h", NOW) == (NOW - timedelta(hours=1), None)
    assert span("1h..", NOW) == (NOW - timedelta(hours=1), None)
    assert span("1h..now", NOW) == (NOW - timedelta(hours=1), NOW)
    begin, end = span("2026-02-28T10:00:00.5..2026-02-28T11:00", NOW)
    assert end is not None
    assert end - begin == timedelta(minutes=59, seconds=59.5)
    with pytest.raises(click.BadParameter, match="ends before"):
        span("1h..2h", NOW)


def test_microseconds_are_exact() -> None:
    assert us(datetime(1970, 1, 1, 0, 0, 1, 7, tzinfo=UTC)) == 1_000_007
    assert us(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == 253402300799999999
