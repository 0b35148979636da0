"""A batch as a reader hands it out: decoded when its records are asked for."""

from __future__ import annotations

from streamer.batch import Batch, Codec, Header, records_of
from streamer.client.requests import fresh
from streamer.columns import Columns
from streamer.errors import StreamerError
from streamer.records import Record

__all__ = ["ReceivedBatch"]


class ReceivedBatch:
    """Records of a partition, as they were appended together.

    Records before the position that the reader began at have been cut off: `base_offset` and
    `count` are of what is left, `header` is of the whole batch.
    """

    __slots__ = (
        "_codec",
        "_columns",
        "_fault",
        "_skip",
        "batch",
        "high_water",
        "partition",
        "stream",
    )

    def __init__(
        self, stream: str, partition: int, batch: Batch, skip: int, high_water: int, codec: Codec
    ) -> None:
        self.stream = stream
        self.partition = partition
        self.batch = batch
        #: The partition's high-water mark when it was sent.
        self.high_water = high_water
        self._skip = skip
        self._codec = codec
        self._columns: Columns | None = None
        self._fault: StreamerError | None = None

    def __repr__(self) -> str:
        return (
            f"<ReceivedBatch {self.stream!r}/{self.partition} "
            f"offsets {self.base_offset} to {self.next_offset - 1}>"
        )

    def __len__(self) -> int:
        return self.count

    @property
    def header(self) -> Header:
        return self.batch.header

    @property
    def base_offset(self) -> int:
        """The offset of the first record."""
        return self.batch.header.base_offset + self._skip

    @property
    def count(self) -> int:
        return self.batch.header.count - self._skip

    @property
    def next_offset(self) -> int:
        return self.batch.header.next_offset

    @property
    def values(self) -> list[bytes]:
        """The values alone: the quickest way to the data. Decoded when first asked for.

        Raises:
            BadBatch: the payload is not what the header says.
        """
        values = self._decoded().values
        return values[self._skip :] if self._skip else values

    @property
    def records(self) -> list[Record]:
        """The records with everything that belongs to them, made anew at each call."""
        found = records_of(self._decoded(), self.header.base_timestamp_us)
        return found[self._skip :] if self._skip else found

    @property
    def headers(self) -> list[dict[str, bytes] | None] | None:
        """The headers of each record; None where no record of the batch has any."""
        headers = self._decoded().headers
        return headers[self._skip :] if headers is not None and self._skip else headers

    @property
    def keys(self) -> list[bytes | None] | None:
        """The key of each record; None where no record of the batch has one."""
        keys = self._decoded().keys
        return keys[self._skip :] if keys is not None and self._skip else keys

    @property
    def producers(self) -> list[int]:
        """The producer's id of each record; 0 where it has none."""
        stamps = self._decoded().producers
        if stamps is None:
            return [self.header.producer_id] * self.count
        return [0 if stamp is None else stamp[0] for stamp in stamps[self._skip :]]

    def decode(self) -> None:
        """Decode now, in this thread; what is wrong is raised when the records are asked for.

        A stream's codec is not for two threads: before a batch goes to another one, do this.
        """
        try:
            self._decoded()
        except StreamerError as error:
            self._fault = error

    def _decoded(self) -> Columns:
        if self._fault is not None:
            raise fresh(self._fault)
        if self._columns is None:
            self._columns = self._codec.decode(self.batch)
        return self._columns
