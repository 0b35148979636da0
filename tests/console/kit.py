"""The console's routes of a daemon over memory, asked as an ASGI server would ask them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlencode

import attrs
import trio
from starlette.applications import Starlette

from streamer.client.connect import Client
from streamer.daemon.console import console_routes, inside_of
from streamer.daemon.http import build_app
from streamer.groups.ranges import Ranges
from tests.site import Site, open_site

HOST = "127.0.0.1:4441"
#: What a browser sends with a request of our own page.
OWN = {
    "origin": f"http://{HOST}",
    "sec-fetch-site": "same-origin",
    "x-streamer-console": "1",
    "content-type": "application/json",
}


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Console:
    """A daemon, and its HTTP."""

    site: Site
    app: Starlette

    async def get(
        self, path: str, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Answer:
        return await ask(self.app, "GET", path, urlencode(query), headers or {}, b"")

    async def post(self, path: str, document: Any, headers: Mapping[str, str] = OWN) -> Answer:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return await ask(self.app, "POST", path, "", headers, body)


async def ask(
    app: Starlette, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
) -> Answer:
    """One request, and all of its answer."""
    given = {"host": HOST, "content-length": str(len(body)), **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": unquote(path), "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 4441),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(each.get("body", b"") for each in sent[1:]))


@asynccontextmanager
async def open_console(**tables: Any) -> AsyncGenerator[Console, None]:
    """Run a daemon with the tables of a configuration."""
    async with open_site(tables) as site:
        daemon = site.daemon
        # This daemon has no HTTP of its own, and so no name for it.
        routes = console_routes(attrs.evolve(inside_of(daemon), hosts=lambda: ()))
        yield Console(
            site,
            build_app(stats=daemon.stats, health=daemon.health, varz=daemon.varz, console=routes),
        )


async def bury(client: Client, stream: str, values: list[bytes], error: str = "bad") -> None:
    """Records that die in the group `g`."""
    async with client.producer(stream) as producer:
        await producer.send_batch(values)
    async with client.consumer(stream, group="g") as consumer:
        left = len(values)
        async for message in consumer.messages():
            await message.term(error)
            left -= 1
            if not left:
                break
    for _ in range(100):
        if await waiting(client, stream) >= len(values):
            return
        await trio.sleep(0.1)
    raise AssertionError("the letters did not arrive")


async def waiting(client: Client, stream: str) -> int:
    """How many dead letters of a stream are neither redriven nor purged."""
    found = await client.admin("dead", {"stream": stream})
    return sum(Ranges(each["ranges"]).count for each in found["partitions"])
