"""One run of a candidate: a daemon of its own with the candidate's configuration, and traffic.

Rules: the daemon gets the very text that would be written if the candidate won, so nothing can be
proposed that a daemon did not run with; only a collector of traces is taken out of it, which is
none of a measurement's business. A candidate that does not start, or fails, is a run without
figures and says why; what would fail for every candidate alike (no room on the disk) ends the
search.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs

from streamer.errors import StreamerError
from streamer.limits import MIB
from streamer_tools.bench.contract import Case
from streamer_tools.bench.runner import Bench
from streamer_tools.exits import Told
from streamer_tools.tune.config_file import alone, changed
from streamer_tools.tune.score import Run
from streamer_tools.tune.search import StopSearch
from streamer_tools.tune.space import Candidate, Space
from streamer_tools.tune.traffic import TRAFFIC, TrafficSettings
from streamer_tools.tune.workload import Workload

#: Below it a run may fill the disk: a second of batches is about a tenth of it.
ROOM_BYTES = 512 * MIB


@attrs.frozen
class Trials:
    """Measures candidates; a callable as `search.Measure`."""

    space: Space
    workload: Workload
    pool: list[bytes]
    #: The present configuration, as TOML.
    text: str
    bench: Bench
    #: Configurations, as text, that daemons ran with, and how many runs had figures.
    ran: Counter[str] = attrs.field(factory=Counter)
    room_bytes: int = ROOM_BYTES

    def __call__(self, candidate: Candidate, seconds: float) -> Run:
        check_room(self.bench.directory, self.room_bytes)
        client = attrs.evolve(
            self.workload.client,
            **self.space.client_settings(candidate),  # type: ignore[arg-type]
        )
        settings = TrafficSettings(attrs.evolve(self.workload, client=client), self.pool, seconds)
        config = changed(self.text, self.space.config_changes(candidate))
        try:
            found = self.bench.measure(TRAFFIC, Case(candidate.name, settings, alone(config)))
        except Told as error:
            run = Run(errors=1, fault="; ".join([error.lines[0], *error.lines[-1:]]))
        except StreamerError as error:
            run = Run(errors=1, fault=error.message)
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt) is not None:
                raise KeyboardInterrupt from None
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_room(self.bench.directory, self.room_bytes) from error
            raise
        else:
            assert isinstance(found, Mapping), "the traffic gives a map"
            run = found["run"]
        if run.errors:
            check_room(self.bench.directory, self.room_bytes)
        if not run.failed:
            self.ran[config] += 1
        return run


def check_room(directory: Path | None, room_bytes: int = ROOM_BYTES) -> None:
    """Raises StopSearch: there is too little room for a run."""
    if shutil.disk_usage(_place(directory)).free < room_bytes:
        raise no_room(directory, room_bytes)


def no_room(directory: Path | None, room_bytes: int) -> StopSearch:
    place = _place(directory)
    free = shutil.disk_usage(place).free // MIB
    return StopSearch(
        f"{free:,} MiB are free on the disk of {place}, and runs need {room_bytes // MIB:,} MiB: "
        "make room, or name another place with --data"
    )


def _place(directory: Path | None) -> str:
    return os.fspath(directory) if directory is not None else tempfile.gettempdir()
