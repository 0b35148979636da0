"""The ack stage passes the checks of every stage, and never answers twice."""

from __future__ import annotations

import trio.testing

from streamer.testing.stage_checks import check_stage
from streamer_plugins.ack.session import STAGE


async def test_it_passes_the_checks_of_every_stage(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await check_stage(STAGE)
