"""Hard bounds, in one place, each with its reason.

Settings choose within these; nothing in the program works without a bound from here.
"""

from __future__ import annotations

import attrs

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

#: A stream's name is part of a path and of metric labels.
STREAM_NAME_CHARS_MAX = 200
#: A partition costs index entries and an open file while it is written to.
PARTITIONS_MAX = 4096
#: Dictionaries of one stream; all of them are kept in memory, as each may be in use.
DICTIONARIES_MAX = 100
#: Room for a partition's offset in every signed 64-bit integer of other languages.
OFFSET_MAX = 2**63 - 1
#: A CBOR envelope of ours is at most five deep; the rest is somebody's attack.
CBOR_DEPTH_MAX = 16


@attrs.frozen
class BatchLimits:
    """What a batch may be; checked from its header before any work is done on it."""

    #: One frame, one gathered write, one allocation at each hop.
    batch_bytes: int = 1 * MIB
    #: Decompressed size: what a reader must hold in memory at once.
    raw_bytes: int = 16 * MIB
    records: int = 65_536
    #: zstd reaches about 20 on logs; constant bytes go above 1,000 and are no data.
    ratio: int = 1_000
    value_bytes: int = 1 * MIB
    key_bytes: int = 64 * KIB
    headers_bytes: int = 64 * KIB
    headers: int = 64


@attrs.frozen
class WireLimits:
    """What a session may ask of the daemon; told to the client in `hello`."""

    frame_bytes: int = 1 * MIB + 64 * KIB
    #: Requests that may be under way at once in one session.
    requests: int = 1024
    #: Bytes of requests under way at once in one session.
    window_bytes: int = 4 * MIB
    subscriptions: int = 100
    #: Traces a second that a traceparent may ask for; 0 where the daemon takes no `Trace` frames.
    traces: int = 0
