"""The values of `bench`: seeded, distinct, JSON, of the size that was asked for."""

from __future__ import annotations

import json

import pytest

from streamer_tools.bench.values import log_lines


@pytest.mark.parametrize("value_bytes", [80, 100, 250, 1000])
def test_lines_are_json_of_about_the_size(value_bytes: int) -> None:
    lines = log_lines(500, value_bytes)
    assert all(json.loads(line)["lvl"] for line in lines)
    assert all(value_bytes * 0.85 <= len(line) <= value_bytes for line in lines)


def test_a_seed_gives_the_same_lines_and_another_seed_others() -> None:
    assert log_lines(50, 100, seed=1) == log_lines(50, 100, seed=1)
    assert log_lines(50, 100, seed=1) != log_lines(50, 100, seed=2)


def test_lines_are_distinct() -> None:
    assert len(set(log_lines(5000, 100))) > 4950


def test_a_size_below_any_line_gives_the_shortest() -> None:
    assert all(json.loads(line) for line in log_lines(5, 1))
