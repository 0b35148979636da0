"""Overload and peers that never read, for some seconds; `make soak` does it for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.limits import MIB
from tests.faults.soak import GROWTH_BYTES_MAX, RSS_BYTES_MAX, Curve, run

SECONDS = 8.0


async def test_memory_stays_flat_under_overload(tmp_path: Path) -> None:
    problems, figures = await run(tmp_path, SECONDS)
    assert problems == [], figures
    assert figures["records"] > 10_000
    assert figures["connections"] >= 200


@pytest.mark.parametrize(
    ("last", "wrong"),
    [(60 * MIB, 0), (60 * MIB + GROWTH_BYTES_MAX * 2, 1), (RSS_BYTES_MAX * 2, 2)],
)
def test_a_curve_that_goes_up_is_noticed(last: int, wrong: int) -> None:
    curve = Curve([(float(at), last if at > 70 else 60 * MIB) for at in range(100)])
    assert len(curve.problems()) == wrong
