"""Values to send: JSON log lines that look like real ones, the same for the same seed.

Rules: constant or random bytes would flatter or insult compression, so lines have a clock that
runs, skewed choices, ids that rise and ids that do not. A pool of distinct lines is made once and
gone through in a circle; it is larger than any batch, so no batch holds a line twice.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

#: Distinct values of a run: above the records of a batch, small beside a run's.
POOL_RECORDS = 20_000

_LEVELS = ("info", "debug", "warn", "error")
_SERVICES = ("checkout", "search", "auth", "catalog", "mailer", "gateway")
_METHODS = ("GET", "POST", "PUT", "DELETE")
_PATHS = ("/v1/orders", "/v1/items", "/v1/session", "/health", "/v1/basket", "/v1/search")
_MESSAGES = (
    "request served", "cache miss", "retrying after timeout", "user signed in",
    "payment accepted", "connection reset by peer", "slow query", "queue drained",
)  # fmt: skip
_WORDS = (
    "alpha", "bridge", "copper", "delta", "ember", "field", "garden", "harbour", "island",
    "jasmine", "kernel", "lantern", "meadow", "north", "orchid", "pepper", "quartz", "river",
    "silver", "timber", "umbrella", "violet", "willow", "yellow", "zephyr",
)  # fmt: skip
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def log_lines(count: int, value_bytes: int, seed: int = 0) -> list[bytes]:
    """`count` JSON lines of `value_bytes` bytes each, or as near as a line can be short.

    Shorter than about 60 bytes a line loses fields; longer ones end in a trace of words.
    """
    assert count > 0
    assert value_bytes > 0
    rng = random.Random(f"bench values {seed}")
    lines = []
    now_ms = 0
    for number in range(count):
        now_ms += int(rng.expovariate(0.2))
        lines.append(_line(rng, number, now_ms, value_bytes))
    return lines


def _line(rng: random.Random, number: int, now_ms: int, value_bytes: int) -> bytes:
    moment = (_BEGIN + timedelta(milliseconds=now_ms)).isoformat(timespec="milliseconds")
    fields: dict[str, object] = {
        "t": moment[:23] + "Z",
        "lvl": rng.choices(_LEVELS, (70, 20, 8, 2))[0],
        "svc": rng.choice(_SERVICES),
        "user": rng.randrange(100_000),
        "ms": round(rng.lognormvariate(2, 1), 1),
        "msg": rng.choice(_MESSAGES),
        "path": f"{rng.choice(_METHODS)} {rng.choice(_PATHS)}/{number + 10_000}",
        "trace": f"{rng.getrandbits(64):016x}",
    }
    line = _dump(fields)
    while len(line) > value_bytes and len(fields) > 1:
        fields.popitem()
        line = _dump(fields)
    room = value_bytes - len(line) - len(',"ctx":""')
    if room > 0:
        fields["ctx"] = _prose(rng, room)
        line = _dump(fields)
    return line


def _prose(rng: random.Random, nbytes: int) -> str:
    words: list[str] = []
    length = 0
    while length < nbytes:
        words.append(rng.choice(_WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:nbytes]


def _dump(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
