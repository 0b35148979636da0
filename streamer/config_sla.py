"""`[sla]`: what the daemon promises its users. How it is judged stands in `observe/sla.py`.

Each limit is an objective, and 0 leaves it out. All of it may change in a running daemon: who runs
one learns what is reasonable while it runs.
"""

from __future__ import annotations

import attrs

from streamer.settings import setting


@attrs.frozen
class SlaConfig:
    latency_p99_s: float = setting(
        0.0,
        "Appends are answered within it, 99 of 100 in each second; 0 for no such objective.",
        unit="s",
        min=0,
        max=3600,
        reload=True,
    )
    throughput_min: float = setting(
        0.0,
        "Records acked in each second in which anything is asked: for senders that always have "
        "more; 0 for no such objective.",
        unit="records/s",
        min=0,
        max=1_000_000_000,
        reload=True,
    )
    error_rate_max: float = setting(
        0.0,
        "Share of answers that may be errors; 0 for no such objective.",
        min=0,
        max=1,
        reload=True,
    )
    availability_min: float = setting(
        0.0,
        "Share of seconds in which health must be ok; 0 for no such objective.",
        min=0,
        max=0.99999,
        reload=True,
    )
    lag_age_max_s: float = setting(
        0.0,
        "No group's oldest record waits for longer; 0 for no such objective.",
        unit="s",
        min=0,
        max=31_536_000,
        reload=True,
    )
    objective: float = setting(
        0.99,
        "Share of seconds that must keep the limits of latency, throughput and lag; the other two "
        "limits are shares themselves.",
        min=0.5,
        max=0.99999,
        reload=True,
    )
    window_s: float = setting(
        86_400.0,
        "Time that is judged, up to now.",
        unit="s",
        min=300,
        max=30 * 86_400,
        reload=True,
    )
