"""CPU seconds and peak memory of a process, from `/proc`: this needs no library on Linux.

Rules: where `/proc` is missing the figure is None, never a guess. Seconds are user and system
together, in ticks of 10 ms as a rule.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cpu_seconds(pid: int | None) -> float | None:
    """CPU time that the process used so far, all its threads together."""
    if pid is None:
        return None
    if pid == os.getpid():
        times = os.times()
        return times.user + times.system
    try:
        # The name in parentheses may hold anything, so count from the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_bytes(pid: int | None) -> int | None:
    """The most memory that the process had resident since it started."""
    if pid is None:
        return None
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def forget_peak(pid: int | None) -> None:
    """Have the peak of a process of ours begin anew; where the system cannot, it stays."""
    if pid is None:
        return
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
