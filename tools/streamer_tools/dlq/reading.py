"""Finding the dead letters that are meant.

Rules: letters are gone through one by one, in the order of their partitions; whoever wants them
all keeps their offsets and not their values, so a million of them fit.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from streamer_tools.dlq.filters import Filters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamer.client import Client, DeadLetter


@asynccontextmanager
async def matching(
    client: Client, stream: str, filters: Filters
) -> AsyncGenerator[AsyncIterator[DeadLetter], None]:
    """The letters of STREAM that `filters` lets through, an async iterator inside the block.

    Raises:
        UnknownStream: there is no such stream.
    """
    now_us = time.time_ns() // 1000
    async with (
        client.dead_letters(stream) as letters,
        aclosing(_some(letters, filters, now_us)) as found,
    ):
        yield found


async def _some(
    letters: AsyncIterator[DeadLetter], filters: Filters, now_us: int
) -> AsyncGenerator[DeadLetter, None]:
    left = filters.count
    if left == 0:
        return
    async for letter in letters:
        if not filters.match(letter, now_us):
            continue
        yield letter
        if left is not None:
            left -= 1
            if not left:
                return
