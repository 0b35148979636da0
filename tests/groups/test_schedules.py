"""Schedules: what may be added, when it fires, and what is left of it after damage."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer import cbor
from streamer.errors import BadRequest, StorageDamaged, UnknownSchedule
from streamer.groups.schedules import (
    CRON_CHARS_MAX,
    NEVER_US,
    SCHEDULE_BYTES_MAX,
    Schedule,
    Schedules,
)
from streamer.limits import OFFSET_MAX

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def us(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """Microseconds of "2026-03-29 01:30" in a zone."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return (local - EPOCH) // timedelta(microseconds=1)


NOW_US = us("2026-03-20 12:00")


def added(schedules: Schedules, cron: str = "*/5 * * * *", **what: Any) -> Schedule:
    given = {"name": "a", "stream": "orders", "value": b"v", "now_us": NOW_US, **what}
    return schedules.add(cron=cron, **given)


def times(cron: str, zone: str, start_us: int, count: int) -> list[int]:
    """The first nominal times after `start_us`, fired each at its own time."""
    schedules = Schedules()
    added(schedules, cron, zone=zone, now_us=start_us)
    found = []
    for _ in range(count):
        due_us = schedules.next_due_us
        assert due_us is not None
        assert schedules.due(due_us - 1) == []
        [(schedule, nominal_us)] = schedules.due(due_us)
        assert (schedule.last_us, nominal_us) == (due_us, due_us)
        found.append(nominal_us)
    return found


def local(cron: str, zone: str, start: str, count: int, fold: int = 0) -> list[str]:
    """The same as wall clock times with their offset from UTC."""
    return [
        datetime.fromtimestamp(found_us / 1e6, ZoneInfo(zone)).strftime("%d %H:%M %z")
        for found_us in times(cron, zone, us(start, zone, fold), count)
    ]


# -------------------------------------------------------------------------------------- adding


def test_a_schedule_is_added_fires_and_goes() -> None:
    schedules = Schedules()
    assert schedules.next_due_us is None
    schedule = added(
        schedules, " */5  * * * *", name="clean up", key=b"k", headers={"h": b"1"}, zone=BERLIN
    )
    assert schedule == Schedule(
        "clean up", "orders", "*/5 * * * *", BERLIN, b"v", b"k", {"h": b"1"}, NOW_US + 5 * MINUTE_US
    )
    assert list(schedules) == [schedule]
    assert schedules.next_due_us == NOW_US + 5 * MINUTE_US
    [(after, nominal_us)] = schedules.due(NOW_US + 5 * MINUTE_US + 17)
    assert nominal_us == schedule.next_us
    assert (after.next_us, after.last_us, after.fired) == (NOW_US + 10 * MINUTE_US, nominal_us, 1)
    assert list(schedules) == [after]
    assert schedules.remove("clean up") == after
    assert len(schedules) == 0
    with pytest.raises(UnknownSchedule, match="no schedule 'clean up'"):
        schedules.remove("clean up")


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ({"name": ""}, "name '' of 0 characters, allowed are 1 to 100"),
        ({"name": "x" * 101}, "of 101 characters"),
        ({"name": "a\nb"}, r"name 'a\\nb' of 3 characters"),
        ({"stream": ""}, "stream ''"),
        ({"stream": "s" * 201}, "1 to 200 characters"),
        ({"stream": "__groups"}, "stream '__groups', allowed are"),
        ({"headers": {"h": "text"}}, "do not map text to bytes"),
        ({"headers": {1: b""}}, "do not map text to bytes"),
        ({"headers": {str(n): b"" for n in range(65)}}, "65 headers, allowed are 64"),
        ({"value": bytes(SCHEDULE_BYTES_MAX + 1)}, "65537 bytes of .*, allowed are 65536"),
        ({"key": bytes(SCHEDULE_BYTES_MAX)}, "65537 bytes"),
        ({"headers": {"h": bytes(SCHEDULE_BYTES_MAX)}}, "65538 bytes"),
        ({"zone": "Europe/Nowhere"}, "zone 'Europe/Nowhere' is not known here, allowed are 'UTC'"),
        ({"zone": ""}, "zone ''"),
        ({"zone": "Europe"}, "zone 'Europe'"),
        ({"zone": "../etc/passwd"}, "zone '../etc/passwd'"),
        ({"zone": "x\0"}, "zone"),
        ({"zone": "Z" * 5000}, "zone 'Z{64}' "),
        ({"zone": "localtime"}, "zone 'localtime'"),
        ({"zone": "right/UTC"}, "zone 'right/UTC'"),
        ({"cron": ""}, "'' has 0 fields, allowed are 5: minute, hour, day of month, month, "),
        ({"cron": "* * * *"}, "4 fields"),
        ({"cron": "0 * * * * *"}, "6 fields"),
        ({"cron": "noon"}, "'noon' has 1 field, allowed"),
        ({"cron": "@daily"}, r"'@daily' is not known here, write '0 0 \* \* \*'$"),
        ({"cron": " @Hourly "}, r"'@Hourly' is not known here, write '0 \* \* \* \*'$"),
        ({"cron": "@reboot"}, "'@reboot' has 1 field, allowed are 5: minute"),
        ({"cron": "61 * * * *"}, r"'61 \* \* \* \*' has minute '61', allowed are 0-59, \*, lists"),
        ({"cron": "0 24 * * *"}, "hour '24', allowed are 0-23"),
        ({"cron": "0 0 1,32 * *"}, "day of month '1,32', allowed are 1-31, L, LW, "),
        ({"cron": "0 0 31 2 *"}, "names no day: month '2' has no day '31'$"),
        ({"cron": "0 0 31 2,apr *"}, "month '2,apr' has no day '31'$"),
        ({"cron": "0 0 * XYZ *"}, "month 'XYZ', allowed are 1-12, JAN-DEC, "),
        ({"cron": "0 0 * * 8"}, "day of week '8', allowed are 0-7, SUN-SAT, 5L, MON#1, "),
        ({"cron": f"{'9' * CRON_CHARS_MAX} * * * *"}, "'9{200}' of 208 characters, allowed are 20"),
        ({"cron": "* * */20 * 1L"}, "names no time within 50 years"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_allowed(what: dict[str, Any], text: str) -> None:
    schedules = Schedules()
    with pytest.raises(BadRequest, match=text):
        added(schedules, **what)
    assert len(schedules) == 0


def test_the_number_is_bounded() -> None:
    schedules = Schedules(2)
    added(schedules, name="a")
    added(schedules, name="b")
    with pytest.raises(BadRequest, match="2 schedules, allowed are 2"):
        added(schedules, name="c")
    added(schedules, name="b", value=b"other", replace=True)
    schedules.remove("a")
    added(schedules, name="c")
    assert [schedule.name for schedule in schedules] == ["b", "c"]


def test_a_name_is_taken_unless_it_is_to_be_replaced() -> None:
    schedules = Schedules()
    first = added(schedules)
    schedules.due(first.next_us)
    with pytest.raises(BadRequest, match="'a' is there already, only `replace`"):
        added(schedules)
    late_us = first.next_us + HOUR_US
    same = added(schedules, value=b"w", now_us=late_us, replace=True)
    assert same.value == b"w"
    assert (same.last_us, same.fired) == (first.next_us, 1)
    assert same.next_us == first.next_us + 5 * MINUTE_US, "what it missed is not forgotten"
    other = added(schedules, "0 * * * *", now_us=late_us, replace=True)
    assert other.next_us == us("2026-03-20 14:00")
    zone = added(schedules, "0 * * * *", now_us=late_us + HOUR_US, zone=BERLIN, replace=True)
    assert zone.next_us == us("2026-03-20 15:00")
    with pytest.raises(BadRequest, match="minute '"):
        added(schedules, "x * * * *", replace=True)
    assert list(schedules) == [zone]


# -------------------------------------------------------------------------------------- firing


def test_what_was_missed_fires_once_under_its_newest_time() -> None:
    schedules = Schedules()
    added(schedules, "* * * * *", name="minutely")
    added(schedules, "30 4 * * *", name="nightly")
    added(schedules, "0 0 1 1 *", name="yearly")
    now_us = us("2026-11-02 09:15") + 30_000_000
    fired = schedules.due(now_us)
    assert [(schedule.name, nominal_us) for schedule, nominal_us in fired] == [
        ("nightly", us("2026-11-02 04:30")),
        ("minutely", us("2026-11-02 09:15")),
    ]
    assert [schedule.fired for schedule, _ in fired] == [1, 1]
    assert schedules.due(now_us) == []
    assert schedules.next_due_us == us("2026-11-02 09:16")


def test_a_clock_that_goes_back_fires_nothing_again() -> None:
    schedules = Schedules()
    first = added(schedules)
    schedules.due(first.next_us)
    assert schedules.due(first.next_us - HOUR_US) == []
    assert schedules.due(first.next_us) == []


def test_at_most_so_many_at_once_the_longest_due_first() -> None:
    schedules = Schedules()
    added(schedules, "*/5 * * * *", name="b")
    added(schedules, "*/5 * * * *", name="a")
    added(schedules, "*/4 * * * *", name="c")
    now_us = NOW_US + 6 * MINUTE_US
    assert [schedule.name for schedule, _ in schedules.due(now_us, 2)] == ["c", "a"]
    due_us = schedules.next_due_us
    assert due_us is not None
    assert due_us <= now_us
    assert [schedule.name for schedule, _ in schedules.due(now_us, 2)] == ["b"]


def test_one_that_comes_to_its_end_never_fires_again() -> None:
    # No cron line ends on its own: the calendar does.
    schedules = Schedules()
    schedule = added(schedules, "0 0 1 1 *", now_us=us("9998-06-01 00:00"))
    assert schedule.next_us == us("9999-01-01 00:00")
    [(after, _)] = schedules.due(schedule.next_us)
    assert after.next_us == NEVER_US
    assert schedules.next_due_us is None
    with pytest.raises(BadRequest, match="names no time"):
        added(schedules, name="b", now_us=OFFSET_MAX)


# ---------------------------------------------------------------------- where the clocks change


def test_the_skipped_hour() -> None:
    # 2026-03-29: after 01:59 +0100 comes 03:00 +0200.
    start = "2026-03-28 12:00"
    assert local("30 2 * * *", BERLIN, start, 2) == ["29 03:00 +0200", "30 02:30 +0200"]
    assert local("0,30 2 * * *", BERLIN, start, 2) == ["29 03:00 +0200", "30 02:00 +0200"]
    assert local("0 3 * * *", BERLIN, start, 2) == ["29 03:00 +0200", "30 03:00 +0200"]
    assert local("*/30 * * * *", BERLIN, "2026-03-29 01:15", 3) == [
        "29 01:30 +0100",
        "29 03:00 +0200",
        "29 03:30 +0200",
    ]
    assert local("15 * * * *", BERLIN, "2026-03-29 01:00", 2) == [
        "29 01:15 +0100",
        "29 03:15 +0200",
    ]


def test_the_repeated_hour() -> None:
    # 2026-10-25: after 02:59 +0200 comes 02:00 +0100.
    start = "2026-10-24 12:00"
    assert local("30 2 * * *", BERLIN, start, 2) == ["25 02:30 +0200", "26 02:30 +0100"]
    assert local("30 * * * *", BERLIN, "2026-10-25 02:00", 3) == [
        "25 02:30 +0200",
        "25 02:30 +0100",
        "25 03:30 +0100",
    ]
    assert local("*/30 2 * * *", BERLIN, start, 5) == [
        "25 02:00 +0200",
        "25 02:30 +0200",
        "25 02:00 +0100",
        "25 02:30 +0100",
        "26 02:00 +0100",
    ]


def test_one_that_is_added_in_the_second_pass_does_not_fire_in_the_past() -> None:
    # It is 02:10 for the second time; 02:30 in the first pass was 40 minutes ago.
    assert local("30 2 * * *", BERLIN, "2026-10-25 02:10", 1, fold=1) == ["26 02:30 +0100"]
    assert local("*/15 2 * * *", BERLIN, "2026-10-25 02:10", 2, fold=1) == [
        "25 02:15 +0100",
        "25 02:30 +0100",
    ]


def test_what_was_missed_over_a_change_has_the_time_of_its_first_pass() -> None:
    schedules = Schedules()
    added(schedules, "30 2 * * *", zone=BERLIN)
    [(schedule, nominal_us)] = schedules.due(us("2026-10-25 02:10", BERLIN, fold=1))
    assert nominal_us == us("2026-10-25 02:30", BERLIN, fold=0)
    assert schedule.next_us == us("2026-10-26 02:30", BERLIN)


zones = st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Africa/Cairo"])
crons = st.builds(
    "{} {} {} {} {}".format,
    st.sampled_from(["*", "0", "30", "*/7", "5,35", "59"]),
    st.sampled_from(["*", "0", "2", "2-3", "*/5", "23"]),
    st.sampled_from(["*", "*", "1", "29", "L", "LW"]),
    st.sampled_from(["*", "*", "3", "OCT", "2"]),
    st.sampled_from(["*", "*", "SUN", "5L", "MON#1"]),
)
moments = st.one_of(
    st.integers(us("2024-01-01 00:00"), us("2028-01-01 00:00")),
    st.integers(us("2026-10-24 00:00"), us("2026-10-26 12:00")),
    st.integers(us("2026-03-28 00:00"), us("2026-03-30 12:00")),
)


@settings(deadline=None)
@given(crons, zones, moments, st.integers(0, 60), st.integers(0, HOUR_US))
@example("*/7 * * * *", BERLIN, us("2026-03-28 22:00"), 40, 0)
@example("30 2 * * *", BERLIN, us("2026-10-24 22:00"), 1, HOUR_US)
def test_the_newest_missed_time_is_what_stepping_through_finds(
    cron: str, zone: str, start_us: int, steps: int, beyond_us: int
) -> None:
    stepped = times(cron, zone, start_us, steps + 2)
    assert stepped[0] > start_us
    assert all(later - earlier >= MINUTE_US for earlier, later in pairwise(stepped))
    now_us = min(stepped[steps] + beyond_us, stepped[steps + 1] - 1)
    schedules = Schedules()
    added(schedules, cron, zone=zone, now_us=start_us)
    [(schedule, nominal_us)] = schedules.due(now_us)
    assert (nominal_us, schedule.next_us) == (stepped[steps], stepped[steps + 1])


# -------------------------------------------------------------------------------- the journal


def test_all_of_it_goes_through_the_journal() -> None:
    schedules = Schedules()
    first = added(schedules, name="b", key=b"k", headers={"h": b"1"}, zone=BERLIN)
    added(schedules, name="a")
    schedules.due(first.next_us)
    plain = cbor.loads(cbor.dumps(schedules.to_plain()))
    again = Schedules.from_plain(plain)
    assert list(again) == list(schedules)
    assert again.due(NOW_US + DAY_US) == schedules.due(NOW_US + DAY_US)
    assert list(Schedules.from_plain([])) == []


def test_more_than_are_allowed_by_now_are_kept() -> None:
    schedules = Schedules()
    for name in "abc":
        added(schedules, name=name)
    again = Schedules.from_plain(schedules.to_plain(), 2)
    assert len(again) == 3
    with pytest.raises(BadRequest, match="3 schedules, allowed are 2"):
        added(again, name="d")


PLAIN = Schedule("a", "orders", "* * * * *", "UTC", b"v", None, {}, NOW_US).to_plain()


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        (None, "NoneType, not a list"),
        ({}, "dict, not a list"),
        ([None], "no map of name"),
        ([[]], "no map of name"),
        ([{}], "no map of name"),
        ([{**PLAIN, "more": 1}], "no map of name"),
        ([PLAIN, PLAIN], "2 schedules with 1 names"),
        ([{**PLAIN, "name": b"a"}], "a name that is bytes"),
        ([{**PLAIN, "value": "v"}], "a value that is str"),
        ([{**PLAIN, "next_us": None}], "a next_us that is NoneType"),
        ([{**PLAIN, "fired": True}], "a fired that is bool"),
        ([{**PLAIN, "fired": -1}], "'a' with -1, allowed is 0"),
        ([{**PLAIN, "last_us": -1}], "'a' with -1"),
        ([{**PLAIN, "next_us": 2**63}], "'a' with 9223372036854775808"),
        ([{**PLAIN, "name": ""}], "cannot have been added: schedule name ''"),
        ([{**PLAIN, "cron": "nonsense"}], "cannot have been added: cron line 'nonsense'"),
        ([{**PLAIN, "zone": "Nowhere"}], "cannot have been added: zone 'Nowhere'"),
        ([{**PLAIN, "headers": {"h": 1}}], "cannot have been added: schedule with headers"),
    ],
)
def test_damage_is_told(plain: Any, text: str) -> None:
    with pytest.raises(StorageDamaged, match=text):
        Schedules.from_plain(plain)


fields = st.none() | st.text() | st.integers()
_PLAIN = st.none() | st.integers() | st.text() | st.binary()


@given(
    _PLAIN
    | st.lists(_PLAIN)
    | st.dictionaries(st.text(), _PLAIN)
    | st.lists(st.fixed_dictionaries(dict.fromkeys(PLAIN, fields)))
)
def test_any_damage_is_storage_damaged(plain: Any) -> None:
    with contextlib.suppress(StorageDamaged):
        Schedules.from_plain(plain)
