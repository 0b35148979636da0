"""Admin requests about groups, dead letters, delays and schedules. `PROTOCOL.md` lists them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamer import BadRequest, StreamerError, UnknownStream
from streamer.groups.group import Member
from streamer.groups.ledger import Ledger
from streamer.groups.ordered import OrderedLedger
from streamer.groups.settings import GroupSettings
from streamer.names import DEAD, DELAYED
from streamer_plugins.deliver.holes import holes
from streamer_plugins.deliver.letterbox import Letterbox
from streamer_plugins.deliver.pump import Pump
from streamer_plugins.deliver.source import Source

if TYPE_CHECKING:
    from streamer_plugins.deliver.groups import Deliver

Args = dict[str, Any]


async def answer(deliver: Deliver, verb: str, args: Args) -> Any:
    """Carry out a verb; its arguments have been checked for their types."""
    return await _VERBS[verb](deliver, args)


# --------------------------------------------------------------------------------- looking


async def _groups(deliver: Deliver, _: Args) -> Any:
    found: list[dict[str, Any]] = []
    # One may be deleted while another is looked at.
    for name in sorted(deliver.pumps):
        pump = deliver.pumps.get(name)
        if pump is not None:
            found.append(await _summary(deliver, pump))
    return found


async def _summary(deliver: Deliver, pump: Pump) -> dict[str, Any]:
    group, counts = pump.group, pump.group.counts
    places = await _places(deliver, pump)
    ages = [place["oldest_age_s"] for place in places if place["oldest_age_s"] is not None]
    return {
        "stream": group.stream,
        "group": group.name,
        "mode": group.settings.mode,
        "order": group.settings.order,
        "paused": group.paused,
        "members": len(group.members),
        "partitions": len(group.ledgers),
        "lag": sum(place["lag"] for place in places),
        "oldest_age_s": max(ages, default=None),
        "in_flight": sum(place["in_flight"] for place in places),
        "retrying": sum(place["retrying"] for place in places),
        "acked": counts.acked,
        "redelivered": counts.redelivered,
        "dead": counts.dead,
    }


async def _places(deliver: Deliver, pump: Pump) -> list[dict[str, Any]]:
    found = []
    pairs = zip(pump.group.ledgers, pump.stream.partitions, pump.lags(), strict=True)
    for ledger, partition, lag in list(pairs):
        owner = ledger.owner if isinstance(ledger, OrderedLedger) else None
        fault = pump.faults.get(ledger.number)
        found.append(
            {
                "partition": ledger.number,
                "cursor": ledger.cursor,
                "high_water": partition.high_water,
                "lag": lag,
                "oldest_age_s": await _age(deliver, pump, ledger) if lag else None,
                "in_flight": ledger.in_flight,
                "retrying": ledger.retrying,
                "done_ranges": len(ledger.done),
                "owner": None if owner is None else owner.number,
                "fault": None if fault is None else fault[0].message,
            }
        )
    return found


async def _age(deliver: Deliver, pump: Pump, ledger: Ledger) -> float | None:
    """How long the oldest record that is not done is in the log, in seconds."""
    partition = pump.stream.partitions[ledger.number]
    offset = max(ledger.cursor, partition.log.first_offset)
    known = pump.oldest.get(ledger.number)
    if known is None or known[0] != offset:
        source = Source(partition, deliver.context.limits)
        try:
            piece = await source.piece_at(offset)
        except StreamerError:
            return None
        if piece is None:
            return None
        known = pump.oldest[ledger.number] = (offset, piece.header.append_time_us)
    age_us = deliver.context.now_us() - known[1]
    return round(max(0, age_us) / 1_000_000, 3)


async def _group(deliver: Deliver, args: Args) -> Any:
    pump = deliver.pump(args["stream"], args["group"])
    return {
        **await _summary(deliver, pump),
        "settings": pump.group.settings.to_plain(),
        "member_list": [_member(pump, member) for member in pump.group.members.values()],
        "partition_list": await _places(deliver, pump),
    }


def glance(pump: Pump) -> dict[str, Any]:
    """A group without what would have to be read: for `/varz`."""
    group, ledgers = pump.group, pump.group.ledgers
    return {
        "stream": group.stream,
        "group": group.name,
        "paused": group.paused,
        "lag": sum(pump.lags()),
        "in_flight": sum(ledger.in_flight for ledger in ledgers),
        "retrying": sum(ledger.retrying for ledger in ledgers),
        **attrs.asdict(group.counts),
        "members": [_member(pump, member) for member in group.members.values()],
    }


def _member(pump: Pump, member: Member) -> dict[str, Any]:
    now = trio.current_time()
    # They stand in the order in which they were handed out.
    oldest = next(iter(member.leases.values()), None)
    return {
        "member": member.number,
        "name": member.name,
        "peer": member.peer,
        "in_flight": member.in_flight,
        "in_flight_bytes": member.in_flight_bytes,
        "oldest_s": None if oldest is None else round(now - oldest.handed_at, 3),
        "max_in_flight": member.records_max,
        "partitions": [
            ledger.number
            for ledger in pump.group.ledgers
            if isinstance(ledger, OrderedLedger) and ledger.owner is member
        ],
    }


async def _lag(deliver: Deliver, args: Args) -> Any:
    if args["stream"]:
        deliver.context.streams.get(args["stream"])
    found = []
    for (stream, name), pump in sorted(deliver.pumps.items()):
        if args["stream"] in ("", stream):
            for place in await _places(deliver, pump):
                found.append(
                    {"stream": stream, "group": name, **{key: place[key] for key in _LAG_KEYS}}
                )
    return found


_LAG_KEYS = (
    "partition",
    "cursor",
    "high_water",
    "lag",
    "oldest_age_s",
    "in_flight",
    "retrying",
)


async def _holes(deliver: Deliver, args: Args) -> Any:
    pump = deliver.pump(args["stream"], args["group"])
    partition = pump.stream.partition(args["partition"])
    ledger = pump.group.ledgers[partition.number]
    return holes(ledger, partition.high_water, args["offset"])


# -------------------------------------------------------------------------------- changing


async def _group_create(deliver: Deliver, args: Args) -> Any:
    settings = args["settings"]
    pump = await deliver.make_group(args["stream"], args["group"], GroupSettings.of(settings))
    pump.group.settings.check_same(settings)
    return {}


async def _group_edit(deliver: Deliver, args: Args) -> Any:
    pump = deliver.pump(args["stream"], args["group"])
    pump.group.settings = pump.group.settings.edited(args["settings"])
    deliver.changed_settings(pump)
    await deliver.journal.durable()
    return {}


async def _pause(deliver: Deliver, args: Args) -> Any:
    return await _set_paused(deliver, args, True)


async def _resume(deliver: Deliver, args: Args) -> Any:
    return await _set_paused(deliver, args, False)


async def _set_paused(deliver: Deliver, args: Args, paused: bool) -> Any:
    pump = deliver.pump(args["stream"], args["group"])
    pump.group.paused = paused
    deliver.changed_settings(pump)
    await deliver.journal.durable()
    return {}


async def _delete(deliver: Deliver, args: Args) -> Any:
    await deliver.delete_group(deliver.pump(args["stream"], args["group"]))
    return {}


async def _seek(deliver: Deliver, args: Args) -> Any:
    pump = deliver.pump(args["stream"], args["group"])
    partitions = pump.stream.partitions
    chosen = partitions if args["all"] else [pump.stream.partition(args["partition"])]
    offsets = {
        partition.number: await deliver.context.streams.position(
            partition, args["start"], args["value"], partition.high_water
        )
        for partition in chosen
    }
    await deliver.seek(pump, offsets)
    return {"partitions": {str(number): offset for number, offset in offsets.items()}}


# --------------------------------------------------------------- dead letters, delays, schedules


async def _dead(deliver: Deliver, args: Args) -> Any:
    deliver.context.streams.get(args["stream"])
    name = f"{args['stream']}{DEAD}"
    box = deliver.companions.letterboxes.get(name)
    if box is None:
        _check_not_lost(deliver, name)
    partitions = [] if box is None else [{"partition": 0, "ranges": box.open}]
    return {"stream": name, "partitions": partitions}


async def _redrive(deliver: Deliver, args: Args) -> Any:
    return await _letterbox(deliver, args).redrive(_bounds(args))


async def _purge(deliver: Deliver, args: Args) -> Any:
    return await _letterbox(deliver, args).purge(_bounds(args))


def _letterbox(deliver: Deliver, args: Args) -> Letterbox:
    deliver.context.streams.get(args["stream"])
    name = f"{args['stream']}{DEAD}"
    box = deliver.companions.letterboxes.get(name)
    if box is None:
        _check_not_lost(deliver, name)
        raise BadRequest(f"stream {args['stream']!r} has no dead letters")
    box.stream.partition(args["partition"])
    return box


def _check_not_lost(deliver: Deliver, name: str) -> None:
    """A companion that could not be opened is not one that has nothing.

    Raises:
        StorageError: it could not be opened.
    """
    with suppress(UnknownStream):
        deliver.context.streams.get(name)


def _bounds(args: Args) -> list[int]:
    bounds = args["ranges"]
    if (
        len(bounds) % 2
        or any(type(bound) is not int or bound < 0 for bound in bounds)
        or any(first >= end for first, end in pairwise(bounds))
    ):
        raise BadRequest("ranges are offsets first, end, first, end, ... that ascend")
    return list(bounds)


async def _delayed(deliver: Deliver, args: Args) -> Any:
    name = f"{args['stream']}{DELAYED}"
    found = deliver.companions.delayed.get(name)
    if found is None:
        _check_not_lost(deliver, name)
        # The stream itself may be made by the first record that comes due.
        deliver.context.streams.get(args["stream"])
        return {"waiting": 0, "next_due_us": None}
    return {"waiting": found.index.waiting, "next_due_us": found.index.next_due_us}


async def _schedules(deliver: Deliver, _: Args) -> Any:
    return [schedule.to_plain() for schedule in deliver.timetable.schedules]


async def _schedule_add(deliver: Deliver, args: Args) -> Any:
    return await deliver.timetable.add(args)


async def _schedule_remove(deliver: Deliver, args: Args) -> Any:
    return await deliver.timetable.remove(args["name"])


_VERBS: dict[str, Callable[[Deliver, Args], Awaitable[Any]]] = {
    "groups": _groups,
    "group": _group,
    "group_create": _group_create,
    "group_edit": _group_edit,
    "group_pause": _pause,
    "group_resume": _resume,
    "group_delete": _delete,
    "group_seek": _seek,
    "lag": _lag,
    "group_holes": _holes,
    "dead": _dead,
    "dead_redrive": _redrive,
    "dead_purge": _purge,
    "delayed": _delayed,
    "schedules": _schedules,
    "schedule_add": _schedule_add,
    "schedule_remove": _schedule_remove,
}
