"""Groups of commands that are imported when they are called."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from streamer_tools import dlq, group, schedule
from streamer_tools.main import main

GROUPS = {"group": group, "dlq": dlq, "schedule": schedule}


@pytest.mark.parametrize("name", GROUPS)
def test_a_table_says_what_there_is(name: str) -> None:
    table = GROUPS[name].COMMANDS
    command = GROUPS[name].command
    assert isinstance(command, click.Group)
    context = click.Context(command)
    assert command.list_commands(context) == list(table)
    for each in table:
        found = command.get_command(context, each)
        assert found is not None
        assert found.name == each
    assert command.get_command(context, "nonsense") is None


@pytest.mark.parametrize("name", GROUPS)
def test_help_has_a_line_a_command(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    for each, (_, help_text) in GROUPS[name].COMMANDS.items():
        assert f"  {each} " in result.output
        assert help_text in result.output


def test_help_of_a_group_imports_none_of_its_commands() -> None:
    code = (
        "import sys; from streamer_tools.main import main\n"
        "try: main(['dlq', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('streamer_tools.dlq.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_an_unknown_verb_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["dlq", "revive"]).exit_code == 2
