"""The client: one connection that is kept, and the producers and readers that share it.

`connect` makes a `Client` and `admin` is its part that asks. `link` keeps the connection, `session`
is one of them, `writer` what writes to it. `producer` takes records in, as many as there is `room`
for and after its `checks`; a `line` orders them within a partition, and `pending` is what one
request carries. `reader` brings `received` batches back. `requests` is what is under way.
"""

from streamer.client.admin import PartitionInfo as PartitionInfo
from streamer.client.admin import StreamInfo as StreamInfo
from streamer.client.connect import DEFAULT_URL as DEFAULT_URL
from streamer.client.connect import Client as Client
from streamer.client.connect import connect as connect
from streamer.client.connect import open_client as open_client
from streamer.client.link import LinkSettings as LinkSettings
from streamer.client.producer import Committed as Committed
from streamer.client.producer import Producer as Producer
from streamer.client.reader import Reader as Reader
from streamer.client.reader import ReceivedBatch as ReceivedBatch
