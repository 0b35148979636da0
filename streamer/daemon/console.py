"""The console's routes: the page at `/console`, and the daemon's documents as JSON at `/api`.

Rules:

- What is shown is given as callables, as to the rest of HTTP. Pollers share a document: it is made
  at most once in `FRESH_S`, however many pages are open.
- Dead letters are read by one request at a time, a bounded page each.
- One route changes something: `POST /api/redrive`, and only while the config allows actions. See
  `streamer.console.guards` for whom it believes.
- Answers are JSON with `{"error": code, "message": text}` where something was refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from streamer import addresses
from streamer.console.answers import encoded, integer_of, json_answer, text_of
from streamer.console.assets import INDEX, Asset, read_assets
from streamer.console.guards import check_host, check_own_page
from streamer.console.letters import read_page
from streamer.console.redriving import first_of, read_body, wanted
from streamer.errors import NotAllowed, PipelineDown, StreamerError
from streamer.groups.ranges import Ranges
from streamer.limits import KIB, BatchLimits
from streamer.names import DEAD
from streamer.pipeline.streams import Stream, Streams

if TYPE_CHECKING:
    from streamer.daemon.supervisor import Daemon

FRESH_S = 0.5
BODY_BYTES_MAX = 64 * KIB
_EVENTS_MAX = 500
#: To count what is dead is a question to each stream that has any.
_DEAD_FRESH_S = 2.0
#: Streams in the list of those with dead letters.
_DEAD_STREAMS_MAX = 1_000
_STATUS = {
    "bad_request": 400,
    "not_allowed": 403,
    "unknown_stream": 404,
    "unknown_partition": 404,
    "unknown_group": 404,
    "offset_out_of_range": 404,
    "draining": 503,
    "pipeline_down": 503,
    "overloaded": 503,
}

Answer = Callable[[Request], Awaitable[Any]]


@attrs.frozen
class Inside:
    """What the console may know of the daemon, and the one thing that it may ask for."""

    overview: Callable[[], Mapping[str, Any]]
    history: Callable[[], Mapping[str, Any]]
    #: after, limit -> the document `events`.
    events: Callable[[int, int], Awaitable[Mapping[str, Any]]]
    config: Callable[[], Any]
    streams: Callable[[], Streams | None]
    #: Verbs of groups, as in `streamer.session.admin`.
    ask: Callable[[str, dict[str, Any]], Awaitable[Any]]
    limits: BatchLimits
    actions: Callable[[], bool]
    #: Host names that the config listens on, and `daemon.origins`.
    hosts: Callable[[], Collection[str]]
    origins: Callable[[], Collection[str]]


def inside_of(daemon: Daemon) -> Inside:
    """What the console knows of a daemon, from before it has opened its streams."""

    async def ask(verb: str, args: dict[str, Any]) -> Any:
        if daemon.deliver is None:
            raise PipelineDown("the daemon is starting")
        return await daemon.deliver.ask(verb, args)

    async def events(after: int, limit: int) -> Mapping[str, Any]:
        return await daemon.events.after(after, limit, wait_s=0.0)

    return Inside(
        overview=daemon.inspector.overview,
        history=daemon.inspector.history,
        events=events,
        config=daemon.inspector.config,
        streams=lambda: daemon.streams,
        ask=ask,
        limits=daemon.config.batch.limits,
        actions=lambda: daemon.config.console.actions,
        hosts=lambda: (addresses.parse_host_port(daemon.config.daemon.http)[0],),
        origins=lambda: daemon.config.daemon.origins,
    )


def console_routes(inside: Inside) -> list[Route]:
    """The page, its files and the API."""
    api = _Api(inside)
    pages: dict[str, Answer] = {
        "/api/overview": api.overview,
        "/api/history": api.history,
        "/api/events": api.events,
        "/api/config": api.config,
        "/api/stream": api.stream,
        "/api/group": api.group,
        "/api/dead": api.dead,
    }
    routes = [Route(path, api.guarded(page), methods=["GET"]) for path, page in pages.items()]
    # The route's limit of the body takes the place of the application's, which is none at all.
    redrive = api.guarded(api.redrive)
    routes.append(Route("/api/redrive", redrive, methods=["POST"], max_body_size=BODY_BYTES_MAX))
    return [*routes, *_page_routes(read_assets())]


def _page_routes(assets: Mapping[str, Asset]) -> list[Route]:
    async def index(request: Request) -> Response:
        return _serve(assets[INDEX], request)

    async def file(request: Request) -> Response:
        asset = assets.get(request.path_params["name"])
        return Response(status_code=404) if asset is None else _serve(asset, request)

    async def slash(_request: Request) -> Response:
        return RedirectResponse("/console", 308)

    return [
        Route("/console", index, methods=["GET"]),
        Route("/console/", slash, methods=["GET"]),
        Route("/console/{name}", file, methods=["GET"]),
    ]


def _serve(asset: Asset, request: Request) -> Response:
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=asset.headers)
    return Response(asset.body, headers=asset.headers)


class _Shared:
    """A document that all pollers share, made again when it is older than `fresh_s`."""

    def __init__(self, make: Callable[[], Awaitable[Any]], fresh_s: float = FRESH_S) -> None:
        self._make = make
        self._fresh_s = fresh_s
        self._made_at = -fresh_s
        self._document: Any = None
        self._making = trio.Lock()

    async def get(self) -> Any:
        async with self._making:
            if trio.current_time() - self._made_at >= self._fresh_s:
                self._document = await self._make()
                self._made_at = trio.current_time()
            return self._document


class _Api:
    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._overview = _Shared(self._make_overview)
        self._history = _Shared(self._make_history)
        self._dead_streams = _Shared(self._make_dead_streams, _DEAD_FRESH_S)
        #: A few pages must not keep all reader threads from those who read streams.
        self._reading = trio.CapacityLimiter(1)
        self._changing = trio.CapacityLimiter(1)

    def guarded(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """The answer as JSON, and refusals as such; nobody's page but ours gets any."""

        async def respond(request: Request) -> Response:
            try:
                check_host(request.headers, self._inside.hosts(), self._inside.origins())
                found = await answer(request)
            except StreamerError as error:
                refusal = {"error": error.code, "message": error.message}
                return json_answer(encoded(refusal), _STATUS.get(error.code, 500))
            return found if isinstance(found, Response) else json_answer(found)

        return respond

    async def overview(self, _request: Request) -> bytes:
        found: bytes = await self._overview.get()
        return found

    async def _make_overview(self) -> bytes:
        """The document, and what the console itself has to say in each view."""
        try:
            waiting = (await self._dead_streams.get())["waiting"]
        except StreamerError:
            waiting = None
        console = {"actions": self._inside.actions(), "dead_letters": waiting}
        return encoded({**self._inside.overview(), "console": console})

    async def history(self, request: Request) -> bytes:
        after_us = integer_of(request, "after_us")
        document = await self._history.get()
        return encoded({name: _later(series, after_us) for name, series in document.items()})

    async def _make_history(self) -> Mapping[str, Any]:
        return self._inside.history()

    async def events(self, request: Request) -> bytes:
        limit = max(1, min(integer_of(request, "limit", 100), _EVENTS_MAX))
        return encoded(await self._inside.events(integer_of(request, "after"), limit))

    async def config(self, _request: Request) -> bytes:
        return encoded(self._inside.config())

    async def stream(self, request: Request) -> bytes:
        return encoded(partitions(self._get(text_of(request, "stream"))))

    async def group(self, request: Request) -> bytes:
        args = {"stream": text_of(request, "stream"), "group": text_of(request, "group")}
        return encoded(await self._inside.ask("group", args))

    # ------------------------------------------------------------------------- dead letters

    async def dead(self, request: Request) -> bytes:
        """Without `stream`: which streams have any. With it: a page of them, from `from` on."""
        if "stream" not in request.query_params:
            return encoded(await self._dead_streams.get())
        name, first = text_of(request, "stream"), integer_of(request, "from")
        number = integer_of(request, "partition")
        found = await self._inside.ask("dead", {"stream": name})
        partitions = {each["partition"]: each["ranges"] for each in found["partitions"]}
        document = {
            "stream": name,
            "dead_stream": found["stream"],
            "partition": number,
            "partitions": [
                {"partition": each, "waiting": Ranges(bounds).count, "end": max(bounds, default=0)}
                for each, bounds in partitions.items()
            ],
            "actions": self._inside.actions(),
            "letters": [], "unreadable": [], "next": None,
        }  # fmt: skip
        if partitions.get(number):
            async with self._reading:
                page = await read_page(
                    self._get(found["stream"]), number, partitions[number], first,
                    self._inside.limits,
                )  # fmt: skip
            document |= attrs.asdict(page)
        return encoded(document)

    async def _make_dead_streams(self) -> Any:
        streams = [
            stream.name.removesuffix(DEAD)
            for stream in self._streams().all()
            if stream.name.endswith(DEAD)
        ]
        found = []
        for name in streams[:_DEAD_STREAMS_MAX]:
            try:
                dead = await self._inside.ask("dead", {"stream": name})
            except StreamerError:
                # Its stream is gone, or could not be opened: `streams` says so.
                continue
            waiting = sum(Ranges(each["ranges"]).count for each in dead["partitions"])
            found.append({"stream": name, "waiting": waiting})
        return {"waiting": sum(each["waiting"] for each in found), "streams": found}

    async def redrive(self, request: Request) -> bytes:
        """Send letters of a stream to it again: those in `ranges`, or all that lie before `end`."""
        if not self._inside.actions():
            raise NotAllowed("the console is read-only, allowed with [console] actions = true")
        check_own_page(request.headers, self._inside.origins())
        stream, number, meant = wanted(await read_body(request))
        async with self._changing:
            dead = await self._inside.ask("dead", {"stream": stream})
            bounds = {each["partition"]: each["ranges"] for each in dead["partitions"]}
            chosen, left = first_of(Ranges(bounds.get(number, [])), meant)
            args = {"stream": stream, "partition": number, "ranges": chosen.bounds}
            done = await self._inside.ask("dead_redrive", args) if chosen else {"redriven": 0}
        return encoded({"redriven": done["redriven"], "left": left})

    def _streams(self) -> Streams:
        streams = self._inside.streams()
        if streams is None:
            raise PipelineDown("the daemon is starting")
        return streams

    def _get(self, name: str) -> Stream:
        return self._streams().get(name)


def partitions(stream: Stream) -> dict[str, Any]:
    """A stream with its partitions, as the verb `stream` describes them."""
    return {
        "name": stream.name,
        "storage": stream.meta.storage,
        "partitions": [
            {
                "partition": each.number,
                "first_offset": each.log.first_offset,
                "high_water": each.high_water,
                "bytes": each.log.nbytes,
                "segments": each.log.segment_count,
                "state": each.log.state.value,
                "dropped": each.log.dropped,
            }
            for each in stream.partitions
        ],
    }


def _later(series: Mapping[str, Any], after_us: int) -> dict[str, Any]:
    """What of a series of `history` is later than a time: a page has the rest."""
    at = bisect_right(series["at_us"], after_us)
    return {
        **series,
        "at_us": series["at_us"][at:],
        "series": {name: values[at:] for name, values in series["series"].items()},
    }
