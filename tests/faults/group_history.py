"""What a run of consumer groups with faults leaves behind: files of lines, and how they are read.

One directory for a run. All times are `time.monotonic()`, which processes of one machine share.
Offsets and numbers are decimal, fields are separated by one space:

- `c0.3.life`: what the third life of consumer c0 did, a line each, written before it went on:
  `T begin TOKEN PARTITION OFFSET ATTEMPT KEY SEQUENCE`, the handler begins; `T end TOKEN PARTITION
  OFFSET`, it is through; `ack`, `nack`, `term`, `release`, that was asked of the daemon; `ok`,
  `lost` or `unknown`, the answer to that, where it was waited for; `T stall SINCE`, the whole
  process stood still; `T hang`, it will until the next line; `T started`; `T joined`; `T leaving`;
  `T die`, it is about to kill itself.
- `driver.log`: `T kill LIFE`, before the signal; `T exit LIFE STATUS`; `T daemon-kill`;
  `T stall SINCE`, the driver itself stood still, so others may have.
- `produced.log`: `T acked KEY SEQUENCE`.
- `end.json`: `settings`, and how all ended: the stream's records, the dead letters, the group.

Synchronous; reading files is all the I/O. A line without its end is one that a kill cut off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

END_FILE = "end.json"
DRIVER_FILE = "driver.log"
PRODUCED_FILE = "produced.log"
LIFE_SUFFIX = ".life"

#: A partition and an offset there.
Place = tuple[int, int]
#: From when to when somebody stood still.
Stall = tuple[float, float]


def value_of(key: str, sequence: int, fate: str) -> bytes:
    """The value of a record: its key, its number there, and what is to become of it."""
    return f"{key}|{sequence}|{fate}".encode()


def parse_value(value: bytes) -> tuple[str, int, str]:
    """Key, number and fate of a record."""
    key, sequence, fate = value.decode().split("|")
    return key, int(sequence), fate


@attrs.define(eq=False)
class Handling:
    """One time that a handler was given a record."""

    life: str
    token: int
    partition: int
    offset: int
    attempt: int
    key: str
    sequence: int
    begin: float
    end: float | None = None
    #: What was asked of the daemon: ack, nack, term or release; "" for nothing.
    asked: str = ""
    asked_at: float | None = None
    #: "ok", "lost" or "unknown" where the answer was waited for.
    answer: str = ""

    @property
    def place(self) -> Place:
        return self.partition, self.offset

    @property
    def over(self) -> float | None:
        """When the handler was through, whatever came of it."""
        return self.end if self.end is not None else self.asked_at

    def __str__(self) -> str:
        return (
            f"{self.partition}/{self.offset} ({self.key} {self.sequence}) by {self.life} at "
            f"{self.begin:.3f}, token {self.token}, attempt {self.attempt}"
        )


@attrs.define(eq=False)
class Life:
    """One process of a consumer, from its start to its end."""

    name: str
    handlings: list[Handling] = attrs.Factory(list)
    stalls: list[Stall] = attrs.Factory(list)
    #: SIGKILL, by itself or by the driver: not later than this.
    death: float | None = None
    leaving: float | None = None
    exit: float | None = None
    status: int | None = None
    problems: list[str] = attrs.Factory(list)

    def read(self, lines: Iterable[list[str]]) -> None:
        """Take over the lines of its file."""
        open_: dict[tuple[int, int, int], Handling] = {}
        hang: float | None = None
        for at, what, *rest in lines:
            if hang is not None:
                self.stalls.append((hang, float(at)))
            hang = float(at) if what == "hang" else None
            if what == "begin":
                token, partition, offset, attempt, key, sequence = rest
                handling = Handling(
                    self.name, int(token), int(partition), int(offset), int(attempt),
                    key, int(sequence), float(at),
                )  # fmt: skip
                mark = handling.token, handling.partition, handling.offset
                if mark in open_:
                    self.problems.append(f"begun twice under one token: {handling}")
                open_[mark] = handling
                self.handlings.append(handling)
            elif what == "stall":
                self.stalls.append((float(rest[0]), float(at)))
            elif what == "die":
                self.death = float(at)
            elif what == "leaving":
                self.leaving = float(at)
            elif what not in ("started", "joined", "hang"):
                token, partition, offset = map(int, rest)
                _go_on(open_[token, partition, offset], what, float(at))
        if hang is not None:
            # It was killed before it came to.
            self.stalls.append((hang, float("inf")))


def _go_on(handling: Handling, what: str, at: float) -> None:
    if what == "end":
        handling.end = at
    elif what in ("ok", "lost", "unknown"):
        handling.answer = what
    else:
        handling.asked, handling.asked_at = what, at


@attrs.frozen
class Entry:
    """A record of the stream, in its final log."""

    partition: int
    offset: int
    key: str
    sequence: int
    fate: str

    @property
    def place(self) -> Place:
        return self.partition, self.offset


@attrs.frozen
class Death:
    """A dead letter, as the client tells of it."""

    partition: int
    offset: int
    key: str
    sequence: int
    reason: str
    attempts: int
    error: str

    @property
    def place(self) -> Place:
        return self.partition, self.offset


@attrs.frozen
class GroupSettings:
    """What the group was made with, as far as it matters to the judge."""

    #: shared, key or ordered.
    mode: str
    ack_wait_s: float
    max_deliveries: int


@attrs.define
class History:
    """All of a run."""

    settings: GroupSettings
    #: Keys and numbers that were acked to the producer.
    acked: set[tuple[str, int]]
    log: list[Entry]
    dead: list[Death]
    lives: dict[str, Life]
    daemon_kills: list[float]
    #: When the driver stood still: then others may have too.
    stalls: list[Stall]
    #: What is left to deliver, per partition: lag, in flight and retrying.
    left: list[dict[str, int]]

    def handlings(self) -> dict[Place, list[Handling]]:
        """Those of each record, by token."""
        found: dict[Place, list[Handling]] = {entry.place: [] for entry in self.log}
        for life in self.lives.values():
            for handling in life.handlings:
                found.setdefault(handling.place, []).append(handling)
        for several in found.values():
            several.sort(key=lambda handling: (handling.token, handling.begin))
        return found


def _lines(text: str) -> list[list[str]]:
    """The fields of each whole line."""
    whole, _, _ = text.rpartition("\n")
    return [line.split(" ") for line in whole.split("\n") if line]


def history_of(files: Mapping[str, str]) -> History:
    """Read the texts of a run's files, by name."""
    end: dict[str, Any] = json.loads(files[END_FILE])
    lives: dict[str, Life] = {}
    for name, text in files.items():
        if name.endswith(LIFE_SUFFIX):
            life = Life(name.removesuffix(LIFE_SUFFIX))
            life.read(_lines(text))
            lives[life.name] = life
    daemon_kills: list[float] = []
    stalls: list[Stall] = []
    for at, what, *rest in _lines(files[DRIVER_FILE]):
        if what == "daemon-kill":
            daemon_kills.append(float(at))
        elif what == "stall":
            stalls.append((float(rest[0]), float(at)))
        elif what in ("kill", "exit"):
            _ended(lives.setdefault(rest[0], Life(rest[0])), what, float(at), rest)
    return History(
        settings=GroupSettings(**end["settings"]),
        acked={(key, int(number)) for _, _, key, number in _lines(files[PRODUCED_FILE])},
        log=[Entry(*fields) for fields in end["log"]],
        dead=[Death(**fields) for fields in end["dead"]],
        lives=lives,
        daemon_kills=daemon_kills,
        stalls=stalls,
        left=end["left"],
    )


def _ended(life: Life, what: str, at: float, rest: list[str]) -> None:
    if what == "kill":
        # It may have killed itself before.
        life.death = at if life.death is None else min(life.death, at)
    else:
        life.exit, life.status = at, int(rest[1])


def read_history(home: Path) -> History:
    """Read the directory of a run."""
    return history_of({path.name: path.read_text() for path in home.iterdir() if path.is_file()})
