"""Times a part of a run: seconds, and what it cost both processes."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Sequence

from streamer_tools.bench.contract import Measurement
from streamer_tools.bench.process import cpu_seconds


class Watch:
    """Times a `with` block: seconds, and CPU seconds of both processes."""

    def __init__(self, daemon_pid: int | None) -> None:
        self._daemon_pid = daemon_pid
        self.seconds = 0.0
        self.client_cpu_s: float | None = None
        self.daemon_cpu_s: float | None = None
        #: By `time.perf_counter`; what happens in the block is placed on its time line by it.
        self.began = 0.0

    def __enter__(self) -> Watch:
        self._cpu = cpu_seconds(os.getpid()), cpu_seconds(self._daemon_pid)
        self.began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.began
        now = cpu_seconds(os.getpid()), cpu_seconds(self._daemon_pid)
        self.client_cpu_s, self.daemon_cpu_s = map(_difference, now, self._cpu)

    def measurement(
        self,
        records: int,
        nbytes: int,
        latencies_s: Sequence[float] = (),
        at_s: Sequence[float] = (),
    ) -> Measurement:
        """What was timed; the rest is as in `Measurement`."""
        return Measurement(
            records=records,
            nbytes=nbytes,
            seconds=self.seconds,
            latencies_s=latencies_s,
            client_cpu_s=self.client_cpu_s,
            daemon_cpu_s=self.daemon_cpu_s,
            at_s=at_s,
        )


class Times:
    """Operations of a run: how long each took, and when it ended; one append each an operation."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.latencies_s = array("d")
        self._ended = array("d")

    def add(self, begin: float) -> None:
        """An operation that began then (by `time.perf_counter`) has ended now."""
        now = time.perf_counter()
        self.latencies_s.append(now - begin)
        self._ended.append(now)

    @property
    def at_s(self) -> Sequence[float]:
        """When each ended, since the watch began."""
        began = self._watch.began
        return array("d", (moment - began for moment in self._ended))


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before
