"""Figures over time: two series of fixed length."""

from __future__ import annotations

from streamer.observe.history import COARSE_MAX, FINE_MAX, History


def test_fine_and_coarse() -> None:
    history = History()
    for second in range(25):
        history.add(second, {"records_in": second, "append_p99_s": second % 10, "fill.p.ingest": 0})
    found = history.doc()
    assert found["fine"]["step_s"] == 1
    assert found["fine"]["series"]["records_in"] == [float(n) for n in range(25)]
    assert found["fine"]["at_us"] == list(range(25))
    coarse = found["coarse"]
    assert coarse["step_s"] == 10
    assert coarse["at_us"] == [9, 19]
    assert coarse["series"] == {
        "records_in": [4.5, 14.5],
        "append_p99_s": [9.0, 9.0],
        "fill.p.ingest": [0.0, 0.0],
    }


def test_it_does_not_grow() -> None:
    history = History()
    for second in range(10 * COARSE_MAX + 50):
        history.add(second, {"a": 1})
    found = history.doc()
    assert len(found["fine"]["at_us"]) == len(found["fine"]["series"]["a"]) == FINE_MAX
    assert len(found["coarse"]["at_us"]) == len(found["coarse"]["series"]["a"]) == COARSE_MAX


def test_names_that_come_later_begin_with_nothing() -> None:
    history = History()
    history.add(1, {"a": 5})
    history.add(2, {"a": 6, "b": 7})
    history.add(3, {"b": 8})
    assert history.doc()["fine"]["series"] == {"a": [5.0, 6.0, 0.0], "b": [0.0, 7.0, 8.0]}


def test_names_are_bounded() -> None:
    history = History()
    history.add(1, {f"n{number}": 1 for number in range(1000)})
    assert len(history.doc()["fine"]["series"]) == 500
