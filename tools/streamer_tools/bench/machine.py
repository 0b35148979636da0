"""Facts about the machine, measured beside every run: figures mean nothing without them.

Rules: what bounds us is measured where the run happens: the sync on the disk that holds the data,
the round trip over this machine's loopback between two processes.
"""

from __future__ import annotations

import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_SYNC_ROUNDS = 200
_SYNC_BYTES = 4096
_TRIP_ROUNDS = 2000
_TRIP_BYTES = 100
_LIBRARIES = ("streamer", "trio", "trio-websocket", "cbor2", "zstandard", "crc32c", "attrs")

_ECHO = """
import socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
if sys.argv[2] == "tcp":
    peer, _ = peer.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := peer.recv(65536):
    peer.sendall(data)
"""


def versions() -> dict[str, str]:
    """Python, the kernel and the libraries that do the work."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def facts(directory: Path) -> dict[str, Any]:
    """Processors, file system, sync time and loopback round trips; about half a second."""
    return {
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "cpu": _cpu_model(),
        "filesystem": filesystem(directory),
        "fsync_median_ms": round(sync_median_s(directory) * 1e3, 4),
        "loopback_tcp_median_ms": round(round_trip_median_s("tcp") * 1e3, 4),
        "loopback_unix_median_ms": round(round_trip_median_s("unix") * 1e3, 4),
        "load_average": round(os.getloadavg()[0], 2),
    }


def sync_median_s(directory: Path) -> float:
    """The median of a 4 KiB append with `fdatasync`, on the disk that holds `directory`."""
    times = []
    block = os.urandom(_SYNC_BYTES)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for _ in range(_SYNC_ROUNDS):
            begin = time.perf_counter()
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def round_trip_median_s(transport: str) -> float:
    """The median round trip of 100 bytes to another Python process, with blocking sockets."""
    with _EchoProcess(transport) as peer:
        times = []
        message = bytes(_TRIP_BYTES)
        for _ in range(_TRIP_ROUNDS):
            begin = time.perf_counter()
            peer.sendall(message)
            missing = _TRIP_BYTES
            while missing:
                missing -= len(peer.recv(missing))
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


class _EchoProcess:
    """A Python process that sends back what it gets, and the socket to it."""

    def __init__(self, transport: str) -> None:
        if transport == "tcp":
            theirs = socket.create_server(("127.0.0.1", 0))
            self._ours = socket.create_connection(theirs.getsockname())
            self._ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ECHO, str(theirs.fileno()), transport],
                pass_fds=[theirs.fileno()],
            )

    def __enter__(self) -> socket.socket:
        return self._ours

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.wait()


def filesystem(directory: Path) -> str:
    """The type of the file system that holds `directory`; a tmpfs syncs for nothing."""
    best, kind = "", "unknown"
    path = str(directory.resolve())
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return kind
    for line in mounts.splitlines():
        _, point, type_, *_ = line.split()
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, type_
    return kind


def _cpu_model() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    for line in info.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
