"""Recurring records: which schedules there are, and which of them are due.

Rules:
- A schedule fires at the minutes that its cron line names in its zone. What was missed while the
  daemon was down or busy is made up for once, under the newest of the missed times: a job that
  cleans up each minute must not clean up 500 times after a night.
- Lines are read by cronsim, which does at a change of the clocks what Debian's cron does. A line
  whose minute or hour begins with `*` follows the running time: nothing in the skipped hour, both
  times in the repeated one. Any other names moments of a day: they come once a day, those of the
  skipped hour at its end, those of the repeated hour in its first pass.
- The time of the next firing is part of a schedule's durable state, so a restart skips nothing.

Bounds: the number of schedules, and SCHEDULE_BYTES_MAX for each, as all are in every snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import attrs
from cronsim import CronSim, CronSimError

from streamer.errors import BadRequest, StorageDamaged, UnknownSchedule
from streamer.limits import KIB, OFFSET_MAX, STREAM_NAME_CHARS_MAX, BatchLimits
from streamer.names import OWN_PREFIX

NAME_CHARS_MAX = 100
#: Longer lines list what a range or a step says; and int() refuses endless digits its own way.
CRON_CHARS_MAX = 200
ZONE_CHARS_MAX = 64
#: Value, key and headers together.
SCHEDULE_BYTES_MAX = 64 * KIB
#: `next_us` of a schedule that has nothing to come for 50 years.
NEVER_US = OFFSET_MAX

_HEADERS_MAX = BatchLimits().headers
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Five fields: no two occurrences are closer.
_APART_US = 60_000_000
_FIELDS = 5
#: What cronsim calls a field: (what a person does, what is allowed in it).
_CRON_FIELDS = {
    "minute": ("minute", "0-59"),
    "hour": ("hour", "0-23"),
    "day-of-month": ("day of month", "1-31, L, LW"),
    "month": ("month", "1-12, JAN-DEC"),
    "day-of-week": ("day of week", "0-7, SUN-SAT, 5L, MON#1"),
}
#: Names that other crons know. They say less than a line, and there would be two ways to say it.
_CRON_NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
#: Names that zoneinfo takes and that mean something else on each machine, or count leap seconds.
_NO_ZONES = ("localtime", "posixrules", "posix/", "right/")


@attrs.frozen
class Schedule:
    """One recurring record and how far it has come; times in microseconds since 1970 UTC.

    `next_us` is the next nominal time, `last_us` the latest one that fired, `fired` how often.
    """

    name: str
    stream: str
    cron: str
    zone: str
    value: bytes
    key: bytes | None = None
    headers: Mapping[str, bytes] = attrs.field(factory=dict)
    next_us: int = NEVER_US
    last_us: int | None = None
    fired: int = 0

    def to_plain(self) -> dict[str, Any]:
        """The fields as values that CBOR carries."""
        return {**attrs.asdict(self, recurse=False), "headers": dict(self.headers)}

    @classmethod
    def from_plain(cls, plain: Any) -> Schedule:
        """The schedule that `to_plain` was given.

        Raises:
            StorageDamaged: it is none, or one that could not have been added here.
        """
        if not isinstance(plain, dict) or set(plain) != set(_TYPES):
            raise StorageDamaged(f"schedule that is no map of {', '.join(_TYPES)}")
        for name, kinds in _TYPES.items():
            if type(plain[name]) not in kinds:
                raise StorageDamaged(f"schedule with a {name} that is {type(plain[name]).__name__}")
        schedule = cls(**plain)
        for number in (schedule.next_us, schedule.last_us or 0, schedule.fired):
            if not 0 <= number <= OFFSET_MAX:
                raise StorageDamaged(
                    f"schedule {schedule.name!r} with {number}, allowed is 0 to 2^63 - 1"
                )
        try:
            _check(schedule)
            _parse(schedule.cron, _zone(schedule.zone), _EPOCH)
        except BadRequest as error:
            raise StorageDamaged(f"schedule that cannot have been added: {error}") from error
        return schedule


_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "stream": (str,),
    "cron": (str,),
    "zone": (str,),
    "value": (bytes,),
    "key": (bytes, type(None)),
    "headers": (dict,),
    "next_us": (int,),
    "last_us": (int, type(None)),
    "fired": (int,),
}


class Schedules:
    """All schedules of a daemon, by name."""

    def __init__(self, schedules_max: int = 1000) -> None:
        assert schedules_max > 0
        self._schedules_max = schedules_max
        self._schedules: dict[str, Schedule] = {}

    def __len__(self) -> int:
        return len(self._schedules)

    def __iter__(self) -> Iterator[Schedule]:
        """Each schedule, in the order of names."""
        return iter([self._schedules[name] for name in sorted(self._schedules)])

    @property
    def next_due_us(self) -> int | None:
        """When the next one fires; None: none will."""
        earliest = min((schedule.next_us for schedule in self._schedules.values()), default=None)
        return None if earliest == NEVER_US else earliest

    def add(
        self,
        *,
        name: str,
        stream: str,
        cron: str,
        value: bytes,
        now_us: int,
        zone: str = "UTC",
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        replace: bool = False,
    ) -> Schedule:
        """Take in a schedule; it fires first at its first time after now.

        Whether the stream exists is for the caller to see. With `replace` it takes the place of
        the one of that name, and goes on with its counts; where line and zone are the same also
        with its next time, so that a deployment that sets all its schedules anew skips nothing.

        Raises:
            BadRequest: something that cannot be, the name is taken, or there are too many.
        """
        old = self._schedules.get(name)
        if old is not None and not replace:
            raise BadRequest(f"schedule {name!r} is there already, only `replace` changes it")
        if old is None and len(self) >= self._schedules_max:
            raise BadRequest(f"{len(self)} schedules, allowed are {self._schedules_max}")
        line = " ".join(cron.split())
        schedule = Schedule(name, stream, line, zone, value, key, dict(headers or {}))
        _check(schedule)
        # The line is judged also where its next time is known already.
        next_us = _next_us(schedule, now_us)
        if next_us == NEVER_US:
            raise BadRequest(f"cron line {line!r} names no time within 50 years")
        if old is not None:
            if (old.cron, old.zone) == (line, zone):
                next_us = old.next_us
            schedule = attrs.evolve(schedule, last_us=old.last_us, fired=old.fired)
        schedule = attrs.evolve(schedule, next_us=next_us)
        self.put(schedule)
        return schedule

    def put(self, schedule: Schedule) -> None:
        """Set a schedule as the journal has it, whatever there was and however many there are."""
        self._schedules[schedule.name] = schedule

    def remove(self, name: str) -> Schedule:
        """Forget a schedule.

        Raises:
            UnknownSchedule: none has that name.
        """
        if name not in self._schedules:
            raise UnknownSchedule(f"there is no schedule {name[:NAME_CHARS_MAX]!r}")
        return self._schedules.pop(name)

    def due(self, now_us: int, count: int = 100) -> list[tuple[Schedule, int]]:
        """Those to fire now, each with the nominal time it fires for, earliest first.

        They have been advanced already: `last_us` is that time, `next_us` lies after now. At most
        `count` of them; while more are due, `next_due_us` is not after now. One that missed much
        costs a millisecond, any other 0.05.
        """
        found = [known for known in self._schedules.values() if known.next_us <= now_us]
        found.sort(key=lambda known: (known.next_us, known.name))
        fired = []
        for schedule in found[:count]:
            nominal_us, next_us = _newest_us(schedule, now_us)
            after = attrs.evolve(
                schedule, next_us=next_us, last_us=nominal_us, fired=schedule.fired + 1
            )
            self.put(after)
            fired.append((after, nominal_us))
        fired.sort(key=lambda pair: (pair[1], pair[0].name))
        return fired

    def put_back(self, schedule: Schedule, nominal_us: int) -> None:
        """One that `due` gave could not be fired: it is due again, if it is still there."""
        if self._schedules.get(schedule.name) == schedule:
            self.put(attrs.evolve(schedule, next_us=nominal_us, fired=schedule.fired - 1))

    def to_plain(self) -> list[dict[str, Any]]:
        """All of them as values that CBOR carries."""
        return [schedule.to_plain() for schedule in self]

    @classmethod
    def from_plain(cls, plain: Any, schedules_max: int = 1000) -> Schedules:
        """What `to_plain` was given; more than `schedules_max` are kept, but none is added.

        Raises:
            StorageDamaged: see `Schedule.from_plain`; or a name twice.
        """
        schedules = cls(schedules_max)
        if not isinstance(plain, list):
            raise StorageDamaged(f"schedules that are {type(plain).__name__}, not a list")
        for entry in plain:
            schedules.put(Schedule.from_plain(entry))
        if len(schedules) != len(plain):
            raise StorageDamaged(f"{len(plain)} schedules with {len(schedules)} names")
        return schedules


# ------------------------------------------------------------------------------------- checks


def _check(schedule: Schedule) -> None:
    """Judge all but line and zone."""
    name, stream = schedule.name, schedule.stream
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise BadRequest(
            f"schedule name {name[:NAME_CHARS_MAX]!r} of {len(name)} characters, allowed are 1 to"
            f" {NAME_CHARS_MAX} that can be printed"
        )
    if not 1 <= len(stream) <= STREAM_NAME_CHARS_MAX or stream.startswith(OWN_PREFIX):
        raise BadRequest(
            f"schedule for stream {stream[:STREAM_NAME_CHARS_MAX]!r}, allowed are names of 1 to"
            f" {STREAM_NAME_CHARS_MAX} characters that do not begin with '__'"
        )
    headers = schedule.headers
    if len(headers) > _HEADERS_MAX:
        raise BadRequest(f"schedule with {len(headers)} headers, allowed are {_HEADERS_MAX}")
    for header, content in headers.items():
        if type(header) is not str or type(content) is not bytes:
            raise BadRequest("schedule with headers that do not map text to bytes")
    nbytes = len(schedule.value) + len(schedule.key or b"")
    nbytes += sum(len(header) + len(content) for header, content in headers.items())
    if nbytes > SCHEDULE_BYTES_MAX:
        raise BadRequest(
            f"schedule with {nbytes} bytes of value, key and headers, allowed are"
            f" {SCHEDULE_BYTES_MAX}"
        )


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    if 1 <= len(name) <= ZONE_CHARS_MAX and not name.startswith(_NO_ZONES):
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            # Which of them depends on what the name happens to be: no file, a folder, a way out.
            pass
    raise BadRequest(
        f"zone {name[:ZONE_CHARS_MAX]!r} is not known here, allowed are 'UTC' and names as"
        " 'Europe/Berlin'"
    )


def _parse(cron: str, zone: tzinfo, after: datetime) -> CronSim:
    fields = cron.split()
    if len(cron) > CRON_CHARS_MAX:
        found = f"of {len(cron)} characters, allowed are {CRON_CHARS_MAX}"
    elif cron.lower() in _CRON_NAMES:
        found = f"is not known here, write {_CRON_NAMES[cron.lower()]!r}"
    elif len(fields) != _FIELDS:
        # Six would be seconds: those have no rule for a change of the clocks.
        names = ", ".join(name for name, _ in _CRON_FIELDS.values())
        found = f"has {len(fields)} field{'s' * (len(fields) != 1)}, allowed are {_FIELDS}: {names}"
    else:
        try:
            return CronSim(cron, after.astimezone(zone))
        except CronSimError as error:
            found = _fault(fields, error)
    raise BadRequest(f"cron line {cron[:CRON_CHARS_MAX]!r} {found}")


def _fault(fields: list[str], error: CronSimError) -> str:
    """Which field cronsim does not take; it tells that, but not its value nor why."""
    known = str(error).removeprefix("Bad ")
    if known not in _CRON_FIELDS:
        return f"cannot be: {str(error).lower()}"
    name, allowed = _CRON_FIELDS[known]
    value = fields[list(_CRON_FIELDS).index(known)]
    day, month = fields[2], fields[3]
    if known == "day-of-month" and _is_day(day):
        return f"names no day: month {month!r} has no day {day!r}"
    return f"has {name} {value!r}, allowed are {allowed}, *, lists, ranges and steps"


def _is_day(text: str) -> bool:
    """Whether it is a day of some month."""
    try:
        CronSim(f"0 0 {text} * *", _EPOCH)
    except CronSimError:
        return False
    return True


# -------------------------------------------------------------------------------------- times


def _next_us(schedule: Schedule, after_us: int) -> int:
    """The first occurrence after `after_us`, or NEVER_US.

    Raises:
        BadRequest: the line or the zone is none.
    """
    zone = _zone(schedule.zone)
    try:
        for found in _parse(schedule.cron, zone, _EPOCH + after_us * _MICROSECOND):
            # From within the repeated hour cronsim begins with that hour's first pass.
            if (found_us := (found - _EPOCH) // _MICROSECOND) > after_us:
                return found_us
    except OverflowError:
        # Beyond the year 9999.
        pass
    return NEVER_US


def _newest_us(schedule: Schedule, now_us: int) -> tuple[int, int]:
    """The newest occurrence up to now, and the first after it; `schedule.next_us` is one.

    Found by halving what lies between, forwards only: cronsim's way back differs from its way
    forth where the clocks change, and stepping through a year of minutes takes a minute.
    """
    low_us, high_us = schedule.next_us, now_us
    following_us = _next_us(schedule, low_us)
    if following_us > now_us:
        return low_us, following_us
    low_us, following_us = following_us, _next_us(schedule, now_us)
    # `low_us` is an occurrence, and none lies after `high_us` up to now.
    while high_us - low_us >= _APART_US:
        middle_us = (low_us + high_us) // 2
        found_us = _next_us(schedule, middle_us)
        if found_us <= now_us:
            low_us = found_us
        else:
            high_us = middle_us
    return low_us, following_us
