"""Groups under SIGKILL for some seconds in each mode; `make groups` does it for minutes."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.faults.group_members import MODES, Plan
from tests.faults.groups import run


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@pytest.mark.parametrize("mode", MODES)
async def test_all_is_handled_and_nothing_twice_without_a_reason(tmp_path: Path, mode: str) -> None:
    """G5, G11. The seed is in the output of a failure."""
    plan = Plan.short(mode, random.SystemRandom().getrandbits(32))
    outcome = await run(tmp_path, plan, _tell)
    assert outcome.problems == [], outcome.figures
    assert outcome.figures["records"] > 100
    assert outcome.figures["dead"]["max_deliveries"] >= 1
