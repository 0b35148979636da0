"""Admin requests: a verb with arguments, a plain value back. `PROTOCOL.md` lists them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from streamer.batch import HEADER_BYTES, check_dictionary, read_header
from streamer.errors import BadRequest, OffsetOutOfRange, StreamerError, UnknownDictionary
from streamer.names import OWN_PREFIX
from streamer.pipeline.streams import Stream
from streamer.session import inspection
from streamer.session.gaps import gaps
from streamer.session.service import Service
from streamer.wire import frames

Args = dict[str, Any]


async def answer_admin(service: Service, frame: frames.Admin) -> frames.Reply:
    """Carry out an admin request.

    Raises:
        BadRequest: an unknown verb, or arguments that are not the verb's.
        StreamerError: what the verb itself refuses.
    """
    known = _VERBS.get(frame.verb)
    if known is None:
        raise BadRequest(f"unknown admin verb {frame.verb[:40]!r}, known are {sorted(_VERBS)}")
    handler, signature = known
    args = frame.args
    for name, (kind, default) in signature.items():
        value = args.setdefault(name, None if default is _MAYBE else default)
        if value is None and default is _MAYBE:
            continue
        negative = type(value) is int and not 0 <= value < 1 << 63
        if type(value) is not kind or negative:
            raise BadRequest(f"{frame.verb}: argument {name} must be {_KINDS[kind]}")
    unknown = set(args) - set(signature)
    if unknown:
        raise BadRequest(
            f"{frame.verb}: takes {sorted(signature)}, not {sorted(map(str, unknown))}"
        )
    return frames.Reply(frame.request, await handler(service, args))


_KINDS = {
    int: "an integer from 0 on",
    str: "text",
    bytes: "bytes",
    bool: "true or false",
    dict: "a map",
    list: "an array",
}
_Handler = Callable[[Service, Args], Awaitable[Any]]
#: An argument that may be absent, where absence is not a value of its type.
_MAYBE = object()


def describe(service: Service, stream: Stream) -> dict[str, Any]:
    """One stream as plain values."""
    return {
        "name": stream.name,
        "dictionary_id": stream.meta.dictionary_id,
        "pipeline": service.pipeline_name(stream.name),
        "storage": stream.meta.storage,
        "partitions": [
            {
                "partition": partition.number,
                "first_offset": partition.log.first_offset,
                "next_offset": partition.log.next_offset,
                "high_water": partition.high_water,
                "bytes": partition.log.nbytes,
                "segments": partition.log.segment_count,
                "state": partition.log.state.value,
                "dropped": partition.log.dropped,
            }
            for partition in stream.partitions
        ],
    }


async def _streams(service: Service, args: Args) -> Any:
    return [
        describe(service, stream)
        for stream in service.streams.all()
        if args["own"] or not stream.name.startswith(OWN_PREFIX)
    ]


async def _stream(service: Service, args: Args) -> Any:
    if args["create"]:
        service.pipeline(args["stream"])
        return describe(service, await service.streams.ensure(args["stream"]))
    return describe(service, service.streams.get(args["stream"]))


async def _queues(service: Service, _: Args) -> Any:
    return [
        {
            "pipeline": pipeline.name,
            "state": pipeline.state.value,
            "stages": [
                {
                    "stage": view.stage,
                    "place": view.place,
                    "channel": attrs.asdict(view.channel),
                }
                for view in pipeline.views()
            ],
        }
        for pipeline in service.pipelines
    ]


async def _peek(service: Service, args: Args) -> Any:
    partition = service.streams.get(args["stream"]).partition(args["partition"])
    offset = args["offset"]
    result = await partition.read(offset, 1)
    if result is None:
        raise OffsetOutOfRange(
            f"offset {offset} is not there yet, the partition ends at {partition.high_water}",
            first_offset=partition.log.first_offset,
            high_water=partition.high_water,
        )
    header = read_header(result.blob, service.batch_limits)
    assert header.length >= HEADER_BYTES
    return {"offset": offset, "batch": result.blob[: header.length]}


async def _producer_open(service: Service, args: Args) -> Any:
    service.pipeline(args["stream"])
    stream = await service.streams.ensure(args["stream"])
    fresh = secrets.randbits(63) | 1
    producer_id, epoch = await service.streams.open_producer(stream, args["name"], fresh)
    # Nothing of an older epoch is proposed from here on; what was is yet to be committed or not.
    for partition in stream.partitions:
        await partition.settled()
    return {
        "producer_id": producer_id,
        "epoch": epoch,
        "sequences": {
            number: [last[1], last[2]] for number, last in _last(stream, producer_id).items()
        },
    }


async def _producer_state(service: Service, args: Args) -> Any:
    stream = service.streams.get(args["stream"])
    return {number: list(last) for number, last in _last(stream, args["producer_id"]).items()}


def _last(stream: Stream, producer_id: int) -> dict[str, tuple[int, int, int]]:
    """What each partition has committed of a producer: (epoch, last sequence, its offset)."""
    found = {
        str(partition.number): partition.log.producers.last(producer_id)
        for partition in stream.partitions
    }
    return {number: last for number, last in found.items() if last is not None}


async def _dictionary(service: Service, args: Args) -> Any:
    stream = service.streams.get(args["stream"])
    number = stream.meta.dictionary_id
    return {"id": number, "data": stream.dictionaries.get(number, b"")}


async def _dictionary_get(service: Service, args: Args) -> Any:
    stream = service.streams.get(args["stream"])
    data = stream.dictionaries.get(args["id"])
    if data is None:
        known = sorted(stream.dictionaries) or "none"
        raise UnknownDictionary(f"dictionary {args['id']}, stream has {known}")
    return {"id": args["id"], "data": data}


async def _dictionary_add(service: Service, args: Args) -> Any:
    stream = service.streams.get(args["stream"])
    check_dictionary(args["data"])
    return {"id": await service.streams.add_dictionary(stream, args["data"])}


async def _floor(service: Service, args: Args) -> Any:
    stream = service.streams.get(args["stream"])
    await service.streams.set_floor(stream, args["group"], args["partition"], args["offset"])
    return {}


async def _time(service: Service, args: Args) -> Any:
    partition = service.streams.get(args["stream"]).partition(args["partition"])
    return {"offset": await service.streams.offset_at(partition, args["timestamp_us"])}


async def _varz(service: Service, _: Args) -> Any:
    return service.varz()


def _asks(verb: str) -> _Handler:
    """A verb that the deliver stage answers."""

    async def ask(service: Service, args: Args) -> Any:
        return await service.deliver.ask(verb, args)

    return ask


def _looks(handler: Callable[..., Awaitable[Any]]) -> _Handler:
    """A verb of `inspection`."""

    async def look(service: Service, args: Args) -> Any:
        return await handler(service.inspected, args)

    return look


_Signature = dict[str, tuple[type, Any]]
_STREAM: _Signature = {"stream": (str, None)}
_PARTITION: _Signature = {**_STREAM, "partition": (int, 0)}

_GROUP: _Signature = {**_STREAM, "group": (str, None)}
_OF_GROUPS: dict[str, _Signature] = {
    "groups": {},
    "group": _GROUP,
    "group_create": {**_GROUP, "settings": (dict, None)},
    "group_edit": {**_GROUP, "settings": (dict, None)},
    "group_pause": _GROUP,
    "group_resume": _GROUP,
    "group_delete": _GROUP,
    "group_seek": {
        **_GROUP,
        "start": (int, None),
        "value": (int, 0),
        "all": (bool, True),
        "partition": (int, 0),
    },
    "lag": {"stream": (str, "")},
    "group_holes": {**_GROUP, "partition": (int, 0), "offset": (int, 0)},
    "dead": _STREAM,
    "dead_redrive": {**_PARTITION, "ranges": (list, None)},
    "dead_purge": {**_PARTITION, "ranges": (list, None)},
    "delayed": _STREAM,
    "schedules": {},
    "schedule_add": {
        "name": (str, None),
        "stream": (str, None),
        "cron": (str, None),
        "zone": (str, "UTC"),
        "value": (bytes, None),
        "key": (bytes, _MAYBE),
        "headers": (dict, {}),
        "replace": (bool, False),
    },
    "schedule_remove": {"name": (str, None)},
}

#: verb -> (handler, {argument: (type, default)}); a default of None makes it required.
_VERBS: dict[str, tuple[_Handler, _Signature]] = {
    "streams": (_streams, {"own": (bool, False)}),
    "stream": (_stream, {**_STREAM, "create": (bool, False)}),
    "queues": (_queues, {}),
    "peek": (_peek, {**_PARTITION, "offset": (int, None)}),
    "producer_open": (_producer_open, {**_STREAM, "name": (str, None)}),
    "producer_state": (_producer_state, {**_STREAM, "producer_id": (int, None)}),
    "dictionary": (_dictionary, _STREAM),
    "dictionary_get": (_dictionary_get, {**_STREAM, "id": (int, None)}),
    "dictionary_add": (_dictionary_add, {**_STREAM, "data": (bytes, None)}),
    "floor": (_floor, {**_PARTITION, "group": (str, None), "offset": (int, None)}),
    "time": (_time, {**_PARTITION, "timestamp_us": (int, None)}),
    "gaps": (
        gaps,
        {
            **_PARTITION,
            "offset": (int, 0),
            "last_us": (int, _MAYBE),
            "silence_us": (int, 0),
            "check": (bool, False),
        },
    ),
    "varz": (_varz, {}),
    **{verb: (_looks(look), signature) for verb, (look, signature) in inspection.VERBS.items()},
    **{verb: (_asks(verb), signature) for verb, signature in _OF_GROUPS.items()},
}
VERBS = tuple(_VERBS)
VERBS_OF_GROUPS = tuple(_OF_GROUPS)
#: Those whose reply may be as large as a frame. Not those that may wait long: events, tap, traces.
LARGE_REPLIES = frozenset(
    {
        "streams", "stream", "queues", "peek", "dictionary", "dictionary_get", "gaps", "varz",
        "groups", "group", "group_holes", "lag", "dead", "schedules", "overview", "history",
        "sessions", "config",
    }
)  # fmt: skip
__all__ = ["LARGE_REPLIES", "VERBS", "VERBS_OF_GROUPS", "StreamerError", "answer_admin", "describe"]
