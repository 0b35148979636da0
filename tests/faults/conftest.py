"""Fixtures of the fault tests: real processes, real files, and mounts where we may make them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.faults.daemon import RealDaemon, real_daemon


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncGenerator[RealDaemon, None]:
    """A daemon on the embedded default that is not started yet."""
    async with real_daemon(tmp_path) as found:
        yield found
