"""`streamer find`: which records are found, in which batches they are looked for."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from streamer.batch import Codec
from streamer.client import ReceivedBatch
from streamer.errors import BadBatch
from streamer.records import ProducerStamp, Record
from streamer_tools.find import Wanted, line
from streamer_tools.main import main

NOW_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


def received(
    *records: Record,
    stamp: ProducerStamp | None = None,
    stamps: list[ProducerStamp | None] | None = None,
    skip: int = 0,
) -> ReceivedBatch:
    codec = Codec()
    batch = codec.encode_records(list(records), now_us=NOW_US, stamp=stamp, stamps=stamps)
    placed = batch.placed(base_offset=10, append_time_us=NOW_US, high_water=0)
    return ReceivedBatch("s", 0, placed, skip, 20, codec)


def offsets(wanted: Wanted, batch: ReceivedBatch) -> list[int]:
    return [offset for offset, _ in wanted.found_in(batch)]


RECORDS = (
    Record(b"alpha", key=b"a", timestamp_us=NOW_US),
    Record(b"beta", key=b"b", timestamp_us=NOW_US + SECOND_US, headers={"type": b"x"}),
    Record(b"gamma beta", key=None, timestamp_us=NOW_US + 2 * SECOND_US, headers={"type": b"y"}),
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [10, 11, 12]),
        (Wanted(key=b"b"), [11]),
        (Wanted(key=b""), []),
        (Wanted(from_us=NOW_US + 1), [11, 12]),
        (Wanted(to_us=NOW_US + SECOND_US), [10]),
        (Wanted(from_us=NOW_US + SECOND_US, to_us=NOW_US + 2 * SECOND_US), [11]),
        (Wanted(contains=b"beta"), [11, 12]),
        (Wanted(contains=b"delta"), []),
        (Wanted(headers=(("type", None),)), [11, 12]),
        (Wanted(headers=(("type", b"y"),)), [12]),
        (Wanted(headers=(("type", None), ("other", None))), []),
        (Wanted(key=b"b", contains=b"beta"), [11]),
        (Wanted(key=b"a", contains=b"beta"), []),
    ],
)
def test_every_condition_must_be_met(wanted: Wanted, found: list[int]) -> None:
    assert offsets(wanted, received(*RECORDS)) == found
    # What the reader has cut off in front stays out.
    assert offsets(wanted, received(*RECORDS, skip=2)) == [at for at in found if at == 12]


def test_a_producer_is_that_of_the_batch_or_of_each_record() -> None:
    mine, other = ProducerStamp(7, 0, 0), ProducerStamp(8, 0, 0)
    assert offsets(Wanted(producer=7), received(*RECORDS, stamp=mine)) == [10, 11, 12]
    assert offsets(Wanted(producer=7), received(*RECORDS, stamp=other)) == []
    grouped = received(*RECORDS, stamps=[mine, other, None])
    assert offsets(Wanted(producer=7), grouped) == [10]
    assert offsets(Wanted(producer=0), grouped) == [12]
    assert offsets(Wanted(producer=8), received(*RECORDS, stamps=[mine, other, None], skip=1)) == [
        11
    ]
    assert offsets(Wanted(producer=0), received(*RECORDS)) == [10, 11, 12]


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(from_us=NOW_US + 3 * SECOND_US),
        Wanted(to_us=NOW_US),
        Wanted(producer=7),
    ],
)
def test_a_batch_that_its_header_rules_out_is_not_decoded(wanted: Wanted) -> None:
    batch = received(*RECORDS)
    broken = ReceivedBatch("s", 0, attrs.evolve(batch.batch, payload=b"?"), 0, 20, Codec())
    assert offsets(wanted, broken) == []
    with pytest.raises(BadBatch):
        offsets(Wanted(), broken)


def test_what_is_a_minute_after_the_end_is_past_it() -> None:
    batch = received(*RECORDS)
    assert not Wanted().is_past(batch)
    assert not Wanted(to_us=NOW_US - 60 * SECOND_US).is_past(batch)
    assert Wanted(to_us=NOW_US - 60 * SECOND_US - 1).is_past(batch)


def test_a_record_is_a_line() -> None:
    record = Record(b"a\nb", key=b"k k", timestamp_us=NOW_US)
    assert line(1, 12, record, None) == "1  12  2023-11-14T22:13:20.000000+00:00  k\\x20k  a\\nb"
    assert line(1, 12, record, 100) == "1        12  2023-11-14T22:13:20.000  k k  a\\nb"
    assert line(1, 12, Record(b"x"), 40) == "1  12  00:00:00  -  x"


# ------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--time", "soon"], "soon"),
        (["--time", "1h..2h"], "ends before"),
        (["--limit", "0"], "--limit"),
        (["--values", "--json"], "--values"),
    ],
)
def test_wrong_options(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(main, ["find", "s", *arguments, "--url", "tcp://127.0.0.1:1"])
    assert result.exit_code == 2
    assert named in result.stderr


def test_a_partition_that_is_not_there(scripted: Any) -> None:
    scripted.answers["stream"] = {
        "name": "s", "pipeline": "default", "dictionary_id": 0, "storage": "disk",
        "partitions": [{
            "partition": 0, "first_offset": 0, "next_offset": 0, "high_water": 0, "bytes": 0,
            "segments": 0, "state": "open", "dropped": 0,
        }],
    }  # fmt: skip
    result = scripted("find", "s", "--partition", "1", status=1)
    assert "partitions 0 to 0, not 1" in result.stderr
