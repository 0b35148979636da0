"""`streamer bench limits`: how fast codec, checksum, disk and loopback are by themselves.

A workload can be no faster than the slowest of these on its way; its distance from them is what
our own code costs. Everything runs in this process on one core, except for the loopback's peer.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import crc32c

from streamer import setting
from streamer.batch import Codec, parse
from streamer.wire import frames
from streamer_tools.bench.contract import Benchmark, Run, Target
from streamer_tools.bench.machine import round_trip_median_s, sync_median_s
from streamer_tools.bench.values import POOL_RECORDS, log_lines

_ROUNDS = 5
_ROUND_S = 0.2
_WRITE_BYTES = 64 * 1024 * 1024
_WRITE_CHUNK = 1024 * 1024


@attrs.frozen
class LimitSettings:
    """Settings of `limits`."""

    value_bytes: int = setting(
        100, "bytes of a value, or as near as a JSON line can be", unit="bytes", min=1
    )
    batch: int = setting(1000, "records in a batch", min=1)
    data: str | None = setting(
        None, "a directory on the disk to measure; by default the system's temporary one"
    )


@asynccontextmanager
async def open_limits(settings: LimitSettings, _: Target) -> AsyncGenerator[Run, None]:
    """The bounds of the rest: each of these by itself, on one core, for a fifth of a second, the
    median of five. About ten seconds."""
    directory = Path(settings.data or tempfile.gettempdir())

    async def run() -> dict[str, Any]:
        return measure(directory, settings.value_bytes, settings.batch)

    yield run


def conclude(document: Mapping[str, Any]) -> dict[str, Any]:
    """The medians at the top as well, where they stood before there were repeats."""
    return dict(document["median"])


def headline(document: Mapping[str, Any]) -> str:
    """The report in one line, for a person."""
    found = document["median"]
    codec, disk, loopback = found["codec"], found["disk"], found["loopback"]
    return (
        f"limits: encode {codec['encode_records_per_s']:,.0f}, decode "
        f"{codec['decode_records_per_s']:,.0f} records/s, fsync {disk['fsync_median_ms']:.3g} ms, "
        f"write {disk['write_mb_per_s']:,.0f} MB/s, round trip "
        f"{loopback['unix_round_trip_median_ms']:.3g} ms (unix)"
    )


def measure(directory: Path, value_bytes: int, batch: int) -> dict[str, Any]:
    """All of it, for values and batches of the given sizes; about ten seconds."""
    pool = log_lines(max(POOL_RECORDS, batch), value_bytes)
    return {
        "codec": _codec(pool, batch),
        "codec_one_record": _codec(pool, 1),
        "crc32c_gb_per_s": _digits(len(blob := os.urandom(1 << 20)) / 1e9 * _rate(
            lambda: crc32c.crc32c(blob))),
        "disk": _disk(directory),
        "loopback": {
            f"{transport}_round_trip_median_ms": _digits(round_trip_median_s(transport) * 1e3)
            for transport in ("tcp", "unix")
        },
    }  # fmt: skip


def _codec(pool: list[bytes], batch: int) -> dict[str, float]:
    codec = Codec()
    values = pool[:batch]
    encoded = codec.encode_values(values, now_us=0)
    blob = encoded.to_bytes()
    frame = frames.encode(frames.Produce(1, "bench", None, None, 0, blob))
    return {
        "records": batch,
        "encode_records_per_s": _digits(batch * _rate(
            lambda: codec.encode_values(values, now_us=0))),
        "decode_records_per_s": _digits(batch * _rate(lambda: codec.decode(encoded))),
        "check_records_per_s": _digits(batch * _rate(lambda: parse(blob, codec.limits))),
        "frame_decode_records_per_s": _digits(batch * _rate(lambda: frames.decode(frame))),
        "bytes_per_record": _digits(len(blob) / batch),
        "ratio": _digits(sum(map(len, values)) / len(blob)),
    }  # fmt: skip


def _disk(directory: Path) -> dict[str, float]:
    block = os.urandom(_WRITE_CHUNK)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        begin = time.perf_counter()
        for _ in range(_WRITE_BYTES // _WRITE_CHUNK):
            os.write(file.fileno(), block)
        os.fdatasync(file.fileno())
        seconds = time.perf_counter() - begin
    return {
        "fsync_median_ms": _digits(sync_median_s(directory) * 1e3),
        "write_mb_per_s": _digits(_WRITE_BYTES / 1e6 / seconds),
    }


def _rate(call: Callable[[], object]) -> float:
    """Calls a second: the median of a few rounds of a fifth of a second."""
    rates = []
    for _ in range(_ROUNDS):
        calls = 0
        begin = time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < _ROUND_S:
            call()
            calls += 1
        rates.append(calls / elapsed)
    return statistics.median(rates)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


BENCHMARK = Benchmark(
    "limits",
    "What codec, checksum, disk and loopback do by themselves.",
    LimitSettings,
    open_limits,
    warm=None,
    conclude=conclude,
    headline=headline,
    daemon=False,
    repeats=1,
)
