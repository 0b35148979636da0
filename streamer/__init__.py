"""streamer: a durable stream processor for Python programs with no broker to run.

    import streamer

    async with streamer.connect("ws://127.0.0.1:4440") as client:
        async with client.producer("orders") as producer:
            receipt = await producer.send(b"...", key=b"42")
        async with client.reader("orders") as reader:
            async for batch in reader:
                print(batch.base_offset, batch.values)
        async with client.consumer("orders", group="billing") as consumer:
            async for delivery in consumer:
                async with delivery:
                    handle(delivery.values)

This module holds the public names and nothing else. Where things are:

- `client`: connect, producer, reader, consumer, admin calls; `sync` is the same for programs
  without trio.
- `errors`, `records`, `batch`, `limits`: what both ends share.
- `wire` (bytes <-> frames) and `storage` (the log): synchronous, without trio, and strangers to
  each other.
- `transport`, `session`, `pipeline`, `daemon`: the shells round them, each importing only what
  stands before it.
- `testing`: for authors of plugins.

A stage of one's own imports from here too. Those names are looked up when they are first used, so
a program that only produces or consumes does not load the daemon's half.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from streamer.batch import HEADER_BYTES as HEADER_BYTES
from streamer.batch import Batch as Batch
from streamer.batch import Codec as Codec
from streamer.client.connect import Client as Client
from streamer.client.connect import connect as connect
from streamer.client.consumer import Consumer as Consumer
from streamer.client.consumer_settings import ConsumerStatistics as ConsumerStatistics
from streamer.client.dead_letters import DeadLetter as DeadLetter
from streamer.client.delivery import Delivery as Delivery
from streamer.client.groups import Delayed as Delayed
from streamer.client.groups import GroupDetails as GroupDetails
from streamer.client.groups import GroupInfo as GroupInfo
from streamer.client.groups import GroupPartition as GroupPartition
from streamer.client.groups import MemberInfo as MemberInfo
from streamer.client.groups import PartitionLag as PartitionLag
from streamer.client.groups import Schedule as Schedule
from streamer.client.message import Message as Message
from streamer.client.producer import Committed as Committed
from streamer.client.producer import Producer as Producer
from streamer.client.reader import Reader as Reader
from streamer.client.reader import ReceivedBatch as ReceivedBatch
from streamer.errors import Aborted as Aborted
from streamer.errors import BadBatch as BadBatch
from streamer.errors import BadRequest as BadRequest
from streamer.errors import ConfigError as ConfigError
from streamer.errors import ConnectionFailed as ConnectionFailed
from streamer.errors import DiskFull as DiskFull
from streamer.errors import Draining as Draining
from streamer.errors import Fenced as Fenced
from streamer.errors import GroupConflict as GroupConflict
from streamer.errors import LeaseLost as LeaseLost
from streamer.errors import NotAllowed as NotAllowed
from streamer.errors import OffsetConflict as OffsetConflict
from streamer.errors import OffsetOutOfRange as OffsetOutOfRange
from streamer.errors import OutcomeUnknown as OutcomeUnknown
from streamer.errors import OutOfSequence as OutOfSequence
from streamer.errors import PartitionDamaged as PartitionDamaged
from streamer.errors import PartitionStopped as PartitionStopped
from streamer.errors import PipelineDown as PipelineDown
from streamer.errors import ProducerUnknown as ProducerUnknown
from streamer.errors import ProtocolError as ProtocolError
from streamer.errors import Refused as Refused
from streamer.errors import StorageError as StorageError
from streamer.errors import StreamerError as StreamerError
from streamer.errors import TimedOut as TimedOut
from streamer.errors import TooLarge as TooLarge
from streamer.errors import UnknownDictionary as UnknownDictionary
from streamer.errors import UnknownGroup as UnknownGroup
from streamer.errors import UnknownPartition as UnknownPartition
from streamer.errors import UnknownSchedule as UnknownSchedule
from streamer.errors import UnknownStream as UnknownStream
from streamer.limits import BatchLimits as BatchLimits
from streamer.limits import WireLimits as WireLimits
from streamer.records import AckLevel as AckLevel
from streamer.records import Lane as Lane
from streamer.records import ProducerStamp as ProducerStamp
from streamer.records import Receipt as Receipt
from streamer.records import Record as Record
from streamer.wire.partitioner import partition_for as partition_for

if TYPE_CHECKING:
    from streamer.batch import Header as Header
    from streamer.batch import batches_of as batches_of
    from streamer.batch import parse_placed as parse_placed
    from streamer.batch import read_header as read_header
    from streamer.batch import records_of as records_of
    from streamer.pipeline.channel import Receiver as Receiver
    from streamer.pipeline.channel import Sender as Sender
    from streamer.pipeline.context import Decision as Decision
    from streamer.pipeline.context import StageContext as StageContext
    from streamer.pipeline.context import StageDetail as StageDetail
    from streamer.pipeline.deliver import DeliverContext as DeliverContext
    from streamer.pipeline.deliver import Deliverer as Deliverer
    from streamer.pipeline.deliver import DeliverPlugin as DeliverPlugin
    from streamer.pipeline.deliver import Membership as Membership
    from streamer.pipeline.deliver import Port as Port
    from streamer.pipeline.partition import Partition as Partition
    from streamer.pipeline.stage import Ack as Ack
    from streamer.pipeline.stage import Append as Append
    from streamer.pipeline.stage import Commit as Commit
    from streamer.pipeline.stage import Group as Group
    from streamer.pipeline.stage import Proposal as Proposal
    from streamer.pipeline.stage import Stage as Stage
    from streamer.pipeline.stage import StageFactory as StageFactory
    from streamer.pipeline.stage import StagePlugin as StagePlugin
    from streamer.pipeline.stage import Waiter as Waiter
    from streamer.pipeline.streams import Stream as Stream
    from streamer.settings import setting as setting
    from streamer.storage.log import WritePlan as WritePlan
    from streamer.storage.partition import Entry as Entry

__version__ = "0.1.0"

#: For authors of stages: where each name is. The same list as above, for when it runs.
_STAGE_NAMES = {
    "Ack": "pipeline.stage",
    "Append": "pipeline.stage",
    "Commit": "pipeline.stage",
    "records_of": "batch",
    "read_header": "batch",
    "parse_placed": "batch",
    "batches_of": "batch",
    "Header": "batch",
    "Deliverer": "pipeline.deliver",
    "DeliverPlugin": "pipeline.deliver",
    "DeliverContext": "pipeline.deliver",
    "Decision": "pipeline.context",
    "Port": "pipeline.deliver",
    "Membership": "pipeline.deliver",
    "Entry": "storage.partition",
    "Group": "pipeline.stage",
    "Partition": "pipeline.partition",
    "Proposal": "pipeline.stage",
    "Receiver": "pipeline.channel",
    "Sender": "pipeline.channel",
    "Stage": "pipeline.stage",
    "StageContext": "pipeline.context",
    "StageDetail": "pipeline.context",
    "StageFactory": "pipeline.stage",
    "StagePlugin": "pipeline.stage",
    "Stream": "pipeline.streams",
    "Waiter": "pipeline.stage",
    "WritePlan": "storage.log",
    "setting": "settings",
}


def __getattr__(name: str) -> Any:
    module = _STAGE_NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
