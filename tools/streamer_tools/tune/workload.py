"""What is to be made quick: a workload, from a TOML file, from options, or from both.

Rules: a workload is a settings class like those of the daemon's configuration, so a file that is
none is told all its faults at once, each with what is allowed. Options take the place of the
file's keys. Values come from a file of real ones, a line each, or are log lines made up by `bench`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import attrs

from streamer.client.producer import ProducerSettings
from streamer.config_load import parse_toml
from streamer.errors import ConfigError
from streamer.limits import KIB, MIB
from streamer.settings import Fault, Faulty, new_converter, setting

_DEFAULTS = ProducerSettings()
#: A workload is written by hand; more than this is the wrong file.
_FILE_BYTES_MAX = 1 * MIB
#: Of a file with values, at most so much is read.
_SAMPLE_BYTES_MAX = 64 * MIB
#: Distinct values that are sent in a circle; at least a batch, whatever the candidate.
POOL_RECORDS = 20_000


@attrs.frozen
class ClientSettings:
    """How the program's producers are set now: names and meanings as in `Client.producer`."""

    batch_records: int = setting(
        _DEFAULTS.batch_records, "Records in a batch.", unit="records", min=1, max=65_536
    )
    batch_bytes: int = setting(
        _DEFAULTS.batch_bytes, "Bytes in a batch.", unit="bytes", min=1 * KIB, max=32 * MIB
    )
    linger_s: float = setting(
        _DEFAULTS.linger_s,
        "How long records wait for company while nothing is under way.",
        unit="s",
        min=0,
        max=10,
    )
    in_flight: int = setting(
        _DEFAULTS.in_flight, "Requests under way in a producer.", unit="requests", min=1, max=64
    )


@attrs.frozen
class Workload:
    """What programs do with the daemon."""

    mode: Literal["single", "batch"] = setting(
        "single",
        '"single": each record is sent by itself and its ack awaited; "batch": many at once.',
    )
    value_bytes: int = setting(
        100, "Bytes of a value that is made up.", unit="bytes", min=1, max=1 * MIB
    )
    sample: str = setting(
        "", "A file with real values, a line each; a relative path starts at the workload file."
    )
    rate: float = setting(
        0.0,
        "Records a second of all producers together; 0: as many as are acked.",
        unit="records/s",
        min=0,
        max=100_000_000,
    )
    producers: int = setting(8, "Connections that send.", unit="connections", min=1, max=10_000)
    tasks: int = setting(
        1, "Records that each producer has under way (mode single).", unit="tasks", min=1, max=1000
    )
    readers: int = setting(
        0,
        "Connections that read the stream from its begin meanwhile.",
        unit="connections",
        min=0,
        max=1000,
    )
    stream: str = setting(
        "tune", "The stream; the pipeline that serves a stream of this name is what is tuned."
    )
    client: ClientSettings = attrs.field(factory=ClientSettings)

    def described(self) -> str:
        """It in one line."""
        what = "records one by one" if self.mode == "single" else "records in batches"
        size = f"values of {self.sample}" if self.sample else f"{self.value_bytes}-byte values"
        parts = [what, size, f"{self.producers} producers"]
        if self.mode == "single" and self.tasks > 1:
            parts.append(f"{self.tasks} under way in each")
        parts.append(f"{self.rate:,g} records/s" if self.rate else "as many as are acked")
        if self.readers:
            parts.append(f"{self.readers} readers")
        return ", ".join(parts)


def load(path: str | None, options: Mapping[str, Any]) -> Workload:
    """The workload of a file (None: the defaults) with options in place of its keys.

    `options` are keys of `Workload`; None values are left out.

    Raises:
        ConfigError: with all faults, a line each.
    """
    given = {name: value for name, value in options.items() if value is not None}
    tree = {} if path is None else parse_toml(_read(path), path)
    if path is not None and isinstance(tree.get("sample"), str) and tree["sample"]:
        tree["sample"] = str(Path(path).parent / tree["sample"])
    try:
        workload = new_converter().structure({**tree, **given}, Workload)
        faults = list(_contradictions(workload, {*tree, *given}))
    except Faulty as error:
        faults = error.faults
    if faults:
        raise ConfigError([_line(fault, path, given) for fault in faults])
    return workload


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise ConfigError([f"{path}: found {found}, allowed a readable TOML file"]) from error
    if len(data) > _FILE_BYTES_MAX:
        raise ConfigError(
            [f"{path}: found more than {_FILE_BYTES_MAX} bytes, allowed a workload of at most that"]
        )
    return data


def _contradictions(workload: Workload, named: set[str]) -> list[Fault]:
    faults = []
    if workload.sample and "value_bytes" in named:
        faults.append(
            Fault("value_bytes", "it beside a sample", "one of the two: a sample has its own sizes")
        )
    if workload.mode == "batch" and workload.tasks > 1:
        faults.append(
            Fault("tasks", f'{workload.tasks} in mode "batch"', 'it in mode "single" only')
        )
    return faults


def _line(fault: Fault, path: str | None, given: Mapping[str, Any]) -> str:
    if fault.key in given or path is None:
        option = f"--{fault.key.replace('_', '-')}"
        return attrs.evolve(fault, key="").line(option)
    return fault.line(path)


def make_pool(workload: Workload, value_bytes_max: int) -> tuple[list[bytes], str]:
    """The values to send, and a word of warning about them ("" for none).

    Raises:
        ConfigError: the sample cannot be read, is empty, or has a value above the limit.
    """
    count = max(POOL_RECORDS, 2 * workload.client.batch_records)
    if not workload.sample:
        from streamer_tools.bench.values import log_lines

        if workload.value_bytes > value_bytes_max:
            raise ConfigError(
                [
                    f"value_bytes: found {workload.value_bytes}, allowed at most "
                    f"batch.value_bytes ({value_bytes_max}) of the configuration"
                ]
            )
        bound = max(count, 1)
        # Large values: enough of them to be more than a batch, and no gigabytes of memory.
        room = max(2000, _SAMPLE_BYTES_MAX // workload.value_bytes)
        distinct = log_lines(min(bound, room), workload.value_bytes)
        return list(islice(cycle(distinct), bound)), ""
    values = _sample(workload.sample, value_bytes_max)
    warning = ""
    if len(values) < 1000:
        warning = (
            f"{workload.sample} has {len(values)} values, which are sent again and again: they "
            "compress better than real ones; 1,000 or more are better"
        )
    return list(islice(cycle(values), max(count, len(values)))), warning


def _sample(path: str, value_bytes_max: int) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            data = file.read(_SAMPLE_BYTES_MAX)
            more = bool(file.read(1))
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise ConfigError([f"{path}: found {found}, allowed a readable file of values"]) from error
    lines = data.split(b"\n")
    # The last line is empty, or cut where the file goes on.
    if more or not lines[-1]:
        del lines[-1]
    if not any(lines):
        raise ConfigError([f"{path}: found no values, allowed at least one line that is not empty"])
    for number, line in enumerate(lines, 1):
        if len(line) > value_bytes_max:
            raise ConfigError(
                [
                    f"{path}: line {number}: found {len(line)} bytes, allowed at most "
                    f"batch.value_bytes ({value_bytes_max}) of the configuration"
                ]
            )
    return lines
