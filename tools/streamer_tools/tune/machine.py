"""What bounds every configuration on this machine: disk, codec on the workload's values, loopback.

Rules: these are for the reader of the evidence, and enter no score. The disk is the one that the
runs use. It takes about three seconds.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from streamer.batch import Codec
from streamer.limits import MIB
from streamer_tools.bench.machine import filesystem, round_trip_median_s, sync_median_s
from streamer_tools.bench.noise import cpus

_LEVELS = (1, 3, 6, 9)
_CODEC_RECORDS = 1000
_CODEC_BYTES = 512 * 1024
_ROUND_S = 0.1
_WRITE_BYTES = 64 * MIB
_WRITE_CHUNK = 1 * MIB


def measure(directory: Path, pool: Sequence[bytes]) -> dict[str, Any]:
    """Figures of the disk that holds `directory`, of zstd levels on values of `pool`, and of
    loopback round trips.

    Raises:
        OSError: the disk cannot be written, for want of room for example.
    """
    return {
        "cpus": cpus(),
        "load_average": round(os.getloadavg()[0], 2),
        "directory": str(directory),
        "filesystem": filesystem(directory),
        "fsync_ms": _digits(sync_median_s(directory) * 1e3),
        "write_mb_per_s": _digits(_write_bytes_per_s(directory) / 1e6),
        "codec": [_codec(pool, level) for level in _LEVELS],
        "loopback_ms": {
            transport: _digits(round_trip_median_s(transport) * 1e3)
            for transport in ("tcp", "unix")
        },
    }


def _write_bytes_per_s(directory: Path) -> float:
    block = os.urandom(_WRITE_CHUNK)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        begin = time.perf_counter()
        for _ in range(_WRITE_BYTES // _WRITE_CHUNK):
            os.write(file.fileno(), block)
        os.fdatasync(file.fileno())
        return _WRITE_BYTES / (time.perf_counter() - begin)


def _codec(pool: Sequence[bytes], level: int) -> dict[str, float]:
    values: list[bytes] = []
    size = 0
    for value in pool[:_CODEC_RECORDS]:
        if values and size + len(value) > _CODEC_BYTES:
            break
        values.append(value)
        size += len(value)
    codec = Codec(level=level)
    encoded = codec.encode_values(values, now_us=0)
    calls = 0
    begin = time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < _ROUND_S:
        codec.encode_values(values, now_us=0)
        calls += 1
    return {
        "level": level,
        "mb_per_s": _digits(calls * size / elapsed / 1e6),
        "ratio": _digits(size / len(encoded.to_bytes())),
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """It for a person."""
    yield (
        f"machine: {found['cpus']} cores, load {found['load_average']:g}; data in "
        f"{found['directory']} ({found['filesystem']})"
    )
    yield (
        f"  fsync {found['fsync_ms']:g} ms, write {found['write_mb_per_s']:,.0f} MB/s; round trip "
        f"tcp {found['loopback_ms']['tcp']:g} ms, unix {found['loopback_ms']['unix']:g} ms"
    )
    yield f"  zstd on the values of the workload, in batches of up to {_CODEC_RECORDS}:"
    for each in found["codec"]:
        yield (
            f"    level {each['level']}: {each['mb_per_s']:,.0f} MB/s, to 1/{each['ratio']:.2f} of "
            "the size"
        )
    if found["filesystem"] in ("tmpfs", "ramfs"):
        yield (
            f"  {found['directory']} is in memory, where a sync costs nothing: name a directory "
            "on the disk that the daemon uses with --data"
        )


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
