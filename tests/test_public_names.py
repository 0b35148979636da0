"""The public names: all there, and the daemon's half only when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import streamer


def test_every_name_is_there() -> None:
    for name in streamer._STAGE_NAMES:
        assert getattr(streamer, name).__name__
    with pytest.raises(AttributeError, match="nothing"):
        _ = streamer.nothing


def test_a_client_does_not_load_the_daemon() -> None:
    code = (
        "import sys, streamer; "
        "print([m for m in sys.modules if m.startswith(('streamer.storage', 'streamer.pipeline', "
        "'streamer.session', 'streamer.daemon', 'structlog', 'cattrs'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
