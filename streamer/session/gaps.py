"""The verb `gaps`: a piece of a partition, looked over for what is missing.

Rules:

- A request is one bounded piece: in a thread that reads, never in a writer's, and answered after a
  pause in which the loop has the interpreter to itself. Who wants the whole log asks again and
  again, so that it costs nothing once he is gone.
- Damage that is found is noted as if a reader had run into it.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio

from streamer.errors import OffsetOutOfRange, PartitionDamaged
from streamer.pipeline.partition import Partition
from streamer.session.service import Service
from streamer.storage.survey import Piece, Question

#: How much longer than a piece the pause after it is: a piece holds the interpreter.
_PAUSE = 3.0
#: Before retention has taken note of what it has just removed.
_REMOVED_S = 0.05
#: Damage that is known already, of which more is not told.
_KNOWN_MAX = 256


async def gaps(service: Service, args: dict[str, Any]) -> dict[str, Any]:
    """Look over the piece from `offset` on; see `PROTOCOL.md`.

    Raises:
        UnknownStream, UnknownPartition: there is none.
        OffsetOutOfRange: the offset is above what was written.
        StorageError: the disk is at fault.
    """
    partition = service.streams.get(args["stream"]).partition(args["partition"])
    first = partition.log.first_offset
    began = trio.current_time()
    question = Question(args["offset"], args["last_us"], args["silence_us"], args["check"])
    if question.offset < first:
        # What was before it is gone: that is told by `first_offset`, and is no silence.
        question = attrs.evolve(question, offset=first, last_us=None)
    piece = await _piece(partition, question)
    for error in piece.damage:
        partition.note_damage(error)
    await trio.sleep(_PAUSE * (trio.current_time() - began))
    return _answer(partition, piece)


async def _piece(partition: Partition, question: Question) -> Piece:
    plan = partition.log.plan_survey(question)
    if plan is None:
        return Piece.begun(question)
    try:
        return await partition.run(plan.run)
    except OffsetOutOfRange:
        # Removed between the plan and its run. Whoever asks again finds what is left.
        await trio.sleep(_REMOVED_S)
        return Piece.begun(question)


def _answer(partition: Partition, piece: Piece) -> dict[str, Any]:
    log = partition.log
    return {
        "first_offset": log.first_offset,
        "high_water": log.high_water,
        "dropped": log.dropped,
        "state": log.state.value,
        "next": None if piece.offset >= log.high_water else piece.offset,
        "last_us": piece.last_us,
        "batches": piece.batches,
        "records": piece.records,
        "bytes": piece.nbytes,
        "damage": [_damage(error) for error in piece.damage],
        "silences": [attrs.asdict(silence) for silence in piece.silences],
        "known": [
            {"first": each.first_offset, "next": each.next_offset, "reason": each.reason}
            for each in log.damage[:_KNOWN_MAX]
        ],
    }


def _damage(error: PartitionDamaged) -> dict[str, Any]:
    return {"first": error.detail["first"], "next": error.detail["next"], "reason": error.message}
