"""Every error that streamer raises on purpose, in one tree.

Rules: a class says whose fault it is and whether trying again can help; `code` is the stable
name that travels in frames and in `--json` output; `fatal` says whether it ends the session; the
text is lower case and names what was found and what is allowed. Programmer errors are `assert`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class StreamerError(Exception):
    """Root of the tree.

    `detail` is a small map of plain values (numbers, strings) that goes with the text over the
    wire, for programs that want the figures and not the sentence.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    fatal: ClassVar[bool] = False

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class ConfigError(StreamerError):
    """The configuration is wrong; `faults` holds one line for each fault."""

    code = "config"

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


# ------------------------------------------------------------------ the peer and the connection


class ProtocolError(StreamerError):
    """A frame that is malformed, unknown or out of order. Always ends the session."""

    code = "protocol"
    fatal = True


class LocalProtocolError(ProtocolError):
    """You made an illegal move: nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """They made an illegal move, or sent bytes that are no frame."""


class FrameTooLarge(ProtocolError):
    code = "frame_too_large"


class UnsupportedVersion(ProtocolError):
    code = "unsupported_version"


class CreditExceeded(ProtocolError):
    """A peer sent more than it was allowed to."""

    code = "credit_exceeded"


class TooSlow(ProtocolError):
    """A peer did not read, write or greet within its deadline."""

    code = "too_slow"


class SessionsExhausted(ProtocolError):
    """The daemon holds as many sessions as it may."""

    code = "sessions_exhausted"
    retryable = True


class ConnectionFailed(StreamerError):
    """No daemon answered at the address, or the connection broke and was not made again."""

    code = "connection_failed"
    retryable = True


# -------------------------------------------------------------------------------- batch content


class BadBatch(StreamerError):
    """Bytes that are not a whole, valid batch."""

    code = "bad_batch"


class UnknownBatchVersion(BadBatch):
    code = "unknown_batch_version"


class UnknownDictionary(BadBatch):
    """The batch was compressed with a dictionary that is not at hand here."""

    code = "unknown_dictionary"


class TooLarge(BadBatch):
    """A record, batch or request above a limit."""

    code = "too_large"


# -------------------------------------------- refused appends: nothing was written, for certain


class Refused(StreamerError):
    """The request was not carried out, and that is certain."""

    code = "refused"


class BadRequest(Refused):
    code = "bad_request"


class NotAllowed(Refused):
    code = "not_allowed"


class UnknownStream(Refused):
    code = "unknown_stream"


class UnknownPartition(Refused):
    code = "unknown_partition"


class OffsetConflict(Refused):
    """Append-if: the partition's next offset is not the expected one."""

    code = "offset_conflict"


class OffsetOutOfRange(Refused):
    code = "offset_out_of_range"


class OutOfSequence(Refused):
    """A producer's sequence left a gap: something before it was not committed."""

    code = "out_of_sequence"


class Fenced(Refused):
    """A newer epoch of this producer is at work."""

    code = "fenced"


class ProducerUnknown(Refused):
    """The partition remembers nothing of this producer, yet its sequence does not start at 0."""

    code = "producer_unknown"


class UnknownGroup(Refused):
    code = "unknown_group"


class GroupConflict(Refused):
    """The group has other settings than those that were asked for."""

    code = "group_conflict"


class LeaseLost(Refused):
    """The delivery is not held: its time ran out, it was settled, or another member has it."""

    code = "lease_lost"


class UnknownSchedule(Refused):
    code = "unknown_schedule"


class Draining(Refused):
    """The daemon is going down and takes nothing new."""

    code = "draining"
    retryable = True


class DiskFull(Refused):
    """No room on the disk; reads go on, and writes resume when there is room again."""

    code = "disk_full"
    retryable = True


class Aborted(Refused):
    """An earlier write to the same partition failed, so this one was not tried."""

    code = "aborted"
    retryable = True


class Overloaded(Refused):
    """All sessions together have more under way than the daemon's budget allows."""

    code = "overloaded"
    retryable = True


class PipelineDown(Refused):
    """The pipeline that serves the stream does not run: a stage of it failed."""

    code = "pipeline_down"
    retryable = True


class TimedOut(Refused):
    """The deadline passed before the request was proposed: it was not appended."""

    code = "timed_out"
    retryable = True


class PartitionDamaged(Refused):
    """Damage in the middle of the log: no writes, reads serve what is whole.

    `detail` of a failed read has `first` and `next`: the offsets of the damaged range, `next`
    excluded.
    """

    code = "partition_damaged"


class PartitionStopped(Refused):
    """An fsync failed: nobody knows what is on disk, so the partition takes nothing more."""

    code = "partition_stopped"


class OutcomeUnknown(StreamerError):
    """It may have been appended or not; asking for the producer's last sequence tells."""

    code = "outcome_unknown"


# --------------------------------------------------------------------------------------- storage


class StorageError(StreamerError):
    """The disk or the data directory is not as it must be."""

    code = "storage"


class DirectoryLocked(StorageError):
    code = "directory_locked"


class StorageDamaged(StorageError):
    """Bytes that were durable do not pass their checks."""

    code = "storage_damaged"


def _leaves(cls: type[StreamerError]) -> list[type[StreamerError]]:
    return [cls, *(leaf for sub in cls.__subclasses__() for leaf in _leaves(sub))]


_BY_CODE: dict[str, type[StreamerError]] = {}
for _cls in reversed(_leaves(StreamerError)):
    if _cls is not ConfigError:
        _BY_CODE[_cls.code] = _cls


def from_code(code: str, message: str, detail: dict[str, Any] | None = None) -> StreamerError:
    """Build the exception that a code from the wire names; an unknown code is a plain error."""
    error = _BY_CODE.get(code, StreamerError)(message)
    error.detail = dict(detail or {})
    return error
