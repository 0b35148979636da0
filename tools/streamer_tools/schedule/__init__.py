"""`streamer schedule`: records that the daemon sends again and again, by a cron line."""

from __future__ import annotations

from streamer_tools.lazy import lazy_group

COMMANDS: dict[str, tuple[str, str]] = {
    "add": ("schedule.add", "Send a record to a stream whenever a cron line says so."),
    "list": ("schedule.list", "All schedules, and when they fire next."),
    "remove": ("schedule.remove", "End a schedule."),
}

command = lazy_group("schedule", "Records that are sent again and again, by a cron line.", COMMANDS)
