"""Which deliveries have keys in common, where the order of keys is kept.

Rules: asked only while handlers run on with what was lost, as it decodes what waits. A record
without a key is in nobody's way.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamer.client.delivery import Delivery
from streamer.errors import StreamerError
from streamer.groups.ranges import pairs

__all__ = ["has_key_of", "keys_of"]


def keys_of(deliveries: Iterable[Delivery]) -> set[bytes | None]:
    """The keys of what is not settled of some deliveries."""
    found: set[bytes | None] = set()
    for delivery in deliveries:
        try:
            keys = delivery.columns().keys
        except StreamerError:
            # Damaged: its handler has no keys either.
            continue
        if keys is not None:
            at = {offset: index for index, offset in enumerate(delivery.offsets)}
            for first, end in pairs(delivery.left_bounds()):
                found.update(keys[at[offset]] for offset in range(first, end))
    return found - {None}


def has_key_of(delivery: Delivery, keys: set[bytes | None]) -> bool:
    """Whether a delivery has one of `keys`; also where that cannot be known yet."""
    if not keys:
        return False
    if not delivery.readable:
        return True
    return not keys.isdisjoint(keys_of([delivery]))
