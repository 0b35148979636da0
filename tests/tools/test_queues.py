"""Rates from two looks, and rows for the table."""

from __future__ import annotations

from typing import Any

from streamer_tools import show
from streamer_tools.queues import BRIEF, Rates, rows


def pipelines(items_total: int, items: int = 0) -> list[dict[str, Any]]:
    channel = {
        "items": items, "items_max": 10, "bytes": 0, "bytes_max": 100, "items_seen": 3,
        "bytes_seen": 30, "senders_waiting": 0, "items_total": items_total,
        "bytes_total": items_total * 10, "oldest_s": 0.0,
    }  # fmt: skip
    stage = {"stage": "group", "place": "ingest", "channel": channel}
    return [{"pipeline": "default", "state": "running", "stages": [stage]}]


def rate(looked: Any) -> tuple[float | None, float | None]:
    channel = looked[0]["stages"][0]["channel"]
    return channel["rate"], channel["bytes_rate"]


def test_a_rate_is_the_difference_of_two_looks() -> None:
    rates = Rates()
    assert rate(rates.look(pipelines(100), 5.0)) == (None, None)
    assert rate(rates.look(pipelines(150), 7.0)) == (25, 250)
    assert rate(rates.look(pipelines(150), 8.0)) == (0, 0)


def test_a_daemon_that_started_anew_has_no_rate_yet() -> None:
    rates = Rates()
    rates.look(pipelines(100), 5.0)
    assert rate(rates.look(pipelines(3), 6.0)) == (None, None)
    assert rate(rates.look(pipelines(4), 7.0)) == (1, 10)


def test_what_is_empty_has_no_oldest() -> None:
    [row] = rows(pipelines(1))
    assert row["oldest_s"] is None
    [row] = rows(pipelines(1, items=1))
    assert row["oldest_s"] == 0.0
    assert (row["pipeline"], row["state"], row["place"]) == ("default", "running", "ingest")


def test_a_person_sees_the_state_of_a_pipeline_that_does_not_run() -> None:
    looked = pipelines(1)
    assert "running" not in show.plain_table(BRIEF, list(rows(looked)))
    looked[0]["state"] = "stopped"
    assert "default_(stopped)" in show.plain_table(BRIEF, list(rows(looked)))
