"""Short texts for figures."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from streamer_tools.top import figures


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (figures.count, 0, "0"), (figures.count, 9_999, "9,999"), (figures.count, 10_000, "10k"),
        (figures.count, 12_400, "12.4k"), (figures.count, 1_234_567, "1.23M"),
        (figures.count, 999_999, "1M"), (figures.count, -12_400, "-12.4k"),
        (figures.rate, 0.04, "<0.1"), (figures.rate, 0.25, "0.2"), (figures.rate, 12.4, "12"),
        (figures.rate, 9.96, "10"),
        (figures.size, 0, "0"), (figures.size, 812, "812"), (figures.size, 1023, "1.0K"),
        (figures.size, 8 * 1024**2, "8M"), (figures.size, 1_990_000, "1.9M"),
        (figures.size, 64 * 1024**3, "64G"),
        (figures.full_size, 812, "812 B"), (figures.full_size, 1_990_000, "1.9 MiB"),
        (figures.seconds, 0, "0"), (figures.seconds, 0.00048, "480us"),
        (figures.seconds, 0.00099997, "1.0ms"), (figures.seconds, 0.0048, "4.8ms"),
        (figures.seconds, 0.9999, "1.0s"), (figures.seconds, 99.6, "2m"),
        (figures.seconds, 240, "4m"), (figures.seconds, 7_980, "2.2h"),
        (figures.seconds, 864_000, "10d"), (figures.seconds, -1, "-"),
        (figures.span, 7_980, "2 h 13 min"), (figures.span, 59.9, "59 s"),
        (figures.span, 310, "5 min 10 s"), (figures.span, 3_000, "50 min"),
        (figures.span, 200_000, "2 d 7 h"),
        (figures.percent, 0, "0%"), (figures.percent, 0.001, "<1%"),
        (figures.percent, 0.31, "31%"),
        (figures.percent, 0.999, "99%"), (figures.percent, 1, "100%"),
        (figures.percent, 1.2, "120%"),
    ],
)  # fmt: skip
def test_values_have_short_texts(show: Any, value: float, text: str) -> None:
    assert show(value) == text


@pytest.mark.parametrize("value", [None, "12", True, [], {}, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "show",
    [figures.count, figures.rate, figures.size, figures.full_size, figures.seconds, figures.span,
     figures.percent, figures.clock],
)  # fmt: skip
def test_what_is_no_number_is_a_dash(show: Any, value: Any) -> None:
    assert show(value) == "-"


@pytest.mark.parametrize("power", range(-8, 19))
@pytest.mark.parametrize("digits", [1.0, 9.4999, 9.96, 9.9999])
def test_no_figure_is_wider_than_its_column(power: int, digits: float) -> None:
    value = digits * 10.0**power
    for show in (figures.count, figures.rate, figures.size):
        assert len(show(value)) <= 6, (show, value)
    if value < 8e9:
        assert len(figures.seconds(value)) <= 6


def test_a_pair_names_a_common_unit_once() -> None:
    assert figures.pair({"count": 1, "p50_s": 0.0004, "p99_s": 0.0012}) == "400us/1.2ms"
    assert figures.pair({"count": 1, "p50_s": 0.0014, "p99_s": 0.012}) == "1.4/12ms"
    assert figures.pair({"count": 1, "p50_s": 0.002, "p99_s": 0.002}) == "2.0ms"
    assert figures.pair({"count": 0, "p50_s": 0.0, "p99_s": 0.0}) == "-"
    assert figures.pair(None) == figures.pair(7) == figures.pair({"count": 3}) == "-"


@pytest.mark.parametrize("width", [0, 1, 5, 40])
def test_a_bar_is_as_wide_as_it_is_told(width: int) -> None:
    for share in (None, 0.0, 0.0001, 0.31, 0.5, 0.999, 1.0, 7.0):
        assert cell_len(figures.bar(share, width).plain) == width


def test_a_little_shows_and_full_is_full() -> None:
    assert figures.bar(0.0, 3).plain == "···"
    assert figures.bar(0.0001, 3).plain == "▏··"
    assert figures.bar(0.5, 3).plain == "█▌·"
    assert figures.bar(1.7, 3).plain == "███"


def test_one_of_something_is_not_many() -> None:
    assert [figures.many(value, "member") for value in (0, 1, 12_400, None)] == [
        "0 members", "1 member", "12.4k members", "- members",
    ]  # fmt: skip


def test_a_share_of_nothing_is_not_known() -> None:
    assert figures.share(3, 0) is None
    assert figures.share(None, 3) is None
    assert figures.share(1, 4) == 0.25


def test_the_time_of_day_is_that_of_the_other_commands() -> None:
    """In UTC, wherever the terminal stands; one that is too far for a calendar is none."""
    assert figures.clock(1_700_000_000_123_456) == "22:13:20"
    assert figures.clock(2**62) == "-"
