"""SIGKILL under load, a few times; `make crash` does it a thousand times."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.faults.crash import run

CYCLES = 15


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


async def test_nothing_acked_is_lost_over_kills(tmp_path: Path) -> None:
    """G1, G3, G4. The seed is in the output of a failure."""
    seed = random.SystemRandom().getrandbits(32)
    outcome = await run(tmp_path, CYCLES, seed, _tell)
    assert outcome.problems == [], outcome.figures
    assert outcome.figures["records_acked"] > CYCLES
