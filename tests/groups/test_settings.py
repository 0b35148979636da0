"""What a group may be told, what may be changed, and what two members must agree on."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.errors import BadRequest, GroupConflict
from streamer.groups.settings import GroupSettings, check_group_name


def test_what_is_not_named_is_as_by_default() -> None:
    settings = GroupSettings.of({"max_deliveries": 2, "backoff_s": [1, 2.5]})
    assert settings == GroupSettings(max_deliveries=2, backoff_s=(1.0, 2.5))
    assert settings.to_plain() == {
        "mode": "shared",
        "order": "none",
        "ack_wait_s": 30.0,
        "lease_max_s": 3600.0,
        "max_deliveries": 2,
        "backoff_s": [1.0, 2.5],
        "start": "earliest",
    }
    assert GroupSettings.of(settings.to_plain()) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "fast"),
        ("mode", ["shared"]),
        ("order", "time"),
        ("start", 3),
        ("ack_wait_s", 0.0),
        ("ack_wait_s", "30"),
        ("ack_wait_s", True),
        ("ack_wait_s", float("nan")),
        ("lease_max_s", 367 * 86_400),
        ("max_deliveries", -1),
        ("max_deliveries", 1.0),
        ("backoff_s", 1.0),
        ("backoff_s", []),
        ("backoff_s", [1.0] * 33),
        ("backoff_s", [-1.0]),
    ],
)
def test_values_that_cannot_be_are_refused(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=name):
        GroupSettings.of({name: value})


def test_bounds_are_said_as_people_say_them() -> None:
    for name, value, text in (
        ("lease_max_s", 1e9, "lease_max_s is 1000000000.0, allowed are 0.1 s to 366 days"),
        ("ack_wait_s", 0, "ack_wait_s is 0, allowed are 0.1 s to 7 days"),
        ("backoff_s", [1, -1], "backoff_s is -1, allowed are 0 s to 366 days"),
        ("backoff_s", "1,2", "backoff_s is '1,2', allowed is a list of 1 to 32 pauses in seconds"),
    ):
        with pytest.raises(BadRequest) as caught:
            GroupSettings.of({name: value})
        assert caught.value.message == text
    with pytest.raises(BadRequest) as caught:
        GroupSettings.of({"mode": "x" * 100_000})
    assert len(caught.value.message) < 100


def test_a_lease_does_not_outlast_its_longest() -> None:
    GroupSettings.of({"ack_wait_s": 60, "lease_max_s": 60}).check_together()
    # What a member names is first compared with the group, which has its own of the other.
    named = GroupSettings.of({"ack_wait_s": 7200})
    with pytest.raises(
        BadRequest,
        match="ack_wait_s is 7200 s, allowed is up to lease_max_s, which is 3600 s: no lease",
    ):
        named.check_together()
    with pytest.raises(BadRequest, match=r"ack_wait_s is 30 s, .* is 1\.5 s"):
        GroupSettings().edited({"lease_max_s": 1.5})
    both = GroupSettings().edited({"ack_wait_s": 7200, "lease_max_s": 7200})
    assert (both.ack_wait_s, both.lease_max_s) == (7200.0, 7200.0)


def test_settings_that_are_none_are_refused() -> None:
    with pytest.raises(BadRequest, match="'colour', known are"):
        GroupSettings.of({"colour": "red"})


def test_an_ordered_group_has_no_order_of_keys() -> None:
    with pytest.raises(BadRequest, match="for shared groups"):
        GroupSettings.of({"mode": "ordered", "order": "key"})
    assert GroupSettings.of({"mode": "ordered", "order": "none"}).mode == "ordered"


def test_times_and_counts_may_be_changed_and_nothing_else() -> None:
    settings = GroupSettings.of({"order": "key"})
    assert settings.edited({"ack_wait_s": 5}) == GroupSettings(order="key", ack_wait_s=5.0)
    with pytest.raises(BadRequest, match=r"settings \['mode', 'order'\]"):
        settings.edited({"order": "none", "mode": "shared", "ack_wait_s": 1})
    with pytest.raises(BadRequest, match="ack_wait_s"):
        settings.edited({"ack_wait_s": 0})


def test_a_member_that_expects_another_group_is_told() -> None:
    settings = GroupSettings.of({"backoff_s": [1.0, 2.0]})
    settings.check_same({})
    settings.check_same({"mode": "shared", "backoff_s": [1, 2]})
    with pytest.raises(GroupConflict, match="order is 'none', not 'key'; max_deliveries is 5, no"):
        settings.check_same({"order": "key", "max_deliveries": 3, "mode": "shared"})
    with pytest.raises(BadRequest, match="max_deliveries"):
        settings.check_same({"max_deliveries": "3"})


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb"])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="group name"):
        check_group_name(name)


def test_names_may_be_what_can_be_printed() -> None:
    check_group_name("billing of März")
