"""The words of monitoring plug-ins: levels, the first line, figures, thresholds."""

from __future__ import annotations

import re

import click
import pytest

from streamer_tools.doctor.findings import Figure, Finding, Level, Result, summary, worst
from streamer_tools.doctor.thresholds import DEFAULTS, Threshold, changed, percent, span


def result(name: str, level: Level, text: str = "text", *figures: Figure) -> Result:
    return Result(name, Finding(level, text, "do this" if level else "", figures))


def test_the_worst_level() -> None:
    assert worst([]) is Level.OK
    assert worst([Level.OK, Level.UNKNOWN]) is Level.UNKNOWN
    assert worst([Level.UNKNOWN, Level.WARNING]) is Level.WARNING
    assert worst(Level) is Level.CRITICAL


def test_the_first_line_of_a_daemon_that_is_well() -> None:
    figure = Figure("ping", 0.0012, "s", 0.5, 2.0)
    line = summary([result("daemon", Level.OK, "x", figure), result("disk", Level.OK)])
    assert line == "OK - 2 checks passed | ping=0.0012s;0.5;2"


def test_the_first_line_names_the_worst_first_and_not_too_many() -> None:
    results = [
        result("a", Level.WARNING),
        result("b", Level.UNKNOWN),
        result("c", Level.CRITICAL, "a | bar"),
        result("d", Level.WARNING),
        result("e", Level.OK),
    ]
    assert summary(results) == "CRITICAL - c: a / bar; a: text; d: text; and 1 more"


def test_a_line_a_check() -> None:
    assert result("disk", Level.WARNING).line == "WARNING   disk      text; do this"
    assert result("disk", Level.OK).line == "OK        disk      text"


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure("disk", 12.5, "%", 10, 5, falling=True), "disk=12.5%;10:;5:"),
        (Figure("dead", 3, "", 1, None), "dead=3;1"),
        (Figure("lag", 10), "lag=10"),
        (Figure("tiny", 0.0000001, "s"), "tiny=0s"),
        (Figure("rss", 57085952.0, "B", None, 2.0**33), "rss=57085952B;;8589934592"),
    ],
)
def test_figures(figure: Figure, text: str) -> None:
    assert figure.perfdata() == text


def test_a_value_at_the_threshold_is_beyond_it() -> None:
    rising = Threshold("count", 1, 10, "")
    assert [rising.level(value) for value in (0, 1, 9, 10)] == [0, 1, 1, 2]
    falling = Threshold("share", 0.1, 0.05, "", falling=True)
    assert [falling.level(value) for value in (0.11, 0.1, 0.05)] == [0, 1, 2]
    assert Threshold("count", None, None, "").level(1e9) is Level.OK


def test_thresholds_of_the_command_line() -> None:
    found = changed(
        ["disk=20%", "fsync=50ms", "lag=1000", "memory=512M", "dead=none"], ["fill=0.99"]
    )
    assert found["disk"].warning == 0.2
    assert found["fsync"].warning == 0.05
    assert found["lag"].warning == 1000
    assert found["memory"].warning == 512 << 20
    assert found["dead"].warning is None
    assert found["fill"].critical == 0.99
    assert found["ping"] == DEFAULTS["ping"]


@pytest.mark.parametrize(
    ("warnings", "criticals", "text"),
    [
        (["nope=1"], [], "NAME one of: ping, disk"),
        (["disk"], [], "is not NAME=VALUE"),
        (["disk=200%"], [], "more than all"),
        (["disk=much"], [], "a share such as 10%"),
        (["lag=10%"], [], "not a number"),
        (["fsync=soon"], [], "no time such as"),
        (["ping=3s"], [], "critical is 2.0 s, below warning (3.0 s)"),
        ([], ["disk=20%"], "critical is 20 %, above warning (10 %)"),
    ],
)
def test_what_is_no_threshold(warnings: list[str], criticals: list[str], text: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(text)):
        changed(warnings, criticals)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_in_order_and_can_be_written(name: str) -> None:
    default = DEFAULTS[name]
    if default.warning is not None and default.critical is not None:
        assert (default.critical < default.warning) == default.falling
    assert default.text(default.warning)
    assert default.figure("x", 1.0).perfdata()


def test_short_times_and_small_shares() -> None:
    assert [span(s) for s in (0.0002, 0.0021, 0.034, 0.12, 2.0)] == [
        "0.2 ms", "2.1 ms", "34 ms", "120 ms", "2.0 s"
    ]  # fmt: skip
    assert [percent(share) for share in (0.004, 0.37)] == ["0.4 %", "37 %"]
