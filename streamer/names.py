"""Names of streams that mean something: the daemon's own, and the companions of a stream."""

from __future__ import annotations

#: What the names of the daemon's own streams begin with: they can be read, and no more.
OWN_PREFIX = "__"
#: A stream's companions end so: its dead letters, and what waits for its time.
DEAD, DELAYED = ".dead", ".delayed"
COMPANIONS = (DEAD, DELAYED)
