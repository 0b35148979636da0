"""What a request to redrive asks for, taken apart and bounded.

Rules: a request names letters by their offsets, or by the end that its page has seen: letters that
came later are not among them. It is carried out in portions, so that each answer comes soon.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from starlette.requests import Request

from streamer.errors import BadRequest
from streamer.groups.ranges import Ranges
from streamer.limits import OFFSET_MAX

#: Letters that one request redrives; a page that wants more asks again.
REDRIVE_MAX = 5_000


async def read_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        BadRequest: it is none, or is not said to be one.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BadRequest(f"content type {kind[:40] or 'none'!r}, allowed is application/json")
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is no JSON, allowed is a JSON object") from error
    if not isinstance(found, dict):
        raise BadRequest("the body is no object, allowed is a JSON object")
    return found


def wanted(body: dict[str, Any]) -> tuple[str, int, Ranges]:
    """The stream, the partition of its dead letters, and the offsets there that are meant.

    Raises:
        BadRequest: something else is asked for, or nothing.
    """
    unknown = sorted(set(body) - {"stream", "partition", "ranges", "end"})
    if unknown or ("ranges" in body) == ("end" in body):
        raise BadRequest(
            f"found {sorted(body)}, allowed are stream, partition, and either ranges or end"
        )
    stream, number = body.get("stream"), body.get("partition", 0)
    if not isinstance(stream, str):
        raise BadRequest("stream must be text")
    bounds = body["ranges"] if "ranges" in body else [0, body["end"]]
    if not isinstance(bounds, list):
        raise BadRequest("ranges must be an array of offsets")
    if any(type(each) is not int or not 0 <= each <= OFFSET_MAX for each in [number, *bounds]):
        raise BadRequest(f"partition and offsets must be integers of 0 to {OFFSET_MAX}")
    if len(bounds) % 2 or any(a >= b for a, b in pairwise(bounds)):
        raise BadRequest("ranges are offsets first, end, first, end, ... that ascend")
    return stream, number, Ranges(bounds)


def first_of(waiting: Ranges, wanted: Ranges) -> tuple[Ranges, int]:
    """As many of the wanted as one request redrives, and how many are left after it."""
    chosen, room, left = Ranges(), REDRIVE_MAX, 0
    for first, end in wanted:
        for begin, stop in Ranges(waiting.overlap(first, end)):
            take = min(room, stop - begin)
            if take:
                chosen.add(begin, begin + take)
            room -= take
            left += stop - begin - take
    return chosen, left
