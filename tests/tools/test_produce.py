"""Delays of `produce`, as they go to the daemon."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner

from streamer.records import Record
from streamer_tools.main import main
from streamer_tools.produce import _due


def test_without_a_delay_values_stay_what_they_are() -> None:
    values = [b"a", b"b"]
    assert _due(values, None) is values


def test_a_batch_is_due_as_a_whole() -> None:
    before = time.time_ns() // 1000
    records = _due([b"a", b"b"], 2.5)
    assert [record.value for record in records if isinstance(record, Record)] == [b"a", b"b"]
    [due_us] = {record.deliver_at_us for record in records if isinstance(record, Record)}
    assert due_us is not None
    assert before + 2_500_000 <= due_us <= time.time_ns() // 1000 + 2_500_000


def test_a_mark_is_kept() -> None:
    [record] = _due([Record(b"a", headers={"h": b""})], 0)
    assert isinstance(record, Record)
    assert record.headers == {"h": b""}
    assert record.deliver_at_us is not None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--delay", "soon"], "--delay"),
        (["--delay", "367d"], "366 days"),
        (["--delay", "1s", "--partition", "0"], "--partition and --delay"),
    ],
)
def test_what_cannot_be_delayed_is_a_usage_error(options: list[str], named: str) -> None:
    result = CliRunner().invoke(main, ["produce", "s", *options])
    assert result.exit_code == 2
    assert named in result.stderr
