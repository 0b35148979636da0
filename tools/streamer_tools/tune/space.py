"""What may be changed: the settings of daemon and client that are searched, and their values.

Rules:

- A value is one of a short list, or the present one: steps by factors of two to four, since
  smaller ones drown in noise. What is in effect unchanged by the daemon's own limits is not in a
  list: a value that cannot act would be proposed by chance.
- A setting that cannot matter for the workload is left out, with the reason said: it would only
  make noise. Settings that say what is durable are never here.
- A candidate is its changes against the present configuration. A random one changes about half of
  the settings that shape batches, and seldom a limit that only acts when it is reached: the fewer
  changes, the sooner it is known which of them did it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from streamer.config import Config, PipelineConfig
from streamer.limits import KIB, MIB
from streamer.settings import Setting, about, number_text
from streamer_tools.tune.workload import Workload

Value: TypeAlias = int | float
#: Where a setting stands in the TOML; of the client's, nowhere.
Path: TypeAlias = tuple[str | int, ...]

PRESENT = "present"
CLIENT = "client."

#: How likely a setting is changed in a random candidate.
_OFTEN, _SELDOM = 0.5, 0.15
#: Draws for one new candidate before the space is taken to be used up.
_DRAWS = 200

_CHOICES: dict[str, tuple[Value, ...]] = {
    "daemon.read_threads": (1, 2, 4, 8),
    "session.window_bytes": (256 * KIB, 1 * MIB, 4 * MIB, 16 * MIB),
    "batch.zstd_level": (1, 3, 6, 9),
    "ingest.records_min": (1, 4, 16, 64, 256),
    "ingest.records_max": (256, 1024, 4096, 16_384),
    "ingest.bytes_max": (64 * KIB, 256 * KIB, 512 * KIB, 1 * MIB),
    "ingest.linger_s": (0.0, 0.001, 0.002, 0.005, 0.01, 0.02),
    "ingest.latency_target_s": (0.005, 0.01, 0.02, 0.05, 0.1),
    "ingest.channel.items": (64, 256, 1024, 4096),
    "ingest.channel.bytes": (1 * MIB, 8 * MIB, 32 * MIB),
    "persist.channel.items": (64, 256, 1024, 4096),
    "persist.channel.bytes": (1 * MIB, 8 * MIB, 32 * MIB),
    "persist.commit_bytes": (256 * KIB, 1 * MIB, 4 * MIB, 16 * MIB),
    "client.batch_records": (100, 300, 1000, 3000, 10_000),
    "client.batch_bytes": (64 * KIB, 256 * KIB, 512 * KIB, 1000 * KIB),
    "client.linger_s": (0.0, 0.001, 0.005, 0.02),
    "client.in_flight": (1, 2, 4, 8, 16, 32, 64),
}
#: These act only when they are reached.
_LIMITS = ("daemon.", "session.")
_STAGES = ("ingest", "propose", "persist", "ack")
#: What a batch takes besides its records: the client keeps so much below the daemon's limit.
_BATCH_BYTES = 4 * KIB


@attrs.frozen
class Knob:
    """One setting that is searched."""

    name: str
    present: Value
    #: All that may be tried, the present value among them, rising.
    choices: tuple[Value, ...]
    path: Path = ()
    unit: str = ""
    #: How likely a random candidate changes it.
    share: float = _OFTEN

    def text(self, value: Value) -> str:
        """A value as people read it, and as the configuration may have it."""
        if self.unit == "bytes":
            return number_text(value, Setting("", unit="bytes"))
        return f"{value:g}" if isinstance(value, float) else str(value)


@attrs.frozen
class Candidate:
    """Settings to be tried: what differs from the present ones, in the order of the space."""

    name: str
    changes: tuple[tuple[str, Value], ...] = ()

    @property
    def is_present(self) -> bool:
        return not self.changes

    def without(self, names: Sequence[str], name: str) -> Candidate:
        """It with some settings put back to the present ones."""
        return Candidate(name, tuple(each for each in self.changes if each[0] not in names))


@attrs.frozen
class Space:
    """Everything that is searched."""

    knobs: tuple[Knob, ...]
    #: name: why it is not searched.
    left_out: Mapping[str, str] = attrs.Factory(dict)
    #: Whether changes go together.
    valid: Callable[[tuple[tuple[str, Value], ...]], bool] = lambda _: True

    def knob(self, name: str) -> Knob:
        return next(knob for knob in self.knobs if knob.name == name)

    def sample(self, count: int, rng: random.Random) -> list[Candidate]:
        """`count` random candidates, no two alike, none the present one; fewer if there are not
        so many."""
        found: dict[tuple[tuple[str, Value], ...], None] = {}
        for _ in range(count * _DRAWS):
            if len(found) == count:
                break
            changes = tuple(self._draw(rng))
            if changes and changes not in found and self.valid(changes):
                found[changes] = None
        return [Candidate(f"c{number:02}", each) for number, each in enumerate(found, 1)]

    def _draw(self, rng: random.Random) -> Iterator[tuple[str, Value]]:
        for knob in self.knobs:
            others = [choice for choice in knob.choices if choice != knob.present]
            if others and rng.random() < knob.share:
                yield knob.name, rng.choice(others)

    def config_changes(self, candidate: Candidate) -> dict[Path, tuple[Value, str]]:
        """What differs in the daemon's configuration: path to value and unit."""
        knobs = {knob.name: knob for knob in self.knobs}
        return {
            knobs[name].path: (value, knobs[name].unit)
            for name, value in candidate.changes
            if knobs[name].path
        }

    def client_settings(self, candidate: Candidate) -> dict[str, Value]:
        """All client settings of a candidate that are searched, by their names in Python."""
        changed = dict(candidate.changes)
        return {
            knob.name.removeprefix(CLIENT): changed.get(knob.name, knob.present)
            for knob in self.knobs
            if knob.name.startswith(CLIENT)
        }


def make_space(
    config: Config,
    workload: Workload,
    valid: Callable[[tuple[tuple[str, Value], ...]], bool] = lambda _: True,
) -> Space:
    """What is searched for a workload on a configuration; `config` must serve its stream.

    A setting that the configured stages do not have is not searched either.
    """
    pipeline = config.pipeline_of(workload.stream)
    assert pipeline is not None, "the caller has looked"
    index = config.pipelines.index(pipeline)
    knobs, left_out = [], {}
    for name, choices in _CHOICES.items():
        reason = _useless(name, workload)
        if reason:
            left_out[name] = reason
            continue
        found = _find(name, config, pipeline, index, workload)
        if found is None:
            left_out[name] = f"the stage that is configured has no {name.rpartition('.')[2]}"
            continue
        path, present, unit = found
        allowed = {each for each in choices if each <= _limit(name, config, workload)}
        share = _SELDOM if name.startswith(_LIMITS) or ".channel." in name else _OFTEN
        knobs.append(Knob(name, present, tuple(sorted({*allowed, present})), path, unit, share))
    return Space(tuple(knobs), left_out, valid)


def _useless(name: str, workload: Workload) -> str:
    """Why a setting cannot matter for the workload; "" where it may."""
    single = workload.mode == "single"
    if name == "daemon.read_threads" and not workload.readers:
        return "the workload has no readers"
    own_stage = name.startswith("ingest.") and not name.startswith("ingest.channel.")
    if (own_stage or name == "batch.zstd_level") and not single:
        return "ingest passes batches on as they come"
    if name.startswith(CLIENT) and single and workload.tasks == 1:
        return "a producer has one record under way, so there is nothing to group"
    if name == "client.linger_s" and not single and not workload.rate:
        return "batches are always full: records are there before they are asked for"
    return ""


def _find(
    name: str, config: Config, pipeline: PipelineConfig, index: int, workload: Workload
) -> tuple[Path, Value, str] | None:
    """Path, present value and unit of a setting; None if the configuration has none of the name."""
    first, *rest = name.split(".")
    holder: Any
    path: Path
    if first == "client":
        holder, path = workload.client, ()
    elif first in _STAGES:
        stage = getattr(pipeline, first)
        in_channel = rest[0] == "channel"
        holder = stage.channel if in_channel else stage.settings
        path = ("pipelines", index, *name.split("."))
    else:
        holder, path = getattr(config, first), (first, *rest)
    fields = {field.name: field for field in attrs.fields(type(holder))}
    if rest[-1] not in fields:
        return None
    return path, getattr(holder, rest[-1]), about(fields[rest[-1]]).unit


def _limit(name: str, config: Config, workload: Workload) -> float:
    """Above it the daemon or the client would cut a value down to it."""
    sessions = workload.producers + workload.readers
    limits = {
        "session.window_bytes": config.session.budget_bytes // sessions,
        "client.batch_records": config.batch.records,
        "client.batch_bytes": config.batch.batch_bytes - _BATCH_BYTES,
        "ingest.records_max": config.batch.records,
        "ingest.bytes_max": config.batch.batch_bytes,
    }
    return limits.get(name, float("inf"))
