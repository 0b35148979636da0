"""What the service manager is told: READY, RELOADING, STOPPING, a status line and WATCHDOG.

The protocol of sd_notify(3): one datagram of KEY=VALUE lines to the socket in `NOTIFY_SOCKET`. Not
set means that nobody asked, and everything here does nothing. A message that cannot be sent is
reported by the return value, never by an exception: the manager's own deadlines decide.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Self

import trio

#: The manager reads these names; a child of ours must not speak in our name.
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells the service manager; also a context manager that closes its socket."""

    def __init__(
        self,
        path: str | None,
        watchdog_s: float | None = None,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`path` as in `NOTIFY_SOCKET` ("@" first for an abstract socket), None to do nothing.

        `monotonic_ns` must be the system's CLOCK_MONOTONIC: the manager compares it with its own.
        """
        #: A watchdog message is due within that time; None when there is no watchdog.
        self.watchdog_s = watchdog_s if path else None
        self._monotonic_ns = monotonic_ns
        self._socket: socket.socket | None = None
        self._address: str | bytes = ""
        if path and path[0] in "/@":
            self._address = b"\0" + path[1:].encode() if path[0] == "@" else path
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> Notifier:
        """Take the variables of the manager out of `environ` (they are not for our children)."""
        found = {name: environ.pop(name, "") for name in _VARIABLES}
        return cls(found["NOTIFY_SOCKET"] or None, _watchdog_s(found, pid))

    def __bool__(self) -> bool:
        """Whether there is somebody to tell."""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """Started, or done with reloading."""
        return self._send("READY=1", status)

    def reloading(self, status: str = "") -> bool:
        """A reload begins; `ready` ends it."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic_ns() // 1000}", status)

    def stopping(self, status: str = "") -> bool:
        return self._send("STOPPING=1", status)

    def extend(self, seconds: float) -> bool:
        """Ask for more time to start, reload or stop (a long recovery)."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}", "")

    def watchdog(self) -> bool:
        """A sign of life."""
        return self._send("WATCHDOG=1", "")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", text)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, state: str, status: str) -> bool:
        if self._socket is None:
            return False
        lines = [state] if state else []
        if status:
            lines.append("STATUS=" + " ".join(status.split()))
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            # Nobody listens, or its queue is full.
            return False
        return True


async def keep_watchdog(notifier: Notifier, alive: Callable[[], bool]) -> None:
    """Send a sign of life twice in each watchdog interval for as long as `alive()`; never returns.

    Without a watchdog it returns at once. Once `alive()` is false it is asked again, and the
    manager kills and restarts us if that goes on for the whole interval.
    """
    if notifier.watchdog_s is None:
        return
    while True:
        if alive():
            notifier.watchdog()
        await trio.sleep(notifier.watchdog_s / 2)


def _watchdog_s(found: Mapping[str, str], pid: int) -> float | None:
    """The interval, if there is one and it is meant for this process."""
    if found["WATCHDOG_PID"] not in ("", str(pid)) or not found["WATCHDOG_USEC"].isdecimal():
        return None
    return int(found["WATCHDOG_USEC"]) / 1_000_000 or None
