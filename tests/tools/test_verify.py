"""`verify` on directories that a real daemon wrote, whole and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from streamer_tools.main import main
from streamer_tools.own_daemon import own_daemon

if TYPE_CHECKING:
    from conftest import Shell

LINES = b"".join(b"line %d\n" % number for number in range(5000))


@pytest.fixture
def written(tmp_path: Path, shell_at: type[Shell]) -> Path:
    """A data directory with one stream of two batches, closed in order."""
    with own_daemon(tmp_path) as daemon:
        shell = shell_at(daemon.url())
        shell("produce", "s", stdin=LINES)
        daemon.stop()
        shutil.copytree(daemon.data, tmp_path / "kept")
    return tmp_path / "kept"


def verify(directory: Path, status: int) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["verify", "--json", str(directory)])
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_whole_directory(written: Path) -> None:
    found = verify(written, 0)
    assert found["ok"] is True
    assert found["findings"] == []
    # Beside what the daemon keeps for itself.
    [partition] = [each for each in found["partitions"] if each["stream"] == "s"]
    assert partition["records"] == 5000
    text = CliRunner().invoke(main, ["verify", str(written)])
    assert text.exit_code == 0
    assert "all checksums are right" in text.output


def test_a_flipped_bit_is_named_with_its_offsets(written: Path) -> None:
    log = max(written.rglob("*.log"), key=lambda path: path.stat().st_size)
    data = bytearray(log.read_bytes())
    data[200] ^= 1
    log.write_bytes(data)
    found = verify(written, 1)
    assert found["ok"] is False
    [finding] = found["findings"]
    assert finding["kind"] == "damage"
    assert finding["file"] == str(log)
    assert finding["first_offset"] == 0
    assert finding["position"] <= 200 < finding["position"] + finding["nbytes"]
    text = CliRunner().invoke(main, ["verify", str(written)])
    assert text.exit_code == 1
    assert text.output.startswith(f"damage: stream s, partition 0: {log}, bytes ")


def test_what_is_no_data_directory_is_an_io_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 74
    assert len(result.stderr.splitlines()) == 1
