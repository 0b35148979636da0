"""`streamer dlq`: the dead letters of a stream, a file a verb.

`filters` holds the options that say which letters are meant, `reading` finds them, `settling` is
what `redrive` and `purge` have in common.
"""

from __future__ import annotations

from streamer_tools.lazy import lazy_group

COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("dlq.list", "The dead letters of a stream: where from, why, when."),
    "show": ("dlq.show", "One dead letter: its value, and why it died."),
    "redrive": ("dlq.redrive", "Send dead letters to their stream again."),
    "purge": ("dlq.purge", "Drop dead letters for good."),
}

command = lazy_group(
    "dlq", "Look at the records that died, give them out again, or drop them.", COMMANDS
)
