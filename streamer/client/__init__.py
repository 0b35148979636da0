"""The client: one connection that is kept, and the producers and readers that share it.

`connect` makes a `Client`; `link` keeps its connection; `producer` takes records in, `line`
orders them within a partition and `pending` is what one request carries; `reader` brings batches
back; `admin` asks. Each imports only what stands further back.
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
