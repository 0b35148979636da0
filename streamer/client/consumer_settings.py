"""What a consumer asks for when it joins a group, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from streamer.errors import BadRequest, RemoteProtocolError
from streamer.groups.settings import NAME_CHARS_MAX, check_group_name
from streamer.limits import MIB
from streamer.records import AckLevel

__all__ = [
    "ConsumerSettings",
    "ConsumerStatistics",
    "check_names",
    "plain_backoffs",
    "times_of",
]

_IN_FLIGHT_MAX = 1_000_000
_TIMES = ("ack_wait_s", "lease_max_s")
_LEVELS = {AckLevel.ACCEPTED: 0, AckLevel.SYNCED: 1}


@attrs.frozen
class ConsumerStatistics:
    """What became of a consumer's records, in records.

    `nacked` includes those that were put to the dead letters, `late` is what was said too late to
    count, and `held` what is held now.
    """

    delivered: int
    acked: int
    nacked: int
    released: int
    late: int
    held: int


@attrs.frozen
class ConsumerSettings:
    """What a member asks for; `group` are the settings that the group must have."""

    max_in_flight: int = 1000
    max_in_flight_bytes: int = 4 * MIB
    batch_records: int = 0
    name: str = ""
    level: AckLevel = AckLevel.SYNCED
    group: dict[str, Any] = attrs.Factory(dict)

    def check(self) -> None:
        """Raises BadRequest: a setting that cannot work."""
        _check_int("max_in_flight", self.max_in_flight, 1, _IN_FLIGHT_MAX)
        _check_int("max_in_flight_bytes", self.max_in_flight_bytes, 1, 256 * MIB)
        _check_int("batch_records", self.batch_records, 0, _IN_FLIGHT_MAX)
        if type(self.name) is not str or (self.name and not self.name.isprintable()):
            raise BadRequest(f"name is {self.name!r}, it must be text that can be printed")
        if len(self.name) > NAME_CHARS_MAX:
            raise BadRequest(
                f"name of {len(self.name)} characters, allowed are {NAME_CHARS_MAX} at the most"
            )
        if self.group.get("backoff_s") is not None:
            plain_backoffs(self.group["backoff_s"])
        if self.level not in _LEVELS:
            allowed = [str(level) for level in _LEVELS]
            raise BadRequest(f"level of a settle is {self.level}, allowed are {allowed}")

    @property
    def level_number(self) -> int:
        return _LEVELS[self.level]

    def options(self) -> dict[str, Any]:
        """As a Join frame has them."""
        options: dict[str, Any] = {
            "max_in_flight": self.max_in_flight,
            "max_in_flight_bytes": self.max_in_flight_bytes,
            "batch_records": self.batch_records,
            **{name: value for name, value in self.group.items() if value is not None},
        }
        if self.name:
            options["name"] = self.name
        if "backoff_s" in options:
            options["backoff_s"] = plain_backoffs(options["backoff_s"])
        return options


def plain_backoffs(value: object) -> list[float]:
    """`backoff_s` as a frame has it; how long the pauses may be is the daemon's to say.

    Raises:
        BadRequest: it is no sequence of numbers.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise BadRequest(f"backoff_s is {value!r}, it must be a sequence of pauses in seconds")
    for each in value:
        if type(each) not in (int, float):
            raise BadRequest(f"backoff_s has {each!r}, it must be pauses in seconds")
    return list(value)


def check_names(stream: object, group: object) -> None:
    """Judge the names of a stream and of a group of it, before they are in a frame.

    Raises:
        BadRequest: one that cannot be.
    """
    for what, name in (("stream", stream), ("group", group)):
        if type(name) is not str:
            raise BadRequest(f"name of a {what} is {name!r}, it must be text")
    check_group_name(str(group))


def times_of(settings: object) -> tuple[float, float]:
    """`ack_wait_s` and `lease_max_s` of a group, as the answer to a join has them.

    Raises:
        RemoteProtocolError: it has not.
    """
    found: list[float] = []
    for name in _TIMES:
        value: Any = settings.get(name) if isinstance(settings, dict) else None
        if type(value) not in (int, float) or not value > 0:
            raise RemoteProtocolError(f"the answer to a join has {name} {value!r}")
        found.append(value)
    wait_s, max_s = found
    return wait_s, max_s


def _check_int(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise BadRequest(f"{name} is {value!r}, allowed are {low} to {high}")
