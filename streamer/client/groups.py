"""What a client may ask of consumer groups, dead letters, delays and schedules.

Rules: as in `admin`: thin calls, plain values. Fields that a newer daemon adds are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from streamer.client.admin import Admin
from streamer.client.consumer_settings import plain_backoffs
from streamer.client.dead_letters import DeadLetter, portions
from streamer.client.reader import Position, start_of

__all__ = [
    "Delayed",
    "GroupAdmin",
    "GroupDetails",
    "GroupInfo",
    "GroupPartition",
    "MemberInfo",
    "PartitionLag",
    "Schedule",
]

T = TypeVar("T")


@attrs.frozen
class GroupInfo:
    """One group. Counts are records; ages are seconds, None where nothing waits."""

    stream: str
    group: str
    mode: str
    order: str
    paused: bool
    members: int
    partitions: int
    #: Committed, and neither acked nor dead.
    lag: int
    oldest_age_s: float | None
    in_flight: int
    #: They wait for their next attempt.
    retrying: int
    acked: int
    redelivered: int
    dead: int


@attrs.frozen
class MemberInfo:
    """One member of a group: what it holds, and for how long."""

    member: int
    name: str
    peer: str
    in_flight: int
    in_flight_bytes: int
    oldest_s: float | None
    max_in_flight: int
    #: Those that it owns, in an ordered group.
    partitions: list[int]


@attrs.frozen
class GroupPartition:
    """How far a group is in one partition: `cursor` is the lowest offset that is not done."""

    partition: int
    cursor: int
    high_water: int
    lag: int
    oldest_age_s: float | None
    in_flight: int
    retrying: int
    #: Pieces above the cursor that are done.
    done_ranges: int
    owner: int | None


@attrs.frozen
class GroupDetails(GroupInfo):
    """One group, whole."""

    settings: dict[str, Any]
    member_list: list[MemberInfo]
    partition_list: list[GroupPartition]


@attrs.frozen
class PartitionLag:
    """How far a group is behind in one partition: in records, and in the age of the oldest."""

    stream: str
    group: str
    partition: int
    cursor: int
    high_water: int
    lag: int
    oldest_age_s: float | None
    in_flight: int
    retrying: int


@attrs.frozen
class Delayed:
    """Records that wait to be due; the time is in microseconds since 1970 UTC."""

    waiting: int
    next_due_us: int | None


@attrs.frozen
class Schedule:
    """A record that is sent again and again, by a cron line; times as in `Delayed`."""

    name: str
    stream: str
    cron: str
    zone: str
    next_us: int
    last_us: int | None
    fired: int
    key: bytes | None
    headers: dict[str, bytes]
    value: bytes


class GroupAdmin(Admin):
    """The part of `Client` that asks about groups. Besides what is said here, all of it raises
    `UnknownStream`, `UnknownGroup`, `NotAllowed`, and what `Client.admin` raises."""

    async def groups(self) -> list[GroupInfo]:
        """All groups of all streams."""
        return [_of(GroupInfo, entry) for entry in await self.admin("groups")]

    async def group(self, stream: str, group: str) -> GroupDetails:
        """One group with its members and partitions."""
        found = await self.admin("group", {"stream": stream, "group": group})
        members = [_of(MemberInfo, entry) for entry in found["member_list"]]
        partitions = [_of(GroupPartition, entry) for entry in found["partition_list"]]
        return _of(GroupDetails, {**found, "member_list": members, "partition_list": partitions})

    async def create_group(
        self,
        stream: str,
        group: str,
        *,
        mode: str | None = None,
        order: str | None = None,
        ack_wait_s: float | None = None,
        lease_max_s: float | None = None,
        max_deliveries: int | None = None,
        backoff_s: Sequence[float] | None = None,
        start: str | None = None,
    ) -> None:
        """Make a group before anybody joins it; the settings are those of `Client.consumer`.

        Raises:
            GroupConflict: there is one, with other settings.
            BadRequest: a setting that cannot be.
        """
        settings = _settings(
            mode=mode,
            order=order,
            ack_wait_s=ack_wait_s,
            lease_max_s=lease_max_s,
            max_deliveries=max_deliveries,
            backoff_s=backoff_s,
            start=start,
        )
        await self.admin("group_create", {"stream": stream, "group": group, "settings": settings})

    async def edit_group(
        self,
        stream: str,
        group: str,
        *,
        ack_wait_s: float | None = None,
        lease_max_s: float | None = None,
        max_deliveries: int | None = None,
        backoff_s: Sequence[float] | None = None,
    ) -> None:
        """Change settings of a group; those that are not named stay.

        Raises:
            BadRequest: a setting that cannot be.
        """
        settings = _settings(
            ack_wait_s=ack_wait_s,
            lease_max_s=lease_max_s,
            max_deliveries=max_deliveries,
            backoff_s=backoff_s,
        )
        await self.admin("group_edit", {"stream": stream, "group": group, "settings": settings})

    async def pause_group(self, stream: str, group: str) -> None:
        """Hand out nothing more; what is out may be settled."""
        await self.admin("group_pause", {"stream": stream, "group": group})

    async def resume_group(self, stream: str, group: str) -> None:
        """Hand out again."""
        await self.admin("group_resume", {"stream": stream, "group": group})

    async def delete_group(self, stream: str, group: str) -> None:
        """Forget a group; its members are told."""
        await self.admin("group_delete", {"stream": stream, "group": group})

    async def seek_group(
        self, stream: str, group: str, position: Position, partition: int | None = None
    ) -> dict[int, int]:
        """Have a group go on at an offset, a time, "earliest" or "latest", in one partition or in
        all; where it goes on, by partition.

        Raises:
            BadRequest: `position` is none; OffsetOutOfRange: it is not kept.
        """
        start, value = start_of(position)
        args = {
            "stream": stream,
            "group": group,
            "start": int(start),
            "value": value,
            "all": partition is None,
            "partition": partition or 0,
        }
        answer = await self.admin("group_seek", args)
        return {int(number): offset for number, offset in answer["partitions"].items()}

    async def lag(self, stream: str | None = None) -> list[PartitionLag]:
        """How far the groups of a stream, or of all, are behind."""
        answer = await self.admin("lag", {"stream": stream or ""})
        return [_of(PartitionLag, entry) for entry in answer]

    # ------------------------------------------------------------------------- dead letters

    async def redrive(self, stream: str, letters: Iterable[DeadLetter]) -> int:
        """Put dead letters of `stream` back to where they came from; how many were.

        Those that were redriven or purged meanwhile are passed over. Many go in portions: what was
        done before an error stays done.
        """
        return await self._settle_letters("dead_redrive", "redriven", stream, letters)

    async def purge(self, stream: str, letters: Iterable[DeadLetter]) -> int:
        """Strike dead letters of `stream` off, for good; else as `redrive`."""
        return await self._settle_letters("dead_purge", "purged", stream, letters)

    async def _settle_letters(
        self, verb: str, past: str, stream: str, letters: Iterable[DeadLetter]
    ) -> int:
        done = 0
        for partition, ranges in portions(letters):
            args = {"stream": stream, "partition": partition, "ranges": ranges}
            done += (await self.admin(verb, args))[past]
        return done

    # ------------------------------------------------------------------- delays and schedules

    async def delayed(self, stream: str) -> Delayed:
        """What waits to be due."""
        return _of(Delayed, await self.admin("delayed", {"stream": stream}))

    async def schedules(self) -> list[Schedule]:
        """All schedules."""
        return [_of(Schedule, entry) for entry in await self.admin("schedules")]

    async def add_schedule(
        self,
        name: str,
        stream: str,
        cron: str,
        value: bytes,
        *,
        zone: str = "UTC",
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        replace: bool = False,
    ) -> int:
        """Have a record sent to `stream` whenever the cron line says; when it will be first, in
        microseconds since 1970 UTC.

        Args:
            zone: Of the cron line, as "Europe/Berlin".
            replace: Take the place of a schedule of that name.

        Raises:
            BadRequest: no cron line, no zone, or a name that is taken.
        """
        args = {
            "name": name,
            "stream": stream,
            "cron": cron,
            "zone": zone,
            "value": value,
            "key": key,
            "headers": dict(headers or {}),
            "replace": replace,
        }
        next_us: int = (await self.admin("schedule_add", args))["next_us"]
        return next_us

    async def remove_schedule(self, name: str) -> None:
        """Send it no more. Raises UnknownSchedule: there is none of that name."""
        await self.admin("schedule_remove", {"name": name})


def _of(kind: type[T], entry: Mapping[str, Any]) -> T:
    """The fields of an answer that are known here."""
    known = {field.name for field in attrs.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in entry.items() if name in known})


def _settings(**named: Any) -> dict[str, Any]:
    """The settings that are named, as a frame has them."""
    return {
        name: plain_backoffs(value) if name == "backoff_s" else value
        for name, value in named.items()
        if value is not None
    }
