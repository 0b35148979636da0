"""`streamer top` where no terminal is needed, and where one is missing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from streamer.errors import BadRequest
from streamer_tools.main import main
from streamer_tools.own_daemon import command_line
from tests.tools.top import documents

if TYPE_CHECKING:
    from conftest import ScriptedDaemon


@pytest.fixture
def daemon(scripted: ScriptedDaemon) -> ScriptedDaemon:
    scripted.answers = {
        "overview": documents.overview(),
        "events": {"next": 105, "missed": 0, "events": documents.EVENTS[::-1]},
    }
    return scripted


def test_one_look_has_all_views(daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = daemon("top", "--once").stdout
    for fact in ("pipelines", "ingest group", "93%", "search-index", "presence", "orders-producer",
                 "pipeline_crashed", "lag_age", "NOT MET"):  # fmt: skip
        assert fact in text, fact
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_one_look_is_as_wide_as_is_asked_for(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = daemon("top", "--once").stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)


def test_one_view_sorted_and_filtered(daemon: ScriptedDaemon) -> None:
    text = daemon("top", "--once", "--view", "groups", "--sort", "lag").stdout
    assert text.index("search-index") < text.index("billing") < text.index("warehouse")
    assert "ingest" not in text
    text = daemon("top", "--once", "--view", "groups", "--filter", "bill").stdout
    assert "billing" in text
    assert "search-index" not in text


def test_json_is_the_document(daemon: ScriptedDaemon) -> None:
    assert daemon.json("top", "--once") == documents.overview()


def test_json_again_and_again_until_the_reader_goes(daemon: ScriptedDaemon) -> None:
    command = command_line("top", "--json", "--interval", "100ms", "--url", daemon.url)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["version"] == "0.1.0"
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_without_a_terminal_there_is_a_sentence(daemon: ScriptedDaemon) -> None:
    result = daemon("top", status=2)
    assert result.stderr == (
        "streamer: top is drawn on a terminal, and standard input is none; --once prints one look\n"
    )
    assert daemon.asked == []


def test_an_older_daemon_is_told_apart(daemon: ScriptedDaemon) -> None:
    def unknown(_: dict[str, Any]) -> Any:
        raise BadRequest("unknown admin verb 'overview', known are ['streams']")

    daemon.answers["overview"] = unknown
    assert "does not know 'overview'" in daemon("top", "--once", status=76).stderr


def test_a_daemon_without_events_is_shown_without(daemon: ScriptedDaemon) -> None:
    def unknown(_: dict[str, Any]) -> Any:
        raise BadRequest("unknown admin verb 'events', known are ['overview']")

    daemon.answers["events"] = unknown
    assert "nothing has happened yet" in daemon("top", "--once").stdout


def test_no_daemon_is_a_sentence_and_69(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 'none'}"
    for arguments in (["--once"], ["--once", "--json"]):
        result = CliRunner().invoke(main, ["top", *arguments, "--url", url])
        assert result.exit_code == 69
        assert result.stderr.startswith("streamer: ")
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sort", "nonsense"], "'nonsense' is no column, those are: acks/s, age"),
        (["--interval", "1ms"], "not within 100ms to 1h"),
        (["--interval", "soon"], "'soon' is no time"),
        (["--view", "nothing"], "pipelines"),
    ],
)
def test_wrong_options_are_told(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["top", "--once", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_output_that_is_not_utf_8_gets_what_it_can_say(daemon: ScriptedDaemon) -> None:
    result = subprocess.run(
        command_line("top", "--once", "--url", daemon.url),
        capture_output=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    text = result.stdout.decode("ascii")
    assert "####" in text
    assert "v default" in text
