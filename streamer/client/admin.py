"""What a client may ask besides producing and reading: thin calls, plain values.

The verbs, their arguments and answers are in `wire/PROTOCOL.md`; `admin` asks any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import attrs
import trio
import zstandard

from streamer import cbor
from streamer.batch import Batch, Codec, parse_placed
from streamer.client.link import Link
from streamer.client.reader import ReceivedBatch
from streamer.errors import BadRequest, RemoteProtocolError
from streamer.limits import KIB
from streamer.wire import frames
from streamer.wire.frames import Frame

__all__ = ["Admin", "PartitionInfo", "StreamInfo"]

#: Verbs whose effect is not the same twice: not sent again when the answer was lost.
_ONCE = frozenset({"dictionary_add", "group_delete", "schedule_add", "schedule_remove"})
#: Records in one training sample: dictionaries are for small batches, so samples are some.
_SAMPLE_RECORDS = 8
_SAMPLES_MIN = 8


@attrs.frozen
class PartitionInfo:
    """One partition as the daemon describes it; readers see what is below `high_water`."""

    partition: int
    first_offset: int
    next_offset: int
    high_water: int
    bytes: int
    segments: int
    state: str
    #: Records that left memory for want of room; of a stream on the disk none.
    dropped: int = 0


@attrs.frozen
class StreamInfo:
    """One stream as the daemon describes it."""

    name: str
    pipeline: str
    dictionary_id: int
    partitions: list[PartitionInfo]
    #: "disk" or "memory".
    storage: str = "disk"


class Admin:
    """The part of `Client` that asks."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._codecs: dict[str, Codec] = {}

    async def admin(self, verb: str, args: Mapping[str, Any] | None = None) -> Any:
        """Ask for `verb` with its arguments; the plain value that the daemon answers.

        Cancelled, it may still be carried out.

        Raises:
            StreamerError: what the daemon refused; `OutcomeUnknown` if the connection was lost
                meanwhile and asking twice would not be the same.
        """

        def make(request: int) -> Frame:
            return frames.Admin(request, verb, dict(args or {}))

        frame = await self._link.call(make, again=verb not in _ONCE)
        if not isinstance(frame, frames.Reply):
            raise RemoteProtocolError(f"{type(frame).__name__} frame answers an admin request")
        return frame.result

    async def streams(self) -> list[StreamInfo]:
        """All streams, by name."""
        return [_stream_info(entry) for entry in await self.admin("streams")]

    async def stream(self, name: str, *, create: bool = False) -> StreamInfo:
        """One stream; with `create`, made if it is not there and may be made by its first use.

        Raises:
            UnknownStream: there is none.
        """
        return _stream_info(await self.admin("stream", {"stream": name, "create": create}))

    async def queues(self) -> list[dict[str, Any]]:
        """Each pipeline's stages and their channels: what is in them, against their limits."""
        answer: list[dict[str, Any]] = await self.admin("queues")
        return answer

    async def peek(self, stream: str, offset: int, partition: int = 0) -> ReceivedBatch:
        """The one batch that holds an offset, whole.

        Raises:
            OffsetOutOfRange: it is not kept any more, or not there yet.
            PartitionDamaged: it cannot be read.
        """
        args = {"stream": stream, "partition": partition, "offset": offset}
        answer = await self.admin("peek", args)
        codec = self._codec(stream)
        batch: Batch = parse_placed(answer["batch"], codec.limits)
        dictionary_id = batch.header.dictionary_id
        if dictionary_id and dictionary_id not in codec.dictionaries:
            await self._fetch_dictionary(stream, dictionary_id)
        return ReceivedBatch(stream, partition, batch, 0, batch.header.next_offset, codec)

    async def producer_state(
        self, stream: str, producer_id: int
    ) -> dict[int, tuple[int, int, int]]:
        """By partition, a producer's epoch, last committed sequence, and that record's offset."""
        args = {"stream": stream, "producer_id": producer_id}
        answer = await self.admin("producer_state", args)
        return {
            int(number): (epoch, sequence, offset)
            for number, (epoch, sequence, offset) in answer.items()
        }

    async def offset_at(self, stream: str, time: datetime, partition: int = 0) -> int:
        """The offset of the first batch with a record of that time or later.

        Raises:
            BadRequest: the time has no zone.
        """
        if time.tzinfo is None:
            raise BadRequest(f"time {time.isoformat()} has no time zone")
        timestamp_us = max(0, round(time.timestamp() * 1_000_000))
        args = {"stream": stream, "partition": partition, "timestamp_us": timestamp_us}
        offset: int = (await self.admin("time", args))["offset"]
        return offset

    async def set_floor(self, stream: str, group: str, partition: int, offset: int) -> None:
        """Tell that a configured group needs nothing below `offset`, so it may be removed."""
        await self.admin(
            "floor", {"stream": stream, "group": group, "partition": partition, "offset": offset}
        )

    async def varz(self) -> dict[str, Any]:
        """The daemon's counters and gauges, as `/varz` has them."""
        answer: dict[str, Any] = await self.admin("varz")
        return answer

    # ---------------------------------------------------------------------------- dictionaries

    async def dictionary_add(self, stream: str, data: bytes) -> int:
        """Store a zstd dictionary with a stream and make it the current one; its id."""
        number: int = (await self.admin("dictionary_add", {"stream": stream, "data": data}))["id"]
        return number

    async def train_dictionary(
        self, stream: str, values: Sequence[bytes], *, dictionary_bytes: int = 16 * KIB
    ) -> int:
        """Train a zstd dictionary on values that are like the stream's, and store it; its id.

        Training runs in a thread, and takes about a second for 10 MB of values.

        Raises:
            BadRequest: too few values to learn from.
        """
        samples: list[bytes | bytearray | memoryview] = [
            cbor.dumps([list(values[at : at + _SAMPLE_RECORDS])])
            for at in range(0, len(values), _SAMPLE_RECORDS)
        ]
        if len(samples) < _SAMPLES_MIN:
            needed = _SAMPLES_MIN * _SAMPLE_RECORDS
            raise BadRequest(f"{len(values)} values, a dictionary needs at least {needed}")
        train = partial(zstandard.train_dictionary, dictionary_bytes, samples)
        try:
            dictionary = await trio.to_thread.run_sync(train)
        except zstandard.ZstdError as error:
            raise BadRequest(f"these values make no dictionary: {error}") from error
        return await self.dictionary_add(stream, dictionary.as_bytes())

    async def _current_dictionary(self, stream: str) -> int:
        """Have the stream's current dictionary at hand; its id, 0 if it has none."""
        answer = await self.admin("dictionary", {"stream": stream})
        number: int = answer["id"]
        if number:
            self._keep_dictionary(stream, number, answer["data"])
        return number

    async def _fetch_dictionary(self, stream: str, number: int) -> None:
        answer = await self.admin("dictionary_get", {"stream": stream, "id": number})
        self._keep_dictionary(stream, number, answer["data"])

    def _keep_dictionary(self, stream: str, number: int, data: bytes) -> None:
        dictionaries = self._codec(stream).dictionaries
        assert isinstance(dictionaries, dict), "the client's codecs are made with a dict"
        dictionaries.setdefault(number, data)

    def _codec(self, stream: str) -> Codec:
        """The stream's codec: dictionaries belong to a stream, so their ids do."""
        codec = self._codecs.get(stream)
        if codec is None:
            codec = self._codecs[stream] = Codec(limits=self._link.batch_limits, dictionaries={})
        return codec


def _stream_info(entry: Mapping[str, Any]) -> StreamInfo:
    # A newer daemon may tell more of a partition than we know.
    names = [field.name for field in attrs.fields(PartitionInfo)]
    return StreamInfo(
        entry["name"],
        entry["pipeline"],
        entry["dictionary_id"],
        [
            PartitionInfo(**{name: each[name] for name in names if name in each})
            for each in entry["partitions"]
        ],
        entry.get("storage", "disk"),
    )
