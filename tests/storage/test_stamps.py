"""Who wrote the records of a batch, as its header or its payload says."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.errors import BadBatch
from streamer.records import ProducerStamp, Record
from streamer.storage.frames import frame_at
from streamer.storage.stamps import frame_stamps


def stamps_of(kit: Any, data: bytes) -> list[Any]:
    frame = frame_at(memoryview(data), 0)
    assert frame is not None
    return list(frame_stamps(frame, memoryview(data), kit.codec))


def test_a_batch_of_one_producer(kit: Any) -> None:
    stamp = ProducerStamp(7, 2, 30)
    assert stamps_of(kit, kit.batch([b"a", b"b"], at=5, stamp=stamp).to_bytes()) == [(stamp, 2, 5)]
    assert stamps_of(kit, kit.batch([b"a"], at=5).to_bytes()) == []


def grouped(kit: Any, *stamps: ProducerStamp | None) -> bytes:
    records = [Record(b"v%d" % n) for n in range(len(stamps))]
    batch = kit.codec.encode_records(records, now_us=1, stamps=stamps)
    return bytes(batch.placed(base_offset=100, append_time_us=1, high_water=0).to_bytes())


def test_records_of_several_producers(kit: Any) -> None:
    a, b = (lambda n, e=0: ProducerStamp(1, e, n)), (lambda n: ProducerStamp(2, 0, n))
    assert stamps_of(kit, grouped(kit, a(0), a(1), b(5), None, a(2), a(3, 1), a(5, 1))) == [
        (a(0), 2, 100),
        (b(5), 1, 102),
        (a(2), 1, 104),
        (a(3, 1), 1, 105),
        (a(5, 1), 1, 106),
    ]
    assert stamps_of(kit, grouped(kit, None, a(0))) == [(a(0), 1, 101)]
    # What a record without a stamp stands between is no run.
    assert stamps_of(kit, grouped(kit, a(0), None, a(1))) == [(a(0), 1, 100), (a(1), 1, 102)]


def test_a_payload_that_does_not_decode(kit: Any) -> None:
    data = bytearray(grouped(kit, ProducerStamp(1, 0, 0)))
    data[100:] = bytes(len(data) - 100)
    with pytest.raises(BadBatch):
        stamps_of(kit, bytes(data))


def test_a_batch_above_today_s_limits_is_read(kit: Any) -> None:
    """Limits that became stricter must not make a log unreadable."""
    import attrs

    from streamer.batch import Codec
    from streamer.limits import BatchLimits

    data = grouped(kit, *(ProducerStamp(1, 0, n) for n in range(50)))
    kit.codec = Codec(limits=attrs.evolve(BatchLimits(), records=1, batch_bytes=100))
    assert stamps_of(kit, data) == [(ProducerStamp(1, 0, 0), 50, 100)]
