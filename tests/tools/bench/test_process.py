"""CPU and memory of a process, from /proc."""

from __future__ import annotations

import os
import sys

import pytest

from streamer_tools.bench import machine, process

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


@linux
def test_own_figures() -> None:
    cpu = process.cpu_seconds(os.getpid())
    assert cpu is not None
    assert cpu > 0
    rss = process.peak_rss_bytes(os.getpid())
    assert rss is not None
    assert 1e6 < rss < 1e11


@linux
def test_another_process() -> None:
    cpu = process.cpu_seconds(os.getppid())
    assert cpu is not None
    assert cpu >= 0


def test_no_process_gives_no_figure() -> None:
    assert process.cpu_seconds(None) is None
    assert process.peak_rss_bytes(None) is None
    assert process.cpu_seconds(2**22 + 1) is None
    assert process.peak_rss_bytes(2**22 + 1) is None


@linux
def test_the_file_system_of_proc_is_proc() -> None:
    from pathlib import Path

    assert machine.filesystem(Path("/proc/self")) == "proc"


def test_loopback_echoes() -> None:
    for transport in ("tcp", "unix"):
        assert 0 < machine.round_trip_median_s(transport) < 1
