"""The daemon under test, in memory and on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio.testing

from tests.site import Site, open_site


@pytest.fixture
async def site(autojump_clock: trio.testing.MockClock) -> AsyncGenerator[Site, None]:
    """A daemon with the default settings."""
    async with open_site() as opened:
        yield opened
