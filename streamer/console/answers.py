"""What the console's routes have in common: JSON that browsers read, and arguments of a query."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from streamer.console.assets import SAFE
from streamer.errors import BadRequest
from streamer.limits import OFFSET_MAX


def text_of(request: Request, name: str) -> str:
    """An argument that must be there.

    Raises:
        BadRequest: it is not.
    """
    found = request.query_params.get(name)
    if not found:
        raise BadRequest(f"{name} is missing")
    return found


def integer_of(request: Request, name: str, default: int = 0) -> int:
    """An argument as an integer from 0 on.

    Raises:
        BadRequest: it is something else.
    """
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= OFFSET_MAX):
        raise BadRequest(f"{name} is {text[:20]!r}, allowed are integers of 0 to {OFFSET_MAX}")
    return int(text)


def json_answer(body: bytes, status: int = 200) -> Response:
    headers = {"cache-control": "no-store", **SAFE}
    return Response(body, status, headers=headers, media_type="application/json")


def encoded(document: Any) -> bytes:
    """A document as JSON that a browser reads: a number that is none becomes null, bytes text."""
    dump = partial(json.dumps, default=_plain, separators=(",", ":"))
    try:
        return dump(document, allow_nan=False).encode()
    except ValueError:
        return dump(_without_nan(json.loads(dump(document)))).encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {
            "text": value.decode(errors="backslashreplace"),
            "base64": base64.b64encode(value).decode(),
        }
    return str(value)
