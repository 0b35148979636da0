"""`streamer group`: the verbs for one consumer group, a file each; `settings` has its options."""

from __future__ import annotations

from streamer_tools.lazy import lazy_group

COMMANDS: dict[str, tuple[str, str]] = {
    "show": ("group.show", "Settings, members and what they hold, partitions."),
    "create": ("group.create", "Make a group before anybody joins it."),
    "edit": ("group.edit", "Change a group's times, attempts and pauses."),
    "pause": ("group.pause", "Hand out nothing more for now."),
    "resume": ("group.resume", "Go on after a pause."),
    "seek": ("group.seek", "Move a group to another position."),
    "delete": ("group.delete", "Forget a group and where it is."),
}

command = lazy_group(
    "group", "Show, make, change, pause, move or delete a consumer group.", COMMANDS
)
