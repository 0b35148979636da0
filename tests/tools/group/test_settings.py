"""Settings of groups as texts."""

from __future__ import annotations

import click
import pytest

from streamer.groups.settings import EDITABLE, GroupSettings
from streamer_tools.group import create, edit
from streamer_tools.group.settings import named, pauses


def test_pauses() -> None:
    assert pauses("1,5,30") == [1, 5, 30]
    assert pauses("500ms, 10s,2m") == [0.5, 10, 120]
    with pytest.raises(click.BadParameter, match="'x' is no time"):
        pauses("1,x")
    with pytest.raises(click.BadParameter):
        pauses("")


def test_what_is_not_named_is_left_out() -> None:
    assert named({"mode": None, "max_deliveries": 0, "start": "latest"}) == {
        "max_deliveries": 0,
        "start": "latest",
    }


def test_every_setting_has_its_option() -> None:
    def options(command: click.Command) -> set[str]:
        names = {param.name or "" for param in command.params}
        return names - {"stream", "group", "url", "as_json"}

    assert options(create.command) == set(GroupSettings().to_plain())
    assert options(edit.command) == set(EDITABLE)
