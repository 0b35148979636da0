"""G2, rehearsed: a few power cuts on a real file system; `make power` does many."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.mounts import Unavailable
from tests.faults.power import run

CUTS = 3


async def test_nothing_acked_is_lost_over_power_cuts(tmp_path: Path) -> None:
    try:
        outcome = await run(tmp_path, CUTS, random.SystemRandom().getrandbits(32))
    except* Unavailable as group:
        pytest.skip(str(group.exceptions[0]))
    assert outcome.problems == []
    assert outcome.acked > 0
