"""The console script: help without imports, errors as sentences and statuses."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from streamer.errors import ConnectionFailed
from streamer_tools.exits import MEANINGS
from streamer_tools.main import COMMANDS, Cli, main


def run_in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer_tools", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_each_command_and_each_exit_status() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, (_, help_text) in COMMANDS.items():
        assert f"  {name} " in result.output
        assert help_text[:40] in result.output
    for status in MEANINGS:
        assert f"\n  {int(status)} " in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_called_what_the_table_says_and_has_json(name: str) -> None:
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    assert command.name == name
    commands = [command]
    if isinstance(command, click.Group):
        inner = click.Context(command)
        commands = [command.get_command(inner, each) for each in command.list_commands(inner)]
    for each in commands:
        assert "--json" in {option for param in each.params for option in param.opts}, each.name
        assert each.help


def test_help_imports_nothing_but_click() -> None:
    code = (
        "import sys; from streamer_tools.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'trio', 'rich', 'zstandard', 'cbor2', 'hdrh', 'structlog', 'starlette'}\n"
        "print('imported:', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "imported: []"


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["consum"])
    assert result.exit_code == 2
    assert "consum" in result.output


def test_an_unknown_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["streams", "--nonsense"])
    assert result.exit_code == 2


def _cli(raised: BaseException | None, status: object = None) -> click.Command:
    @click.command(cls=Cli)
    def group() -> None:
        pass

    @click.command("go")
    def go() -> object:
        if raised is not None:
            raise raised
        return status

    group.get_command = lambda ctx, name: go  # type: ignore[method-assign]
    return group


@pytest.mark.parametrize(
    ("raised", "status", "text"),
    [
        (ConnectionFailed("no daemon at ws://h:1"), 69, "streamer: no daemon at ws://h:1\n"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 74, "streamer: f: Permission"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), 130, ""),
        (click.Abort(), 130, ""),
        (click.UsageError("no such thing"), 2, "no such thing"),
    ],
)
def test_errors_become_sentences_and_statuses(
    raised: BaseException, status: int, text: str
) -> None:
    result = CliRunner().invoke(_cli(raised), ["go"])
    assert result.exit_code == status
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(_cli(ZeroDivisionError("bug")), ["go"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_what_a_command_returns_is_the_status() -> None:
    assert CliRunner().invoke(_cli(None, 7), ["go"]).exit_code == 7
    assert CliRunner().invoke(_cli(None, None), ["go"]).exit_code == 0


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m streamer_tools --help | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "0\n"
    assert result.stderr == ""


def test_what_the_encoding_lacks_is_a_question_mark() -> None:
    """Written by `rich`, say; click writes UTF-8 where it is told ASCII."""
    code = (
        "import sys; import click; from streamer_tools.main import Cli\n"
        "@click.command(cls=Cli, invoke_without_command=True)\n"
        "def echo(): sys.stdout.write('\\u2502 \\u2264 1\\n')\n"
        "echo([])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    )
    assert result.stdout == b"? ? 1\n"


def test_check_tells_faults_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[daemon]\ndata = 5\nlisten_on = "x"\n')
    result = run_in_process("check", "--config", str(file))
    assert result.returncode == 78
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{file}:") for line in lines)


def test_check_as_json(tmp_path: Path) -> None:
    import json

    file = tmp_path / "bad.toml"
    file.write_text("[daemon]\ndata = 5\n")
    result = run_in_process("check", "--json", "--config", str(file))
    assert result.returncode == 78
    assert json.loads(result.stdout)["ok"] is False
    file.write_text("")
    result = run_in_process("check", "--json", "--config", str(file))
    assert result.returncode == 0
    assert json.loads(result.stdout) == {"ok": True, "faults": []}


@pytest.mark.parametrize(
    "arguments", [["streams"], ["queues"], ["consume", "s"], ["produce", "s", __file__]]
)
def test_a_daemon_that_is_not_there_gets_one_sentence(arguments: list[str]) -> None:
    # Port 1 is nobody's: the kernel refuses at once.
    result = run_in_process(*arguments, "--url", "tcp://127.0.0.1:1")
    assert result.returncode == 69
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "tcp://127.0.0.1:1" in result.stderr
