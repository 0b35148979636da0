"""A group of commands that are imported when they are called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class Lazy(click.Group):
    """A group whose commands are in a table, so that its help imports none of them."""

    #: command: (module of `streamer_tools`, one line of help). The module's `command` is it.
    table: Mapping[str, tuple[str, str]]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(f"streamer_tools.{self.table[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[1]) for name, entry in self.table.items()])


def lazy_group(name: str, help_text: str, table: Mapping[str, tuple[str, str]]) -> click.Command:
    """A group `name` with the commands of `table`."""

    class Group(Lazy):
        pass

    Group.table = table

    @click.command(name, cls=Group, help=help_text)
    def command(**_: Any) -> None:
        pass

    return command
