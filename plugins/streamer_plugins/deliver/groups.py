"""Deliver: consumer groups of all streams, their journal, and what goes with them.

    log ─► Pump (one a group) ─► sessions ─► settles ─► Group, Ledger ─► Journal (`__groups`)
                                                            └─► Moves ─► STREAM.dead, STREAM

Rules: the state of all groups is in memory and changes on the event loop, in synchronous steps;
the journal makes it durable behind, and a synced settle is answered only then. One task each for
the journal, the timers, each group, each stream of delayed records, and the schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from streamer import (
    BadRequest,
    DeliverContext,
    DeliverPlugin,
    NotAllowed,
    PipelineDown,
    Port,
    Stream,
    StreamerError,
    UnknownGroup,
    setting,
)
from streamer.groups.group import Group, Member
from streamer.groups.journal import Entry, Known, KnownGroup, group_entry
from streamer.groups.schedules import Schedules
from streamer.groups.settings import GroupSettings, check_group_name
from streamer.limits import OFFSET_MAX, STREAM_NAME_CHARS_MAX
from streamer.names import DEAD, OWN_PREFIX
from streamer_plugins.deliver.companions import HOLD, NAMES, Companions
from streamer_plugins.deliver.figures import Figures
from streamer_plugins.deliver.journal import STREAM, Journal
from streamer_plugins.deliver.membership import MemberOptions, Membership
from streamer_plugins.deliver.moves import BACKLOG_MAX, Moves
from streamer_plugins.deliver.news import News, progress_entries
from streamer_plugins.deliver.pump import Pump
from streamer_plugins.deliver.timetable import Timetable
from streamer_plugins.deliver.verbs import answer, glance

_TICK_S = 0.1
#: How long a start waits for moves that a crash left under way.
_MOVES_S = 5.0
#: How long a start waits for the journal: on a full disk, say.
_START_S = 5.0
#: Tokens: the start of the daemon above, what it has handed out below.
_TOKEN_BITS = 43
#: Holds what moves under way still read.
_MOVES = "$moves"


@attrs.frozen
class GroupsConfig:
    """Settings of the stage `groups`."""

    groups_max: int = setting(1000, "Groups of all streams together.", min=1, max=100_000)
    members_max: int = setting(10_000, "Members of all groups together.", min=1, max=1_000_000)
    leases_max: int = setting(
        1_000_000, "Leases out at once; at that, groups hand out nothing new.", min=1, max=10**8
    )
    schedules_max: int = setting(1000, "Recurring records.", min=1, max=100_000)
    delayed_index: int = setting(
        100_000,
        "Delayed records of a stream in memory, the next that come due; the rest is on the disk.",
        min=100,
        max=10_000_000,
    )


class Deliver:
    """The stage. Made anew after a crash; its state is what the journal has."""

    def __init__(self, config: GroupsConfig, context: DeliverContext) -> None:
        self.config = config
        self.context = context
        self.pumps: dict[tuple[str, str], Pump] = {}
        self.members: dict[int, Membership] = {}
        #: Groups of streams that could not be opened.
        self._parked: list[KnownGroup] = []
        self._numbers = 0
        self._member_numbers = 0
        self._token = 0
        self._figures: dict[Pump, Figures] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        self._closing = trio.Event()
        self._making = trio.Lock()
        self._nursery: trio.Nursery
        self.journal: Journal
        self.moves: Moves
        self.news: News
        self.companions: Companions
        self.timetable: Timetable

    # -------------------------------------------------------------------------------- lifetime

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        context = self.context
        own = await context.streams.ensure(STREAM)
        self.journal = Journal(
            context,
            own,
            collect=lambda: self.news.collect(),
            committed=self._committed,
            snapshot=self._snapshot,
        )
        own.holders[HOLD] = lambda _: self.journal.floor
        known = await self.journal.load()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.moves = Moves(context, nursery, self.journal.touch)
                self.news = News(context, self.journal, self.moves)
                self.companions = Companions(
                    context,
                    nursery,
                    self.journal,
                    self.moves,
                    new_number=self._new_number,
                    entries_max=self.config.delayed_index,
                )
                nursery.start_soon(self.journal.run)
                nursery.start_soon(self._tick)
                await self._take_over(known)
                nursery.start_soon(self.timetable.run)
                task_status.started()
                await self._closing.wait()
                self.journal.close()
                await self.journal.finished.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._end()

    def close(self) -> None:
        self._closing.set()

    def _end(self) -> None:
        """Tell everybody; a crash ends here too."""
        error = PipelineDown("consumer groups are down")
        self.journal.fail(error)
        self.moves.close()
        for member in list(self.members.values()):
            member.port.ended(error)
        self.members.clear()
        self.context.tracer.deliveries.let_go()
        self.context.streams.opened = None
        for pump in self.pumps.values():
            pump.close()
            # Of a stream in memory the journal has nothing, and its records are still there.
            pump.stream.kept[pump.group.name] = {
                ledger.number: (ledger.cursor, ledger.done.bounds, ledger.unfinished())
                for ledger in pump.group.ledgers
                if pump.stream.partitions[ledger.number].in_memory
            }
            # Until somebody knows better, retention keeps all.
            pump.stream.holders.pop(pump.group.name, None)
            self._figures.pop(pump).forget()
        self.companions.close()

    async def _take_over(self, known: Known) -> None:
        """Begin where the journal ends."""
        context = self.context
        term = known.term + 1
        self._token = term << _TOKEN_BITS
        self._numbers = known.numbers
        self.journal.add(["term", term, self._numbers])
        schedules = Schedules(self.config.schedules_max)
        for schedule in known.schedules.values():
            schedules.put(schedule)
        self.timetable = Timetable(schedules, context, self.journal, self.moves)
        for group in known.groups.values():
            if context.streams.has(group.stream):
                self._load_group(group)
            elif group.stream in context.streams.unavailable:
                # It may be there again at the next start, and then the group goes on.
                self._parked.append(group)
            else:
                context.log.warning(
                    "the stream of a group is gone", stream=group.stream, group=group.name
                )
                self.journal.add(["gone", group.number])
        await self.moves.load(known.targets)
        # Tokens of an earlier start must not come again.
        with trio.move_on_after(_START_S) as scope:
            await self.journal.durable()
        if scope.cancelled_caught:
            # The daemon has more to do than wait for it, and starts this again.
            raise PipelineDown(f"the journal of groups took nothing within {_START_S:g} s")
        with trio.move_on_after(_MOVES_S):
            await self.moves.settled()
        context.streams.opened = self.companions.opened
        for stream in context.streams.all():
            self.companions.opened(stream)

    def _load_group(self, known: KnownGroup) -> None:
        stream = self.context.streams.get(known.stream)
        if known.name in NAMES:
            self.companions.load(stream, known.name, known.number, known.partition(0))
            return
        pump = self._open_group(
            stream, known.name, known.settings, known.number, [0] * len(stream.partitions)
        )
        pump.group.paused = known.paused
        now, now_us = trio.current_time(), self.context.now_us()
        kept = stream.kept.pop(known.name, {})
        for number, partition in enumerate(stream.partitions):
            progress = known.partition(number)
            cursor = progress.cursor
            if partition.in_memory:
                # Its records are gone with the daemon that had them.
                cursor = partition.log.first_offset
            done, failed = progress.done.bounds, progress.unfinished()
            if partition.in_memory:
                cursor, done, failed = kept.get(number, (cursor, [], []))
            ledger = pump.group.new_ledger(number, cursor, now)
            ledger.load(done, failed, now, now_us)
            pump.group.ledgers[number] = ledger
            self.news.timed[ledger] = pump

    # ---------------------------------------------------------------------------------- groups

    def pump(self, stream: str, group: str) -> Pump:
        """Raises:
        UnknownStream: there is no stream that could have it.
        UnknownGroup: there is none.
        """
        found = self.pumps.get((stream, group))
        if found is None:
            self.context.streams.get(stream)
            known = sorted(name for of, name in self.pumps if of == stream)
            others = f"its groups are {known[:20]}" if known else "which has no groups"
            raise UnknownGroup(f"there is no group {group!r} of stream {stream!r}, {others}")
        return found

    async def make_group(self, stream: str, group: str, settings: GroupSettings) -> Pump:
        """The group of that name, made if it is not there; durable when it returns.

        Raises:
            NotAllowed: there are as many as there may be.
            BadRequest: the name cannot be a group's, or settings contradict each other.
            StreamerError: the stream is not there and cannot be made.
        """
        check_group_name(group)
        _check_stream(stream)
        if group.startswith("$"):
            raise BadRequest(f"group name {group!r}: those with '$' are the daemon's own")
        self.context.appender.pipeline_of(stream)
        pump = self.pumps.get((stream, group))
        if pump is not None:
            return pump
        settings.check_together()
        async with self._making:
            found = await self.context.streams.ensure(stream)
            self._check_up()
            pump = self.pumps.get((stream, group))
            if pump is not None:
                return pump
            if len(self.pumps) >= self.config.groups_max:
                raise NotAllowed(f"there are {len(self.pumps)} groups, allowed are no more")
            cursors = [
                each.high_water if settings.start == "latest" else each.log.first_offset
                for each in found.partitions
            ]
            pump = self._open_group(found, group, settings, self._new_number(), cursors)
            self.journal.add(
                self._entry(pump), *(["at", pump.number, n, at] for n, at in enumerate(cursors))
            )
            await self.journal.durable()
            self.context.log.info("group made", stream=stream, group=group, **settings.to_plain())
            return pump

    def _check_up(self) -> None:
        """Raises:
        PipelineDown: the stage goes down, or has failed while somebody waited.
        """
        if self._closing.is_set() or self._nursery.cancel_scope.cancel_called:
            raise PipelineDown("consumer groups are going down")

    def _entry(self, pump: Pump) -> Entry:
        group = pump.group
        return group_entry(pump.number, group.stream, group.name, group.settings, group.paused)

    def changed_settings(self, pump: Pump) -> None:
        """A group was edited, paused or resumed."""
        self.journal.add(self._entry(pump))
        pump.wake()

    def _open_group(
        self,
        stream: Stream,
        name: str,
        settings: GroupSettings,
        number: int,
        cursors: Sequence[int],
    ) -> Pump:
        group = Group(stream.name, name, settings, cursors, trio.current_time(), self.context.rng)
        pump = Pump(
            number,
            group,
            stream,
            self.context,
            next_token=self._next_token,
            changed=self.news.note,
            timed=self.news.timed,
        )
        self.pumps[stream.name, name] = pump
        stream.holders[name] = lambda partition: group.ledgers[partition].cursor
        # What died is read from here when it is moved, whoever the config says holds it.
        stream.holders[_MOVES] = partial(self._moved_from, stream.name)
        self._figures[pump] = Figures(pump, self.context)
        scope = self._scopes[number] = trio.CancelScope()
        self._nursery.start_soon(_run_in_scope, scope, pump.run)
        return pump

    def _moved_from(self, stream: str, partition: int) -> int:
        """The lowest offset that a move under way still reads."""
        return self.moves.lowest(stream, partition, OFFSET_MAX)

    def _new_number(self) -> int:
        """Of a group in the journal; none is given twice."""
        self._numbers += 1
        return self._numbers

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    async def delete_group(self, pump: Pump) -> None:
        """Forget a group; its members are told."""
        group = pump.group
        for member in [each for each in self.members.values() if each.pump is pump]:
            self._dismiss(member, UnknownGroup(f"group {group.name!r} was deleted"))
        del self.pumps[group.stream, group.name]
        pump.stream.holders.pop(group.name, None)
        pump.close()
        self._scopes.pop(pump.number).cancel()
        self._figures.pop(pump).forget()
        for ledger in group.ledgers:
            self.news.forget(ledger)
        self.journal.add(["gone", pump.number])
        await self.journal.durable()

    async def seek(self, pump: Pump, offsets: Mapping[int, int]) -> None:
        """Have partitions of a group begin anew at offsets; what is out of them is lost.

        Raises:
            UnknownGroup: it was deleted while the offsets were looked up.
        """
        group = pump.group
        if self.pump(group.stream, group.name) is not pump:
            raise UnknownGroup(f"group {group.name!r} was deleted")
        for number, offset in offsets.items():
            old = group.ledgers[number]
            self.journal.add(*self.news.of(pump, old))
            self.news.forget(old)
            self.moves.forget(pump.number, number)
            old.recall()
            fresh = group.new_ledger(number, offset, trio.current_time())
            group.replace(fresh)
            self.journal.add(["at", pump.number, number, offset])
        pump.tell()
        pump.wake()
        await self.journal.durable()

    # --------------------------------------------------------------------------------- members

    def join(
        self,
        port: Port,
        stream: str,
        group: str,
        options: Mapping[str, Any],
        answer: Callable[[Any], None],
    ) -> None:
        try:
            self._check_up()
        except PipelineDown as error:
            answer(error)
        else:
            self._nursery.start_soon(self._join, port, stream, group, dict(options), answer)

    async def _join(
        self,
        port: Port,
        stream: str,
        group: str,
        options: dict[str, Any],
        answer: Callable[[Any], None],
    ) -> None:
        try:
            own, asked = MemberOptions.split(options, port.name)
            pump = await self.make_group(stream, group, GroupSettings.of(asked))
            self._check_up()
            # It may have been deleted while it was made.
            pump = self.pump(stream, group)
            pump.group.settings.check_same(asked)
            if len(self.members) >= self.config.members_max:
                raise NotAllowed(f"{len(self.members)} members of groups, allowed are no more")
        except StreamerError as error:
            answer(error)
            return
        except BaseException:
            # Cancelled, or a fault that ends the stage.
            answer(PipelineDown("consumer groups are going down"))
            raise
        self._member_numbers += 1
        member = Member(
            self._member_numbers, own.name, port.peer, own.records_max, own.bytes_max, own.batch
        )
        membership = Membership(self, pump, member, port)
        self.members[member.number] = membership
        pump.ports[member.number] = port
        pump.group.join(member)
        self.context.events.emit(
            "member_joined",
            f"{own.name or port.peer} joined group {group} of {stream}",
            stream=stream,
            group=group,
            member=member.number,
            name=own.name,
            peer=port.peer,
        )
        answer(
            (
                membership,
                {
                    "settings": pump.group.settings.to_plain(),
                    "partitions": len(pump.group.ledgers),
                    "member": member.number,
                },
            )
        )
        pump.wake()

    def _dismiss(self, membership: Membership, error: StreamerError) -> None:
        membership.leave()
        membership.port.ended(error)

    async def ask(self, verb: str, args: dict[str, Any]) -> Any:
        return await answer(self, verb, args)

    def _committed(self) -> None:
        self.moves.durable()
        for pump in self.pumps.values():
            if pump.waits_for_journal:
                pump.wake()

    def _snapshot(self) -> Iterable[Entry]:
        yield ["term", self._token >> _TOKEN_BITS, self._numbers]
        for pump in self.pumps.values():
            yield self._entry(pump)
            for ledger in pump.group.ledgers:
                yield from progress_entries(pump.number, ledger.number, ledger)
        for parked in self._parked:
            yield parked.to_entry()
            for number, progress in parked.partitions.items():
                yield from progress_entries(parked.number, number, progress)
        yield from self.companions.snapshot()
        yield from self.moves.snapshot()
        yield from self.timetable.snapshot()

    # ------------------------------------------------------------------------------------- time

    async def _tick(self) -> None:
        """Let leases run out, and retries come due."""
        while True:
            await trio.sleep(_TICK_S)
            full = await self.news.expire() >= self.config.leases_max
            for pump in self.pumps.values():
                dead = f"{pump.group.stream}{DEAD}"
                held = full or self.moves.backlog(dead) > BACKLOG_MAX
                if pump.held and not held:
                    pump.wake()
                pump.held = held
                if pump.faults:
                    pump.wake()
                self._figures[pump].update()
            self.journal.give_up(trio.current_time())

    # -------------------------------------------------------------------------------- for people

    def health(self) -> list[str]:
        found = self.moves.health()
        for (stream, name), pump in self.pumps.items():
            # Without members nobody tries again, so nobody knows whether it is still so.
            for index, (error, _) in pump.faults.items() if pump.group.members else ():
                found.append(
                    f"group {name!r} of stream {stream!r} cannot go on in partition {index}: "
                    f"{error.message}"
                )
        return found

    def varz(self) -> Any:
        return [glance(pump) for _, pump in sorted(self.pumps.items())]


def _check_stream(name: str) -> None:
    """Judge whether groups may read a stream.

    Raises:
        NotAllowed: the journal of groups, or one whose dead letters would have no name.
    """
    if name.startswith(OWN_PREFIX):
        raise NotAllowed(f"stream {name[:40]!r}: groups do not read the daemon's own streams")
    longest = STREAM_NAME_CHARS_MAX - len(DEAD)
    if len(name) > longest:
        raise NotAllowed(
            f"stream name of {len(name)} characters, with groups allowed are {longest}: its dead "
            "letters need a name too"
        )


async def _run_in_scope(scope: trio.CancelScope, run: Callable[[], Any]) -> None:
    with scope:
        await run()


def make(config: GroupsConfig, context: DeliverContext) -> Deliver:
    return Deliver(config, context)


STAGE = DeliverPlugin(name="groups", config=GroupsConfig, factory=make)
