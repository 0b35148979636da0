"""Configurations as text: comments stay, the rest is as before, files are whole or as they were."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.limits import KIB, MIB
from streamer.pipeline.registry import Registry
from streamer_tools.tune.config_file import alone, changed, checked, diff, write

DURABLE = Path(__file__).parents[3] / "configs" / "durable.toml"

TEXT = """\
# ours
[session]  # what a client may use
# for the link to the north
window_bytes = "2 MiB"   # measured in May

[[pipelines]]
name = "bulk"
streams = ["bulk-*"]

[[pipelines]]
name = "rest"
[pipelines.ingest]
linger_s = 0.05 # waits
"""


def test_comments_and_order_stay() -> None:
    after = changed(
        TEXT,
        {
            ("session", "window_bytes"): (16 * MIB, "bytes"),
            ("pipelines", 1, "ingest", "linger_s"): (0.0, "s"),
            ("pipelines", 1, "ingest", "channel", "items"): (64, "items"),
            ("pipelines", 1, "persist", "commit_bytes"): (1000, "bytes"),
            ("batch", "zstd_level"): (3, ""),
        },
    )
    assert '# for the link to the north\nwindow_bytes = "16 MiB"   # measured in May\n' in after
    assert "linger_s = 0.0 # waits\n" in after
    assert after.startswith("# ours\n[session]  # what a client may use\n")
    tree = tomllib.loads(after)
    assert tree["pipelines"] == [
        {"name": "bulk", "streams": ["bulk-*"]},
        {
            "name": "rest",
            "ingest": {"linger_s": 0.0, "channel": {"items": 64}},
            "persist": {"commit_bytes": 1000},
        },
    ]
    assert tree["batch"] == {"zstd_level": 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing but a comment\n",
        "[[pipelines]]\n",
        'pipelines = [{name = "x", ingest = {records_min = 2}}]\n',
        "batch.zstd_level = 2  # quick\n",
    ],
)
def test_tables_that_are_not_there_are_made(text: str) -> None:
    after = changed(
        text,
        {
            ("pipelines", 0, "ingest", "linger_s"): (0.002, "s"),
            ("batch", "zstd_level"): (6, ""),
        },
    )
    config = checked(after, Registry.installed(), None)
    assert config.pipelines[0].ingest.settings.linger_s == 0.002
    assert config.batch.zstd_level == 6


def test_the_shipped_example_keeps_all_its_comments() -> None:
    before = DURABLE.read_text()
    after = changed(before, {("pipelines", 1, "ingest", "bytes_max"): (64 * KIB, "bytes")})
    assert diff(before, after, "a", "b").splitlines() == [
        "--- a",
        "+++ b",
        "@@ -{0} +{0} @@".format(diff(before, after, "", "").split("@@ -")[1].split(" ")[0]),
        " records_max = 4096",
        ' # Bytes of records in a group. (1 KiB to 1 MiB; default "512 KiB")',
        '-bytes_max = "512 KiB"',
        '+bytes_max = "64 KiB"',
        " # Longest wait for company while a commit is under way. (0 to 10 s; default 0.005)",
        " linger_s = 0.005",
    ]


def test_no_changes_are_no_difference() -> None:
    assert changed(TEXT, {}) == TEXT
    assert diff(TEXT, TEXT, "a", "b") == ""


def test_a_daemon_that_is_measured_sends_its_traces_to_nobody() -> None:
    assert alone(TEXT) == TEXT
    traced = TEXT + '[trace]\nsample = 0.1\notlp_endpoint = "http://traces:4318" # theirs\n'
    assert alone(traced) == TEXT + '[trace]\nsample = 0.1\notlp_endpoint = "" # theirs\n'


def test_what_check_would_refuse_is_refused() -> None:
    after = changed(TEXT, {("session", "window_bytes"): (1, "bytes")})
    with pytest.raises(ConfigError, match=r"new\.toml: session\.window_bytes: found 1, allowed"):
        checked(after, Registry.installed(), "new.toml")


def test_a_file_is_replaced_whole_with_its_rights_and_through_its_link(tmp_path: Path) -> None:
    file, link = tmp_path / "real.toml", tmp_path / "link.toml"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write(str(link), "new")
    assert (file.read_text(), link.is_symlink()) == ("new", True)
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.toml", "real.toml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        write(str(tmp_path / "x.toml"), "new")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "x.toml"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        write(str(target), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]
