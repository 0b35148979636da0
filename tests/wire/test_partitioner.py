"""The key partitioner: within range, and even. What it gives for which key is in PROTOCOL.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.wire.partitioner import partition_for


@given(st.binary(max_size=100), st.integers(1, 4096))
def test_it_is_the_checksum_spread_over_the_partitions(key: bytes, partitions: int) -> None:
    found = partition_for(key, partitions)
    assert 0 <= found < partitions
    mixed = crc32c.crc32c(key) * 2654435761 % 2**32
    assert found == mixed * partitions // 2**32


def test_a_stream_without_partitions_is_a_programmers_error() -> None:
    with pytest.raises(AssertionError):
        partition_for(b"key", 0)


@pytest.mark.parametrize("partitions", [2, 3, 7, 8, 12, 64])
@pytest.mark.parametrize(
    "key_of",
    [
        pytest.param(lambda n: b"%d" % n, id="decimal"),
        pytest.param(lambda n: n.to_bytes(8, "big"), id="big-endian"),
        pytest.param(lambda n: n.to_bytes(8, "little"), id="little-endian"),
        pytest.param(lambda n: b"customer-%08d" % n, id="padded"),
        pytest.param(lambda n: b"user%d@example.org" % n, id="address"),
    ],
)
def test_keys_of_usual_forms_spread_evenly(partitions: int, key_of: Callable[[int], bytes]) -> None:
    """With 2,000 keys to each partition none is more than an eighth above or below its share."""
    number = partitions * 2000
    loads = Counter(partition_for(key_of(n), partitions) for n in range(number))
    assert len(loads) == partitions
    assert max(loads.values()) < 2000 * 9 / 8
    assert min(loads.values()) > 2000 * 7 / 8


def test_few_keys_of_one_form_spread_too() -> None:
    """CRC-32C alone gave the largest of these 1.7 times its share, and the smallest 0.06."""
    loads = Counter(partition_for(b"user%d@example.org" % n, 31) for n in range(31 * 50))
    assert max(loads.values()) < 50 * 1.6
    assert min(loads.values()) > 50 * 0.5
