"""Who wrote the records of a batch in a log: the producer table is made again from this."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.batch import FLAG_GROUPED, HEADER_BYTES, Batch, Codec, read_header
from streamer.limits import BatchLimits
from streamer.records import ProducerStamp
from streamer.storage.frames import Frame

#: Producer stamp, number of records, base offset.
Stamps = Sequence[tuple[ProducerStamp, int, int]]

#: The frames' checks have passed, so they were within the limits of when they were written.
_ANY = BatchLimits(batch_bytes=2**32, raw_bytes=2**32, records=2**32, ratio=2**32)


def frame_stamps(frame: Frame, data: memoryview, codec: Codec) -> Stamps:
    """Who wrote the records of the frame that fills `data`.

    Raises:
        BadBatch: the daemon grouped it, and its payload does not decode.
    """
    if not frame.flags & FLAG_GROUPED:
        stamp = ProducerStamp(frame.producer_id, frame.epoch, frame.sequence)
        return [(stamp, frame.count, frame.base_offset)] if frame.producer_id else []
    batch = Batch(read_header(data, _ANY), bytes(data[:HEADER_BYTES]), data[HEADER_BYTES:])
    runs: list[tuple[ProducerStamp, int, int]] = []
    following: list[int] | None = None
    for offset, found in enumerate(codec.decode(batch).producers or (), frame.base_offset):
        if found is None:
            following = None
        elif found == following:
            stamp, count, base = runs[-1]
            runs[-1] = (stamp, count + 1, base)
            following[2] += 1
        else:
            runs.append((ProducerStamp(*found), 1, offset))
            following = [found[0], found[1], found[2] + 1]
    return runs
