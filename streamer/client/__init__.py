"""The client: one connection that is kept, and the producers and readers that share it.

`connect` makes a `Client` and `admin` is its part that asks. `link` keeps the connection, `session`
is one of them, `writer` what writes to it. `producer` takes records in, as many as there is `room`
for and after its `checks`; a `line` orders them within a partition, and `pending` is what one
request carries. `reader` brings `received` batches back. `consumer` is a member of a group: a
`delivery` is what it holds, `messages` the same record by record, and `settling` says what became
of it. `groups` and `dead_letters` are for operators. `requests` is what is under way.
"""

from streamer.client.admin import PartitionInfo as PartitionInfo
from streamer.client.admin import StreamInfo as StreamInfo
from streamer.client.connect import DEFAULT_URL as DEFAULT_URL
from streamer.client.connect import Client as Client
from streamer.client.connect import connect as connect
from streamer.client.connect import open_client as open_client
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
from streamer.client.link import LinkSettings as LinkSettings
from streamer.client.message import Message as Message
from streamer.client.producer import Committed as Committed
from streamer.client.producer import Producer as Producer
from streamer.client.reader import Reader as Reader
from streamer.client.reader import ReceivedBatch as ReceivedBatch
