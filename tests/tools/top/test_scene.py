"""What is read of documents, and rates of two looks."""

from __future__ import annotations

from typing import Any

from streamer_tools.top.scene import Rates, Scene, at, fill, maps, pipelines
from tests.tools.top import documents


def scene(uptime_s: Any, **counters: Any) -> Scene:
    return Scene(
        "u", documents.overview(uptime_s=uptime_s, groups=[documents.group("s", "g", **counters)])
    )


KEY = ("groups", ("s", "g"))


def test_a_rate_is_the_difference_of_two_looks_by_the_daemons_clock() -> None:
    rates = Rates()
    assert KEY not in rates.look(scene(10.0, acked=100, lag=50))
    assert rates.look(scene(12.0, acked=150, lag=40))[KEY] == {
        "acked_per_s": 25.0, "lag_per_s": -5.0,
    }  # fmt: skip


def test_a_daemon_that_began_anew_has_no_rate_yet() -> None:
    rates = Rates()
    rates.look(scene(100.0, acked=100))
    assert KEY not in rates.look(scene(1.0, acked=3))
    assert rates.look(scene(2.0, acked=5))[KEY]["acked_per_s"] == 2.0


def test_the_same_look_twice_and_one_without_a_clock_have_none() -> None:
    rates = Rates()
    rates.look(scene(5.0))
    assert KEY not in rates.look(scene(5.0))
    assert rates.look(scene(None)) == {}
    assert rates.look(scene(7.0)) == {}


def test_groups_that_the_daemon_did_not_look_at_meanwhile_keep_their_rate() -> None:
    rates = Rates()
    rates.look(scene(10.0, acked=100, lag=0))
    assert rates.look(scene(11.0, acked=150, lag=0))[KEY]["acked_per_s"] == 50.0
    assert rates.look(scene(12.0, acked=150, lag=0))[KEY]["acked_per_s"] == 50.0
    # Two looks of the daemon at once.
    assert rates.look(scene(13.0, acked=250, lag=0))[KEY]["acked_per_s"] == 50.0
    assert rates.look(scene(20.0, acked=250, lag=0))[KEY]["acked_per_s"] == 0.0


def test_what_came_between_two_looks_has_none() -> None:
    rates = Rates()
    rates.look(Scene("u", documents.overview(uptime_s=1.0, groups=[])))
    assert KEY not in rates.look(scene(2.0))


def test_what_is_not_there_is_none() -> None:
    assert at({"a": {"b": 1}}, "a", "b") == 1
    assert at({"a": 5}, "a", "b") is None
    assert at(None, "a") is None
    assert maps("x") == maps(None) == maps([1, "x"]) == []


def test_a_channel_is_as_full_as_the_fuller_of_its_limits() -> None:
    assert fill({"items": 1, "items_max": 4, "bytes": 3, "bytes_max": 4}) == 0.75
    assert fill({"items": 1, "items_max": 4}) == 0.25
    assert fill({}) is None
    row = pipelines(Scene("u", documents.overview()))[1]
    assert row["fill"] == 952 / 1024
