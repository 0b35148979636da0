"""What a group is told when it is made, and what of it may be changed later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from streamer.errors import BadRequest, GroupConflict

MODES = ("shared", "ordered")
ORDERS = ("none", "key")
STARTS = ("earliest", "latest")
#: What `group_edit` may change: the rest decides how the partitions' ledgers work.
EDITABLE = ("ack_wait_s", "lease_max_s", "max_deliveries", "backoff_s")
_DAY_S = 86_400.0
_BACKOFFS_MAX = 32
NAME_CHARS_MAX = 200


@attrs.frozen
class GroupSettings:
    """How a group hands out; times in seconds.

    `backoff_s` are the pauses before the second, third, ... attempt; the last one repeats.
    `max_deliveries` 0 tries for ever.
    """

    mode: str = "shared"
    order: str = "none"
    ack_wait_s: float = 30.0
    lease_max_s: float = 3600.0
    max_deliveries: int = 5
    backoff_s: tuple[float, ...] = (1.0, 5.0, 30.0)
    start: str = "earliest"

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> GroupSettings:
        """The defaults, and what was asked for.

        Raises:
            BadRequest: a setting that is none, or a value that it cannot have.
        """
        return cls(**_checked(asked))

    def edited(self, asked: Mapping[str, Any]) -> GroupSettings:
        """These settings, changed.

        Raises:
            BadRequest: see `of`; also a setting that cannot be changed.
        """
        fixed = sorted(set(asked) - set(EDITABLE))
        if fixed:
            raise BadRequest(f"settings {fixed} of a group, what can be changed are {EDITABLE}")
        found = attrs.evolve(self, **_checked(asked))
        found.check_together()
        return found

    def check_together(self) -> None:
        """Judge what is about to become a group's: not of one that is there, which may be older.

        Raises:
            BadRequest: the settings contradict each other.
        """
        if self.ack_wait_s > self.lease_max_s:
            raise BadRequest(
                f"ack_wait_s is {self.ack_wait_s:.12g} s, allowed is up to lease_max_s, which is"
                f" {self.lease_max_s:.12g} s: no lease lasts longer"
            )

    def check_same(self, asked: Mapping[str, Any]) -> None:
        """Compare with what a member asks for.

        Raises:
            BadRequest: see `of`.
            GroupConflict: the group is not as the member thinks.
        """
        found = [
            f"{name} is {getattr(self, name)!r}, not {value!r}"
            for name, value in _checked(asked).items()
            if getattr(self, name) != value
        ]
        if found:
            raise GroupConflict(f"the group has other settings: {'; '.join(found)}")

    def to_plain(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "backoff_s": list(self.backoff_s)}


def _checked(asked: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in asked.items():
        check = _CHECKS.get(name)
        if check is None:
            raise BadRequest(f"group setting {name[:40]!r}, known are {sorted(_CHECKS)}")
        found[name] = check(name, value)
    if found.get("mode") == "ordered" and found.get("order", "none") != "none":
        raise BadRequest("order 'key' is for shared groups, an ordered one keeps all of it")
    return found


def _one_of(*allowed: str) -> Any:
    def check(name: str, value: Any) -> str:
        if value not in allowed:
            raise BadRequest(f"{name} is {_found(value)}, allowed are {list(allowed)}")
        return str(value)

    return check


def _seconds(low: float, high: float) -> Any:
    def check(name: str, value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise BadRequest(
                f"{name} is {_found(value)}, allowed are {_time(low)} to {_time(high)}"
            )
        return float(value)

    return check


def _time(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < _DAY_S else f"{seconds / _DAY_S:g} days"


def _found(value: Any) -> str:
    """As a program has it; what comes from a peer may be long."""
    return repr(value)[:40]


def _backoffs(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= _BACKOFFS_MAX:
        raise BadRequest(
            f"{name} is {_found(value)}, allowed is a list of 1 to {_BACKOFFS_MAX} pauses in"
            " seconds"
        )
    check = _seconds(0.0, 366 * _DAY_S)
    return tuple(check(name, each) for each in value)


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 1_000_000:
        raise BadRequest(f"{name} is {_found(value)}, allowed are 0 (no limit) to 1000000")
    return value


_CHECKS: dict[str, Any] = {
    "mode": _one_of(*MODES),
    "order": _one_of(*ORDERS),
    "ack_wait_s": _seconds(0.1, 7 * _DAY_S),
    "lease_max_s": _seconds(0.1, 366 * _DAY_S),
    "max_deliveries": _count,
    "backoff_s": _backoffs,
    "start": _one_of(*STARTS),
}


def check_group_name(name: str) -> None:
    """Judge the name of a group.

    Raises:
        BadRequest: it cannot be one.
    """
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise BadRequest(
            f"group name {name[:40]!r} of {len(name)} characters, allowed are 1 to "
            f"{NAME_CHARS_MAX} that can be printed"
        )
