"""Recurring records: fires the schedules that are due, each time exactly once."""

from __future__ import annotations

from typing import Any

import trio

from streamer import DeliverContext, StreamerError, partition_for
from streamer.groups.journal import Entry
from streamer.groups.schedules import Schedule, Schedules
from streamer_plugins.deliver.journal import Journal
from streamer_plugins.deliver.moves import Moves

#: The wall clock may be set: nothing sleeps longer than that.
_SLEEP_S = 1.0


class Timetable:
    """All schedules of the daemon."""

    def __init__(
        self, schedules: Schedules, context: DeliverContext, journal: Journal, moves: Moves
    ) -> None:
        self.schedules = schedules
        self._context = context
        self._journal = journal
        self._moves = moves
        self._changed = trio.Event()
        self._turn = 0
        self._fired = context.stats.counter("schedules_fired", "records that schedules made")

    async def run(self) -> None:
        """Fire, until cancelled."""
        while True:
            self._changed = trio.Event()
            for schedule, nominal_us in self.schedules.due(self._context.now_us()):
                if not await self._fire(schedule, nominal_us):
                    # It is due still; with a pause, as this may last.
                    self.schedules.put_back(schedule, nominal_us)
                    await trio.sleep(_SLEEP_S)
            due_us = self.schedules.next_due_us
            pause = float("inf")
            if due_us is not None:
                pause = min(_SLEEP_S, max(0.0, (due_us - self._context.now_us()) / 1_000_000))
            with trio.move_on_after(pause):
                await self._changed.wait()

    async def _fire(self, schedule: Schedule, nominal_us: int) -> bool:
        """Decide on one record; False: its stream is not to be had now."""
        try:
            stream = await self._context.streams.ensure(schedule.stream)
        except StreamerError as error:
            self._context.log.warning(
                "schedule not fired", schedule=schedule.name, error=error.message
            )
            return False
        if schedule not in self.schedules:
            # Removed, or changed, while its stream was made.
            return True
        count = len(stream.partitions)
        self._turn += 1
        key = schedule.key
        number = self._turn % count if key is None else partition_for(key, count)
        headers = {
            **schedule.headers,
            "streamer-schedule": schedule.name.encode(),
            "streamer-scheduled-us": str(nominal_us).encode(),
        }
        record: dict[str, Any] = {
            "value": schedule.value,
            "key": key,
            "headers": headers,
            "timestamp_us": self._context.now_us(),
        }
        # One entry of the journal says both: it has fired, and what it fired.
        facts = {"record": record, "schedule": schedule.to_plain()}
        self._moves.add((stream.name, number), "fire", 0, ("", 0, 0, 1), facts)
        self._fired.value += 1
        return True

    # ------------------------------------------------------------------------------------- verbs

    async def add(self, args: dict[str, Any]) -> dict[str, Any]:
        """Raises:
        BadRequest: see `Schedules.add`.
        """
        self._context.appender.pipeline_of(args["stream"])
        schedule = self.schedules.add(now_us=self._context.now_us(), **args)
        self._journal.add(["schedule", schedule.to_plain()])
        self._changed.set()
        await self._journal.durable()
        return {"next_us": schedule.next_us}

    async def remove(self, name: str) -> dict[str, Any]:
        """Raises:
        UnknownSchedule: there is none of that name.
        """
        self.schedules.remove(name)
        self._journal.add(["unscheduled", name])
        await self._journal.durable()
        return {}

    def snapshot(self) -> list[Entry]:
        return [["schedule", schedule.to_plain()] for schedule in self.schedules]
