"""`streamer describe`: everything about one thing, a file for each kind of thing.

`sheet` lays out what they find, and `settings` says where each setting came from.
"""

from __future__ import annotations

from streamer_tools.lazy import lazy_group

COMMANDS: dict[str, tuple[str, str]] = {
    "stream": ("describe.stream", "Figures, partitions, groups, and how it is kept."),
    "group": ("describe.group", "Members, lag, what was left out, and its settings."),
    "pipeline": ("describe.pipeline", "Stages with their channels and times, and their settings."),
    "session": ("describe.session", "What a client has under way, and the limits it is held to."),
    "daemon": ("describe.daemon", "Health, figures, limits, and every setting."),
}

command = lazy_group(
    "describe", "Everything about one thing, and where its settings came from.", COMMANDS
)
