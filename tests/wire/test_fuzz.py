"""The invariant: whatever the bytes, a decoder gives a value or raises one of our errors.

And its memory does not grow. The quick form runs with the suite; the long form is a command:

    STREAMER_FUZZ_COUNT=10000000 pytest tests/wire/test_fuzz.py --log-cli-level=INFO

`STREAMER_FUZZ_SEED` starts elsewhere; a failure names the bytes, which is all that it takes.
"""

from __future__ import annotations

import logging
import os
import random
import re
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import crc32c
import psutil
import pytest

from streamer.batch import HEADER_BYTES, Codec, parse, parse_placed
from streamer.errors import BadBatch, ProtocolError
from streamer.limits import KIB, MIB, BatchLimits
from streamer.wire import frames
from streamer.wire.framing import LengthPrefixed
from streamer.wire.machine import Connection, Role, State

COUNT = int(os.environ.get("STREAMER_FUZZ_COUNT", "30000"))
SEED = int(os.environ.get("STREAMER_FUZZ_SEED", "1"))
GROWTH_BYTES_MAX = 64 * MIB
LIMITS = BatchLimits()
PAGE = (Path(frames.__file__).parent / "PROTOCOL.md").read_text(encoding="utf-8")

LOG = logging.getLogger(__name__)

#: Heads of CBOR items of every kind, and numbers at the edges of their forms.
HEADS = [bytes([n]) for n in range(0, 256, 5)] + [
    head + tail
    for head in (b"\x1b", b"\x3b", b"\x5b", b"\x7b", b"\x9b", b"\xbb", b"\xdb")
    for tail in (b"\x00" * 8, b"\x00" * 7 + b"\x01", b"\x7f" + b"\xff" * 7, b"\xff" * 8)
]
HEADS += [
    b"\x9a\xff\xff\xff\xff",
    b"\xba\x00\xff\xff\xff",
    b"\x81" * 20,
    b"\xd8\x1c",
    b"\xf9\x7e\0",
]


def corpus(name: str) -> list[bytes]:
    found = re.search(rf"<!-- vectors: {name} -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert found
    entries = re.findall(r'"hex": "([0-9a-f]+)"[,}]', found[1])
    assert entries
    return [bytes.fromhex(entry) for entry in entries]


def mutated(rng: random.Random, inputs: list[bytes]) -> bytes:
    """One of the inputs after a few changes, each of a random kind."""
    data = bytearray(rng.choice(inputs))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            data[at : at + len(rng.choice(HEADS))] = rng.choice(HEADS)
        elif kind == 3:
            data[at:at] = rng.choice(HEADS)
        elif kind == 4:
            del data[at : at + rng.randrange(1, 9)]
        elif kind == 5:
            data[at:at] = data[at // 2 : at]
        elif kind == 6:
            other = rng.choice(inputs)
            data[at:] = other[rng.randrange(len(other)) :]
        else:
            data += rng.randbytes(rng.randrange(9))
    return bytes(data)


FRAMES = corpus("frames")
BATCHES = corpus("batches") + corpus("compressed")
CODEC = Codec()


def try_frame(rng: random.Random) -> str:
    """As a session takes it: any state, either side."""
    data = mutated(rng, FRAMES)
    connection = Connection(rng.choice((Role.CLIENT, Role.SERVER)), 64 * KIB)
    connection.state = rng.choice((State.GREETING, State.OPEN, State.OPEN, State.LEAVING))
    try:
        frame = connection.receive(data)
    except ProtocolError as error:
        assert connection.state is State.ERROR
        return error.code
    once = frames.encode(frame)
    assert frames.encode(frames.decode(once)) == once
    return "ok"


def try_stream(rng: random.Random) -> str:
    """As a raw transport takes it: cut anywhere."""
    stream = b"".join(LengthPrefixed.prefixed(rng.choice(FRAMES)) for _ in range(3))
    stream = mutated(rng, [stream])
    framing = LengthPrefixed(64 * KIB)
    cut = rng.randrange(1, 200)
    try:
        for at in range(0, len(stream), cut):
            for data in framing.feed(stream[at : at + cut]):
                frames.decode(data)
    except ProtocolError as error:
        return error.code
    return "ok"


def try_batch(rng: random.Random) -> str:
    """As a daemon takes it, its checksum repaired three times in four so that what is behind it
    is reached."""
    data = bytearray(mutated(rng, BATCHES))
    if len(data) >= HEADER_BYTES and rng.randrange(4):
        data[0:4] = b"\xabSB\x01"
        struct.pack_into("<I", data, 4, len(data))
        crc = crc32c.crc32c(bytes(data[96:]), crc32c.crc32c(bytes(data[12:64])))
        struct.pack_into("<I", data, 8, crc)
        struct.pack_into("<I", data, 92, crc32c.crc32c(bytes(data[:92])))
    read = rng.choice((parse, parse_placed))
    try:
        batch = read(bytes(data), LIMITS)
        records = CODEC.records(batch)
    except BadBatch as error:
        return error.code
    assert len(records) == batch.count
    return "ok"


def try_payload(rng: random.Random) -> str:
    """Compressed anew after the change, so that the decoder of columns is reached every time."""
    data = mutated(rng, BATCHES)[HEADER_BYTES:] or b"\x81"
    header = bytearray(BATCHES[0][:HEADER_BYTES])
    struct.pack_into("<I", header, 4, HEADER_BYTES + len(data))
    struct.pack_into("<HHII", header, 12, rng.choice((0, 0x10)), 0, rng.randrange(1, 4), len(data))
    struct.pack_into("<q", header, 32, 2**62)
    crc = crc32c.crc32c(data, crc32c.crc32c(bytes(header[12:64])))
    struct.pack_into("<I", header, 8, crc)
    struct.pack_into("<I", header, 92, crc32c.crc32c(bytes(header[:92])))
    try:
        CODEC.records(parse_placed(bytes(header) + data, LIMITS))
    except BadBatch as error:
        return error.code
    return "ok"


@pytest.mark.parametrize("target", [try_frame, try_stream, try_batch, try_payload])
def test_only_our_errors(target: Callable[[random.Random], str]) -> None:
    rng = random.Random(f"{SEED} {target.__name__}")
    seen: Counter[str] = Counter()
    process = psutil.Process()
    count = COUNT if target is try_frame else COUNT // 3
    before = 0
    for number in range(count):
        if number == count // 10:
            # By now everything that is kept for good has been made.
            before = process.memory_info().rss
        seen[target(rng)] += 1
    growth = process.memory_info().rss - before
    LOG.info(
        "%s: %s inputs, %s, grew by %.1f MiB", target.__name__, count, dict(seen), growth / MIB
    )
    assert growth < GROWTH_BYTES_MAX
    # The test is void if everything is refused at the door, or nothing is refused.
    assert seen["ok"] > count // 200
    assert seen["ok"] < count * 9 // 10
